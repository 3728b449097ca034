//! Layers with frozen packed weights against the same written with candle's own operations, values and gradients.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use candle_core::{Device, Tensor, Var};

use foveate_nn::check::{agree, apart, random};

use super::*;
use crate::{Dtype, Weights};

fn weights(pairs: &[(&str, &Tensor)]) -> Weights {
    let map: HashMap<_, _> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
    Weights::from_tensors(map)
}

#[test]
fn frozen_layers() {
    let inputs = [random(&[2, 3, 64], 1.0), random(&[40, 64], 2.0), random(&[40], 3.0)];
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
        for range in [0..40, 32..44, 40..48, 7..9] {
            let part = stacked.forward_outputs(&x, range.clone()).unwrap();
            assert_eq!(
                apart(&part, &expected.narrow(1, range.start, range.len()).unwrap()),
                0.0,
                "{range:?}"
            );
        }
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
