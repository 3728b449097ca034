//! Scaling laws of vision-language models over model size N and visual tokens V: fit them, judge them, count what
//! inference costs, and turn a budget into a choice.
//!
//! Source: "Inference Optimal VLMs Need Fewer Visual Tokens and More Parameters" (arXiv 2411.03312). The library
//! depends on no tensor framework.

pub mod cost;
mod document;
mod error;
mod fit;
mod form;
mod judge;
pub mod plan;
#[cfg(feature = "plot")]
pub mod plot;
mod preset;
mod read;
mod table;
mod tokens;
mod units;

pub use document::{
    BootstrapDocument, Columns, FitDocument, Measured, ObjectiveDocument, PlannedLaw, ProfileDocument, Ratio,
};
pub use error::LawError;
pub use fit::{Fit, FitOptions, Floor, Objective, SearchRange, fit};
pub use form::{Form, Law};
pub use judge::{
    Assessment, Bootstrap, BootstrapOptions, Comparison, FormScore, Held, LeftOut, MAX_DRAWS, Profile,
    ProfileCurve, ProfileInterval, Resample, Status, assess, bootstrap, percentile_interval, profile_curve,
};
pub use plan::Budget;
pub use preset::Preset;
pub use read::{MAX_BYTES, ReadOptions, YKind, read_file, read_str};
pub use table::{Row, Table};
pub use tokens::{Tokens, Units};
pub use units::Unit;
