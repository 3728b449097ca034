//! The steps after a product, on every path, against the same steps in f64.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gaussian, paths, product, weights};
use foveate_kernels::{Activation, Epilogue, Format, Pool, Residual};

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu];

/// Φ(x) by integrating the density from zero: Simpson's rule with 2,000 steps.
fn normal(x: f64) -> f64 {
    let density = |i: u32| (-(x * f64::from(i) / 2000.0).powi(2) / 2.0).exp() / std::f64::consts::TAU.sqrt();
    let pairs: f64 = (0..1000).map(|i| density(2 * i) + 4.0 * density(2 * i + 1) + density(2 * i + 2)).sum();
    0.5 + pairs * x / 6000.0
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn all_steps_in_their_order_on_every_path() {
    let pool = Pool::new(2).unwrap();
    let (rows, n, k) = (13, 71, 40);
    let weights = weights(Format::F32, 20, n, k, &pool);
    // Sums of a few units, so that the activations bend.
    let x: Vec<f32> = gaussian(21, rows * k).iter().map(|v| 8.0 * v).collect();
    let (bias, gate, residual) = (gaussian(22, n), gaussian(23, rows * n), gaussian(24, rows * n));
    for path in paths() {
        let sums = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
        for activation in ACTIVATIONS {
            for steps in 0..8 {
                let epilogue = Epilogue {
                    bias: (steps & 1 != 0).then_some(&bias),
                    activation,
                    gate: (steps & 2 != 0).then_some(&gate),
                    residual: if steps & 4 != 0 { Residual::Add(&residual) } else { Residual::None },
                };
                let out = product(&weights, path, &x, rows, &epilogue, &pool);
                for i in 0..rows * n {
                    let mut v = f64::from(sums[i]);
                    if epilogue.bias.is_some() {
                        v += f64::from(bias[i % n]);
                    }
                    v = match activation {
                        Activation::Gelu => v * normal(v),
                        Activation::GeluTanh => {
                            let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3));
                            v / 2.0 * (1.0 + inner.tanh())
                        }
                        Activation::QuickGelu => v * sigmoid(1.702 * v),
                        Activation::Silu => v * sigmoid(v),
                        _ => v,
                    };
                    if epilogue.gate.is_some() {
                        v *= f64::from(gate[i]) * sigmoid(f64::from(gate[i]));
                    }
                    if steps & 4 != 0 {
                        v += f64::from(residual[i]);
                    }
                    let error = (f64::from(out[i]) - v).abs();
                    assert!(
                        error <= 3e-6 * v.abs().max(1.0),
                        "{path} {activation:?} {steps:03b}: {} not {v}",
                        out[i]
                    );
                }
            }
        }
    }
}

#[test]
fn adding_in_place_is_adding_what_the_output_held() {
    let pool = Pool::new(2).unwrap();
    let (rows, n) = (9, 50);
    let weights = weights(Format::Bf16, 25, n, 30, &pool);
    let (x, before) = (gaussian(26, rows * 30), gaussian(27, rows * n));
    for path in paths() {
        let epilogue = Epilogue { residual: Residual::Add(&before), ..Epilogue::default() };
        let expected = product(&weights, path, &x, rows, &epilogue, &pool);
        let mut out = before.clone();
        let epilogue = Epilogue { residual: Residual::InPlace, ..Epilogue::default() };
        weights.matrix.multiply_on(path, &x, rows, &mut out, &epilogue, &pool).unwrap();
        assert_eq!(out, expected, "{path}");
    }
}

#[test]
fn nan_passes_through_every_activation() {
    let pool = Pool::single();
    let weights = weights(Format::F32, 28, 33, 3, &pool);
    for path in paths() {
        for activation in ACTIVATIONS {
            let epilogue = Epilogue { activation, ..Epilogue::default() };
            let out = product(&weights, path, &[f32::NAN, 0.0, 0.0], 1, &epilogue, &pool);
            assert!(out.iter().all(|v| v.is_nan()), "{path} {activation:?}");
        }
    }
}
