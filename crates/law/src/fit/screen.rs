//! The grid of exponents that is looked at before any valley is followed: the objective at every node, each with its
//! best coefficients, over the whole search range.
//!
//! Squared residuals need only moments of the rows. Huber's loss has valleys of its own where outliers pull least squares
//! elsewhere, so its grid holds that loss itself, after a few reweighted least-squares steps at each node.

use super::linear::{Moments, least_sum};
use super::problem::{Exponents, Linear, Objective, Problem, Rows};
use super::robust;
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

    pub(super) fn clamp(self, [alpha, beta]: Exponents) -> Exponents {
        [alpha.clamp(self.low, self.high), beta.clamp(self.low, self.high)]
    }
}

/// How much is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// For the fit itself: every valley of the objective's own grid.
    Thorough,
    /// For refits near a known fit: two valleys of the squared objective.
    Quick,
}

impl Care {
    fn valleys(self) -> usize {
        match self {
            // Tables of a dozen rows with outliers were seen with ten.
            Care::Thorough => 16,
            Care::Quick => 2,
        }
    }
}

/// Where a descent starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Valley {
    pub(crate) theta: Exponents,
    pub(crate) c: Linear,
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

    /// The objective at every node: Huber's loss itself for the fit, else least squares.
    pub(crate) fn grid(&self, problem: &Problem<'_>, care: Care) -> Grid {
        let cells = match (problem.objective, care) {
            (Objective::HuberLog { .. }, Care::Thorough) => self.robust(problem),
            _ => self.squares(problem),
        };
        Grid { nodes: self.nodes, cells }
    }

    /// Huber's loss at every node. Each node settles from its least squares and from where its neighbour settled, and
    /// keeps the better.
    fn robust(&self, problem: &Problem<'_>) -> Vec<(f64, Linear)> {
        let mut grid = self.squares(problem);
        for i in 0..NODES {
            let mut neighbour: Option<Linear> = None;
            for j in 0..NODES {
                let design = problem.design([self.nodes[i], self.nodes[j]]);
                let node = &mut grid[i * NODES + j];
                let better = |c: &Linear| problem.value(&design, c) < problem.value(&design, &node.1);
                let start = neighbour.filter(better).unwrap_or(node.1);
                *node = robust::settle(problem, &design, start);
                neighbour = Some(node.1);
            }
        }
        grid
    }

    /// The squared objective (relative residuals for the robust one) at every node, from moments of the rows.
    fn squares(&self, problem: &Problem<'_>) -> Vec<(f64, Linear)> {
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

/// The objective at every node, with its coefficients.
pub(crate) struct Grid {
    nodes: [f64; NODES],
    cells: Vec<(f64, Linear)>,
}

impl Grid {
    /// The lowest local minima, lowest first, as many as `care` follows.
    pub(super) fn valleys(&self, care: Care) -> Vec<Valley> {
        let around = |i: usize| i.saturating_sub(1)..=(i + 1).min(NODES - 1);
        let mut found = Vec::new();
        for i in 0..NODES {
            for j in 0..NODES {
                let here = self.value(i, j);
                // Where a coefficient is zero its exponent changes nothing: of equal nodes only the first counts, or the
                // plateau would take all the places.
                let lowest = around(i).all(|k| {
                    around(j).all(|l| {
                        let there = self.value(k, l);
                        if (k, l) < (i, j) { there > here } else { there >= here }
                    })
                });
                if lowest {
                    found.push((here, self.valley(i, j)));
                }
            }
        }
        found.sort_by(|left, right| left.0.total_cmp(&right.0));
        found.into_iter().take(care.valleys()).map(|(_, valley)| valley).collect()
    }

    /// For every node of exponent `held`, the lowest node of the other.
    pub(super) fn lowest_along(&self, held: usize) -> Vec<Valley> {
        let order = |node: usize, other: usize| if held == 0 { (node, other) } else { (other, node) };
        let value = |node: usize, other: usize| {
            let (i, j) = order(node, other);
            self.value(i, j)
        };
        let lowest = |node: usize| {
            let other = (0..NODES).min_by(|&a, &b| value(node, a).total_cmp(&value(node, b)));
            let (i, j) = order(node, other.unwrap_or(0));
            self.valley(i, j)
        };
        (0..NODES).map(lowest).collect()
    }

    /// Whether both exponents of `theta` lie between the nodes on either side of `centre`.
    pub(super) fn neighbours(&self, theta: Exponents, centre: Exponents) -> bool {
        (0..2).all(|i| {
            let below = self.nodes.iter().rev().find(|node| **node < centre[i]);
            let above = self.nodes.iter().find(|node| **node > centre[i]);
            below.is_none_or(|below| *below <= theta[i]) && above.is_none_or(|above| theta[i] <= *above)
        })
    }

    fn value(&self, i: usize, j: usize) -> f64 {
        self.cells[i * NODES + j].0
    }

    fn valley(&self, i: usize, j: usize) -> Valley {
        Valley { theta: [self.nodes[i], self.nodes[j]], c: self.cells[i * NODES + j].1 }
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(l, r)| l * r).sum()
}
