//! NLVR v1 (Suhr et al., ACL 2017): a sentence that is true or false of a picture of three boxes.
//!
//! Two layouts: the public repository (`SPLIT/SPLIT.json`, one record a line, pictures in
//! `SPLIT/images/FOLDER/SPLIT-IDENTIFIER-K.png` for the six orders K of the boxes), or `SPLIT.jsonl` whose records list
//! their `images`. One sample is one picture. The structured description of the scene in the records is not read.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::baseline::normalise;
use crate::sample::{Question, Sample, Skill};
use crate::stream::{SampleError, Source};

/// Orders of the boxes that the repository has a picture of.
const ORDERS: usize = 6;

/// The published splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says itself")]
pub enum NlvrSplit {
    Train,
    Dev,
    Test,
}

#[derive(Deserialize)]
struct Record {
    sentence: String,
    label: Label,
    images: Option<Vec<String>>,
    identifier: Option<String>,
    directory: Option<serde_json::Value>,
}

/// A truth value, or the word for it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Plain(bool),
    Word(String),
}

/// Statements about pictures.
pub struct Nlvr {
    name: String,
    split: &'static str,
    files: Arc<Files>,
    /// The split's folder in the repository layout, with the folders of its pictures.
    repository: Option<(String, Vec<String>)>,
    records: Records,
    /// Record and picture.
    samples: Vec<(u32, u32)>,
}

impl Nlvr {
    /// From the repository's folder, a split's parent, or a folder or zip file of `SPLIT.jsonl` with its images.
    pub fn open(path: &Path, split: NlvrSplit) -> Result<Nlvr, DatasetError> {
        let files = Files::open(path)?;
        let split = ["train", "dev", "test"][split as usize];
        let names =
            [format!("{split}.jsonl"), format!("{split}/{split}.json"), format!("nlvr/{split}/{split}.json")];
        let index = files.first_of(&names)?;
        let records = Records::open(&files, &index)?;
        let repository = if index == names[0] {
            None
        } else {
            let folder = index.trim_end_matches(&format!("{split}.json")).to_owned();
            let Some(images) = files.on_disk(&format!("{folder}images")) else {
                let reason =
                    "holds the repository's layout, which is read from a folder: unpack it".to_owned();
                return Err(DatasetError::Layout { path: path.to_path_buf(), reason });
            };
            let list = std::fs::read_dir(&images)
                .map_err(|error| DatasetError::Read { path: images.clone(), error })?;
            let mut below: Vec<String> =
                list.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
            below.sort_unstable();
            Some((folder, below))
        };
        let mut samples = Vec::new();
        for record in 0..records.len() {
            let pictures = match (&repository, records.get::<Record>(record)) {
                (None, Ok(Record { images: Some(images), .. })) => images.len().max(1),
                (Some(_), Ok(_)) => ORDERS,
                // One sample that will say what is wrong.
                _ => 1,
            };
            samples.extend((0..pictures as u32).map(|picture| (record as u32, picture)));
        }
        Ok(Nlvr { name: format!("NLVR {split}"), split, files, repository, records, samples })
    }

    fn image(&self, index: usize, record: &Record, picture: usize) -> Result<String, SampleError> {
        let Some((folder, below)) = &self.repository else {
            let image = record.images.as_ref().and_then(|images| images.get(picture)).cloned();
            return image.ok_or_else(|| self.records.wrong(index, "lists no images"));
        };
        let Some(identifier) = &record.identifier else {
            return Err(self.records.wrong(index, "has no identifier, which names its pictures"));
        };
        let file = format!("{}-{identifier}-{picture}.png", self.split);
        let stated =
            record.directory.as_ref().map(|stated| stated.as_str().map_or(stated.to_string(), str::to_owned));
        let mut candidates = stated.iter().chain(below).map(|name| format!("{folder}images/{name}/{file}"));
        candidates.find(|name| self.files.has(name)).ok_or_else(|| {
            self.records.wrong(index, format!("its picture {file} is in no folder of {folder}images"))
        })
    }
}

impl Source for Nlvr {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let (at, picture) = self.samples[index];
        let record: Record = self.records.get(at as usize)?;
        let answer = match &record.label {
            Label::Plain(true) => "yes",
            Label::Plain(false) => "no",
            Label::Word(word) if word.eq_ignore_ascii_case("true") => "yes",
            Label::Word(word) if word.eq_ignore_ascii_case("false") => "no",
            Label::Word(word) => {
                return Err(self
                    .records
                    .wrong(at as usize, format!("label {word:?}; expected true or false")));
            }
        };
        let image = self.image(at as usize, &record, picture as usize)?;
        let text = format!("Does this sentence fit the picture? {}", record.sentence.trim());
        Ok(Sample {
            name: self.files.place(&image),
            group: normalise(&record.sentence),
            picture: Some(self.files.picture(&image, false)),
            questions: vec![Question::new(text, answer, Skill::Statement)],
            conversation: false,
        })
    }
}
