//! What can be wrong with an image file, and with what a processor is asked to make of it.

use super::decode::Format;
use super::{Filter, Size};

/// An image file that cannot be used: which file, and what about it.
#[derive(Debug, thiserror::Error)]
#[error("image {file}: {problem}")]
pub struct DecodeError {
    /// The path or name that the caller gave.
    pub file: String,
    /// What is wrong with it.
    #[source]
    pub problem: DecodeProblem,
}

/// What is wrong with an image file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeProblem {
    /// The operating system would not open or read it.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// More bytes than the caller allows.
    #[error("has {found} bytes, at most {allowed} are allowed")]
    TooManyBytes {
        /// Length of the file; for a stream whose length is unknown, the bytes read before giving up.
        found: u64,
        /// [`Limits::max_bytes`](super::Limits::max_bytes).
        allowed: u64,
    },
    /// None of the known signatures.
    #[error("starts with {found}, which is the signature of none of PNG, JPEG, WebP, GIF and BMP")]
    UnknownFormat {
        /// The first bytes in hexadecimal, or that there are none.
        found: String,
    },
    /// A side of zero or of more pixels than the caller allows.
    #[error("{field} in the header is {found}, allowed are 1 to {allowed}")]
    Side {
        /// `width` or `height`.
        field: &'static str,
        /// The value in the header.
        found: u32,
        /// [`Limits::max_side`](super::Limits::max_side).
        allowed: u32,
    },
    /// More pixels than the caller allows.
    #[error("the header declares {size} = {} pixels, at most {allowed} are allowed", .size.area())]
    TooManyPixels {
        /// Size in the header.
        size: Size,
        /// [`Limits::max_pixels`](super::Limits::max_pixels).
        allowed: u64,
    },
    /// The header does not follow the format.
    #[error("{format} header: {reason}")]
    Header {
        /// Format by signature.
        format: Format,
        /// The decoder's words.
        reason: String,
    },
    /// The pixels do not follow the format, or end too early.
    #[error("{format} pixels: {reason}")]
    Body {
        /// Format by signature.
        format: Format,
        /// The decoder's words.
        reason: String,
    },
}

/// A preprocessing step that cannot be carried out, or a configuration that describes none we know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreprocessError {
    /// The configuration file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// Path of the file.
        file: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The configuration is not JSON, or a field has another type than the processors give it.
    #[error("{file}: {source}")]
    Json {
        /// Path or name of the file.
        file: String,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A field holds a value that we cannot follow.
    #[error("{file}: `{field}` is {found}, allowed are {allowed}")]
    Field {
        /// Path or name of the file.
        file: String,
        /// Name of the field as it stands in the file.
        field: &'static str,
        /// The value in the file.
        found: String,
        /// What may stand there.
        allowed: String,
    },
    /// A padded or resized image would not fit into bounded memory.
    #[error("{step} makes {size} = {} pixels of an image of {original}, at most {allowed} are allowed", .size.area())]
    Intermediate {
        /// The step that would make it.
        step: &'static str,
        /// Its size.
        size: Size,
        /// Size of the image that was given.
        original: Size,
        /// [`MAX_INTERMEDIATE_PIXELS`](super::MAX_INTERMEDIATE_PIXELS).
        allowed: u64,
    },
    /// A target side came out as zero.
    #[error("{step} of an image of {original} with {filter:?} would leave no pixel ({size})")]
    EmptyTarget {
        /// The step.
        step: &'static str,
        /// Size asked for.
        size: Size,
        /// Size of the image that was given.
        original: Size,
        /// Resampling filter.
        filter: Filter,
    },
}
