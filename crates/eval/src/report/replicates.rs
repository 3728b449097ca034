//! What a sweep might have measured as well: with other training runs, asked about other pictures.
//!
//! A draw gives each run the mean of its size and what some run, drawn from those of all sizes that have several, lies off the
//! mean of its own: two or three runs of one size alone would say too little of how runs differ, and a size with one run says
//! nothing. And it takes of each task as many of its pictures as it has, with replacement, the same ones for every run, because
//! all answered the same questions.

use std::collections::{BTreeMap, BTreeSet};

use foveate_law::Replicate;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::packed::Answers;
use crate::results::Row;
use crate::statistics::{DRAWS, Resamples};
use crate::{Result, units};

/// For each cell how far its score moves with each draw of pictures; a cell that is not here does not move.
pub type Luck = BTreeMap<String, Vec<f64>>;

/// The least error that a draw may have: a law of errors has none of 0.
const LEAST: f64 = 1e-6;

/// A training run at a number of visual tokens.
pub(super) struct Measured<'a> {
    pub(super) run: &'a str,
    pub(super) params: u64,
    pub(super) visual_tokens: f64,
    /// Mean over `cells`.
    pub(super) error: f64,
    /// One for each task of the family.
    pub(super) cells: Vec<&'a str>,
}

/// The luck of all cells with the pictures that they were asked about.
///
/// # Errors
/// Samples that cannot be read.
pub fn luck(answers: &Answers, rows: &[Row]) -> Result<Luck> {
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    let mut found = Luck::new();
    for (nth, task) in tasks.into_iter().enumerate() {
        let mut cells = Vec::new();
        for row in rows.iter().filter(|row| row.task == task) {
            cells.push((&row.cell, answers.of(&row.cell)?));
        }
        let mut pictures: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, (_, samples)) in &cells {
            for sample in samples {
                let next = pictures.len();
                pictures.entry(&sample.group).or_insert(next);
            }
        }
        let resamples = Resamples::new(pictures.len(), nth as u64);
        for (cell, (header, samples)) in &cells {
            let mut sums = vec![(0.0, 0.0); pictures.len()];
            for unit in units(header.metric, samples).values() {
                if let Some(sum) = pictures.get(unit.group).map(|picture| &mut sums[*picture]) {
                    *sum = (sum.0 + unit.score, sum.1 + 1.0);
                }
            }
            let score = |times: &dyn Fn(usize) -> f64| {
                let weighed = sums.iter().enumerate();
                let (sum, count) = weighed.fold((0.0, 0.0), |(sum, count), (picture, own)| {
                    (sum + times(picture) * own.0, count + times(picture) * own.1)
                });
                (count > 0.0).then(|| sum / count)
            };
            let Some(mean) = score(&|_| 1.0) else { continue };
            let moved = resamples.values(|times| {
                // A draw without any of this cell's pictures says nothing.
                Some(score(&|picture| f64::from(times[picture])).map_or(0.0, |score| score - mean))
            });
            found.insert((*cell).clone(), moved);
        }
    }
    Ok(found)
}

/// The tables of [`DRAWS`] draws; `None` where no size has several runs, so that nothing is known of how runs differ.
pub(super) fn replicates(points: &[Measured<'_>], luck: &Luck) -> Option<Vec<Replicate>> {
    let runs: BTreeSet<&str> = points.iter().map(|point| point.run).collect();
    let means: Vec<f64> = points.iter().map(|point| mean(alike(points, point))).collect();
    let deviations = deviations(points, &means);
    if deviations.is_empty() {
        return None;
    }
    let mut words = ChaCha8Rng::seed_from_u64(0);
    let mut any = || {
        let nth = (u64::from(words.next_u32()) * deviations.len() as u64) >> 32;
        &deviations[nth as usize]
    };
    let draws = (0..DRAWS).map(|draw| {
        let drawn: BTreeMap<&str, &BTreeMap<u64, f64>> = runs.iter().map(|run| (*run, any())).collect();
        let y = points.iter().zip(&means).map(|(point, mean)| {
            let off = drawn[point.run].get(&point.visual_tokens.to_bits()).unwrap_or(&0.0);
            let own = point.cells.iter().map(|cell| luck.get(*cell).map_or(0.0, |moved| moved[draw]));
            let luck = own.sum::<f64>() / point.cells.len().max(1) as f64;
            (mean + off - luck).max(LEAST)
        });
        Replicate { y: y.collect(), counts: vec![1.0; points.len()] }
    });
    Some(draws.collect())
}

/// The errors of the runs of a point's size at its number of visual tokens.
fn alike<'a>(points: &'a [Measured<'_>], of: &'a Measured<'_>) -> impl Iterator<Item = f64> + 'a {
    let alike = |point: &&Measured<'_>| point.params == of.params && point.visual_tokens == of.visual_tokens;
    points.iter().filter(alike).map(|point| point.error)
}

/// How far each run lies off the `means` of its size, by number of visual tokens, of sizes that have several: as far as
/// runs do, not as far as these few do from their own mean.
fn deviations(points: &[Measured<'_>], means: &[f64]) -> Vec<BTreeMap<u64, f64>> {
    let mut runs: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    for (point, mean) in points.iter().zip(means) {
        let count = alike(points, point).count() as f64;
        if count > 1.0 {
            let off = (point.error - mean) * (count / (count - 1.0)).sqrt();
            runs.entry(point.run).or_default().insert(point.visual_tokens.to_bits(), off);
        }
    }
    runs.into_values().collect()
}

/// The mean; 0 of no values.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / f64::max(count, 1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn point(run: &'static str, params: u64, visual_tokens: f64, error: f64) -> Measured<'static> {
        let cells = match visual_tokens {
            1.0 => vec!["at 1"],
            _ => vec!["at 4"],
        };
        Measured { run, params, visual_tokens, error, cells }
    }

    #[test]
    fn each_run_lies_off_its_size_as_some_run_does() {
        let points = [
            point("a1", 1, 1.0, 0.50),
            point("a1", 1, 4.0, 0.40),
            point("a2", 1, 1.0, 0.54),
            point("a2", 1, 4.0, 0.42),
            point("b1", 2, 1.0, 0.30),
            point("b1", 2, 4.0, 0.20),
        ];
        let found = replicates(&points, &Luck::new()).unwrap();
        assert_eq!(found.len(), DRAWS);
        // By hand: the two runs lie 0.02 and 0.01 off their means, times the root of 2; the lonely one moves as they do.
        let rounded = |value: f64| (1e6 * value).round() as i64;
        let mut moves = BTreeSet::new();
        for Replicate { y, counts } in &found {
            assert!(counts.iter().all(|count| *count == 1.0));
            let of_run =
                |at: usize, means: [f64; 2]| (rounded(y[at] - means[0]), rounded(y[at + 1] - means[1]));
            moves.insert((of_run(0, [0.52, 0.41]), of_run(2, [0.52, 0.41]), of_run(4, [0.30, 0.20])));
        }
        let (less, more) = ((-28284, -14142), (28284, 14142));
        // Two runs to draw, three places: eight tables, all of which come up in a thousand draws.
        assert!(
            moves.iter().flat_map(|(a, b, c)| [a, b, c]).all(|one| *one == less || *one == more),
            "{moves:?}"
        );
        assert_eq!(moves.len(), 8);
        // Luck with pictures moves all runs that were asked about them, and the score's rise is the error's fall.
        let luck = Luck::from([("at 1".to_owned(), vec![0.1; DRAWS])]);
        for (lucky, plain) in replicates(&points, &luck).unwrap().iter().zip(&found) {
            assert!((plain.y[0] - lucky.y[0] - 0.1).abs() < 1e-12 && plain.y[1] == lucky.y[1]);
            assert!((plain.y[4] - lucky.y[4] - 0.1).abs() < 1e-12);
        }
        assert_eq!(replicates(&points[4..], &luck), None);
    }
}
