//! Three layouts of checkpoint names, and those of the compressors built on them, mapped to one.
//!
//! Ours is the published Hugging Face one: `language_model.{model, lm_head}`, `vision_tower.vision_model`,
//! `multi_modal_projector.linear_{1,2}`, `image_newline`, and `compressor` for a compressor's own tensors.

use crate::weights::Weights;

/// Shows the tensors of any layout under the published Hugging Face names.
pub fn published_names(weights: Weights) -> Weights {
    weights.rename(published_name)
}

/// Prefixes of transformers 5 and of the original LLaVA, and what they stand for. The first that fits counts.
const PREFIXES: [(&str, &str); 7] = [
    // transformers 5 (and the names in memory since 4.52)
    ("model.language_model.", "language_model.model."),
    ("model.multi_modal_projector.", "multi_modal_projector."),
    // the original LLaVA, where a trained tower is stored along
    ("model.vision_tower.vision_tower.", "vision_tower."),
    ("model.query_abstractor.", "compressor."),
    ("model.vision_tower.vision_model.", "vision_tower.vision_model."),
    ("model.image_newline", "image_newline"),
    ("lm_head.", "language_model.lm_head."),
];

/// What the original LLaVA and its descendants keep below `model.mm_projector`: the projector's two layers, at 0 and 2 or,
/// behind QueCC, at 1 and 3; QueCC itself at 0; TokenPacker, which has no layers of these names.
fn below_projector(rest: &str) -> String {
    let layer = |name: &str| matches!(name, "weight" | "bias");
    match rest.split_once('.') {
        Some(("0" | "1", name)) if layer(name) => format!("multi_modal_projector.linear_1.{name}"),
        Some(("2" | "3", name)) if layer(name) => format!("multi_modal_projector.linear_2.{name}"),
        Some(("0", name)) => format!("compressor.{name}"),
        _ => format!("compressor.{rest}"),
    }
}

/// Names that a DINOv2 has and that neither CLIP nor SigLIP have: a DINOv2 has no `vision_model`.
const DINOV2: [&str; 6] = [
    "encoder.layer.",
    "layernorm.",
    "embeddings.cls_token",
    "embeddings.mask_token",
    "embeddings.patch_embeddings.",
    "embeddings.position_embeddings",
];

/// The tensor `rest` of a tower that is stored without `vision_model`.
fn in_tower(rest: &str) -> String {
    let dinov2 = DINOV2.iter().any(|name| rest.starts_with(name));
    format!("vision_tower.{}{rest}", if dinov2 { "" } else { "vision_model." })
}

fn published_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("model.mm_projector.") {
        return Some(below_projector(rest));
    }
    for (prefix, published) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(format!("{published}{rest}"));
        }
    }
    // transformers 5 leaves `vision_model` out; as it saves, the prefix is the published one.
    if let Some(rest) = name.strip_prefix("model.vision_tower.") {
        return Some(in_tower(rest));
    }
    if let Some(rest) = name.strip_prefix("vision_tower.").filter(|rest| !rest.starts_with("vision_model.")) {
        return Some(in_tower(rest)).filter(|published| published != name);
    }
    // What is left below `model.` is the original LLaVA's language model.
    ["model.layers.", "model.embed_tokens.", "model.norm."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        .then(|| format!("language_model.{name}"))
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
            ("model.mm_projector.0.q_proj.0.weight", "compressor.q_proj.0.weight"),
            ("model.mm_projector.0.q_downsample.weight", "compressor.q_downsample.weight"),
            ("model.mm_projector.1.bias", "multi_modal_projector.linear_1.bias"),
            ("model.mm_projector.3.weight", "multi_modal_projector.linear_2.weight"),
            ("model.mm_projector.k_proj_1.0.weight", "compressor.k_proj_1.0.weight"),
            ("model.query_abstractor.attn.out_proj.bias", "compressor.attn.out_proj.bias"),
            (
                "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
                "vision_tower.vision_model.pre_layrnorm.bias",
            ),
            (
                "model.vision_tower.vision_model.pre_layrnorm.bias",
                "vision_tower.vision_model.pre_layrnorm.bias",
            ),
            ("vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
            ("model.vision_tower.pre_layrnorm.bias", "vision_tower.vision_model.pre_layrnorm.bias"),
            ("model.vision_tower.embeddings.cls_token", "vision_tower.embeddings.cls_token"),
            (
                "vision_tower.encoder.layers.0.layer_norm1.bias",
                "vision_tower.vision_model.encoder.layers.0.layer_norm1.bias",
            ),
            (
                "vision_tower.embeddings.position_embedding.weight",
                "vision_tower.vision_model.embeddings.position_embedding.weight",
            ),
        ] {
            assert_eq!(published_name(stored).as_deref(), Some(published));
        }
        assert_eq!(published_name("language_model.model.norm.weight"), None, "kept");
        assert_eq!(published_name("vision_tower.vision_model.pre_layrnorm.bias"), None, "kept");
        for name in ["embeddings.position_embeddings", "encoder.layer.0.norm1.weight", "layernorm.bias"] {
            assert_eq!(published_name(&format!("vision_tower.{name}")), None, "DINOv2's are kept");
        }
    }
}
