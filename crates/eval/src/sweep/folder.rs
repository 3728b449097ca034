//! Where a sweep lives, and how several processes share it.
//!
//! ```text
//! results.csv, results.parquet   a row for each finished cell
//! samples/CELL.jsonl             what was answered; who writes it holds its lock
//! models/RUN/                    what was trained; who trains it holds the lock of models/RUN.lock
//! history.jsonl                  commands and machines
//! ```
//!
//! Locks are the operating system's, on open files: they end with their process, killed or not, and leave nothing to clear up.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cell::{Cell, RunSpec};
use crate::journal::{Header, Journal};
use crate::results::Results;
use crate::task::Task;
use crate::{EvalError, Result};

/// The folder of a sweep.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    results: Results,
}

/// Who worked on the results, and on what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Environment {
    /// As it was typed.
    pub command: String,
    /// Name, version and commit of the program.
    pub program: String,
    /// The processor, its instructions and cores.
    pub machine: String,
    /// Threads that calculated.
    pub threads: usize,
}

/// What is held until it is dropped or its process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    /// A folder as it is, whether or not it is there yet.
    pub fn at(path: &Path) -> Folder {
        Folder { path: path.to_owned(), results: Results::at(path) }
    }

    /// Opens a folder to work in, or makes it.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(path: &Path) -> Result<Folder> {
        for part in ["samples", "models"] {
            let part = path.join(part);
            std::fs::create_dir_all(&part).map_err(EvalError::io(&part))?;
        }
        Ok(Folder::at(path))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The table.
    pub fn results(&self) -> &Results {
        &self.results
    }

    /// Where a run is trained: its log and checkpoints, and at the end `model`.
    pub fn run(&self, run: &RunSpec) -> PathBuf {
        self.path.join("models").join(run.name())
    }

    /// A cell's samples.
    pub fn samples(&self, key: &str) -> PathBuf {
        self.path.join("samples").join(format!("{key}.jsonl"))
    }

    /// The cells that have files of samples.
    pub(crate) fn sampled(&self) -> Result<Vec<String>> {
        let folder = self.path.join("samples");
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(EvalError::io(&folder))?,
        };
        let mut cells = Vec::new();
        for entry in entries {
            let name = entry.map_err(EvalError::io(&folder))?.file_name();
            cells.extend(name.to_str().and_then(|name| name.strip_suffix(".jsonl")).map(str::to_owned));
        }
        Ok(cells)
    }

    /// A cell's samples, to go on with; `None` while another process works on it.
    pub(super) fn claim(&self, cell: &Cell, task: &Task) -> Result<Option<Journal>> {
        let header = Header {
            task: cell.task.clone(),
            metric: task.metric,
            family: task.family_name().to_owned(),
            model: cell.run.name(),
            compressor: cell.compressor.clone(),
            visual_tokens: cell.visual_tokens.to_string(),
            split: Some(task.split.clone()),
            run: cell.digest.clone(),
        };
        Journal::open(&self.samples(&cell.key()), &header)
    }

    /// The file whose lock says that a run is being trained.
    pub(super) fn training(&self, run: &RunSpec) -> PathBuf {
        self.path.join("models").join(format!("{}.lock", run.name()))
    }

    /// Notes a command, once.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn note(&self, environment: &Environment) -> Result<()> {
        if self.history()?.contains(environment) {
            return Ok(());
        }
        let path = self.path.join("history.jsonl");
        let line =
            serde_json::to_string(environment).map_err(|error| EvalError::format(path.display(), error))?;
        let mut file =
            OpenOptions::new().append(true).create(true).open(&path).map_err(EvalError::io(&path))?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(EvalError::io(&path))
    }

    /// The commands so far; a line that was torn is passed over.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn history(&self) -> Result<Vec<Environment>> {
        let path = self.path.join("history.jsonl");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(EvalError::io(&path))?,
        };
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// Takes the lock of `path`; `None` while another process has it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>> {
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(EvalError::io(path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(EvalError::io(path)(error)),
    }
}

/// Waits until no process has the lock of `path`.
pub(super) fn wait_for(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(EvalError::io(path))?;
    file.lock().map_err(EvalError::io(path))
}
