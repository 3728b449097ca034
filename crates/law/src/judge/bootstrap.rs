//! How far the fit would move with other data: bootstrap over rows, clusters or residuals, seeded, percentile intervals.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::LawError;
use crate::fit::{Care, Exponents, FitOptions, Objective, Rows, Screen, Valley, minimise};
use crate::form::{Form, Law};
use crate::table::Table;

/// What is drawn with replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Resample {
    /// Rows. Right when each row is a measurement of its own.
    Cases,
    /// Whole runs (the `run` column). Right when rows of one training run err together.
    Clusters,
    /// Residuals (of the logarithms under the log-Huber objective), put back on the fitted law. Keeps the grid complete
    /// and takes the errors to be of one size.
    Residuals,
}

impl Resample {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Resample::Cases => "cases",
            Resample::Clusters => "clusters",
            Resample::Residuals => "residuals",
        }
    }
}

/// How to bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootstrapOptions {
    /// What is drawn.
    pub resample: Resample,
    /// Number of draws.
    pub draws: usize,
    /// Seed of the generator (ChaCha8; the same on every machine).
    pub seed: u64,
}

/// Most draws that are accepted: a guard against a typing error.
pub const MAX_DRAWS: usize = 1_000_000;

/// The refitted laws.
#[derive(Clone, Debug, PartialEq)]
pub struct Bootstrap {
    /// One law per draw.
    pub laws: Vec<Law>,
    /// Draws thrown away because they held only one level of a factor or too few different rows.
    pub redrawn: usize,
}

/// Refits the law to resampled tables. Each refit starts at the point estimate and at the two lowest valleys of its own
/// screening grid.
///
/// # Errors
/// No draws or too many, clusters asked of a table without runs or with one run, and what [`crate::fit()`] refuses.
pub fn bootstrap(
    table: &Table,
    form: Form,
    fit_options: &FitOptions,
    options: &BootstrapOptions,
) -> Result<Bootstrap, LawError> {
    if !(1..=MAX_DRAWS).contains(&options.draws) {
        return Err(LawError::BadOption {
            option: "bootstrap",
            value: options.draws.to_string(),
            allowed: format!("1 to {MAX_DRAWS}"),
        });
    }
    crate::fit::check(table, form, fit_options)?;
    let rows = Rows::new(table);
    let (problem, point) = crate::fit::solve(&rows, form, fit_options);
    let screen = Screen::new(&rows, fit_options.range);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let refit = |rows: &Rows, weight: &[f64]| {
        let problem = fit_options.problem(rows, weight, form);
        let near = Valley { theta: point.theta, c: point.c };
        let minimum = minimise(&problem, fit_options.range, &screen, Care::Quick, Some(near));
        problem.law(minimum.theta, &minimum.c)
    };
    let mut laws = Vec::with_capacity(options.draws);
    let mut redrawn = 0;
    if options.resample == Resample::Residuals {
        let fitted = fitted(&problem, point.theta, &point.c);
        for _ in 0..options.draws {
            laws.push(refit(
                &rows.with_y(resampled(&rows, &fitted, fit_options.objective, &mut rng)),
                &rows.weight,
            ));
        }
        return Ok(Bootstrap { laws, redrawn });
    }
    let groups = groups(table, &rows, options.resample)?;
    let wanted = problem.columns() + 2;
    let mut counts = vec![0.0; rows.len()];
    while laws.len() < options.draws {
        counts.fill(0.0);
        for _ in 0..groups.len() {
            for &row in &groups[rng.random_range(0..groups.len())] {
                counts[row] += 1.0;
            }
        }
        if !carries(&rows, &counts, wanted) {
            redrawn += 1;
            if redrawn > 20 * options.draws + 1000 {
                return Err(LawError::TooLittle {
                    origin: table.place(),
                    message: format!(
                        "almost every resample by {} holds one level of a factor or too few rows; \
                         use the residual bootstrap or none",
                        options.resample.name()
                    ),
                });
            }
            continue;
        }
        let weight: Vec<f64> =
            counts.iter().zip(&rows.weight).map(|(count, weight)| count * weight).collect();
        laws.push(refit(&rows, &weight));
    }
    Ok(Bootstrap { laws, redrawn })
}

fn fitted(problem: &crate::fit::Problem<'_>, theta: Exponents, c: &[f64; 3]) -> Vec<f64> {
    problem.design(theta).iter().map(|columns| problem.model(columns, c)).collect()
}

/// Measurements made of the fitted law and residuals drawn from its own.
fn resampled(rows: &Rows, fitted: &[f64], objective: Objective, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count = rows.len();
    (0..count)
        .map(|row| {
            let from = rng.random_range(0..count);
            match objective {
                // Residuals of rows with other weights are brought to this row's scale.
                Objective::Squared => {
                    let scale = (rows.weight[from] / rows.weight[row]).sqrt();
                    fitted[row] + scale * (rows.y[from] - fitted[from])
                }
                Objective::HuberLog { .. } => fitted[row] * rows.y[from] / fitted[from],
            }
        })
        .collect()
}

/// Rows (by sorted position) that are drawn together.
fn groups(table: &Table, rows: &Rows, resample: Resample) -> Result<Vec<Vec<usize>>, LawError> {
    if resample == Resample::Cases {
        return Ok((0..rows.len()).map(|row| vec![row]).collect());
    }
    let mut runs: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (position, &source) in rows.source.iter().enumerate() {
        let Some(run) = &table.rows[source].run else {
            return Err(LawError::TooLittle {
                origin: table.place(),
                message: format!(
                    "line {} names no run; a cluster bootstrap needs a run in every row (column `run`)",
                    table.rows[source].line
                ),
            });
        };
        runs.entry(run).or_default().push(position);
    }
    if runs.len() < 2 {
        return Err(LawError::TooLittle {
            origin: table.place(),
            message: "one run only; a cluster bootstrap needs two or more".into(),
        });
    }
    Ok(runs.into_values().collect())
}

/// Whether a draw has two levels of both factors and at least `wanted` different rows.
fn carries(rows: &Rows, counts: &[f64], wanted: usize) -> bool {
    let drawn = || (0..rows.len()).filter(|&row| counts[row] > 0.0);
    let varies =
        |logs: &[f64]| drawn().any(|row| drawn().next().is_some_and(|first| logs[first] != logs[row]));
    drawn().count() >= wanted && varies(&rows.u) && varies(&rows.v)
}

/// The percentile interval that holds the central `level` of `values`; `None` for no values. Infinite values are
/// allowed and sort to their end.
///
/// ```
/// use foveate_law::percentile_interval;
/// let values: Vec<f64> = (0..=100).map(f64::from).collect();
/// assert_eq!(percentile_interval(&values, 0.5), Some([25.0, 75.0]));
/// ```
pub fn percentile_interval(values: &[f64], level: f64) -> Option<[f64; 2]> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let quantile = |share: f64| {
        let place = share * last as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        if below == above { below } else { below + (above - below) * place.fract() }
    };
    let tail = (1.0 - level) / 2.0;
    Some([quantile(tail), quantile(1.0 - tail)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::preset::Preset;

    fn draws(table: &Table, resample: Resample, seed: u64, draws: usize) -> Result<Bootstrap, LawError> {
        bootstrap(table, Form::Product, &FitOptions::default(), &BootstrapOptions { resample, draws, seed })
    }

    /// method.md: case bootstrap over rows, D ≥ 0, percentile 95 %: 4.2–5.2; the published 5.13 lies inside.
    #[test]
    fn ratio_of_the_published_table_has_the_known_interval() {
        let table = Preset::Reasoning.table().unwrap();
        let found = draws(&table, Resample::Cases, 1, 2000).unwrap();
        let ratios: Vec<f64> = found.laws.iter().filter_map(Law::ratio).collect();
        let [low, high] = percentile_interval(&ratios, 0.95).unwrap();
        assert_eq!(format!("{low:.1} {high:.1}"), "4.2 5.2");
        assert!(low < 5.13 && 5.13 < high);
    }

    #[test]
    fn seed_decides_and_order_of_rows_does_not() {
        let table = Preset::Reasoning.table().unwrap();
        let mut reversed = table.clone();
        reversed.rows.reverse();
        for resample in [Resample::Cases, Resample::Residuals] {
            let one = draws(&table, resample, 7, 20).unwrap();
            assert_eq!(one, draws(&reversed, resample, 7, 20).unwrap());
            assert_ne!(one, draws(&table, resample, 8, 20).unwrap());
        }
    }

    #[test]
    fn clusters_need_runs_and_draw_them_whole() {
        let mut table = Preset::Reasoning.table().unwrap();
        let error = draws(&table, Resample::Clusters, 0, 5).unwrap_err().to_string();
        assert!(error.contains("line 2 names no run"), "{error}");
        table.rows.iter_mut().for_each(|row| row.run = Some("only".into()));
        let error = draws(&table, Resample::Clusters, 0, 5).unwrap_err().to_string();
        assert!(error.contains("one run only"), "{error}");
        // Two runs that are each the whole table: every draw is a multiple of it, so every refit is the fit.
        let mut doubled = table.clone();
        doubled
            .rows
            .extend(table.rows.iter().cloned().map(|row| crate::Row { run: Some("other".into()), ..row }));
        let fit = crate::fit(&table, Form::Product, &FitOptions::default()).unwrap();
        for law in draws(&doubled, Resample::Clusters, 0, 8).unwrap().laws {
            assert!((law.alpha() - fit.law.alpha()).abs() < 1e-12);
        }
    }

    #[test]
    fn no_draws_are_refused() {
        let table = Preset::Reasoning.table().unwrap();
        assert!(draws(&table, Resample::Cases, 0, 0).unwrap_err().to_string().contains("bootstrap = 0"));
    }
}
