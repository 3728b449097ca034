//! Many samples summed up: a score, its interval, and the other numbers that a benchmark reports.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::metric::{Expected, Metric};
use crate::sample::Sample;
use crate::statistics::{Resamples, groups, wilson, wilson_error};

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The number.
    pub value: f64,
    /// Where it lies.
    pub interval: [f64; 2],
}

/// What a task came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Questions that were answered.
    pub n: usize,
    /// Questions that could not be asked; left out of everything else.
    pub failed: usize,
    /// From 0 to 1: the metric's own figure, brought to that range (MME: its sum as a part of the possible one).
    pub score: f64,
    /// 1 − score: what laws are fitted to.
    pub error: f64,
    /// Standard error of both: of the bootstrap over groups; of Wilson's interval where that has no width.
    pub error_se: f64,
    /// 95 % interval of the score: Wilson's for answers that are right or wrong and stand alone, else the bootstrap's.
    pub interval: [f64; 2],
    /// What the benchmark reports besides: F1, the part of *yes*, accuracies of pairs.
    pub also: BTreeMap<String, Figure>,
    /// The mean score of each skill or subtask.
    pub skills: BTreeMap<String, SkillFigure>,
    /// Mean visual tokens of a question.
    pub visual_tokens: f64,
    /// Mean FLOPs of a question, from the pixels to the last token.
    pub flops: f64,
    /// Median milliseconds of the same.
    pub ms: f64,
}

/// A skill of a task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SkillFigure {
    /// Questions.
    pub n: usize,
    /// The mean score with Wilson's interval over them.
    #[serde(flatten)]
    pub score: Figure,
}

impl Figures {
    /// Sums up what was answered; `None` where nothing was. `seed` is the bootstrap's.
    pub fn new(metric: Metric, samples: &[Sample], seed: u64) -> Option<Figures> {
        let judged: Vec<Judged> = judged(samples);
        let n = judged.len();
        let (of, count) = groups(judged.iter().map(|judged| judged.sample.group.as_str()));
        let plain = vec![1.0; n];
        let statistics = statistics(metric, &judged);
        let resamples = Resamples::new(count, seed);
        let weights = |times: &[u32]| of.iter().map(|group| f64::from(times[*group])).collect::<Vec<f64>>();
        let total: f64 = judged.iter().map(|judged| judged.score).sum();
        let mut found = BTreeMap::new();
        for (name, statistic) in &statistics {
            let Some(value) = statistic(&plain) else { continue };
            let drawn = resamples.interval(|times| statistic(&weights(times)));
            let (interval, deviation) = drawn.unwrap_or(([value, value], 0.0));
            found.insert(name.clone(), (Figure { value, interval }, deviation));
        }
        let (main, deviation) = found.remove(MAIN)?;
        let alone = count == n && judged.iter().all(|judged| judged.score == 0.0 || judged.score == 1.0);
        let is_mean = matches!(main.value, value if (value - total / n as f64).abs() < 1e-12);
        let interval = if (alone && is_mean) || deviation == 0.0 {
            wilson(main.value * count as f64, count)
        } else {
            main.interval
        };
        let error_se =
            if deviation > 0.0 { deviation } else { wilson_error(main.value * count as f64, count) };
        let mean = |value: fn(&Judged) -> f64| judged.iter().map(value).sum::<f64>() / n as f64;
        Some(Figures {
            n,
            failed: samples.len() - n,
            score: main.value,
            error: 1.0 - main.value,
            error_se,
            interval,
            also: found.into_iter().map(|(name, (figure, _))| (name, figure)).collect(),
            skills: skills(metric, samples),
            visual_tokens: mean(|judged| judged.visual_tokens),
            flops: mean(|judged| judged.flops),
            ms: median(judged.iter().map(|judged| judged.ms).collect()),
        })
    }
}

/// The name of the metric's own figure among its statistics.
const MAIN: &str = "score";

struct Judged<'a> {
    sample: &'a Sample,
    score: f64,
    /// What was read, where yes or no is expected.
    said_yes: bool,
    visual_tokens: f64,
    flops: f64,
    ms: f64,
}

fn judged(samples: &[Sample]) -> Vec<Judged<'_>> {
    let judge = |sample| {
        let answered = Sample::answered(sample)?;
        Some(Judged {
            sample,
            score: answered.score,
            said_yes: answered.read.as_deref() == Some("yes"),
            visual_tokens: answered.visual_tokens as f64,
            flops: answered.flops,
            ms: answered.ms,
        })
    };
    samples.iter().filter_map(judge).collect()
}

/// A figure of samples with weights; `None` where it is not defined.
type Statistic<'a> = Box<dyn Fn(&[f64]) -> Option<f64> + 'a>;

fn statistics<'a>(metric: Metric, judged: &'a [Judged<'a>]) -> BTreeMap<String, Statistic<'a>> {
    let mut list: BTreeMap<String, Statistic<'a>> = BTreeMap::new();
    let mean = move |weights: &[f64]| ratio(judged, weights, |judged| judged.score, |_| 1.0);
    match metric {
        Metric::Pope => {
            let positive = |judged: &Judged| f64::from(judged.sample.expected == Expected::YesNo(true));
            let yes = |judged: &Judged| f64::from(judged.said_yes);
            let both = move |judged: &Judged| positive(judged) * yes(judged);
            list.insert(MAIN.into(), Box::new(mean));
            list.insert("precision".into(), Box::new(move |w| ratio(judged, w, both, yes)));
            list.insert("recall".into(), Box::new(move |w| ratio(judged, w, both, positive)));
            let sizes = move |judged: &Judged| positive(judged) + yes(judged);
            list.insert("f1".into(), Box::new(move |w| ratio(judged, w, move |one| 2.0 * both(one), sizes)));
            list.insert("yes-ratio".into(), Box::new(move |w| ratio(judged, w, yes, |_| 1.0)));
        }
        Metric::Mme => mme(judged, &mut list),
        Metric::CircularChoice => {
            let units = Units::new(judged);
            list.insert("plain-accuracy".into(), Box::new(mean));
            list.insert(MAIN.into(), Box::new(move |weights| units.all_right(weights, |_| true)));
        }
        _ => {
            list.insert(MAIN.into(), Box::new(mean));
        }
    }
    list
}

/// Accuracy and accuracy+ (both questions of a picture right) of each subtask in percent; their sum; the sum as a part of
/// what is possible.
fn mme<'a>(judged: &'a [Judged<'a>], list: &mut BTreeMap<String, Statistic<'a>>) {
    let mut subtasks: Vec<&str> = judged.iter().map(|judged| judged.sample.skill.as_str()).collect();
    subtasks.sort_unstable();
    subtasks.dedup();
    let accuracy = |subtask: &'a str| {
        let inside = move |judged: &Judged| f64::from(judged.sample.skill == subtask);
        move |weights: &[f64]| ratio(judged, weights, move |one| inside(one) * one.score, inside)
    };
    let pairs = |subtask: &'a str| {
        let units = Units::new(judged);
        move |weights: &[f64]| units.all_right(weights, |judged| judged.sample.skill == subtask)
    };
    for subtask in &subtasks {
        let (one, both) = (accuracy(subtask), pairs(subtask));
        list.insert(format!("{subtask} accuracy"), Box::new(one));
        list.insert(format!("{subtask} accuracy+"), Box::new(both));
    }
    let sum = move || {
        let parts: Vec<_> = subtasks.iter().map(|subtask| (accuracy(subtask), pairs(subtask))).collect();
        move |weights: &[f64]| {
            let values = parts.iter().filter_map(|(one, both)| Some(one(weights)? + both(weights)?));
            let values: Vec<f64> = values.collect();
            (!values.is_empty()).then(|| (values.iter().sum::<f64>(), 2.0 * values.len() as f64))
        }
    };
    let (points, part) = (sum.clone()(), sum());
    list.insert("sum".into(), Box::new(move |weights| points(weights).map(|(sum, _)| 100.0 * sum)));
    list.insert(MAIN.into(), Box::new(move |weights| part(weights).map(|(sum, most)| sum / most)));
}

/// Weighted sum of `above` over that of `below`; `None` for nothing below.
fn ratio(
    judged: &[Judged],
    weights: &[f64],
    above: impl Fn(&Judged) -> f64,
    below: impl Fn(&Judged) -> f64,
) -> Option<f64> {
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for (judged, weight) in judged.iter().zip(weights) {
        numerator += weight * above(judged);
        denominator += weight * below(judged);
    }
    (denominator > 0.0).then(|| numerator / denominator)
}

/// Samples that only count together.
struct Units<'a> {
    judged: &'a [Judged<'a>],
    of: Vec<usize>,
    count: usize,
}

impl<'a> Units<'a> {
    fn new(judged: &'a [Judged<'a>]) -> Units<'a> {
        let (of, count) = groups(judged.iter().map(|judged| judged.sample.unit.as_str()));
        Units { judged, of, count }
    }

    /// The part of the units, of samples that are `inside`, in which every sample is right. A unit weighs what its samples
    /// weigh: they are of one group.
    fn all_right(&self, weights: &[f64], inside: impl Fn(&Judged) -> bool) -> Option<f64> {
        let mut units = vec![(0.0, true); self.count];
        for ((judged, unit), weight) in self.judged.iter().zip(&self.of).zip(weights) {
            if inside(judged) {
                units[*unit] = (*weight, units[*unit].1 && judged.score == 1.0);
            }
        }
        let all: f64 = units.iter().map(|(weight, _)| weight).sum();
        let right: f64 = units.iter().filter(|(_, right)| *right).map(|(weight, _)| weight).sum();
        (all > 0.0).then(|| right / all)
    }
}

/// What scores by itself: a question, or under `circular-choice` all turns of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit<'a> {
    /// What varies together with it.
    pub group: &'a str,
    /// What it asks for.
    pub skill: &'a str,
    /// From 0 to 1; of turns the least.
    pub score: f64,
}

/// The units of what was answered, by name.
pub fn units(metric: Metric, samples: &[Sample]) -> BTreeMap<&str, Unit<'_>> {
    let mut units: BTreeMap<&str, Unit<'_>> = BTreeMap::new();
    for sample in samples {
        let Some(score) = sample.score() else { continue };
        let name = if metric == Metric::CircularChoice { &sample.unit } else { &sample.id };
        let unit = Unit { group: &sample.group, skill: &sample.skill, score };
        let unit = units.entry(name).or_insert(unit);
        unit.score = unit.score.min(score);
    }
    units
}

fn skills(metric: Metric, samples: &[Sample]) -> BTreeMap<String, SkillFigure> {
    let mut sums: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for unit in units(metric, samples).values() {
        let sum = sums.entry(unit.skill).or_default();
        *sum = (sum.0 + 1, sum.1 + unit.score);
    }
    let figure = |(name, (n, sum)): (&str, (usize, f64))| {
        let score = Figure { value: sum / n as f64, interval: wilson(sum, n) };
        (name.to_owned(), SkillFigure { n, score })
    };
    sums.into_iter().map(figure).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{Answered, Outcome};

    /// (group, unit, skill, truth, reading)
    fn yes_no(rows: &[(&str, &str, bool, &str)]) -> Vec<Sample> {
        let sample = |(nth, (unit, skill, truth, read)): (usize, &(&str, &str, bool, &str))| Sample {
            id: nth.to_string(),
            group: (*unit).into(),
            unit: (*unit).into(),
            skill: (*skill).into(),
            family: "reasoning".into(),
            question: String::new(),
            looked_for: None,
            expected: Expected::YesNo(*truth),
            outcome: Outcome::Answered(Answered {
                answer: (*read).into(),
                read: Some((*read).into()),
                score: f64::from((*read == "yes") == *truth),
                visual_tokens: 4,
                flops: 10.0,
                ms: nth as f64,
            }),
        };
        rows.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn pope_counts_as_its_script_does() {
        // 3 true positives, 1 false positive, 4 true negatives, 2 false negatives.
        let mut rows = vec![("a", "adversarial", true, "yes"); 3];
        rows.extend([("b", "adversarial", false, "yes")]);
        rows.extend([("c", "adversarial", false, "no"); 4]);
        rows.extend([("d", "adversarial", true, "no"); 2]);
        let figures = Figures::new(Metric::Pope, &yes_no(&rows), 1).unwrap();
        assert_eq!((figures.n, figures.score), (10, 0.7));
        assert!((figures.error - 0.3).abs() < 1e-12);
        let value = |name: &str| figures.also[name].value;
        assert_eq!((value("precision"), value("recall"), value("yes-ratio")), (0.75, 0.6, 0.4));
        assert!((value("f1") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((figures.visual_tokens, figures.flops, figures.ms), (4.0, 10.0, 4.5));
    }

    /// Two pictures of "count", one of "color": 3 of 4 and 2 of 2 answers, 1 of 2 and 1 of 1 pictures.
    #[test]
    fn mme_adds_accuracy_and_that_of_pairs() {
        let rows = [
            ("1", "count", true, "yes"),
            ("1", "count", false, "no"),
            ("2", "count", true, "yes"),
            ("2", "count", false, "yes"),
            ("3", "color", true, "yes"),
            ("3", "color", false, "no"),
        ];
        let figures = Figures::new(Metric::Mme, &yes_no(&rows), 1).unwrap();
        let value = |name: &str| figures.also[name].value;
        assert_eq!((value("count accuracy"), value("count accuracy+")), (0.75, 0.5));
        assert_eq!((value("color accuracy"), value("color accuracy+")), (1.0, 1.0));
        assert_eq!(value("sum"), 325.0);
        assert_eq!(figures.score, 325.0 / 400.0);
        assert!((figures.skills["count"].score.value - 0.75).abs() < 1e-12);
    }

    #[test]
    fn a_circle_is_right_where_all_its_turns_are() {
        let mut samples = yes_no(&[("q", "s", true, "yes"), ("q", "s", true, "no"), ("r", "s", true, "yes")]);
        samples.iter_mut().for_each(|sample| sample.expected = Expected::Option(0));
        let figures = Figures::new(Metric::CircularChoice, &samples, 1).unwrap();
        assert_eq!(figures.score, 0.5);
        assert!((figures.also["plain-accuracy"].value - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn failures_are_counted_and_left_out() {
        let mut samples = yes_no(&[("a", "s", true, "yes"), ("b", "s", true, "no"), ("c", "s", true, "yes")]);
        samples[1].outcome = Outcome::Failed { failure: "broken".into() };
        let figures = Figures::new(Metric::ExactMatch, &samples, 1).unwrap();
        assert_eq!((figures.n, figures.failed, figures.score), (2, 1, 1.0));
        // Everything right still has an interval and a standard error that a fit can divide by.
        assert!(figures.interval[0] < 0.4 && figures.interval[1] == 1.0 && figures.error_se > 0.0);
        samples.iter_mut().for_each(|sample| sample.outcome = Outcome::Failed { failure: "broken".into() });
        assert!(Figures::new(Metric::ExactMatch, &samples, 1).is_none());
    }
}
