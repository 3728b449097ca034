//! Scores on data that is not trained on.
//!
//! A question counts as answered rightly when each token of its answer and the end token have the highest score given
//! those before: exactly then greedy decoding would write the answer, so nothing has to be generated.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use foveate_data::image::Pixels;
use foveate_data::{Order, Question, SampleError, Stream, Tolerance};
use foveate_model::vlm::Vlm;
use serde::{Deserialize, Serialize};

use crate::encode::{Encoder, Example};
use crate::feed::{fits, room, see, stack, unusable};
use crate::ladder::Rungs;
use crate::recipe::{DataSource, Evaluation, Recipe};
use crate::student::Student;
use crate::{Result, families, forward, parallel};

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

/// What an evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// One for each dataset and number of visual tokens.
    pub scores: Vec<Score>,
    /// Why samples were left out.
    pub broken: Vec<String>,
}

/// What scores depend on besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Questions of each dataset, at most.
    pub questions: usize,
    /// Numbers of visual tokens.
    pub visual_tokens: Vec<usize>,
    /// The datasets, in their order.
    pub data: Vec<(String, DataSource)>,
}

impl Settings {
    /// Those of a recipe.
    pub fn of(recipe: &Recipe) -> Settings {
        let Evaluation { questions, data, visual_tokens, .. } = &recipe.evaluation;
        let named = |name: &String| Some((name.clone(), recipe.data.get(name)?.clone()));
        Settings {
            questions: *questions,
            visual_tokens: visual_tokens.clone(),
            data: data.iter().filter_map(named).collect(),
        }
    }
}

/// Whether everything is there that a recipe is to be measured with, and its `[families]` to be fitted to: what is wrong
/// with them is told before the first step, not after the last.
///
/// # Errors
/// A number of visual tokens that the compressor does not offer; a dataset that cannot be opened; `[families]` whose data
/// are of one family.
pub fn ready(recipe: &Recipe, vlm: &Vlm) -> Result<()> {
    let Evaluation { questions, data, visual_tokens, .. } = &recipe.evaluation;
    if *questions > 0 {
        let rungs: Vec<(usize, f64)> = visual_tokens.iter().map(|tokens| (*tokens, 1.0)).collect();
        Rungs::new("evaluation.visual_tokens", &rungs, recipe.seed, vlm.compressor(), vlm.grid())?;
        for name in data {
            recipe.data[name].open(recipe.questions)?;
        }
    }
    families::ready(recipe)
}

/// Scores the student on the recipe's evaluation data, with every number of visual tokens that it names; `None` once
/// `interrupt` is set, which is looked at between groups of questions.
///
/// # Errors
/// A dataset that cannot be opened or is too broken; a number of visual tokens that is not offered.
pub fn evaluate(
    recipe: &Recipe,
    student: &Student,
    threads: usize,
    interrupt: &AtomicBool,
) -> Result<Option<Evaluated>> {
    let vlm = student.vlm(&[])?;
    let mut found = Evaluated::default();
    for name in &recipe.evaluation.data {
        let mut questions = Questions::open(recipe, student, name)?;
        let scores = dataset(&recipe.evaluation, &vlm, &mut questions, threads, interrupt)?;
        let Some(scores) = scores else { return Ok(None) };
        found.scores.extend(scores);
        found.broken.append(&mut questions.broken);
    }
    Ok(Some(found))
}

/// The scores on a dataset, one for each number of visual tokens; `None` once `interrupt` is set.
fn dataset(
    evaluation: &Evaluation,
    vlm: &Vlm,
    questions: &mut Questions<'_>,
    threads: usize,
    interrupt: &AtomicBool,
) -> Result<Option<Vec<Score>>> {
    let budgets = &evaluation.visual_tokens;
    let blank = |tokens: &usize| Score {
        data: questions.name.to_owned(),
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
            let group = questions.together(evaluation.questions - asked)?;
            if group.0.is_empty() {
                break;
            }
            asked += group.1.len();
            work.push(group);
        }
        if work.is_empty() {
            break;
        }
        targets += run(&work, vlm, budgets, threads, interrupt, &mut scores)?;
        if interrupt.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    scores.iter_mut().for_each(|score| score.loss /= targets.max(1) as f64);
    Ok(Some(scores))
}

/// Pictures, the examples about them, and the skill of each.
type Together = (Vec<Pixels>, Vec<Example>, Vec<&'static str>);

/// The questions of a dataset, in the order in which they are asked.
struct Questions<'a> {
    name: &'a str,
    stream: Stream,
    student: &'a Student,
    encoder: Encoder<'a>,
    /// Questions about one picture, at most, and what draws them where it has more.
    each: usize,
    seed: u64,
    /// Tokens of text that an example may have.
    room: usize,
    broken: Vec<String>,
}

impl<'a> Questions<'a> {
    fn open(recipe: &'a Recipe, student: &'a Student, name: &'a str) -> Result<Questions<'a>> {
        let source = recipe.data[name].open(recipe.questions)?;
        // The same samples each time, from all over the dataset: many are stored by kind.
        let order = Order::Shuffled { seed: recipe.seed, epoch: 0 };
        let longest = recipe.evaluation.visual_tokens.iter().copied().max();
        Ok(Questions {
            name,
            stream: Stream::new(source, order, Tolerance { fraction: recipe.tolerance }),
            student,
            encoder: Encoder {
                tokenizer: &student.tokenizer,
                template: &student.template,
                end_token: student.end_token,
            },
            each: recipe.questions,
            seed: recipe.seed,
            room: room(student, longest.unwrap_or(0)),
            broken: Vec::new(),
        })
    }

    /// The next pictures and up to `most` questions about them; empty at the end.
    fn together(&mut self, most: usize) -> Result<Together> {
        let (mut pixels, mut examples, mut skills) = (Vec::new(), Vec::new(), Vec::new());
        while pixels.len() < TOGETHER && examples.len() < most {
            let sample = match self.stream.read() {
                Some(Ok(sample)) => sample,
                Some(Err(error)) => {
                    self.leave_out(&error)?;
                    continue;
                }
                None => break,
            };
            let count = self.each.min(most - examples.len());
            let some = sample.some_questions(count, self.seed);
            let chosen: Vec<&Question> = some.into_iter().map(|(_, question)| question).collect();
            let made = see(&self.student.preprocessor, &sample).and_then(|tile| {
                let new = self.encoder.examples(&sample, &chosen, Some(pixels.len()));
                let new = new.map_err(|error| unusable(&sample, error))?;
                fits(&sample, &new, self.room)?;
                Ok((tile, new))
            });
            match made {
                Ok((Some(tile), new)) => {
                    skills.extend(chosen.iter().take(new.len()).map(|question| question.skill.name()));
                    examples.extend(new);
                    pixels.push(tile);
                }
                // Text alone says nothing about visual tokens.
                Ok((None, _)) => {}
                Err(error) => self.leave_out(&error)?,
            }
        }
        Ok((pixels, examples, skills))
    }

    fn leave_out(&mut self, error: &SampleError) -> Result<()> {
        self.broken.push(error.to_string());
        Ok(self.stream.report_broken(error)?)
    }
}

/// Adds losses and counts at each budget to `scores`; returns the number of judged tokens at one of them. Once `interrupt`
/// is set what is left is not run.
fn run(
    work: &[Together],
    vlm: &Vlm,
    budgets: &[usize],
    threads: usize,
    interrupt: &AtomicBool,
    scores: &mut [Score],
) -> Result<usize> {
    let results = parallel::map(work, threads, |(pixels, examples, _)| {
        if interrupt.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let Some(pixels) = stack(pixels)? else { return Ok(Vec::new()) };
        let features = forward::features(vlm, &pixels)?;
        // One pass for each question, whatever the number of visual tokens.
        let questions = forward::question_vectors(vlm, examples, None)?;
        let score = |tokens: &usize| -> Result<(f64, usize, Vec<bool>)> {
            let (batch, scores) =
                forward::scores_asked(vlm, &features, examples, questions.as_ref(), *tokens)?;
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
