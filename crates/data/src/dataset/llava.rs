//! LLaVA conversations: `{"id", "image"?, "conversations": [{"from": "human" | "gpt", "value"}, …]}`, in one JSON array
//! as published, or one a line. The image placeholder in the first turn is taken out: where the image goes is the
//! prompt's business.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::sample::{Question, Sample, Skill};
use crate::stream::{SampleError, Source};

const PLACEHOLDER: &str = "<image>";

/// Conversations about an image each, or in text alone.
pub struct Llava {
    name: String,
    images: Arc<Files>,
    records: Records,
}

#[derive(Deserialize)]
struct Record {
    image: Option<String>,
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    from: String,
    value: String,
}

impl Llava {
    /// The conversations in the file `json`; their images lie below `images`, a folder or a zip file.
    pub fn open(json: &Path, images: &Path) -> Result<Llava, DatasetError> {
        let (folder, file) = match (json.parent(), json.file_name().and_then(|name| name.to_str())) {
            (Some(folder), Some(file)) if json.is_file() => (folder, file),
            _ => {
                let reason = "is no file; expected a JSON array of conversations, or one conversation a line"
                    .to_owned();
                return Err(DatasetError::Layout { path: json.to_path_buf(), reason });
            }
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let records = Records::open(&Files::open(folder)?, file)?;
        Ok(Llava {
            name: format!("LLaVA conversations {}", json.display()),
            images: Files::open(images)?,
            records,
        })
    }
}

impl Source for Llava {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let Record { image, conversations } = self.records.get(index)?;
        if conversations.is_empty() || conversations.len() % 2 == 1 {
            let reason =
                format!("has {} turns; expected questions and answers in pairs", conversations.len());
            return Err(self.records.wrong(index, reason));
        }
        let (places, images) = (places(&conversations), usize::from(image.is_some()));
        if places > images {
            return Err(self.records.wrong(index, format!("shows {places} images, and names {images}")));
        }
        let mut questions = Vec::with_capacity(conversations.len() / 2);
        for pair in conversations.chunks_exact(2) {
            if (pair[0].from.as_str(), pair[1].from.as_str()) != ("human", "gpt") {
                let reason = format!(
                    "turns are from {:?} and {:?}; expected \"human\" and \"gpt\"",
                    pair[0].from, pair[1].from
                );
                return Err(self.records.wrong(index, reason));
            }
            let text = pair[0].value.replace(PLACEHOLDER, "");
            questions.push(Question::new(text.trim(), pair[1].value.trim(), Skill::Open));
        }
        Ok(Sample {
            // What is said, wherever the file lies.
            group: image.clone().unwrap_or_else(|| questions[0].text.clone()),
            name: self.records.place(index),
            picture: image.map(|image| self.images.picture(&image, false)),
            questions,
            conversation: true,
        })
    }
}

/// Images that a conversation wants to show.
fn places(conversations: &[Turn]) -> usize {
    let people = conversations.iter().filter(|turn| turn.from == "human");
    people.map(|turn| turn.value.matches(PLACEHOLDER).count()).sum()
}
