//! Why a conversion did not happen.

use std::path::PathBuf;

use super::Target;
use crate::weights::WeightsError;
use crate::weights::gguf::Quantisation;

/// A conversion that was refused or failed. Each names the file or tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The input cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file beside the weights cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Where it was to be.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The output cannot be where it was asked for.
    #[error("cannot write {}: {reason}", path.display())]
    Place {
        /// The output.
        path: PathBuf,
        /// What stands against it, and what is allowed.
        reason: String,
    },
    /// A weight is quantised already.
    #[error(
        "{file}: tensor `{tensor}` is stored as {format:?}: as {} it would be rounded twice; convert the original, or ask \
         for it by --requantise",
        target.name()
    )]
    Quantised {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's stored name.
        tensor: String,
        /// How it is stored.
        format: Quantisation,
        /// What it was to become.
        target: Target,
    },
    /// A weight has numbers that the target cannot hold.
    #[error("{file}: tensor `{tensor}` holds numbers that are not finite or too large for {}", target.name())]
    Unfit {
        /// The file that holds the tensor.
        file: String,
        /// The tensor's stored name.
        tensor: String,
        /// What it was to become.
        target: Target,
    },
    /// The target has no form in the kind of file.
    #[error("{}: {} is no type of GGUF; allowed for a GGUF file: bf16, q8_0", path.display(), target.name())]
    Target {
        /// The input.
        path: PathBuf,
        /// What was asked for.
        target: Target,
    },
    /// What was read back is not what was written.
    #[error("{}: read back with SHA-256 {found}, written with {expected}: the disk or its memory is not to be trusted", path.display())]
    Changed {
        /// Where the file was to be.
        path: PathBuf,
        /// The hash of what was written.
        expected: String,
        /// The hash of what was read.
        found: String,
    },
}

impl ConvertError {
    /// [`ConvertError::Write`], ready for `map_err`.
    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Write { path, source }
    }

    /// [`ConvertError::Read`], ready for `map_err`.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        |source| Self::Read { path, source }
    }
}
