"""GGUF files as llama.cpp lays them out: a Llama, and the image encoder ("mmproj") of a LLaVA-1.5.

Facts taken from llama.cpp's converters: q/k rows are permuted for the interleaved rotary layout, matrices are f16 and
vectors f32, the encoder keeps only the blocks that the feature layer needs, and calls the first linear of an MLP
`ffn_down` and the second `ffn_up`.
"""

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from . import tokenizer

LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

ENCODER = {
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
}

TOKEN_NORMAL, TOKEN_CONTROL, TOKEN_UNUSED = 1, 3, 5


def interleave(weight, heads):
    """Rows of one head go from (first halves, second halves) to pairs side by side."""
    width = weight.shape[0] // heads
    halves = weight.reshape(heads, 2, width // 2, -1)
    return np.ascontiguousarray(halves.transpose(0, 2, 1, 3).reshape(weight.shape))


def llama_tensors(tensors, text):
    """Names and float32 values of a Llama in llama.cpp's layout, from the published names (`model.…`, `lm_head.…`)."""
    renamed = {
        "token_embd.weight": tensors["model.embed_tokens.weight"],
        "output_norm.weight": tensors["model.norm.weight"],
        "output.weight": tensors["lm_head.weight"],
    }
    renamed = {name: tensor.float().numpy() for name, tensor in renamed.items()}
    for index in range(text["num_hidden_layers"]):
        for old, new in LAYER.items():
            value = tensors[f"model.layers.{index}.{old}.weight"].float().numpy()
            if new == "attn_q":
                value = interleave(value, text["num_attention_heads"])
            if new == "attn_k":
                value = interleave(value, text["num_key_value_heads"])
            renamed[f"blk.{index}.{new}.weight"] = value
    return renamed


def plain_tensors(tensors):
    """Names of a Qwen2 or Phi-3 in llama.cpp's layout: rotary rows stay as they are, fused projections stay fused."""
    parts = LAYER | {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
    whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    renamed = {}
    for name, tensor in tensors.items():
        stem, kind = name.rsplit(".", 1)
        if stem.startswith("model.layers."):
            index, part = stem[len("model.layers.") :].split(".", 1)
            stem = f"blk.{index}.{parts[part]}"
        else:
            stem = whole[stem]
        renamed[f"{stem}.{kind}"] = tensor.float().numpy()
    return renamed


def add_tokenizer(writer, coder, image_token):
    tokens, merges = tokenizer.merges_and_tokens(coder)
    kinds = [TOKEN_CONTROL] * len(tokenizer.SPECIAL) + [TOKEN_NORMAL] * (len(tokens) - len(tokenizer.SPECIAL))
    if not image_token:
        tokens[tokenizer.IMAGE], kinds[tokenizer.IMAGE] = "<unused>", TOKEN_UNUSED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.BOS)
    writer.add_eos_token_id(tokenizer.EOS)
    writer.add_pad_token_id(tokenizer.PAD)
    writer.add_add_bos_token(True)


def llama_writer(path, name, text, coder, image_token=True, template=None, architecture="llama"):
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_rope_dimension_count(text["hidden_size"] // text["num_attention_heads"])
    writer.add_rope_freq_base(text["rope_theta"])
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_vocab_size(text["vocab_size"])
    if text.get("sliding_window") and text.get("use_sliding_window", True):
        writer.add_sliding_window(text["sliding_window"])
    add_tokenizer(writer, coder, image_token)
    if template:
        writer.add_chat_template(template)
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_half(writer, name, value):
    """Matrices and convolutions in f16, vectors in f32: what the converters write by default."""
    writer.add_tensor(name, value.astype(np.float16 if value.ndim > 1 else np.float32))


def write_llama(path, name, tensors, text, coder, **options):
    writer = llama_writer(path, name, text, coder, **options)
    writer.add_file_type(1)
    for tensor, value in llama_tensors(tensors, text).items():
        add_half(writer, tensor, value)
    finish(writer)


def add_quantised(writer, name, value, kind, quantise):
    """Add a matrix in a block format; `quantise` makes the bytes of its rows."""
    if kind == GGMLQuantizationType.F32:
        writer.add_tensor(name, value.astype(np.float32))
    else:
        writer.add_tensor(name, quantise(value, kind), raw_dtype=kind)


def encoder_tensors(tensors, vision, blocks, legacy):
    """The image encoder and projector, from the original layout (`vision_model.…`, `model.mm_projector.…`)."""
    first, second = ("ffn_down", "ffn_up") if legacy else ("ffn_up", "ffn_down")
    names = {
        "v.class_embd": "vision_model.embeddings.class_embedding",
        "v.patch_embd.weight": "vision_model.embeddings.patch_embedding.weight",
        "v.position_embd.weight": "vision_model.embeddings.position_embedding.weight",
    }
    for kind in ("weight", "bias"):
        names[f"v.pre_ln.{kind}"] = f"vision_model.pre_layrnorm.{kind}"
        for index in (0, 2):
            names[f"mm.{index}.{kind}"] = f"model.mm_projector.{index}.{kind}"
        for index in range(blocks):
            for old, new in (ENCODER | {"mlp.fc1": first, "mlp.fc2": second}).items():
                names[f"v.blk.{index}.{new}.{kind}"] = f"vision_model.encoder.layers.{index}.{old}.{kind}"
    return {new: tensors[old].float().numpy() for new, old in names.items()}


def write_encoder(path, tensors, vision, mean, std, blocks, legacy):
    """`legacy`: as every published LLaVA-1.5 file (swapped MLP names, no feature layer); else names as they should be."""
    writer = GGUFWriter(path, "clip")
    writer.add_bool("clip.has_text_encoder", False)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_file_type(1)
    writer.add_name("llava-tiny")
    writer.add_description("image encoder for LLaVA")
    writer.add_string("clip.projector_type", "mlp")
    writer.add_uint32("clip.vision.image_size", vision["image_size"])
    writer.add_uint32("clip.vision.patch_size", vision["patch_size"])
    writer.add_uint32("clip.vision.embedding_length", vision["hidden_size"])
    writer.add_uint32("clip.vision.feed_forward_length", vision["intermediate_size"])
    writer.add_uint32("clip.vision.projection_dim", vision["projection_dim"])
    writer.add_uint32("clip.vision.attention.head_count", vision["num_attention_heads"])
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", vision["layer_norm_eps"])
    writer.add_uint32("clip.vision.block_count", blocks)
    if not legacy:
        writer.add_array("clip.vision.feature_layer", [blocks])
    writer.add_array("clip.vision.image_mean", mean)
    writer.add_array("clip.vision.image_std", std)
    writer.add_bool("clip.use_gelu", False)
    for name, value in encoder_tensors(tensors, vision, blocks, legacy).items():
        add_half(writer, name, value)
    finish(writer)
