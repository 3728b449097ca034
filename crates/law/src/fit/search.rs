//! Variable projection: the objective minimised over the coefficients is a function of the two exponents alone. It is
//! screened on a grid over the whole search range, and its lowest valleys are followed to the bottom by a projected
//! Newton iteration with exact derivatives. No start values, hence none to get wrong.

use super::linear::{Moments, least_squares, least_sum};
use super::problem::{Derivatives, Exponents, Linear, Objective, Problem, Rows, Square};
use super::robust;
use super::solve::{Damping, newton_step};
use crate::form::Form;

/// Nodes of the grid along each exponent.
const NODES: usize = 26;
/// The first node above the lower end, as a share of the range.
const FIRST: f64 = 2e-4;

/// Bounds of the search, the same for both exponents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SearchRange {
    /// Smallest exponent, zero or more.
    pub low: f64,
    /// Largest exponent.
    pub high: f64,
}

impl Default for SearchRange {
    fn default() -> Self {
        SearchRange { low: 0.0, high: 4.0 }
    }
}

impl SearchRange {
    /// Geometric steps away from `low`: small exponents are told apart as well as large ones.
    pub(crate) fn nodes(self) -> [f64; NODES] {
        let width = self.high - self.low;
        std::array::from_fn(|node| match node {
            0 => self.low,
            _ => self.low + width * FIRST.powf((NODES - 1 - node) as f64 / (NODES - 2) as f64),
        })
    }

    fn clamp(self, [alpha, beta]: Exponents) -> Exponents {
        [alpha.clamp(self.low, self.high), beta.clamp(self.low, self.high)]
    }
}

/// The bottom of a valley.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Minimum {
    pub(crate) theta: Exponents,
    pub(crate) c: Linear,
    pub(crate) value: f64,
}

/// The objective minimised over the coefficients at fixed exponents.
pub(crate) fn project(
    problem: &Problem<'_>,
    theta: Exponents,
    start: Option<&Linear>,
) -> (Minimum, Vec<Linear>) {
    let design = problem.design(theta);
    let (value, c) = match problem.objective {
        Objective::Squared => {
            let c = least_squares(problem, &design, problem.weight);
            (problem.value(&design, &c), c)
        }
        Objective::HuberLog { .. } => robust::minimise(problem, &design, start),
    };
    (Minimum { theta, c, value }, design)
}

/// The power terms of every row at every node; a bootstrap computes them once for all its draws.
pub(crate) struct Screen {
    nodes: [f64; NODES],
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Screen {
    pub(crate) fn new(rows: &Rows, range: SearchRange) -> Screen {
        let nodes = range.nodes();
        let powers = |logs: &[f64]| {
            nodes.iter().flat_map(|node| logs.iter().map(move |x| (-node * x).exp())).collect()
        };
        Screen { nodes, first: powers(&rows.u), second: powers(&rows.v) }
    }

    /// The exponents at the grid's lowest `most` local minima, lowest first.
    pub(crate) fn valleys(&self, problem: &Problem<'_>, most: usize) -> Vec<Exponents> {
        let values = self.values(problem);
        let at = |i: usize, j: usize| values[i * NODES + j];
        let around = |i: usize| i.saturating_sub(1)..=(i + 1).min(NODES - 1);
        let mut found: Vec<(f64, Exponents)> = Vec::new();
        for i in 0..NODES {
            for j in 0..NODES {
                let here = at(i, j);
                if around(i).all(|k| around(j).all(|l| at(k, l) >= here)) {
                    found.push((here, [self.nodes[i], self.nodes[j]]));
                }
            }
        }
        found.sort_by(|left, right| left.0.total_cmp(&right.0));
        found.into_iter().take(most).map(|(_, theta)| theta).collect()
    }

    /// Whether both exponents of `theta` lie between the nodes on either side of the node `centre`.
    fn neighbours(&self, theta: Exponents, centre: Exponents) -> bool {
        (0..2).all(|i| {
            let below = self.nodes.iter().rev().find(|node| **node < centre[i]);
            let above = self.nodes.iter().find(|node| **node > centre[i]);
            below.is_none_or(|below| *below <= theta[i]) && above.is_none_or(|above| theta[i] <= *above)
        })
    }

    /// The squared objective (relative residuals for the robust one) at every node, from moments of the rows.
    fn values(&self, problem: &Problem<'_>) -> Vec<f64> {
        let weight = match problem.objective {
            Objective::Squared => problem.weight.to_vec(),
            Objective::HuberLog { .. } => robust::relative_weights(problem),
        };
        let y: Vec<f64> = problem.rows.y.iter().map(|y| y - problem.offset()).collect();
        let total: f64 = weight.iter().sum();
        let sum_y = dot(&weight, &y);
        let weighted_y: Vec<f64> = weight.iter().zip(&y).map(|(w, y)| w * y).collect();
        let squares = dot(&weighted_y, &y);
        let mut values = Vec::with_capacity(NODES * NODES);
        // Both factors at every node, with their moments; only products of the two are left for the inner loop.
        let count = y.len();
        let weigh = |term: &[f64]| term.iter().zip(&weight).map(|(g, w)| g * w).collect::<Vec<f64>>();
        let seconds: Vec<[f64; 3]> = self
            .second
            .chunks_exact(count)
            .map(|second| [dot(&weigh(second), second), dot(&weight, second), dot(&weighted_y, second)])
            .collect();
        for first in self.first.chunks_exact(count) {
            let (weighted, weighted_with_y) = (weigh(first), dot(&weighted_y, first));
            let (square, sum) = (dot(&weighted, first), dot(&weight, first));
            for (second, [qq, q, qy]) in self.second.chunks_exact(count).zip(&seconds) {
                let moments = match problem.form {
                    Form::Product => {
                        let (mut f, mut ff, mut fy) = (0.0, 0.0, 0.0);
                        for row in 0..count {
                            let (part, term) = (weighted[row] * second[row], first[row] * second[row]);
                            f += part;
                            ff += part * term;
                            fy += part * y[row];
                        }
                        Moments { gram: [[ff, f, 0.0], [f, total, 0.0], [0.0; 3]], right: [fy, sum_y, 0.0] }
                    }
                    Form::Sum => {
                        let cross = dot(&weighted, second);
                        Moments {
                            gram: [[square, cross, sum], [cross, *qq, *q], [sum, *q, total]],
                            right: [weighted_with_y, *qy, sum_y],
                        }
                    }
                };
                values.push(least_sum(problem, &moments, squares));
            }
        }
        values
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}

/// Follows a valley to its bottom.
pub(crate) fn descend(problem: &Problem<'_>, range: SearchRange, start: Exponents) -> Minimum {
    let (mut here, mut design) = project(problem, range.clamp(start), None);
    let mut damping = Damping::default();
    for _ in 0..200 {
        let local = problem.derivatives(&design, &here.c);
        let gradient = [local.gradient[0], local.gradient[1]];
        let hessian = reduced(problem, &here, &local.hessian);
        let majorant = reduced(problem, &here, &local.majorant);
        let free = [0, 1].map(|i| {
            let (exponent, slope) = (here.theta[i], gradient[i]);
            !(exponent <= range.low && slope > 0.0 || exponent >= range.high && slope < 0.0)
        });
        let mut moved = false;
        for _ in 0..30 {
            let Some(step) = newton_step(&damping.apply(&hessian, &majorant), &gradient, &free) else {
                damping.raise();
                continue;
            };
            let next = range.clamp([here.theta[0] + step[0], here.theta[1] + step[1]]);
            if next == here.theta {
                break;
            }
            let (there, its_design) = project(problem, next, Some(&here.c));
            if there.value < here.value {
                // A full step that gains next to nothing ends at the bottom; the polish does the rest.
                moved = damping.is_raised() || here.value - there.value > 1e-13 * here.value;
                (here, design) = (there, its_design);
                damping.lower();
                break;
            }
            // At the bottom only rounding is left to compare; a step this small that gains nothing ends the search.
            if (0..2).all(|i| step[i].abs() < 1e-9 * (1.0 + here.theta[i])) {
                break;
            }
            damping.raise();
        }
        if !moved {
            break;
        }
    }
    here
}

/// A Hessian reduced to the exponents: the Schur complement over the free coefficients.
fn reduced(problem: &Problem<'_>, here: &Minimum, full: &Square) -> [[f64; 2]; 2] {
    let columns = problem.columns();
    let free: [bool; 3] = std::array::from_fn(|i| i < columns && !(problem.bounded(i) && here.c[i] <= 0.0));
    let inner: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| full[2 + i][2 + j]));
    let mut out = [[0.0; 2]; 2];
    for j in 0..2 {
        let cross: [f64; 3] = std::array::from_fn(|i| full[2 + i][j]);
        // −H_cc⁻¹·H_cθ: how the coefficients follow the exponent.
        let follow = newton_step(&inner, &cross, &free).unwrap_or_default();
        for i in 0..2 {
            out[i][j] = full[i][j] + (0..columns).map(|k| full[i][2 + k] * follow[k]).sum::<f64>();
        }
    }
    out
}

/// Newton steps in all parameters at once, taken while they bring the gradient down: values can no longer be told apart
/// at the bottom, slopes can.
fn polish(problem: &Problem<'_>, range: SearchRange, bottom: Minimum) -> Minimum {
    let columns = problem.columns();
    let inside = |exponent: f64| exponent > range.low && exponent < range.high;
    let mut free = [inside(bottom.theta[0]), inside(bottom.theta[1]), false, false, false];
    for i in 0..columns {
        free[2 + i] = !problem.bounded(i) || bottom.c[i] > 0.0;
    }
    let steepness = |local: &Derivatives, c: &Linear| {
        let scale = |i: usize| if i < 2 { 1.0 } else { c[i - 2].abs().max(1e-3) };
        (0..5).filter(|&i| free[i]).map(|i| (local.gradient[i] * scale(i)).abs()).fold(0.0, f64::max)
    };
    let mut here = bottom;
    let mut local = problem.derivatives(&problem.design(here.theta), &here.c);
    for _ in 0..8 {
        let Some(step) = newton_step(&local.hessian, &local.gradient, &free) else { break };
        let theta = range.clamp([here.theta[0] + step[0], here.theta[1] + step[1]]);
        let c: Linear = std::array::from_fn(|i| here.c[i] + step[2 + i]);
        if (0..columns).any(|i| problem.bounded(i) && c[i] < 0.0) {
            break;
        }
        let next = problem.derivatives(&problem.design(theta), &c);
        let better = steepness(&next, &c) < 0.5 * steepness(&local, &here.c);
        if !(better && next.value <= bottom.value * (1.0 + 1e-12) + f64::MIN_POSITIVE) {
            break;
        }
        here = Minimum { theta, c, value: next.value };
        local = next;
    }
    here
}

/// The least value over the search range: the lowest bottom of the screened valleys and of `starts`.
pub(crate) fn minimise(
    problem: &Problem<'_>,
    range: SearchRange,
    screen: &Screen,
    most: usize,
    starts: &[Exponents],
) -> Minimum {
    let mut best: Option<Minimum> = None;
    let mut bottoms: Vec<Minimum> = Vec::new();
    for start in starts.iter().copied().chain(screen.valleys(problem, most)) {
        // A bottom found already in the cells around a node is that node's own.
        if bottoms.iter().any(|bottom| screen.neighbours(bottom.theta, start)) {
            continue;
        }
        let bottom = descend(problem, range, start);
        bottoms.push(bottom);
        if best.is_none_or(|least| bottom.value < least.value) {
            best = Some(bottom);
        }
    }
    // A grid always has a lowest node; an empty list can only come from values that are all NaN.
    let best = best.unwrap_or_else(|| project(problem, [range.low, range.low], None).0);
    polish(problem, range, best)
}
