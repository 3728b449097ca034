//! What can go wrong between a checkpoint and an answer.

use crate::weights::WeightsError;

/// An error of a model: its weights, its configuration, or a tensor operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A checkpoint could not be read, or a tensor in it is missing or has another shape.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A field of a configuration has a value that the model cannot be built with.
    #[error("configuration field `{field}` is {value}: {expected}")]
    Config {
        /// The field's name in the checkpoint's configuration.
        field: &'static str,
        /// The value found.
        value: String,
        /// What is allowed.
        expected: String,
    },
}
