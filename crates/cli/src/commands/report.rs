//! `foveate report`: what a sweep found, as one page.

use std::path::PathBuf;

use clap::Args;
use foveate_eval::EvalError;
use foveate_eval::packed::pack;
use foveate_eval::report::report;
use foveate_eval::sweep::Folder;
use foveate_law::plot::Figure;
use serde::Serialize;

use super::figures;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Outputs, print, print_json};

/// Write what a sweep found: laws by family with their intervals, whether the paper's finding holds, tables by skill, figures.
///
/// RESULTS, or the folder of --out, gets `report.html`, which holds everything, and `report.md` with its figures beside it.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder of a sweep.
    results: PathBuf,
    /// The folder that gets the pages [default: RESULTS].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The page's title [default: the folder's name].
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Put the answers of finished cells into one compressed file beside the rows, and remove their own files: what is worth
    /// keeping of a sweep.
    #[arg(long)]
    pack: bool,
    /// Print one JSON document with the names of the files.
    #[arg(long)]
    json: bool,
}

/// What `report --json` prints.
#[derive(Serialize)]
struct Document {
    html: String,
    markdown: String,
    figures: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        if !self.results.is_dir() {
            let shown = self.results.display();
            return Err(Failure::user(format!(
                "{shown}: no folder; `foveate sweep` makes one with its results"
            )));
        }
        let folder = Folder::at(&self.results);
        let title = self.title.clone().unwrap_or_else(|| {
            let name = self.results.canonicalize().ok();
            let name = name.as_deref().and_then(|path| path.file_name()?.to_str());
            format!("Results of {}", name.unwrap_or("a sweep"))
        });
        let draw = |table: &_, assessment: &_| figures::law(table, assessment).svg().map_err(EvalError::from);
        let page = report(&folder, &title, &draw)?;
        let out = self.out.as_deref().unwrap_or(&self.results);
        let place = |name: &str| out.join(name);
        let (html, markdown) = (place("report.html"), place("report.md"));
        let mut outputs = Outputs::default();
        outputs.keep(&folder.results().csv());
        outputs.stage(&html, page.html().as_bytes())?;
        outputs.stage(&markdown, page.markdown().as_bytes())?;
        let mut figures = Vec::new();
        for (name, svg) in page.figures() {
            outputs.stage(&place(name), svg.as_bytes())?;
            figures.push(place(name).display().to_string());
        }
        outputs.commit()?;
        if self.pack {
            pack(&folder)?;
        }
        let document =
            Document { html: html.display().to_string(), markdown: markdown.display().to_string(), figures };
        if self.json {
            return print_json(&document);
        }
        print(&format!("{} holds everything, {} the same as Markdown", document.html, document.markdown))
    }
}
