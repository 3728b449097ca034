"""The catalogue's shapes as transformers builds them, with random weights: `shape:TOWER`, `shape:LLM`, `shape:TOWER+LLM`."""

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model, LlamaConfig, LlamaForCausalLM

CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}
DINOV2_S = {
    "hidden_size": 384,
    "mlp_ratio": 4,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
}
SMOLLM2_135M = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
}
TOWERS = {"clip-vit-l-14-336": (CLIPVisionModel, CLIPVisionConfig, CLIP_L)}
TOWERS["dinov2-vit-s-14"] = (Dinov2Model, Dinov2Config, DINOV2_S)
LLMS = {"smollm2-135m": SMOLLM2_135M}


def named(spec):
    """`shape:A+B` -> its parts."""
    kind, _, names = spec.partition(":")
    if kind != "shape":
        raise ValueError(f"{spec}: transformers runs shape:TOWER, shape:LLM and shape:TOWER+LLM here")
    return names.split("+")


def tower_name(spec):
    return next(name for name in named(spec) if name in TOWERS)


def llm_name(spec):
    return next(name for name in named(spec) if name in LLMS)


def tower(name):
    """Without the last block: LLaVA reads state -2, the output of the last but one."""
    build, config, keys = TOWERS[name]
    layers = keys["num_hidden_layers"] - 1
    torch.manual_seed(0)
    return build._from_config(config(**keys | {"num_hidden_layers": layers}), attn_implementation="sdpa").eval()


def llm(name):
    torch.manual_seed(0)
    return LlamaForCausalLM._from_config(LlamaConfig(**LLMS[name]), attn_implementation="sdpa").eval()


class ClipState(torch.nn.Module):
    """Pixels to the patches of state -2: no norm behind the blocks, no pooled output."""

    def __init__(self, clip):
        super().__init__()
        self.embeddings = clip.vision_model.embeddings
        self.norm = clip.vision_model.pre_layrnorm
        self.encoder = clip.vision_model.encoder

    def forward(self, pixels):
        return self.encoder(inputs_embeds=self.norm(self.embeddings(pixels))).last_hidden_state[:, 1:]
