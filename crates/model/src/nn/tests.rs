//! The operations of the kernels against the same written with candle's own, values and gradients.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use candle_core::{D, Device, Tensor, Var};

use super::*;
use crate::{Dtype, Weights};

fn random(shape: &[usize], seed: f32) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i as f32 + seed) * 1.618).sin() * 1.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
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

fn agree(inputs: &[Tensor], fused: impl Fn(&[Var]) -> Tensor, plain: impl Fn(&[Var]) -> Tensor) {
    let inputs: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let (fused, plain) = (outcome(&inputs, fused), outcome(&inputs, plain));
    for (at, (fused, plain)) in fused.iter().zip(&plain).enumerate() {
        let size: f32 = plain.abs().unwrap().max_all().unwrap().to_scalar().unwrap();
        let apart = apart(fused, plain);
        assert!(apart <= 2e-5 * (1.0 + size), "output or gradient {at}: {apart} of {size}");
    }
}

fn weights(pairs: &[(&str, &Tensor)]) -> Weights {
    let map: HashMap<_, _> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    Weights::from_tensors(map)
}

#[test]
fn norms() {
    let inputs = [random(&[2, 3, 20], 1.0), random(&[20], 2.0), random(&[20], 3.0)];
    agree(
        &inputs,
        |v| {
            let weights = weights(&[("weight", &v[1]), ("bias", &v[2])]);
            LayerNorm::load(&weights, 20, 1e-3).unwrap().forward(&v[0]).unwrap()
        },
        |v| {
            let centred = v[0].broadcast_sub(&v[0].mean_keepdim(D::Minus1).unwrap()).unwrap();
            let variance = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let unit = centred.broadcast_div(&(variance + 1e-3).unwrap().sqrt().unwrap()).unwrap();
            unit.broadcast_mul(&v[1]).unwrap().broadcast_add(&v[2]).unwrap()
        },
    );
    agree(
        &inputs[..2],
        |v| RmsNorm::load(&weights(&[("weight", &v[1])]), 20, 1e-3).unwrap().forward(&v[0]).unwrap(),
        |v| {
            let square = v[0].sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let unit = v[0].broadcast_div(&(square + 1e-3).unwrap().sqrt().unwrap()).unwrap();
            unit.broadcast_mul(&v[1]).unwrap()
        },
    );
    let norm = RmsNorm::load(&weights(&[("weight", &inputs[1])]), 20, 1e-3).unwrap();
    let message = norm.forward(&random(&[10, 4], 0.0)).unwrap_err().to_string();
    assert!(message.contains("[20]") && message.contains("[4]"), "{message}");
}

#[test]
fn linear_layers() {
    let inputs = [random(&[2, 3, 64], 1.0), random(&[40, 64], 2.0), random(&[40], 3.0)];
    let plain = |v: &[Var]| {
        let rows = v[0].reshape((6, 64)).unwrap();
        let y = rows.matmul(&v[1].t().unwrap()).unwrap().broadcast_add(&v[2]).unwrap();
        y.reshape((2, 3, 40)).unwrap()
    };
    let trained = |v: &[Var]| Linear::new(v[1].as_tensor().clone(), Some(v[2].as_tensor().clone()));
    agree(&inputs, |v| trained(v).forward(&v[0]).unwrap(), plain);
    let without = |v: &[Var]| Linear::new(v[1].as_tensor().clone(), None);
    agree(
        &inputs[..2],
        |v| without(v).forward(&v[0]).unwrap(),
        |v| {
            let rows = v[0].reshape((6, 64)).unwrap();
            rows.matmul(&v[1].t().unwrap()).unwrap().reshape((2, 3, 40)).unwrap()
        },
    );
    // Frozen: only the input has a gradient.
    let frozen = weights(&[("weight", &inputs[1]), ("bias", &inputs[2])]).packed(Dtype::F32);
    let frozen = Linear::load(&frozen, 64, 40, true).unwrap();
    let (weight, bias) = (inputs[1].clone(), inputs[2].clone());
    let reference = |v: &[Var]| {
        let y = v[0].reshape((6, 64)).unwrap().matmul(&weight.t().unwrap()).unwrap();
        y.broadcast_add(&bias).unwrap().reshape((2, 3, 40)).unwrap()
    };
    agree(&inputs[..1], |v| frozen.forward(&v[0]).unwrap(), reference);
    let activation = Activation::Gelu;
    agree(
        &inputs[..1],
        |v| frozen.forward_activated(&v[0], activation).unwrap(),
        |v| reference(v).gelu_erf().unwrap(),
    );
    let without_gradient = frozen.forward_activated(&inputs[0], activation).unwrap();
    let with = activation.forward(&frozen.forward(&inputs[0]).unwrap()).unwrap();
    assert!(apart(&without_gradient, &with) < 1e-6);
    let summed = [inputs[0].clone(), random(&[2, 3, 40], 9.0)];
    agree(
        &summed,
        |v| frozen.forward_added(&v[0], &v[1]).unwrap(),
        |v| (reference(v) + v[1].as_tensor()).unwrap(),
    );
}

#[test]
fn every_dtype_multiplies_looks_up_and_passes_gradients() {
    let (x, weight) = (random(&[5, 64], 1.0), random(&[40, 64], 2.0));
    let exact = x.matmul(&weight.t().unwrap()).unwrap();
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    for (dtype, bound) in
        [(Dtype::F32, 1e-6), (Dtype::Bf16, 5e-3), (Dtype::Int8, 4e-2), (Dtype::AsStored, 1e-6)]
    {
        for by_row in [false, true] {
            let weights = weights(&[("weight", &weight)]).packed(dtype);
            let weights = if by_row { weights.by_row() } else { weights };
            let layer = Linear::load(&weights, 64, 40, false).unwrap();
            let error = norm(&(layer.forward(&x).unwrap() - &exact).unwrap()) / norm(&exact);
            assert!(error <= bound, "{dtype}: {error}");
            assert!(matches!(dtype, Dtype::F32 | Dtype::AsStored) || error > 1e-5, "{dtype} rounds: {error}");
            let ids = Tensor::new(&[39_u32, 0, 7], &Device::Cpu).unwrap();
            let rows = layer.rows(&ids).unwrap();
            assert!(norm(&(rows - weight.index_select(&ids, 0).unwrap()).unwrap()) / norm(&weight) <= bound);
            let x = Var::from_tensor(&x).unwrap();
            let gradients = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
            let gradient = gradients.get(&x).unwrap();
            let expected = weight.sum(0).unwrap().broadcast_as((5, 64)).unwrap();
            // Columns add up to little here: the error is that of the whole weight, for each of five rows.
            assert!(
                norm(&(gradient - &expected).unwrap()) / norm(&weight) <= 5.0_f32.sqrt() * bound,
                "{dtype}"
            );
        }
    }
}

#[test]
fn stacked_layers_are_the_layers_side_by_side() {
    let (x, a, b) = (random(&[3, 64], 1.0), random(&[40, 64], 2.0), random(&[8, 64], 3.0));
    let all = weights(&[
        ("a.weight", &a),
        ("a.bias", &random(&[40], 4.0)),
        ("b.weight", &b),
        ("b.bias", &random(&[8], 5.0)),
    ]);
    for weights in [all.clone(), all.clone().packed(Dtype::F32), all.packed(Dtype::Bf16)] {
        let stacked = Stacked::load(&[(weights.pp("a"), 40), (weights.pp("b"), 8)], 64, true, None).unwrap();
        let [a, b] = [("a", 40), ("b", 8)]
            .map(|(name, output)| Linear::load(&weights.pp(name), 64, output, true).unwrap());
        let expected = Tensor::cat(&[a.forward(&x).unwrap(), b.forward(&x).unwrap()], 1).unwrap();
        assert_eq!(apart(&stacked.forward(&x).unwrap(), &expected), 0.0);
    }
}

#[test]
fn gains_multiply_outputs() {
    let (x, weight, bias) = (random(&[3, 32], 1.0), random(&[8, 32], 2.0), random(&[8], 3.0));
    let gains = random(&[8], 4.0);
    let all = weights(&[("weight", &weight), ("bias", &bias)]);
    for weights in [all.clone(), all.packed(Dtype::F32)] {
        let plain = Linear::load(&weights, 32, 8, true).unwrap().forward(&x).unwrap();
        let scaled = Linear::load_with_gains(&weights, 32, 8, true, Some(&gains)).unwrap();
        assert!(apart(&scaled.forward(&x).unwrap(), &plain.broadcast_mul(&gains).unwrap()) < 1e-5);
    }
}

#[test]
fn activations_and_gates() {
    let inputs = [random(&[3, 4, 10], 1.0)];
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu, Activation::Silu] {
        agree(&inputs, |v| activation.forward(&v[0]).unwrap(), |v| activation.composed(&v[0]).unwrap());
        agree(
            &inputs,
            |v| activation.gate(&v[0]).unwrap(),
            |v| {
                let halves = v[0].chunk(2, D::Minus1).unwrap();
                (activation.composed(&halves[0]).unwrap() * &halves[1]).unwrap()
            },
        );
    }
}

#[test]
fn rotary_turns() {
    let rotary = Rotary::new(4, 100.0, &RotaryScaling::None);
    for positions in [vec![vec![3, 4, 5]], vec![vec![3, 4, 5], vec![0, 0, 1]]] {
        let tables = rotary.tables(&positions);
        // Two heads of six channels of which four turn, and five numbers behind them.
        agree(
            &[random(&[2, 3, 17], 1.0)],
            |v| tables.rotate(&v[0], 2, 6).unwrap(),
            |v| {
                let heads = v[0].narrow(2, 0, 12).unwrap().reshape((2, 3, 2, 6)).unwrap();
                let turned = tables.composed(&heads).unwrap().reshape((2, 3, 12)).unwrap();
                Tensor::cat(&[turned, v[0].narrow(2, 12, 5).unwrap()], 2).unwrap()
            },
        );
    }
}

#[test]
fn attention_of_every_kind() {
    let causal = |start, window, padding: &[usize]| Sight::Causal { start, window, padding: padding.into() };
    for heads in [Heads { heads: 4, groups: 2, width: 6 }, Heads { heads: 3, groups: 3, width: 8 }] {
        let joined = random(&[2, 5, heads.joined()], 1.0);
        for sight in
            [Sight::Full, causal(0, None, &[0, 0]), causal(0, Some(2), &[0, 0]), causal(0, None, &[0, 2])]
        {
            // What padding gives is not defined: it does not count.
            let keep: Vec<f32> = match &sight {
                Sight::Full => vec![1.0; 10],
                Sight::Causal { padding, .. } => {
                    padding.iter().flat_map(|&pad| (0..5).map(move |at| f32::from(at >= pad))).collect()
                }
            };
            let keep = Tensor::from_vec(keep, (2, 5, 1), &Device::Cpu).unwrap();
            agree(
                std::slice::from_ref(&joined),
                |v| heads.attend(&v[0], &sight).unwrap().broadcast_mul(&keep).unwrap(),
                |v| {
                    let kept = v[0].narrow(2, heads.queries(), 2 * heads.keys()).unwrap();
                    heads.composed(&v[0], &kept, 5, &sight).unwrap().broadcast_mul(&keep).unwrap()
                },
            );
        }
        // With a cache: the last two positions on their own equal the last two of all.
        for (window, padding) in [(None, [0, 0]), (Some(2), [0, 0]), (None, [0, 4]), (Some(3), [1, 0])] {
            let all = heads.attend(&joined, &causal(0, window, &padding)).unwrap().narrow(1, 3, 2).unwrap();
            let kept = joined.narrow(2, heads.queries(), 2 * heads.keys()).unwrap();
            let kept = kept.pad_with_zeros(1, 0, 3).unwrap().contiguous().unwrap();
            let new = joined.narrow(1, 3, 2).unwrap();
            let step = heads.attend_kept(&new, &kept, 5, &causal(3, window, &padding)).unwrap();
            assert!(apart(&step, &all) < 1e-6, "{window:?} {padding:?}");
        }
    }
}
