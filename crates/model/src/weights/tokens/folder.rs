//! The tokenizer of a folder that has `tokenizer.model` and no `tokenizer.json`, as the original LLaVA is published.
//!
//! What transformers' `LlamaTokenizer` reads besides: `tokenizer_config.json` for the frame and the added tokens,
//! `added_tokens.json` in older folders. Reference: transformers 4.57, `tokenization_llama.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::{AddedToken, Tokenizer};

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::model::Model;
use super::{Kind, Pieces, Prefix, framing};

/// The longest JSON file that is read, in bytes.
const LONGEST: usize = 4 << 20;

#[derive(Default, Deserialize)]
struct Config {
    tokenizer_class: Option<String>,
    legacy: Option<bool>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    add_prefix_space: Option<bool>,
    bos_token: Option<Text>,
    eos_token: Option<Text>,
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
}

/// A special token, alone or with its options.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Full { content: String },
}

impl Text {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Full { content: text } => text,
        }
    }
}

#[derive(Clone, Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    normalized: bool,
}

/// The tokenizer of a folder with SentencePiece's `tokenizer.model`, ids and all as transformers' `LlamaTokenizer` has
/// them; `encode(text, true)` adds what `tokenizer_config.json` says, the beginning token where it says nothing.
///
/// # Errors
/// [`WeightsError::Io`] without the file; [`WeightsError::Unsupported`] for a vocabulary that is not Llama's kind (unigram,
/// a normaliser with a table, another tokenizer class); [`WeightsError::Malformed`] naming the file and the field.
pub fn sentence_piece(folder: &Path) -> Result<Tokenizer, WeightsError> {
    let bytes = Bytes::map(&folder.join("tokenizer.model"))?;
    let model = Model::read(&bytes)?;
    let (config_file, config) = read_json::<Config>(&folder.join("tokenizer_config.json"))?;
    if let Some(class) =
        config.tokenizer_class.as_deref().filter(|class| !class.starts_with("LlamaTokenizer"))
    {
        return Err(WeightsError::Unsupported {
            file: config_file,
            field: "tokenizer_class".to_owned(),
            value: format!("`{class}`"),
            supported: "`LlamaTokenizer` where there is no tokenizer.json".to_owned(),
        });
    }
    let (added_file, stored) = read_json::<BTreeMap<String, u32>>(&folder.join("added_tokens.json"))?;
    let mut added = config.added_tokens_decoder.clone();
    for (content, id) in stored {
        let plain = Added {
            content,
            special: false,
            lstrip: false,
            rstrip: false,
            single_word: false,
            normalized: false,
        };
        added.entry(id).or_insert(plain);
    }
    for (id, Added { content, .. }) in &added {
        let known = model.tokens.get(*id as usize).copied();
        let elsewhere = model.index_of.get(content.as_str()).filter(|index| **index != *id as usize);
        if known.is_some_and(|known| known != content) || elsewhere.is_some() {
            let reason = format!(
                "is `{}`, but the vocabulary has `{}`",
                content.escape_debug(),
                known.unwrap_or(content)
            );
            let file = if config.added_tokens_decoder.contains_key(id) { &config_file } else { &added_file };
            return Err(WeightsError::malformed(file, format!("added token {id}"), reason));
        }
    }

    // What transformers calls legacy leaves the space before a text to SentencePiece.
    let prefix = match config.legacy.unwrap_or(true) {
        true if model.dummy_prefix => Prefix::EachStretch,
        false if config.add_prefix_space.unwrap_or(true) => Prefix::First,
        _ => Prefix::Never,
    };
    let broken = |error: tokenizers::Error| bytes.malformed("pieces", error.to_string());
    let pieces = Pieces {
        tokens: &model.tokens,
        kinds: &model.kinds,
        scores: &model.scores,
        index_of: &model.index_of,
    };
    let beyond = added.iter().filter(|(id, _)| **id as usize >= model.tokens.len());
    let beyond = beyond.map(|(id, token)| (token.content.clone(), *id));
    let mut tokenizer = pieces.pipeline(prefix, beyond).map_err(broken)?;
    tokenizer.add_tokens(special_tokens(&model, &added)).map_err(broken)?;

    let frame = {
        let known = |text: &str| tokenizer.token_to_id(text).map(|id| (id, text.to_owned()));
        let stored = |id: Option<u32>| id.map(|id| (id, model.tokens[id as usize].to_owned()));
        let named =
            |text: &Option<Text>, id| text.as_ref().map_or_else(|| stored(id), |text| known(text.as_str()));
        let beginning =
            named(&config.bos_token, model.beginning).filter(|_| config.add_bos_token.unwrap_or(true));
        let end = named(&config.eos_token, model.end).filter(|_| config.add_eos_token.unwrap_or(false));
        framing(beginning, end).map_err(broken)?
    };
    tokenizer.with_post_processor(frame);
    Ok(tokenizer)
}

/// The tokens that are found in text before anything else, each with what is said about it last.
fn special_tokens(model: &Model<'_>, added: &BTreeMap<u32, Added>) -> Vec<AddedToken> {
    let mut tokens = Vec::new();
    for (index, (token, kind)) in model.tokens.iter().zip(&model.kinds).enumerate() {
        let special = matches!(kind, Kind::Control | Kind::Unknown);
        let given = added.contains_key(&(index as u32));
        if !given && !token.is_empty() && (special || *kind == Kind::UserDefined) {
            tokens.push(AddedToken::from(*token, special).normalized(false));
        }
    }
    for token in added.values().filter(|token| !token.content.is_empty()) {
        let added = AddedToken::from(token.content.clone(), token.special).normalized(token.normalized);
        tokens.push(added.lstrip(token.lstrip).rstrip(token.rstrip).single_word(token.single_word));
    }
    tokens
}

/// A JSON file and its name for errors; the default where there is none.
fn read_json<T: Default + DeserializeOwned>(path: &Path) -> Result<(String, T), WeightsError> {
    if !path.is_file() {
        return Ok((path.display().to_string(), T::default()));
    }
    let bytes = Bytes::map(path)?;
    if bytes.len() > LONGEST {
        return Err(bytes.malformed("file", format!("has {} bytes, at most {LONGEST} are read", bytes.len())));
    }
    let value = serde_json::from_slice(&bytes).map_err(|error| bytes.malformed("JSON", error.to_string()))?;
    Ok((bytes.file.clone(), value))
}
