//! The linear coefficients at given exponents: non-negative weighted least squares over at most three columns, solved
//! exactly by trying every set of free coefficients.

use super::problem::{Linear, Problem};
use super::solve::solve;

/// Pivots below this share of their column's norm count as collinear.
const COLLINEAR: f64 = 1e-14;

/// Normal equations of one design.
pub(crate) struct Moments {
    /// Σ w·g·gᵀ, symmetric.
    pub(crate) gram: [[f64; 3]; 3],
    /// Σ w·g·y.
    pub(crate) right: [f64; 3],
}

/// The least sum of squares that the moments allow, `squares` being Σ w·y², and its coefficients: good to about 1e-11 of
/// it, enough to compare nodes of a grid.
pub(crate) fn least_sum(problem: &Problem<'_>, moments: &Moments, squares: f64) -> (f64, Linear) {
    let columns = problem.columns();
    let mut least = (squares, [0.0; 3]);
    for free in (1..1_u8 << columns).rev() {
        let Some(c) = solve_free(moments, free) else { continue };
        if (0..columns).all(|index| !problem.bounded(index) || c[index] >= 0.0) {
            let sum = squares - (0..columns).map(|index| c[index] * moments.right[index]).sum::<f64>();
            if sum < least.0 {
                least = (sum, c);
            }
            if free.count_ones() as usize == columns {
                break;
            }
        }
    }
    least
}

/// Minimises Σ w·(Σ g·c + offset − y)² over c, bounded coefficients at zero or above.
///
/// `weight` may differ from the problem's (the robust objective starts from relative residuals). Two steps of iterative
/// refinement bring the solution to the accuracy of an orthogonal factorisation.
pub(crate) fn least_squares(problem: &Problem<'_>, design: &[Linear], weight: &[f64]) -> Linear {
    let columns = problem.columns();
    let offset = problem.offset();
    let target = |row: usize| problem.rows.y[row] - offset;
    let moments = moments(design, weight, target);
    let mut best: Option<(f64, Linear)> = None;
    // Highest subset first: when all coefficients may be free and none is negative, nothing can beat it.
    for free in (1..1_u8 << columns).rev() {
        let Some(mut c) = solve_free(&moments, free) else { continue };
        if free.count_ones() > 1 {
            for _ in 0..2 {
                refine(&moments, design, weight, target, free, &mut c);
            }
        }
        if (0..columns).any(|index| problem.bounded(index) && c[index] < 0.0) {
            continue;
        }
        let sum = squares(design, weight, target, &c);
        if best.is_none_or(|(least, _)| sum < least) {
            best = Some((sum, c));
        }
        if free.count_ones() as usize == columns {
            break;
        }
    }
    // Every column can be refused only when all measurements lie below the offset: then the best is nothing at all.
    best.map_or([0.0; 3], |(_, c)| c)
}

/// As [`least_squares`] without the refinement: good to a few digits, for comparing nodes.
pub(crate) fn rough_least_squares(problem: &Problem<'_>, design: &[Linear], weight: &[f64]) -> Linear {
    let offset = problem.offset();
    let target = |row: usize| problem.rows.y[row] - offset;
    let squares = weight.iter().enumerate().map(|(row, weight)| weight * target(row).powi(2)).sum();
    least_sum(problem, &moments(design, weight, target), squares).1
}

fn moments(design: &[Linear], weight: &[f64], target: impl Fn(usize) -> f64) -> Moments {
    let mut gram = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for (row, columns) in design.iter().enumerate() {
        for i in 0..3 {
            let weighted = weight[row] * columns[i];
            for j in i..3 {
                gram[i][j] += weighted * columns[j];
            }
            right[i] += weighted * target(row);
        }
    }
    for i in 0..3 {
        for j in 0..i {
            gram[i][j] = gram[j][i];
        }
    }
    Moments { gram, right }
}

fn squares(design: &[Linear], weight: &[f64], target: impl Fn(usize) -> f64, c: &Linear) -> f64 {
    let residual = |row: usize, g: &Linear| g[0] * c[0] + g[1] * c[1] + g[2] * c[2] - target(row);
    design.iter().enumerate().map(|(row, g)| weight[row] * residual(row, g).powi(2)).sum()
}

fn refine(
    moments: &Moments,
    design: &[Linear],
    weight: &[f64],
    target: impl Fn(usize) -> f64,
    free: u8,
    c: &mut Linear,
) {
    let mut right = [0.0; 3];
    for (row, g) in design.iter().enumerate() {
        let residual = target(row) - (g[0] * c[0] + g[1] * c[1] + g[2] * c[2]);
        for i in 0..3 {
            right[i] += weight[row] * g[i] * residual;
        }
    }
    if let Some(step) = solve_free(&Moments { gram: moments.gram, right }, free) {
        for i in 0..3 {
            c[i] += step[i];
        }
    }
}

/// Solves the normal equations restricted to the coefficients in the bit set `free`; `None` when their columns are
/// collinear.
fn solve_free(moments: &Moments, free: u8) -> Option<Linear> {
    let free = [free & 1 != 0, free & 2 != 0, free & 4 != 0];
    solve(&moments.gram, &moments.right, &free, COLLINEAR)
}

#[cfg(test)]
mod tests {
    use super::super::problem::{Floor, Objective, Rows};
    use super::*;
    use crate::form::Form;
    use crate::table::Table;
    use proptest::prelude::*;

    proptest! {
        /// The Karush–Kuhn–Tucker conditions hold: no slope at a free coefficient, none downwards at a zero one.
        #[test]
        fn solution_is_optimal(
            noise in proptest::collection::vec(-1.0_f64..1.0, 12),
            weights in proptest::collection::vec(0.1_f64..3.0, 12),
            theta in (0.05_f64..2.0, 0.05_f64..2.0),
            sum in any::<bool>(),
        ) {
            let mut points = Vec::new();
            for (place, noise) in noise.iter().enumerate() {
                points.push((1.0 + (place / 4) as f64, 2_f64.powi((place % 4) as i32), noise + 0.3));
            }
            let rows = Rows::new(&Table::from_points(&points));
            let form = if sum { Form::Sum } else { Form::Product };
            let problem = Problem {
                rows: &rows, weight: &weights, form, floor: Floor::Free, objective: Objective::Squared,
            };
            let design = problem.design([theta.0, theta.1]);
            let c = least_squares(&problem, &design, &weights);
            let gradient = problem.derivatives(&design, &c).gradient;
            for column in 0..problem.columns() {
                prop_assert!(c[column] >= 0.0);
                let slope = gradient[2 + column];
                if c[column] > 0.0 {
                    prop_assert!(slope.abs() < 1e-9, "free coefficient {column} has slope {slope}");
                } else {
                    prop_assert!(slope > -1e-9, "coefficient {column} at zero has slope {slope}");
                }
            }
        }
    }
}
