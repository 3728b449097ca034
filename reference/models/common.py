"""What every builder shares: seeded weights, deterministic safetensors files, metadata.

Weights are drawn from one generator in the order of the sorted tensor names, so a fixture depends on its seed
and its names only. Everything runs in float32 on one CPU thread with eager attention.
"""

import json
import math
import os
import struct
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODELS = FIXTURES / "models"

# Greedy decoding is only a fair test when no step is nearly a tie: the best logit must lead by this much.
MIN_MARGIN = 2e-2

_DTYPES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


def metadata(seed, tolerance="1e-4", **more):
    """The metadata of an `expected.safetensors`: versions, tolerance (max-abs), seed, then what the fixture adds."""
    base = {
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "tolerance": tolerance,
        "seed": str(seed),
    }
    return base | {key: value if isinstance(value, str) else json.dumps(value) for key, value in more.items()}


def save_tensors(path, tensors, meta=None):
    """Write a safetensors file whose bytes depend on its content alone (names sorted, metadata sorted)."""
    header, blobs, offset = {}, [], 0
    if meta:
        header["__metadata__"] = dict(sorted(meta.items()))
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        raw = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(raw)],
        }
        blobs.append(raw)
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for raw in blobs:
            file.write(raw)


def save_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_sharded(folder, tensors, shards):
    """Split a checkpoint over `shards` files with the index that the Hugging Face loaders read."""
    names = sorted(tensors)
    per = math.ceil(len(names) / shards)
    weight_map, total = {}, 0
    for number in range(shards):
        part = {name: tensors[name] for name in names[number * per : (number + 1) * per]}
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_tensors(folder / file, part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
        total += sum(tensor.numel() * tensor.element_size() for tensor in part.values())
    save_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def save_checkpoint(folder, tensors):
    save_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


def save_pickled(folder, tensors, shards=1):
    """The same with torch.save: `pytorch_model.bin`, or shards of it with their index."""
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    names = sorted(tensors)
    per = math.ceil(len(names) / shards)
    weight_map, total = {}, 0
    for number in range(shards):
        part = {name: tensors[name] for name in names[number * per : (number + 1) * per]}
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
        total += sum(tensor.numel() * tensor.element_size() for tensor in part.values())
    save_json(folder / "pytorch_model.bin.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def load_pickled(folder):
    """What `save_pickled` saved."""
    return {
        name: tensor
        for file in sorted(folder.glob("pytorch_model*.bin"))
        for name, tensor in torch.load(file, weights_only=True).items()
    }


def _draw(name, shape, generator):
    noise = torch.randn(shape, generator=generator)
    leaf = name.rsplit(".", 1)[-1]
    if leaf in ("bias", "in_proj_bias"):
        return 0.2 * noise
    if "lambda1" in leaf:
        return 0.6 + 0.2 * noise
    if leaf == "logit_scale" or leaf == "logit_bias":
        return noise
    if "norm" in name and len(shape) == 1:
        return 1.0 + 0.2 * noise
    if any(part in name for part in ("embed_tokens", "token_embedding")):
        return 0.4 * noise  # small beside the blocks' outputs: with tied weights a token would predict itself
    if any(part in name for part in ("position_embed", "class_embedding", "cls_token", "mask_token", "newline", "probe")):
        return 0.7 * noise
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
    # Keys and queries a little larger, so that attention is far from uniform; outputs, so that text matters.
    sharp = any(part in name for part in ("q_proj", "k_proj", "qkv", "query", "key", "o_proj", "down_proj"))
    gain = 1.6 if sharp else 1.1
    return gain * noise / math.sqrt(fan_in)


def randomise(model, seed, dtype=torch.float32):
    """Fill every parameter; `dtype` is the stored type, to which the values are rounded (the model stays float32)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(_draw(name, parameter.shape, generator).to(dtype).float())
    return model.eval().float()


def checkpoint(model, dtype=torch.float32, tied=()):
    """The tensors to store: parameters only, tied copies left out, as the published files do."""
    return {
        name: tensor.detach().clone().to(dtype)
        for name, tensor in model.state_dict().items()
        if name not in tied and tensor.is_floating_point()
    }


def random_tensor(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def capture(module, store, key, take_input=False, pick=0):
    """Record a module's output (element `pick` of a tuple), or its first input, under `key`; returns the hook handle."""

    def hook(_module, arguments, output):
        value = arguments[0] if take_input else output
        store[key] = (value[pick] if isinstance(value, tuple) else value).detach().clone()

    return module.register_forward_hook(hook)


@torch.no_grad()
def greedy(logits_of, start, steps=32):
    """Greedy continuation without a cache; returns the ids and the smallest lead of the best logit."""
    ids, lead = list(start), float("inf")
    for _ in range(steps):
        row = logits_of(torch.tensor([ids]))[0, -1]
        best = torch.topk(row, 2).values
        lead = min(lead, float(best[0] - best[1]))
        ids.append(int(row.argmax()))
    return ids[len(start) :], lead


def fair(ids, lead):
    """A continuation worth comparing: no near tie, not one token over and over, no special token (ids below 6)."""
    return lead >= MIN_MARGIN and len(set(ids)) >= 8 and min(ids) >= 6
