//! How many visual tokens one question should get: the error that each number is known to have for the question's family,
//! what it costs, and a choice.
//!
//! ```
//! use foveate_law::auto::{ErrorTable, Limits, Rung, choose};
//!
//! let table = ErrorTable::from_json("laws.json", r#"{"compressor": "quecc", "families": {
//!     "reasoning": {"rungs": [{"visual_tokens": 1, "error": 0.30}, {"visual_tokens": 16, "error": 0.29}]},
//!     "text": {"rungs": [{"visual_tokens": 1, "error": 0.90}, {"visual_tokens": 16, "error": 0.40}]}}}"#)?;
//! // Very likely about reasoning: one token is nearly as good as sixteen.
//! let guess = [("reasoning".to_owned(), 0.98), ("text".to_owned(), 0.02)];
//! let errors = table.expected(&guess, 1e6, 20.0, &[16, 4, 1])?;
//! let rungs: Vec<Rung> = errors
//!     .into_iter()
//!     .map(|(visual_tokens, error)| Rung { visual_tokens, error, cost: visual_tokens as f64 })
//!     .collect();
//! let choice = choose(&rungs, Limits { budget: None, tolerance: 0.03 })?;
//! assert_eq!(choice.rung.visual_tokens, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod choose;
mod table;

pub use choose::{Choice, Limits, Nothing, Rung, choose};
pub use table::{ErrorTable, Errors, MeasuredErrors, RungError};
