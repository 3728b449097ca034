//! `foveate look`: a picture of where each visual token looks.

use std::path::PathBuf;

use clap::Args;
use foveate_data::image::{Limits, decode_file};
use serde::Serialize;

use crate::Outcome;
use crate::failure::Failure;
use crate::gaze::{Gaze, Picture};
use crate::generation::Threads;
use crate::looking::Compression;
use crate::model::Place;
use crate::output::{Outputs, check_place, print, print_json};

/// Draw where each visual token of an image looks.
///
/// The picture shows the image as the vision tower sees it, and beside it one dark copy for each token, row by row: the
/// patches that the token is made of glow, the brighter the larger their share (attention weights for quecc, token-packer
/// and mqt, the window for pooling). For methods that keep patches, the kept one is outlined. A model that tiles gets a
/// picture for the overview and each tile.
#[derive(Args)]
// The word in front is MODEL, never left out. Positions are named: `mut_arg` moves what it changes to the end.
#[command(mut_arg("model", |model| model.index(1).default_value(None::<&str>).required(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The question, for a compressor that reads it.
    #[arg(index = 2, default_value = "")]
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
struct Document<'a> {
    out: String,
    compressor: String,
    /// Patches down and across.
    grid: [usize; 2],
    pictures: &'a [Picture],
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
        let gaze = Gaze::new(&model, &image, &self.question, budget)?;
        let mut outputs = Outputs::default();
        outputs.stage(&self.out, &gaze.png()?)?;
        outputs.commit()?;
        let (out, compressor, grid) =
            (self.out.display().to_string(), gaze.compressor.to_string(), gaze.grid);
        if self.json {
            return print_json(&Document { out, compressor, grid, pictures: &gaze.pictures });
        }
        let tokens = gaze.tokens();
        let s = if tokens == 1 { "" } else { "s" };
        print(&format!("{out}: {tokens} token{s} of {compressor} on {} x {} patches", grid[0], grid[1]))
    }
}
