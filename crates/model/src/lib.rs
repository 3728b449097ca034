//! Vision towers, language models and the vision-language models that join them, run from published checkpoints.

pub mod atomic;
pub mod cache;
mod checkpoint;
#[cfg(feature = "count")]
pub mod count;
#[cfg(not(feature = "count"))]
mod count;
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
pub use weights::{Weights, WeightsError};
