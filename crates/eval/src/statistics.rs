//! Intervals: Wilson's for plain proportions, the bootstrap over groups for everything else.
//!
//! Questions about one picture are not independent, so a draw of the bootstrap takes whole groups, with replacement, as many
//! as there are. A draw changes weights and no sample, so that any figure that is a function of weighted samples has an
//! interval, and two systems that answered the same samples are drawn together.

pub mod seeds;

use std::collections::BTreeMap;

use foveate_law::percentile_interval;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws of the bootstrap.
pub const DRAWS: usize = 1000;
/// How sure an interval is.
const LEVEL: f64 = 0.95;
/// The normal distribution's quantile for it.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// Wilson's score interval of `right` of `n` at 95 %: never outside of 0…1, and of some width even where all or none are
/// right. `right` may be a sum of parts.
///
/// ```
/// use foveate_eval::statistics::wilson;
/// let [low, high] = wilson(8.0, 10);
/// assert!((low - 0.4902).abs() < 5e-5 && (high - 0.9433).abs() < 5e-5);
/// assert!(wilson(10.0, 10)[0] > 0.72 && wilson(0.0, 0) == [0.0, 1.0]);
/// ```
pub fn wilson(right: f64, n: usize) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (count, z) = (n as f64, QUANTILE);
    let part = right / count;
    let middle = part + z * z / (2.0 * count);
    let reach = z * (part * (1.0 - part) / count + z * z / (4.0 * count * count)).max(0.0).sqrt();
    let scale = 1.0 + z * z / count;
    [((middle - reach) / scale).max(0.0), ((middle + reach) / scale).min(1.0)]
}

/// The standard error that Wilson's interval stands for: above 0 even where all or none are right.
pub fn wilson_error(right: f64, n: usize) -> f64 {
    let [low, high] = wilson(right, n);
    (high - low) / (2.0 * QUANTILE)
}

/// Numbers the groups of samples: for each sample the index of its group, and how many groups there are.
pub fn groups<'a>(names: impl IntoIterator<Item = &'a str>) -> (Vec<usize>, usize) {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut indices = Vec::new();
    for name in names {
        let next = seen.len();
        indices.push(*seen.entry(name).or_insert(next));
    }
    (indices, seen.len())
}

/// How often each group was drawn, one list a draw; the same for equal numbers on every platform.
pub struct Resamples {
    draws: Vec<Vec<u32>>,
}

impl Resamples {
    /// [`DRAWS`] of them.
    pub fn new(groups: usize, seed: u64) -> Resamples {
        let mut words = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = || {
            let mut times = vec![0; groups];
            for _ in 0..groups {
                let group = (u64::from(words.next_u32()) * groups as u64) >> 32;
                times[group as usize] += 1;
            }
            times
        };
        Resamples { draws: (0..DRAWS).map(|_| draw()).collect() }
    }

    /// The statistic of every draw; those that have none are left out. `of` gets the weight of each group.
    pub fn values(&self, mut of: impl FnMut(&[u32]) -> Option<f64>) -> Vec<f64> {
        self.draws.iter().filter_map(|times| of(times)).collect()
    }

    /// The 95 % percentile interval of a statistic and its standard deviation; `None` where no draw has one.
    pub fn interval(&self, of: impl FnMut(&[u32]) -> Option<f64>) -> Option<([f64; 2], f64)> {
        let values = self.values(of);
        let interval = percentile_interval(&values, LEVEL)?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some((interval, (squares / (values.len() as f64 - 1.0).max(1.0)).sqrt()))
    }
}

/// Two systems on the same samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Paired {
    /// Samples that both have.
    pub n: usize,
    /// Mean score of the first less that of the second.
    pub difference: f64,
    /// Its 95 % interval: the bootstrap over groups.
    pub interval: [f64; 2],
}

impl Paired {
    /// Whether the interval leaves out 0.
    pub fn differs(&self) -> bool {
        self.interval[0] > 0.0 || self.interval[1] < 0.0
    }
}

/// Groups that the bootstrap needs at least; of fewer it would say too little of what others would give.
const FEWEST_GROUPS: usize = 5;

/// Compares scores sample by sample: a list of (group, score of one, score of the other). `None` for no sample. Of fewer than five
/// groups the interval is all that scores can differ by.
///
/// ```
/// use foveate_eval::statistics::paired;
/// // The second fails where the first does, and once more in each ten.
/// let scores: Vec<(String, f64, f64)> = (0..400)
///     .map(|nth| (nth.to_string(), f64::from(nth % 2 == 0), f64::from(nth % 2 == 0 && nth % 10 != 0)))
///     .collect();
/// let found = paired(scores.iter().map(|(group, one, other)| (group.as_str(), *one, *other)), 1).unwrap();
/// assert!((found.difference - 0.1).abs() < 1e-12 && found.differs());
/// assert!(found.interval[1] - found.interval[0] < 0.07, "far less than the two intervals apart");
/// ```
pub fn paired<'a>(scores: impl IntoIterator<Item = (&'a str, f64, f64)>, seed: u64) -> Option<Paired> {
    let scores: Vec<(&str, f64, f64)> = scores.into_iter().collect();
    let (of, count) = groups(scores.iter().map(|(group, _, _)| *group));
    let mean = |times: &[u32]| {
        let (mut sum, mut weight) = (0.0, 0.0);
        for ((_, one, other), group) in scores.iter().zip(&of) {
            let times = f64::from(times[*group]);
            sum += times * (one - other);
            weight += times;
        }
        (weight > 0.0).then(|| sum / weight)
    };
    let difference = mean(&vec![1; count])?;
    let (interval, _) = Resamples::new(count, seed).interval(mean)?;
    let interval = if count < FEWEST_GROUPS { [-1.0, 1.0] } else { interval };
    Some(Paired { n: scores.len(), difference, interval })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wilson_is_bounded_and_shrinks() {
        let mut before = 2.0;
        for n in [1, 4, 20, 1000] {
            let [low, high] = wilson(0.5 * n as f64, n);
            assert!(low > 0.0 && high < 1.0 && high - low < before);
            before = high - low;
        }
        // Newcombe (1998), table I: 81 of 263, and 0 of 20.
        let [low, high] = wilson(81.0, 263);
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5);
        let [low, high] = wilson(0.0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5);
        assert!(wilson_error(0.0, 20) > 0.0);
    }

    #[test]
    fn a_bootstrap_of_single_samples_agrees_with_theory() {
        let scores: Vec<f64> = (0..500).map(|nth| f64::from(nth % 4 == 0)).collect();
        let mean = |times: &[u32]| {
            Some(
                scores.iter().zip(times).map(|(score, times)| score * f64::from(*times)).sum::<f64>() / 500.0,
            )
        };
        let (interval, deviation) = Resamples::new(500, 3).interval(mean).unwrap();
        let expected = (0.25_f64 * 0.75 / 500.0).sqrt();
        assert!((deviation / expected - 1.0).abs() < 0.1, "{deviation} {expected}");
        assert!(interval[0] < 0.25 && interval[1] > 0.25);
        assert_eq!(Resamples::new(500, 3).interval(mean), Resamples::new(500, 3).interval(mean));
    }

    #[test]
    fn few_groups_decide_nothing() {
        let found = |groups: usize| {
            let names: Vec<String> = (0..40).map(|nth| (nth % groups).to_string()).collect();
            paired(names.iter().map(|name| (name.as_str(), 1.0, 0.0)), 1).unwrap()
        };
        assert!(!found(1).differs() && !found(4).differs() && found(5).differs());
    }

    #[test]
    fn groups_widen_an_interval() {
        // Ten questions about each of forty pictures, all right or all wrong.
        let score = |nth: usize| f64::from((nth / 10).is_multiple_of(2));
        let width = |group: &dyn Fn(usize) -> usize| {
            let names: Vec<String> = (0..400).map(|nth| group(nth).to_string()).collect();
            let scores = names.iter().enumerate().map(|(nth, name)| (name.as_str(), score(nth), 0.0));
            let [low, high] = paired(scores, 1).unwrap().interval;
            high - low
        };
        let (alone, together) = (width(&|nth| nth), width(&|nth| nth / 10));
        assert!(together > 2.5 * alone, "{together} {alone}");
    }

    #[test]
    fn nothing_has_no_interval() {
        assert!(paired([], 0).is_none());
        assert!(Resamples::new(3, 0).interval(|_| None).is_none());
    }
}
