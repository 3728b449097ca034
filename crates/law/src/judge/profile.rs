//! Profile likelihood: the least objective with one quantity held, and the values of it that the data do not rule out.

use serde::Serialize;

use crate::fit::{
    Exponents, FitOptions, Floor, Minimum, Objective, Problem, Rows, SearchRange, project, solve,
};
use crate::form::Form;
use crate::table::Table;

/// 95 % quantile of χ² with one degree of freedom.
const CHI_SQUARE_95: f64 = 3.841_458_820_694_124;

/// Below this share of the spread of ln x an exponent counts as zero.
const VANISHING: f64 = 1e-3;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Held {
    /// The exponent of x1.
    Alpha,
    /// The exponent of x2.
    Beta,
    /// α/β.
    Ratio,
}

/// An interval, either end of which may be open: the search range ended before the objective rose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProfileInterval {
    /// Lowest value that fits as well.
    pub low: f64,
    /// Highest value that fits as well.
    pub high: f64,
    /// Whether lower values would fit as well, were they searched.
    pub open_below: bool,
    /// Whether higher values would fit as well, were they searched.
    pub open_above: bool,
}

impl ProfileInterval {
    /// Whether the data bound the quantity on both sides.
    pub fn is_closed(&self) -> bool {
        !self.open_below && !self.open_above
    }
}

/// The profile of one quantity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// What is held.
    pub held: Held,
    /// The value at the fit.
    pub estimate: f64,
    /// 95 % interval under the fit's own constraint on the floor.
    pub interval: ProfileInterval,
    /// The values whose fit is as good as the constrained fit's 95 % region when the floor may have any sign. Differs
    /// from `interval` where the bound at zero, not the data, holds the quantity.
    pub relaxed: Option<ProfileInterval>,
    /// The objective, divided by its least value, at the ends of the interval.
    pub threshold: f64,
}

impl Profile {
    /// Whether the data, not a bound on the floor or the search range, hold the quantity.
    pub fn identified(&self) -> bool {
        self.interval.is_closed() && self.relaxed.is_none_or(|relaxed| relaxed.is_closed())
    }

    /// The union of both intervals: everything that fits as well.
    pub fn widest(&self) -> ProfileInterval {
        let Some(relaxed) = self.relaxed else { return self.interval };
        ProfileInterval {
            low: relaxed.low.min(self.interval.low),
            high: relaxed.high.max(self.interval.high),
            open_below: relaxed.open_below || self.interval.open_below,
            open_above: relaxed.open_above || self.interval.open_above,
        }
    }
}

/// How much larger the objective may be before 95 % confidence is lost.
///
/// −2 ln L is (n − p)·ln(sum of squares), or 2(n − p)·ln(objective) where the objective is a sum of absolute values
/// (Huber far outside δ). n − p rather than n keeps it close to the F test in small tables.
fn threshold(problem: &Problem<'_>) -> f64 {
    let freedom = (problem.rows.len() as f64 - problem.columns() as f64 - 2.0).max(1.0);
    match problem.objective {
        Objective::Squared => (CHI_SQUARE_95 / freedom).exp(),
        Objective::HuberLog { .. } => (CHI_SQUARE_95 / (2.0 * freedom)).exp(),
    }
}

/// Profiles α, β or their ratio.
pub(crate) fn profile(table: &Table, form: Form, options: &FitOptions, held: Held) -> Profile {
    let rows = Rows::new(table);
    let (problem, fit) = solve(&rows, form, options);
    // A fit through every point leaves nothing to compare with; rounding stands in for noise.
    let least = fit.value.max(f64::EPSILON.powi(2));
    let factor = threshold(&problem);
    let limit = least * factor;
    let estimate = held.of(fit.theta);
    let line = Line { problem, range: options.range, held };
    let interval = line.interval(fit.theta, limit);
    let relaxed = line.relaxed().map(|line| line.interval(fit.theta, limit));
    Profile { held, estimate, interval, relaxed, threshold: factor }
}

/// A profile as points (value, objective divided by its least value), for drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileCurve {
    /// Under the fit's own constraint on the floor.
    pub curve: Vec<[f64; 2]>,
    /// With a floor of any sign; empty where the floor is fixed.
    pub relaxed: Vec<[f64; 2]>,
}

/// Evaluates the curve of a profile of `table` on 61 places that hold its intervals with a margin.
pub fn profile_curve(table: &Table, form: Form, options: &FitOptions, profile: &Profile) -> ProfileCurve {
    let rows = Rows::new(table);
    let (problem, fit) = solve(&rows, form, options);
    let least = fit.value.max(f64::EPSILON.powi(2));
    let line = Line { problem, range: options.range, held: profile.held };
    let places = places(profile, line.lowest(), options.range);
    let curve = |line: Line<'_>| places.iter().map(|&place| [place, line.least(place) / least]).collect();
    ProfileCurve { curve: curve(line), relaxed: line.relaxed().map(curve).unwrap_or_default() }
}

impl Held {
    fn of(self, [alpha, beta]: Exponents) -> f64 {
        match self {
            Held::Alpha => alpha,
            Held::Beta => beta,
            Held::Ratio => alpha / beta,
        }
    }
}

/// Where to evaluate the curve: the interval, a margin and the estimate itself.
fn places(profile: &Profile, lowest: f64, range: SearchRange) -> Vec<f64> {
    let highest = match profile.held {
        Held::Ratio => Held::LARGEST_RATIO,
        _ => range.high,
    };
    let widest = profile.widest();
    let margin = 0.3 * (widest.high - widest.low).max(1e-3);
    let (from, to) = ((widest.low - margin).max(lowest), (widest.high + margin).min(highest));
    let mut places: Vec<f64> = (0..60).map(|step| from + (to - from) * f64::from(step) / 59.0).collect();
    places.push(profile.estimate);
    places.sort_by(f64::total_cmp);
    places
}

impl Held {
    /// Ratios beyond this are treated as unbounded.
    const LARGEST_RATIO: f64 = 1e3;
}

/// The problem along one held quantity.
#[derive(Clone, Copy)]
struct Line<'a> {
    problem: Problem<'a>,
    range: SearchRange,
    held: Held,
}

impl<'a> Line<'a> {
    /// The same line with a floor of any sign, where the floor is fitted at all.
    fn relaxed(self) -> Option<Line<'a>> {
        let problem = Problem { floor: Floor::AnySign, ..self.problem };
        (self.problem.floor == Floor::Free).then_some(Line { problem, ..self })
    }

    /// The lowest value that is looked at. An exponent closer to zero leaves the factor only its linear effect on ln x:
    /// the limit itself, where the scale runs off to infinity, cannot be evaluated.
    fn lowest(&self) -> f64 {
        let spread = |logs: &[f64]| logs.iter().map(|log| log.abs()).fold(0.0, f64::max);
        match self.held {
            Held::Alpha => self.range.low.max(VANISHING / spread(&self.problem.rows.u)),
            Held::Beta => self.range.low.max(VANISHING / spread(&self.problem.rows.v)),
            Held::Ratio => VANISHING,
        }
    }

    fn theta(&self, place: f64, other: f64) -> Exponents {
        match self.held {
            Held::Alpha => [place, other],
            Held::Beta => [other, place],
            Held::Ratio => [place * other, other],
        }
    }

    /// The least objective with the quantity at `place`: the other exponent is screened on a geometric grid, then
    /// bracketed and cut down by golden sections.
    fn least(&self, place: f64) -> f64 {
        let high = match self.held {
            Held::Ratio => self.range.high / place.max(1.0),
            _ => self.range.high,
        };
        let nodes = SearchRange { low: self.range.low, high }.nodes();
        let mut from: Option<Minimum> = None;
        let mut value = |other: f64| {
            let start = from.map(|minimum| minimum.c);
            let (minimum, _) = project(&self.problem, self.theta(place, other), start.as_ref());
            from = Some(minimum);
            minimum.value
        };
        let values = nodes.map(&mut value);
        let best = (0..nodes.len()).min_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0);
        let (mut a, mut d) = (nodes[best.saturating_sub(1)], nodes[(best + 1).min(nodes.len() - 1)]);
        let golden = (5.0_f64.sqrt() - 1.0) / 2.0;
        let (mut b, mut c) = (d - golden * (d - a), a + golden * (d - a));
        let (mut at_b, mut at_c) = (value(b), value(c));
        // The objective is level at its least: a place good to 1e-6 gives it to about 1e-12.
        while (d - a) > 1e-6 * (1e-3 + d) {
            if at_b < at_c {
                (d, c, at_c) = (c, b, at_b);
                b = d - golden * (d - a);
                at_b = value(b);
            } else {
                (a, b, at_b) = (b, c, at_c);
                c = a + golden * (d - a);
                at_c = value(c);
            }
        }
        values[best].min(at_b).min(at_c)
    }

    /// Where the profile rises through `limit` on either side of the fit.
    fn interval(&self, fit: Exponents, limit: f64) -> ProfileInterval {
        let estimate = self.held.of(fit);
        let (lowest, highest) = match self.held {
            Held::Ratio => (0.0, Held::LARGEST_RATIO),
            _ => (self.range.low, self.range.high),
        };
        if !estimate.is_finite() {
            return ProfileInterval { low: lowest, high: f64::INFINITY, open_below: true, open_above: true };
        }
        let step = (0.05 * estimate).max(1e-3);
        let (low, open_below) = self.crossing(estimate, -step, self.lowest().min(estimate), limit);
        let low = if open_below { lowest } else { low };
        let (high, open_above) = self.crossing(estimate, step, highest, limit);
        ProfileInterval { low, high, open_below, open_above }
    }

    /// Walks from `inside` in growing steps until the profile exceeds `limit`, then halves; at `end` it gives up.
    fn crossing(&self, mut inside: f64, mut step: f64, end: f64, limit: f64) -> (f64, bool) {
        let mut outside = loop {
            if inside == end {
                return (end, true);
            }
            let next = if step < 0.0 { (inside + step).max(end) } else { (inside + step).min(end) };
            if self.least(next) > limit {
                break next;
            }
            inside = next;
            step *= 1.6;
        };
        while (outside - inside).abs() > 1e-5 * (1e-2 + inside.abs()) {
            let middle = 0.5 * (inside + outside);
            if self.least(middle) > limit { outside = middle } else { inside = middle }
        }
        (inside, false)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::preset::Preset;

    /// method.md: α trades off against the floor, the ratio does not.
    #[test]
    fn alpha_of_the_published_table_is_held_by_the_floor_only() {
        let table = Preset::Reasoning.table().unwrap();
        let options = FitOptions::default();
        let alpha = profile(&table, Form::Product, &options, Held::Alpha);
        assert!(alpha.interval.is_closed());
        let relaxed = alpha.relaxed.unwrap();
        assert!(relaxed.open_below && relaxed.low == 0.0, "{relaxed:?}");
        // D = 0.10 (α = 0.0870) costs 11 % of the objective: inside; D = 0.20 (α = 0.1124) costs 32 %: outside.
        assert!((0.0870..0.1124).contains(&relaxed.high), "{relaxed:?}");
        let ratio = profile(&table, Form::Product, &options, Held::Ratio);
        assert!(ratio.interval.is_closed() && ratio.relaxed.unwrap().is_closed());
        assert!(ratio.interval.low > 4.0 && ratio.interval.high < 5.6, "{:?}", ratio.interval);
    }

    #[test]
    fn curve_is_one_at_the_estimate_and_at_the_threshold_at_the_ends() {
        let table = Preset::Reasoning.table().unwrap();
        let fixed = FitOptions { floor: Floor::Fixed(0.1), ..FitOptions::default() };
        for form in Form::ALL {
            let rows = Rows::new(&table);
            let (problem, fit) = solve(&rows, form, &fixed);
            let line = Line { problem, range: fixed.range, held: Held::Alpha };
            let profile = profile(&table, form, &fixed, Held::Alpha);
            let curves = profile_curve(&table, form, &fixed, &profile);
            assert!((line.least(profile.estimate) / fit.value - 1.0).abs() < 1e-9);
            for end in [profile.interval.low, profile.interval.high] {
                let ratio = line.least(end) / fit.value;
                assert!((ratio - profile.threshold).abs() < 2e-3, "{form}: {ratio} {}", profile.threshold);
            }
            assert!(curves.curve.iter().all(|[_, ratio]| *ratio >= 1.0 - 1e-9));
            assert!(curves.relaxed.is_empty());
        }
    }
}
