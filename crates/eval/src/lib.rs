//! Measures vision-language models: tasks as data, published metrics, an interval for every figure, sweeps over model size and
//! visual tokens that survive being killed, and reports.
//!
//! The library holds no tensor and runs no model: whoever has one implements [`System`], and for sweeps
//! [`sweep::ModelSource`].
//!
//! | module | idea |
//! |---|---|
//! | [`task`], [`benchmark`] | which questions, in which words; the project's datasets and published files |
//! | [`metric`] | what an answer is worth |
//! | [`Sample`], [`Figures`], [`statistics`] | what was answered; what it comes to; how sure that is |
//! | [`perplexity`] | how well a language model foretells text |
//! | [`frontier`], [`families`] | a number of tokens for each question against the same for all; the errors that it is chosen by |
//! | [`run`](mod@run), [`journal`] | a task asked, each answer kept at once |
//! | [`sweep`], [`results`], [`packed`] | a grid of cells, each a row of a table that `foveate fit` reads; their answers in one file |
//! | [`report`] | tables, laws and figures of a sweep in one page |

pub mod benchmark;
mod error;
pub mod families;
mod figures;
pub mod frontier;
mod item;
pub mod journal;
pub mod metric;
pub mod packed;
pub mod perplexity;
mod random;
pub mod report;
pub mod results;
pub mod run;
mod sample;
mod select;
pub mod statistics;
pub mod sweep;
mod table;
pub mod task;

pub use error::{EvalError, Result};
pub use figures::{Figure, Figures, SkillFigure, Unit, units};
pub use item::Item;
pub use run::{Question, Reply, System};
pub use sample::{Answered, Outcome, Sample};
