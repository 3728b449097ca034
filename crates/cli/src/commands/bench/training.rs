//! A training step as `bench/peers/engines/train_step.py` takes it: a QueCC and a projector learn between a frozen tower
//! and a frozen language model, on one fixed batch of made-up pixels and tokens.
//!
//! The step is that of `foveate train`: its gradients, its optimiser, its cache of features.

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foveate_compress::{CompressorConfig, Filters, QueCCConfig, StateDepth};
use foveate_kernels::process;
use foveate_law::cost::Catalogue;
use foveate_model::llm::DecoderConfig;
use foveate_model::vision::{Dinov2Config, HiddenState, VisionConfig};
use foveate_model::vlm::{CarriedCompressor, Vlm, VlmConfig};
use foveate_model::{Dtype, Weights};
use foveate_train::encode::{Example, Slot};
use foveate_train::features::FeatureCache;
use foveate_train::feed;
use foveate_train::optimiser::{AdamW, Update};
use foveate_train::recipe::Group;
use foveate_train::student::{Network, Part, Trained};
use foveate_train::trainer::{self, Kept};

use super::subject::SHAPE;
use crate::failure::Failure;

/// Tokens at the end of a text that are learnt.
const ANSWER: usize = 8;
const TRAINED: [Group; 2] = [Group::Compressor, Group::Projector];
/// PyTorch's AdamW at a learning rate of 1e-3, without decay or clipping.
const UPDATE: Update = Update { rate: 1e-3, decay: 0.0, betas: (0.9, 0.999), epsilon: 1e-8, scale: 1.0 };

/// What a step works on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Task {
    /// `shape:TOWER+LLM`.
    pub(super) model: String,
    pub(super) dtype: Dtype,
    pub(super) batch: usize,
    /// Parts of the batch that run at the same time.
    pub(super) accumulation: usize,
    pub(super) image_size: usize,
    /// Whether the tower's features come from the disk.
    pub(super) cached_features: bool,
    pub(super) visual_tokens: usize,
    pub(super) text_tokens: usize,
}

/// A model in training on one batch.
pub(super) struct Training {
    network: Network,
    vlm: Vlm,
    /// With the folder that it lies in.
    cache: Option<(FeatureCache, tempfile::TempDir)>,
    parts: Vec<feed::Part>,
    visual: Vec<usize>,
    optimiser: AdamW,
}

impl Training {
    pub(super) fn new(task: &Task) -> Result<Self, Failure> {
        // As `foveate train` does.
        process::keep_freed_memory();
        let (vision, text) = shapes(&task.model, task.image_size)?;
        let sized = |field: &str, found: usize, allowed: &str| {
            Failure::user(format!("{field} is {found}, allowed is {allowed}"))
        };
        let divides = task.accumulation > 0 && task.batch > 0 && task.batch.is_multiple_of(task.accumulation);
        if !divides {
            return Err(sized("accumulation", task.accumulation, "a divisor of the batch"));
        }
        if task.text_tokens <= ANSWER {
            return Err(sized("text_tokens", task.text_tokens, "more than the 8 of the answer"));
        }
        let side = vision.grid().rows;
        let fits =
            |window: &usize| (side / window).pow(2) == task.visual_tokens && side.is_multiple_of(*window);
        let Some(window) = (1..=side).find(fits) else {
            let allowed = format!("(a divisor of the grid's side of {side})²");
            return Err(sized("visual_tokens", task.visual_tokens, &allowed));
        };
        let last = vision.blocks().saturating_sub(1);
        let compressor = CompressorConfig::QueCC(QueCCConfig {
            filters: Filters::Single(window),
            states: StateDepth::MULTI_LEVEL.to_vec(),
            query_state: StateDepth::Index(last),
            ..QueCCConfig::single(vision.width(), text.width, window)
        });
        let config = VlmConfig {
            compressor: Some(CarriedCompressor::Configured(compressor.clone())),
            feature_states: vec![HiddenState::new(last)],
            ..VlmConfig::plain(vision, text)
        };
        let part = |seed| Part {
            weights: Weights::random(seed),
            shapes: Vec::new(),
            origin: None,
            dtype: task.dtype,
        };
        let trained = Trained { groups: &TRAINED, lora: None, seed: 0 };
        let vocabulary = config.text.vocabulary;
        let network = Network::new(config, &compressor, part(1), part(2), trained)?;
        let vlm = network.vlm(&TRAINED)?;
        let cache = if task.cached_features {
            let folder = tempfile::tempdir().map_err(|error| Failure::Other(error.into()))?;
            Some((FeatureCache::open(folder.path(), u64::MAX / 2, &network, &vlm)?, folder))
        } else {
            None
        };
        let each = task.batch / task.accumulation;
        let parts = (0..task.accumulation)
            .map(|part| {
                Ok(feed::Part {
                    pixels: Some(pixels(part, each, task.image_size)?),
                    examples: (0..each)
                        .map(|at| example(part * each + at, at, task.text_tokens, vocabulary))
                        .collect(),
                    patches: Vec::new(),
                    words: false,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let visual = vec![task.visual_tokens; task.accumulation];
        Ok(Self { network, vlm, cache, parts, visual, optimiser: AdamW::default() })
    }

    /// Takes a step.
    pub(super) fn step(&mut self) -> Result<Duration, Failure> {
        let started = Instant::now();
        let kept = Kept { features: self.cache.as_ref().map(|(cache, _)| cache), questions: None };
        let (parameters, parts) = (self.network.parameters(), &self.parts);
        let computed = trainer::gradients(&self.vlm, parameters, kept, parts, &self.visual, parts.len())?;
        trainer::update(&mut self.optimiser, parameters, &computed.gradients, |_| Some(UPDATE))?;
        Ok(started.elapsed())
    }
}

/// The tower for images of `image_size` pixels, and the language model.
fn shapes(model: &str, image_size: usize) -> Result<(VisionConfig, DecoderConfig), Failure> {
    let names = model.strip_prefix(SHAPE).and_then(|shape| shape.split_once('+'));
    let Some((tower, llm)) = names else {
        return Err(Failure::user(format!("{model}: a training step is taken on shape:TOWER+LLM")));
    };
    let catalogue = Catalogue::builtin();
    let dimensions = catalogue.tower(tower)?;
    let mut vision = VisionConfig::of_dimensions(dimensions)?;
    if dimensions.name.starts_with("dinov2") {
        vision = VisionConfig::Dinov2(Dinov2Config {
            hidden_size: dimensions.hidden,
            mlp_ratio: dimensions.intermediate / dimensions.hidden.max(1),
            num_hidden_layers: dimensions.layers,
            num_attention_heads: dimensions.heads,
            patch_size: dimensions.patch,
            ..Dinov2Config::default()
        });
    }
    let patch = vision.patch_size();
    if image_size == 0 || !image_size.is_multiple_of(patch) {
        let allowed = format!("a multiple of the tower's patch of {patch} pixels");
        return Err(Failure::user(format!("image_size is {image_size}, allowed is {allowed}")));
    }
    match &mut vision {
        VisionConfig::Clip(config) => config.image_size = image_size.into(),
        VisionConfig::Siglip(config) => config.image_size = image_size.into(),
        VisionConfig::Dinov2(config) => config.image_size = image_size.into(),
        _ => return Err(Failure::user(format!("{tower}: images of one size alone"))),
    }
    Ok((vision, DecoderConfig::of_dimensions(catalogue.llm(llm)?)?))
}

/// Pictures that differ: `[count, 3, side, side]`.
fn pixels(part: usize, count: usize, side: usize) -> Result<Tensor, Failure> {
    let values: Vec<f32> =
        (0..count * 3 * side * side).map(|at| ((at * (part + 2)) as f32 * 0.618).sin()).collect();
    Tensor::from_vec(values, (count, 3, side, side), &Device::Cpu).map_err(Failure::calculation)
}

/// An image, a question and its answer; `nth` of the batch, `picture` of its part.
fn example(nth: usize, picture: usize, text_tokens: usize, vocabulary: usize) -> Example {
    let token = |at: usize| ((nth * 1009 + at * 7919 + 1000) % vocabulary) as u32;
    let asked = text_tokens - ANSWER;
    let question: Vec<u32> = (0..asked).map(token).collect();
    let given = question.iter().map(|id| Slot::Given(*id));
    let answer = (asked..text_tokens).map(|at| Slot::Answer(token(at)));
    let slots = std::iter::once(Slot::Image).chain(given).chain(answer).collect();
    Example { picture: Some(picture), question, slots }
}
