//! Errors of reading checkpoints. Each names the file and the field or tensor, what was found and what is allowed.

use std::path::PathBuf;

use candle_core::Shape;

/// A checkpoint that cannot be read, or a tensor that is not what the model needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system refused the file.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The path is not a checkpoint of a kind that is read here.
    #[error("{}: not a checkpoint: {reason}", path.display())]
    NotACheckpoint {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for, and what was found.
        reason: String,
    },
    /// The file breaks the rules of its format.
    #[error("{file}: {field}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The field, in the format's own words.
        field: String,
        /// The value found and what is allowed.
        reason: String,
    },
    /// The file is sound but holds something that is not supported here.
    #[error("{file}: {field}: {value} is not supported; supported: {supported}")]
    Unsupported {
        /// The file.
        file: String,
        /// The field or tensor.
        field: String,
        /// The value found.
        value: String,
        /// What is supported.
        supported: String,
    },
    /// No tensor has the name.
    #[error(
        "{file}: no tensor `{name}`{}{}",
        expected.as_ref().map(|expected| format!(" of shape {expected:?}")).unwrap_or_default(),
        nearest.as_ref().map(|nearest| format!("; the nearest name is `{nearest}`")).unwrap_or_default()
    )]
    Missing {
        /// The file or folder searched.
        file: String,
        /// The full name that was asked for.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
        /// The shape that was asked for, where one was.
        expected: Option<Shape>,
    },
    /// A tensor has another shape than the model needs.
    #[error("{file}: tensor `{name}` has shape {found:?}, expected {expected:?}")]
    WrongShape {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's full name.
        name: String,
        /// The shape in the file.
        found: Shape,
        /// The shape asked for.
        expected: Shape,
    },
    /// A tensor could not be converted or moved.
    #[error("{file}: tensor `{name}`: {source}")]
    Tensor {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's name.
        name: String,
        /// The tensor library's reason.
        source: Box<candle_core::Error>,
    },
}

impl WeightsError {
    /// [`WeightsError::Tensor`], ready for `map_err`.
    pub(crate) fn tensor(file: impl Into<String>, name: &str) -> impl FnOnce(candle_core::Error) -> Self {
        let (file, name) = (file.into(), name.to_owned());
        |source| Self::Tensor { file, name, source: Box::new(source) }
    }

    /// [`WeightsError::Missing`] for a name that was looked for without a shape.
    pub(crate) fn missing(file: &str, name: &str) -> Self {
        Self::Missing { file: file.to_owned(), name: name.to_owned(), nearest: None, expected: None }
    }

    pub(crate) fn malformed(file: &str, field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { file: file.to_owned(), field: field.into(), reason: reason.into() }
    }
}
