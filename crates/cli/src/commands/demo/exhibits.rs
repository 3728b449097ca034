//! The pictures of the demonstration and what is asked about them: the first ones of the generators' validation split. They
//! are not chosen for how well they are answered.

use std::sync::Arc;

use foveate_data::image::Image;
use foveate_data::synthetic::{SceneSettings, Scenes, Split, TextSettings, Texts};
use foveate_data::{Question, Source};
use image::RgbImage;

use crate::failure::Failure;
use crate::gaze::png;

/// Of the generators; another than any recipe of the project has.
const SEED: u64 = 2024;
/// Side of a picture in pixels.
const SIDE: u32 = 168;
/// Questions about each.
const QUESTIONS: usize = 2;
/// Pictures of shapes, and of text.
const COUNTS: [(&str, usize); 2] = [("scene", 4), ("text", 2)];

/// A picture with questions whose answers are known.
pub(crate) struct Exhibit {
    /// The name of its file.
    pub(crate) file: String,
    pub(crate) image: Image,
    /// The content of its file.
    pub(crate) png: Vec<u8>,
    pub(crate) questions: Vec<Question>,
}

/// All of them, the same ones each time.
pub(crate) fn all() -> Result<Vec<Exhibit>, Failure> {
    let scenes = SceneSettings { side: SIDE, questions: QUESTIONS, ..SceneSettings::default() };
    let texts = TextSettings { side: SIDE, questions: QUESTIONS, ..TextSettings::default() };
    let split = Split::Validation;
    let [scene, text] = COUNTS;
    let sources: [Arc<dyn Source>; 2] = [
        Arc::new(Scenes::new(scenes, split, SEED, scene.1)),
        Arc::new(Texts::new(texts, split, SEED, text.1)),
    ];
    let mut exhibits = Vec::new();
    for ((kind, count), source) in COUNTS.into_iter().zip(sources) {
        for index in 0..count {
            let impossible = || Failure::Other(anyhow::anyhow!("{kind} {index} was drawn without pixels"));
            let sample = source.sample(index).map_err(|error| Failure::Other(error.into()))?;
            let image = sample.picture.ok_or_else(impossible)?.image()?;
            let drawn = RgbImage::from_raw(image.width(), image.height(), image.as_rgb().to_vec());
            exhibits.push(Exhibit {
                file: format!("{kind}-{}.png", index + 1),
                png: png(&drawn.ok_or_else(impossible)?)?,
                image,
                questions: sample.questions,
            });
        }
    }
    Ok(exhibits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_hold_the_pictures_that_are_asked_about() {
        let exhibits = all().unwrap();
        assert_eq!(exhibits.len(), COUNTS.iter().map(|(_, count)| count).sum::<usize>());
        for exhibit in &exhibits {
            let read =
                foveate_data::image::decode_bytes(&exhibit.file, &exhibit.png, &Default::default()).unwrap();
            assert_eq!(read.as_rgb(), exhibit.image.as_rgb(), "{}", exhibit.file);
            assert_eq!(exhibit.questions.len(), QUESTIONS);
        }
        assert_eq!((exhibits[3].file.as_str(), exhibits[4].file.as_str()), ("scene-4.png", "text-1.png"));
    }
}
