//! Choosing the next token from scores.
//!
//! The order is that of transformers: repetition penalty, temperature, top-k, top-p, min-p. Each filter keeps a prefix
//! of the tokens sorted by score, the best token always included.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{ModelError, Result};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Always the best token, or a draw.
    pub choice: Choice,
    /// Divides positive and multiplies negative scores of tokens that occurred before; 1 changes nothing, must be > 0.
    pub repetition_penalty: f32,
}

/// Always the best token, or a draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice {
    /// The token with the highest score, the lowest id among equals.
    Greedy,
    /// A draw from the filtered distribution.
    Draw(Draw),
}

/// A filtered distribution to draw from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides the scores, > 0: below 1 sharper, above 1 flatter.
    pub temperature: f32,
    /// Keep this many of the best tokens, ≥ 1.
    pub top_k: Option<usize>,
    /// Keep the fewest best tokens whose probabilities reach this sum, in (0, 1].
    pub top_p: Option<f32>,
    /// Keep tokens with at least this share of the best one's probability, in [0, 1].
    pub min_p: Option<f32>,
    /// Equal seeds and equal scores give equal tokens.
    pub seed: u64,
}

impl Default for Draw {
    /// The model's own distribution: temperature 1, no filter, seed 0.
    fn default() -> Self {
        Self { temperature: 1.0, top_k: None, top_p: None, min_p: None, seed: 0 }
    }
}

impl Sampling {
    /// Always the best token.
    pub fn greedy() -> Self {
        Self { choice: Choice::Greedy, repetition_penalty: 1.0 }
    }

    /// A draw.
    pub fn draw(draw: Draw) -> Self {
        Self { choice: Choice::Draw(draw), repetition_penalty: 1.0 }
    }

    fn validate(&self) -> Result<()> {
        let positive = |name, value: f32| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(ModelError::option(name, value, "must be a positive number")),
        };
        positive("repetition penalty", self.repetition_penalty)?;
        let Choice::Draw(draw) = self.choice else { return Ok(()) };
        positive("temperature", draw.temperature)?;
        if draw.top_k == Some(0) {
            return Err(ModelError::option("top-k", 0, "must be at least 1"));
        }
        if let Some(p) = draw.top_p.filter(|p| !(*p > 0.0 && *p <= 1.0)) {
            return Err(ModelError::option("top-p", p, "must be above 0 and at most 1"));
        }
        if let Some(p) = draw.min_p.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(ModelError::option("min-p", p, "must be in 0..=1"));
        }
        Ok(())
    }
}

/// Chooses tokens one after the other.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    random: ChaCha8Rng,
}

impl Sampler {
    /// # Errors
    /// [`ModelError::Option`] naming a value outside its range.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.validate()?;
        let seed = match sampling.choice {
            Choice::Greedy => 0,
            Choice::Draw(draw) => draw.seed,
        };
        Ok(Self { sampling, random: ChaCha8Rng::seed_from_u64(seed) })
    }

    /// The next token, given one score for each token of the vocabulary and the tokens so far.
    ///
    /// # Errors
    /// [`ModelError::Scores`] when there are none, or one is NaN or +∞.
    pub fn next(&mut self, scores: &[f32], history: &[u32]) -> Result<u32> {
        if let Some(token) = scores.iter().position(|score| score.is_nan() || *score == f32::INFINITY) {
            return Err(ModelError::Scores { token, score: scores[token] });
        }
        let mut scores = scores.to_vec();
        self.penalise(&mut scores, history);
        let best = best(&scores)?;
        Ok(match self.sampling.choice {
            Choice::Greedy => best,
            Choice::Draw(draw) => draw.choose(&scores, self.random.random()).unwrap_or(best),
        })
    }

    fn penalise(&self, scores: &mut [f32], history: &[u32]) {
        let penalty = self.sampling.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen = history.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(score) = scores.get_mut(token as usize) {
                *score = if *score > 0.0 { *score / penalty } else { *score * penalty };
            }
        }
    }
}

impl Draw {
    /// The token that `random`, a number from 0 to 1, stands for among those that pass the filters.
    fn choose(&self, scores: &[f32], random: f64) -> Option<u32> {
        let mut ranking = Ranking::new(scores, self.top_k);
        let best = f64::from(scores[ranking.get(0)? as usize]);
        // Relative to the best one's probability.
        let weight =
            |token: u32| ((f64::from(scores[token as usize]) - best) / f64::from(self.temperature)).exp();
        let mut kept: f64 = ranking.order.iter().map(|token| weight(*token)).sum();
        let mut count = ranking.order.len();
        if self.top_p.is_some() || self.min_p.is_some() {
            let goal = self.top_p.map(|p| f64::from(p) * kept);
            (kept, count) = (0.0, 0);
            while let Some(token) = ranking.get(count) {
                let weight = weight(token);
                if self.min_p.is_some_and(|p| weight < f64::from(p)) {
                    break;
                }
                kept += weight;
                count += 1;
                if goal.is_some_and(|goal| kept >= goal) {
                    break;
                }
            }
        }
        let mut left = random * kept;
        (0..count).filter_map(|rank| ranking.get(rank)).find(|token| {
            left -= weight(*token);
            left < 0.0
        })
    }
}

/// The tokens from the best to the worst, sorted only as far as somebody looks: a draw rarely goes beyond the first few, and
/// a whole vocabulary takes longer to sort than a small model takes for a token.
struct Ranking<'a> {
    scores: &'a [f32],
    order: Vec<u32>,
    /// How many of the order are in their places.
    sorted: usize,
}

impl<'a> Ranking<'a> {
    /// Of all tokens, or of the `top` best.
    fn new(scores: &'a [f32], top: Option<usize>) -> Self {
        let mut ranking = Self { scores, order: (0..scores.len() as u32).collect(), sorted: 0 };
        if let Some(top) = top.filter(|top| *top < scores.len()) {
            ranking.put_first(top);
            ranking.order.truncate(top);
        }
        ranking
    }

    /// The token of this rank, 0 for the best one; the lowest id first among equals.
    fn get(&mut self, rank: usize) -> Option<u32> {
        const FIRST: usize = 128;
        while rank >= self.sorted && self.sorted < self.order.len() {
            let count = self.sorted.max(FIRST).min(self.order.len() - self.sorted);
            self.put_first(count);
            let scores = self.scores;
            let descending = |a: &u32, b: &u32| descending(scores, *a, *b);
            self.order[self.sorted..self.sorted + count].sort_unstable_by(descending);
            self.sorted += count;
        }
        self.order.get(rank).copied()
    }

    /// Moves the `count` best of those that are not sorted to their front, in any order.
    fn put_first(&mut self, count: usize) {
        let scores = self.scores;
        let rest = &mut self.order[self.sorted..];
        if count > 0 && count < rest.len() {
            rest.select_nth_unstable_by(count - 1, |a, b| descending(scores, *a, *b));
        }
    }
}

fn descending(scores: &[f32], a: u32, b: u32) -> std::cmp::Ordering {
    scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b))
}

/// The highest score's token, the lowest id among equals.
fn best(scores: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (token, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = token;
        }
    }
    match scores.get(best) {
        Some(score) if score.is_finite() => Ok(best as u32),
        score => Err(ModelError::Scores { token: best, score: score.copied().unwrap_or(f32::NAN) }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frequencies(draw: Draw, scores: &[f32], draws: usize) -> Vec<f64> {
        let mut sampler = Sampler::new(Sampling::draw(draw)).unwrap();
        let mut counts = vec![0.0; scores.len()];
        for _ in 0..draws {
            counts[sampler.next(scores, &[]).unwrap() as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let scores = [0.4_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln(), 0.1_f32.ln()];
        // Standard error at 20,000 draws: below 0.0035.
        let check = |draw: Draw, expected: [f64; 4]| {
            let got = frequencies(draw, &scores, 20_000);
            for (got, expected) in got.iter().zip(expected) {
                assert!(
                    (got - expected).abs() < 0.02 && (*got == 0.0) == (expected == 0.0),
                    "{draw:?}: {got}"
                );
            }
        };
        let plain = Draw { seed: 7, ..Draw::default() };
        check(plain, [0.4, 0.3, 0.2, 0.1]);
        check(Draw { top_k: Some(2), ..plain }, [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        // 0.4 + 0.3 stays below 0.75: the third is needed.
        check(Draw { top_p: Some(0.75), ..plain }, [4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0]);
        check(Draw { min_p: Some(0.6), ..plain }, [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        // Temperature ½ squares the probabilities.
        check(Draw { temperature: 0.5, ..plain }, [16.0 / 30.0, 9.0 / 30.0, 4.0 / 30.0, 1.0 / 30.0]);
    }

    #[test]
    fn the_penalty_pushes_both_signs_down() {
        let sampling = Sampling { choice: Choice::Greedy, repetition_penalty: 2.0 };
        let mut sampler = Sampler::new(sampling).unwrap();
        assert_eq!(sampler.next(&[1.0, 0.9, -1.0], &[0]).unwrap(), 1);
        assert_eq!(sampler.next(&[-1.0, -1.5, -9.0], &[0, 0]).unwrap(), 1);
        assert_eq!(sampler.next(&[1.0, 0.4], &[0, 0, 0]).unwrap(), 0, "repeats count once");
    }

    #[test]
    fn errors_name_option_and_range() {
        for (draw, parts) in [
            (Draw { temperature: 0.0, ..Draw::default() }, ["temperature", "0", "positive"]),
            (Draw { top_k: Some(0), ..Draw::default() }, ["top-k", "0", "at least 1"]),
            (Draw { top_p: Some(1.5), ..Draw::default() }, ["top-p", "1.5", "at most 1"]),
            (Draw { min_p: Some(f32::NAN), ..Draw::default() }, ["min-p", "NaN", "0..=1"]),
        ] {
            let message = Sampler::new(Sampling::draw(draw)).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
        let mut greedy = Sampler::new(Sampling::greedy()).unwrap();
        let message = greedy.next(&[0.0, f32::NAN], &[]).unwrap_err().to_string();
        assert!(message.contains("NaN") && message.contains("token 1"), "{message}");
        assert!(greedy.next(&[], &[]).is_err());
        assert!(greedy.next(&[f32::NEG_INFINITY; 2], &[]).is_err());
    }

    #[test]
    fn a_ranking_is_a_sort() {
        // Longer than what is sorted at once, with many equals.
        let scores: Vec<f32> = (0..1000_u32).map(|at| ((at * 7919) % 61) as f32).collect();
        let mut expected: Vec<u32> = (0..1000).collect();
        expected.sort_by(|a, b| descending(&scores, *a, *b));
        for top in [None, Some(1), Some(200), Some(1000), Some(2000)] {
            let mut ranking = Ranking::new(&scores, top);
            let found: Vec<u32> = (0..).map_while(|rank| ranking.get(rank)).collect();
            assert_eq!(found, expected[..top.unwrap_or(1000).min(1000)]);
            assert_eq!(ranking.get(0), Some(expected[0]));
        }
    }

    proptest! {
        #[test]
        fn a_drawn_token_passes_every_filter(
            scores in prop::collection::vec(-8.0_f32..8.0, 1..40),
            temperature in 0.1_f32..3.0,
            top_k in prop::option::of(1_usize..50),
            top_p in prop::option::of(0.01_f32..=1.0),
            min_p in prop::option::of(0.0_f32..=1.0),
            seed: u64,
        ) {
            let draw = Draw { temperature, top_k, top_p, min_p, seed };
            let token = Sampler::new(Sampling::draw(draw)).unwrap().next(&scores, &[]).unwrap();
            let again = Sampler::new(Sampling::draw(draw)).unwrap().next(&scores, &[]).unwrap();
            prop_assert_eq!(token, again, "equal seeds give equal tokens");
            let score = scores[token as usize];
            let above = scores.iter().filter(|other| **other > score).count();
            prop_assert!(top_k.is_none_or(|k| above < k));
            let best = scores.iter().copied().fold(f32::MIN, f32::max);
            let share = f64::from((score - best) / temperature).exp();
            prop_assert!(min_p.is_none_or(|p| share >= f64::from(p) - 1e-5));
            // Everything strictly better together stays below top-p, or this token would not have been needed.
            let weight = |score: f32| f64::from((score - best) / temperature).exp();
            let total: f64 = scores.iter().map(|score| weight(*score)).sum();
            let better: f64 = scores.iter().filter(|other| **other > score).map(|other| weight(*other)).sum();
            prop_assert!(top_p.is_none_or(|p| top_k.is_some() || better / total < f64::from(p) + 1e-5));
        }

        #[test]
        fn one_candidate_is_the_greedy_choice(scores in prop::collection::vec(-8.0_f32..8.0, 1..40), seed: u64) {
            let greedy = Sampler::new(Sampling::greedy()).unwrap().next(&scores, &[]).unwrap();
            for draw in [
                Draw { top_k: Some(1), seed, ..Draw::default() },
                Draw { temperature: 1e-4, top_p: Some(1e-6), seed, ..Draw::default() },
            ] {
                prop_assert_eq!(Sampler::new(Sampling::draw(draw)).unwrap().next(&scores, &[]).unwrap(), greedy);
            }
        }
    }
}
