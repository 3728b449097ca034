//! Scaling laws of vision-language models over model size N and visual tokens V: fit them, judge them, count what
//! inference costs, and turn a budget into a choice.
//!
//! Source: "Inference Optimal VLMs Need Fewer Visual Tokens and More Parameters" (arXiv 2411.03312), whose published
//! measurements are embedded ([`Preset`]). The library depends on no tensor framework.
//!
//! - [`read_file`] reads a table of measurements, [`fit()`] fits a [`Law`] to it, [`assess`] also says how far to trust
//!   it, [`FitDocument`] is all of that as JSON.
//! - [`cost`] counts FLOPs, bytes and memory of every stage from plain dimensions.
//! - [`plan`] ranks language models and token counts under a [`Budget`]; [`auto`] chooses the tokens of one question.
//! - `plot` (feature `plot`) draws.
//!
//! ```
//! use foveate_law::cost::{Catalogue, Compressor, CostModel, Precision, Workload};
//! use foveate_law::plan::{Request, plan};
//! use foveate_law::{Budget, FitOptions, Form, PlannedLaw, Preset, Tokens, Units, assess};
//!
//! let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
//! let table = Preset::Reasoning.table()?;
//! let law = PlannedLaw::new(&assess(&table, Some(Form::Product), &FitOptions::default(), units, None)?);
//! let catalogue = Catalogue::builtin();
//! let request = Request {
//!     law: &law,
//!     tower: catalogue.tower("clip-l-14-336")?,
//!     llms: catalogue.llms().iter().collect(),
//!     compressor: Compressor::TokenPacker,
//!     precision: Precision::default(),
//!     workload: Workload::new(0, 16),
//!     cost: CostModel::Paper,
//!     rates: None,
//! };
//! let best = &plan(&request, &[Budget::Flops(20e9)])?.ranked[0];
//! assert_eq!((best.model.as_str(), best.visual_tokens), ("qwen1.5-7b", 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod auto;
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
    ProfileCurve, ProfileInterval, Replicate, Resample, Status, assess, assess_replicates, bootstrap,
    percentile_interval, profile_curve, refits,
};
pub use plan::Budget;
pub use preset::Preset;
pub use read::{MAX_BYTES, ReadOptions, YKind, read_file, read_str};
pub use table::{Row, Table};
pub use tokens::{Tokens, Units};
pub use units::Unit;
