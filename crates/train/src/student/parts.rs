//! Parts from folders, files and seeds, joined to one configuration and one list of tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foveate_data::prompt::ChatTemplate;
use foveate_model::vlm::VlmConfig;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::export::{processor_json, tokenizer_json};
use super::network::{Network, Trained};
use super::start::Own;
use super::{Resolver, Student, language, start, tower};
use crate::recipe::{Group, Recipe, Source, Tokens};
use crate::{Result, TrainError};

pub(super) fn build(recipe: &Recipe, resolve: &Resolver<'_>, trained: Option<Tokenizer>) -> Result<Student> {
    let parts = &recipe.parts;
    let located = |part: &'static str, word: &str| -> Result<PathBuf> {
        resolve(word).map_err(|reason| TrainError::Part { part, word: word.to_owned(), reason })
    };
    let (path, mut published) = match &parts.language {
        Source::From(word) => {
            let path = located("language", word)?;
            let published = language::open(word, &path, parts.dtype)?;
            (Some(path), Some(published))
        }
        Source::Fresh(_) => (None, None),
    };
    let mut given = None;
    let tokenizer = match (&parts.tokenizer, trained) {
        (_, Some(trained)) => trained,
        (Some(Tokens::From(word)), _) => {
            let path = located("tokenizer", word)?;
            let tokenizer = open_tokenizer(&path)?;
            given = Some(path);
            tokenizer
        }
        _ => match published.as_mut().and_then(|published| published.tokenizer.take()) {
            Some(tokenizer) => tokenizer,
            None => open_tokenizer(path.as_deref().unwrap_or(Path::new("")))?,
        },
    };
    let vocabulary = tokenizer.get_vocab_size(true);
    if let Some(published) = &mut published {
        published.reworded(given.as_deref(), parts.template.as_deref(), &tokenizer)?;
    }
    let end = match &parts.language {
        Source::Fresh(table) => language::end_text(table, &tokenizer),
        Source::From(_) => None,
    };
    let template = match (&parts.template, published.as_mut()) {
        (_, Some(published)) => published.template.take().ok_or_else(|| {
            TrainError::field("parts.template", "missing", "needed: the language model has none")
        })?,
        (Some(source), None) => {
            let special = end.iter().map(|end| ("eos_token".to_owned(), end.clone())).collect();
            ChatTemplate::from_jinja("parts.template", source, special)?
        }
        (None, None) => return Err(TrainError::field("parts.template", "missing", "needed")),
    };
    let mut files = BTreeMap::new();
    let (text_config, language, end_token) = match (published, &parts.language) {
        (Some(published), _) => {
            files = published.files;
            (published.config, published.part, published.end_token)
        }
        (None, Source::Fresh(table)) => {
            let template = parts.template.as_deref().unwrap_or_default();
            tokenizer_json(&tokenizer, end.as_deref(), template, &mut files)?;
            let (config, part) = language::fresh(table, recipe.seed, vocabulary, &tokenizer)?;
            (config, part, None)
        }
        (None, Source::From(_)) => return Err(TrainError::field("parts.language", "missing", "needed")),
    };
    let mut tower_path = None;
    let (vision_config, tower) = match &parts.tower {
        Source::From(word) => {
            let path = located("tower", word)?;
            let (config, part) = tower::open(word, &path, parts.image.side, parts.dtype)?;
            tower_path = Some(path);
            let json = serde_json::to_value(&config);
            let json = json.map_err(|error| TrainError::Part {
                part: "tower",
                word: word.clone(),
                reason: error.to_string(),
            })?;
            (json, part)
        }
        Source::Fresh(table) => tower::fresh(table, parts.image.side, recipe.seed)?,
    };
    let mut json = json!({
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": text_config,
        "vision_config": vision_config,
        "vision_feature_layer": parts.feature_state,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": true,
        "compressor": parts.compressor,
    });
    if let Some(id) = tokenizer.token_to_id(template.image_token()) {
        json["image_token_index"] = id.into();
    }
    let config = VlmConfig::from_json(&json.to_string())?;
    if given.is_some() && vocabulary > config.text.vocabulary {
        let allowed =
            format!("at most {}, the rows of the language model's embedding", config.text.vocabulary);
        return Err(TrainError::field("parts.tokenizer", format!("of {vocabulary} tokens"), allowed));
    }
    let end_token = end_token.or(config.text.end_tokens.first().copied()).ok_or_else(|| {
        TrainError::field(
            "parts.language",
            "without `eos_token_id`",
            "a model whose configuration says what ends an answer",
        )
    })?;
    let preprocessor = parts.image.preprocessor()?;
    files.insert("preprocessor_config.json".to_owned(), processor_json(&parts.image, &preprocessor));

    let compressor = parts.compressor.clone();
    let trained = Trained { groups: &recipe.trained_groups(), lora: recipe.lora.as_ref(), seed: recipe.seed };
    let mut network = Network::new(config, &compressor, tower, language, trained)?;
    let start = match &parts.start {
        None => None,
        Some(word) => {
            let folder = located("start", word)?;
            let lora = recipe.lora.as_ref().filter(|_| trained.groups.contains(&Group::Adapters));
            let own = Own { config: &json, tower: tower_path, language: path, lora };
            Some(start::take(&mut network, &folder, word, &own)?)
        }
    };
    Ok(Student { network, json, compressor, start, tokenizer, template, preprocessor, end_token, files })
}

fn open_tokenizer(path: &Path) -> Result<Tokenizer> {
    let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let failed = |error| TrainError::Tokenizer(format!("{}: {error}", path.display()));
    let mut tokenizer = Tokenizer::from_file(&path).map_err(failed)?;
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

pub(super) fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let failed = |error: serde_json::Error| TrainError::Syntax {
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    serde_json::from_str(&text).map_err(failed)
}

pub(super) fn table_to_json(table: &toml::Table) -> Value {
    serde_json::to_value(table).unwrap_or(Value::Null)
}
