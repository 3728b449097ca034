//! The linear coefficients at given exponents under the log-Huber objective: a bounded, damped Newton iteration started
//! at the weighted least-squares solution.

use super::linear::least_squares;
use super::problem::{Linear, Problem};

/// Largest projected gradient (per unit of log-residual) at which the iteration stops.
const TOLERANCE: f64 = 1e-10;
const MOST_STEPS: usize = 200;

/// Minimises the problem's objective over the coefficients; `start` replaces the least-squares start when it is better.
pub(crate) fn minimise(problem: &Problem<'_>, design: &[Linear], start: Option<&Linear>) -> (f64, Linear) {
    let relative = relative_weights(problem);
    let mut c = least_squares(problem, design, &relative);
    let mut value = problem.value(design, &c);
    if let Some(start) = start {
        let at_start = problem.value(design, start);
        if at_start < value {
            (value, c) = (at_start, *start);
        }
    }
    let columns = problem.columns();
    let curvature = relative_curvature(problem, design, &relative);
    let mut damping = 1e-6;
    for _ in 0..MOST_STEPS {
        let local = problem.derivatives(design, &c);
        let mut gradient = [0.0; 3];
        let mut hessian = [[0.0; 3]; 3];
        let mut free = [false; 3];
        for i in 0..columns {
            gradient[i] = local.gradient[2 + i];
            free[i] = !(problem.bounded(i) && c[i] <= 0.0 && gradient[i] > 0.0);
            for j in 0..columns {
                hessian[i][j] = local.hessian[2 + i][2 + j];
            }
        }
        let slope = (0..columns).filter(|&i| free[i]).map(|i| (gradient[i] * scale(problem, i, &c)).abs());
        if slope.fold(0.0, f64::max) < TOLERANCE {
            break;
        }
        let mut improved = false;
        for _ in 0..40 {
            let mut damped = hessian;
            for i in 0..columns {
                damped[i][i] += damping * curvature[i];
            }
            if let Some(step) = newton_step(&damped, &gradient, &free) {
                let mut next = c;
                for i in 0..columns {
                    next[i] += step[i];
                    if problem.bounded(i) && next[i] < 0.0 {
                        next[i] = 0.0;
                    }
                }
                let there = problem.value(design, &next);
                if there < value {
                    improved = true;
                    (c, value) = (next, there);
                    damping = (damping * 0.1).max(1e-12);
                    break;
                }
            }
            damping *= 8.0;
            if damping > 1e9 {
                break;
            }
        }
        if !improved {
            break;
        }
    }
    (value, c)
}

/// Weights that turn squared residuals into squared relative ones, the first-order form of log-residuals.
pub(crate) fn relative_weights(problem: &Problem<'_>) -> Vec<f64> {
    problem.weight.iter().zip(&problem.rows.y).map(|(weight, y)| weight / (y * y)).collect()
}

/// The size of a coefficient, so that a gradient is per relative change.
fn scale(problem: &Problem<'_>, index: usize, c: &Linear) -> f64 {
    let typical = problem.rows.y.iter().copied().fold(0.0, f64::max);
    if c[index] == 0.0 { typical } else { c[index].abs() }
}

fn relative_curvature(problem: &Problem<'_>, design: &[Linear], relative: &[f64]) -> Linear {
    let mut sum = [0.0; 3];
    for (columns, weight) in design.iter().zip(relative) {
        for i in 0..problem.columns() {
            sum[i] += weight * columns[i] * columns[i];
        }
    }
    sum
}

/// Solves H·step = −g over the free parameters by elimination; `None` unless H is positive definite there.
pub(crate) fn newton_step<const SIZE: usize>(
    hessian: &[[f64; SIZE]; SIZE],
    gradient: &[f64; SIZE],
    free: &[bool; SIZE],
) -> Option<[f64; SIZE]> {
    let mut matrix = *hessian;
    let mut right = gradient.map(|slope| -slope);
    for pivot in (0..SIZE).filter(|&pivot| free[pivot]) {
        // Elimination without exchanges meets only positive pivots exactly when the matrix is positive definite.
        if matrix[pivot][pivot].is_nan() || matrix[pivot][pivot] <= 0.0 {
            return None;
        }
        for row in (pivot + 1..SIZE).filter(|&row| free[row]) {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            for column in pivot..SIZE {
                matrix[row][column] -= factor * matrix[pivot][column];
            }
            right[row] -= factor * right[pivot];
        }
    }
    let mut step = [0.0; SIZE];
    for pivot in (0..SIZE).rev().filter(|&pivot| free[pivot]) {
        let known: f64 = (pivot + 1..SIZE).map(|column| matrix[pivot][column] * step[column]).sum();
        step[pivot] = (right[pivot] - known) / matrix[pivot][pivot];
    }
    step.iter().all(|value| value.is_finite()).then_some(step)
}
