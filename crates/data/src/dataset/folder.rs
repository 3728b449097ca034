//! A user's own images with a `metadata.jsonl` (the image-folder layout of Hugging Face, with questions):
//!
//! ```text
//! {"file_name": "cats/1.jpg", "question": "How many cats?", "answer": "2", "skill": "count"}
//! {"image": "bill.png", "questions": [{"question": "What is the total?", "answer": "12.50", "family": "text"}]}
//! ```
//!
//! `skill` is "open" and `family` the skill's where they are not given; `group` keeps samples on one side of a cut.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::sample::{Question, Sample, Skill};
use crate::stream::{SampleError, Source};

/// Images with questions.
pub struct Folder {
    name: String,
    files: Arc<Files>,
    records: Records,
}

#[derive(Deserialize)]
struct Record {
    #[serde(alias = "file_name")]
    image: String,
    group: Option<String>,
    questions: Option<Vec<Asked>>,
    question: Option<String>,
    answer: Option<Answer>,
    /// Of all questions of the record that have none of their own.
    skill: Option<String>,
    family: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    answer: Answer,
    skill: Option<String>,
    family: Option<String>,
}

/// A text, or what other programs write for one.
#[derive(Deserialize)]
#[serde(untagged, expecting = "an answer is a text, a number, true or false")]
enum Answer {
    Text(String),
    Number(serde_json::Number),
    Truth(bool),
}

impl Answer {
    fn text(self) -> String {
        match self {
            Answer::Text(text) => text,
            Answer::Number(number) => number.to_string(),
            Answer::Truth(truth) => if truth { "yes" } else { "no" }.to_owned(),
        }
    }
}

impl Asked {
    fn read(self) -> Result<Question, crate::UnknownName> {
        let skill = self.skill.map_or(Ok(Skill::Open), |name| name.parse())?;
        let family = self.family.map_or(Ok(skill.family()), |name| name.parse())?;
        Ok(Question { family, ..Question::new(self.question, self.answer.text(), skill) })
    }
}

impl Folder {
    /// From a folder or a zip file that holds `metadata.jsonl`.
    pub fn open(path: &Path) -> Result<Folder, DatasetError> {
        let files = Files::open(path)?;
        let index = files.first_of(&["metadata.jsonl".to_owned()])?;
        let records = Records::open(&files, &index)?;
        Ok(Folder { name: format!("folder {}", path.display()), files, records })
    }
}

impl Source for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let Record { image, group, questions, question, answer, skill, family } = self.records.get(index)?;
        let mut asked: Vec<Asked> = questions.into_iter().flatten().collect();
        match (question, answer) {
            (Some(question), Some(answer)) => {
                asked.push(Asked { question, answer, skill: None, family: None })
            }
            (None, None) if !asked.is_empty() => {}
            (None, None) => {
                let reason =
                    "asks nothing; expected \"question\" and \"answer\", or a list \"questions\" of those";
                return Err(self.records.wrong(index, reason));
            }
            (question, _) => {
                let (has, lacks) =
                    if question.is_some() { ("question", "answer") } else { ("answer", "question") };
                return Err(self.records.wrong(index, format!("has {has:?} and no {lacks:?}")));
            }
        }
        for asked in &mut asked {
            asked.skill = asked.skill.take().or_else(|| skill.clone());
            asked.family = asked.family.take().or_else(|| family.clone());
        }
        let questions = asked.into_iter().map(Asked::read).collect::<Result<_, _>>();
        let questions = questions.map_err(|error| self.records.wrong(index, error.to_string()))?;
        Ok(Sample {
            name: self.records.place(index),
            group: group.unwrap_or_else(|| image.clone()),
            picture: Some(self.files.picture(&image, false)),
            questions,
            conversation: false,
        })
    }
}
