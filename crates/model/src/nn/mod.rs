//! The leaf layers that every network here is built from: operations of `foveate_nn` with weights that are loaded.

mod linear;
mod norm;
#[cfg(test)]
mod tests;

pub use foveate_nn::{Activation, Heads, Rotary, RotaryScaling, RotaryTables, Sight, softmax};
pub use linear::Linear;
pub(crate) use linear::Stacked;
pub use norm::{LayerNorm, RmsNorm};
