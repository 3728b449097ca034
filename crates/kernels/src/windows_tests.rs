#![allow(clippy::unwrap_used)]
use super::*;

fn waves(count: usize, pace: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * pace).sin()).collect()
}

/// Grids, widths, heads and questions, among them the smallest.
const CASES: [(Windows, usize, usize, usize); 5] = [
    (Windows { rows: 2, columns: 6, side: 2 }, 6, 2, 3),
    (Windows { rows: 4, columns: 4, side: 4 }, 40, 2, 1),
    (Windows { rows: 3, columns: 3, side: 1 }, 5, 5, 2),
    (Windows { rows: 6, columns: 3, side: 3 }, 36, 1, 4),
    (Windows { rows: 1, columns: 1, side: 1 }, 1, 1, 1),
];

#[test]
fn windows_of_a_rectangle() {
    let windows = Windows { rows: 2, columns: 6, side: 2 };
    assert_eq!(windows.patches_of(1).collect::<Vec<_>>(), [2, 3, 8, 9]);
    for window in 0..windows.count() {
        for (place, patch) in windows.patches_of(window).enumerate() {
            assert_eq!(windows.place_of(patch), (window, place));
        }
    }
}

/// The loss Σ out · dy in f64, from the definition.
fn attention_loss(layer: &WindowAttention, [q, k, v]: [&[f32]; 3], dy: &[f32]) -> f64 {
    let WindowAttention { windows, heads, width, questions, scale } = *layer;
    let head = width / heads;
    let mut loss = 0.0;
    for row in 0..q.len() / (windows.count() * width) {
        for window in 0..windows.count() {
            for nth in 0..heads {
                let query = (row * windows.count() + window) * width + nth * head;
                let patches: Vec<usize> = windows
                    .patches_of(window)
                    .map(|patch| (row / questions * windows.patches() + patch) * width + nth * head)
                    .collect();
                let score = |patch: &usize| -> f64 {
                    (0..head).map(|i| f64::from(q[query + i]) * f64::from(k[patch + i])).sum::<f64>()
                };
                let exp: Vec<f64> =
                    patches.iter().map(|patch| (score(patch) * f64::from(scale)).exp()).collect();
                let sum: f64 = exp.iter().sum();
                for (patch, exp) in patches.iter().zip(exp) {
                    for i in 0..head {
                        loss += exp / sum * f64::from(v[patch + i]) * f64::from(dy[query + i]);
                    }
                }
            }
        }
    }
    loss
}

fn convolution_loss(windows: Windows, [x, filter, bias]: [&[f32]; 3], dy: &[f32]) -> f64 {
    let width = bias.len();
    let mut loss = 0.0;
    for (at, dy) in dy.iter().enumerate() {
        let (unit, channel) = (at / width, at % width);
        let (image, window) = (unit / windows.count(), unit % windows.count());
        let mut y = f64::from(bias[channel]);
        for (place, patch) in windows.patches_of(window).enumerate() {
            let x = x[(image * windows.patches() + patch) * width + channel];
            y += f64::from(x) * f64::from(filter[channel * windows.inside() + place]);
        }
        loss += y * f64::from(*dy);
    }
    loss
}

/// Each of three gradients against differences of `loss` in the number that is nudged.
fn check_gradients(
    inputs: [&[f32]; 3],
    gradients: &[Option<Vec<f32>>; 3],
    loss: impl Fn([&[f32]; 3]) -> f64,
) {
    for (nth, gradient) in gradients.iter().enumerate() {
        let gradient = gradient.as_ref().unwrap();
        assert_eq!(gradient.len(), inputs[nth].len());
        for at in (0..gradient.len()).step_by(gradient.len() / 40 + 1) {
            let nudged = |by: f32| {
                let mut changed = inputs[nth].to_vec();
                changed[at] += by;
                let mut inputs = inputs;
                inputs[nth] = &changed;
                loss(inputs)
            };
            let expected = (nudged(1e-2) - nudged(-1e-2)) / 2e-2;
            assert!((f64::from(gradient[at]) - expected).abs() < 1e-3, "{nth}: {} {expected}", gradient[at]);
        }
    }
}

#[test]
fn attention_and_its_gradients_are_those_of_the_definition() {
    for (windows, width, heads, questions) in CASES {
        let layer = WindowAttention { windows, heads, width, questions, scale: 0.6 };
        let images = 2;
        let q = waves(images * questions * windows.count() * width, 0.77);
        let (k, v) = (
            waves(images * windows.patches() * width, 1.31),
            waves(images * windows.patches() * width, 0.53),
        );
        let dy = waves(q.len(), 0.19);
        let pool = Pool::new(3).unwrap();
        let out = layer.run(&q, &k, &v, &pool).unwrap();
        let found: f64 = out.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
        let loss = |inputs: [&[f32]; 3]| attention_loss(&layer, inputs, &dy);
        assert!((found - loss([&q, &k, &v])).abs() < 1e-4 * (1.0 + found.abs()), "{found}");
        let gradients = layer.backward([&q, &k, &v], &dy, [true; 3], &pool).unwrap();
        check_gradients([&q, &k, &v], &gradients, loss);
        // Neither threads nor what else is wanted changes a bit.
        assert_eq!(layer.run(&q, &k, &v, &Pool::single()).unwrap(), out);
        for (nth, gradient) in gradients.iter().enumerate() {
            let wanted = std::array::from_fn(|other| other == nth);
            let alone = layer.backward([&q, &k, &v], &dy, wanted, &Pool::single()).unwrap();
            assert_eq!(alone[nth], *gradient);
            assert_eq!(alone.iter().flatten().count(), 1);
        }
        // Nor do the other images.
        let second = windows.patches() * width;
        let rows = q.len() / 2;
        let alone = layer.run(&q[rows..], &k[second..], &v[second..], &pool).unwrap();
        assert_eq!(alone, out[rows..]);
    }
}

#[test]
fn large_scores_stay_finite() {
    let windows = Windows { rows: 1, columns: 2, side: 1 };
    let layer = WindowAttention { windows, heads: 1, width: 1, questions: 1, scale: 1.0 };
    assert_eq!(layer.weights(&[1e4, -1e4], &[1e4, 1e4], &Pool::single()).unwrap(), [1.0, 1.0]);
    let windows = Windows { rows: 2, columns: 2, side: 2 };
    let layer = WindowAttention { windows, ..layer };
    let weights = layer.weights(&[1e4], &[1e4, 0.0, 1e4, -1e4], &Pool::single()).unwrap();
    assert_eq!(weights, [0.5, 0.0, 0.5, 0.0]);
}

#[test]
fn convolution_and_its_gradients_are_those_of_the_definition() {
    for (windows, width, _, _) in CASES {
        let images = 3;
        let x = waves(images * windows.patches() * width, 0.77);
        let (filter, bias) = (waves(width * windows.inside(), 1.9), waves(width, 0.4));
        let dy = waves(images * windows.count() * width, 0.23);
        let pool = Pool::new(2).unwrap();
        let out = windows.convolve(&x, &filter, &bias, &pool).unwrap();
        let found: f64 = out.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum();
        let loss = |inputs: [&[f32]; 3]| convolution_loss(windows, inputs, &dy);
        assert!((found - loss([&x, &filter, &bias])).abs() < 1e-4 * (1.0 + found.abs()), "{found}");
        let gradients = windows.convolve_backward(&x, &filter, &dy, [true; 3], &pool).unwrap();
        check_gradients([&x, &filter, &bias], &gradients, loss);
        let single = windows.convolve_backward(&x, &filter, &dy, [true; 3], &Pool::single()).unwrap();
        assert_eq!(single, gradients);
        assert_eq!(
            windows.convolve_backward(&x, &filter, &dy, [false; 3], &pool).unwrap(),
            [None, None, None]
        );
    }
}

#[test]
fn sizes_that_do_not_fit_are_errors() {
    let (pool, windows) = (Pool::single(), Windows { rows: 4, columns: 2, side: 2 });
    for side in [0, 3, 4] {
        assert!(Windows { side, ..windows }.convolve(&[0.0; 8], &[0.0; 4], &[0.0], &pool).is_err(), "{side}");
    }
    assert!(windows.convolve(&[0.0; 9], &[0.0; 4], &[0.0], &pool).is_err());
    assert!(windows.convolve(&[0.0; 8], &[0.0; 3], &[0.0], &pool).is_err());
    assert!(windows.convolve(&[], &[], &[], &pool).is_err());
    assert!(windows.convolve_backward(&[0.0; 8], &[0.0; 4], &[0.0; 3], [true; 3], &pool).is_err());
    let layer = WindowAttention { windows, heads: 2, width: 2, questions: 1, scale: 1.0 };
    assert!(layer.run(&[0.0; 4], &[0.0; 16], &[0.0; 16], &pool).is_ok());
    assert!(layer.run(&[0.0; 3], &[0.0; 16], &[0.0; 16], &pool).is_err());
    assert!(layer.run(&[0.0; 4], &[0.0; 16], &[0.0; 8], &pool).is_err());
    assert!(WindowAttention { heads: 3, ..layer }.weights(&[0.0; 4], &[0.0; 16], &pool).is_err());
}
