//! From a path to an open [`Model`]: which files stand for what in each layout.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveate_data::image::{Preprocessor, Size};
use foveate_data::prompt::{ChatTemplate, Reader};
use foveate_hub::Source;
use foveate_model::ModelError;
use foveate_model::llm::{Architecture, Decoder, DecoderConfig};
use foveate_model::vlm::{FrozenPart, FrozenParts, ImageLayout, PartPaths, Viewer, Vlm, VlmConfig};
use foveate_model::weights::gguf::{GgufFile, GgufTokenizer};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::embedded::is_embedded;
use super::{Model, Place, Sight};
use crate::auto::LAWS_FILE;
use crate::failure::Failure;

/// The longest JSON file of a model that is read here, in bytes.
const MOST_JSON_BYTES: u64 = 4 << 20;

/// What a folder holds, by the `model_type` of its configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// LLaVA of any version.
    Vlm,
    /// A language model alone.
    Language,
    /// A vision tower alone, or with the text tower that it was trained with.
    Tower,
}

const FAMILIES: [(&str, Family); 14] = [
    ("llava", Family::Vlm),
    ("llava_next", Family::Vlm),
    ("llava_llama", Family::Vlm),
    ("llava_mistral", Family::Vlm),
    ("llava_qwen", Family::Vlm),
    ("llama", Family::Language),
    ("mistral", Family::Language),
    ("qwen2", Family::Language),
    ("phi3", Family::Language),
    ("clip", Family::Tower),
    ("clip_vision_model", Family::Tower),
    ("siglip", Family::Tower),
    ("siglip_vision_model", Family::Tower),
    ("dinov2", Family::Tower),
];

impl Family {
    /// Of the configuration in `folder`.
    pub(crate) fn of(config: &Value, folder: &Path) -> Result<Family, Failure> {
        let found = config.get("model_type").and_then(Value::as_str);
        FAMILIES.iter().find(|(name, _)| found == Some(name)).map(|(_, family)| *family).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            Failure::user(format!(
                "{}: `model_type` is {}, known are {}",
                folder.join("config.json").display(),
                found.unwrap_or("missing"),
                known.join(", ")
            ))
        })
    }
}

/// The configuration of a model's folder.
pub(crate) fn read_config(folder: &Path) -> Result<Value, Failure> {
    read_json(&folder.join("config.json"))?
        .ok_or_else(|| Failure::user(format!("{}: no config.json, so this is no model", folder.display())))
}

impl Place {
    /// Opens the model. Weights are read here, which takes its time.
    pub(crate) fn open(&self) -> Result<Model, Failure> {
        if is_embedded(&self.model) {
            return self.open_embedded();
        }
        let path = &self.fetch.path(&self.model)?;
        let only = |flag: &str, of: &str| {
            Failure::user(format!("{flag} goes with {of}, and {} is none", path.display()))
        };
        if path.is_dir() {
            if self.mmproj.is_some() {
                return Err(only("--mmproj", "a GGUF language model"));
            }
            return self.open_folder(path);
        }
        if self.tower.is_some() {
            return Err(only("--tower", "a LLaVA folder"));
        }
        if self.language.is_some() {
            return Err(only("--language", "a folder that holds only what was trained"));
        }
        if is_gguf(path) {
            return self.open_gguf(path);
        }
        Err(Failure::user(format!("{}: a model is a folder or FILE.gguf", path.display())))
    }

    fn open_folder(&self, folder: &Path) -> Result<Model, Failure> {
        let config = read_config(folder)?;
        let family = Family::of(&config, folder)?;
        let path = folder.display();
        if family == Family::Tower {
            return Err(Failure::user(format!("{path}: a vision tower alone, which says nothing")));
        }
        if self.tower.is_some() && family != Family::Vlm {
            return Err(Failure::user(format!(
                "--tower goes with a LLaVA folder, and {path} holds a language model alone"
            )));
        }
        let tokenizer = tokenizer(folder)?;
        let mut template = ChatTemplate::from_folder(folder)?;
        let of_folder = |error| in_config(folder, error);
        let (decoder, sight) = if family == Family::Vlm {
            let frozen = FrozenParts::read(&config).map_err(of_folder)?;
            if self.language.is_some() && frozen.is_none() {
                let what = "--language goes with a folder that holds only what was trained";
                return Err(Failure::user(format!("{what}, and {path} holds its language model")));
            }
            let tower = if frozen.is_none() { self.tower(folder, &config)? } else { None };
            let vlm = match frozen {
                Some(parts) => Vlm::open_on(folder, &self.frozen(&parts)?, self.dtype),
                None => Vlm::open(folder, tower.as_deref(), self.dtype),
            };
            let vlm = vlm.map_err(of_folder)?;
            let preprocessor = preprocessor(folder, tower.as_deref(), &vlm)?;
            // The original LLaVA writes its prompts in code: Vicuna's for all models on Llama, whatever their tokenizer
            // says. Published folders that have no template want the same.
            let vicuna = is_original(&vlm) && vlm.config().text.architecture == Architecture::Llama;
            if vicuna || template.is_none() {
                template = Some(ChatTemplate::vicuna_v1());
            }
            (vlm.decoder().clone(), Some(Sight { viewer: Viewer::new(vlm, Arc::default()), preprocessor }))
        } else {
            template = template.map(|template| template.with_reader(Reader::Tokenizer));
            (Arc::new(Decoder::open(folder, self.dtype).map_err(of_folder)?), None)
        };
        let mut end_tokens = decoder.config().end_tokens.clone();
        end_tokens.extend(end_tokens_of_folder(folder, &tokenizer)?);
        end_tokens.sort_unstable();
        end_tokens.dedup();
        let laws = laws(folder)?;
        Ok(Model { name: self.model.clone(), decoder, tokenizer, template, end_tokens, laws, sight })
    }

    /// Where the frozen parts lie that a checkpoint of what was trained builds on: those that were given, else those that its
    /// words mean. Their content is compared either way: what a word means may have changed since.
    fn frozen(&self, parts: &FrozenParts) -> Result<PartPaths, Failure> {
        let fetch = self.fetch.beside();
        let path = |part: &Option<FrozenPart>, given: &Option<String>, flag: &str| {
            let Some(part) = part else { return Ok(None) };
            let (model, file) = (&self.model, &part.file);
            if let Some(word) = given {
                let path = fetch.path(word)?;
                part.verify(&path).map_err(|error| in_file(&path, error))?;
                return Ok(Some(path));
            }
            let Some(word) = &part.from else {
                let told = "which it has no word to fetch by";
                return Err(Failure::user(format!(
                    "{model} was trained on {file}, {told}: {flag} says where it is"
                )));
            };
            let path = fetch.path(word).map_err(|failure| {
                failure.reworded(|told| {
                    format!(
                        "{model} was trained on {file}: {told}; `foveate pull {word}` fetches it, {flag} says where it is"
                    )
                })
            })?;
            part.verify(&path).map_err(|error| {
                let other =
                    |told| format!("{model}: {word} is not what it was: {told}; {flag} says where that is");
                in_file(&path, error).reworded(other)
            })?;
            Ok(Some(path))
        };
        Ok(PartPaths {
            tower: path(&parts.tower, &self.tower, "--tower")?,
            language: path(&parts.language, &self.language, "--language")?,
        })
    }

    /// The tower of a checkpoint that only names one: the one that was given, else that of the name on the hub. A folder
    /// of that name beside the checkpoint goes first and is found by [`Vlm::open`].
    fn tower(&self, folder: &Path, config: &Value) -> Result<Option<PathBuf>, Failure> {
        let fetch = self.fetch.beside();
        if let Some(word) = &self.tower {
            return fetch.path(word).map(Some);
        }
        let named =
            config.get("mm_vision_tower").or_else(|| config.get("vision_tower")).and_then(Value::as_str);
        let is_hub =
            |name: &&str| !folder.join(name).is_dir() && matches!(Source::of_word(name), Ok(Source::Hub(_)));
        match named.filter(is_hub) {
            Some(name) if config.get("vision_config").is_none() => fetch.path(name).map(Some),
            _ => Ok(None),
        }
    }

    fn open_gguf(&self, path: &Path) -> Result<Model, Failure> {
        let language = GgufFile::open(path)?;
        let stored = language.tokenizer()?;
        let mut template = gguf_template(path, &stored)?;
        let sight = match &self.mmproj {
            None => {
                template = template.map(|template| template.with_reader(Reader::Tokenizer));
                None
            }
            Some(projector) => {
                let projector = GgufFile::open(projector)?;
                let encoder = projector.image_encoder()?;
                let vlm = Vlm::from_llama_cpp(&language, &projector, self.dtype);
                let vlm = vlm.map_err(|error| in_file(path, error))?;
                let side = side(&vlm);
                let preprocessor = Preprocessor {
                    mean: encoder.mean,
                    std: encoder.standard_deviation,
                    pad_to_square: true,
                    ..Preprocessor::clip(side)
                };
                template = template.or_else(|| Some(ChatTemplate::vicuna_v1()));
                Some(Sight { viewer: Viewer::new(vlm, Arc::default()), preprocessor })
            }
        };
        let decoder = match &sight {
            Some(sight) => sight.viewer.vlm().decoder().clone(),
            None => {
                let load = || {
                    let weights = language.weights()?.packed(self.dtype);
                    Decoder::load(DecoderConfig::from_gguf(&language)?, &weights)
                };
                Arc::new(load().map_err(|error| in_file(path, error))?)
            }
        };
        let mut end_tokens = decoder.config().end_tokens.clone();
        end_tokens.extend(stored.end_of_turn);
        let tokenizer = stored.tokenizer;
        Ok(Model { name: self.model.clone(), decoder, tokenizer, template, end_tokens, laws: None, sight })
    }
}

/// The text of a folder's errors by family of questions, read when they are wanted; `None` where it has none.
pub(crate) fn laws(folder: &Path) -> Result<Option<Arc<str>>, Failure> {
    let path = folder.join(LAWS_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::user(format!("{}: {error}", path.display()))),
    }
}

pub(crate) fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Whether the checkpoint has the original LLaVA's layout, whose configuration says how images are padded.
fn is_original(vlm: &Vlm) -> bool {
    vlm.config().pad_to_square.is_some()
}

/// CLIP's towers read squares; of anything else the height.
fn side(vlm: &Vlm) -> u32 {
    // Sizes of configurations are at most 2^20.
    u32::try_from(vlm.tower().config().image_size().height).unwrap_or(u32::MAX)
}

/// The image processor: that of the folder, else that of the tower, else CLIP's; what the model's own configuration
/// says about padding and tiles goes first.
fn preprocessor(folder: &Path, tower: Option<&Path>, vlm: &Vlm) -> Result<Preprocessor, Failure> {
    let config = vlm.config();
    let beside = config.tower_name.as_ref().map(|name| folder.join(name));
    let folders = [Some(folder), tower, beside.as_deref()];
    let has_one = |folder: &&Path| {
        ["preprocessor_config.json", "processor_config.json"].iter().any(|name| folder.join(name).is_file())
    };
    let preprocessor = match folders.into_iter().flatten().find(has_one) {
        Some(folder) => Preprocessor::from_folder(folder)?,
        None if is_original(vlm) => Preprocessor::clip(side(vlm)),
        None => {
            return Err(Failure::user(format!(
                "{}: no preprocessor_config.json, which says how images are resized",
                folder.display()
            )));
        }
    };
    Ok(fitted(preprocessor, config))
}

/// The image processor with what the model's configuration says about padding and tiles.
pub(super) fn fitted(mut preprocessor: Preprocessor, config: &VlmConfig) -> Preprocessor {
    if let Some(pad) = config.pad_to_square {
        preprocessor.pad_to_square = pad;
    }
    preprocessor.tiling = match &config.layout {
        ImageLayout::Single => None,
        ImageLayout::Tiles { resolutions } => preprocessor.tiling.or_else(|| {
            let size = |&(height, width): &(usize, usize)| {
                Some(Size::new(u32::try_from(height).ok()?, u32::try_from(width).ok()?))
            };
            resolutions.iter().map(size).collect()
        }),
    };
    preprocessor
}

/// `tokenizer.json`, else the SentencePiece model that the original LLaVA is published with.
fn tokenizer(folder: &Path) -> Result<Tokenizer, Failure> {
    let path = folder.join("tokenizer.json");
    if path.is_file() {
        let failed = |error| Failure::user(format!("{}: {error}", path.display()));
        return as_it_is(Tokenizer::from_file(&path).map_err(failed)?).map_err(failed);
    }
    // As the original LLaVA and Vicuna were published.
    if folder.join("tokenizer.model").is_file() {
        return Ok(foveate_model::weights::sentence_piece(folder)?);
    }
    Err(Failure::user(format!(
        "{}: no such file, nor a tokenizer.model; a model's folder needs one of them",
        path.display()
    )))
}

/// A tokenizer without the cutting and filling that many published files have left over from training: a prompt is read
/// whole and as it is.
pub(super) fn as_it_is(mut tokenizer: Tokenizer) -> tokenizers::Result<Tokenizer> {
    tokenizer.with_truncation(None)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// The template in the metadata, with the special tokens that it may write.
fn gguf_template(path: &Path, stored: &GgufTokenizer) -> Result<Option<ChatTemplate>, Failure> {
    let Some(source) = &stored.chat_template else { return Ok(None) };
    let special_tokens = stored.special_tokens();
    Ok(Some(ChatTemplate::from_jinja(&path.display().to_string(), source, special_tokens)?))
}

/// What ends an answer besides the tokens in `config.json`, where LLaVA folders often leave it out: those of
/// `generation_config.json`, and the tokenizer's `eos_token`.
fn end_tokens_of_folder(folder: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, Failure> {
    let mut found = Vec::new();
    if let Some(generation) = read_json(&folder.join("generation_config.json"))? {
        let stored = generation.get("eos_token_id");
        let ids = stored.map(|ids| ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice));
        let ids = ids.unwrap_or_default().iter();
        found.extend(ids.filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()));
    }
    if let Some(config) = read_json(&folder.join("tokenizer_config.json"))? {
        found.extend(end_token(&config, tokenizer));
    }
    Ok(found)
}

/// The `eos_token` of a `tokenizer_config.json`.
pub(super) fn end_token(config: &Value, tokenizer: &Tokenizer) -> Option<u32> {
    let token = config.get("eos_token")?;
    tokenizer.token_to_id(token.as_str().or_else(|| token.get("content")?.as_str())?)
}

/// A JSON file of a model; `None` where there is none.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>, Failure> {
    let failed = |reason: String| Failure::user(format!("{}: {reason}", path.display()));
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
        Ok(about) if about.len() > MOST_JSON_BYTES => {
            return Err(failed(format!("{} bytes; at most {MOST_JSON_BYTES} are read", about.len())));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|error| failed(error.to_string()))
}

/// Errors about a folder's configuration name the field only; the user wants the file, too.
pub(crate) fn in_config(folder: &Path, error: ModelError) -> Failure {
    match error {
        ModelError::Config { .. } => {
            Failure::user(format!("{}: {error}", folder.join("config.json").display()))
        }
        other => in_file(folder, other),
    }
}

/// The same for errors that name no file at all.
pub(crate) fn in_file(path: &Path, error: ModelError) -> Failure {
    match error {
        ModelError::Io { .. } | ModelError::Weights(_) | ModelError::Tensor(_) => error.into(),
        other => Failure::user(format!("{}: {other}", path.display())),
    }
}
