//! The compressor that a checkpoint carries, by what its `config.json` says.
//!
//! | layout | how it is told | tensors |
//! |---|---|---|
//! | QueCC's code | `mm_vision_token_compression_type: "quecc"` and its `…_kernel_size` | `model.mm_projector.0`, projector at `.1`, `.3` |
//! | LLaVA-TokenPacker | `mm_projector_type: "tokenpacker"`, or `scale_factor` beside `mlp2x_gelu` | `model.mm_projector` |
//! | MQT-LLaVA | `query_abstractor_type: "matry_query"` | `model.query_abstractor` |
//! | M3 | `matryoshka_vis_token_scale`; published weights are plain LLaVA's | – |
//! | ours | `compressor`, see [`CompressorConfig`] | `compressor` |
//!
//! All are shown as `compressor.…`, see [`published_names`](super::published_names).

use std::sync::Arc;

use candle_core::Tensor;
use foveate_compress::{
    Compressor, CompressorConfig, Method, MqtConfig, ParameterSource, Parameters, QueCCConfig, StateDepth,
    Stored, TokenPackerConfig,
};
use serde_json::Value;

use super::VlmConfig;
use crate::vision::{VisionConfig, VisionTower};
use crate::weights::Weights;
use crate::{ModelError, Result};

/// What a configuration says about a compressor. The published layouts leave the widths to the rest of the model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum CarriedCompressor {
    /// Ours: everything is said.
    Configured(CompressorConfig),
    /// The layout of QueCC's own code.
    QueCC {
        /// The window's side.
        kernel: usize,
        /// The width of the question's vector, where it is said.
        text_width: Option<usize>,
        /// The patches that it was built for, where they are said.
        patches: Option<usize>,
    },
    /// The layout of LLaVA-TokenPacker.
    TokenPacker {
        /// The window's side s.
        scale: usize,
    },
    /// The layout of MQT-LLaVA.
    Mqt,
    /// Weights of plain LLaVA that were trained with nested pooling.
    M3,
}

/// The sizes of the model around a compressor.
#[derive(Clone, Copy, Debug)]
struct Around {
    /// The tower's width.
    width: usize,
    /// The width of the language model.
    text_width: usize,
    /// The tower's patches.
    patches: usize,
    /// The hidden state that the projector reads.
    state: StateDepth,
}

impl CarriedCompressor {
    /// Reads what a `config.json` says; `None` where it says nothing of a compressor.
    pub(super) fn read(value: &Value) -> Result<Option<Self>> {
        if let Some(own) = value.get("compressor").filter(|own| !own.is_null()) {
            let config = serde_json::from_value(own.clone());
            let config = config.map_err(|error| ModelError::json("config.json, `compressor`", &error))?;
            return Ok(Some(Self::Configured(config)));
        }
        if let Some(kind) = value.get("mm_vision_token_compression_type").filter(|kind| !kind.is_null()) {
            if kind != "quecc" {
                let expected = "only quecc is known";
                return Err(ModelError::config("mm_vision_token_compression_type", kind, expected));
            }
            const KERNEL: &str = "mm_vision_token_compression_kernel_size";
            // Its code falls back on windows of four.
            let kernel = size(value, KERNEL)?.unwrap_or(4);
            let stride = size(value, "mm_vision_token_compression_stride")?.unwrap_or(4);
            if stride != kernel {
                let expected = format!("must equal {KERNEL} = {kernel}: its windows do not overlap");
                return Err(ModelError::config("mm_vision_token_compression_stride", stride, expected));
            }
            let text_width = size(value, "mm_vision_output_text_embedding_size")?;
            let patches = size(value, "mm_vision_output_token_count")?;
            return Ok(Some(Self::QueCC { kernel, text_width, patches }));
        }
        if let Some(kind) = value.get("query_abstractor_type").filter(|kind| !kind.is_null()) {
            return match kind.as_str() {
                Some("matry_query") => Ok(Some(Self::Mqt)),
                _ => Err(ModelError::config("query_abstractor_type", kind, "only matry_query is known")),
            };
        }
        let projector = value.get("mm_projector_type").and_then(Value::as_str);
        if let Some(scale) = size(value, "scale_factor")? {
            return Ok(Some(Self::TokenPacker { scale }));
        }
        if projector == Some("tokenpacker") {
            // Its first code knew no other scale.
            return Ok(Some(Self::TokenPacker { scale: 2 }));
        }
        let nested = value.get("matryoshka_vis_token_scale").is_some_and(|scale| !scale.is_null());
        Ok(nested.then_some(Self::M3))
    }

    /// Whether the model has a stock projector besides.
    pub(super) fn leaves_projector(&self) -> bool {
        !matches!(
            self,
            Self::TokenPacker { .. }
                | Self::Mqt
                | Self::Configured(CompressorConfig::TokenPacker(_) | CompressorConfig::Mqt(_))
        )
    }

    /// The whole configuration, with sizes from the model and, where nobody says them, from the stored shapes.
    fn resolve(&self, around: &Around, weights: &Weights) -> Result<CompressorConfig> {
        let Around { width, text_width, patches, state } = *around;
        Ok(match self {
            Self::Configured(config) => config.clone(),
            Self::QueCC { kernel, text_width: stated, patches: built_for } => {
                if let Some(stated) = stated.filter(|stated| *stated != text_width) {
                    let field = "mm_vision_output_text_embedding_size";
                    let expected = format!("the language model's width is {text_width}");
                    return Err(ModelError::config(field, stated, expected));
                }
                if let Some(built_for) = built_for.filter(|built_for| *built_for != patches) {
                    let expected = format!("the tower gives {patches} patches");
                    return Err(ModelError::config("mm_vision_output_token_count", built_for, expected));
                }
                CompressorConfig::QueCC(QueCCConfig {
                    query_state: state,
                    ..QueCCConfig::single(width, text_width, *kernel)
                })
            }
            Self::TokenPacker { scale } => CompressorConfig::TokenPacker(TokenPackerConfig {
                query_state: state,
                ..TokenPackerConfig::published(width, text_width, *scale)
            }),
            Self::Mqt => {
                let published = MqtConfig { state, ..MqtConfig::published(width, text_width) };
                let stored = weights.shape("query").and_then(|shape| shape.dims().first().copied());
                let query_side = stored.map_or(published.query_side, usize::isqrt);
                CompressorConfig::Mqt(MqtConfig { query_side, ..published })
            }
            Self::M3 => CompressorConfig::without_weights(Method::M3, state)?,
        })
    }
}

/// The compressor that a checkpoint carries, with its weights; identity where it carries none.
pub(super) fn carried(
    config: &VlmConfig,
    tower: &VisionTower,
    weights: &Weights,
) -> Result<Arc<dyn Compressor>> {
    let stored = Stored::new(|shape: &[usize], name: &str| weights.get(shape, name));
    load_carried(config, &tower.config(), weights, &stored)
}

/// The same with tensors from `source`; `weights` tell shapes where the configuration does not.
pub(super) fn load_carried(
    config: &VlmConfig,
    tower: &VisionConfig,
    weights: &Weights,
    source: &dyn ParameterSource,
) -> Result<Arc<dyn Compressor>> {
    // The first TokenPacker finetunes say nothing of it; their code knew no scale but 2.
    let untold = weights.shape("q_proj_1.weight").map(|_| CarriedCompressor::TokenPacker { scale: 2 });
    let Some(said) = config.compressor.clone().or(untold) else {
        return without_weights(config, Method::Identity);
    };
    let around = Around {
        width: tower.width(),
        text_width: config.text.width,
        patches: tower.grid().patches(),
        state: feature_state(config),
    };
    let compressor = said.resolve(&around, weights)?;
    expect_widths(&compressor, &around)?;
    Ok(compressor.load(&Parameters::new(source, ""))?)
}

/// A compressor without weights on the hidden state that the projector reads.
pub(super) fn without_weights(config: &VlmConfig, method: Method) -> Result<Arc<dyn Compressor>> {
    let none = Stored::new(|_: &[usize], _: &str| Err::<Tensor, _>("a method without weights has none"));
    let compressor = CompressorConfig::without_weights(method, feature_state(config))?;
    Ok(compressor.load(&Parameters::new(&none, ""))?)
}

/// The hidden state that the projector reads, in the words of a compressor.
fn feature_state(config: &VlmConfig) -> StateDepth {
    match config.feature_states.first().map(|state| i64::from(*state)) {
        Some(index) if index >= 0 => StateDepth::Index(index as usize),
        Some(index) => StateDepth::FromEnd(index.unsigned_abs() as usize),
        None => StateDepth::LLAVA,
    }
}

/// Refuses a compressor that was configured for another tower or language model.
fn expect_widths(compressor: &CompressorConfig, around: &Around) -> Result<()> {
    let (width, text_width) = match compressor {
        CompressorConfig::QueCC(config) => (config.width, config.text_width),
        CompressorConfig::TokenPacker(config) => (config.width, config.output_width),
        CompressorConfig::Mqt(config) => (config.width, config.output_width),
        _ => return Ok(()),
    };
    if width != around.width {
        let expected = format!("the tower's width is {}", around.width);
        return Err(ModelError::config("compressor.width", width, expected));
    }
    if text_width != around.text_width {
        let expected = format!("the language model's width is {}", around.text_width);
        return Err(ModelError::config("compressor.text_width or .output_width", text_width, expected));
    }
    Ok(())
}

/// A field that is a size from 1 up.
fn size(value: &Value, field: &'static str) -> Result<Option<usize>> {
    let Some(found) = value.get(field).filter(|found| !found.is_null()) else { return Ok(None) };
    let size = found.as_u64().and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| ModelError::config(field, found, "must be a whole number from 1 up"))?;
    ModelError::check_size(field, size, crate::error::LARGEST_SIZE)?;
    Ok(Some(size))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_compress::Filters;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Option<CarriedCompressor> {
        CarriedCompressor::read(&value).unwrap()
    }

    #[test]
    fn the_published_ways_to_say_it() {
        assert_eq!(read(json!({"mm_projector_type": "mlp2x_gelu"})), None);
        assert_eq!(read(json!({"mm_vision_token_compression_type": null, "scale_factor": null})), None);
        // As the script that pretrains QueCC on Vicuna-7B sets them.
        let quecc = json!({"mm_vision_token_compression_type": "quecc", "mm_projector_type": "mlp2x_gelu",
            "mm_vision_output_text_embedding_size": 4096, "mm_vision_output_token_count": 576,
            "mm_vision_token_compression_kernel_size": 6, "mm_vision_token_compression_stride": 6});
        let expected = CarriedCompressor::QueCC { kernel: 6, text_width: Some(4096), patches: Some(576) };
        assert_eq!(read(quecc), Some(expected));
        // As LLaVA-TokenPacker's scripts do; the projector's type stays LLaVA's.
        let packer = json!({"mm_projector_type": "mlp2x_gelu", "scale_factor": 3});
        assert_eq!(read(packer), Some(CarriedCompressor::TokenPacker { scale: 3 }));
        let packer = json!({"mm_projector_type": "tokenpacker"});
        assert_eq!(read(packer), Some(CarriedCompressor::TokenPacker { scale: 2 }));
        let mqt = json!({"query_abstractor_type": "matry_query", "num_visual_tokens": "second_stage"});
        assert_eq!(read(mqt), Some(CarriedCompressor::Mqt));
        assert_eq!(read(json!({"matryoshka_vis_token_scale": 36})), Some(CarriedCompressor::M3));
        let own = json!({"compressor": {"method": "visionzip"}});
        let config = CompressorConfig::without_weights(Method::VisionZip, StateDepth::LLAVA).unwrap();
        assert_eq!(read(own), Some(CarriedCompressor::Configured(config)));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (value, says) in [
            (json!({"mm_vision_token_compression_type": "pool"}), "\"pool\": only quecc"),
            (
                json!({"mm_vision_token_compression_type": "quecc",
                    "mm_vision_token_compression_kernel_size": 6,
                    "mm_vision_token_compression_stride": 3}),
                "is 3: must equal mm_vision_token_compression_kernel_size = 6",
            ),
            (json!({"query_abstractor_type": "other"}), "only matry_query"),
            (json!({"scale_factor": 0}), "`scale_factor` is 0"),
            (json!({"scale_factor": "two"}), "whole number"),
            (json!({"compressor": {"method": "zip"}}), "`zip`"),
            (json!({"compressor": {"method": "mqt"}}), "width"),
        ] {
            let error = CarriedCompressor::read(&value).unwrap_err().to_string();
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn widths_come_from_the_model_and_must_not_contradict_it() {
        let around = Around { width: 64, text_width: 96, patches: 36, state: StateDepth::LLAVA };
        let weights = Weights::from_tensors(std::collections::HashMap::new());
        let resolve = |carried: CarriedCompressor| carried.resolve(&around, &weights);
        let quecc = |text_width, patches| CarriedCompressor::QueCC { kernel: 3, text_width, patches };
        let config = resolve(quecc(Some(96), Some(36))).unwrap();
        let CompressorConfig::QueCC(config) = config else { panic!("{config:?}") };
        assert_eq!((config.width, config.text_width, config.filters), (64, 96, Filters::Single(3)));
        let error = resolve(quecc(Some(4096), None)).unwrap_err().to_string();
        assert!(error.contains("4096") && error.contains("96"), "{error}");
        let error = resolve(quecc(None, Some(576))).unwrap_err().to_string();
        assert!(error.contains("576") && error.contains("36 patches"), "{error}");
    }
}
