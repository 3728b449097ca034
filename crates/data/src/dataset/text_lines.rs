//! Cropped lines of text: `SPLIT.jsonl` of `{"image", "text", "receipt"}`, images beside it. Lines of one receipt
//! belong together.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::sample::{Question, Sample, Skill};
use crate::stream::{SampleError, Source};

/// The file of records that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says itself")]
pub enum TextLinesSplit {
    Train,
    Dev,
    Test,
}

/// Lines to be read out.
pub struct TextLines {
    name: String,
    files: Arc<Files>,
    records: Records,
}

#[derive(Deserialize)]
struct Record {
    image: String,
    text: String,
    receipt: Option<String>,
}

impl TextLines {
    /// From a folder or a zip file.
    pub fn open(path: &Path, split: TextLinesSplit) -> Result<TextLines, DatasetError> {
        let files = Files::open(path)?;
        let split = ["train", "dev", "test"][split as usize];
        let index = files.first_of(&[format!("{split}.jsonl")])?;
        let records = Records::open(&files, &index)?;
        Ok(TextLines { name: format!("text lines {split}"), files, records })
    }
}

impl Source for TextLines {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let Record { image, text, receipt } = self.records.get(index)?;
        if text.trim().is_empty() {
            return Err(self.records.wrong(index, "its text is empty"));
        }
        Ok(Sample {
            name: self.files.place(&image),
            group: receipt.unwrap_or_else(|| image.clone()),
            picture: Some(self.files.picture(&image, false)),
            questions: vec![Question::new("What is written?", text.trim(), Skill::Read)],
            conversation: false,
        })
    }
}
