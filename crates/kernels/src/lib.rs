//! What needs `unsafe` code, behind interfaces that do not: products with packed weights, attention, a thread pool,
//! read-only memory maps of weight files, and settings of the process.
//!
//! All other crates of the workspace forbid `unsafe`; each block here states why it is sound.
//!
//! A [`Matrix`] is packed once and multiplied many times; a [`Pool`] lends the threads; [`Path`] says which instructions
//! are used, found at run time. Activations go in and come out as f32, and a row's result is the same to the bit
//! whatever other rows are in the call and however many threads run.
//!
//! | for | there is |
//! |---|---|
//! | linear layers | [`Matrix::pack`], [`Matrix::multiply`] with an [`Epilogue`]; of stacked ones a part: [`Matrix::multiply_outputs`] |
//! | embeddings, tied to the output head or not | [`Matrix::rows`] |
//! | gradients through frozen layers | [`Matrix::multiply_transposed`] |
//! | small trainable layers | [`product`] of [`View`]s, [`sum_rows`] |
//! | attention | [`Attention::run`] on [`Strided`] slices; inside the windows of a grid [`WindowAttention`] |
//! | depthwise convolutions that tile a grid | [`Windows::convolve`] |
//! | norms, activations, gates, rotary turns | [`Norm`], [`Activation`], [`Shifted`], [`Turn`] |
//! | loops over anything else | [`Pool::chunks`], [`Pool::run`] |
//! | what the machine can do | [`calibrate`] |
//! | what a process settles before it starts threads | [`process`] |
//!
//! A layer with a SiLU gate, as Llama has them, in two calls and no pass over memory between them:
//!
//! ```
//! use foveate_kernels::{Epilogue, Format, Matrix, Pool, Residual, Source};
//! let pool = Pool::new(2)?;
//! let pack = |weights: &[f32]| Matrix::pack(Source::F32(weights), Format::Bf16, 1, 2, &pool);
//! let (gate, up) = (pack(&[1.0, 0.0])?, pack(&[0.0, 3.0])?);
//! let x = [2.0, 5.0];
//! let (mut gates, mut out) = ([0.0; 1], [100.0; 1]);
//! gate.multiply(&x, 1, &mut gates, &Epilogue::default(), &pool)?;
//! let epilogue = Epilogue { gate: Some(&gates), residual: Residual::InPlace, ..Epilogue::default() };
//! up.multiply(&x, 1, &mut out, &epilogue, &pool)?;
//! // 100 + 15 · silu(2)
//! assert!((out[0] - 126.4239).abs() < 1e-3);
//! # Ok::<(), foveate_kernels::Error>(())
//! ```

mod activations;
mod attention;
mod backward;
mod bf16;
mod buffer;
pub mod calibrate;
mod chunks;
mod dense;
mod driver;
mod epilogue;
mod error;
mod format;
mod fresh;
mod map;
mod math;
mod matrix;
mod norm;
mod pack;
mod pack_k;
mod path;
mod pointwise;
mod pool;
pub mod process;
mod quantise;
mod rows;
mod shifted;
mod sums;
mod tile;
mod transpose;
mod windows;

pub use attention::{Attention, Mask, Strided};
pub use dense::{View, product, product_on};
pub use epilogue::{Activation, Epilogue, Residual};
pub use error::{Error, Result};
pub use format::Format;
pub use fresh::product_new;
pub use map::Map;
pub use matrix::Matrix;
pub use norm::Norm;
pub use pack::Source;
pub use path::Path;
pub use pointwise::Turn;
pub use pool::Pool;
pub use shifted::Shifted;
pub use sums::sum_rows;
pub use windows::{WindowAttention, Windows};
