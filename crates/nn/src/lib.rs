//! The kernels of `foveate-kernels` as operations of candle that gradients pass through: what towers, language models and
//! compressors are built from.
//!
//! On the CPU each operation is one call of the kernels, forwards and backwards, and gradients are made only for what is
//! trained; elsewhere it is written with candle's basic differentiable operations. candle's own fused ones
//! (`softmax_last_dim`, `rms_norm`, `rope`, `sdpa`) are not used: they cut the gradient without an error. Nothing here owns
//! weights or knows where they come from.
//!
//! | for | there is |
//! |---|---|
//! | linear layers | [`linear`], [`linear_added`]; frozen ones [`PackedProduct`], [`PackedPart`], [`PackedSum`] |
//! | norms | [`layer_norm`], [`rms_norm`] |
//! | functions of single numbers | [`Activation`] |
//! | attention | [`Heads`] with a [`Sight`]; inside windows of a grid [`window_attention`] |
//! | depthwise convolutions that tile a grid | [`window_convolution`] |
//! | positions | [`Rotary`] |
//! | all of them | the process's one thread pool, [`threads`]; the multiply-adds that ran, [`count`] |
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! let x = Tensor::new(&[[1.0_f32, 2.0]], &Device::Cpu)?;
//! let weight = Var::new(&[[3.0_f32, 4.0], [5.0, 6.0]], &Device::Cpu)?;
//! let y = foveate_nn::linear(&x, &weight, None)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[11.0, 17.0]]);
//! let gradient = y.sum_all()?.backward()?.get(&weight).map(|gradient| gradient.to_vec2::<f32>()).transpose()?;
//! assert_eq!(gradient, Some(vec![vec![1.0, 2.0], vec![1.0, 2.0]]));
//! # Ok::<(), candle_core::Error>(())
//! ```

mod activation;
mod attention;
#[cfg(any(test, feature = "check"))]
pub mod check;
pub mod count;
mod cpu;
mod norm;
mod product;
mod rotary;
mod shifted;
#[cfg(test)]
mod tests;
pub mod threads;
mod windows;

pub use activation::Activation;
pub use attention::{Heads, Sight, softmax};
pub use cpu::with_slice;
pub use foveate_kernels::Windows;
pub use norm::{layer_norm, rms_norm};
pub use product::{PackedPart, PackedProduct, PackedSum, linear, linear_added};
pub use rotary::{Rotary, RotaryScaling, RotaryTables};
pub use windows::{window_attention, window_convolution, window_weights};

/// The refusal of a tensor at hand that has another shape than the operation needs.
fn shape(what: &str, expected: &[usize], found: &[usize]) -> candle_core::Error {
    candle_core::Error::Msg(format!("{what}: expected {expected:?}, found {found:?}"))
}
