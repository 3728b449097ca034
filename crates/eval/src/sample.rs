//! What was answered to one question, as one line of JSON: the raw material of every figure.

use serde::{Deserialize, Serialize};

use crate::item::Item;
use crate::metric::Expected;

/// A question, its answer, and what the answer is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The question's name within the task.
    pub id: String,
    /// See [`Item::group`].
    pub group: String,
    /// See [`Item::unit`].
    pub unit: String,
    /// See [`Item::skill`].
    pub skill: String,
    /// `reasoning` or `text`.
    pub family: String,
    /// As it was asked, with the task's instructions.
    pub question: String,
    /// What the compressor read instead: the question of another picture. Only controls have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub looked_for: Option<String>,
    /// The right answer.
    pub expected: Expected,
    /// What came of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Outcome {
    /// It was answered.
    Answered(Answered),
    /// It could not be asked: a broken picture, a question that is too long. Left out of the figures, and counted.
    Failed {
        /// Why.
        failure: String,
    },
}

/// An answer and what it took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// What was said, or the option of the highest likelihood.
    pub answer: String,
    /// What was read in it: `yes`, `no`, the letter of an option.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub read: Option<String>,
    /// From 0 to 1.
    pub score: f64,
    /// Positions that stood for pictures.
    pub visual_tokens: usize,
    /// FLOPs of everything from the pixels to the last token.
    pub flops: f64,
    /// Milliseconds of the same.
    pub ms: f64,
}

impl Sample {
    /// The sample of an item.
    pub fn new(item: &Item, question: String, outcome: Outcome) -> Sample {
        Sample {
            id: item.id.clone(),
            group: item.group.clone(),
            unit: item.unit.clone(),
            skill: item.skill.clone(),
            family: item.family.name().to_owned(),
            question,
            looked_for: None,
            expected: item.expected.clone(),
            outcome,
        }
    }

    /// The answer; `None` where it failed.
    pub fn answered(&self) -> Option<&Answered> {
        match &self.outcome {
            Outcome::Answered(answered) => Some(answered),
            Outcome::Failed { .. } => None,
        }
    }

    /// The score; `None` where it failed.
    pub fn score(&self) -> Option<f64> {
        self.answered().map(|answered| answered.score)
    }
}
