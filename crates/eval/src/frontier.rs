//! A number of visual tokens chosen for each question against the same number for all: error at equal mean cost.
//!
//! Fixed numbers give points of mean cost and mean error. Whoever takes one of two fixed numbers by the toss of a coin gets any point
//! between theirs, so the frontier of fixed numbers is what the best such mixture errs at a cost, or at a lower one. The system that
//! chooses is held against it at its own mean cost; every draw of the bootstrap over groups makes points, frontier and
//! difference anew, on the same questions for all.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::figures::Figure;
use crate::sample::Sample;
use crate::statistics::{Resamples, groups};

/// What an answer costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cost {
    /// FLOPs from the pixels to the last token.
    Flops,
    /// Milliseconds of the same.
    Ms,
}

/// A system's answers to the questions of several tasks.
#[derive(Clone, Debug)]
pub struct Answers<'a> {
    /// How results call its number of visual tokens.
    pub visual_tokens: String,
    /// By task.
    pub tasks: Vec<(&'a str, &'a [Sample])>,
}

/// A system on the questions that all of them answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// How results call its number of visual tokens.
    pub visual_tokens: String,
    /// Mean cost of a question.
    pub cost: f64,
    /// 1 − mean score of a question, with its 95 % interval.
    pub error: Figure,
}

/// Where a system lies that chooses for each question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// It errs less than any mixture of fixed numbers at its cost: the whole interval says so.
    Below,
    /// The interval of the difference includes 0.
    On,
    /// It errs more: the whole interval says so.
    Above,
}

/// Fixed numbers, the system that chooses, and the difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frontier {
    /// What is counted as cost.
    pub cost: Cost,
    /// Questions that all systems answered.
    pub questions: usize,
    /// Fixed numbers, cheapest first.
    pub fixed: Vec<Point>,
    /// The system that chooses.
    pub auto: Point,
    /// The error of the best mixture of fixed numbers at the same mean cost.
    pub frontier_error: f64,
    /// Error of the system that chooses less that of the frontier; below 0 is better.
    pub difference: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// What the interval says.
    pub place: Place,
}

impl Frontier {
    /// Compares `auto` with the `fixed` numbers; `None` where no question was answered by all of them.
    pub fn new(fixed: &[Answers<'_>], auto: &Answers<'_>, cost: Cost, seed: u64) -> Option<Frontier> {
        let table = Table::new(fixed, auto, cost);
        let (of, count) = groups(table.groups.iter().map(String::as_str));
        let resamples = Resamples::new(count, seed);
        let weights = |times: &[u32]| of.iter().map(|group| f64::from(times[*group])).collect::<Vec<f64>>();
        let plain = vec![1.0; table.groups.len()];
        let points = table.points(&plain)?;
        let errors = |at: usize| {
            let drawn = resamples.interval(|times| Some(table.points(&weights(times))?[at].1));
            drawn.map_or([points[at].1; 2], |(interval, _)| interval)
        };
        let point = |(at, answers): (usize, &Answers<'_>)| Point {
            visual_tokens: answers.visual_tokens.clone(),
            cost: points[at].0,
            error: Figure { value: points[at].1, interval: errors(at) },
        };
        let difference = |points: &[(f64, f64)]| {
            let (own, fixed) = points.split_last()?;
            Some(own.1 - mixture(fixed, own.0)?)
        };
        let value = difference(&points)?;
        let (interval, _) = resamples.interval(|times| difference(&table.points(&weights(times))?))?;
        let mut fixed: Vec<Point> = fixed.iter().enumerate().map(point).collect();
        let auto = point((fixed.len(), auto));
        fixed.sort_by(|one, other| one.cost.total_cmp(&other.cost));
        Some(Frontier {
            cost,
            questions: table.groups.len(),
            frontier_error: auto.error.value - value,
            fixed,
            auto,
            difference: value,
            interval,
            place: match interval {
                [_, high] if high < -LEAST => Place::Below,
                [low, _] if low > LEAST => Place::Above,
                _ => Place::On,
            },
        })
    }

    /// The verdict in a sentence.
    pub fn says(&self) -> String {
        let percent = |part: f64| format!("{:+.2}", 100.0 * part);
        let cost = match self.cost {
            Cost::Flops => "FLOPs",
            Cost::Ms => "time",
        };
        let place = match self.place {
            Place::Below => "lies below the frontier of fixed numbers",
            Place::On => "lies on the frontier of fixed numbers, as far as these questions can tell",
            Place::Above => {
                "lies above the frontier of fixed numbers: a fixed number, or a mixture of two, errs less"
            }
        };
        let [low, high] = self.interval.map(percent);
        format!(
            "At equal mean {cost} a number of visual tokens chosen for each question {place}: its error differs by {} percentage \
             points (95 % interval {low} to {high}, {} questions).",
            percent(self.difference),
            self.questions,
        )
    }
}

/// Differences that rounding alone can make.
const LEAST: f64 = 1e-9;

/// Scores and costs of the common questions: of each fixed number, then of the system that chooses.
struct Table {
    groups: Vec<String>,
    /// By question and system: cost and error.
    rows: Vec<Vec<(f64, f64)>>,
}

/// Of a question: its group, and each system's cost and error.
type Found<'a> = (&'a str, HashMap<usize, (f64, f64)>);

impl Table {
    fn new(fixed: &[Answers<'_>], auto: &Answers<'_>, cost: Cost) -> Table {
        let systems: Vec<&Answers<'_>> = fixed.iter().chain([auto]).collect();
        let mut found: BTreeMap<(&str, &str), Found<'_>> = BTreeMap::new();
        for (at, system) in systems.iter().enumerate() {
            for (task, samples) in &system.tasks {
                for sample in *samples {
                    let Some(answered) = sample.answered() else { continue };
                    let spent = match cost {
                        Cost::Flops => answered.flops,
                        Cost::Ms => answered.ms,
                    };
                    let entry = found.entry((*task, sample.id.as_str())).or_default();
                    entry.0 = &sample.group;
                    entry.1.insert(at, (spent, 1.0 - answered.score));
                }
            }
        }
        let mut table = Table { groups: Vec::new(), rows: Vec::new() };
        for ((task, _), (group, values)) in found {
            let row: Option<Vec<_>> = (0..systems.len()).map(|at| values.get(&at).copied()).collect();
            if let Some(row) = row {
                // Groups of two tasks may have one name.
                table.groups.push(format!("{task} {group}"));
                table.rows.push(row);
            }
        }
        table
    }

    /// Mean cost and error of each system under these weights.
    fn points(&self, weights: &[f64]) -> Option<Vec<(f64, f64)>> {
        let systems = self.rows.first()?.len();
        let mut sums = vec![(0.0, 0.0); systems];
        let mut total = 0.0;
        for (row, weight) in self.rows.iter().zip(weights) {
            total += weight;
            for (sum, (cost, error)) in sums.iter_mut().zip(row) {
                *sum = (sum.0 + weight * cost, sum.1 + weight * error);
            }
        }
        (total > 0.0).then(|| sums.into_iter().map(|(cost, error)| (cost / total, error / total)).collect())
    }
}

/// The least error of a mixture of two of `points` (cost, error) that costs at most `cost` on average; that of the cheapest point
/// where all cost more.
fn mixture(points: &[(f64, f64)], cost: f64) -> Option<f64> {
    let within = points.iter().filter(|point| point.0 <= cost).map(|point| point.1);
    let mut least = within.min_by(f64::total_cmp);
    for below in points.iter().filter(|point| point.0 <= cost) {
        for above in points.iter().filter(|point| point.0 > cost) {
            let part = (cost - below.0) / (above.0 - below.0);
            let error = below.1 + part * (above.1 - below.1);
            least = least.map(|least: f64| least.min(error));
        }
    }
    least.or_else(|| points.iter().min_by(|one, other| one.0.total_cmp(&other.0)).map(|cheapest| cheapest.1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metric::Expected;
    use crate::sample::{Answered, Outcome};

    fn sample(id: usize, score: f64, flops: f64) -> Sample {
        Sample {
            id: id.to_string(),
            group: (id / 2).to_string(),
            unit: id.to_string(),
            skill: String::new(),
            family: String::new(),
            question: String::new(),
            looked_for: None,
            expected: Expected::YesNo(true),
            outcome: Outcome::Answered(Answered {
                answer: String::new(),
                read: None,
                score,
                visual_tokens: 1,
                flops,
                ms: flops / 2.0,
            }),
        }
    }

    /// Questions of two families, half of them each: every one of the first is answered with one token as with sixteen (9 of 10
    /// rightly), those of the second with sixteen alone. Choosing by `rule` costs and errs what is chosen.
    fn frontier(rule: impl Fn(usize) -> usize, cost: Cost) -> Frontier {
        const COST: [f64; 2] = [1e9, 3e9];
        let score = |nth: usize, rung: usize| match (nth % 2, rung) {
            (1, 0) => 0.0,
            _ => f64::from(!(nth / 2).is_multiple_of(10)),
        };
        let list = |rung: &dyn Fn(usize) -> usize| -> Vec<Sample> {
            (0..400).map(|nth| sample(nth, score(nth, rung(nth)), COST[rung(nth)])).collect()
        };
        let (few, many, own) = (list(&|_| 0), list(&|_| 1), list(&rule));
        let fixed = [answers("16", "mixed", &many), answers("1", "mixed", &few)];
        Frontier::new(&fixed, &answers("auto", "mixed", &own), cost, 1).unwrap()
    }

    fn answers<'a>(name: &str, task: &'a str, samples: &'a [Sample]) -> Answers<'a> {
        Answers { visual_tokens: name.to_owned(), tasks: vec![(task, samples)] }
    }

    #[test]
    fn a_choice_that_knows_the_family_lies_below() {
        for cost in [Cost::Flops, Cost::Ms] {
            let found = frontier(|nth| nth % 2, cost);
            let unit = if cost == Cost::Flops { 1e9 } else { 5e8 };
            assert_eq!(
                found.fixed.iter().map(|point| point.visual_tokens.as_str()).collect::<Vec<_>>(),
                ["1", "16"]
            );
            // One token errs at 0.55, sixteen at 0.1; half of each would err at 0.325, and the choice errs at 0.1.
            assert!(
                (found.auto.cost / unit - 2.0).abs() < 1e-9 && (found.auto.error.value - 0.1).abs() < 1e-9
            );
            assert!((found.frontier_error - 0.325).abs() < 1e-9 && (found.difference + 0.225).abs() < 1e-9);
            assert!(found.interval[0] < -0.2 && found.interval[1] > -0.25, "{found:?}");
            assert_eq!(found.place, Place::Below);
            let said = found.says();
            assert!(
                said.contains("below the frontier") && said.contains("-22.50 percentage points"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_choice_at_random_lies_on_it_and_a_wrong_one_above() {
        // Ten pictures of each by turns: the family says nothing about the choice.
        let random = frontier(|nth| (nth / 20) % 2, Cost::Flops);
        assert_eq!(random.place, Place::On, "{random:?}");
        let wrong = frontier(|nth| 1 - nth % 2, Cost::Flops);
        assert!((wrong.difference - 0.225).abs() < 1e-9 && wrong.place == Place::Above, "{wrong:?}");
        assert!(wrong.says().contains("errs less"), "{}", wrong.says());
        // Always the same number: exactly that number's point, whatever is drawn.
        let same = frontier(|_| 1, Cost::Flops);
        assert!(same.difference.abs() < 1e-12 && same.place == Place::On, "{same:?}");
        assert!(same.says().contains("as far as these questions can tell"), "{}", same.says());
    }

    #[test]
    fn a_mixture_is_of_any_two_points_that_cost_no_more_on_average() {
        // The middle point lies above the line between its neighbours.
        let points = [(1.0, 0.9), (2.0, 0.85), (3.0, 0.1), (4.0, 0.2)];
        for (cost, wanted) in
            [(0.5, 0.9), (1.0, 0.9), (2.0, 0.5), (2.5, 0.3), (3.0, 0.1), (3.5, 0.1), (9.0, 0.1)]
        {
            let found = mixture(&points, cost).unwrap();
            assert!((found - wanted).abs() < 1e-12, "{cost}: {found}, not {wanted}");
        }
        assert_eq!(mixture(&[], 1.0), None);
    }

    #[test]
    fn only_questions_that_all_answered_count() {
        let many: Vec<Sample> = (0..10).map(|nth| sample(nth, 1.0, 2.0)).collect();
        let few: Vec<Sample> = (0..4).map(|nth| sample(nth, 1.0, 1.0)).collect();
        let mut own: Vec<Sample> = (2..10).map(|nth| sample(nth, 1.0, 1.0)).collect();
        own[0].outcome = Outcome::Failed { failure: "broken".into() };
        let fixed = [answers("16", "a", &many), answers("1", "a", &few)];
        let auto = answers("auto", "a", &own);
        assert_eq!(Frontier::new(&fixed, &auto, Cost::Flops, 1).unwrap().questions, 1);
        assert!(
            Frontier::new(&fixed, &answers("auto", "b", &own), Cost::Flops, 1).is_none(),
            "another task's questions"
        );
    }
}
