//! What can go wrong between a recipe and a model.

use std::path::{Path, PathBuf};

use foveate_compress::CompressError;
use foveate_data::TooManyBroken;
use foveate_data::dataset::DatasetError;
use foveate_data::image::PreprocessError;
use foveate_data::prompt::PromptError;
use foveate_model::{ModelError, WeightsError};

/// An error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The recipe is not TOML, or a field is unknown, missing or of another kind.
    #[error("{file}: {reason}")]
    Syntax {
        /// The recipe's file.
        file: String,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A field of the recipe has a value that nothing can be trained with.
    #[error("recipe: `{field}` is {found}, allowed is {allowed}")]
    Field {
        /// The dotted path.
        field: String,
        /// The value found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// An override that is not `key=value`, or whose key the recipe does not have.
    #[error("override `{text}`: {reason}")]
    Override {
        /// As it was given.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A part of the model that the recipe names cannot be had.
    #[error("part `{part}` from `{word}`: {reason}")]
    Part {
        /// Its field in the recipe.
        part: &'static str,
        /// Where it was looked for.
        word: String,
        /// What went wrong.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// From the operating system.
        error: std::io::Error,
    },
    /// A checkpoint that cannot be used.
    #[error("{}: {reason}", .path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },
    /// A sample that cannot become a part of a batch.
    #[error("sample {name}: {reason}")]
    Sample {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The loss ran away and did not come back.
    #[error(
        "step {step}: {count} steps in a row were skipped, because their loss or gradient was not usable (the last: \
         {reason}); lower the learning rate or raise `spikes.in_a_row`"
    )]
    Diverged {
        /// The last of them.
        step: u64,
        /// How many.
        count: u64,
        /// What was wrong with the last.
        reason: String,
    },
    /// The thread that prepares data panicked.
    #[error("the data thread ended before the run: {0}")]
    DataThread(String),
    /// The tokenizer failed.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A trainable tensor that gets no gradient, or one that is not finite.
    #[error("{} trainable tensors have no usable gradient: {}", .tensors.len(), .tensors.join(", "))]
    Gradients {
        /// Their names, with what is wrong.
        tensors: Vec<String>,
    },
    /// Of the model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Of a checkpoint's tensors.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// Of a compressor.
    #[error(transparent)]
    Compress(Box<CompressError>),
    /// Of a tensor operation.
    #[error(transparent)]
    Tensor(Box<candle_core::Error>),
    /// Of a dataset that cannot be opened.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Of a dataset in which too much is broken.
    #[error(transparent)]
    Broken(Box<TooManyBroken>),
    /// Of a chat template.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// Of an image's preparation.
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, TrainError>;

impl TrainError {
    pub(crate) fn field(
        field: impl Into<String>,
        found: impl ToString,
        allowed: impl Into<String>,
    ) -> TrainError {
        TrainError::Field { field: field.into(), found: found.to_string(), allowed: allowed.into() }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.to_owned();
        move |error| TrainError::Io { path, error }
    }

    pub(crate) fn checkpoint(path: &Path, reason: impl ToString) -> TrainError {
        TrainError::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
    }

    /// Whether the user's recipe, files or disk are at fault, rather than the program.
    pub fn is_users(&self) -> bool {
        !matches!(
            self,
            TrainError::Tensor(_)
                | TrainError::Model(ModelError::Tensor(_))
                | TrainError::Diverged { .. }
                | TrainError::Gradients { .. }
                | TrainError::DataThread(_)
        )
    }
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> TrainError {
        TrainError::Tensor(Box::new(error))
    }
}

impl From<CompressError> for TrainError {
    fn from(error: CompressError) -> TrainError {
        TrainError::Compress(Box::new(error))
    }
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> TrainError {
        TrainError::Weights(Box::new(error))
    }
}

impl From<TooManyBroken> for TrainError {
    fn from(error: TooManyBroken) -> TrainError {
        TrainError::Broken(Box::new(error))
    }
}
