//! Training as a whole: tiny models, real runs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod evaluation;
mod families;
mod frozen;
mod going_on;
mod halves;
mod parts;
mod patches;
mod recipes;
mod resume;
mod run;
mod steps;
mod whole;
