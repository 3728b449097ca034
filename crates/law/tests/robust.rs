//! Two promises checked by simulation: outliers do not carry a log-Huber fit away, and intervals hold the truth as often
//! as they say.
#![allow(clippy::unwrap_used)]

use foveate_law::{
    BootstrapOptions, FitOptions, Form, Law, Objective, Resample, Table, bootstrap, fit, percentile_interval,
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

/// A loss law over billions of parameters and billions of training tokens.
const LOSSES: Law = Law::Sum { a: 0.354, alpha: 0.34, b: 1.24, beta: 0.28, e: 1.69 };

/// 240 runs of 1e7 to 1e10 parameters on 1e9 to 1e12 tokens, half a per cent of noise; 8 % of them went wrong by 5 to
/// 50 %, three in four of these upwards.
fn losses_with_outliers(seed: u64) -> Table {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let points: Vec<(f64, f64, f64)> = (0..240)
        .map(|row| {
            let x1 = 10_f64.powf(rng.random_range(-2.0..1.0));
            let x2 = 10_f64.powf(rng.random_range(0.0..3.0));
            let mut y = LOSSES.predict(x1, x2) * (0.005 * normal(&mut rng)).exp();
            if row % 25 < 2 {
                let size = rng.random_range(0.05_f64..0.4);
                y *= if rng.random_range(0..4) < 3 { size.exp() } else { (-size).exp() };
            }
            (x1, x2, y)
        })
        .collect();
    Table::from_points(&points)
}

/// Largest relative error of (α, β, E).
fn distance(found: &Law) -> f64 {
    let relative = |found: f64, wanted: f64| (found / wanted - 1.0).abs();
    relative(found.alpha(), LOSSES.alpha())
        .max(relative(found.beta(), LOSSES.beta()))
        .max(relative(found.floor(), LOSSES.floor()))
}

/// Σ huber_δ(ln law − ln y), by its definition.
fn huber_log(law: &Law, table: &Table, delta: f64) -> f64 {
    let loss = |size: f64| if size <= delta { 0.5 * size * size } else { delta * (size - 0.5 * delta) };
    table.rows.iter().map(|row| loss((law.predict(row.x1, row.x2).ln() - row.y.ln()).abs())).sum()
}

proptest! {
    // Integration tests have no place for regression files; the seed in a failure's message is enough.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the outliers, no law near the true one fits better than the fit, and its value is what it says.
    #[test]
    fn gross_outliers_hide_no_lower_objective(
        seed in any::<u64>(),
        moved in proptest::collection::vec(-0.05_f64..0.05, 5),
    ) {
        let table = losses_with_outliers(seed);
        let delta = 1e-3;
        let robust = FitOptions { objective: Objective::HuberLog { delta }, ..FitOptions::default() };
        let found = fit(&table, Form::Sum, &robust).unwrap();
        prop_assert!((huber_log(&found.law, &table, delta) / found.value - 1.0).abs() < 1e-9);
        for scale in [0.0, 0.1, 1.0] {
            let near = |value: f64, index: usize| value * (1.0 + scale * moved[index]);
            for law in [found.law, LOSSES] {
                let Law::Sum { a, alpha, b, beta, e } = law else { unreachable!() };
                let law = Law::Sum {
                    a: near(a, 0), alpha: near(alpha, 1), b: near(b, 2), beta: near(beta, 3), e: near(e, 4),
                };
                prop_assert!(found.value <= huber_log(&law, &table, delta) + 1e-12, "{law:?} beats {:?}", found.law);
            }
        }
    }
}

/// Over forty tables: every Huber fit is close to the law, and the typical error of least squares is several times that
/// of Huber's loss.
#[test]
fn huber_comes_close_to_the_law_and_least_squares_does_not() {
    let robust = FitOptions { objective: Objective::HuberLog { delta: 1e-3 }, ..FitOptions::default() };
    let errors = |options: &FitOptions| {
        let mut errors: Vec<f64> = (0..40)
            .map(|seed| distance(&fit(&losses_with_outliers(seed), Form::Sum, options).unwrap().law))
            .collect();
        errors.sort_by(f64::total_cmp);
        errors
    };
    let (close, far) = (errors(&robust), errors(&FitOptions::default()));
    assert!(close[39] < 0.08 && close[20] < 0.03, "huber-log {close:?}");
    assert!(far[20] > 4.0 * close[20], "squared {far:?}, huber-log {close:?}");
}

/// How often 95 % intervals hold the truth: of α/β, and of the error at (3, 100).
fn coverage(resample: Resample, tables: u64) -> [f64; 2] {
    let truth = Law::Product { a: 0.6, alpha: 0.25, beta: 0.08, d: 0.1 };
    let place = (3.0, 100.0);
    let mut held = [0_u32; 2];
    for seed in 0..tables {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 + seed);
        let mut points = Vec::new();
        for x1 in [0.5, 1.0, 2.0, 4.0, 8.0] {
            for x2 in [1.0, 4.0, 16.0, 36.0, 64.0, 144.0, 576.0] {
                points.push((x1, x2, truth.predict(x1, x2) + 0.005 * normal(&mut rng)));
            }
        }
        let options = BootstrapOptions { resample, draws: 200, seed };
        let table = Table::from_points(&points);
        let laws = bootstrap(&table, Form::Product, &FitOptions::default(), &options).unwrap().laws;
        let ratios: Vec<f64> = laws.iter().map(|law| law.ratio().unwrap_or(f64::INFINITY)).collect();
        let predictions: Vec<f64> = laws.iter().map(|law| law.predict(place.0, place.1)).collect();
        let truths = [truth.ratio().unwrap(), truth.predict(place.0, place.1)];
        for (held, (values, truth)) in held.iter_mut().zip([ratios, predictions].iter().zip(truths)) {
            let [low, high] = percentile_interval(values, 0.95).unwrap();
            *held += u32::from(low <= truth && truth <= high);
        }
    }
    held.map(|held| f64::from(held) / tables as f64)
}

/// The band: percentile intervals of a fit of p = 4 to n = 35 are too short by about √((n − p)/n) = 0.94, which turns
/// 95 % into 93.5 %. Over 200 tables that rate has a standard error of 1.7 %; three of them down from it are 0.883, three
/// standard errors (1.5 %) up from the stated 95 % are 0.996.
fn assert_stated_rate(resample: Resample) {
    let rates = coverage(resample, 200);
    for (rate, what) in rates.into_iter().zip(["α/β", "the error at (3, 100)"]) {
        assert!((0.883..=0.996).contains(&rate), "{} intervals of {what} hold it in {rate}", resample.name());
    }
}

#[test]
fn residual_intervals_hold_the_truth_at_their_stated_rate() {
    assert_stated_rate(Resample::Residuals);
}

#[test]
fn case_intervals_hold_the_truth_at_their_stated_rate() {
    assert_stated_rate(Resample::Cases);
}
