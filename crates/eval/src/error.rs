//! What can go wrong between a task and a figure.

use std::path::{Path, PathBuf};

use foveate_data::dataset::DatasetError;
use foveate_data::{SampleError, TooManyBroken};

/// An error of evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A file that cannot be read or written.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// From the operating system.
        error: std::io::Error,
    },
    /// A file that is there, but not what it should be.
    #[error("{place}: {reason}")]
    Format {
        /// The file, and where in it.
        place: String,
        /// What was found, and what is expected.
        reason: String,
    },
    /// A file of a benchmark without a column that it needs.
    #[error("{place}: no column {}; it has {}", .wanted.join(" or "), if .have.is_empty() { "none".to_owned() } else { .have.join(", ") })]
    NoColumn {
        /// The file.
        place: String,
        /// Any of these.
        wanted: Vec<String>,
        /// What is there.
        have: Vec<String>,
    },
    /// A name that stands for nothing here.
    #[error("{what} {found:?} is unknown; known are {known}")]
    Unknown {
        /// Of what kind.
        what: &'static str,
        /// As it was given.
        found: String,
        /// The names that there are.
        known: String,
    },
    /// A field of a plan or of a task that nothing can be done with.
    #[error("{place}: `{field}` is {found}, allowed is {allowed}")]
    Field {
        /// The file.
        place: String,
        /// The dotted path.
        field: String,
        /// The value found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// A metric that has nothing to compare with.
    #[error("task {task}: {metric} cannot judge answers to {item}, of which {expected} is expected")]
    Metric {
        /// The task.
        task: String,
        /// The metric.
        metric: &'static str,
        /// The item.
        item: String,
        /// What its dataset gives.
        expected: String,
    },
    /// More questions failed than are tolerated.
    #[error("task {task}: {failed} of {asked} questions could not be asked; the first: {first}")]
    Failed {
        /// The task.
        task: String,
        /// Questions that failed.
        failed: usize,
        /// All questions.
        asked: usize,
        /// Why the first one did.
        first: String,
    },
    /// Of a dataset that cannot be opened.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// Of a dataset in which too much is broken.
    #[error(transparent)]
    Broken(Box<TooManyBroken>),
    /// Of one sample.
    #[error(transparent)]
    Sample(Box<SampleError>),
    /// Of a law.
    #[error(transparent)]
    Law(#[from] foveate_law::LawError),
    /// Of a figure.
    #[error(transparent)]
    Plot(#[from] foveate_law::plot::PlotError),
}

/// The result of everything here that can fail.
pub type Result<T> = std::result::Result<T, EvalError>;

impl EvalError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> EvalError {
        let path = path.to_owned();
        move |error| EvalError::Io { path, error }
    }

    pub(crate) fn format(place: impl ToString, reason: impl ToString) -> EvalError {
        EvalError::Format { place: place.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn field(
        place: impl ToString,
        field: impl ToString,
        found: impl ToString,
        allowed: impl ToString,
    ) -> EvalError {
        EvalError::Field {
            place: place.to_string(),
            field: field.to_string(),
            found: found.to_string(),
            allowed: allowed.to_string(),
        }
    }

    pub(crate) fn unknown<'a>(
        what: &'static str,
        found: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> EvalError {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        EvalError::Unknown { what, found: found.to_owned(), known }
    }
}

impl From<TooManyBroken> for EvalError {
    fn from(error: TooManyBroken) -> EvalError {
        EvalError::Broken(Box::new(error))
    }
}

impl From<SampleError> for EvalError {
    fn from(error: SampleError) -> EvalError {
        EvalError::Sample(Box::new(error))
    }
}
