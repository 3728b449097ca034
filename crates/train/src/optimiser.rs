//! AdamW (Loshchilov and Hutter, arXiv 1711.05101), computed in place on slices, with its state in the open.
//!
//! The order of operations is PyTorch's, so that its values are ours to the last few bits; a golden test compares them. As
//! there, each tensor counts its own steps: one that gets no gradient in a step (the filters of an elastic compressor
//! that were not drawn) is left alone, its averages too.

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor, Var};

use crate::Result;

/// The running averages of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
    /// Updates so far.
    pub steps: u64,
}

/// How one tensor is changed in one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Learning rate.
    pub rate: f64,
    /// Decoupled weight decay.
    pub decay: f64,
    /// β₁ and β₂.
    pub betas: (f64, f64),
    /// ε.
    pub epsilon: f64,
    /// What the gradient is multiplied by first: below 1 where it is clipped.
    pub scale: f64,
}

impl Moments {
    /// Nothing seen yet of a tensor of `count` elements.
    pub fn new(count: usize) -> Self {
        Self { first: vec![0.0; count], second: vec![0.0; count], steps: 0 }
    }

    /// Changes `values` by `gradient`.
    ///
    /// ```
    /// use foveate_train::optimiser::{Moments, Update};
    /// let update = Update { rate: 0.1, decay: 0.0, betas: (0.9, 0.999), epsilon: 1e-8, scale: 1.0 };
    /// let mut values = [1.0, 1.0];
    /// Moments::new(2).update(&mut values, &[3.0, -0.01], &update);
    /// // The first step is as long as the rate, whatever the gradient.
    /// assert!((values[0] - 0.9).abs() < 1e-6 && (values[1] - 1.1).abs() < 1e-6);
    /// ```
    ///
    /// # Panics
    /// If the three slices are not equally long.
    pub fn update(&mut self, values: &mut [f32], gradient: &[f32], update: &Update) {
        assert!(
            values.len() == gradient.len() && values.len() == self.first.len(),
            "{} values, {} of the gradient, {} averages",
            values.len(),
            gradient.len(),
            self.first.len()
        );
        self.steps += 1;
        let (beta1, beta2) = update.betas;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let keep = (1.0 - update.rate * update.decay) as f32;
        let step = (update.rate / correction(beta1)) as f32;
        let root = correction(beta2).sqrt() as f32;
        let (rest1, beta2, rest2) = ((1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let (epsilon, scale) = (update.epsilon as f32, update.scale as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * scale;
            *first += rest1 * (gradient - *first);
            *second = *second * beta2 + rest2 * gradient * gradient;
            *value = *value * keep - step * (*first / (second.sqrt() / root + epsilon));
        }
    }
}

/// The moments of all tensors, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Changes a variable by its gradient.
    ///
    /// # Errors
    /// A variable that is not f32 on the CPU, or a gradient of another shape.
    pub fn update(&mut self, name: &str, variable: &Var, gradient: &Tensor, update: &Update) -> Result<()> {
        if gradient.dims() != variable.dims() {
            let (expected, found) = (variable.dims(), gradient.dims());
            return Err(candle_core::Error::Msg(format!(
                "gradient of {name}: expected {expected:?}, found {found:?}"
            ))
            .into());
        }
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        let count = gradient.len();
        let moments = self.moments.entry(name.to_owned()).or_insert_with(|| Moments::new(count));
        let in_place = InPlace { moments: RefCell::new(moments), gradient, update: *update };
        variable.as_tensor().inplace_op1(&in_place)?;
        Ok(())
    }

    /// The state, by the name of the tensor.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Goes on from a state.
    pub fn from_moments(moments: BTreeMap<String, Moments>) -> Self {
        Self { moments }
    }
}

struct InPlace<'a> {
    moments: RefCell<&'a mut Moments>,
    gradient: Vec<f32>,
    update: Update,
}

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            candle_core::bail!("a variable must be contiguous f32")
        };
        self.moments.borrow_mut().update(&mut values[start..end], &self.gradient, &self.update);
        Ok(())
    }
}

/// The Euclidean norm over all of `gradients`, summed in f64 in the order given.
///
/// # Errors
/// A tensor that is not f32.
pub fn norm<'a>(gradients: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        let values = gradient.flatten_all()?.to_vec1::<f32>()?;
        sum += values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    }
    Ok(sum.sqrt())
}

/// What a gradient of length `norm` is multiplied by so that it is at most `longest`.
pub fn clip_scale(norm: f64, longest: f64) -> f64 {
    // The small number is PyTorch's.
    (longest / (norm + 1e-6)).min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{DType, Device, safetensors};

    /// `reference/make_adamw.py` ran torch.optim.AdamW over two parameter groups with clipping.
    #[test]
    fn values_of_pytorch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/adamw.safetensors");
        let golden = safetensors::load(path, &Device::Cpu).unwrap();
        let get = |name: &str| golden[name].clone();
        let variables: Vec<(String, Var)> =
            ["matrix", "bias"].map(|name| (name.to_owned(), Var::from_tensor(&get(name)).unwrap())).into();
        let mut optimiser = AdamW::default();
        let steps = get("norms").dims()[0];
        for step in 0..steps {
            let gradients: Vec<Tensor> = variables
                .iter()
                .map(|(name, _)| get(&format!("{name}.gradient")).get(step).unwrap())
                .collect();
            let length = norm(&gradients).unwrap();
            let expected = get("norms").get(step).unwrap().to_scalar::<f32>().unwrap();
            assert!((length - f64::from(expected)).abs() < 1e-5 * length, "{length} {expected}");
            for ((name, variable), gradient) in variables.iter().zip(&gradients) {
                let decayed = name == "matrix";
                let update = Update {
                    rate: if decayed { 3e-3 } else { 1e-2 },
                    decay: if decayed { 0.1 } else { 0.0 },
                    betas: (0.9, 0.95),
                    epsilon: 1e-8,
                    scale: clip_scale(length, 1.0),
                };
                optimiser.update(name, variable, gradient, &update).unwrap();
                let expected = get(&format!("{name}.after")).get(step).unwrap();
                let apart = (variable.as_tensor() - &expected).unwrap().abs().unwrap();
                let apart =
                    apart.max_all().unwrap().to_dtype(DType::F32).unwrap().to_scalar::<f32>().unwrap();
                assert!(apart < 2e-6, "{name} after step {step}: {apart}");
            }
        }
        for (name, moments) in optimiser.moments() {
            let expected = get(&format!("{name}.second")).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, expected) in moments.second.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs() + 1e-12,
                    "{name}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn going_on_from_a_state_is_going_on() {
        let update = Update { rate: 0.01, decay: 0.1, betas: (0.9, 0.99), epsilon: 1e-8, scale: 1.0 };
        let gradient = |step: u8| Tensor::new(&[0.1_f32 * f32::from(step), -1.0], &Device::Cpu).unwrap();
        let (straight, resumed) = (
            Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap(),
            Var::new(&[1.0_f32, 2.0], &Device::Cpu).unwrap(),
        );
        let mut one = AdamW::default();
        (0..6).for_each(|step| one.update("x", &straight, &gradient(step), &update).unwrap());
        let mut two = AdamW::default();
        (0..3).for_each(|step| two.update("x", &resumed, &gradient(step), &update).unwrap());
        let mut two = AdamW::from_moments(two.moments().clone());
        (3..6).for_each(|step| two.update("x", &resumed, &gradient(step), &update).unwrap());
        assert_eq!(straight.to_vec1::<f32>().unwrap(), resumed.to_vec1::<f32>().unwrap());
        assert_eq!(one, two);
    }

    #[test]
    fn views_of_a_variable_see_its_update() {
        let variable = Var::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let view = variable.narrow(0, 1, 1).unwrap();
        let update = Update { rate: 1.0, decay: 0.0, betas: (0.9, 0.99), epsilon: 0.0, scale: 1.0 };
        let gradient = Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
        AdamW::default().update("x", &variable, &gradient, &update).unwrap();
        let seen = view.to_vec2::<f32>().unwrap();
        assert!((seen[0][0] - 2.0).abs() < 1e-5 && (seen[0][1] - 3.0).abs() < 1e-5, "{seen:?}");
        let wrong = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
        assert!(
            AdamW::default()
                .update("x", &variable, &wrong, &update)
                .unwrap_err()
                .to_string()
                .contains("[2, 2]")
        );
    }
}
