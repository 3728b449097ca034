//! The leaf operations that every network here is built from.
//!
//! On the CPU each is one operation of the kernels with a backward pass of its own; elsewhere it is written with candle's
//! basic differentiable operations. candle's own fused ones (`softmax_last_dim`, `rms_norm`, `rope`, `sdpa`) are not used:
//! they cut the gradient without an error.

mod activation;
mod attention;
mod cpu;
mod linear;
mod norm;
mod product;
mod rotary;
#[cfg(test)]
mod tests;

pub use activation::Activation;
pub use attention::{Heads, Sight, softmax};
pub(crate) use cpu::with_slice;
pub use linear::Linear;
pub(crate) use linear::Stacked;
pub use norm::{LayerNorm, RmsNorm};
pub use rotary::{Rotary, RotaryScaling, RotaryTables};
