//! Variable projection: the objective minimised over the coefficients is a function of the two exponents alone. It is
//! screened on a grid over the whole search range, and its lowest valleys are followed to the bottom by a projected
//! Newton iteration with exact derivatives. No start values, hence none to get wrong.

use super::linear::least_squares;
use super::problem::{Derivatives, Exponents, Linear, Objective, PARAMETERS, Problem};
use super::robust;
use super::screen::{Care, Grid, Screen, SearchRange, Valley};
use super::solve::{Damping, newton_step};
use crate::form::Form;

const MOST_STEPS: usize = 300;
/// Damped steps in a row that may gain nothing.
const PATIENCE: usize = 4;
/// Steps of one exponent while the other is held: the valley along it need only be compared, not reached.
const TRACE_STEPS: usize = 6;
/// The finer grid around a bottom under Huber's loss: nodes on either side, how far it reaches, how many of its nodes
/// are followed, and how often it is laid again.
const HALF: i32 = 4;
const SPREAD: f64 = 1.6;
const FOLLOWED: usize = 4;
const ROUNDS: usize = 3;

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

/// As [`project`], for comparing places: under Huber's loss the coefficients are only nearly the best.
fn roughly(problem: &Problem<'_>, theta: Exponents, start: Option<&Linear>) -> (Minimum, Vec<Linear>) {
    match (problem.objective, start) {
        (Objective::HuberLog { .. }, Some(start)) => {
            let design = problem.design(theta);
            let (value, c) = robust::settle(problem, &design, *start);
            (Minimum { theta, c, value }, design)
        }
        _ => project(problem, theta, start),
    }
}

/// Follows a valley to its bottom, moving the exponents in `movable` only.
fn descend(
    problem: &Problem<'_>,
    range: SearchRange,
    start: Valley,
    movable: [bool; 2],
    most_steps: usize,
    project: impl Fn(&Problem<'_>, Exponents, Option<&Linear>) -> (Minimum, Vec<Linear>),
) -> Minimum {
    let (mut here, mut design) = project(problem, range.clamp(start.theta), Some(&start.c));
    let columns = problem.columns();
    let mut damping = Damping::default();
    let mut gained_nothing = 0;
    for _ in 0..most_steps {
        let local = problem.derivatives(&design, &here.c);
        // The coefficients are at their best: only the exponents have a slope.
        let gradient = [local.gradient[0], local.gradient[1], 0.0, 0.0, 0.0];
        let free: [bool; PARAMETERS] = std::array::from_fn(|i| match i {
            0 | 1 => {
                let (exponent, slope) = (here.theta[i], gradient[i]);
                let held = exponent <= range.low && slope > 0.0 || exponent >= range.high && slope < 0.0;
                // Without its term an exponent changes nothing, and would make the matrix singular.
                movable[i] && !held && here.c[problem.term_of(i)] != 0.0
            }
            _ => i - 2 < columns && !(problem.bounded(i - 2) && here.c[i - 2] <= 0.0),
        });
        if !(free[0] || free[1]) {
            break;
        }
        let mut moved = false;
        for _ in 0..30 {
            let Some(step) = newton_step(&damping.apply(&local.hessian, &local.majorant), &gradient, &free)
            else {
                damping.raise();
                continue;
            };
            let next = range.clamp([here.theta[0] + step[0], here.theta[1] + step[1]]);
            if next == here.theta {
                break;
            }
            // The coefficients go along as the same step foresees.
            let foreseen: Linear = std::array::from_fn(|i| match here.c[i] + step[2 + i] {
                value if problem.bounded(i) => value.max(0.0),
                value => value,
            });
            let (there, its_design) = project(problem, next, Some(&foreseen));
            if there.value < here.value {
                // A full step that gains next to nothing ends at the bottom, a few damped ones on level ground; the polish
                // does the rest.
                let gained = here.value - there.value > 1e-13 * here.value;
                gained_nothing = if gained { 0 } else { gained_nothing + 1 };
                moved = gained || damping.is_raised() && gained_nothing < PATIENCE;
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

/// The valleys along each exponent: at every node of one, the other is moved to its best. Finds what the grid hides where
/// one term dwarfs the other, and a node beside the dwarf's valley is never beside the giant's as well.
fn traced(problem: &Problem<'_>, range: SearchRange, grid: &Grid) -> Vec<Valley> {
    let mut found = Vec::new();
    for held in 0..2 {
        let mut movable = [true; 2];
        movable[held] = false;
        let traced: Vec<Minimum> = grid
            .lowest_along(held)
            .into_iter()
            .map(|start| descend(problem, range, start, movable, TRACE_STEPS, roughly))
            .collect();
        for (node, here) in traced.iter().enumerate() {
            let left = node.checked_sub(1).is_none_or(|left| traced[left].value > here.value);
            let right = traced.get(node + 1).is_none_or(|right| right.value >= here.value);
            if left && right {
                found.push(Valley { theta: here.theta, c: here.c });
            }
        }
    }
    found
}

/// The least value over the search range: the lowest bottom of the screened valleys and of `near`.
pub(crate) fn minimise(
    problem: &Problem<'_>,
    range: SearchRange,
    screen: &Screen,
    care: Care,
    near: Option<Valley>,
) -> Minimum {
    let grid = screen.grid(problem, care);
    let mut starts: Vec<Valley> = near.into_iter().collect();
    if care == Care::Thorough && problem.form == Form::Sum {
        starts.extend(traced(problem, range, &grid));
    }
    starts.extend(grid.valleys(care));
    let mut best: Option<Minimum> = None;
    let mut bottoms: Vec<Minimum> = Vec::new();
    for start in starts {
        // A bottom found already in the cells around a node is that node's own.
        if bottoms.iter().any(|bottom| grid.neighbours(bottom.theta, start.theta)) {
            continue;
        }
        let bottom = descend(problem, range, start, [true; 2], MOST_STEPS, project);
        bottoms.push(bottom);
        if best.is_none_or(|least| bottom.value < least.value) {
            best = Some(bottom);
        }
    }
    // A grid always has a lowest node; an empty list can only come from values that are all NaN.
    let mut best = best.unwrap_or_else(|| project(problem, [range.low, range.low], None).0);
    if care == Care::Thorough && matches!(problem.objective, Objective::HuberLog { .. }) {
        best = around(problem, range, best);
    }
    polish(problem, range, best)
}

/// Huber's loss has a kink wherever a row passes δ, and small valleys between them: a finer grid around the best bottom,
/// as long as it finds a lower one.
fn around(problem: &Problem<'_>, range: SearchRange, bottom: Minimum) -> Minimum {
    let mut best = bottom;
    for _ in 0..ROUNDS {
        let centre = best;
        let mut grid = Vec::new();
        for i in -HALF..=HALF {
            for j in -HALF..=HALF {
                let factor = |step: i32| SPREAD.powf(f64::from(step) / f64::from(HALF));
                let theta = range.clamp([centre.theta[0] * factor(i), centre.theta[1] * factor(j)]);
                let (value, c) = robust::settle(problem, &problem.design(theta), centre.c);
                grid.push((value, Valley { theta, c }));
            }
        }
        grid.sort_by(|left, right| left.0.total_cmp(&right.0));
        for (_, start) in grid.into_iter().take(FOLLOWED) {
            let found = descend(problem, range, start, [true; 2], MOST_STEPS, project);
            if found.value < best.value {
                best = found;
            }
        }
        if best.value > centre.value * (1.0 - 1e-9) {
            break;
        }
    }
    best
}
