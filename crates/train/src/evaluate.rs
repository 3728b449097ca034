//! Scores on data that is not trained on.
//!
//! A question counts as answered rightly when each token of its answer and the end token have the highest score given
//! those before: exactly then greedy decoding would write the answer, so nothing has to be generated.

use std::collections::BTreeMap;

use foveate_data::image::Pixels;
use foveate_data::{Order, Question, Stream, Tolerance};
use foveate_model::vlm::Vlm;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::encode::{Encoder, Example};
use crate::feed::{see, stack, unusable};
use crate::forward;
use crate::parallel;
use crate::recipe::Recipe;
use crate::student::Student;

/// Pictures that run together.
const TOGETHER: usize = 8;

/// Rightly answered questions of some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Answered rightly.
    pub right: usize,
    /// Asked.
    pub asked: usize,
}

impl Count {
    /// The part that was answered rightly; 0 where nothing was asked.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.asked.max(1) as f64
    }
}

/// The score on a dataset at a number of visual tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The dataset's name in the recipe.
    pub data: String,
    /// Visual tokens.
    pub visual_tokens: usize,
    /// Mean of −log p over the answers' tokens.
    pub loss: f64,
    /// By the name of the skill.
    pub skills: BTreeMap<String, Count>,
}

impl Score {
    /// All skills together.
    pub fn total(&self) -> Count {
        let add =
            |sum: Count, one: &Count| Count { right: sum.right + one.right, asked: sum.asked + one.asked };
        self.skills.values().fold(Count::default(), add)
    }

    /// The part that was answered rightly; 0 where nothing was asked.
    pub fn accuracy(&self) -> f64 {
        self.total().accuracy()
    }
}

/// Scores the student on the recipe's evaluation data, with every number of visual tokens that it names.
///
/// # Errors
/// A dataset that cannot be opened or is too broken; a number of visual tokens that is not offered.
pub fn evaluate(recipe: &Recipe, student: &Student, threads: usize) -> Result<Vec<Score>> {
    let vlm = student.vlm(&[])?;
    let mut scores = Vec::new();
    for name in &recipe.evaluation.data {
        scores.extend(dataset(recipe, student, &vlm, name, threads)?);
    }
    Ok(scores)
}

fn dataset(recipe: &Recipe, student: &Student, vlm: &Vlm, name: &str, threads: usize) -> Result<Vec<Score>> {
    let source = recipe.data[name].open(recipe.questions)?;
    let tolerance = Tolerance { fraction: recipe.tolerance };
    let encoder =
        Encoder { tokenizer: &student.tokenizer, template: &student.template, end_token: student.end_token };
    // The same samples each time, from all over the dataset: many are stored by kind.
    let order = Order::Shuffled { seed: recipe.seed, epoch: 0 };
    let mut stream = Stream::new(source, order, tolerance);
    let budgets = &recipe.evaluation.visual_tokens;
    let blank = |tokens: &usize| Score {
        data: name.to_owned(),
        visual_tokens: *tokens,
        loss: 0.0,
        skills: BTreeMap::new(),
    };
    let mut scores: Vec<Score> = budgets.iter().map(blank).collect();
    let (mut targets, mut asked) = (0, 0);
    loop {
        let mut work = Vec::new();
        // No more pixels in memory at a time than the threads can work on.
        while work.len() < 2 * threads {
            let left = recipe.evaluation.questions - asked;
            let group = together(&mut stream, student, &encoder, recipe.questions, left)?;
            if group.0.is_empty() {
                break;
            }
            asked += group.1.len();
            work.push(group);
        }
        if work.is_empty() {
            break;
        }
        targets += run(&work, vlm, budgets, threads, &mut scores)?;
    }
    scores.iter_mut().for_each(|score| score.loss /= targets.max(1) as f64);
    Ok(scores)
}

/// Pictures, the examples about them, and the skill of each.
type Together = (Vec<Pixels>, Vec<Example>, Vec<&'static str>);

/// The next pictures and up to `most` questions about them, at most `each` about one; empty at the end.
fn together(
    stream: &mut Stream,
    student: &Student,
    encoder: &Encoder<'_>,
    each: usize,
    most: usize,
) -> Result<Together> {
    let (mut pixels, mut examples, mut skills) = (Vec::new(), Vec::new(), Vec::new());
    while pixels.len() < TOGETHER && examples.len() < most {
        let Some(sample) = stream.next().transpose()? else { break };
        let chosen: Vec<&Question> = sample.questions.iter().take(each.min(most - examples.len())).collect();
        let made = see(&student.preprocessor, &sample).and_then(|tile| {
            let new = encoder.examples(&sample, &chosen, Some(pixels.len()));
            Ok((tile, new.map_err(|error| unusable(&sample, error))?))
        });
        match made {
            Ok((Some(tile), new)) => {
                skills.extend(chosen.iter().take(new.len()).map(|question| question.skill.name()));
                examples.extend(new);
                pixels.push(tile);
            }
            // Text alone says nothing about visual tokens.
            Ok((None, _)) => {}
            Err(error) => stream.report_broken(&error)?,
        }
    }
    Ok((pixels, examples, skills))
}

/// Adds losses and counts at each budget to `scores`; returns the number of judged tokens at one of them.
fn run(
    work: &[Together],
    vlm: &Vlm,
    budgets: &[usize],
    threads: usize,
    scores: &mut [Score],
) -> Result<usize> {
    let results = parallel::map(work, threads, |(pixels, examples, _)| {
        let Some(pixels) = stack(pixels)? else { return Ok(Vec::new()) };
        let features = forward::features(vlm, &pixels)?;
        let score = |tokens: &usize| -> Result<(f64, usize, Vec<bool>)> {
            let (batch, scores) = forward::scores(vlm, &features, examples, *tokens)?;
            let loss = f64::from(forward::loss(&batch, &scores)?.to_scalar::<f32>()?);
            Ok((loss, batch.targets.len(), forward::right_rows(&batch, &scores)?))
        };
        budgets.iter().map(score).collect::<Result<Vec<_>>>()
    });
    let results = results.into_iter().collect::<Result<Vec<_>>>()?;
    let mut targets = 0;
    for (nth, score) in scores.iter_mut().enumerate() {
        for ((_, _, skills), result) in work.iter().zip(&results) {
            let Some((loss, count, right)) = result.get(nth) else { continue };
            score.loss += loss;
            targets += if nth == 0 { *count } else { 0 };
            for (skill, right) in skills.iter().zip(right) {
                let count = score.skills.entry((*skill).to_owned()).or_default();
                count.asked += 1;
                count.right += usize::from(*right);
            }
        }
    }
    Ok(targets)
}
