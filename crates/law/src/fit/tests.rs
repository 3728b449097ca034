//! The published figures, invariances, and recovery of known laws.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::preset::Preset;
use proptest::prelude::*;

/// Figures of independent scipy runs on the published reasoning table (all 28 rows, unweighted).
#[test]
fn published_table_gives_the_reference_figures() {
    let table = Preset::Reasoning.table().unwrap();
    let fixed = |floor| FitOptions { floor: Floor::Fixed(floor), ..FitOptions::default() };
    let product = fit(&table, Form::Product, &FitOptions::default()).unwrap();
    assert_figures(
        &product,
        &[("A", 0.590771, 6), ("alpha", 0.070937, 6), ("beta", 0.015102, 6), ("D", 0.0, 6)],
    );
    assert_eq!(format!("{:.5e}", product.value), "3.79380e-4");
    let tenth = fit(&table, Form::Product, &fixed(0.1)).unwrap();
    assert_figures(&tenth, &[("A", 0.4908, 4), ("alpha", 0.0870, 4), ("beta", 0.0185, 4), ("D", 0.1, 4)]);
    assert_eq!(format!("{:.3e}", tenth.value), "4.208e-4");
    let fifth = fit(&table, Form::Product, &fixed(0.2)).unwrap();
    assert_figures(&fifth, &[("A", 0.3909, 4), ("alpha", 0.1124, 4), ("beta", 0.0239, 4), ("D", 0.2, 4)]);
    assert_eq!(format!("{:.3e}", fifth.value), "5.007e-4");
    for fit in [product, tenth, fifth] {
        assert_eq!(format!("{:.2}", fit.law.ratio().unwrap()), "4.70");
    }
    let sum = fit(&table, Form::Sum, &FitOptions::default()).unwrap();
    let figures = [
        ("A", 0.401285, 6),
        ("alpha", 0.101060, 6),
        ("B", 0.188510, 6),
        ("beta", 0.050066, 6),
        ("E", 0.0, 6),
    ];
    assert_figures(&sum, &figures);
    assert_eq!(format!("{:.5e}", sum.value), "3.16760e-4");
}

fn assert_figures(fit: &Fit, wanted: &[(&str, f64, usize)]) {
    for ((name, value), (wanted_name, wanted, digits)) in fit.law.named().into_iter().zip(wanted) {
        assert_eq!(name, *wanted_name);
        assert_eq!(format!("{value:.digits$}"), format!("{wanted:.digits$}"), "{name} of {:?}", fit.law);
    }
}

#[test]
fn unit_of_size_and_order_of_rows_change_nothing() {
    let table = Preset::Reasoning.table().unwrap();
    let mut other = table.clone();
    other.rows.iter_mut().for_each(|row| row.x1 *= 1e9);
    let mut shuffled = table.clone();
    shuffled.rows.reverse();
    shuffled.rows.swap(3, 17);
    for form in Form::ALL {
        for objective in [Objective::Squared, Objective::HuberLog { delta: 1e-3 }] {
            let options = FitOptions { objective, ..FitOptions::default() };
            let plain = fit(&table, form, &options).unwrap();
            let scaled = fit(&other, form, &options).unwrap();
            assert!((plain.law.alpha() - scaled.law.alpha()).abs() < 1e-11, "{form} {objective:?}");
            assert!((plain.law.beta() - scaled.law.beta()).abs() < 1e-11, "{form} {objective:?}");
            assert_eq!(fit(&shuffled, form, &options).unwrap(), plain, "to the last bit");
        }
    }
}

#[test]
fn too_little_is_said() {
    let one_size = Table::from_points(&[(1.0, 1.0, 0.5), (1.0, 2.0, 0.4), (1.0, 4.0, 0.3), (1.0, 8.0, 0.2)]);
    let message = |table: &Table, options| fit(table, Form::Product, &options).unwrap_err().to_string();
    assert!(message(&one_size, FitOptions::default()).contains("column \"x1\" has one level only (1)"));
    let three = Table::from_points(&[(1.0, 1.0, 0.5), (2.0, 1.0, 0.4), (1.0, 4.0, 0.0)]);
    assert!(message(&three, FitOptions::default()).contains("3 rows, but the product law has 4"));
    let zero = Table::from_points(&[(1.0, 1.0, 0.5), (2.0, 1.0, 0.4), (1.0, 4.0, 0.0), (2.0, 4.0, 0.1)]);
    let huber = FitOptions { objective: Objective::HuberLog { delta: 1e-3 }, ..Default::default() };
    assert!(message(&zero, huber).contains("line 3, column \"y\": \"0\" has no logarithm"));
    for (options, wanted) in [
        (FitOptions { objective: Objective::HuberLog { delta: 0.0 }, ..Default::default() }, "delta = 0"),
        (FitOptions { floor: Floor::Fixed(-0.1), ..Default::default() }, "floor = -0.1"),
        (
            FitOptions { range: SearchRange { low: 0.0, high: f64::NAN }, ..Default::default() },
            "largest exponent = NaN",
        ),
    ] {
        assert!(message(&zero, options).contains(wanted));
    }
}

fn grid_of(law: Law, noise: &[f64]) -> Table {
    let mut points = Vec::new();
    for x1 in [0.3, 0.9, 2.5, 8.0] {
        for x2 in [1.0, 4.0, 16.0, 64.0, 256.0] {
            let wobble = if noise.is_empty() { 0.0 } else { noise[points.len() % noise.len()] };
            points.push((x1, x2, law.predict(x1, x2) * (1.0 + wobble)));
        }
    }
    Table::from_points(&points)
}

fn any_law() -> impl Strategy<Value = Law> {
    let parts = (0.2_f64..0.8, 0.05_f64..0.9, 0.2_f64..0.8, 0.02_f64..0.9, 0.02_f64..0.3, any::<bool>());
    parts.prop_map(|(a, alpha, b, beta, floor, sum)| match sum {
        true => Law::Sum { a, alpha, b, beta, e: floor },
        false => Law::Product { a, alpha, beta, d: floor },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Without noise the law comes back.
    #[test]
    fn known_laws_are_recovered(law in any_law(), robust in any::<bool>()) {
        let objective = if robust { Objective::HuberLog { delta: 1e-3 } } else { Objective::Squared };
        let found = fit(&grid_of(law, &[]), law.form(), &FitOptions { objective, ..Default::default() }).unwrap();
        for ((name, found), (_, wanted)) in found.law.named().into_iter().zip(law.named()) {
            prop_assert!((found - wanted).abs() < 1e-5 * (1.0 + wanted.abs()), "{name}: {found} for {wanted}");
        }
    }

    /// No point of a fine grid of exponents, each with its best coefficients, lies below the fit.
    #[test]
    fn no_exponents_beat_the_fit(
        law in any_law(),
        noise in proptest::collection::vec(-0.1_f64..0.1, 20),
        robust in any::<bool>(),
    ) {
        let objective = if robust { Objective::HuberLog { delta: 1e-2 } } else { Objective::Squared };
        let table = grid_of(law, &noise);
        let options = FitOptions { objective, ..Default::default() };
        let found = fit(&table, law.form(), &options).unwrap();
        let rows = Rows::new(&table);
        let problem = options.problem(&rows, &rows.weight, law.form());
        for i in 0..60 {
            for j in 0..60 {
                let theta = [0.0005 * 1.16_f64.powi(i), 0.0005 * 1.16_f64.powi(j)].map(|x| x.min(4.0));
                let there = project(&problem, theta, None).0.value;
                prop_assert!(found.value <= there * (1.0 + 1e-9), "{} above {there} at {theta:?}", found.value);
            }
        }
    }
}

/// Small tables on which scipy (40 starts of L-BFGS-B or least_squares) once found a lower objective, with what it found.
#[test]
fn no_peer_is_lower_on_the_tables_where_one_was() {
    // Squared: a coefficient at zero left its exponent's descent standing on a node of the grid.
    let zero_term = [
        (4.4, 800.0, 0.822),
        (3.2, 4.2, 3.34),
        (0.68, 910.0, 0.821),
        (0.41, 61.0, 1.15),
        (6.6, 4.1, 2.56),
        (8.1, 190.0, 0.935),
        (0.075, 4.1, 2.61),
        (9.1, 710.0, 0.826),
    ];
    // Log-Huber with an outlier: least squares has its valley elsewhere.
    let outlier = [
        (0.17, 2.2, 1.02),
        (2.9, 2.2, 0.466),
        (0.17, 3.0, 0.629),
        (2.9, 3.0, 0.484),
        (0.17, 15.0, 0.615),
        (2.9, 15.0, 0.434),
        (0.17, 20.0, 0.598),
        (2.9, 20.0, 0.443),
        (0.17, 27.0, 0.631),
        (2.9, 27.0, 0.429),
        (0.17, 160.0, 0.573),
        (2.9, 160.0, 0.424),
    ];
    // Two levels of both factors: the exponent, its coefficient and the floor give one law in many ways.
    let two_levels = [
        (0.85, 33.0, 0.41),
        (12.0, 33.0, 0.709),
        (0.85, 690.0, 0.684),
        (12.0, 690.0, 0.671),
        (0.85, 33.0, 0.732),
        (12.0, 33.0, 0.715),
        (0.85, 690.0, 0.685),
        (12.0, 690.0, 0.676),
        (0.85, 33.0, 0.717),
        (12.0, 33.0, 0.713),
        (0.85, 690.0, 0.7),
        (12.0, 690.0, 0.674),
    ];
    // Measurements that x2 does not change.
    let constant = [
        (2.3, 3.2, 1.04),
        (6.1, 3.2, 1.0),
        (11.0, 3.2, 0.976),
        (2.3, 80.0, 1.04),
        (6.1, 80.0, 1.0),
        (11.0, 80.0, 0.976),
    ];
    let huber = Objective::HuberLog { delta: 1e-3 };
    let cases: [(&[_], Objective, f64); 4] = [
        (&zero_term, Objective::Squared, 0.41189043529220537),
        (&outlier, huber, 6.591504194351671e-4),
        (&two_levels, huber, 6.225024731461789e-4),
        (&constant, huber, 8.662436320501153e-8),
    ];
    for (points, objective, peer) in cases {
        let options = FitOptions { objective, ..FitOptions::default() };
        let found = fit(&Table::from_points(points), Form::Sum, &options).unwrap();
        assert!(found.value <= peer * (1.0 + 1e-12), "{} above {peer}: {:?}", found.value, found.law);
    }
}
