//! Three layouts of checkpoint names mapped to one.
//!
//! Ours is the published Hugging Face one: `language_model.{model, lm_head}`, `vision_tower.vision_model`,
//! `multi_modal_projector.linear_{1,2}`, `image_newline`.

use crate::weights::Weights;

/// Shows the tensors of any layout under the published Hugging Face names.
pub fn published_names(weights: Weights) -> Weights {
    weights.rename(published_name)
}

/// Prefixes of transformers 5 and of the original LLaVA, and what they stand for. The first that fits counts.
const PREFIXES: [(&str, &str); 9] = [
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
];

fn published_name(name: &str) -> Option<String> {
    for (prefix, published) in PREFIXES {
        if let Some(rest) = name.strip_prefix(prefix) {
            return Some(format!("{published}{rest}"));
        }
    }
    // transformers 5 again, as it saves: published prefixes, but the tower without `vision_model`.
    if let Some(rest) = name.strip_prefix("vision_tower.").filter(|rest| !rest.starts_with("vision_model.")) {
        return Some(format!("vision_tower.vision_model.{rest}"));
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
        ] {
            assert_eq!(published_name(stored).as_deref(), Some(published));
        }
        assert_eq!(published_name("language_model.model.norm.weight"), None, "kept");
        assert_eq!(published_name("vision_tower.vision_model.pre_layrnorm.bias"), None, "kept");
    }
}
