//! What needs `unsafe` code, behind interfaces that do not: read-only memory maps of weight files.
//!
//! All other crates of the workspace forbid `unsafe`; each block here states why it is sound.

mod map;

pub use map::Map;
