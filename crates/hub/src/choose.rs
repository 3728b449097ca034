//! Which files of a repository or folder make up the model.

use crate::error::HubError;

/// Small files that say what the model is; they come first, so that weights that are here mean a whole model.
const DESCRIPTIONS: [&str; 9] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "spiece.model",
];
/// Beginnings of names of such files.
const FAMILIES: [&str; 2] = ["tokenizer", "chat_template"];

/// The files to have, descriptions before weights.
///
/// `requested` files are taken as they are named. Otherwise: the descriptions at the root and all safetensors there
/// (`model*` only, where there are such: repositories keep the same weights in the maker's own layout beside them),
/// else the pickled weights, else the one GGUF file.
pub(crate) fn choose(names: &[String], requested: &[String], what: &str) -> Result<Vec<String>, HubError> {
    if !requested.is_empty() {
        return match requested.iter().find(|name| !names.contains(name)) {
            None => Ok(requested.to_vec()),
            Some(missing) => Err(HubError::Choice {
                what: what.into(),
                reason: format!("no file {missing:?}; {}", some(names)),
            }),
        };
    }
    let root: Vec<&String> = names.iter().filter(|name| !name.contains('/')).collect();
    let ending = |endings: &[&str]| -> Vec<&String> {
        root.iter().copied().filter(|name| endings.iter().any(|end| name.ends_with(end))).collect()
    };
    let mut weights = ending(&[".safetensors", ".safetensors.index.json"]);
    if weights.iter().any(|name| name.starts_with("model")) {
        weights.retain(|name| name.starts_with("model"));
    }
    if weights.is_empty() {
        weights = ending(&[".bin", ".bin.index.json"]);
        weights.retain(|name| name.starts_with("pytorch_model") || name.starts_with("mm_projector"));
    }
    if weights.is_empty() {
        weights = ending(&[".gguf"]);
        if weights.len() != 1 {
            let gguf: Vec<String> = names.iter().filter(|name| name.ends_with(".gguf")).cloned().collect();
            let reason = if gguf.is_empty() {
                format!("no safetensors, GGUF or other weights at its root; {}", some(names))
            } else {
                format!("{}; choose with --file", some(&gguf))
            };
            return Err(HubError::Choice { what: what.into(), reason });
        }
    }
    let described =
        |name: &str| DESCRIPTIONS.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family));
    let mut chosen: Vec<String> =
        root.iter().filter(|name| described(name)).map(|name| (*name).clone()).collect();
    // Indices before what they index.
    weights.sort_by_key(|name| (!name.ends_with(".json"), (*name).clone()));
    chosen.extend(weights.into_iter().cloned());
    Ok(chosen)
}

/// A few names for a message.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "it has no files".into(),
        _ if names.len() > SHOWN => {
            format!("it has {} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN)
        }
        _ => format!("it has {}", names.join(", ")),
    }
}

/// Names of the shards that an index (`*.safetensors.index.json`) wants, in order, each once.
pub(crate) fn shards(index: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let index: Index = serde_json::from_slice(index).ok()?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn chosen(names: &[&str], requested: &[&str]) -> Result<Vec<String>, String> {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        choose(&owned(names), &owned(requested), "o/n").map_err(|error| error.to_string())
    }

    #[test]
    fn a_repository_of_the_published_layout() {
        let names = [
            ".gitattributes",
            "README.md",
            "config.json",
            "model-00002-of-00002.safetensors",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "consolidated.safetensors",
            "onnx/model.onnx",
            "original/model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "preprocessor_config.json",
            "training_args.bin",
        ];
        let wanted = [
            "config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "preprocessor_config.json",
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ];
        assert_eq!(chosen(&names, &[]).unwrap(), wanted);
        assert_eq!(chosen(&names, &["onnx/model.onnx"]).unwrap(), ["onnx/model.onnx"]);
    }

    #[test]
    fn other_weights_where_there_are_no_safetensors() {
        let pickled = ["config.json", "pytorch_model.bin", "mm_projector.bin", "training_args.bin"];
        assert_eq!(chosen(&pickled, &[]).unwrap(), ["config.json", "mm_projector.bin", "pytorch_model.bin"]);
        assert_eq!(chosen(&["README.md", "m.Q4_0.gguf"], &[]).unwrap(), ["m.Q4_0.gguf"]);
        let several = chosen(&["m.Q4_0.gguf", "m.Q8_0.gguf"], &[]).unwrap_err();
        assert_eq!(several, "o/n: it has m.Q4_0.gguf, m.Q8_0.gguf; choose with --file");
        assert!(chosen(&["README.md"], &[]).unwrap_err().contains("no safetensors"));
        assert!(chosen(&[], &[]).unwrap_err().contains("it has no files"));
        let missing = chosen(&["a.gguf"], &["b.gguf"]).unwrap_err();
        assert_eq!(missing, "o/n: no file \"b.gguf\"; it has a.gguf");
    }

    /// The file lists of liuhaotian/llava-v1.5-7b and openai/clip-vit-large-patch14-336.
    #[test]
    fn the_original_llava_and_its_tower() {
        let llava = [
            ".gitattributes",
            "README.md",
            "config.json",
            "generation_config.json",
            "mm_projector.bin",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
            "pytorch_model.bin.index.json",
            "special_tokens_map.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ];
        let wanted = [
            "config.json",
            "generation_config.json",
            "special_tokens_map.json",
            "tokenizer.model",
            "tokenizer_config.json",
            "pytorch_model.bin.index.json",
            "mm_projector.bin",
            "pytorch_model-00001-of-00002.bin",
            "pytorch_model-00002-of-00002.bin",
        ];
        assert_eq!(chosen(&llava, &[]).unwrap(), wanted);
        let tower = [
            ".gitattributes",
            "README.md",
            "config.json",
            "merges.txt",
            "preprocessor_config.json",
            "pytorch_model.bin",
            "special_tokens_map.json",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ];
        let wanted: Vec<&str> = tower
            .into_iter()
            .filter(|name| !matches!(*name, ".gitattributes" | "README.md" | "tf_model.h5"))
            .collect();
        let mut found = chosen(&tower, &[]).unwrap();
        assert_eq!(found.pop().unwrap(), "pytorch_model.bin", "weights come last");
        found.push("pytorch_model.bin".into());
        found.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn shards_of_an_index() {
        let index = br#"{"metadata": {"total_size": 3}, "weight_map": {"b": "y", "a": "x", "c": "y"}}"#;
        assert_eq!(shards(index).unwrap(), ["x", "y"]);
        assert_eq!(shards(b"[]"), None);
    }
}
