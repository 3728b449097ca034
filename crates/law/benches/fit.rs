//! How long the law takes: one fit, and a fit with a thousand bootstrap draws, on the published table of 28 rows.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use foveate_law::{BootstrapOptions, FitOptions, Form, Objective, Preset, Resample, Table, bootstrap, fit};

const OBJECTIVES: [Objective; 2] = [Objective::Squared, Objective::HuberLog { delta: 1e-3 }];

fn table() -> Table {
    match Preset::Reasoning.table() {
        Ok(table) => table,
        Err(error) => panic!("the embedded table cannot be read: {error}"),
    }
}

/// One fit over the whole search range, grid of valleys included.
fn one_fit(criterion: &mut Criterion) {
    let table = table();
    let mut group = criterion.benchmark_group("fit");
    for objective in OBJECTIVES {
        for form in Form::ALL {
            let options = FitOptions { objective, ..FitOptions::default() };
            group.bench_function(format!("{form}_{}", objective.name()), |bench| {
                bench.iter(|| fit(black_box(&table), form, &options));
            });
        }
    }
    group.finish();
}

/// The point fit and 1,000 refits to resampled rows.
fn thousand_draws(criterion: &mut Criterion) {
    let table = table();
    let mut group = criterion.benchmark_group("bootstrap_1000_cases");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let draws = BootstrapOptions { resample: Resample::Cases, draws: 1000, seed: 1 };
    for objective in OBJECTIVES {
        for form in Form::ALL {
            let options = FitOptions { objective, ..FitOptions::default() };
            group.bench_function(format!("{form}_{}", objective.name()), |bench| {
                bench.iter(|| bootstrap(black_box(&table), form, &options, &draws));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, one_fit, thousand_draws);
criterion_main!(benches);
