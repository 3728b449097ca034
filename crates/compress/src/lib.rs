//! Visual token compressors: the g² patch tokens of a vision tower become V tokens for a language model.
//!
//! Every method stands behind one trait, [`Compressor`], whose vocabulary is a small file of its own: what a method
//! needs from the tower ([`Needs`]), which numbers of tokens it offers ([`Ladder`]), where it stands relative to the
//! projector ([`Placement`]), what it costs. A caller asks for the needs, fills [`Features`] with them, and compresses:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use foveate_compress::{AveragePooling, Budget, Compressor, Features, Grid};
//!
//! let patches = Tensor::arange(0_f32, 16.0, &Device::Cpu)?.reshape((1, 16, 1))?;
//! let pooling = AveragePooling::default();
//! let features = Features::new(Grid::square(4)).with_state(pooling.needs().states[0], patches)?;
//! let four = pooling.compress(&features, Budget::Tokens(4))?.tokens; // [1, 4, 1]
//! assert_eq!(four.flatten_all()?.to_vec1::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
//!
//! let refused = pooling.compress(&features, Budget::Tokens(5)).unwrap_err().to_string();
//! assert!(refused.contains("offers 16, 4, 1"), "{refused}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | method | question | trained | paper |
//! |---|---|---|---|
//! | [`QueCC`] | yes | yes | arXiv 2411.03312 |
//! | [`TokenPacker`] | no | yes | arXiv 2407.02392 |
//! | [`Mqt`] | no | yes | arXiv 2405.19315 |
//! | [`M3`] | no | no weights of its own | arXiv 2405.17430 |
//! | [`PruMerge`], [`PruMergePlus`] | no | no | arXiv 2403.15388 |
//! | [`VisionZip`] | no | no | arXiv 2412.04467 |
//! | [`AveragePooling`], [`Identity`] | no | no | – |
//!
//! The crate knows neither towers nor checkpoints: parameters come through [`ParameterSource`], which any closure
//! `(shape, name) -> tensor` is ([`Stored`]), or start from a seed ([`Fresh`]). All layers pass gradients.

mod average_pooling;
mod bicubic;
mod config;
mod depth;
mod error;
mod features;
mod grid;
mod identity;
mod ladder;
mod m3;
mod method;
mod mqt;
mod nn;
mod parameters;
mod prumerge;
mod quecc;
mod selection;
mod token_packer;
mod visionzip;
mod vocabulary;
mod windows;

pub use average_pooling::AveragePooling;
pub use config::{CompressorConfig, State};
pub use depth::{BlockDepth, StateDepth};
pub use error::{CompressError, Result};
pub use features::{BlockAttention, Features};
#[cfg(feature = "count")]
pub use foveate_nn::count;
pub use grid::Grid;
pub use identity::Identity;
pub use ladder::{Budget, Ladder};
pub use m3::M3;
pub use method::Method;
pub use mqt::{Mqt, MqtConfig};
pub use parameters::{Fresh, ParameterSource, Parameters, Start, Stored};
pub use prumerge::{PruMerge, PruMergePlus};
pub use quecc::{Filters, QueCC, QueCCConfig};
pub use token_packer::{TokenPacker, TokenPackerConfig};
pub use visionzip::{Contextual, VisionZip};
pub use vocabulary::{Compressed, Compressor, Dimensions, Needs, Placement};
