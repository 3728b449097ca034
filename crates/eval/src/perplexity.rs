//! How well a language model foretells text that it was not trained on: perplexity over documents, and two models compared on the
//! same ones.

use serde::{Deserialize, Serialize};

use crate::Figure;
use crate::run::SEED;
use crate::statistics::Resamples;

/// What a model made of one document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its length.
    pub bytes: usize,
    /// Tokens that were foretold: all but the first.
    pub tokens: usize,
    /// The sum of −ln p over them.
    pub nats: f64,
}

/// What a model made of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// Documents.
    pub documents: usize,
    /// Tokens that were foretold.
    pub tokens: usize,
    /// The sum of −ln p over them.
    pub nats: f64,
    /// exp(nats / tokens), with the interval of a bootstrap over documents.
    pub perplexity: Figure,
    /// nats / ln 2 / bytes: what models with different tokenizers are compared by.
    pub bits_per_byte: Figure,
}

impl Perplexity {
    /// Sums documents up; `None` where no token was foretold.
    ///
    /// ```
    /// use foveate_eval::perplexity::{Document, Perplexity};
    /// // A model that holds each of eight tokens for equally likely.
    /// let document = Document { bytes: 12, tokens: 4, nats: 4.0 * 8.0_f64.ln() };
    /// let found = Perplexity::new(&[document; 5]).unwrap();
    /// assert!((found.perplexity.value - 8.0).abs() < 1e-9 && (found.bits_per_byte.value - 1.0).abs() < 1e-12);
    /// assert_eq!((found.documents, found.tokens), (5, 20));
    /// ```
    pub fn new(documents: &[Document]) -> Option<Perplexity> {
        let figure =
            |of: &dyn Fn(Sums) -> Option<f64>| figure(documents.len(), |times| of(sums(documents, times)));
        Some(Perplexity {
            documents: documents.len(),
            tokens: documents.iter().map(|document| document.tokens).sum(),
            nats: documents.iter().map(|document| document.nats).sum(),
            perplexity: figure(&|sums| (sums.tokens > 0.0).then(|| (sums.nats / sums.tokens).exp()))?,
            bits_per_byte: figure(&|sums| {
                (sums.bytes > 0.0).then(|| sums.nats / std::f64::consts::LN_2 / sums.bytes)
            })?,
        })
    }
}

/// The perplexity of one model divided by that of another on the same documents, drawn together. `None` where they are not the
/// same documents in the same tokens.
pub fn ratio(own: &[Document], other: &[Document]) -> Option<Figure> {
    let same = |(own, other): (&Document, &Document)| own.bytes == other.bytes && own.tokens == other.tokens;
    if own.len() != other.len() || !own.iter().zip(other).all(same) {
        return None;
    }
    figure(own.len(), |times| {
        let (own, other) = (sums(own, times), sums(other, times));
        (own.tokens > 0.0).then(|| ((own.nats - other.nats) / own.tokens).exp())
    })
}

/// Weighted sums over documents.
#[derive(Clone, Copy)]
struct Sums {
    bytes: f64,
    tokens: f64,
    nats: f64,
}

fn sums(documents: &[Document], times: &[u32]) -> Sums {
    let mut sums = Sums { bytes: 0.0, tokens: 0.0, nats: 0.0 };
    for (document, times) in documents.iter().zip(times) {
        let times = f64::from(*times);
        sums.bytes += times * document.bytes as f64;
        sums.tokens += times * document.tokens as f64;
        sums.nats += times * document.nats;
    }
    sums
}

fn figure(documents: usize, of: impl Fn(&[u32]) -> Option<f64>) -> Option<Figure> {
    let value = of(&vec![1; documents])?;
    let (interval, _) = Resamples::new(documents, SEED).interval(&of)?;
    Some(Figure { value, interval })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn documents(nats_per_token: impl Fn(usize) -> f64) -> Vec<Document> {
        let document = |nth: usize| {
            let tokens = 10 + 7 * nth % 13;
            Document { bytes: 4 * tokens, tokens, nats: tokens as f64 * nats_per_token(nth) }
        };
        (0..40).map(document).collect()
    }

    #[test]
    fn a_small_change_shows_beside_a_large_spread() {
        let before = documents(|nth| 2.0 + (nth % 9) as f64 / 4.0);
        let after = documents(|nth| 2.0 + (nth % 9) as f64 / 4.0 + 0.01);
        let found = Perplexity::new(&before).unwrap();
        let [low, high] = found.perplexity.interval;
        assert!(low < found.perplexity.value && found.perplexity.value < high && high / low > 1.2);
        // exp(0.01) for every document: the same in every draw.
        let ratio = ratio(&after, &before).unwrap();
        assert!((ratio.value - 0.01_f64.exp()).abs() < 1e-9, "{ratio:?}");
        assert!(ratio.interval[0] > 1.0099 && ratio.interval[1] < 1.0102, "{ratio:?}");
    }

    #[test]
    fn other_documents_or_tokens_are_not_compared() {
        let own = documents(|_| 1.0);
        let mut other = own.clone();
        other[3].tokens += 1;
        assert!(ratio(&own, &other).is_none() && ratio(&own, &own[1..]).is_none());
        assert!(Perplexity::new(&[]).is_none());
        assert!(Perplexity::new(&[Document { bytes: 1, tokens: 0, nats: 0.0 }]).is_none());
    }
}
