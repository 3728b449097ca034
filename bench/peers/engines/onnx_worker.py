"""ONNX Runtime as a worker: an ONNX vision tower in f32, one image, up to one block's output and no further.

Keys of its own in a case: "image_size" (the square that the graph is given, whatever it declares) and "output" (the value
to stop at; what only later ones need is cut off). All graph optimisations are on.
"""

import argparse

import numpy as np
import onnx
import onnxruntime

from serve import clocked, serve

sessions = {}


def cut(path, size, output):
    """The graph that takes a square of `size` and ends at `output`."""
    whole = onnx.load(path)
    graph = whole.graph
    (image,) = (value for value in graph.input if value.name not in {weight.name for weight in graph.initializer})
    shape = [1, 3, size, size]
    entry = onnx.helper.make_tensor_value_info(image.name, onnx.TensorProto.FLOAT, shape)
    leave = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    needed, nodes = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    small = onnx.helper.make_graph(nodes[::-1], graph.name, [entry], [leave], weights)
    model = onnx.helper.make_model(small, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    return model.SerializeToString(), image.name, shape


def session(case):
    key = case["model"], case["image_size"], case["output"], case["threads"]
    if key not in sessions:
        model, name, shape = cut(*key[:3])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case["threads"]
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        providers = ["CPUExecutionProvider"]
        sessions[key] = onnxruntime.InferenceSession(model, options, providers=providers), name, shape
    return sessions[key]


def prepare(case):
    if case["stage"] != "tower" or case["dtype"] != "f32":
        raise ValueError(f"only the stage tower in f32, not {case['stage']} in {case['dtype']}")
    running, name, shape = session(case)
    pixels = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    return clocked(lambda: running.run(None, {name: pixels}))


def describe():
    notes = "all graph optimisations, one pool of threads; its default spinning"
    return {"versions": {"onnxruntime": onnxruntime.__version__}, "notes": notes}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, required=True)
    arguments.parse_args()
    serve(prepare, describe)
