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

proptest! {
    // Integration tests have no place for regression files; the seed in a failure's message is enough.
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// On any table, not only on the average one.
    #[test]
    fn gross_outliers_leave_a_huber_fit_close_to_the_law(seed in any::<u64>()) {
        let table = losses_with_outliers(seed);
        let robust = FitOptions { objective: Objective::HuberLog { delta: 1e-3 }, ..FitOptions::default() };
        let close = fit(&table, Form::Sum, &robust).unwrap();
        prop_assert!(distance(&close.law) < 0.05, "{:?}", close.law);
    }
}

/// Over thirty tables the typical error of least squares is several times that of Huber's loss.
#[test]
fn huber_comes_much_closer_than_least_squares() {
    let robust = FitOptions { objective: Objective::HuberLog { delta: 1e-3 }, ..FitOptions::default() };
    let median = |options: &FitOptions| {
        let mut errors: Vec<f64> = (0..30)
            .map(|seed| distance(&fit(&losses_with_outliers(seed), Form::Sum, options).unwrap().law))
            .collect();
        errors.sort_by(f64::total_cmp);
        errors[15]
    };
    let (close, far) = (median(&robust), median(&FitOptions::default()));
    assert!(close < 0.03 && far > 4.0 * close, "huber-log {close}, squared {far}");
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
/// 95 % into 93.5 %. Over 250 tables that rate has a standard error of 1.6 %; three of them down from it are 0.887, three
/// standard errors (1.4 %) up from the stated 95 % are 0.991.
#[test]
fn intervals_hold_the_truth_at_their_stated_rate() {
    for resample in [Resample::Residuals, Resample::Cases] {
        let rates = coverage(resample, 250);
        for (rate, what) in rates.into_iter().zip(["α/β", "the error at (3, 100)"]) {
            assert!(
                (0.887..=0.991).contains(&rate),
                "{} intervals of {what} hold it in {rate}",
                resample.name()
            );
        }
    }
}
