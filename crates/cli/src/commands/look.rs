//! `foveate look`: a picture of where each visual token looks.

use std::io::Cursor;
use std::path::PathBuf;

use clap::Args;
use foveate_data::image::{Limits, Processed, decode_file};
use image::{ImageFormat, RgbImage};
use serde::Serialize;

use crate::Outcome;
use crate::failure::Failure;
use crate::generation::Threads;
use crate::looking::Compression;
use crate::model::{Model, Place};
use crate::output::{Outputs, check_place, print, print_json};
use crate::panels::{Looks, draw};

/// Draw where each visual token of an image looks.
///
/// The picture shows the image as the vision tower sees it, and beside it one dark copy for each token, row by row: the
/// patches that the token is made of glow, the brighter the larger their share (attention weights for quecc, token-packer
/// and mqt, the window for pooling). For methods that keep patches, the kept one is outlined. A model that tiles gets a
/// picture for the overview and each tile.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The question, for a compressor that reads it.
    #[arg(default_value = "")]
    question: String,
    /// The image: PNG, JPEG, WebP, GIF (its first frame) or BMP.
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    #[command(flatten)]
    compression: Compression,
    /// Where to write the picture.
    #[arg(long, value_name = "FILE.png", default_value = "look.png")]
    out: PathBuf,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document with all weights as well.
    #[arg(long)]
    json: bool,
}

/// What `look --json` prints.
#[derive(Serialize)]
struct Document {
    out: String,
    compressor: String,
    /// Patches down and across.
    grid: [usize; 2],
    pictures: Vec<Picture>,
}

/// The image, or its overview or a tile.
#[derive(Serialize)]
struct Picture {
    visual_tokens: usize,
    /// The patch behind each token, row · columns + column; `null` for methods that do not select.
    kept: Option<Vec<Option<usize>>>,
    /// For each token a weight for each patch.
    weights: Vec<Vec<f32>>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        if self.out.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
            return Err(Failure::user(format!("--out {}: the picture is a .png", self.out.display())));
        }
        check_place(&self.out)?;
        self.threads.apply()?;
        let image = decode_file(&self.image, &Limits::default())?;
        let mut model = self.place.open()?;
        let budget = self.compression.apply(&mut model)?;
        let vlm = model.seeing()?.vlm();
        let budget = model.budget(budget)?;
        let (processed, input) = model.preprocess(&image)?;
        vlm.check(&input, budget)?;
        let seen = vlm.project_before(vlm.see(&input)?)?;
        let question = match vlm.compressor().reads_question() {
            true => Some(vlm.question_vector(&model.question_tokens(&self.question)?)?),
            false => None,
        };
        let weights = vlm.look(&seen, question.as_ref(), &[budget])?;
        let compressed = vlm.compress(&seen, question.as_ref(), &[budget])?;
        let mut pictures = Vec::with_capacity(weights.len());
        for (weights, compressed) in weights.iter().zip(compressed) {
            let kept = compressed.kept.and_then(|kept| kept.into_iter().next());
            let weights = weights.to_vec2::<f32>().map_err(Failure::calculation)?;
            pictures.push(Picture { visual_tokens: weights.len(), kept, weights });
        }
        let grid = [vlm.grid().rows, vlm.grid().columns];
        self.write(&model, &processed, grid, &pictures)?;
        let (out, compressor) = (self.out.display().to_string(), vlm.compressor().method().to_string());
        if self.json {
            return print_json(&Document { out, compressor, grid, pictures });
        }
        let tokens: usize = pictures.iter().map(|picture| picture.visual_tokens).sum();
        let s = if tokens == 1 { "" } else { "s" };
        print(&format!("{out}: {tokens} token{s} of {compressor} on {} x {} patches", grid[0], grid[1]))
    }

    fn write(
        &self,
        model: &Model,
        processed: &Processed,
        [rows, columns]: [usize; 2],
        pictures: &[Picture],
    ) -> Outcome {
        let tiles = processed.tiles.iter().map(|tile| {
            let side = |length: usize| u32::try_from(length).unwrap_or(0);
            let levels = model.levels(tile)?;
            RgbImage::from_raw(side(tile.width), side(tile.height), levels)
                .ok_or_else(|| Failure::Other(anyhow::anyhow!("a tile has too few pixels")))
        });
        let tiles = tiles.collect::<Result<Vec<_>, _>>()?;
        let looks: Vec<Looks<'_>> = tiles
            .iter()
            .zip(pictures)
            .map(|(picture, of)| Looks {
                picture,
                rows,
                columns,
                weights: &of.weights,
                kept: of.kept.as_deref(),
            })
            .collect();
        let mut bytes = Vec::new();
        draw(&looks)
            .write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)
            .map_err(|error| Failure::Other(error.into()))?;
        let mut outputs = Outputs::default();
        outputs.stage(&self.out, &bytes)?;
        outputs.commit()
    }
}
