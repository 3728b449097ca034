//! The linear coefficients at given exponents under the log-Huber objective: a bounded, damped Newton iteration started
//! at the weighted least-squares solution.

use super::linear::{least_squares, rough_least_squares};
use super::problem::{Linear, Problem, Square};
use super::solve::{Damping, newton_step};

/// Largest projected gradient (per unit of log-residual) at which the iteration stops.
const TOLERANCE: f64 = 1e-10;
const MOST_STEPS: usize = 200;
const SETTLING_STEPS: usize = 3;

/// Minimises the problem's objective over the coefficients; `start` replaces the least-squares start when it is better.
pub(crate) fn minimise(problem: &Problem<'_>, design: &[Linear], start: Option<&Linear>) -> (f64, Linear) {
    let mut c = least_squares(problem, design, &relative_weights(problem));
    let mut value = problem.value(design, &c);
    if let Some(start) = start {
        let at_start = problem.value(design, start);
        if at_start < value {
            (value, c) = (at_start, *start);
        }
    }
    let columns = problem.columns();
    let mut damping = Damping::default();
    for _ in 0..MOST_STEPS {
        let local = problem.derivatives(design, &c);
        let gradient: Linear = std::array::from_fn(|i| local.gradient[2 + i]);
        let part = |full: &Square| -> [Linear; 3] {
            std::array::from_fn(|i| std::array::from_fn(|j| full[2 + i][2 + j]))
        };
        let (hessian, majorant) = (part(&local.hessian), part(&local.majorant));
        let free: [bool; 3] =
            std::array::from_fn(|i| i < columns && !(problem.bounded(i) && c[i] <= 0.0 && gradient[i] > 0.0));
        let slopes = (0..columns).filter(|&i| free[i]).map(|i| (gradient[i] * scale(problem, i, &c)).abs());
        if slopes.fold(0.0, f64::max) < TOLERANCE {
            break;
        }
        let mut improved = false;
        for _ in 0..30 {
            let matrix = damping.apply(&hessian, &majorant);
            if let Some(next) = bounded_step(problem, &matrix, &gradient, free, &c) {
                let there = problem.value(design, &next);
                if there < value {
                    improved = true;
                    (c, value) = (next, there);
                    damping.lower();
                    break;
                }
            }
            damping.raise();
        }
        if !improved {
            break;
        }
    }
    (value, c)
}

/// A few steps of reweighted least squares: near enough to the bottom to compare nodes of a grid. Returns the best met.
pub(crate) fn settle(problem: &Problem<'_>, design: &[Linear], start: Linear) -> (f64, Linear) {
    let mut best = (f64::INFINITY, start);
    let mut c = start;
    let mut weight = vec![0.0; design.len()];
    for step in 0..=SETTLING_STEPS {
        let value = problem.touching_weights(design, &c, &mut weight);
        if value < best.0 {
            best = (value, c);
        }
        if step < SETTLING_STEPS {
            c = rough_least_squares(problem, design, &weight);
        }
    }
    best
}

/// Weights that turn squared residuals into squared relative ones, the first-order form of log-residuals.
pub(crate) fn relative_weights(problem: &Problem<'_>) -> Vec<f64> {
    problem.weight.iter().zip(&problem.rows.y).map(|(weight, y)| weight / (y * y)).collect()
}

/// Where the Newton step leads when coefficients stop at zero: the first to pass it is put there and the others step
/// again, knowing it. (Cutting a step off at the bound need not lead downhill.)
fn bounded_step(
    problem: &Problem<'_>,
    matrix: &[Linear; 3],
    gradient: &Linear,
    mut free: [bool; 3],
    c: &Linear,
) -> Option<Linear> {
    let mut slope = *gradient;
    let mut next = *c;
    for _ in 0..3 {
        let step = newton_step(matrix, &slope, &free)?;
        // The share of the step after which a coefficient meets its bound.
        let share = |i: usize| -c[i] / step[i];
        let stops = |i: &usize| free[*i] && problem.bounded(*i) && c[*i] + step[*i] < 0.0;
        let Some(first) = (0..3).filter(stops).min_by(|&i, &j| share(i).total_cmp(&share(j))) else {
            for i in (0..3).filter(|&i| free[i]) {
                next[i] = c[i] + step[i];
            }
            break;
        };
        free[first] = false;
        next[first] = 0.0;
        for i in 0..3 {
            slope[i] -= matrix[i][first] * c[first];
        }
    }
    Some(next)
}

/// The size of a coefficient, so that a gradient is per relative change.
fn scale(problem: &Problem<'_>, index: usize, c: &Linear) -> f64 {
    let typical = problem.rows.y.iter().copied().fold(0.0, f64::max);
    if c[index] == 0.0 { typical } else { c[index].abs() }
}
