//! From pixels and examples to a loss.
//!
//! The tower sees each picture once, and so does the compressor but for what depends on the question.

use std::collections::BTreeSet;

use candle_core::{D, DType, Device, Tensor};
use foveate_compress::{Budget, Features, Placement};
use foveate_model::llm::{Input, Padding};
use foveate_model::vision::{HiddenState, Wanted};
use foveate_model::vlm::Vlm;

use crate::batch::Batch;
use crate::encode::Example;
use crate::questions::QuestionCache;
use crate::{Result, TrainError};

/// The hidden states that the model's compressor reads of pixels `[pictures, 3, side, side]`.
///
/// # Errors
/// [`TrainError::Field`] for a method that selects patches by the tower's attention: it has nothing to train.
pub fn features(vlm: &Vlm, pixels: &Tensor) -> Result<Features> {
    let needs = vlm.compressor().needs();
    if needs.attention.is_some() || needs.class_token {
        let method = vlm.compressor().method();
        return Err(TrainError::field(
            "parts.compressor.method",
            method,
            "a method that reads hidden states alone",
        ));
    }
    let blocks = vlm.tower().config().blocks();
    let states: Vec<HiddenState> = needs
        .states
        .iter()
        .map(|depth| Ok(HiddenState::new(depth.resolve(blocks)?)))
        .collect::<Result<_>>()?;
    let output = vlm.tower().forward(pixels, &Wanted::states(&states))?;
    let mut features = Features::new(output.grid);
    for (nth, depth) in needs.states.iter().enumerate() {
        features = features.with_state(*depth, output.patches(nth)?.contiguous()?)?; // [pictures, patches, d]
    }
    Ok(features)
}

/// The vectors of the questions about pictures, `[rows with pictures, D]`: one pass of the language model for each different
/// one, whatever the number of visual tokens, and none for those that are `kept`. `None` if no row shows a picture or the
/// compressor reads no question.
///
/// # Errors
/// A question without tokens or longer than the model's context.
pub fn question_vectors(
    vlm: &Vlm,
    examples: &[Example],
    kept: Option<&QuestionCache>,
) -> Result<Option<Tensor>> {
    if !vlm.compressor().reads_question() {
        return Ok(None);
    }
    // The rows that show a picture are the same whatever the number of visual tokens.
    let batch = Batch::new(examples, 1);
    let questions: Vec<&[u32]> =
        batch.pictures.iter().map(|(row, _)| examples[*row].question.as_slice()).collect();
    if questions.is_empty() {
        return Ok(None);
    }
    let different: Vec<&[u32]> = different_questions(examples).into_iter().collect();
    let places: Vec<u32> =
        questions.iter().filter_map(|one| different.binary_search(one).ok()).map(|at| at as u32).collect();
    let vectors = match kept {
        Some(kept) => kept.vectors(vlm, &different)?,
        // A language model that is trained learns here to say what a question asks for.
        None => vlm.question_vectors(&different)?,
    };
    Ok(Some(picked(&vectors, &places)?))
}

/// What is asked about pictures, each question once.
pub(crate) fn different_questions(examples: &[Example]) -> BTreeSet<&[u32]> {
    let about_pictures = examples.iter().filter(|example| example.picture.is_some());
    about_pictures.map(|example| example.question.as_slice()).collect()
}

/// The visual tokens of each row of `batch` that shows a picture, `[rows with pictures, V, D]`; `None` if none does.
/// `questions` is what [`question_vectors`] gives for the examples of the batch.
///
/// # Errors
/// A number of visual tokens that the compressor does not offer.
pub fn visual_tokens(
    vlm: &Vlm,
    features: &Features,
    questions: Option<&Tensor>,
    batch: &Batch,
    visual_tokens: usize,
) -> Result<Option<Tensor>> {
    if batch.pictures.is_empty() {
        return Ok(None);
    }
    let compressor = vlm.compressor();
    let mut features = features.clone();
    if compressor.placement() == Placement::AfterProjector {
        let mut projected = Features::new(features.grid());
        for depth in compressor.needs().states {
            if let Some(patches) = features.patches(depth) {
                projected = projected.with_state(depth, vlm.project(patches)?)?;
            }
        }
        features = projected;
    }
    let asked = Asked::new(batch);
    let mut shown = features.rows(&asked.pictures)?; // [pictures, patches, d]
    if let Some(questions) = questions {
        shown = shown.with_questions(picked(questions, &asked.questions)?)?; // [pictures · most, D]
    }
    let mut tokens = compressor.compress(&shown, Budget::Tokens(visual_tokens))?.tokens; // [pictures or · most, V, d]
    if compressor.placement() == Placement::BeforeProjector {
        tokens = vlm.project(&tokens)?;
    }
    let places = if questions.is_some() { &asked.with_question } else { &asked.without };
    Ok(Some(picked(&tokens, places)?)) // [rows, V, d]
}

/// Some rows of a tensor in another order; the tensor itself where they are all of them in theirs.
fn picked(tensor: &Tensor, rows: &[u32]) -> Result<Tensor> {
    if rows.iter().copied().eq(0..tensor.dim(0)? as u32) {
        return Ok(tensor.clone());
    }
    Ok(tensor.contiguous()?.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?)
}

/// The rows of a batch that show a picture, sorted by the picture.
#[derive(Debug, PartialEq)]
struct Asked {
    /// Each picture that is shown, in the order of its first row.
    pictures: Vec<usize>,
    /// For each picture in turn equally many of the rows that show it, as numbers of [`Batch::pictures`]: its first one is
    /// repeated where it has fewer than the picture with most.
    questions: Vec<u32>,
    /// Where each row finds its result if there is one for each of `questions`.
    with_question: Vec<u32>,
    /// The same if there is one for each of `pictures`.
    without: Vec<u32>,
}

impl Asked {
    fn new(batch: &Batch) -> Asked {
        let mut pictures: Vec<usize> = Vec::new();
        let mut rows_of: Vec<Vec<usize>> = Vec::new();
        // For each row its picture's place, and how many rows show it before.
        let mut places = Vec::with_capacity(batch.pictures.len());
        for (row, (_, picture)) in batch.pictures.iter().enumerate() {
            let at = pictures.iter().position(|other| other == picture).unwrap_or_else(|| {
                pictures.push(*picture);
                rows_of.push(Vec::new());
                pictures.len() - 1
            });
            places.push((at, rows_of[at].len()));
            rows_of[at].push(row);
        }
        let most = rows_of.iter().map(Vec::len).max().unwrap_or(0);
        let filled = |rows: &Vec<usize>| -> Vec<u32> {
            (0..most).map(|nth| rows.get(nth).copied().unwrap_or(rows[0]) as u32).collect()
        };
        Asked {
            questions: rows_of.iter().flat_map(filled).collect(),
            with_question: places.iter().map(|(at, nth)| (at * most + nth) as u32).collect(),
            without: places.iter().map(|(at, _)| *at as u32).collect(),
            pictures,
        }
    }
}

/// The scores over the vocabulary at every judged position, `[targets, vocabulary]`.
///
/// # Errors
/// As [`visual_tokens`]; a batch longer than the model's context.
pub fn scores(
    vlm: &Vlm,
    features: &Features,
    examples: &[Example],
    visual: usize,
) -> Result<(Batch, Tensor)> {
    scores_asked(vlm, features, examples, question_vectors(vlm, examples, None)?.as_ref(), visual)
}

/// The same where the vectors of the questions, as [`question_vectors`] gives them, are there already.
///
/// # Errors
/// As [`scores`].
pub fn scores_asked(
    vlm: &Vlm,
    features: &Features,
    examples: &[Example],
    questions: Option<&Tensor>,
    visual: usize,
) -> Result<(Batch, Tensor)> {
    let batch = Batch::new(examples, visual);
    let images = visual_tokens(vlm, features, questions, &batch, visual)?;
    let tokens = Tensor::new(batch.tokens.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
    let tokens = vlm.decoder().embed(&tokens)?.squeeze(0)?; // [tokens, D]
    let bank = Batch::bank(&tokens, images.as_ref())?; // [tokens + pictures · V, D]
    let hidden = batch.rectangles.iter().map(|rectangle| {
        let input = rectangle.splice(&bank)?; // [rows, columns, D]
        let padding = Padding::none(rectangle.rows);
        let hidden = vlm.decoder().forward_uncached(Input::Embeddings(&input), &padding)?;
        Ok(hidden.flatten_to(1)?)
    });
    let hidden = hidden.collect::<Result<Vec<_>>>()?;
    let positions: Vec<u32> = batch.targets.iter().map(|target| target.position).collect();
    let positions = Tensor::new(positions, &Device::Cpu)?;
    let judged = Tensor::cat(&hidden, 0)?.index_select(&positions, 0)?; // [targets, D]
    let scores = vlm.decoder().logits(&judged)?;
    Ok((batch, scores))
}

/// The sum of −log p over all targets, a scalar: scores `[targets, vocabulary]`.
///
/// # Errors
/// Only those of the tensor library.
pub fn loss(batch: &Batch, scores: &Tensor) -> Result<Tensor> {
    surprise(scores, batch.targets.iter().map(|target| target.token).collect())
}

/// The sum of −log p of `labels`, one for each row of `scores` `[rows, classes]`, a scalar.
pub(crate) fn surprise(scores: &Tensor, labels: Vec<u32>) -> Result<Tensor> {
    let labels = Tensor::new(labels, &Device::Cpu)?.unsqueeze(1)?;
    let shifted = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
    let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?; // [rows, 1]
    let right = shifted.gather(&labels, 1)?; // [rows, 1]
    Ok((total - right)?.sum_all()?)
}

/// For each row whether every one of its targets has the highest score: exactly when greedy decoding would give the
/// answer, token for token.
///
/// # Errors
/// Only those of the tensor library.
pub fn right_rows(batch: &Batch, scores: &Tensor) -> Result<Vec<bool>> {
    let best = scores.argmax(D::Minus1)?.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    let mut right = vec![true; batch.rows];
    for (target, best) in batch.targets.iter().zip(best) {
        right[target.row] &= best == target.token;
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use foveate_model::vision::ImageSize;

    use super::*;
    use crate::encode::Slot;

    fn vlm() -> Vlm {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/compressed-elastic");
        Vlm::open(&folder, None, foveate_model::Dtype::F32).unwrap()
    }

    fn pixels(vlm: &Vlm, pictures: usize) -> Tensor {
        let ImageSize { height, width } = vlm.tower().config().image_size();
        let count = pictures * 3 * height * width;
        let values: Vec<f32> = (0..count).map(|at| ((at * 37 % 101) as f32) / 50.0 - 1.0).collect();
        Tensor::from_vec(values, (pictures, 3, height, width), &Device::Cpu).unwrap()
    }

    fn example(picture: usize, question: &[u32], answer: &[u32]) -> Example {
        let given = question.iter().map(|id| Slot::Given(*id));
        let slots = [Slot::Given(1), Slot::Image]
            .into_iter()
            .chain(given)
            .chain(answer.iter().map(|id| Slot::Answer(*id)));
        Example { picture: Some(picture), question: question.to_vec(), slots: slots.collect() }
    }

    fn scored(vlm: &Vlm, examples: &[Example]) -> Vec<Vec<f32>> {
        let features = features(vlm, &pixels(vlm, 2)).unwrap();
        scores(vlm, &features, examples, 4).unwrap().1.to_vec2().unwrap()
    }

    fn apart(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_question_asked_twice_has_the_vector_that_it_has_alone() {
        let vlm = vlm();
        let questions: [&[u32]; 4] = [&[9, 7], &[5, 6, 8], &[9, 7], &[4]];
        let examples: Vec<Example> = questions.iter().map(|question| example(0, question, &[3])).collect();
        let found = question_vectors(&vlm, &examples, None).unwrap().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(found.len(), 4);
        for (question, found) in questions.iter().zip(&found) {
            let alone = vlm.question_vector(question).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(*found, alone[0], "{question:?}");
        }
        assert!(apart(&found[0], &found[1]) > 1e-3);
        assert_eq!(found[0], found[2]);
    }

    #[test]
    fn no_token_of_an_answer_is_seen_before_it_is_judged() {
        let vlm = vlm();
        let first = scored(&vlm, &[example(0, &[10, 11, 12], &[20, 21, 22])]);
        // Every later token of the answer exchanged: whatever was judged before is the same to the bit.
        for kept in 0..3 {
            let mut answer = [20, 21, 22];
            answer[kept..].iter_mut().for_each(|token| *token += 77);
            let other = scored(&vlm, &[example(0, &[10, 11, 12], &answer)]);
            assert_eq!(first[..=kept], other[..=kept], "token {kept} of the answer was seen early");
            assert!(
                other.get(kept + 1).is_none_or(|row| apart(row, &first[kept + 1]) > 1e-4),
                "it is read afterwards"
            );
        }
    }

    #[test]
    fn a_row_of_a_batch_is_the_row_alone() {
        let vlm = vlm();
        let examples = [
            example(0, &[10, 11], &[20, 21]),
            example(1, &[12, 13, 14, 15], &[22]),
            example(0, &[16], &[23, 24, 25]),
        ];
        let together = scored(&vlm, &examples);
        let alone: Vec<Vec<f32>> =
            examples.iter().flat_map(|example| scored(&vlm, std::slice::from_ref(example))).collect();
        assert_eq!(together.len(), alone.len());
        for (together, alone) in together.iter().zip(&alone) {
            assert!(apart(together, alone) < 1e-4, "{}", apart(together, alone));
        }
    }

    #[test]
    fn gradients_of_questions_about_one_picture_add_up() {
        let vlm = vlm();
        let pixels = candle_core::Var::from_tensor(&pixels(&vlm, 3)).unwrap();
        // Three questions about one picture, one about another, none about the first.
        let examples = [
            example(2, &[10, 11], &[20, 21]),
            example(1, &[12, 13, 14, 15], &[22]),
            example(2, &[16], &[23]),
            example(2, &[17, 18], &[24]),
        ];
        let gradient = |examples: &[Example]| {
            let features = features(&vlm, &pixels).unwrap();
            let (batch, scores) = scores(&vlm, &features, examples, 4).unwrap();
            let gradients = loss(&batch, &scores).unwrap().backward().unwrap();
            gradients.get(&pixels).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let together = gradient(&examples);
        let mut sum = vec![0.0; together.len()];
        for example in &examples {
            let alone = gradient(std::slice::from_ref(example));
            sum.iter_mut().zip(alone).for_each(|(sum, alone)| *sum += alone);
        }
        let size = sum.iter().map(|x| x.abs()).fold(0.0, f32::max);
        assert!(size > 1e-4 && apart(&together, &sum) < 1e-4 * size, "{} of {size}", apart(&together, &sum));
    }

    #[test]
    fn rows_are_sorted_by_their_picture() {
        let shown = |pictures: &[usize]| {
            let examples: Vec<Example> =
                pictures.iter().map(|picture| example(*picture, &[10], &[20])).collect();
            Asked::new(&Batch::new(&examples, 1))
        };
        let asked = shown(&[7, 3, 7, 7]);
        assert_eq!(asked.pictures, [7, 3]);
        assert_eq!(asked.questions, [0, 2, 3, 1, 1, 1]);
        assert_eq!(asked.with_question, [0, 3, 1, 2]);
        assert_eq!(asked.without, [0, 1, 0, 0]);
        // Equally many for each, in order: nothing is moved.
        let asked = shown(&[0, 0, 1, 1]);
        assert_eq!((asked.questions, asked.with_question), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
    }

    #[test]
    fn each_question_passes_the_language_model_once() {
        let vlm = vlm();
        // Three questions about one picture, one about another, and a row without a picture.
        let mut examples = vec![
            example(0, &[10, 11], &[20]),
            example(1, &[12, 13, 14, 15], &[22]),
            example(0, &[16], &[23]),
            example(0, &[17, 18], &[24]),
        ];
        let questions = question_vectors(&vlm, &examples, None).unwrap().unwrap();
        assert_eq!(questions.dim(0).unwrap(), 4, "no pass for what fills up");
        // At every number of visual tokens they are what the pass of each would give.
        let features = features(&vlm, &pixels(&vlm, 2)).unwrap();
        for visual in [1, 4] {
            let kept = scores_asked(&vlm, &features, &examples, Some(&questions), visual).unwrap().1;
            let anew = scores(&vlm, &features, &examples, visual).unwrap().1;
            assert_eq!(kept.to_vec2::<f32>().unwrap(), anew.to_vec2::<f32>().unwrap());
        }
        let text = Example { picture: None, question: vec![9], slots: vec![Slot::Given(1), Slot::Answer(2)] };
        assert!(question_vectors(&vlm, std::slice::from_ref(&text), None).unwrap().is_none());
        examples.insert(1, text);
        assert_eq!(question_vectors(&vlm, &examples, None).unwrap().unwrap().dim(0).unwrap(), 4);
    }

    #[test]
    fn picture_and_question_are_read() {
        let vlm = vlm();
        let one = scored(&vlm, &[example(0, &[10, 11], &[20])]);
        let other_picture = scored(&vlm, &[example(1, &[10, 11], &[20])]);
        assert!(apart(&one[0], &other_picture[0]) > 1e-4);
        // The compressor's question apart from the prompt's: QueCC reads it.
        let mut other_question = example(0, &[10, 11], &[20]);
        other_question.question = vec![40, 41];
        assert!(apart(&one[0], &scored(&vlm, &[other_question])[0]) > 1e-5);
    }

    // torch.nn.functional.cross_entropy(torch.tensor([[1., 2., 3.], [0., 0., 1000.]]), torch.tensor([0, 2]), reduction="sum")
    #[test]
    fn loss_by_hand() {
        let batch = Batch::new(
            &[Example {
                picture: None,
                question: vec![],
                slots: vec![Slot::Given(0), Slot::Answer(0), Slot::Answer(2)],
            }],
            1,
        );
        let scores = Tensor::new(&[[1.0_f32, 2.0, 3.0], [0.0, 0.0, 1000.0]], &Device::Cpu).unwrap();
        let found = loss(&batch, &scores).unwrap().to_scalar::<f32>().unwrap();
        let expected = (1.0_f32.exp() + 2.0_f32.exp() + 3.0_f32.exp()).ln() - 1.0;
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        assert_eq!(right_rows(&batch, &scores).unwrap(), [false]);
    }
}
