//! What a path holds: its configurations and the list of its tensors. No tensor is read.

use std::collections::BTreeMap;
use std::path::Path;

use foveate_compress::Method;
use foveate_law::auto::ErrorTable;
use foveate_model::Weights;
use foveate_model::llm::DecoderConfig;
use foveate_model::vision::{ClipConfig, Dinov2Config, VisionConfig};
use foveate_model::vlm::{
    FamilyHead, FrozenPart, FrozenParts, VisualCost, VlmConfig, published_names, tower_weights,
};
use foveate_model::weights::gguf::{GgufFile, Quantisation};
use serde::Serialize;

use super::markdown;
use crate::auto::LAWS_FILE;
use crate::failure::Failure;
use crate::model::{
    CARD, EMBEDDED_LAWS, Family, NANO, embedded_config, embedded_families, embedded_weights, in_config,
    in_file, is_gguf, laws, read_config,
};

/// A model as its files describe it.
pub(crate) struct Contents {
    /// In words, such as `LLaVA-1.5`.
    pub(crate) architecture: String,
    pub(crate) kind: Kind,
    pub(crate) parts: Vec<Part>,
    pub(crate) formats: Vec<Format>,
    /// Bytes of all tensors.
    pub(crate) bytes: u64,
    /// What its makers say about it: the text of the model card.
    pub(crate) card: Option<String>,
    /// What `--visual-tokens auto` would read.
    pub(crate) auto: Option<AutoFiles>,
}

/// The guess of a question's family and the errors by family, where the model has them.
#[derive(Serialize)]
pub(crate) struct AutoFiles {
    pub(crate) families: Option<Guess>,
    pub(crate) laws: Option<ErrorTable>,
}

/// What a guess says of itself.
#[derive(Serialize)]
pub(crate) struct Guess {
    pub(crate) families: Vec<String>,
    /// Questions that it was fitted to.
    pub(crate) questions: usize,
    /// Questions of validation that it is right about, and how many there were.
    pub(crate) validation: Option<[usize; 2]>,
}

impl AutoFiles {
    /// `None` where there is neither; `origin` is what errors call the errors' file.
    fn new(head: Option<FamilyHead>, origin: &str, laws: Option<&str>) -> Result<Option<AutoFiles>, Failure> {
        let families = head.map(|head| Guess {
            families: head.families,
            questions: head.fitted.questions,
            validation: head.fitted.validation,
        });
        let laws = laws.map(|text| ErrorTable::from_json(origin, text)).transpose()?;
        Ok((families.is_some() || laws.is_some()).then_some(AutoFiles { families, laws }))
    }
}

/// What a model is made of, as far as it was told.
pub(crate) enum Kind {
    Vlm {
        config: Box<VlmConfig>,
        /// What an image becomes and costs; `None` where the tower is not here.
        image: Option<Box<VisualCost>>,
    },
    Language(Box<DecoderConfig>),
    Tower(VisionConfig),
    /// Tensors whose model is not known.
    Tensors,
}

/// The parameters of a part of the model, counted in the file.
#[derive(Clone, Serialize)]
pub(crate) struct Part {
    pub(crate) part: &'static str,
    pub(crate) parameters: u64,
}

/// The tensors that are stored in one format.
#[derive(Clone, Serialize)]
pub(crate) struct Format {
    pub(crate) dtype: String,
    pub(crate) tensors: usize,
    pub(crate) parameters: u64,
    pub(crate) bytes: u64,
}

impl Contents {
    /// The model that is a part of the program.
    pub(crate) fn embedded() -> Result<Contents, Failure> {
        let config = embedded_config()?;
        let vision = config.vision.clone();
        let mut contents = vlm(config, vision, &embedded_weights()?, Path::new(NANO))?;
        contents.card = Some(markdown::body(CARD).to_owned());
        let head = embedded_families().map_err(|error| in_file(Path::new(NANO), error))?;
        contents.auto = AutoFiles::new(head, &format!("{NANO}/{LAWS_FILE}"), EMBEDDED_LAWS)?;
        Ok(contents)
    }

    pub(crate) fn read(path: &Path, tower: Option<&Path>) -> Result<Contents, Failure> {
        if path.is_dir() {
            let mut contents = folder(path, tower)?;
            contents.card = markdown::card_of(path)?;
            let head = FamilyHead::read(path).map_err(|error| in_file(path, error))?;
            let origin = path.join(LAWS_FILE).display().to_string();
            contents.auto = AutoFiles::new(head, &origin, laws(path)?.as_deref())?;
            return Ok(contents);
        }
        if is_gguf(path) {
            return gguf(path);
        }
        let weights = Weights::open(path)?;
        let onnx = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        if !onnx {
            return Ok(Contents::new("tensors without a configuration".into(), Kind::Tensors, &weights, &[]));
        }
        let shown = tower_weights(path)?;
        Ok(match Dinov2Config::from_shapes(&shown) {
            Ok(config) => {
                let kind = Kind::Tower(VisionConfig::Dinov2(config));
                // What the file holds beside the tower counts as well, as `other`.
                let weights = weights.rename(|name| {
                    let inner = ["dinov2.", "backbone."].iter().find_map(|prefix| name.strip_prefix(prefix));
                    inner.map(|inner| format!("vision_tower.{inner}"))
                });
                Contents::new("DINOv2".into(), kind, &weights, &VLM_PARTS)
            }
            Err(_) => Contents::new("constants of an ONNX graph".into(), Kind::Tensors, &weights, &[]),
        })
    }

    /// A language model and llama.cpp's image encoder for it.
    pub(crate) fn read_pair(language: &Path, projector: &Path) -> Result<Contents, Failure> {
        if !is_gguf(language) {
            let path = language.display();
            return Err(Failure::user(format!(
                "--mmproj goes with a GGUF language model, and {path} is none"
            )));
        }
        let (file, images) = (GgufFile::open(language)?, GgufFile::open(projector)?);
        let config = VlmConfig::from_llama_cpp(&file, &images).map_err(|error| in_file(language, error))?;
        let vision = config.vision.clone();
        let mut contents = vlm(config, vision, &images.weights()?, language)?;
        contents.add(&file.weights()?, &LANGUAGE);
        Ok(contents)
    }

    fn new(
        architecture: String,
        kind: Kind,
        weights: &Weights,
        parts: &[(&'static str, &'static str)],
    ) -> Contents {
        let mut counted: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut formats: BTreeMap<String, Format> = BTreeMap::new();
        for name in weights.names() {
            let (Some(shape), Some(stored)) = (weights.shape(&name), weights.stored(&name)) else { continue };
            let dtype = stored.format.map_or_else(|| "other".to_owned(), dtype);
            // Integers (position ids, shapes of a graph) are no parameters.
            let parameters = stored.format.map_or(0, |_| shape.elem_count() as u64);
            let format =
                formats.entry(dtype.clone()).or_insert(Format { dtype, tensors: 0, parameters: 0, bytes: 0 });
            format.tensors += 1;
            format.parameters += parameters;
            format.bytes += stored.bytes;
            let part =
                parts.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or("other", |part| part.1);
            *counted.entry(part).or_default() += parameters;
        }
        let order = |part: &str| parts.iter().position(|(_, name)| *name == part).unwrap_or(parts.len());
        let mut parts: Vec<Part> =
            counted.into_iter().map(|(part, parameters)| Part { part, parameters }).collect();
        parts.sort_by_key(|part| order(part.part));
        let mut formats: Vec<Format> = formats.into_values().collect();
        formats.sort_by_key(|format| std::cmp::Reverse(format.bytes));
        let bytes = formats.iter().map(|format| format.bytes).sum();
        Contents { architecture, kind, parts, formats, bytes, card: None, auto: None }
    }

    /// Adds the tensors of another file.
    fn add(&mut self, weights: &Weights, parts: &[(&'static str, &'static str)]) {
        let other = Contents::new(String::new(), Kind::Tensors, weights, parts);
        self.parts.extend(other.parts);
        self.bytes += other.bytes;
        for format in other.formats {
            match self.formats.iter_mut().find(|known| known.dtype == format.dtype) {
                None => self.formats.push(format),
                Some(known) => {
                    known.tensors += format.tensors;
                    known.parameters += format.parameters;
                    known.bytes += format.bytes;
                }
            }
        }
    }

    /// All parameters in the file.
    pub(crate) fn parameters(&self) -> u64 {
        self.formats.iter().map(|format| format.parameters).sum()
    }

    pub(crate) fn tensors(&self) -> usize {
        self.formats.iter().map(|format| format.tensors).sum()
    }
}

/// Where the parts of a vision-language model begin, under the published names.
const VLM_PARTS: [(&str, &str); 5] = [
    ("vision_tower.", "vision tower"),
    ("compressor.", "compressor"),
    ("multi_modal_projector.", "projector"),
    ("image_newline", "projector"),
    ("language_model.", "language model"),
];
const LANGUAGE: [(&str, &str); 1] = [("", "language model")];
const TOWER: [(&str, &str); 1] = [("", "vision tower")];
/// Two-tower files keep a text half that no vision-language model reads.
const TWO_TOWERS: [(&str, &str); 3] =
    [("text_", "text tower"), ("logit_", "text tower"), ("", "vision tower")];

fn folder(path: &Path, tower: Option<&Path>) -> Result<Contents, Failure> {
    let config = read_config(path)?;
    let family = Family::of(&config, path)?;
    let text = config.to_string();
    let of_folder = |error| in_config(path, error);
    let weights = Weights::open(path)?;
    if family == Family::Vlm {
        let config = VlmConfig::from_json(&text).map_err(of_folder)?;
        let mut weights = published_names(weights);
        let mut vision = config.vision.clone();
        if vision.is_none() {
            let beside = config.tower_name.as_ref().map(|name| path.join(name));
            let tower = tower.map(Path::to_path_buf).or(beside).filter(|tower| tower.is_dir());
            if let Some(tower) = tower {
                vision = Some(tower_config(&tower)?);
                // A tower that lies beside the checkpoint is a part of the model.
                if weights.pp("vision_tower").names().is_empty() {
                    let mut contents = vlm(config, vision, &weights, path)?;
                    contents.add(&Weights::open(&tower)?, &TOWER);
                    contents.parts.rotate_right(1);
                    return Ok(contents);
                }
            }
        }
        weights = weights.rename(|_| None);
        let mut contents = vlm(config, vision, &weights, path)?;
        let value = read_config(path)?;
        if let Some(parts) = FrozenParts::read(&value).map_err(of_folder)? {
            let told = |part: FrozenPart| match part.from {
                Some(word) => format!("{} of {word}", part.file),
                None => part.file,
            };
            let files: Vec<String> = [parts.tower, parts.language].into_iter().flatten().map(told).collect();
            contents.architecture += &format!(", trained on {}", files.join(" and "));
        }
        return Ok(contents);
    }
    if family == Family::Tower {
        let vision = VisionConfig::from_json(&text).map_err(of_folder)?;
        let parts: &[_] = if matches!(vision, VisionConfig::Dinov2(_)) { &TOWER } else { &TWO_TOWERS };
        return Ok(Contents::new(tower_name(&vision).into(), Kind::Tower(vision), &weights, parts));
    }
    let config = DecoderConfig::from_json(&text).map_err(of_folder)?;
    Ok(language(config, &weights))
}

fn tower_config(folder: &Path) -> Result<VisionConfig, Failure> {
    let config = read_config(folder)?;
    VisionConfig::from_json(&config.to_string()).map_err(|error| in_config(folder, error))
}

fn gguf(path: &Path) -> Result<Contents, Failure> {
    let file = GgufFile::open(path)?;
    let weights = file.weights()?;
    if file.metadata().get::<&str>("general.architecture")? == Some("clip") {
        let vision = VisionConfig::Clip(ClipConfig::from(&file.image_encoder()?));
        let name = "CLIP and projector of LLaVA-1.5".to_owned();
        return Ok(Contents::new(name, Kind::Tower(vision), &weights, &VLM_PARTS));
    }
    let config = DecoderConfig::from_gguf(&file).map_err(|error| in_file(path, error))?;
    Ok(language(config, &weights))
}

fn language(config: DecoderConfig, weights: &Weights) -> Contents {
    let name = config.dimensions("language model").family;
    Contents::new(name, Kind::Language(Box::new(config)), weights, &LANGUAGE)
}

fn vlm(
    config: VlmConfig,
    vision: Option<VisionConfig>,
    weights: &Weights,
    path: &Path,
) -> Result<Contents, Failure> {
    let version = match config.layout {
        foveate_model::vlm::ImageLayout::Single => "LLaVA-1.5",
        foveate_model::vlm::ImageLayout::Tiles { .. } => "LLaVA-NeXT",
    };
    let tower = vision.as_ref().map_or("a tower that is not here", tower_name);
    let language = config.text.dimensions("language model").family;
    let image = vision.map(|vision| VisualCost::described(&config, &vision, weights)).transpose();
    let image = image.map_err(|error| in_config(path, error))?.map(Box::new);
    let made_by = image.as_ref().map(|image| image.compressor().method());
    let compressor = made_by.filter(|method| *method != Method::Identity);
    let compressor = compressor.map_or_else(String::new, |method| format!(", {method}"));
    let name = format!("{version} ({tower}{compressor}, {language})");
    Ok(Contents::new(name, Kind::Vlm { config: Box::new(config), image }, weights, &VLM_PARTS))
}

fn tower_name(config: &VisionConfig) -> &'static str {
    match config {
        VisionConfig::Clip(_) => "CLIP",
        VisionConfig::Siglip(_) => "SigLIP",
        VisionConfig::Dinov2(_) => "DINOv2",
        _ => "vision tower",
    }
}

/// As `foveate plan --dtype` writes it.
fn dtype(format: Quantisation) -> String {
    format!("{format:?}").to_ascii_lowercase()
}
