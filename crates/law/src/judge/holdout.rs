//! What the law says about rows it has not seen: one level left out at a time, and the largest model held out.

use serde::Serialize;

use crate::fit::{FitOptions, check, refit};
use crate::form::Law;
use crate::table::{Row, Table};

/// A fit without one level of a factor, judged on that level.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    /// The column whose level was left out.
    pub column: String,
    /// The level, in the table's units (after scaling).
    pub level: f64,
    /// Rows of that level.
    pub n: usize,
    /// The law fitted without it.
    pub coefficients: Law,
    /// α/β of that law.
    pub ratio: Option<f64>,
    /// Root mean square of measured − predicted on the level left out, in units of y.
    pub rmse: f64,
    /// Mean of measured − predicted: positive where the law promises too much.
    pub bias: f64,
}

/// Which factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    X1,
    X2,
}

impl Factor {
    fn of(self, row: &Row) -> f64 {
        match self {
            Factor::X1 => row.x1,
            Factor::X2 => row.x2,
        }
    }
}

/// Fits without the rows at `level`, near the fit with them; `None` when too little remains.
pub(crate) fn leave_out(
    table: &Table,
    options: &FitOptions,
    near: &Law,
    factor: Factor,
    level: f64,
) -> Option<LeftOut> {
    let kept = table.filtered(|row| factor.of(row) != level);
    let left = table.filtered(|row| factor.of(row) == level);
    check(&kept, near.form(), options).ok()?;
    let law = refit(&kept, options, near).ok()?.law;
    let mut residuals: Vec<f64> = left.rows.iter().map(|row| row.y - law.predict(row.x1, row.x2)).collect();
    // Sums are taken in one order, so that the order of the rows changes not even the last bit.
    residuals.sort_by(f64::total_cmp);
    let n = residuals.len();
    Some(LeftOut {
        column: table.columns[factor as usize].clone(),
        level,
        n,
        coefficients: law,
        ratio: law.ratio(),
        rmse: (residuals.iter().map(|residual| residual * residual).sum::<f64>() / n as f64).sqrt(),
        bias: residuals.iter().sum::<f64>() / n as f64,
    })
}

/// At most so many levels of a factor are left out: a column of as many levels as rows would take as many fits.
pub(super) const MOST_LEFT_OUT: usize = 40;

/// Leaves out each level of x1, then of x2, or [`MOST_LEFT_OUT`] of them; `fitted` is the law of the whole table.
pub(crate) fn leave_each_out(table: &Table, options: &FitOptions, fitted: &Law) -> Vec<LeftOut> {
    let [first, second] = table.levels().map(spread);
    let first = first.into_iter().map(|level| (Factor::X1, level));
    let second = second.into_iter().map(|level| (Factor::X2, level));
    first
        .chain(second)
        .filter_map(|(factor, level)| leave_out(table, options, fitted, factor, level))
        .collect()
}

/// At most [`MOST_LEFT_OUT`] of the levels, evenly spread, both ends among them.
fn spread(levels: Vec<f64>) -> Vec<f64> {
    if levels.len() <= MOST_LEFT_OUT {
        return levels;
    }
    (0..MOST_LEFT_OUT).map(|place| levels[place * (levels.len() - 1) / (MOST_LEFT_OUT - 1)]).collect()
}

/// Holds out the largest x1: does the law predict a larger model than it has seen?
pub(crate) fn hold_out_largest(table: &Table, options: &FitOptions, fitted: &Law) -> Option<LeftOut> {
    let largest = table.ranges()[0][1];
    leave_out(table, options, fitted, Factor::X1, largest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fit::fit;
    use crate::form::Form;
    use crate::preset::Preset;

    #[test]
    fn every_level_is_left_out_once() {
        let table = Preset::Reasoning.table().unwrap();
        let options = FitOptions::default();
        let law = fit(&table, Form::Product, &options).unwrap().law;
        let found = leave_each_out(&table, &options, &law);
        // A refit near the whole table's law ends where a fit from nothing ends.
        for left in &found {
            let factor = if left.column == table.columns[0] { Factor::X1 } else { Factor::X2 };
            let alone =
                fit(&table.filtered(|row| factor.of(row) != left.level), Form::Product, &options).unwrap();
            assert!((alone.law.alpha() - left.coefficients.alpha()).abs() < 1e-9, "{left:?}");
        }
        assert_eq!(found.len(), 4 + 7);
        assert_eq!(found.iter().map(|left| left.n).sum::<usize>(), 2 * 28);
    }

    #[test]
    fn a_law_without_noise_predicts_what_it_has_not_seen() {
        let law = Law::Product { a: 0.6, alpha: 0.3, beta: 0.1, d: 0.1 };
        let mut points = Vec::new();
        for x1 in [0.5, 2.0, 7.0] {
            for x2 in [1.0, 9.0, 144.0] {
                points.push((x1, x2, law.predict(x1, x2)));
            }
        }
        let mut table = Table::from_points(&points);
        let found = hold_out_largest(&table, &FitOptions::default(), &law).unwrap();
        assert!((found.level, found.n) == (7.0, 3) && found.rmse < 1e-8, "{found:?}");
        // Larger errors than promised at the largest model are a positive bias.
        table.rows.iter_mut().filter(|row| row.x1 == 7.0).for_each(|row| row.y += 0.05);
        let found = hold_out_largest(&table, &FitOptions::default(), &law).unwrap();
        assert!((found.bias - 0.05).abs() < 1e-8);
        let two_sizes = table.filtered(|row| row.x1 != 2.0);
        assert_eq!(hold_out_largest(&two_sizes, &FitOptions::default(), &law), None);
    }

    #[test]
    fn many_levels_are_left_out_evenly_and_it_is_said() {
        let law = Law::Product { a: 0.6, alpha: 0.3, beta: 0.1, d: 0.1 };
        let points: Vec<(f64, f64, f64)> = (0..100)
            .map(|place| {
                let (x1, x2) = (1.0 + f64::from(place), [1.0, 4.0, 16.0][place as usize % 3]);
                (x1, x2, law.predict(x1, x2) + 1e-3 * f64::from(place).sin())
            })
            .collect();
        let table = Table::from_points(&points);
        let units = crate::Units { scale1: 1.0, scale2: 1.0, tokens: crate::Tokens::Visual };
        let found = crate::assess(&table, Some(Form::Product), &FitOptions::default(), units, None).unwrap();
        let levels: Vec<f64> = found.leave_out[..MOST_LEFT_OUT].iter().map(|left| left.level).collect();
        assert_eq!(found.leave_out.len(), MOST_LEFT_OUT + 3);
        assert_eq!((levels[0], levels[MOST_LEFT_OUT - 1]), (1.0, 100.0));
        assert!(levels.windows(2).all(|pair| (2.0..=3.0).contains(&(pair[1] - pair[0]))), "{levels:?}");
        let text = found.findings.join("\n");
        assert!(text.contains("x1 has 100 levels: 40 of them, evenly spread"), "{text}");
        assert!(!text.contains("x2 has"), "{text}");
    }

    #[test]
    fn the_order_of_the_rows_changes_no_bit() {
        let table = Preset::Reasoning.table().unwrap();
        let options = FitOptions::default();
        let law = fit(&table, Form::Product, &options).unwrap().law;
        let found = leave_each_out(&table, &options, &law);
        let mut turned = table.clone();
        for turn in 1..8 {
            turned.rows.rotate_left(turn);
            turned.rows.swap(turn, 2 * turn);
            assert_eq!(leave_each_out(&turned, &options, &law), found);
        }
    }
}
