//! A checkpoint on disk: its `config.json`, and the check that nothing in it was left unread.

use std::path::Path;

use crate::weights::Weights;
use crate::{ModelError, Result};

/// The longest `config.json` that is read, in bytes; the longest published ones have some ten thousand.
const MOST_CONFIG_BYTES: u64 = 4 << 20;

/// Reads `config.json` of a folder.
pub(crate) fn read_config(folder: &Path) -> Result<String> {
    let path = folder.join("config.json");
    let failed = |source| ModelError::Io { path: path.clone(), source };
    let bytes = std::fs::metadata(&path).map_err(failed)?.len();
    if bytes > MOST_CONFIG_BYTES {
        let reason = format!("it has {bytes} bytes, allowed are {MOST_CONFIG_BYTES}");
        return Err(ModelError::Json { file: "config.json", reason });
    }
    std::fs::read_to_string(&path).map_err(failed)
}

/// Refuses tensors that no part of the model asked for, unless `harmless` says that they may be there: a checkpoint of
/// another architecture, or of a newer variant, would otherwise run and be wrong.
pub(crate) fn refuse_unused(weights: &Weights, harmless: impl Fn(&str) -> bool) -> Result<()> {
    let extra = weights.unused().into_iter().filter(|name| !harmless(name));
    let shape = |name: &str| weights.shape(name).map(candle_core::Shape::into_dims).unwrap_or_default();
    let tensors: Vec<_> = extra.map(|name| (name.clone(), shape(&name))).collect();
    if tensors.is_empty() { Ok(()) } else { Err(ModelError::Unused { tensors }) }
}

/// Tensors that published checkpoints carry and that a language model does not read: tables that follow from the
/// configuration or are read as a part of it (`rope_freqs`), and a copy of the tied head.
pub(crate) fn harmless_in_decoder(name: &str, tied: bool) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight" || (tied && name == "lm_head.weight")
}

/// The same for a vision tower: everything that only the pooled output passes, the text half of a two-tower file, the
/// token that masks patches in training.
pub(crate) fn harmless_in_tower(name: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "vision_model.post_layernorm.",
        "vision_model.head.",
        "text_model.",
        "visual_projection.",
        "text_projection.",
        "logit_",
        "embeddings.mask_token",
        "layernorm.",
    ];
    name.ends_with("embeddings.position_ids") || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
