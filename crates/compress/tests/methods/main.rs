//! The compressors against their references, against each other and against finite differences.

#![allow(clippy::unwrap_used)]

mod errors;
mod fixture;
mod flops;
mod golden;
mod gradients;
mod metamorphic;
mod tower;
