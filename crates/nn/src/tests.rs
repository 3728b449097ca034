//! The operations of the kernels against the same written with candle's own, values and gradients.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use candle_core::{D, Device, Tensor, Var};
use foveate_kernels::{Format, Matrix, Source, WindowAttention};

use super::*;
use crate::check::{agree, apart, random};
use crate::threads::pool;
use crate::windows::{composed_attention, composed_convolution};

#[test]
fn norms() {
    let inputs = [random(&[2, 3, 20], 1.0), random(&[20], 2.0), random(&[20], 3.0)];
    agree(
        &inputs,
        |v| layer_norm(&v[0], &v[1], &v[2], 1e-3).unwrap(),
        |v| {
            let centred = v[0].broadcast_sub(&v[0].mean_keepdim(D::Minus1).unwrap()).unwrap();
            let variance = centred.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let unit = centred.broadcast_div(&(variance + 1e-3).unwrap().sqrt().unwrap()).unwrap();
            unit.broadcast_mul(&v[1]).unwrap().broadcast_add(&v[2]).unwrap()
        },
    );
    agree(
        &inputs[..2],
        |v| rms_norm(&v[0], &v[1], 1e-3).unwrap(),
        |v| {
            let square = v[0].sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
            let unit = v[0].broadcast_div(&(square + 1e-3).unwrap().sqrt().unwrap()).unwrap();
            unit.broadcast_mul(&v[1]).unwrap()
        },
    );
    let message = rms_norm(&random(&[10, 4], 0.0), &inputs[1], 1e-3).unwrap_err().to_string();
    assert!(message.contains("[20]") && message.contains("[4]"), "{message}");
}

#[test]
fn linear_layers() {
    let inputs = [random(&[2, 3, 64], 1.0), random(&[40, 64], 2.0), random(&[40], 3.0)];
    let product = |x: &Tensor, weight: &Tensor| {
        let y = x.reshape((6, 64)).unwrap().matmul(&weight.t().unwrap()).unwrap();
        y.reshape((2, 3, 40)).unwrap()
    };
    let plain = |v: &[Var]| product(&v[0], &v[1]).broadcast_add(&v[2]).unwrap();
    agree(&inputs, |v| linear(&v[0], &v[1], Some(&v[2])).unwrap(), plain);
    agree(&inputs[..2], |v| linear(&v[0], &v[1], None).unwrap(), |v| product(&v[0], &v[1]));
    let sum = [inputs[0].clone(), inputs[1].clone(), random(&[2, 3, 40], 4.0)];
    agree(
        &sum,
        |v| linear_added(&v[0], &v[1], &v[2]).unwrap(),
        |v| (product(&v[0], &v[1]) + v[2].as_tensor()).unwrap(),
    );
    assert!(linear_added(&inputs[0], &inputs[1], &random(&[3, 2, 40], 4.0)).is_err());
    let message = linear(&random(&[2, 63], 0.0), &inputs[1], None).unwrap_err().to_string();
    assert!(message.contains("[64]") && message.contains("[63]"), "{message}");
}

#[test]
fn only_what_is_trained_has_a_gradient() {
    let (x, weight, bias) = (random(&[3, 8], 1.0), random(&[4, 8], 2.0), random(&[4], 3.0));
    for trained in 0..3 {
        let variable = Var::from_tensor([&x, &weight, &bias][trained]).unwrap();
        let mut inputs = [&x, &weight, &bias];
        inputs[trained] = variable.as_tensor();
        let y = linear(inputs[0], inputs[1], Some(inputs[2])).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        for (nth, input) in inputs.iter().enumerate() {
            assert_eq!(
                gradients.get(input).is_some(),
                nth == trained,
                "input {nth} where {trained} is trained"
            );
        }
    }
}

#[test]
fn packed_products() {
    let (weight, bias) = (random(&[40, 64], 2.0), random(&[40], 3.0));
    let numbers = weight.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let matrix = Arc::new(Matrix::pack(Source::F32(&numbers), Format::F32, 40, 64, &pool()).unwrap());
    let packed_bias: Arc<[f32]> = bias.to_vec1::<f32>().unwrap().into();
    let inputs = [random(&[2, 3, 64], 1.0), random(&[2, 3, 40], 9.0)];
    let plain = |v: &[Var]| linear(&v[0], &weight, Some(&bias)).unwrap();
    agree(
        &inputs[..1],
        |v| v[0].apply_op1(PackedProduct::new(&matrix, Some(&packed_bias), None)).unwrap(),
        plain,
    );
    agree(
        &inputs,
        |v| v[0].apply_op2(&v[1], PackedSum::new(&matrix, Some(&packed_bias))).unwrap(),
        |v| (plain(v) + v[1].as_tensor()).unwrap(),
    );
    let activated = PackedProduct::new(&matrix, Some(&packed_bias), Some(Activation::Gelu));
    let expected = Activation::Gelu.forward(&linear(&inputs[0], &weight, Some(&bias)).unwrap()).unwrap();
    assert!(apart(&inputs[0].apply_op1_no_bwd(&activated).unwrap(), &expected) < 1e-5);
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
    let wide = Heads { heads: 1, groups: 1, width: 300 };
    for heads in [Heads { heads: 4, groups: 2, width: 6 }, Heads { heads: 3, groups: 3, width: 8 }, wide] {
        let joined = random(&[2, 5, heads.joined()], 1.0);
        for sight in
            [Sight::Full, causal(0, None, &[0, 0]), causal(0, Some(2), &[0, 0]), causal(0, Some(2), &[0, 2])]
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

#[test]
fn shifted_activations() {
    // Two images with three questions each, and one each.
    for rows in [6, 2] {
        agree(
            &[random(&[2, 5, 7], 1.0), random(&[rows, 7], 2.0)],
            |v| Activation::Gelu.shifted(&v[0], &v[1]).unwrap(),
            |v| Activation::Gelu.composed_shifted(&v[0], &v[1]).unwrap(),
        );
    }
    let message = Activation::Gelu.shifted(&random(&[2, 5, 7], 1.0), &random(&[3, 7], 2.0)).unwrap_err();
    assert!(message.to_string().contains("[3, 7]"), "{message}");
}

/// Grids with their windows, heads of different widths, questions for each of two images.
const TILINGS: [(Windows, usize, usize); 4] = [
    (Windows { rows: 4, columns: 6, side: 2 }, 2, 3),
    (Windows { rows: 3, columns: 3, side: 3 }, 1, 1),
    (Windows { rows: 2, columns: 3, side: 1 }, 4, 2),
    (Windows { rows: 4, columns: 4, side: 4 }, 4, 4),
];

#[test]
fn attention_inside_windows() {
    for (windows, heads, questions) in TILINGS {
        let d = 20;
        let inputs = [
            random(&[2 * questions, windows.count(), d], 1.0),
            random(&[2, windows.patches(), d], 2.0),
            random(&[2, windows.patches(), d], 3.0),
        ];
        let scale = ((d / heads) as f32).powf(-0.5);
        let layer = WindowAttention { windows, heads, width: d, questions, scale };
        agree(
            &inputs,
            |v| window_attention(windows, heads, &v[0], &v[1], &v[2]).unwrap(),
            |v| composed_attention(&layer, &v[0], &v[1], &v[2]).unwrap(),
        );
        // Where all keys are equal, weights are.
        let keys = Tensor::ones(inputs[1].shape(), candle_core::DType::F32, &Device::Cpu).unwrap();
        let weights = window_weights(windows, heads, &inputs[0], &keys).unwrap();
        assert_eq!(weights.dims(), [2 * questions, windows.count(), heads, windows.inside()]);
        let equal = Tensor::full(1.0 / windows.inside() as f32, weights.shape(), &Device::Cpu).unwrap();
        assert!(apart(&weights, &equal) < 1e-6);
    }
}

#[test]
fn convolutions_of_windows() {
    for (windows, _, _) in TILINGS {
        let side = windows.side;
        agree(
            &[random(&[2, windows.patches(), 9], 1.0), random(&[9, 1, side, side], 2.0), random(&[9], 3.0)],
            |v| window_convolution(windows, &v[0], &v[1], &v[2]).unwrap(),
            |v| composed_convolution(windows, &v[0], &v[1], &v[2]).unwrap(),
        );
    }
}

#[test]
fn windows_that_do_not_fit_are_named() {
    let windows = Windows { rows: 4, columns: 6, side: 2 };
    let (queries, patches) = (random(&[1, 6, 8], 1.0), random(&[1, 24, 8], 2.0));
    assert!(window_attention(windows, 2, &queries, &patches, &patches).is_ok());
    let message = |result: candle_core::Result<Tensor>| result.unwrap_err().to_string();
    let odd = Windows { side: 4, ..windows };
    assert!(
        message(window_attention(odd, 2, &queries, &patches, &patches)).contains("side of a window is 4")
    );
    assert!(message(window_attention(windows, 3, &queries, &patches, &patches)).contains("[3]"));
    let fewer = random(&[1, 5, 8], 1.0);
    assert!(message(window_attention(windows, 2, &fewer, &patches, &patches)).contains("queries"));
}
