//! Where the visual tokens of an image look: weights over its patches, and the picture of them.

use std::io::Cursor;

use foveate_compress::{Budget, Method};
use foveate_data::image::Image;
use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::failure::Failure;
use crate::model::Model;
use crate::panels::{Looks, draw};

/// What the tokens of an image look at.
pub(crate) struct Gaze {
    pub(crate) compressor: Method,
    /// Patches down and across.
    pub(crate) grid: [usize; 2],
    pub(crate) pictures: Vec<Picture>,
    /// The same pictures as the tower saw them.
    seen: Vec<RgbImage>,
}

/// The image, or its overview or a tile.
#[derive(Serialize)]
pub(crate) struct Picture {
    pub(crate) visual_tokens: usize,
    /// The patch behind each token, row · columns + column; `null` for methods that do not select.
    kept: Option<Vec<Option<usize>>>,
    /// For each token a weight for each patch.
    weights: Vec<Vec<f32>>,
}

impl Gaze {
    /// The weights with which `model` compresses `image` to `budget`; `question` is read by compressors that look at it.
    pub(crate) fn new(
        model: &Model,
        image: &Image,
        question: &str,
        budget: Option<Budget>,
    ) -> Result<Gaze, Failure> {
        let viewer = model.seeing()?;
        let vlm = viewer.vlm();
        let budget = model.budget(budget)?;
        let (processed, input) = model.preprocess(image)?;
        // Before the question is tokenised: of two things that are wrong, the budget is told.
        vlm.check(&input, budget)?;
        let question = match vlm.compressor().reads_question() {
            true => Some(model.question_tokens(question)?),
            false => None,
        };
        let looked = viewer.gaze(&input, question.as_deref(), budget)?;
        let mut kept = looked.kept.into_iter().flatten();
        let mut pictures = Vec::with_capacity(looked.weights.len());
        for weights in &looked.weights {
            let weights = weights.to_vec2::<f32>().map_err(Failure::calculation)?;
            pictures.push(Picture { visual_tokens: weights.len(), kept: kept.next(), weights });
        }
        let side = |length: usize| u32::try_from(length).unwrap_or(0);
        let tiles = processed.tiles.iter().map(|tile| {
            RgbImage::from_raw(side(tile.width), side(tile.height), model.levels(tile)?)
                .ok_or_else(|| Failure::Other(anyhow::anyhow!("a tile has too few pixels")))
        });
        Ok(Gaze {
            compressor: vlm.compressor().method(),
            grid: [vlm.grid().rows, vlm.grid().columns],
            seen: tiles.collect::<Result<_, _>>()?,
            pictures,
        })
    }

    /// Tokens of all pictures.
    pub(crate) fn tokens(&self) -> usize {
        self.pictures.iter().map(|picture| picture.visual_tokens).sum()
    }

    /// The image, and beside it a panel for each token, as a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>, Failure> {
        let [rows, columns] = self.grid;
        let looks: Vec<Looks<'_>> = self
            .seen
            .iter()
            .zip(&self.pictures)
            .map(|(picture, of)| Looks {
                picture,
                rows,
                columns,
                weights: &of.weights,
                kept: of.kept.as_deref(),
            })
            .collect();
        png(&draw(&looks))
    }
}

/// A picture as a PNG file.
pub(crate) fn png(picture: &RgbImage) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    picture
        .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
        .map_err(|error| Failure::Other(error.into()))?;
    Ok(bytes)
}
