//! What can go wrong between numbers and a figure on disk.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a figure was not drawn or not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The file name ends in something other than `.svg` or `.png`.
    #[error("{}: a figure cannot be written as {extension:?}; allowed: .svg, .png", path.display())]
    UnknownFormat {
        /// The path as given.
        path: PathBuf,
        /// Its extension, empty where it has none.
        extension: String,
    },
    /// There is nothing to draw.
    #[error("the figure has no {what}; at least one is needed")]
    Empty {
        /// What is missing, in the plural.
        what: &'static str,
    },
    /// More than fits on a page.
    #[error("the figure has {found} {what}; allowed: at most {allowed}")]
    TooMany {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many a figure takes.
        allowed: usize,
    },
    /// A value that no axis can show.
    #[error("{place}: {value} cannot be drawn; allowed: finite numbers of magnitude below 1e100")]
    NotFinite {
        /// Which value, in words.
        place: String,
        /// The value.
        value: f64,
    },
    /// A value at or below zero on a logarithmic axis.
    #[error("{place}: {value} has no place on a logarithmic axis; allowed: numbers above 1e-100")]
    NotPositive {
        /// Which value, in words.
        place: String,
        /// The value.
        value: f64,
    },
    /// A negative part of a stacked bar.
    #[error("{place}: {value} cannot be stacked; allowed: 0 or more")]
    NegativePart {
        /// Which value, in words.
        place: String,
        /// The value.
        value: f64,
    },
    /// A bar that does not have one value for each named part.
    #[error("bar {bar:?} has {found} parts; allowed: exactly {expected}, one for each part name")]
    PartCount {
        /// The bar's label.
        bar: String,
        /// How many values it has.
        found: usize,
        /// How many names the figure has.
        expected: usize,
    },
    /// The drawing library refused; a defect of this crate.
    #[error("the figure could not be drawn: {0}")]
    Drawing(String),
    /// The SVG could not be turned into pixels.
    #[error("the figure could not be turned into pixels: {0}")]
    Raster(String),
    /// The file could not be written; nothing is left behind.
    #[error("{}: the figure could not be written: {source}", path.display())]
    Write {
        /// Where the figure was to go.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
