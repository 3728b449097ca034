"""llama.cpp as a worker: prefill and decode of a GGUF file through the C interface that llama-cpp-python ships.

The Python layer above it (sampling, detokenising, copying logits) is not used: a sample is `llama_decode` and the choice of
the most probable token. Keys of its own in a case: "flash_attention" (true or false), "micro_batch" (tokens in one pass).
"""

import argparse

import llama_cpp as api
import numpy as np

from serve import clocked, serve, silence

CONTEXT = 1024
models = {}
contexts = {}


def model(path):
    if path not in models:
        parameters = api.llama_model_default_params()
        parameters.n_gpu_layers = 0
        with silence():
            models[path] = api.llama_model_load_from_file(path.encode(), parameters)
        if not models[path]:
            raise RuntimeError(f"{path} cannot be loaded")
    return models[path]


def context(case):
    key = case["model"], case["threads"], case["flash_attention"], case["micro_batch"]
    if key not in contexts:
        parameters = api.llama_context_default_params()
        parameters.n_ctx = CONTEXT
        parameters.n_batch = CONTEXT
        parameters.n_ubatch = case["micro_batch"]
        parameters.n_threads = parameters.n_threads_batch = case["threads"]
        parameters.flash_attn_type = int(case["flash_attention"])
        with silence():
            contexts[key] = api.llama_init_from_model(model(case["model"]), parameters)
    return contexts[key]


class Reader:
    """One sequence in one context."""

    def __init__(self, case):
        self.context = context(case)
        vocabulary = api.llama_model_get_vocab(model(case["model"]))
        self.words = api.llama_vocab_n_tokens(vocabulary)

    def forget(self):
        api.llama_memory_clear(api.llama_get_memory(self.context), False)

    def read(self, tokens):
        """Reads the tokens after what was read before and returns the most probable next one."""
        array = (api.llama_token * len(tokens))(*tokens)
        if api.llama_decode(self.context, api.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError(f"llama_decode failed on {len(tokens)} tokens")
        logits = api.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.words,)).argmax())

    def random(self, count):
        return np.random.default_rng(0).integers(1000, self.words, count).tolist()


def prefill(case):
    reader = Reader(case)
    tokens = reader.random(case["visual_tokens"] + case["text_tokens"])
    timed = clocked(lambda: reader.read(tokens))

    def sample():
        reader.forget()
        return timed()

    return sample


def decode(case):
    reader = Reader(case)
    tokens = reader.random(case["context"])
    state = []

    def steps():
        for _ in range(case["new_tokens"]):
            state.append(reader.read(state[-1:]))

    timed = clocked(steps)

    def sample():
        reader.forget()
        state[:] = [reader.read(tokens)]
        return timed() / case["new_tokens"]

    return sample


def prepare(case):
    case = {"flash_attention": False, "micro_batch": 512} | case
    return {"prefill": prefill, "decode": decode}[case["stage"]](case)


def describe():
    told = api.llama_print_system_info().decode().strip()
    return {"versions": {"llama-cpp-python": api.__version__}, "notes": f"llama.cpp says of itself: {told}"}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, required=True)
    arguments.parse_args()
    serve(prepare, describe)
