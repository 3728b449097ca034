//! How likely a token was, and which others were.

/// The natural logarithm of the probability of a token and of the best ones, under the model's own distribution: before
/// temperature, filters and penalties.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// Of the token that was drawn.
    pub logprob: f32,
    /// The best tokens, best first, the lowest id first among equals.
    pub best: Vec<(u32, f32)>,
}

/// log softmax of `scores`, one for each token of the vocabulary; nothing for a token that is not in it.
pub(super) fn log_probabilities(scores: &[f32]) -> impl Fn(u32) -> Option<f64> + '_ {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = scores.iter().map(|score| f64::from(score - highest).exp()).sum();
    move |token| Some(f64::from(scores.get(token as usize)? - highest) - sum.ln())
}

impl Scored {
    /// Of `token` and the `count` best, from one score for each token of the vocabulary.
    ///
    /// ```
    /// use foveate_model::generate::Scored;
    /// let scored = Scored::new(&[0.0, 2.0_f32.ln(), 0.0], 2, 2);
    /// assert!((scored.logprob - 0.25_f32.ln()).abs() < 1e-6);
    /// assert_eq!(scored.best.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 0]);
    /// ```
    pub fn new(scores: &[f32], token: u32, count: usize) -> Self {
        let known = log_probabilities(scores);
        let logprob = |token: u32| known(token).map_or(f32::NEG_INFINITY, |logprob| logprob as f32);
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        let descending =
            |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
        if count > 0 && count < order.len() {
            order.select_nth_unstable_by(count - 1, descending);
        }
        order.truncate(count);
        order.sort_unstable_by(descending);
        Self {
            logprob: logprob(token),
            best: order.into_iter().map(|token| (token, logprob(token))).collect(),
        }
    }
}
