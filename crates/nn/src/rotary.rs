//! Rotary position embedding (Su et al., arXiv 2104.09864) in the half-split form of Hugging Face checkpoints:
//! channel `i` turns together with channel `i + width/2`.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use foveate_kernels::Turn;

use crate::cpu::{like, result, slice, with_slice, wrap};
use crate::threads::pool;

/// How the rotation frequencies are changed to reach beyond the trained context.
#[derive(Clone, Debug, PartialEq)]
pub enum RotaryScaling {
    /// Frequencies as trained.
    None,
    /// All frequencies divided by `factor` (position interpolation).
    Linear {
        /// The divisor, ≥ 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` count as low frequencies.
        low: f64,
        /// Wavelengths below `original / high` count as high frequencies.
        high: f64,
        /// The context length of the first training, in tokens.
        original: f64,
    },
    /// Frequency i divided by divisor i, as llama.cpp stores the Llama 3 rule.
    Divisors(Vec<f32>),
}

/// The rotation frequencies of one model, in radians per position.
#[derive(Clone, Debug)]
pub struct Rotary {
    frequencies: Vec<f32>,
}

/// Cosines and sines for the positions of one call, each `[1 or b, t, 1, width/2]`.
#[derive(Clone, Debug)]
pub struct RotaryTables {
    cos: Arc<[f32]>,
    sin: Arc<[f32]>,
    shape: (usize, usize, usize, usize),
}

impl Rotary {
    /// Frequencies `theta^(−2i/width)` for `i < width/2`, scaled. A head may be wider: only its first `width` channels
    /// turn.
    pub fn new(width: usize, theta: f64, scaling: &RotaryScaling) -> Self {
        // In f32 like the reference: at position 4000 the rounding of a frequency is visible in the fourth digit.
        let frequency = |pair: usize| 1.0 / (theta as f32).powf((2 * pair) as f32 / width as f32);
        Self { frequencies: (0..width / 2).map(|pair| scaled(pair, frequency(pair), scaling)).collect() }
    }

    /// The tables for `positions`: one list of equal length per batch row, or a single list for all rows.
    pub fn tables(&self, positions: &[Vec<u32>]) -> RotaryTables {
        let columns = positions.first().map_or(0, Vec::len);
        let angles =
            positions.iter().flatten().flat_map(|&at| self.frequencies.iter().map(move |f| at as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        let shape = (positions.len(), columns, 1, self.frequencies.len());
        RotaryTables { cos: cos.into(), sin: sin.into(), shape }
    }
}

impl RotaryTables {
    /// Turns the first `heads` heads of `head_width` numbers in each row: `[b, t, width] -> [b, t, width]`. What lies
    /// behind them stays.
    ///
    /// # Errors
    /// A shape that does not fit the tables.
    pub fn rotate(&self, x: &Tensor, heads: usize, head_width: usize) -> Result<Tensor> {
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op1(Rotate { tables: self.clone(), heads, head_width });
        }
        let (b, t, width) = x.dims3()?;
        let turning = x.narrow(2, 0, heads * head_width)?.reshape((b, t, heads, head_width))?;
        let turned = self.composed(&turning)?.reshape((b, t, heads * head_width))?;
        let rest = x.narrow(2, heads * head_width, width - heads * head_width)?;
        Tensor::cat(&[turned, rest], 2)
    }

    /// `[b, t, heads, head width]` in operations that every device has.
    pub(crate) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let table = |numbers: &[f32]| Tensor::from_slice(numbers, self.shape, x.device());
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?); // [1 or b, t, 1, half]
        let (width, half) = (x.dim(D::Minus1)?, self.shape.3);
        let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
        let turned_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let turned_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        let mut parts = vec![turned_first, turned_second];
        if width > 2 * half {
            parts.push(x.narrow(D::Minus1, 2 * half, width - 2 * half)?);
        }
        Tensor::cat(&parts, D::Minus1)
    }
}

struct Rotate {
    tables: RotaryTables,
    heads: usize,
    head_width: usize,
}

impl Rotate {
    fn run(&self, x: &[f32], width: usize, back: bool) -> Result<Vec<f32>> {
        let RotaryTables { cos, sin, shape } = &self.tables;
        let (head_size, heads) = (self.head_width, self.heads);
        let turn = Turn { cos, sin, half: shape.3, head_size, heads, width };
        turn.run_new(x, back, &pool()).map_err(wrap)
    }
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, _, width) = layout.shape().dims3()?;
        Ok(result(self.run(slice(x, layout)?, width, false)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_slice(dy, |dy| self.run(dy, x.dim(D::Minus1)?, true))?;
        Ok(Some(like(dx, x)?))
    }
}

fn scaled(pair: usize, frequency: f32, scaling: &RotaryScaling) -> f32 {
    match *scaling {
        RotaryScaling::None => frequency,
        RotaryScaling::Linear { factor } => frequency / factor as f32,
        // A configuration is checked to have one for each pair.
        RotaryScaling::Divisors(ref divisors) => frequency / divisors.get(pair).copied().unwrap_or(1.0),
        RotaryScaling::Llama3 { factor, low, high, original } => {
            let wavelength = 2.0 * std::f64::consts::PI / f64::from(frequency);
            if wavelength > original / low {
                frequency / factor as f32
            } else if wavelength < original / high {
                frequency
            } else {
                let smooth = ((original / wavelength - low) / (high - low)) as f32;
                (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn rotate(x: &Tensor, at: u32) -> Vec<f32> {
        let rotary = Rotary::new(4, 10_000.0, &RotaryScaling::None);
        rotary.tables(&[vec![at]]).rotate(x, 1, 4).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn pairs_channels_half_a_width_apart() {
        let x = Tensor::new(&[1.0_f32, 0.0, 0.0, 1.0], &Device::Cpu).unwrap().reshape((1, 1, 4)).unwrap();
        let got = rotate(&x, 2);
        let (fast, slow) = (2.0_f32, 0.02_f32);
        let expected = [fast.cos(), -slow.sin(), fast.sin(), slow.cos()];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn products_depend_on_the_distance_alone() {
        let q = Tensor::new(&[0.3_f32, -1.2, 0.7, 0.1], &Device::Cpu).unwrap().reshape((1, 1, 4)).unwrap();
        let k = Tensor::new(&[1.1_f32, 0.4, -0.6, 0.9], &Device::Cpu).unwrap().reshape((1, 1, 4)).unwrap();
        let dot = |a: u32, b: u32| rotate(&q, a).iter().zip(rotate(&k, b)).map(|(x, y)| x * y).sum::<f32>();
        assert!((dot(7, 3) - dot(1004, 1000)).abs() < 1e-4);
        assert!((dot(7, 3) - dot(7, 4)).abs() > 1e-2);
    }

    #[test]
    fn channels_beyond_the_rotary_width_stay() {
        let x = Tensor::new(&[1.0_f32, 0.0, 7.0, 8.0], &Device::Cpu).unwrap().reshape((1, 1, 4)).unwrap();
        let tables = Rotary::new(2, 10_000.0, &RotaryScaling::None).tables(&[vec![1]]);
        let got = tables.rotate(&x, 1, 4).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got, [1.0_f32.cos(), 1.0_f32.sin(), 7.0, 8.0]);
    }

    #[test]
    fn llama3_keeps_high_divides_low_and_joins_between() {
        let scaling = RotaryScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let plain = Rotary::new(128, 500_000.0, &RotaryScaling::None).frequencies;
        let changed = Rotary::new(128, 500_000.0, &scaling).frequencies;
        let divisors: Vec<f32> = plain.iter().zip(&changed).map(|(plain, changed)| plain / changed).collect();
        let divided = Rotary::new(128, 500_000.0, &RotaryScaling::Divisors(divisors)).frequencies;
        assert!(
            divided.iter().zip(&changed).all(|(a, b)| (a / b - 1.0).abs() < 1e-6),
            "llama.cpp's form of the rule"
        );
        let ratio: Vec<f32> = plain.iter().zip(&changed).map(|(plain, changed)| plain / changed).collect();
        assert_eq!(ratio[0], 1.0);
        assert_eq!(*ratio.last().unwrap(), 8.0);
        assert!(ratio.windows(2).all(|pair| pair[0] <= pair[1] + 1e-5), "the ramp is monotonic");
        assert!(ratio.iter().any(|ratio| *ratio > 1.5 && *ratio < 7.0), "something lies between");
    }
}
