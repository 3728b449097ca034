"""Make the GGUF fixtures: fixtures/gguf (blocks of every type, a small K-quant Llama, Qwen2 and Phi-3) and
fixtures/models/llava-gguf.

    python reference/make_gguf.py PATH/libggml-base.so

Run make_models.py first: the LLaVA pair holds the weights of `llava-original`. The library is llama.cpp's own
quantiser, as any build of llama.cpp or of llama-cpp-python contains it; the expected values are gguf-py's.
"""

import ctypes
import json
import shutil
import sys

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFWriter
from gguf.quants import dequantize
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig

from models import common, gguf_files, llava, llm, tokenizer
from models.multimodal import CLIP_MEAN, CLIP_STD

FOLDER = common.FIXTURES / "gguf"
BLOCK_KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K]
BLOCK_KINDS += [Kind.Q6_K, Kind.F16, Kind.BF16]
WIDTH, ROWS = 256, 8

# A Llama wide enough for K-quants, with the mixture of types of a published Q4_K_M file.
TEXT = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": tokenizer.BOS,
    "eos_token_id": tokenizer.EOS,
    "hidden_act": "silu",
    "hidden_size": 256,
    "intermediate_size": 256,
    "max_position_embeddings": 512,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 1,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-3,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": tokenizer.VOCABULARY,
}

MIXTURE = {
    "token_embd": Kind.Q4_K,
    "output": Kind.Q6_K,
    "attn_q": Kind.Q4_K,
    "attn_k": Kind.Q5_K,
    "attn_v": Kind.Q6_K,
    "attn_output": Kind.Q5_0,
    "ffn_gate": Kind.Q3_K,
    "ffn_up": Kind.Q4_K,
    "ffn_down": Kind.Q8_0,
}


class Quantiser:
    """llama.cpp's `ggml_quantize_chunk`, row by row, without an importance matrix."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.library.ggml_row_size.restype = ctypes.c_size_t
        self.library.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        self.library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]

    def __call__(self, values, kind):
        values = np.ascontiguousarray(values, dtype=np.float32)
        rows, width = values.shape
        out = np.zeros((rows, self.library.ggml_row_size(int(kind), width)), dtype=np.uint8)
        written = self.library.ggml_quantize_chunk(int(kind), values.ctypes.data, out.ctypes.data, 0, rows, width, None)
        assert written == out.nbytes, f"{kind.name}: {written} bytes written, {out.nbytes} expected"
        return out


def rows(seed):
    """Rows of every sort: plain noise, small, large, all zero, shifted, one sign, sparse, a ramp."""
    noise = np.random.default_rng(seed).standard_normal((ROWS, WIDTH)).astype(np.float32)
    noise[1] *= 1e-3
    noise[2] *= 50
    noise[3] = 0
    noise[4] += 3
    noise[5] = -np.abs(noise[5])
    noise[6] *= np.random.default_rng(seed + 1).random(WIDTH) < 0.1
    noise[7] = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    return noise


def blocks(quantise):
    writer = GGUFWriter(FOLDER / "blocks.gguf", "llama")
    writer.add_name("blocks of every type")
    source = rows(6000)
    expected = {"in.source": torch.from_numpy(source)}
    for kind in BLOCK_KINDS:
        name, raw = kind.name.lower(), quantise(source, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
        values = dequantize(raw, kind)
        error = np.abs(values - source).max()
        assert error < 40, f"{name}: {error} away from its source"
        expected[f"out.{name}"] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    gguf_files.finish(writer)
    meta = common.metadata(6000, tolerance="0, or 1 unit in the last place", oracle="gguf-py dequantize", source="ggml_quantize_chunk")
    common.save_tensors(FOLDER / "blocks.expected.safetensors", expected, meta)


def published_names(path):
    """Dequantise a Llama GGUF with gguf-py and give its tensors their Hugging Face names back."""
    values = {}
    for tensor in GGUFReader(path).tensors:
        values[tensor.name] = np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
    back = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    renamed = {f"{new}.weight": values[f"{old}.weight"] for old, new in back.items()}
    for old, new in gguf_files.LAYER.items():
        value = values[f"blk.0.{new}.weight"]
        heads = {"attn_q": TEXT["num_attention_heads"], "attn_k": TEXT["num_key_value_heads"]}.get(new)
        if heads:
            pairs = value.reshape(heads, -1, 2, value.shape[1])
            value = pairs.transpose(0, 2, 1, 3).reshape(value.shape)
        renamed[f"model.layers.0.{old}.weight"] = value
    return {name: torch.from_numpy(np.array(value)) for name, value in renamed.items()}


def quantised_llama(quantise):
    """A one-block Llama of mixed types; transformers runs the dequantised weights in float32."""
    path = FOLDER / "llama-q4km.gguf"
    coder = tokenizer.build()
    prompt = coder.encode(llm.PROMPT).ids
    keys = {k: v for k, v in TEXT.items() if k not in ("architectures", "model_type", "torch_dtype")}
    for seed in range(6100, 6200):
        drawn = AutoModelForCausalLM.from_config(LlamaConfig(**keys), attn_implementation="eager")
        tensors = gguf_files.llama_tensors(common.checkpoint(common.randomise(drawn, seed)), TEXT)
        writer = gguf_files.llama_writer(path, "llama-q4km", TEXT, coder, template=tokenizer.CHATML)
        writer.add_file_type(15)
        for name, value in tensors.items():
            kind = MIXTURE.get(name.split(".")[-2], Kind.F32)
            gguf_files.add_quantised(writer, name, value, kind, quantise)
        gguf_files.finish(writer)
        model = AutoModelForCausalLM.from_config(LlamaConfig(**keys), attn_implementation="eager").eval()
        missing, unexpected = model.load_state_dict(published_names(path), strict=False)
        assert not missing and not unexpected, (missing, unexpected)
        ids, lead = common.greedy(lambda tokens: model(input_ids=tokens, use_cache=False).logits, prompt)
        if common.fair(ids, lead):
            break
    else:
        raise RuntimeError("llama-q4km: no seed gives a continuation without near ties")
    found = model(input_ids=torch.tensor([prompt]), output_hidden_states=True, use_cache=False)
    expected = {
        "in.prompt_ids": torch.tensor(prompt),
        "out.hidden_states.0": found.hidden_states[0],
        "out.last_hidden_state": found.hidden_states[-1],
        "out.logits": found.logits,
        "out.greedy_ids": torch.tensor(ids),
    }
    text = coder.decode(ids, skip_special_tokens=False)
    meta = common.metadata(seed, prompt=llm.PROMPT, greedy_text=text, greedy_lead=f"{lead:.4f}")
    common.save_tensors(FOLDER / "llama-q4km.expected.safetensors", expected, meta)


def relatives():
    """The Qwen2 and Phi-3 of make_models.py in F32; their expected values are those of their folders. As published Phi-3
    files, neither says which token ends a turn."""
    for name in ("qwen2", "phi3"):
        folder = common.MODELS / name
        text = json.loads((folder / "config.json").read_text())
        writer = gguf_files.llama_writer(FOLDER / f"{name}.gguf", name, text, tokenizer.build(), architecture=name)
        writer.add_file_type(0)
        for tensor, value in gguf_files.plain_tensors(load_file(folder / "model.safetensors")).items():
            writer.add_tensor(tensor, value)
        gguf_files.finish(writer)


def llava_pair():
    """The weights of llava-original as llama.cpp's pair; its expected values are those of llava-original."""
    source, folder = common.MODELS / "llava-original", common.MODELS / "llava-gguf"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    language, tower = common.load_pickled(source), common.load_pickled(source / "vision_tower")
    coder = tokenizer.build(image_token=False)
    gguf_files.write_llama(folder / "model.gguf", "llava-tiny", language, llava.TEXT, coder, image_token=False)
    # Feature layer -2 of 3 blocks is the output of the second: two blocks are kept.
    blocks_kept = llava.VISION["num_hidden_layers"] - 1
    for name, legacy in (("mmproj.gguf", True), ("mmproj-feature-layer.gguf", False)):
        gguf_files.write_encoder(
            folder / name, language | tower, llava.VISION, CLIP_MEAN, CLIP_STD, blocks_kept, legacy
        )


@torch.no_grad()
def main(library):
    quantise = Quantiser(library)
    # Not emptied: make_blocks.py writes here, too.
    FOLDER.mkdir(parents=True, exist_ok=True)
    blocks(quantise)
    quantised_llama(quantise)
    relatives()
    llava_pair()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make_gguf.py PATH/libggml-base.so")
    main(sys.argv[1])
