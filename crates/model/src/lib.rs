//! Vision towers, language models and the vision-language models that join them, run from published checkpoints.

pub mod error;
pub mod weights;

pub use error::ModelError;
pub use weights::{Weights, WeightsError};
