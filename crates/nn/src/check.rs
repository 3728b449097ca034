//! Operations against the same written with candle's own, for tests here and in the crates above.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that fails panics")]

use candle_core::{Device, Tensor, Var};

/// Numbers between −1.5 and 1.5 that look random and are the same each time.
pub fn random(shape: &[usize], seed: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 1.618).sin() * 1.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The largest difference of two tensors of one shape.
pub fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// Values and the gradients of `inputs` under a loss that weighs every output differently.
fn outcome(inputs: &[Var], run: impl Fn(&[Var]) -> Tensor) -> Vec<Tensor> {
    let y = run(inputs);
    let loss = (&y * random(y.dims(), 0.7)).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    std::iter::once(y).chain(inputs.iter().map(|input| gradients.get(input).unwrap().clone())).collect()
}

/// Holds an operation to the same written in another way: values, and the gradients of `inputs`.
pub fn agree(inputs: &[Tensor], fused: impl Fn(&[Var]) -> Tensor, plain: impl Fn(&[Var]) -> Tensor) {
    let inputs: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let (fused, plain) = (outcome(&inputs, fused), outcome(&inputs, plain));
    for (at, (fused, plain)) in fused.iter().zip(&plain).enumerate() {
        let size: f32 = plain.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        let apart = apart(fused, plain);
        assert!(apart <= 2e-5 * (1.0 + size), "output or gradient {at}: {apart} of {size}");
    }
}
