//! Vision towers, language models and the vision-language models that join them, run from published checkpoints.

pub mod atomic;
pub mod cache;
mod checkpoint;
mod dimensions;
mod dtype;
pub mod error;
pub mod generate;
pub mod llm;
pub mod nn;
pub mod threads;
pub mod vision;
pub mod vlm;
pub mod weights;

pub use dtype::Dtype;
pub use error::{ModelError, Result};
#[cfg(feature = "count")]
pub use foveate_nn::count;
pub use weights::{Weights, WeightsError};
