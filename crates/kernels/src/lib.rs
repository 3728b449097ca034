//! What needs `unsafe` code, behind interfaces that do not: products with packed weights, attention, a thread pool, and
//! read-only memory maps of weight files.
//!
//! All other crates of the workspace forbid `unsafe`; each block here states why it is sound.
//!
//! A [`Matrix`] is packed once and multiplied many times; a [`Pool`] lends the threads; [`Path`] says which instructions
//! are used, found at run time. Activations go in and come out as f32, and a row's result is the same to the bit
//! whatever other rows are in the call and however many threads run.

mod activations;
mod attention;
mod backward;
mod buffer;
pub mod calibrate;
mod dense;
mod driver;
mod epilogue;
mod error;
mod format;
mod map;
mod math;
mod matrix;
mod pack;
mod pack_k;
mod path;
mod pool;
mod quantise;
mod tile;

pub use attention::{Attention, Mask, Strided};
pub use dense::{View, product, product_on};
pub use epilogue::{Activation, Epilogue, Residual};
pub use error::{Error, Result};
pub use format::Format;
pub use map::Map;
pub use matrix::Matrix;
pub use pack::Source;
pub use path::Path;
pub use pool::Pool;
