//! How weights start when no checkpoint holds them.
//!
//! The values of a tensor depend on the recipe's seed and the tensor's name alone: a model that gains a tensor keeps all
//! others. Matrices that feed the residual stream start smaller by `1 / sqrt(2 · blocks)`, as in GPT-2.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::random::Draw;

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Start {
    /// Every element this value.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation, drawn again beyond two deviations.
    TruncatedNormal(f64),
}

impl Start {
    /// The start that the name of a published tensor calls for: norms 1, biases 0, words 0.5, other look-up tables 0.02,
    /// matrices `1 / sqrt(inputs)`. `blocks` is the depth of the network that the tensor belongs to.
    ///
    /// ```
    /// use foveate_train::initialise::Start;
    /// assert_eq!(Start::of("model.norm.weight", &[64], 4), Start::Constant(1.0));
    /// assert_eq!(Start::of("layers.0.mlp.up_proj.weight", &[256, 64], 4), Start::TruncatedNormal(0.125));
    /// assert_eq!(Start::of("layers.0.mlp.down_proj.weight", &[64, 256], 8), Start::TruncatedNormal(0.015625));
    /// ```
    pub fn of(name: &str, shape: &[usize], blocks: usize) -> Start {
        let (owner, kind) = name.rsplit_once('.').unwrap_or(("", name));
        let layer = owner.rsplit_once('.').map_or(owner, |(_, layer)| layer);
        match (layer, kind) {
            (_, "bias") => Start::Constant(0.0),
            (_, "weight") if shape.len() == 1 => Start::Constant(1.0),
            // At 0.02 what the first blocks add drowns the word: a language model from scratch then learns what usually
            // follows and never looks at the picture (docs/training.md).
            ("embed_tokens", _) => Start::TruncatedNormal(0.5),
            ("position_embedding" | "lm_head", _) | (_, "class_embedding") => Start::TruncatedNormal(0.02),
            _ => {
                let inputs: usize = shape.iter().skip(1).product();
                let deviation = (inputs.max(1) as f64).powf(-0.5);
                let residual = matches!(layer, "o_proj" | "down_proj" | "out_proj" | "fc2");
                let shrink = if residual { (2.0 * blocks.max(1) as f64).powf(-0.5) } else { 1.0 };
                Start::TruncatedNormal(deviation * shrink)
            }
        }
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn tensor(self, seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let values = match self {
            Start::Constant(value) => vec![value; count],
            Start::TruncatedNormal(deviation) => {
                let mut draw = Draw::new(seed, name, 0);
                let mut inside = || loop {
                    let normal = draw.normal();
                    if normal.abs() <= 2.0 {
                        return (normal * deviation) as f32;
                    }
                };
                (0..count).map(|_| inside()).collect()
            }
        };
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(seed: u64, name: &str, count: usize) -> Vec<f32> {
        Start::TruncatedNormal(0.5).tensor(seed, name, &[count]).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn seed_and_name_decide() {
        assert_eq!(values(1, "a", 100), values(1, "a", 200)[..100]);
        assert_ne!(values(1, "a", 100), values(1, "b", 100));
        assert_ne!(values(1, "a", 100), values(2, "a", 100));
    }

    #[test]
    fn the_normal_is_cut_at_two_deviations() {
        let values = values(3, "weight", 100_000);
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / 1e5;
        let square = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 1e5;
        // The variance of a standard normal cut at ±2 is 0.7737; five standard errors.
        assert!(mean.abs() < 0.007 && (square - 0.25 * 0.7737).abs() < 0.004, "{mean} {square}");
    }
}
