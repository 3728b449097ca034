//! MODEL as a path on this machine: itself, or fetched from where the word says, with a progress bar.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use foveate_hub::{Event, HubError, Located, Network, Options, Progress, Source, locate};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// How a model that is not here is fetched.
#[derive(Args, Clone, Default)]
pub(crate) struct Fetch {
    /// Open no socket: answer from the cache or say what is missing (also HF_HUB_OFFLINE=1).
    #[arg(long)]
    pub(crate) offline: bool,
    /// Only this file of the model; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) file: Vec<String>,
}

impl Fetch {
    /// The path of a model: what is here under that name, else what the hub's cache or a wheel holds, fetched if need be.
    pub(crate) fn path(&self, word: &str) -> Result<PathBuf, Failure> {
        let path = Path::new(word);
        let source = Source::of_word(word);
        if let Ok(Source::Embedded) = source {
            return Err(HubError::Embedded { name: word.to_owned() }.into());
        }
        let is_wheel = matches!(source, Ok(Source::Wheel(_)));
        if path.exists() && !is_wheel && self.file.is_empty() {
            return Ok(path.to_path_buf());
        }
        match source? {
            Source::Folder(path) | Source::File(path) if !path.exists() => {
                Err(Failure::user(format!("{}: no such folder or file", path.display())))
            }
            source => match self.locate(&source, Network::WhenMissing) {
                Ok(found) => Ok(found.path),
                // `models/llava` may be a repository or a mistyped path.
                Err(error) if matches!(source, Source::Hub(_)) => Err(Failure::from(error)
                    .reworded(|told| format!("{told}; nor is there a folder {word} here"))),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// The same for what a model needs beside it: `--file` is about the model alone.
    pub(crate) fn beside(&self) -> Fetch {
        Fetch { offline: self.offline, file: Vec::new() }
    }

    /// The files of a model, with a progress bar for what must come over the network.
    pub(crate) fn locate(&self, source: &Source, network: Network) -> Result<Located, HubError> {
        let bars = Bars::default();
        let mut options = Options::from_environment()?;
        options.network = if self.offline || options.settings.offline { Network::Never } else { network };
        options.files.clone_from(&self.file);
        options.progress = &bars;
        let found = locate(source, &options);
        bars.clear();
        found
    }
}

/// One bar for the file that comes, on a terminal's standard error only.
#[derive(Default)]
struct Bars {
    current: RefCell<Option<ProgressBar>>,
}

impl Bars {
    /// Takes the bar away.
    fn clear(&self) {
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
