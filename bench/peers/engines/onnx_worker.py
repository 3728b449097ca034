"""ONNX Runtime as a worker: the whole graph of an ONNX vision tower in f32, one image.

The input's free dimensions are one image of the "image_size" that the case names. All graph optimisations are on.
"""

import argparse

import numpy as np
import onnxruntime

from serve import clocked, serve

sessions = {}


def session(path, threads):
    if path not in sessions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        sessions[path] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return sessions[path]


def prepare(case):
    if case["stage"] != "tower" or case["dtype"] != "f32":
        raise ValueError(f"only the stage tower in f32, not {case['stage']} in {case['dtype']}")
    running = session(case["model"], case["threads"])
    (image,) = running.get_inputs()
    free = [1, 3, case["image_size"], case["image_size"]]
    shape = [size if isinstance(size, int) else given for size, given in zip(image.shape, free)]
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return clocked(lambda: running.run(None, {image.name: pixels}))


def describe():
    notes = "all graph optimisations, one pool of threads; its default spinning"
    return {"versions": {"onnxruntime": onnxruntime.__version__}, "notes": notes}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, required=True)
    arguments.parse_args()
    serve(prepare, describe)
