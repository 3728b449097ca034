//! What is measured: a checkpoint, or a shape with made-up weights.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use foveate_compress::{Budget, CompressorConfig, Filters, Method, QueCCConfig};
use foveate_law::cost::{Catalogue, ImageSize, Stage, Workload};
use foveate_model::Dtype;
use foveate_model::llm::{Decoder, DecoderConfig};
use foveate_model::vision::{VisionConfig, VisionTower};
use foveate_model::vlm::{Caches, CarriedCompressor, Image, Viewer, Vlm, VlmConfig};
use foveate_model::weights::Weights;

use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::model::{Family, Place, is_embedded, is_gguf, read_config};

/// What a shape starts with on the command line.
pub(super) const SHAPE: &str = "shape:";

/// The parts of a model that are there.
pub(super) struct Subject {
    pub(super) tower: Option<VisionTower>,
    pub(super) decoder: Option<Arc<Decoder>>,
    pub(super) viewer: Option<Viewer>,
}

impl Subject {
    /// Opens `spec`: `shape:TOWER`, `shape:LLM` or `shape:TOWER+LLM` with names of the catalogue, or what `foveate ask`
    /// opens, or a vision tower alone. `compressor` replaces the model's own.
    pub(super) fn open(
        spec: &str,
        dtype: Dtype,
        compressor: Option<Method>,
        fetch: &Fetch,
    ) -> Result<Self, Failure> {
        if let Some(shape) = spec.strip_prefix(SHAPE) {
            return Self::of_shape(shape, dtype, compressor);
        }
        if !is_embedded(spec) {
            let path = fetch.path(spec)?;
            if is_tower(&path)? {
                let tower = VisionTower::open(&path, dtype)?;
                return Ok(Self { tower: Some(tower), decoder: None, viewer: None });
            }
        }
        let place = Place {
            model: spec.to_owned(),
            mmproj: None,
            tower: None,
            language: None,
            dtype,
            fetch: fetch.clone(),
        };
        let mut model = place.open()?;
        if let (Some(method), Some(_)) = (compressor, model.viewer()) {
            model.use_compressor(method)?;
        }
        let viewer = model.viewer().map(|viewer| without_caches(viewer.vlm().clone()));
        let tower = viewer.as_ref().map(|viewer| viewer.vlm().tower().clone());
        Ok(Self { tower, decoder: Some(model.decoder.clone()), viewer })
    }

    fn of_shape(shape: &str, dtype: Dtype, compressor: Option<Method>) -> Result<Self, Failure> {
        let catalogue = Catalogue::builtin();
        let weights = Weights::random(0).packed(dtype);
        match shape.split_once('+') {
            Some((tower, llm)) => {
                let vision = VisionConfig::of_dimensions(catalogue.tower(tower)?)?;
                let text = DecoderConfig::of_dimensions(catalogue.llm(llm)?)?;
                let vlm = joined(vision, text, compressor.unwrap_or(Method::QueCC), &weights)?;
                let (tower, decoder) = (vlm.tower().clone(), vlm.decoder().clone());
                Ok(Self { tower: Some(tower), decoder: Some(decoder), viewer: Some(without_caches(vlm)) })
            }
            None => match catalogue.tower(shape) {
                Ok(tower) => {
                    let tower = VisionTower::load(VisionConfig::of_dimensions(tower)?, &weights)?;
                    Ok(Self { tower: Some(tower), decoder: None, viewer: None })
                }
                Err(_) => {
                    let config = DecoderConfig::of_dimensions(catalogue.llm(shape)?)?;
                    let decoder = Arc::new(Decoder::load(config, &weights)?);
                    Ok(Self { tower: None, decoder: Some(decoder), viewer: None })
                }
            },
        }
    }

    /// One image of the tower's size: a slope over each channel, since the values do not change the work.
    pub(super) fn image(&self) -> Result<Option<Image>, Failure> {
        let Some(tower) = &self.tower else { return Ok(None) };
        let ImageSize { height, width } = tower.config().image_size();
        let numbers: Vec<f32> =
            (0..3 * height * width).map(|i| (i % (width + 7)) as f32 / width as f32 - 0.5).collect();
        let pixels =
            Tensor::from_vec(numbers, (3, height, width), &Device::Cpu).map_err(Failure::calculation)?;
        Ok(Some(Image::Single(pixels)))
    }

    /// FLOPs of the blocks up to the state that LLaVA reads.
    pub(super) fn tower_flops(&self) -> Option<f64> {
        let dimensions = self.tower.as_ref()?.config().dimensions("tower");
        Some(dimensions.flops(dimensions.feature_blocks()))
    }

    /// FLOPs to read a prompt of `positions` and score the last.
    pub(super) fn prefill_flops(&self, positions: usize) -> Option<f64> {
        let dimensions = self.decoder.as_ref()?.config().dimensions("language model");
        let stages =
            dimensions.stages(&Workload::new(positions, 1), 0, foveate_law::cost::Dtype::F32).ok()?;
        Some(stages.iter().filter(|stage| stage.stage == Stage::Prefill).map(|stage| stage.flops).sum())
    }

    /// The budgets that the model offers, largest first; none without sight.
    pub(super) fn ladder(&self) -> Vec<Budget> {
        self.viewer.as_ref().map_or_else(Vec::new, |viewer| crate::looking::rungs(&viewer.vlm().ladder()))
    }
}

/// A LLaVA of these parts.
fn joined(
    vision: VisionConfig,
    text: DecoderConfig,
    method: Method,
    weights: &Weights,
) -> Result<Vlm, Failure> {
    let compressor = match method {
        Method::QueCC => {
            let sides = vision.grid().window_sides();
            Some(CarriedCompressor::Configured(CompressorConfig::QueCC(QueCCConfig {
                filters: Filters::Elastic(sides),
                ..QueCCConfig::single(vision.width(), text.width, 1)
            })))
        }
        _ => None,
    };
    let config = VlmConfig { compressor, ..VlmConfig::plain(vision, text) };
    let vlm = Vlm::load(config, weights)?;
    Ok(if method == Method::QueCC { vlm } else { vlm.with_compressor(method)? })
}

/// A viewer that does everything each time.
fn without_caches(vlm: Vlm) -> Viewer {
    Viewer::new(vlm, Arc::new(Caches::new(0, 0, 0)))
}

/// Whether a path holds a vision tower alone.
fn is_tower(path: &Path) -> Result<bool, Failure> {
    if path.is_dir() {
        return Ok(Family::of(&read_config(path)?, path)? == Family::Tower);
    }
    Ok(!is_gguf(path) && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")))
}
