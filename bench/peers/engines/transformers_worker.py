"""transformers as a worker: a CLIP tower, a Llama, and both behind each other, with random weights of a named shape.

PyTorch's best chance: inference mode, scaled-dot-product attention, no block that the result does not need, logits of the last
position alone, keys and values in the cache that transformers itself takes. "int8" is torch's dynamic quantisation of every
linear layer. A key of its own in a case: "compiled" (torch.compile with frozen, packed weights).
"""

import argparse
import platform

import torch
import transformers
from torch.nn import functional as F
from transformers import DynamicCache, StaticCache

import shapes
from serve import clocked, serve

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}
built = {}


def once(key, make):
    if key not in built:
        built[key] = make()
    return built[key]


def in_dtype(module, dtype):
    module = module.to(DTYPES[dtype])
    if dtype == "int8":
        from torch.ao.quantization import quantize_dynamic

        module = quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
    return module


def compiled(module, case):
    return torch.compile(module, dynamic=False) if case.get("compiled") else module


def tower(case):
    name = shapes.tower_name(case["model"])
    module = once(("tower", name, case["dtype"]), lambda: in_dtype(shapes.ClipState(shapes.tower(name)), case["dtype"]))
    return once(("tower", name, case["dtype"], case.get("compiled")), lambda: compiled(module, case))


def llm(case):
    name = shapes.llm_name(case["model"])
    return once(("llm", name, case["dtype"]), lambda: in_dtype(shapes.llm(name), case["dtype"]))


def pixels(case):
    size = shapes.TOWERS[shapes.tower_name(case["model"])][2]["image_size"]
    return torch.randn(1, 3, size, size, dtype=DTYPES[case["dtype"]])


def encode(case):
    module, image = tower(case), pixels(case)
    return clocked(lambda: module(image))


def prefiller(case):
    """Visual rows in, the most probable next token out; the text is embedded on the way, the cache is new each time."""
    kind = "prefill", shapes.llm_name(case["model"]), case["dtype"], case["visual_tokens"], case.get("compiled")
    model = llm(case)
    text = torch.randint(1000, 40000, (1, case["text_tokens"]))

    def read(rows):
        embedded = torch.cat([rows, model.get_input_embeddings()(text)], 1)
        out = model(inputs_embeds=embedded, past_key_values=DynamicCache(), use_cache=True, logits_to_keep=1)
        return out.logits[0, -1].argmax()

    return once(kind, lambda: compiled(read, case))


def width(case):
    return shapes.LLMS[shapes.llm_name(case["model"])]["hidden_size"]


def prefill(case):
    read = prefiller(case)
    rows = torch.randn(1, case["visual_tokens"], width(case), dtype=DTYPES[case["dtype"]])
    return clocked(lambda: read(rows))


def decode(case):
    """With torch.compile the cache has a fixed size, as transformers asks for there."""
    model = llm(case)
    prompt = torch.randint(1000, 40000, (1, case["context"]))

    def step(token, cache, position):
        out = model(input_ids=token, past_key_values=cache, cache_position=position, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True)

    advance = compiled(step, case)
    total = case["context"] + case["new_tokens"]

    def sample():
        cache = StaticCache(config=model.config, max_cache_len=total) if case.get("compiled") else DynamicCache()
        token = step(prompt, cache, torch.arange(case["context"]))

        def steps():
            nonlocal token
            for position in range(case["context"], total):
                token = advance(token, cache, torch.tensor([position]))

        return clocked(steps)() / case["new_tokens"]

    return sample


def projector(case):
    """LLaVA-1.5's: two linear layers with a GELU between them."""
    d = shapes.TOWERS[shapes.tower_name(case["model"])][2]["hidden_size"]
    layers = torch.nn.Linear(d, width(case)), torch.nn.GELU(), torch.nn.Linear(width(case), width(case))
    return once(("projector", case["model"], case["dtype"]), lambda: in_dtype(torch.nn.Sequential(*layers), case["dtype"]))


def first_token(case):
    """Tower, average pooling to V tokens, projector, prefill."""
    encoder, image, read, project = tower(case), pixels(case), prefiller(case), projector(case)
    side = round(case["visual_tokens"] ** 0.5)

    def look():
        state = encoder(image)
        grid = round(state.shape[1] ** 0.5)
        if side < grid:
            picture = state.transpose(1, 2).unflatten(2, (grid, grid))
            state = F.avg_pool2d(picture, grid // side).flatten(2).transpose(1, 2)
        return read(project(state))

    return clocked(look)


def bandwidth(case):
    """Milliseconds to read a GiB once."""
    memory = once("memory", lambda: torch.ones(2**28))
    return clocked(lambda: memory.sum())


def prepare(case):
    stages = {"tower": encode, "prefill": prefill, "decode": decode, "first_token": first_token, "bandwidth": bandwidth}
    sample = stages[case["stage"]](case)

    def without_gradients():
        with torch.inference_mode():
            return sample()

    with torch.inference_mode():
        return without_gradients


def describe():
    return {
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "notes": f"PyTorch's CPU path {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, "
        f"AVX-512-BF16 {'yes' if torch.cpu._is_avx512_bf16_supported() else 'no'}, sdpa, inference mode",
    }


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(arguments.parse_args().threads)
    torch._dynamo.config.recompile_limit = 64
    torch._inductor.config.freezing = True
    torch._inductor.config.compile_threads = 1
    serve(prepare, describe)
