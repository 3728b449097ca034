"""Language models: Llama (SmolLM2-like tied, untied, Llama-3 RoPE), Mistral, Qwen2, Phi-3.

Each `config.json` carries the keys of the published checkpoints of its family. Norm epsilons are large on purpose:
a port that reads the wrong one misses the tolerance.
"""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from . import tokenizer
from .common import (
    MODELS,
    capture,
    checkpoint,
    fair,
    greedy,
    metadata,
    randomise,
    save_checkpoint,
    save_json,
    save_sharded,
    save_tensors,
)

PROMPT = "What colour is the small square?"
LENGTH = 24
PADDED = 7  # padding tokens at the left of the second row


def _base(**keys):
    return {
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.BOS,
        "eos_token_id": tokenizer.EOS,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rope_theta": 10000.0,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": tokenizer.VOCABULARY,
    } | keys


def _llama(**keys):
    return _base(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        attention_bias=False,
        mlp_bias=False,
        max_position_embeddings=512,
        pretraining_tp=1,
        rms_norm_eps=1e-3,
        rope_scaling=None,
        **keys,
    )


def configs():
    """Name -> (config.json, stored dtype, shards, first seed to try)."""
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16
    return {
        # SmolLM2's shape in small: tied embeddings, three query heads to one key head, untouched RoPE base.
        "llama-tied": (
            _llama(
                hidden_size=48,
                intermediate_size=80,
                num_hidden_layers=3,
                num_attention_heads=6,
                num_key_value_heads=2,
                tie_word_embeddings=True,
            ),
            bf16,
            1,
            1000,
        ),
        "llama-untied": (
            _llama(
                hidden_size=32,
                intermediate_size=72,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=4,
                tie_word_embeddings=False,
            ),
            f32,
            3,
            1100,
        ),
        # Wave lengths of the 8 rotary pairs fall into all three bands of the Llama-3 rule.
        "llama3-rope": (
            _llama(
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                tie_word_embeddings=False,
            )
            | {
                "rope_theta": 500000.0,
                "rope_scaling": {
                    "factor": 8.0,
                    "high_freq_factor": 4.0,
                    "low_freq_factor": 1.0,
                    "original_max_position_embeddings": 256,
                    "rope_type": "llama3",
                },
                "max_position_embeddings": 2048,
                "eos_token_id": [tokenizer.EOS, tokenizer.IM_END],
            },
            f32,
            1,
            1200,
        ),
        # The window (8) is shorter than every input; the head size is not width / heads.
        "mistral": (
            _base(
                architectures=["MistralForCausalLM"],
                model_type="mistral",
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=12,
                max_position_embeddings=512,
                rms_norm_eps=1e-3,
                sliding_window=8,
                tie_word_embeddings=False,
            ),
            f16,
            1,
            1300,
        ),
        # Published Qwen2 files carry a sliding_window that use_sliding_window switches off.
        "qwen2": (
            _base(
                architectures=["Qwen2ForCausalLM"],
                model_type="qwen2",
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=512,
                max_window_layers=2,
                rms_norm_eps=1e-3,
                rope_theta=1000000.0,
                sliding_window=8,
                tie_word_embeddings=True,
                use_sliding_window=False,
            ),
            f32,
            1,
            1400,
        ),
        "phi3": (
            _base(
                architectures=["Phi3ForCausalLM"],
                model_type="phi3",
                embd_pdrop=0.0,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=512,
                original_max_position_embeddings=512,
                pad_token_id=tokenizer.PAD,
                resid_pdrop=0.0,
                rms_norm_eps=1e-3,
                rope_scaling=None,
                sliding_window=10,
                tie_word_embeddings=False,
            ),
            f32,
            1,
            1500,
        ),
    }


def construct(config, seed, dtype=torch.float32):
    keys = {key: value for key, value in config.items() if key not in ("architectures", "torch_dtype")}
    built = AutoConfig.for_model(**keys)
    return randomise(AutoModelForCausalLM.from_config(built, attn_implementation="eager"), seed, dtype)


def batch(seed):
    """Two rows of random ids; the second is padded at the left."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, tokenizer.VOCABULARY, (2, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, :PADDED], mask[1, :PADDED] = tokenizer.PAD, 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return ids, mask, positions


@torch.no_grad()
def outputs(model, ids, mask, positions):
    """Hidden states, their last one before the final norm, and logits; rows at padding positions are zeroed."""
    store = {}
    handle = capture(model.model.norm, store, "before", take_input=True)
    result = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, output_hidden_states=True, use_cache=False
    )
    handle.remove()
    keep = mask[..., None].float()
    tensors = {f"out.hidden_states.{i}": state * keep for i, state in enumerate(result.hidden_states)}
    tensors["out.hidden_before_norm"] = store["before"] * keep
    tensors["out.logits"] = result.logits * keep
    tensors["out.last_token_hidden"] = result.hidden_states[-1][:, -1].clone()
    return tensors


def _single_row_agrees(model, tensors, ids):
    """The padded row run alone without padding gives the same numbers: the mask really is left padding."""
    alone = model(input_ids=ids[1:, PADDED:], use_cache=False).logits
    error = (alone - tensors["out.logits"][1:, PADDED:]).abs().max()
    assert error < 2e-5, f"padded row differs by {error}"


@torch.no_grad()
def make(name):
    config, dtype, shards, first_seed = configs()[name]
    folder = MODELS / name
    coder = tokenizer.save(folder, template_file=name == "llama-untied")
    prompt = coder.encode(PROMPT).ids
    for seed in range(first_seed, first_seed + 100):
        model = construct(config, seed, dtype)
        continuation, lead = greedy(lambda ids: model(input_ids=ids, use_cache=False).logits, prompt)
        if fair(continuation, lead):
            break
    else:
        raise RuntimeError(f"{name}: no seed gives a continuation without near ties")
    ids, mask, positions = batch(seed)
    tensors = outputs(model, ids, mask, positions)
    _single_row_agrees(model, tensors, ids)
    tensors |= {
        "in.input_ids": ids,
        "in.attention_mask": mask,
        "in.position_ids": positions,
        "in.prompt_ids": torch.tensor(prompt),
        "out.greedy_ids": torch.tensor(continuation),
    }
    tied = ("lm_head.weight",) if config["tie_word_embeddings"] else ()
    stored = checkpoint(model, dtype, tied)
    names = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
    save_json(folder / "config.json", config | {"torch_dtype": names[dtype]})
    if shards > 1:
        save_sharded(folder, stored, shards)
    else:
        save_checkpoint(folder, stored)
    save_tensors(
        folder / "expected.safetensors",
        tensors,
        metadata(
            seed,
            prompt=PROMPT,
            greedy_text=coder.decode(continuation, skip_special_tokens=False),
            greedy_lead=f"{lead:.4f}",
        ),
    )
    _reload_agrees(folder, tensors, ids, mask, positions)


def _reload_agrees(folder, tensors, ids, mask, positions):
    """transformers itself must read the folder back without a missing or unexpected tensor."""
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    again = outputs(model.eval(), ids, mask, positions)
    error = (again["out.logits"] - tensors["out.logits"]).abs().max()
    assert error < 1e-6, f"{folder.name}: reloaded logits differ by {error}"
