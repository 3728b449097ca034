//! easy-VQA as its PyPI package ships it: `easy_vqa/data/{train,test}/questions.json`, a list of
//! `[question, answer, image]`, and `images/NUMBER.png` beside it. Of train, images whose number is divisible by ten are
//! the development split.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::sample::{Question, Sample, Skill};
use crate::stream::{SampleError, Source};

/// Which images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EasyVqaSplit {
    /// Those of train whose number is not divisible by ten: 3,600.
    Train,
    /// Those of train whose number is: 400.
    Dev,
    /// The published test images: 1,000.
    Test,
}

/// Images of one coloured shape, with all questions about each.
pub struct EasyVqa {
    name: String,
    files: Arc<Files>,
    folder: String,
    records: Records,
    /// An image and its records, or a record that is broken.
    samples: Vec<(Option<u32>, Vec<u32>)>,
}

impl EasyVqa {
    /// From the installed package's folder `easy_vqa`, the folder that holds it, or the wheel.
    pub fn open(path: &Path, split: EasyVqaSplit) -> Result<EasyVqa, DatasetError> {
        let files = Files::open(path)?;
        let part = if split == EasyVqaSplit::Test { "test" } else { "train" };
        let names = ["data", "easy_vqa/data", ""].map(|folder| format!("{folder}/{part}/questions.json"));
        let names = names.map(|name| name.trim_start_matches('/').to_owned());
        let questions = files.first_of(&names)?;
        let folder = questions.trim_end_matches("questions.json").to_owned();
        let records = Records::open(&files, &questions)?;
        let mut images: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut samples = Vec::new();
        for index in 0..records.len() {
            match records.get::<(String, String, u32)>(index) {
                Ok((_, _, image)) => images.entry(image).or_default().push(index as u32),
                // Counted on the side of train only, or the same record would count twice.
                Err(_) if split != EasyVqaSplit::Dev => samples.push((None, vec![index as u32])),
                Err(_) => {}
            }
        }
        let wanted = |image: u32| match split {
            EasyVqaSplit::Train => !image.is_multiple_of(10),
            EasyVqaSplit::Dev => image.is_multiple_of(10),
            EasyVqaSplit::Test => true,
        };
        samples.extend(
            images.into_iter().filter(|(image, _)| wanted(*image)).map(|(image, list)| (Some(image), list)),
        );
        Ok(EasyVqa { name: format!("easy-VQA {split:?}").to_lowercase(), files, folder, records, samples })
    }
}

impl Source for EasyVqa {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let (image, records) = &self.samples[index];
        let mut questions = Vec::with_capacity(records.len());
        for record in records {
            let (text, answer, _) = self.records.get::<(String, String, u32)>(*record as usize)?;
            let skill = if matches!(answer.as_str(), "yes" | "no") { Skill::Exist } else { Skill::Attribute };
            questions.push(Question::new(text, answer, skill));
        }
        let file = format!("{}images/{}.png", self.folder, image.unwrap_or_default());
        Ok(Sample {
            name: self.files.place(&file),
            group: image.unwrap_or_default().to_string(),
            picture: Some(self.files.picture(&file, false)),
            questions,
            conversation: false,
        })
    }
}
