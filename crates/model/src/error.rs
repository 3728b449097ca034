//! What can go wrong between a checkpoint and an answer.

use std::path::PathBuf;

use foveate_compress::{CompressError, Method};

use crate::weights::WeightsError;

/// The largest size that a configuration may state. Products of three stay far from overflow.
pub(crate) const LARGEST_SIZE: usize = 1 << 20;
/// The most blocks that a configuration may state.
pub(crate) const MOST_BLOCKS: usize = 4096;

/// An error of a model: its weights, its configuration, or a tensor operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A checkpoint could not be read, or a tensor in it is missing or has another shape.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(Box<candle_core::Error>),
    /// The kernels refused what they were given.
    #[error(transparent)]
    Kernels(foveate_kernels::Error),
    /// A compressor refused what was asked of it, what it was given, or its parameters.
    #[error(transparent)]
    Compress(Box<CompressError>),
    /// A compressor that does not go with the rest of the model.
    #[error("{method} cannot be used here: {reason}")]
    Compressor {
        /// The method.
        method: Method,
        /// What stands against it.
        reason: String,
    },
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
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Tensors in a checkpoint that the model has no place for.
    #[error(
        "the checkpoint has {} tensors that the model has no place for, such as {}",
        tensors.len(),
        tensors.first().map(|(name, shape)| format!("`{name}` of shape {shape:?}")).unwrap_or_default()
    )]
    Unused {
        /// Their names and stored shapes.
        tensors: Vec<(String, Vec<usize>)>,
    },
    /// More or fewer images than the prompt has places for.
    #[error("places for images in the prompt: {places}, images given: {images}")]
    ImageCount {
        /// Places in the prompt.
        places: usize,
        /// Images given.
        images: usize,
    },
    /// A configuration is not JSON of the expected form.
    #[error("{file} cannot be read: {reason}")]
    Json {
        /// The file, or the part of it.
        file: &'static str,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A tensor at hand has another shape than the operation needs.
    #[error("{what}: expected {expected:?}, found {found:?}")]
    Shape {
        /// What the tensor is.
        what: &'static str,
        /// The shape needed.
        expected: Vec<usize>,
        /// The shape found.
        found: Vec<usize>,
    },
    /// A hidden state, a block or another numbered thing that does not exist.
    #[error("there is no {what} {index}: allowed are 0..={}, or counted from the end -{count}..=-1", count - 1)]
    Index {
        /// What is numbered.
        what: &'static str,
        /// The number asked for.
        index: i64,
        /// How many there are.
        count: usize,
    },
    /// Pixels of a size that the vision tower cannot read.
    #[error("pixels have shape {found:?}: expected {expected}")]
    Pixels {
        /// The shape found.
        found: Vec<usize>,
        /// What is allowed.
        expected: String,
    },
    /// A token that the vocabulary does not have.
    #[error("there is no token {token}: the vocabulary has 0..={}", vocabulary - 1)]
    Token {
        /// The token.
        token: u32,
        /// The size of the vocabulary.
        vocabulary: usize,
    },
    /// More positions than the language model can tell apart.
    #[error("{needed} tokens do not fit into the context of {limit}")]
    Context {
        /// The positions needed.
        needed: usize,
        /// The positions available.
        limit: usize,
    },
    /// An option of the caller has a value outside its range.
    #[error("{option} is {value}: {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// The scores over the vocabulary cannot be chosen from.
    #[error("the score of token {token} is {score}: the model's output is not usable")]
    Scores {
        /// The first such token.
        token: usize,
        /// Its score.
        score: f32,
    },
    /// The tokenizer failed.
    #[error("the tokenizer cannot decode: {reason}")]
    Tokenizer {
        /// Its message.
        reason: String,
    },
    /// A batch without rows, or a row without tokens.
    #[error("the input has no tokens")]
    EmptyInput,
}

// Boxed: both are several times as large as everything else that a result here carries.
impl From<WeightsError> for ModelError {
    fn from(error: WeightsError) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> Self {
        Self::Tensor(Box::new(error))
    }
}

impl From<CompressError> for ModelError {
    fn from(error: CompressError) -> Self {
        Self::Compress(Box::new(error))
    }
}

impl ModelError {
    pub(crate) fn compressor(method: Method, reason: impl Into<String>) -> Self {
        Self::Compressor { method, reason: reason.into() }
    }

    pub(crate) fn config(field: &'static str, value: impl ToString, expected: impl Into<String>) -> Self {
        Self::Config { field, value: value.to_string(), expected: expected.into() }
    }

    /// Refuses a size of 0 or above `most`.
    pub(crate) fn check_size(field: &'static str, value: usize, most: usize) -> Result<()> {
        if (1..=most).contains(&value) {
            return Ok(());
        }
        Err(Self::config(field, value, format!("must be in 1..={most}")))
    }

    pub(crate) fn option(option: &'static str, value: impl ToString, expected: &'static str) -> Self {
        Self::Option { option, value: value.to_string(), expected }
    }

    pub(crate) fn json(file: &'static str, error: &serde_json::Error) -> Self {
        Self::Json { file, reason: error.to_string() }
    }

    pub(crate) fn shape(what: &'static str, expected: &[usize], found: &[usize]) -> Self {
        Self::Shape { what, expected: expected.to_vec(), found: found.to_vec() }
    }

    pub(crate) fn index(what: &'static str, index: i64, count: usize) -> Self {
        Self::Index { what, index, count }
    }
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, ModelError>;
