"""Vision towers: CLIP (alone, and inside a published two-tower checkpoint), SigLIP, DINOv2.

Hidden state 0 is the input of the first block, state i the output of block i counted from 1. Blocks in tensor names
count from 0, as in the checkpoints: with 4 blocks the last is `layers.3`, block -2 is `layers.2`.
"""

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
)

from .common import (
    MODELS,
    capture,
    checkpoint,
    metadata,
    random_tensor,
    randomise,
    save_checkpoint,
    save_json,
    save_tensors,
)

LAYERS = 4

CLIP_VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 32,
    "image_size": 42,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "layer_norm_eps": 1e-3,
    "model_type": "clip_vision_model",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": LAYERS,
    "patch_size": 7,
    "projection_dim": 24,
}

SIGLIP_VISION = {
    "attention_dropout": 0.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 32,
    "image_size": 42,
    "intermediate_size": 80,
    "layer_norm_eps": 1e-3,
    "model_type": "siglip_vision_model",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": LAYERS,
    "patch_size": 7,
}

TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "max_position_embeddings": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "vocab_size": 20,
}

DINOV2 = {
    "apply_layernorm": True,
    "architectures": ["Dinov2Model"],
    "attention_probs_dropout_prob": 0.0,
    "drop_path_rate": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 32,
    "image_size": 42,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-3,
    "layerscale_value": 1.0,
    "mlp_ratio": 3,
    "model_type": "dinov2",
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": LAYERS,
    "patch_size": 7,
    "qkv_bias": True,
    "reshape_hidden_states": True,
    "torch_dtype": "float32",
    "use_swiglu_ffn": False,
}


# Inside a block: the module that returns (output, probabilities), the key layer, the query layer.
SELF_ATTENTION = ("self_attn", "self_attn.k_proj", "self_attn.q_proj")
DINOV2_ATTENTION = ("attention.attention", "attention.attention.key", "attention.attention.query")


@torch.no_grad()
def outputs(model, blocks, attention, pixels, prefix="out."):
    """All hidden states; attention, keys and queries of the last two blocks; the tower's own final outputs.

    Everything is read off the blocks by hooks: what transformers calls `hidden_states[-1]` passes the final norm in
    some towers and not in others.
    """
    store = {}
    handles = [capture(blocks[0], store, "hidden_states.0", take_input=True)]
    for index, block in enumerate(blocks):
        handles.append(capture(block, store, f"hidden_states.{index + 1}"))
    for index in (len(blocks) - 2, len(blocks) - 1):
        names = (f"attentions.layers.{index}", f"keys.layers.{index}", f"queries.layers.{index}")
        for label, name in zip(names, attention):
            handles.append(capture(blocks[index].get_submodule(name), store, label, pick=1 if "attentions" in label else 0))
    result = model(pixel_values=pixels, output_attentions=True)  # CLIP computes them only then
    for handle in handles:
        handle.remove()
    store["last_hidden_state"] = result.last_hidden_state
    store["pooler_output"] = result.pooler_output
    return {prefix + name: tensor for name, tensor in store.items()}


def _finish(folder, config, stored, tensors, seed, **meta):
    save_json(folder / "config.json", config)
    save_checkpoint(folder, stored)
    save_tensors(folder / "expected.safetensors", tensors, metadata(seed, **meta))


def clip_tower(config, seed):
    built = CLIPVisionConfig(**{k: v for k, v in config.items() if k != "model_type"})
    built._attn_implementation = "eager"
    return randomise(CLIPVisionModel(built), seed)


def clip():
    """A CLIP vision tower alone (CLIPVisionModel)."""
    seed = 2000
    model = clip_tower(CLIP_VISION, seed)
    pixels = random_tensor((2, 3, 42, 42), seed + 1)
    tensors = outputs(model, model.vision_model.encoder.layers, SELF_ATTENTION, pixels)
    config = {"architectures": ["CLIPVisionModel"], "torch_dtype": "float32"} | CLIP_VISION
    _finish(MODELS / "clip", config, checkpoint(model), tensors | {"in.pixel_values": pixels}, seed)


def clip_full():
    """The layout of the published two-tower files: nested configs with defaults left out, text tower, position ids."""
    seed = 2100
    vision = {"hidden_size": 32, "image_size": 28, "intermediate_size": 64, "model_type": "clip_vision_model"}
    vision |= {"num_attention_heads": 2, "num_hidden_layers": 3, "patch_size": 14, "projection_dim": 24}
    text = TEXT | {"model_type": "clip_text_model", "projection_dim": 24, "eos_token_id": 2}
    config = {
        "architectures": ["CLIPModel"],
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": 24,
        "text_config": text,
        "torch_dtype": "float32",
        "vision_config": vision,
    }
    model = randomise(
        CLIPModel._from_config(
            CLIPConfig(text_config=text, vision_config=vision, projection_dim=24), attn_implementation="eager"
        ),
        seed,
    )
    pixels = random_tensor((1, 3, 28, 28), seed + 1)
    tower = model.vision_model
    tensors = outputs(tower, tower.encoder.layers, SELF_ATTENTION, pixels)
    stored = checkpoint(model)
    stored["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    stored["text_model.embeddings.position_ids"] = torch.arange(TEXT["max_position_embeddings"])[None]
    _finish(MODELS / "clip-full", config, stored, tensors | {"in.pixel_values": pixels}, seed)


def siglip():
    """SigLIP as published: both towers in one file; patch convolution with bias, no class token, pooling head."""
    seed = 2200
    text = TEXT | {"model_type": "siglip_text_model", "projection_size": 32}
    config = {
        "architectures": ["SiglipModel"],
        "initializer_factor": 1.0,
        "model_type": "siglip",
        "text_config": text,
        "torch_dtype": "float32",
        "vision_config": SIGLIP_VISION,
    }
    model = randomise(
        SiglipModel._from_config(SiglipConfig(text_config=text, vision_config=SIGLIP_VISION), attn_implementation="eager"),
        seed,
    )
    pixels = random_tensor((2, 3, 42, 42), seed + 1)
    tower = model.vision_model
    tensors = outputs(tower, tower.encoder.layers, SELF_ATTENTION, pixels)
    _finish(MODELS / "siglip", config, checkpoint(model), tensors | {"in.pixel_values": pixels}, seed)


def dinov2():
    """DINOv2 at the size of its position table (6 x 6 patches) and interpolated: 8 x 8, 5 x 9 and 4 x 4."""
    seed = 2300
    built = Dinov2Config(**{k: v for k, v in DINOV2.items() if k not in ("architectures", "model_type", "torch_dtype")})
    model = randomise(Dinov2Model._from_config(built, attn_implementation="eager"), seed)
    tensors = {}
    for label, (height, width) in {"": (42, 42), "8x8.": (56, 56), "5x9.": (35, 63), "4x4.": (28, 28)}.items():
        count = 2 if label == "" else 1
        pixels = random_tensor((count, 3, height, width), seed + height + width)
        tensors[f"in.{label}pixel_values"] = pixels
        found = outputs(model, model.encoder.layer, DINOV2_ATTENTION, pixels, prefix=f"out.{label}")
        if label:
            # At other sizes only what interpolation changes: the first and last states.
            kept = ("hidden_states.0", f"hidden_states.{LAYERS}", "last_hidden_state")
            found = {f"out.{label}{name}": found[f"out.{label}{name}"] for name in kept}
        tensors |= found
    _finish(MODELS / "dinov2", DINOV2, checkpoint(model), tensors, seed)


MAKERS = {"clip": clip, "clip-full": clip_full, "siglip": siglip, "dinov2": dinov2}
