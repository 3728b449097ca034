//! Three layouts of checkpoint names, and that of llama.cpp's projector file, mapped to one.
//!
//! Ours is the published Hugging Face one: `language_model.{model, lm_head}`, `vision_tower.vision_model`,
//! `multi_modal_projector.linear_{1,2}`, `image_newline`.

use crate::weights::Weights;

/// Shows the tensors of any layout under the published Hugging Face names.
pub fn published_names(weights: Weights) -> Weights {
    let legacy = legacy_mlp_names(&weights);
    weights.rename(move |name| published_name(name).or_else(|| from_llama_cpp(name, legacy)))
}

/// Prefixes of transformers 5 and of the original LLaVA, and what they stand for. The first that fits counts.
const PREFIXES: [(&str, &str); 11] = [
    // transformers 5 (and the names in memory since 4.52)
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    // the original LLaVA, where a trained tower is stored along
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    // transformers 5 leaves `vision_model` out
    ("model.vision_tower.", "vision_tower.vision_model."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
    ("mm.0.", "multi_modal_projector.linear_1."),
    ("mm.2.", "multi_modal_projector.linear_2."),
];

fn published_name(name: &str) -> Option<String> {
    for (prefix, published) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(format!("{published}{rest}"));
        }
    }
    // What is left below `model.` is the original LLaVA's language model.
    ["model.layers.", "model.embed_tokens.", "model.norm."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then(|| format!("language_model.{name}"))
}

/// The parts of a block in llama.cpp's projector files.
const BLOCK_PARTS: [(&str, &str); 8] = [
    ("attn_q.", "self_attn.q_proj."),
    ("attn_k.", "self_attn.k_proj."),
    ("attn_v.", "self_attn.v_proj."),
    ("attn_out.", "self_attn.out_proj."),
    ("ln1.", "layer_norm1."),
    ("ln2.", "layer_norm2."),
    ("ffn_up.", "mlp.fc1."),
    ("ffn_down.", "mlp.fc2."),
];

fn from_llama_cpp(name: &str, legacy_mlp: bool) -> Option<String> {
    const TOWER: &str = "vision_tower.vision_model.";
    let rest = name.strip_prefix("v.")?;
    let embeddings = [
        ("class_embd", "embeddings.class_embedding"),
        ("patch_embd.weight", "embeddings.patch_embedding.weight"),
        ("position_embd.weight", "embeddings.position_embedding.weight"),
    ];
    if let Some((_, published)) = embeddings.iter().find(|(stored, _)| *stored == rest) {
        return Some(format!("{TOWER}{published}"));
    }
    for (stored, published) in [("pre_ln.", "pre_layrnorm."), ("post_ln.", "post_layernorm.")] {
        if let Some(leaf) = rest.strip_prefix(stored) {
            return Some(format!("{TOWER}{published}{leaf}"));
        }
    }
    let (block, part) = rest.strip_prefix("blk.")?.split_once('.')?;
    let (stored, published) = BLOCK_PARTS.iter().find(|(stored, _)| part.starts_with(stored))?;
    let published = match *published {
        "mlp.fc1." if legacy_mlp => "mlp.fc2.",
        "mlp.fc2." if legacy_mlp => "mlp.fc1.",
        published => published,
    };
    Some(format!("{TOWER}encoder.layers.{block}.{published}{}", &part[stored.len()..]))
}

/// Older llama.cpp converters call the widening layer `ffn_down`. The shapes tell: it reads the width of the norm.
fn legacy_mlp_names(weights: &Weights) -> bool {
    let last = |name: &str| weights.shape(name).and_then(|shape| shape.dims().last().copied());
    match (last("v.blk.0.ffn_down.weight"), last("v.blk.0.ln1.weight")) {
        (Some(input), Some(width)) => input == width,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_layout_leads_to_the_published_names() {
        for (stored, published) in [
            (
                "model.language_model.layers.0.mlp.up_proj.weight",
                "language_model.model.layers.0.mlp.up_proj.weight",
            ),
            ("model.layers.0.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
            ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight"),
            ("lm_head.weight", "language_model.lm_head.weight"),
            ("model.mm_projector.0.bias", "multi_modal_projector.linear_1.bias"),
            ("model.mm_projector.2.weight", "multi_modal_projector.linear_2.weight"),
            ("model.multi_modal_projector.linear_2.weight", "multi_modal_projector.linear_2.weight"),
            ("model.image_newline", "image_newline"),
            (
                "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
                "vision_tower.vision_model.pre_layrnorm.bias",
            ),
            (
                "model.vision_tower.vision_model.pre_layrnorm.bias",
                "vision_tower.vision_model.pre_layrnorm.bias",
            ),
            ("model.vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
            ("mm.0.weight", "multi_modal_projector.linear_1.weight"),
        ] {
            assert_eq!(published_name(stored).as_deref(), Some(published));
        }
        assert_eq!(published_name("language_model.model.norm.weight"), None, "kept");
        assert_eq!(published_name("vision_tower.vision_model.pre_layrnorm.bias"), None, "kept");
    }

    #[test]
    fn both_generations_of_llama_cpp_names() {
        let block = |part: &str| format!("vision_tower.vision_model.encoder.layers.3.{part}");
        assert_eq!(from_llama_cpp("v.blk.3.ffn_up.bias", false), Some(block("mlp.fc1.bias")));
        assert_eq!(from_llama_cpp("v.blk.3.ffn_up.bias", true), Some(block("mlp.fc2.bias")));
        assert_eq!(from_llama_cpp("v.blk.3.attn_out.weight", true), Some(block("self_attn.out_proj.weight")));
        assert_eq!(from_llama_cpp("v.unknown.weight", false), None);
        let embedding = from_llama_cpp("v.class_embd", false);
        assert_eq!(embedding.as_deref(), Some("vision_tower.vision_model.embeddings.class_embedding"));
    }
}
