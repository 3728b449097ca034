//! The language model of a recipe: a folder, a GGUF file or a seed, with its tokenizer and chat template.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use foveate_data::prompt::ChatTemplate;
use foveate_model::llm::DecoderConfig;
use foveate_model::vlm::language_weights;
use foveate_model::weights::gguf::GgufFile;
use foveate_model::{Dtype, Weights};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::network::{Origin, Part};
use super::parts::{read_json, table_to_json};
use crate::initialise::Start;
use crate::tokenizer::END_TOKEN;
use crate::{Result, TrainError};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A language model as it was published.
pub(super) struct Published {
    /// Its configuration in the fields of Hugging Face.
    pub(super) config: Value,
    pub(super) part: Part,
    /// How conversations are written, where it says that.
    pub(super) template: Option<ChatTemplate>,
    /// What ends an answer, where that is not the first of its configuration.
    pub(super) end_token: Option<u32>,
    /// What a model made of it needs besides: names and contents.
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// In a GGUF file; a folder's is read when it is asked for.
    pub(super) tokenizer: Option<Tokenizer>,
}

impl Published {
    /// Takes another tokenizer, opened from the folder or file `given`, and another chat template: from now on what is trained
    /// with is what the files say, so that the model that comes out of it reads and writes the same.
    ///
    /// # Errors
    /// A template that is no Jinja; a `tokenizer_config.json` that is no JSON.
    pub(super) fn reworded(
        &mut self,
        given: Option<&Path>,
        template: Option<&str>,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        if given.is_none() && template.is_none() {
            return Ok(());
        }
        let beside = given.map(|path| path.join(TOKENIZER_CONFIG)).filter(|path| path.is_file());
        let syntax = |reason: String| TrainError::Syntax { file: TOKENIZER_CONFIG.to_owned(), reason };
        let config = match (beside, self.files.get(TOKENIZER_CONFIG)) {
            (Some(path), _) => read_json(&path)?,
            (None, Some(text)) => serde_json::from_slice(text).map_err(|error| syntax(error.to_string()))?,
            (None, None) => json!({}),
        };
        let Value::Object(mut config) = config else { return Err(syntax("it is no object".to_owned())) };
        // What a tokenizer's folder says about conversations is not what the language model was made for.
        let template = template.or(self.template.as_ref().and_then(ChatTemplate::source));
        config.insert("chat_template".to_owned(), template.into());
        let text = format!("{:#}\n", Value::Object(config.clone()));
        self.template = ChatTemplate::from_tokenizer_config("parts.template", &text)?;
        self.files.insert(TOKENIZER_CONFIG.to_owned(), text.into_bytes());
        self.files.remove("chat_template.jinja");
        if given.is_some() {
            let text = tokenizer.to_string(true).map_err(|error| TrainError::Tokenizer(error.to_string()))?;
            self.files.insert("tokenizer.json".to_owned(), text.into_bytes());
            let end = config.get("eos_token").map(|token| token.get("content").unwrap_or(token));
            let end = end.and_then(Value::as_str).and_then(|token| tokenizer.token_to_id(token));
            self.end_token = end.or(self.end_token);
        }
        Ok(())
    }
}

/// Opens a folder or a GGUF file. Its matrices are kept as `dtype` where they are frozen.
pub(super) fn open(word: &str, path: &Path, dtype: Dtype) -> Result<Published> {
    let origin = Origin { word: word.to_owned(), path: path.to_owned(), changed: Vec::new() };
    let mut published = if path.is_dir() { open_folder(path, dtype)? } else { open_gguf(path, dtype)? };
    published.part.origin = Some(origin);
    Ok(published)
}

fn open_folder(folder: &Path, dtype: Dtype) -> Result<Published> {
    let config = of_whole(read_json(&folder.join("config.json"))?);
    let decoder = DecoderConfig::from_json(&config.to_string())?;
    let part = Part { weights: language_weights(folder)?, shapes: decoder.tensors(), origin: None, dtype };
    Ok(Published {
        config,
        part,
        template: ChatTemplate::from_folder(folder)?,
        end_token: None,
        files: copy_files(folder)?,
        tokenizer: None,
    })
}

/// What the configuration of a model that sees says of its language model; that of a language model as it is.
fn of_whole(mut config: Value) -> Value {
    let Some(text) = config.get_mut("text_config").filter(|text| text.is_object()).map(Value::take) else {
        return config;
    };
    let end = config.get("eos_token_id").filter(|_| text.get("eos_token_id").is_none()).cloned();
    match (text, end) {
        (Value::Object(mut text), Some(end)) => {
            text.insert("eos_token_id".to_owned(), end);
            Value::Object(text)
        }
        (text, _) => text,
    }
}

fn open_gguf(path: &Path, dtype: Dtype) -> Result<Published> {
    let file = GgufFile::open(path).map_err(foveate_model::ModelError::from)?;
    let decoder = DecoderConfig::from_gguf(&file)?;
    let stored = file.tokenizer().map_err(foveate_model::ModelError::from)?;
    let special = stored.special_tokens();
    let source = stored.chat_template.as_deref();
    let template = source
        .map(|source| ChatTemplate::from_jinja(&path.display().to_string(), source, special.clone()))
        .transpose()?;
    let mut files = BTreeMap::new();
    let tokenizer = stored.tokenizer.to_string(true);
    let tokenizer = tokenizer.map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    files.insert("tokenizer.json".to_owned(), tokenizer.into_bytes());
    let mut about = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": false,
        "chat_template": source,
    });
    for (name, text) in special {
        about[name] = text.into();
    }
    files.insert(TOKENIZER_CONFIG.to_owned(), format!("{about:#}\n").into_bytes());
    let weights = file.weights().map_err(foveate_model::ModelError::from)?;
    Ok(Published {
        config: decoder.to_json()?,
        part: Part { weights, shapes: decoder.tensors(), origin: None, dtype },
        template,
        // What the chat template writes behind an answer.
        end_token: stored.end_of_turn.or(stored.end),
        files,
        tokenizer: Some(stored.tokenizer),
    })
}

/// What ends an answer of a language model from scratch, as its tokenizer writes it; `None` where it knows no such token.
pub(super) fn end_text(table: &toml::Table, tokenizer: &Tokenizer) -> Option<String> {
    let Some(given) = table.get("eos_token_id") else {
        return tokenizer.token_to_id(END_TOKEN).map(|_| END_TOKEN.to_owned());
    };
    let first = given.as_array().map_or(Some(given), |several| several.first());
    tokenizer.id_to_token(u32::try_from(first?.as_integer()?).ok()?)
}

/// A language model whose weights start from `seed`.
pub(super) fn fresh(
    table: &toml::Table,
    seed: u64,
    vocabulary: usize,
    tokenizer: &Tokenizer,
) -> Result<(Value, Part)> {
    let mut config = table_to_json(table);
    let field = "parts.language.fresh.vocab_size";
    match config.get("vocab_size").and_then(Value::as_u64) {
        None => config["vocab_size"] = vocabulary.into(),
        Some(rows) if rows < vocabulary as u64 => {
            return Err(TrainError::field(
                field,
                rows,
                format!("{vocabulary} or more, the tokens of the tokenizer"),
            ));
        }
        Some(_) => {}
    }
    if config.get("eos_token_id").is_none() {
        let end = tokenizer.token_to_id(END_TOKEN);
        config["eos_token_id"] = end.map_or(Value::Null, Value::from);
    }
    let decoder = DecoderConfig::from_json(&config.to_string())?;
    let shapes = decoder.tensors();
    let tensors = shapes.iter().map(|(name, shape)| {
        let tensor =
            Start::of(name, shape, decoder.blocks).tensor(seed, &format!("language_model.{name}"), shape)?;
        Ok((name.clone(), tensor))
    });
    let weights = Weights::from_tensors(tensors.collect::<Result<HashMap<_, _>>>()?);
    Ok((config, Part { weights, shapes, origin: None, dtype: Dtype::F32 }))
}

/// The files beside a language model's weights that a model made of it needs as well.
fn copy_files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for name in ["tokenizer.json", TOKENIZER_CONFIG, "chat_template.jinja", "generation_config.json"] {
        let path = folder.join(name);
        if path.is_file() {
            files.insert(name.to_owned(), std::fs::read(&path).map_err(TrainError::io(&path))?);
        }
    }
    Ok(files)
}
