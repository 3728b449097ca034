//! What visual tokens are called, learnt without a pass of the language model.
//!
//! A frozen language model is a dear teacher for a connector that starts from nothing: every question passes all of its
//! blocks, forwards and backwards, to say something about the few words of an answer. But a visual token stands where words
//! stand, so that it may learn first to lie near the words of what it shows: of all words of a part's answers those of a
//! picture's own answers are to score highest, whichever of its visual tokens they are read from.

use std::collections::BTreeSet;

use candle_core::{D, DType, Device, Tensor};
use foveate_compress::Features;
use foveate_model::vlm::Vlm;

use crate::Result;
use crate::batch::Batch;
use crate::encode::{Example, Slot};
use crate::forward;

/// Keeps the logarithm of a share finite that f32 rounds to nothing.
const LEAST: f64 = 1e-12;

/// What a cosine of 1 adds to a score: little enough that a token has to point where its word does, and not only a bit more
/// there than to other words. Products of tokens as long as they like are told apart at cosines of 0.1, which a language model
/// makes nothing of.
const SHARPNESS: f64 = 12.0;

/// The sum over examples and the different words of their answers of −log p, a scalar: p is the softmax of the cosines of
/// visual tokens and embeddings, times [`SHARPNESS`], over all pairs of the example's visual tokens and the words of all answers
/// here, summed over the visual tokens. For each word the mean over the example's visual tokens of (length ÷ length of a word
/// − 1)² is added: tokens are to be as long as words are, too. `questions` is what [`forward::question_vectors`] gives.
///
/// # Errors
/// As [`forward::visual_tokens`].
pub(crate) fn loss(
    vlm: &Vlm,
    features: &Features,
    examples: &[Example],
    questions: Option<&Tensor>,
    visual: usize,
) -> Result<Tensor> {
    let batch = Batch::new(examples, visual);
    let tokens = forward::visual_tokens(vlm, features, questions, &batch, visual)?;
    let said: Vec<Vec<u32>> = batch.pictures.iter().map(|(row, _)| words(&examples[*row])).collect();
    let all: Vec<u32> = said.iter().flatten().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let (Some(tokens), false) = (tokens, all.is_empty()) else {
        return Ok(Tensor::zeros((), DType::F32, &Device::Cpu)?);
    };
    let (rows, ..) = tokens.dims3()?;
    let embedded = vlm.decoder().embed(&Tensor::new(all.as_slice(), &Device::Cpu)?.unsqueeze(0)?)?;
    let embedded = embedded.flatten_to(1)?.detach(); // [words, D]
    let (tokens, lengths) = directions(&tokens.flatten_to(1)?)?; // [rows · V, D], [rows · V, 1]
    let (embedded, usual) = directions(&embedded)?;
    let scores = (tokens.matmul(&embedded.t()?)? * SHARPNESS)?;
    let scores = scores.reshape((rows, visual * all.len()))?;
    let highest = scores.max_keepdim(D::Minus1)?.detach();
    let exp = scores.broadcast_sub(&highest)?.exp()?.reshape((rows, visual, all.len()))?;
    let share = exp.sum(1)?; // [rows, words]
    let log = (share.broadcast_div(&share.sum_keepdim(D::Minus1)?)? + LEAST)?.log()?;
    let mut wanted = vec![0.0_f32; rows * all.len()];
    for (row, words) in said.iter().enumerate() {
        for word in words {
            if let Ok(at) = all.binary_search(word) {
                wanted[row * all.len() + at] = 1.0;
            }
        }
    }
    let wanted = Tensor::from_vec(wanted, (rows, all.len()), &Device::Cpu)?;
    let count = wanted.sum_keepdim(D::Minus1)?; // [rows, 1]
    let off = (lengths.broadcast_div(&usual.mean_keepdim(0)?)? - 1.0)?.sqr()?.reshape((rows, visual))?;
    let off = (off.mean_keepdim(D::Minus1)? * count)?;
    Ok((off.sum_all()? - (log * wanted)?.sum_all()?)?)
}

/// Rows `[n, D]` of length 1, and how long they were, `[n, 1]`.
fn directions(rows: &Tensor) -> Result<(Tensor, Tensor)> {
    let lengths = (rows.sqr()?.sum_keepdim(D::Minus1)? + LEAST)?.sqrt()?;
    Ok((rows.broadcast_div(&lengths)?, lengths))
}

/// How many words [`loss`] sums over.
pub(crate) fn count(examples: &[Example]) -> usize {
    examples.iter().filter(|example| example.picture.is_some()).map(|example| words(example).len()).sum()
}

/// The different tokens of an answer, sorted, without the one that ends it.
fn words(example: &Example) -> Vec<u32> {
    let mut answer: Vec<u32> = example
        .slots
        .iter()
        .filter_map(|slot| if let Slot::Answer(token) = slot { Some(*token) } else { None })
        .collect();
    answer.pop();
    answer.sort_unstable();
    answer.dedup();
    answer
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use foveate_model::Dtype;

    use super::*;

    #[test]
    fn the_loss_is_that_of_a_softmax_over_tokens_and_words() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/compressed-elastic");
        let vlm = Vlm::open(&folder, None, Dtype::F32).unwrap();
        let size = vlm.tower().config().image_size();
        let values = (0..2 * 3 * size.height * size.width).map(|at| ((at * 37 % 101) as f32) / 50.0 - 1.0);
        let pixels =
            Tensor::from_vec(values.collect(), (2, 3, size.height, size.width), &Device::Cpu).unwrap();
        let features = forward::features(&vlm, &pixels).unwrap();
        let example = |picture: usize, answer: &[u32]| Example {
            picture: Some(picture),
            question: vec![7, 9],
            slots: [Slot::Given(1), Slot::Image, Slot::Given(7), Slot::Given(9)]
                .into_iter()
                .chain(answer.iter().map(|token| Slot::Answer(*token)))
                .collect(),
        };
        // Token 2 ends answers; what is said twice is one word.
        let examples = [example(0, &[11, 12, 11, 2]), example(1, &[13, 2])];
        assert_eq!(count(&examples), 3);
        let questions = forward::question_vectors(&vlm, &examples, None).unwrap();
        let found =
            loss(&vlm, &features, &examples, questions.as_ref(), 4).unwrap().to_scalar::<f32>().unwrap();

        let batch = Batch::new(&examples, 4);
        let tokens = forward::visual_tokens(&vlm, &features, questions.as_ref(), &batch, 4).unwrap().unwrap();
        let tokens: Vec<Vec<Vec<f32>>> = tokens.to_vec3().unwrap();
        let words = Tensor::new(&[[11_u32, 12, 13]], &Device::Cpu).unwrap();
        let words: Vec<Vec<f32>> =
            vlm.decoder().embed(&words).unwrap().squeeze(0).unwrap().to_vec2().unwrap();
        let length = |of: &[f32]| of.iter().map(|a| f64::from(a * a)).sum::<f64>().sqrt();
        let usual = words.iter().map(|word| length(word)).sum::<f64>() / 3.0;
        let mut expected = 0.0;
        for (row, said) in [(0, vec![0, 1]), (1, vec![2])] {
            let of_word = |word: usize| -> f64 {
                let cosine = |token: &Vec<f32>| {
                    let product: f64 = token.iter().zip(&words[word]).map(|(a, b)| f64::from(a * b)).sum();
                    product / length(token) / length(&words[word])
                };
                tokens[row].iter().map(|token| (12.0 * cosine(token)).exp()).sum()
            };
            let all: f64 = (0..3).map(of_word).sum();
            expected -= said.iter().map(|word| (of_word(*word) / all).ln()).sum::<f64>();
            let off = tokens[row].iter().map(|token| (length(token) / usual - 1.0).powi(2));
            expected += off.sum::<f64>() / 4.0 * said.len() as f64;
        }
        assert!((f64::from(found) - expected).abs() < 1e-4 * expected, "{found} {expected}");
    }
}
