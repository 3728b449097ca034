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
    #[serde(flatten)]
    one: Option<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    answer: String,
    skill: Option<String>,
    family: Option<String>,
}

impl Asked {
    fn read(self) -> Result<Question, crate::UnknownName> {
        let skill = self.skill.map_or(Ok(Skill::Open), |name| name.parse())?;
        let family = self.family.map_or(Ok(skill.family()), |name| name.parse())?;
        Ok(Question { family, ..Question::new(self.question, self.answer, skill) })
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
        let Record { image, group, questions, one } = self.records.get(index)?;
        let asked: Vec<Asked> = questions.into_iter().flatten().chain(one).collect();
        if asked.is_empty() {
            let reason =
                "asks nothing; expected \"question\" and \"answer\", or a list \"questions\" of those";
            return Err(self.records.wrong(index, reason));
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
