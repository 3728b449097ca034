//! Where a compressor's parameters come from: a checkpoint, or a seed.
//!
//! A compressor asks for each tensor by its checkpoint name and shape, and says how a fresh one starts. [`Stored`] makes
//! a source of any closure, so that this crate knows no file format; [`Fresh`] draws the values from a seed, keeps every
//! trainable tensor as a candle variable, and hands them out for training and saving.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor, Var};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{CompressError, Result};

/// How a parameter starts when no checkpoint holds it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Start {
    /// Every element this value.
    Constant(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// A fixed table, which is not trained.
    Table(Vec<f32>),
}

/// A source of named parameters.
pub trait ParameterSource {
    /// The tensor called `name`, of exactly this `shape`.
    ///
    /// # Errors
    /// [`CompressError::Parameter`] when it cannot be had, [`CompressError::ParameterShape`] when it has another shape.
    fn tensor(&self, shape: &[usize], name: &str, start: Start) -> Result<Tensor>;
}

/// Parameters that a closure `(shape, name) -> Result<tensor, error>` knows, for example
/// `Stored::new(|shape: &[usize], name: &str| weights.get(shape, name))`.
pub struct Stored<F>(F);

impl<F, E> Stored<F>
where
    F: Fn(&[usize], &str) -> std::result::Result<Tensor, E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Wraps the closure.
    pub fn new(get: F) -> Self {
        Self(get)
    }
}

impl<F, E> ParameterSource for Stored<F>
where
    F: Fn(&[usize], &str) -> std::result::Result<Tensor, E>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn tensor(&self, shape: &[usize], name: &str, _start: Start) -> Result<Tensor> {
        (self.0)(shape, name)
            .map_err(|error| CompressError::Parameter { name: name.to_owned(), source: error.into() })
    }
}

/// Fresh f32 parameters from a seed. A tensor's values depend on the seed and its name alone, not on the order of
/// requests.
///
/// ```
/// use candle_core::Device;
/// use foveate_compress::{Fresh, Parameters, QueCC, QueCCConfig};
///
/// let fresh = Fresh::new(7, Device::Cpu);
/// let config = QueCCConfig::elastic(64, 96, &[2, 4, 8]);
/// let compressor = QueCC::load(&config, &Parameters::new(&fresh, "mm_projector.0"))?;
/// assert!(fresh.variables().contains_key("mm_projector.0.q_downsample.4.weight"));
/// # Ok::<(), foveate_compress::CompressError>(())
/// ```
#[derive(Debug)]
pub struct Fresh {
    seed: u64,
    device: Device,
    made: Mutex<BTreeMap<String, Made>>,
}

#[derive(Debug, Clone)]
enum Made {
    Trained(Var),
    Table(Tensor),
}

impl Fresh {
    /// Parameters drawn from `seed`, placed on `device`.
    pub fn new(seed: u64, device: Device) -> Self {
        Self { seed, device, made: Mutex::default() }
    }

    /// Every trainable tensor handed out so far, by name.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let trained = made.iter().filter_map(|(name, made)| match made {
            Made::Trained(var) => Some((name.clone(), var.clone())),
            Made::Table(_) => None,
        });
        trained.collect()
    }

    /// Every tensor handed out so far, tables included: what a checkpoint holds.
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().map(|(name, made)| (name.clone(), made.tensor())).collect()
    }

    fn draw(&self, count: usize, name: &str, start: &Start) -> Vec<f32> {
        // FNV-1a: a stable mix of name and seed.
        let mixed = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ self.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = ChaCha8Rng::seed_from_u64(mixed);
        let mut uniform = || random.random::<f64>();
        match start {
            Start::Constant(value) => vec![*value as f32; count],
            Start::Uniform(bound) => (0..count).map(|_| ((2.0 * uniform() - 1.0) * bound) as f32).collect(),
            Start::Normal(deviation) => (0..count)
                .map(|_| {
                    // Box–Muller; 1 − u is never zero.
                    let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
                    (radius * (std::f64::consts::TAU * uniform()).cos() * deviation) as f32
                })
                .collect(),
            Start::Table(values) => values.clone(),
        }
    }
}

impl Made {
    fn tensor(&self) -> Tensor {
        match self {
            Self::Trained(var) => var.as_tensor().clone(),
            Self::Table(tensor) => tensor.clone(),
        }
    }
}

impl ParameterSource for Fresh {
    fn tensor(&self, shape: &[usize], name: &str, start: Start) -> Result<Tensor> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = made.get(name) {
            return Ok(held.tensor());
        }
        let values = self.draw(shape.iter().product(), name, &start);
        let tensor = Tensor::from_vec(values, shape, &self.device)?;
        let new = match start {
            Start::Table(_) => Made::Table(tensor),
            _ => Made::Trained(Var::from_tensor(&tensor)?),
        };
        let tensor = new.tensor();
        made.insert(name.to_owned(), new);
        Ok(tensor)
    }
}

/// A source below a prefix.
#[derive(Clone)]
pub struct Parameters<'a> {
    source: &'a dyn ParameterSource,
    /// Empty, or ends with a dot.
    prefix: String,
}

impl<'a> Parameters<'a> {
    /// The parameters of `source` whose names start with `prefix` and a dot; with an empty prefix all of them.
    pub fn new(source: &'a dyn ParameterSource, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        Self { source, prefix }
    }

    pub(crate) fn below(&self, segment: &str) -> Self {
        Self { source: self.source, prefix: format!("{}{segment}.", self.prefix) }
    }

    pub(crate) fn get(&self, shape: &[usize], name: &str, start: Start) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.source.tensor(shape, &name, start)?;
        if tensor.dims() != shape {
            let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
            return Err(CompressError::ParameterShape { name, expected, found });
        }
        Ok(tensor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(seed: u64, names: &[&str], start: &Start) -> Vec<Vec<f32>> {
        let fresh = Fresh::new(seed, Device::Cpu);
        let get = |name: &&str| fresh.tensor(&[20_000], name, start.clone()).unwrap().to_vec1().unwrap();
        names.iter().map(get).collect()
    }

    #[test]
    fn seed_and_name_decide_not_the_order() {
        let start = Start::Uniform(0.5);
        let (forward, backward) = (values(1, &["a", "b"], &start), values(1, &["b", "a"], &start));
        assert_eq!(forward[0], backward[1]);
        assert_ne!(forward[0], forward[1]);
        assert_ne!(forward[0], values(2, &["a"], &start)[0]);
    }

    #[test]
    fn distributions_have_their_moments() {
        let moments = |start: &Start| {
            let values = &values(3, &["weight"], start)[0];
            let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_000.0;
            let square = values.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 20_000.0;
            (mean, square)
        };
        // Five standard errors of mean and mean square.
        let (mean, square) = moments(&Start::Uniform(0.6));
        assert!(mean.abs() < 0.0125 && (square - 0.12).abs() < 0.004, "{mean} {square}");
        let (mean, square) = moments(&Start::Normal(2.0));
        assert!(mean.abs() < 0.072 && (square - 4.0).abs() < 0.2, "{mean} {square}");
    }

    #[test]
    fn a_wrong_shape_is_named() {
        let stored = Stored::new(|_: &[usize], _: &str| Tensor::new(&[1_f32, 2.0], &Device::Cpu));
        let error = Parameters::new(&stored, "proj").get(&[3], "bias", Start::Constant(0.0)).unwrap_err();
        assert_eq!(error.to_string(), "parameter `proj.bias` has shape [2], the configuration needs [3]");
    }
}
