//! Two ways to train, each with several seeds, on the same questions: the difference between their scores.
//!
//! What one seed says of another is as uncertain as what one picture says of another. A draw of the bootstrap therefore takes
//! seeds, with replacement, and pictures: the same pictures for every seed it took, because all seeds answered the same ones
//! (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1, 2007). A bootstrap of a handful of seeds is too sure of
//! their spread (five seeds that differ: 84 % instead of 95 %), so that the interval is never narrower than Student's over the
//! seeds' own differences.

use std::collections::BTreeMap;

use foveate_law::percentile_interval;
use serde::Serialize;

use super::{LEVEL, Resamples};

/// One question, answered by both ways with one seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair<'a> {
    /// The seed of both.
    pub seed: u64,
    /// What varies together: the picture.
    pub group: &'a str,
    /// The score of the first.
    pub one: f64,
    /// The score of the second.
    pub other: f64,
}

/// Two ways to train, compared over seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OverSeeds {
    /// Pairs of answers.
    pub n: usize,
    /// Mean score of the first less that of the second: the mean over seeds.
    pub difference: f64,
    /// Its 95 % interval; of the questions alone where there is one seed.
    pub interval: [f64; 2],
    /// The same difference of each seed.
    pub seeds: BTreeMap<u64, f64>,
}

/// Who is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ahead {
    /// The interval lies above 0.
    First,
    /// It lies below 0.
    Second,
    /// It has 0 inside: no difference is shown.
    Neither,
}

impl OverSeeds {
    /// Who is ahead.
    pub fn ahead(&self) -> Ahead {
        match self.interval {
            [low, _] if low > 0.0 => Ahead::First,
            [_, high] if high < 0.0 => Ahead::Second,
            _ => Ahead::Neither,
        }
    }

    /// Seeds whose own difference has the sign of the mean.
    pub fn agreeing(&self) -> usize {
        self.seeds.values().filter(|own| **own * self.difference > 0.0).count()
    }
}

/// Compares scores question by question over seeds. Every seed weighs alike. `None` for no pair; `draw` decides the draws.
///
/// ```
/// use foveate_eval::statistics::seeds::{Ahead, Pair, over_seeds};
/// // The second fails at one more question in ten, with each of three seeds.
/// let score = |question: u64| f64::from(question % 2 == 0);
/// let names: Vec<String> = (0..300).map(|question| question.to_string()).collect();
/// let pairs = (0..900).map(|nth| {
///     let (seed, question) = (nth / 300, nth % 300);
///     let other = score(question) * f64::from(question % 10 != 0);
///     Pair { seed, group: &names[question as usize], one: score(question), other }
/// });
/// let found = over_seeds(pairs, 1).unwrap();
/// assert!((found.difference - 0.1).abs() < 1e-12 && found.ahead() == Ahead::First);
/// assert_eq!((found.n, found.seeds.len(), found.agreeing()), (900, 3, 3));
/// ```
pub fn over_seeds<'a>(pairs: impl IntoIterator<Item = Pair<'a>>, draw: u64) -> Option<OverSeeds> {
    let pairs: Vec<Pair<'a>> = pairs.into_iter().collect();
    let (of, groups) = super::groups(pairs.iter().map(|pair| pair.group));
    // For each seed the sum of differences and the number of questions of each picture.
    let mut sums: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    for (pair, group) in pairs.iter().zip(&of) {
        let own = sums.entry(pair.seed).or_insert_with(|| vec![(0.0, 0.0); groups]);
        own[*group].0 += pair.one - pair.other;
        own[*group].1 += 1.0;
    }
    let of_seed = |own: &[(f64, f64)], times: &[u32]| {
        let weighed = own.iter().zip(times).map(|((sum, count), times)| {
            let times = f64::from(*times);
            (times * sum, times * count)
        });
        let (sum, count) = weighed.fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        (count > 0.0).then(|| sum / count)
    };
    let once = vec![1; groups];
    let seeds: BTreeMap<u64, f64> =
        sums.iter().filter_map(|(seed, own)| Some((*seed, of_seed(own, &once)?))).collect();
    let count = seeds.len();
    let difference = seeds.values().sum::<f64>() / count as f64;
    let (pictures, drawn) = (Resamples::new(groups, draw), Resamples::new(count, draw.wrapping_add(1)));
    let values = pictures.draws.iter().zip(&drawn.draws).filter_map(|(pictures, drawn)| {
        let weighed = sums.values().zip(drawn).filter(|(_, times)| **times > 0);
        let weighed = weighed.filter_map(|(own, times)| Some((of_seed(own, pictures)?, f64::from(*times))));
        let (sum, weight) = weighed.fold((0.0, 0.0), |(a, b), (value, times)| (a + times * value, b + times));
        (weight > 0.0).then(|| sum / weight)
    });
    let [low, high] = percentile_interval(&values.collect::<Vec<f64>>(), LEVEL)?;
    let reach = student(&seeds, difference);
    let interval = [low.min(difference - reach), high.max(difference + reach)];
    Some(OverSeeds { n: pairs.len(), difference, interval, seeds })
}

/// Half the width of Student's 95 % interval of the mean over seeds; 0 for one seed, which says nothing of others.
fn student(seeds: &BTreeMap<u64, f64>, mean: f64) -> f64 {
    let free = seeds.len().saturating_sub(1);
    let Some(last) = free.checked_sub(1) else { return 0.0 };
    let quantile = QUANTILES[last.min(QUANTILES.len() - 1)];
    let squares: f64 = seeds.values().map(|own| (own - mean).powi(2)).sum();
    quantile * (squares / free as f64 / seeds.len() as f64).sqrt()
}

/// The 97.5 % quantiles of Student's distribution for 1, 2, … degrees of freedom; more have the last, which is too wide by a
/// sixteenth at most.
const QUANTILES: [f64; 20] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Normal numbers by Box and Muller.
    struct Normal(ChaCha8Rng);

    impl Normal {
        fn next(&mut self, deviation: f64) -> f64 {
            let mut uniform = || (f64::from(self.0.next_u32()) + 0.5) / 4_294_967_296.0;
            let (radius, angle) = ((-2.0 * uniform().ln()).sqrt(), std::f64::consts::TAU * uniform());
            deviation * radius * angle.cos()
        }
    }

    /// Differences of `mean`, of seeds, of pictures and of both: three questions about each of 60 pictures, 5 seeds.
    fn experiment(normal: &mut Normal, mean: f64, [seed, picture, both]: [f64; 3]) -> OverSeeds {
        let seeds: Vec<f64> = (0..5).map(|_| normal.next(seed)).collect();
        let pictures: Vec<(String, f64)> =
            (0..60).map(|nth| (nth.to_string(), normal.next(picture))).collect();
        let mut pairs = Vec::new();
        for (nth, of_seed) in (0..).zip(&seeds) {
            for (group, of_picture) in &pictures {
                for _ in 0..3 {
                    let one = mean + of_seed + of_picture + normal.next(both);
                    pairs.push(Pair { seed: nth, group, one, other: 0.0 });
                }
            }
        }
        over_seeds(pairs, 7).unwrap()
    }

    #[test]
    fn intervals_hold_the_truth_whatever_varies() {
        let mut normal = Normal(ChaCha8Rng::seed_from_u64(5));
        for deviations in [[1.0, 0.3, 1.0], [0.02, 1.0, 0.5], [0.1, 0.6, 1.0], [0.0, 0.0, 1.0]] {
            let held = (0..120).filter(|_| {
                let [low, high] = experiment(&mut normal, 0.25, deviations).interval;
                low <= 0.25 && 0.25 <= high
            });
            // 95 % less three standard errors of 120 trials.
            let held = held.count();
            assert!(held >= 107, "{deviations:?}: {held} of 120");
        }
    }

    #[test]
    fn a_difference_that_is_there_is_found_and_one_that_is_not_is_not() {
        let mut normal = Normal(ChaCha8Rng::seed_from_u64(9));
        let mut ahead = |mean: f64| {
            let all = (0..60).map(|_| experiment(&mut normal, mean, [0.1, 0.3, 1.0]).ahead());
            all.fold([0, 0, 0], |mut counts, ahead| {
                counts[ahead as usize] += 1;
                counts
            })
        };
        let [first, second, neither] = ahead(0.0);
        assert!(neither >= 51, "{first} {second} {neither}");
        assert!(ahead(0.5)[Ahead::First as usize] >= 54);
        assert!(ahead(-0.5)[Ahead::Second as usize] >= 54);
    }

    /// All seeds answered the same pictures: five times as many answers about them are not five times as many pictures.
    #[test]
    fn more_seeds_do_not_make_more_pictures() {
        let pictures: Vec<(String, f64)> =
            (0..100).map(|nth| (nth.to_string(), f64::from(nth % 10 == 0))).collect();
        let width = |seeds: u64| {
            let all = (0..seeds).flat_map(|seed| {
                pictures.iter().map(move |(group, one)| Pair { seed, group, one: *one, other: 0.0 })
            });
            let [low, high] = over_seeds(all, 3).unwrap().interval;
            high - low
        };
        assert!((width(5) / width(1) - 1.0).abs() < 0.1, "{} {}", width(5), width(1));
    }

    #[test]
    fn by_hand() {
        let pair = |seed, group, one, other| Pair { seed, group, one, other };
        // Seed 1: 1 and 0 on two questions; seed 2: 1 on one. Every seed weighs alike.
        let found =
            over_seeds([pair(1, "a", 1.0, 0.0), pair(1, "b", 0.0, 0.0), pair(2, "a", 1.0, 0.0)], 1).unwrap();
        assert_eq!((found.n, found.difference), (3, 0.75));
        assert_eq!(found.seeds, BTreeMap::from([(1, 0.5), (2, 1.0)]));
        // Student's with one degree of freedom: 12.706 times 0.25.
        assert!((found.interval[1] - 0.75 - 12.706 * 0.25).abs() < 1e-9);
        assert_eq!((found.ahead(), found.agreeing()), (Ahead::Neither, 2));
        assert!(over_seeds([], 1).is_none());
    }
}
