//! What can be wrong with a call: every variant carries the offending number and what was expected.

use crate::{Format, Path};

/// An error of this crate. Nothing here is raised by the numbers in a matrix, only by sizes and by options that do not
/// fit each other: NaN and infinities travel through the products as they do in f32 arithmetic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice has another length than its shape says.
    #[error("{what}: {found} numbers where {shape} needs {expected}")]
    Length {
        /// The argument.
        what: &'static str,
        /// Its shape in words, with the values.
        shape: String,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A size that a format or a path cannot hold.
    #[error("{what} is {found}, allowed: {allowed}")]
    Size {
        /// The size.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The values that are allowed.
        allowed: &'static str,
    },
    /// An index past the end.
    #[error("{what} is {found}, allowed: less than {length}")]
    Index {
        /// What is counted.
        what: &'static str,
        /// The index.
        found: usize,
        /// How many there are.
        length: usize,
    },
    /// The source of the weights cannot be packed into the format.
    #[error("weights given as {source_kind} cannot be packed as {format}")]
    Source {
        /// What the weights were given as.
        source_kind: &'static str,
        /// The format asked for.
        format: Format,
    },
    /// A path that this machine does not have.
    #[error("this processor has no {path}; it has {available}")]
    Unavailable {
        /// The path asked for.
        path: Path,
        /// Those there are.
        available: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// `found` must be `expected`, the length that `shape` describes.
pub(crate) fn check_length(
    what: &'static str,
    found: usize,
    expected: usize,
    shape: impl FnOnce() -> String,
) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Error::Length { what, shape: shape(), expected, found }) }
}
