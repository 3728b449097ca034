//! The guess of a question's family: a linear layer on the vector that QueCC makes of a question, fitted when training is over.
//!
//! Labels are those of the datasets; generated questions know their family. What comes out is a
//! [`FamilyHead`] beside the weights.

mod logistic;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::DType;
use foveate_data::dataset::DataSource;
use foveate_data::{Family, Order, Question, Sample, Stream, Tolerance};
use foveate_model::vlm::{FamilyHead, FittedHead, Vlm};
use serde::{Deserialize, Serialize};

use crate::encode::Encoder;
use crate::recipe::Recipe;
use crate::student::Student;
use crate::{Result, TrainError, parallel};

/// What a recipe says about it: `[families]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Families {
    /// Datasets to learn from: equal numbers of questions of each.
    pub data: Vec<String>,
    /// Questions of all of them together, and at most as many of the evaluation's datasets to be measured on.
    #[serde(default = "four_thousand")]
    pub questions: usize,
    /// The ridge on the weights of standardised vectors.
    #[serde(default = "one_in_a_thousand")]
    pub ridge: f64,
}

fn four_thousand() -> usize {
    4000
}

fn one_in_a_thousand() -> f64 {
    1e-3
}

/// Questions with the family of each.
pub struct Labelled {
    /// To learn from.
    pub train: Vec<Question>,
    /// To be measured on.
    pub validation: Vec<Question>,
}

/// Which questions of a dataset are used.
#[derive(Clone, Copy, Debug)]
pub struct Pick {
    /// Questions about one picture, at most.
    pub each: usize,
    /// Orders the pictures.
    pub seed: u64,
    /// All of them, at most.
    pub most: usize,
}

impl Labelled {
    /// What a recipe's `[families]` names; `None` where there is no such table.
    ///
    /// # Errors
    /// A dataset that cannot be opened.
    pub fn of(recipe: &Recipe) -> Result<Option<(Labelled, f64)>> {
        let Some(families) = &recipe.families else { return Ok(None) };
        let gather = |names: &[String]| {
            let most = families.questions.div_ceil(names.len().max(1));
            let pick = Pick { each: recipe.questions, seed: recipe.seed, most };
            let each = names.iter().map(|name| questions(&recipe.data[name], pick));
            Ok::<_, TrainError>(each.collect::<Result<Vec<_>>>()?.concat())
        };
        let labelled =
            Labelled { train: gather(&families.data)?, validation: gather(&recipe.evaluation.data)? };
        Ok(Some((labelled, families.ridge)))
    }
}

/// Questions of a dataset from all over it, in an order that the seed decides; no picture is drawn.
///
/// # Errors
/// A dataset that cannot be opened.
pub fn questions(source: &DataSource, pick: Pick) -> Result<Vec<Question>> {
    let source = source.open(pick.each)?;
    let order = Order::Shuffled { seed: pick.seed, epoch: 0 };
    // What is broken was counted by whoever looked at the pictures.
    let samples = Stream::new(source, order, Tolerance { fraction: 1.0 }).filter_map(std::result::Result::ok);
    let some = |sample: Sample| {
        let some = sample.some_questions(pick.each, pick.seed);
        some.into_iter().map(|(_, question)| question.clone()).collect::<Vec<_>>()
    };
    Ok(samples.flat_map(some).take(pick.most).collect())
}

/// Whether the data of a recipe's `[families]` are there and of two families; a recipe without that table is ready.
///
/// # Errors
/// A dataset that cannot be opened; questions of one family alone.
pub(crate) fn ready(recipe: &Recipe) -> Result<()> {
    let Some((labelled, _)) = Labelled::of(recipe)? else { return Ok(()) };
    classes(&labelled.train)?;
    Ok(())
}

/// The families of some questions, two at least.
fn classes(questions: &[Question]) -> Result<Vec<Family>> {
    let classes: BTreeSet<Family> = questions.iter().map(|question| question.family).collect();
    if classes.len() < 2 {
        let found = classes.first().map_or("no family", |family| family.name());
        return Err(TrainError::field("families.data", found, "questions of two families"));
    }
    Ok(classes.into_iter().collect())
}

/// Turns the text of a question into the tokens that a compressor reads.
pub type Tokens<'a> = dyn Fn(&str) -> Result<Vec<u32>> + Sync + 'a;

/// Fits a head to the questions of `labelled.train` and measures it on the others. The result does not depend on the number of
/// threads.
///
/// # Errors
/// Questions of one family alone; a question that the model cannot read.
pub fn fit(
    vlm: &Vlm,
    tokens: &Tokens<'_>,
    labelled: &Labelled,
    ridge: f64,
    threads: usize,
) -> Result<FamilyHead> {
    let Labelled { train, validation } = labelled;
    let classes = classes(train)?;
    // Generated questions come again and again: each text passes the language model once.
    let texts: Vec<&str> = train
        .iter()
        .chain(validation)
        .map(|question| question.text.trim())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let vectors = parallel::map(&texts, threads, |text| -> Result<Vec<f64>> {
        let vector = vlm.question_vector(&tokens(text)?)?;
        Ok(vector.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    });
    let vectors = vectors.into_iter().collect::<Result<Vec<_>>>()?;
    let known: BTreeMap<&str, &[f64]> =
        texts.iter().copied().zip(vectors.iter().map(Vec::as_slice)).collect();
    let labelled = |questions: &[Question]| -> Vec<(&[f64], Option<usize>)> {
        let row = |question: &Question| {
            let class = classes.iter().position(|class| *class == question.family);
            Some((*known.get(question.text.trim())?, class))
        };
        questions.iter().filter_map(row).collect()
    };
    let rows: Vec<(&[f64], usize)> =
        labelled(train).into_iter().filter_map(|(row, class)| Some((row, class?))).collect();
    let found = logistic::fit(&rows, classes.len(), ridge);
    let best = |row: &[f64]| {
        let score = |class: &usize| {
            found.bias[*class] + found.weights[*class].iter().zip(row).map(|(w, x)| w * x).sum::<f64>()
        };
        (0..classes.len()).max_by(|one, other| score(one).total_cmp(&score(other)))
    };
    let measured = labelled(validation);
    let right = measured.iter().filter(|(row, class)| class.is_some() && best(row) == *class).count();
    Ok(FamilyHead {
        families: classes.iter().map(|family| family.name().to_owned()).collect(),
        fitted: FittedHead {
            questions: rows.len(),
            ridge,
            validation: (!measured.is_empty()).then_some([right, measured.len()]),
        },
        weights: found.weights,
        bias: found.bias,
    })
}

/// Fits the head that a recipe asks for to what was trained and writes it into the model's folder; `None` where the recipe has
/// no `[families]`.
///
/// # Errors
/// As [`fit`], and a file that cannot be written.
pub fn export(
    recipe: &Recipe,
    student: &Student,
    folder: &Path,
    threads: usize,
) -> Result<Option<FamilyHead>> {
    let Some((labelled, ridge)) = Labelled::of(recipe)? else { return Ok(None) };
    let encoder =
        Encoder { tokenizer: &student.tokenizer, template: &student.template, end_token: student.end_token };
    let head = fit(&student.vlm(&[])?, &|text| encoder.question(text), &labelled, ridge, threads)?;
    head.save(folder)?;
    Ok(Some(head))
}
