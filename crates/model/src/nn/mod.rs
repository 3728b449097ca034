//! The leaf operations that every network here is built from.
//!
//! All are written with candle's basic differentiable operations. The fused ones (`softmax_last_dim`, `rms_norm`,
//! `rope`, `sdpa`) are faster but cut the gradient without an error, and the same networks are trained elsewhere.

mod activation;
mod attention;
mod linear;
mod norm;
mod rotary;

pub use activation::Activation;
pub use attention::{attention, softmax};
pub use linear::{Linear, product};
pub use norm::{LayerNorm, RmsNorm};
pub use rotary::{Rotary, RotaryScaling, RotaryTables};
