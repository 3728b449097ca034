//! Merge rules of a SentencePiece BPE vocabulary, which stores scores instead.
//!
//! A token can be made from each pair of shorter tokens that spell it; pairs that make a token with a higher score come
//! first. Ties are ordered as the converter of transformers (`SentencePieceExtractor`) orders them, so that the result
//! equals the `tokenizer.json` of the same model.

use std::cmp::Reverse;
use std::collections::HashMap;

/// The longest token, in bytes, that is taken apart. SentencePiece's own default limit is 16 characters; the work grows
/// with the square of the length, and a hostile file should not choose it.
pub(super) const LONGEST: usize = 256;

/// The merges that make the tokens in `mergeable` (index, score), best first.
pub(super) fn from_scores(
    tokens: &[&str],
    index_of: &HashMap<&str, usize>,
    mergeable: impl Iterator<Item = (usize, f64)>,
) -> Vec<(String, String)> {
    let mut merges = Vec::new();
    for (index, score) in mergeable {
        let token = tokens[index];
        if token.len() > LONGEST {
            continue;
        }
        let mut parts: Vec<_> = token
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = token.split_at(at);
                Some((*index_of.get(left)?, *index_of.get(right)?, left, right))
            })
            .collect();
        parts.sort_unstable();
        merges.extend(parts.into_iter().map(|(_, _, left, right)| (score, left, right)));
    }
    // Stable: what the key does not decide stays in the order of tokens and of their parts.
    let characters = |text: &str| text.chars().count();
    merges.sort_by(|(score, left, right), (other_score, other_left, other_right)| {
        other_score.total_cmp(score).then_with(|| {
            let key = |left, right| Reverse((characters(left), characters(right)));
            key(left, right).cmp(&key(other_left, other_right))
        })
    });
    merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_scores_first_then_longer_left_parts() {
        let tokens = ["x", "y", "xy", "xyx", "yx"];
        let index_of = tokens.iter().enumerate().map(|(index, token)| (*token, index)).collect();
        let scores = [0.0, 0.0, -2.0, -3.0, -1.0];
        let merges = from_scores(&tokens, &index_of, scores.into_iter().enumerate());
        let merges: Vec<_> = merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
        assert_eq!(merges, [("y", "x"), ("x", "y"), ("xy", "x"), ("x", "yx")]);
    }
}
