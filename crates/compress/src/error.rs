//! What can go wrong between a tower's features and the visual tokens.

use crate::{BlockDepth, Budget, Grid, Ladder, Method, StateDepth};

/// The crate's result.
pub type Result<T> = std::result::Result<T, CompressError>;

/// An error of a compressor: what was asked of it, what it was given, or its parameters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// A number of visual tokens that the method does not offer on this grid.
    #[error("{method} cannot give {budget} visual tokens on a grid of {grid}: it offers {ladder}")]
    OffLadder {
        /// The method.
        method: Method,
        /// What was asked for.
        budget: Budget,
        /// The patch grid.
        grid: Grid,
        /// What is on offer.
        ladder: Ladder,
    },
    /// A window that does not divide the grid.
    #[error(
        "windows of {window} × {window} patches do not divide a grid of {grid}: possible sides are {allowed:?}"
    )]
    Window {
        /// The side of the window.
        window: usize,
        /// The patch grid.
        grid: Grid,
        /// Sides that divide both rows and columns.
        allowed: Vec<usize>,
    },
    /// A grid without patches, or one with other sides than the method can read.
    #[error("a grid of {grid} does not suit {what}: {expected}")]
    Grid {
        /// The patch grid.
        grid: Grid,
        /// What should have read it.
        what: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A hidden state that the method reads is not among the features.
    #[error("{method} reads hidden {depth}, which the features lack: they hold {present:?}")]
    MissingState {
        /// The method.
        method: Method,
        /// The state that is missing.
        depth: StateDepth,
        /// The states that are there.
        present: Vec<String>,
    },
    /// The method reads the question, and the features hold none.
    #[error("{0} reads the question: give its vector with `Features::with_question`")]
    MissingQuestion(Method),
    /// No method has this name.
    #[error("there is no compressor `{name}`: known are {known}")]
    UnknownMethod {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// A method that only a checkpoint with its weights can use.
    #[error("{0} has weights of its own: only a checkpoint that was trained with it carries them")]
    NeedsWeights(Method),
    /// The method reads the tower's class token, and the features hold none.
    #[error(
        "{0} reads the tower's class token: give it with `Features::with_class_token`; towers without one cannot serve"
    )]
    MissingClassToken(Method),
    /// The method reads queries and keys of a block that the features do not hold.
    #[error("{method} reads queries and keys of {block}; the features hold {present}")]
    MissingAttention {
        /// The method.
        method: Method,
        /// The block whose attention inputs are missing.
        block: BlockDepth,
        /// What is there.
        present: String,
    },
    /// A tensor among the features has a shape that does not fit the rest.
    #[error("{what}: expected {expected:?}, found {found:?}")]
    Shape {
        /// What the tensor is.
        what: String,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// Features of another width than the compressor's weights were made for.
    #[error("{method} has weights for {what} of width {expected}, the features have {found}")]
    Width {
        /// The method.
        method: Method,
        /// What is too wide or too narrow.
        what: &'static str,
        /// The width of the weights.
        expected: usize,
        /// The width found.
        found: usize,
    },
    /// A stored parameter has another shape than the configuration says: weights for another width, window or head.
    #[error("parameter `{name}` has shape {found:?}, the configuration needs {expected:?}")]
    ParameterShape {
        /// The parameter's name in the checkpoint.
        name: String,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A parameter could not be had from its source.
    #[error("parameter `{name}`: {source}")]
    Parameter {
        /// The parameter's name in the checkpoint.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A field of a configuration has a value that no compressor can be built with.
    #[error("compressor field `{field}` is {value}: {expected}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value found.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// Adaptive budgets give each image its own number of tokens.
    #[error(
        "an adaptive budget gives each image its own number of tokens: {images} images need `compress_rows`, not `compress`"
    )]
    AdaptiveBatch {
        /// Images in the batch.
        images: usize,
    },
    /// One budget a row is needed.
    #[error("{budgets} budgets for {images} images: give one for each")]
    BudgetCount {
        /// Budgets given.
        budgets: usize,
        /// Images in the batch.
        images: usize,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(Box<candle_core::Error>),
}

impl From<candle_core::Error> for CompressError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(Box::new(error))
    }
}

impl CompressError {
    pub(crate) fn config(
        field: &'static str,
        value: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Config { field, value: value.to_string(), expected: expected.into() }
    }

    pub(crate) fn shape(what: impl Into<String>, expected: &[usize], found: &[usize]) -> Self {
        Self::Shape { what: what.into(), expected: expected.to_vec(), found: found.to_vec() }
    }
}
