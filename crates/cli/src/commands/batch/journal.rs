//! OUT: one line for each row, each written at once, so that a run that is killed at any moment can be continued.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::rows::Row;
use crate::answer::Answer;
use crate::failure::Failure;

/// How the first line begins.
const BEGINNING: &str = "{\"row\":0,";

/// What OUT holds of a row.
#[derive(Serialize)]
pub(super) struct Line {
    row: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<String>>,
    #[serde(flatten)]
    outcome: Told,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Answer(Box<Answer>),
    Failed { error: String },
}

impl Line {
    pub(super) fn new(row: &Row, answered: Result<Answer, String>) -> Line {
        let outcome = match answered {
            Ok(answer) => Told::Answer(Box::new(answer)),
            Err(error) => Told::Failed { error },
        };
        let asked = row.content.as_ref().ok();
        let question = asked.map(|asked| asked.question.clone());
        let images = asked.map(|asked| asked.images.clone());
        Line { row: row.number, id: row.id.clone(), question, images, outcome }
    }
}

/// What a row asks, as its line tells it.
fn asked(line: &Value) -> [Option<Value>; 3] {
    ["id", "question", "images"].map(|field| line.get(field).filter(|value| !value.is_null()).cloned())
}

/// The file, open at its end.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    run: String,
    /// What the rows asked that an earlier run answered.
    earlier: Vec<[Option<Value>; 3]>,
    rows: usize,
    failed: usize,
}

impl Journal {
    /// Opens `path`, empty or with the first lines of a run with the same settings. A line that a killed run left
    /// unfinished is taken away.
    pub(super) fn open(path: &Path, settings: &str) -> Result<Journal, Failure> {
        let refuse = |reason: &str| Failure::user(format!("{}: {reason}", path.display()));
        let failed = |error: std::io::Error| refuse(&error.to_string());
        let digest = Sha256::digest(settings.as_bytes());
        let run: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        let mut journal =
            Journal { file, path: path.to_path_buf(), run, earlier: Vec::new(), rows: 0, failed: 0 };
        match journal.file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(refuse("another run is writing it")),
            // Where there are no locks, there are none.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let mut input = BufReader::new(journal.file.try_clone().map_err(failed)?);
        let mut whole = 0;
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line).map_err(failed)?;
            if !line.ends_with(b"\n") {
                // What a killed run left behind our lines, or of the first one; anything else is somebody's file.
                let begins = BEGINNING.len().min(line.len());
                if whole == 0 && line[..begins] != BEGINNING.as_bytes()[..begins] {
                    return Err(refuse("line 1 is not ours"));
                }
                break;
            }
            whole += read as u64;
            let value: Value = serde_json::from_slice(&line)
                .map_err(|error| refuse(&format!("line {} is not ours: {error}", journal.rows + 1)))?;
            if value.get("row").and_then(Value::as_u64) != Some(journal.rows as u64) {
                return Err(refuse(&format!("line {} is not the answer to that row", journal.rows + 1)));
            }
            let found = value.get("run").and_then(Value::as_str).unwrap_or("missing");
            if found != journal.run {
                return Err(refuse(&format!(
                    "it was begun with another model or other flags (run {found}, this one is {}); \
                     give another file, or remove it",
                    journal.run
                )));
            }
            journal.failed += usize::from(value.get("error").is_some());
            journal.earlier.push(asked(&value));
            journal.rows += 1;
        }
        journal.file.set_len(whole).map_err(failed)?;
        journal.file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(journal)
    }

    /// Rows that stand in the file.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Those of them that could not be answered.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// Refuses a row whose place in the file answers another question.
    pub(super) fn check(&self, row: &Row, input: &Path) -> Result<(), Failure> {
        let now = serde_json::to_value(Line::new(row, Err(String::new())))?;
        if self.earlier.get(row.number) == Some(&asked(&now)) {
            return Ok(());
        }
        Err(Failure::user(format!(
            "{}: line {} answers another question than row {} of {}; give another file, or remove it",
            self.path.display(),
            row.number + 1,
            row.number + 1,
            input.display()
        )))
    }

    /// Adds a line in one piece.
    pub(super) fn write(&mut self, line: &Line) -> Result<(), Failure> {
        let mut document = serde_json::to_value(line)?;
        document["run"] = Value::from(self.run.as_str());
        let text = format!("{document}\n");
        let failed = |error: std::io::Error| Failure::user(format!("{}: {error}", self.path.display()));
        self.file.write_all(text.as_bytes()).map_err(failed)?;
        self.failed += usize::from(matches!(line.outcome, Told::Failed { .. }));
        self.rows += 1;
        Ok(())
    }
}
