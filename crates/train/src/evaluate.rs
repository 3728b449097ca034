//! Scores on data that is not trained on.
//!
//! A question counts as answered rightly when each token of its answer and the end token have the highest score given
//! those before: exactly then greedy decoding would write the answer, so nothing has to be generated.

use std::collections::BTreeMap;

use foveate_data::{Order, Question, Stream, Tolerance};
use foveate_model::vlm::Vlm;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::encode::Encoder;
use crate::feed::stack;
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
        let Count { right, asked } = self.total();
        right as f64 / asked.max(1) as f64
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
    let mut stream = Stream::new(source, Order::Stored, tolerance).decoded();
    let (mut work, mut asked) = (Vec::new(), 0);
    while asked < recipe.evaluation.questions {
        let (mut pixels, mut examples, mut skills) = (Vec::new(), Vec::new(), Vec::new());
        while pixels.len() < TOGETHER && asked < recipe.evaluation.questions {
            let Some(next) = stream.next() else { break };
            let (sample, image) = next?;
            let Some(image) = image else { continue };
            let tile = student.preprocessor.apply(&image)?.tiles.into_iter().next();
            let chosen: Vec<&Question> = sample.questions.iter().take(recipe.questions).collect();
            let new = encoder.examples(&sample, &chosen, Some(pixels.len()))?;
            skills.extend(chosen.iter().take(new.len()).map(|question| question.skill.name()));
            asked += new.len();
            examples.extend(new);
            pixels.extend(tile);
        }
        if pixels.is_empty() {
            break;
        }
        work.push((pixels, examples, skills));
    }
    let budgets = &recipe.evaluation.visual_tokens;
    let results = parallel::map(&work, threads, |(pixels, examples, _)| {
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
    let mut scores = Vec::new();
    for (nth, tokens) in budgets.iter().enumerate() {
        let mut score =
            Score { data: name.to_owned(), visual_tokens: *tokens, loss: 0.0, skills: BTreeMap::new() };
        let mut targets = 0;
        for ((_, _, skills), result) in work.iter().zip(&results) {
            let Some((loss, count, right)) = result.get(nth) else { continue };
            score.loss += loss;
            targets += count;
            for (skill, right) in skills.iter().zip(right) {
                let count = score.skills.entry((*skill).to_owned()).or_default();
                count.asked += 1;
                count.right += usize::from(*right);
            }
        }
        score.loss /= targets.max(1) as f64;
        scores.push(score);
    }
    Ok(scores)
}
