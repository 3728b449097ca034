//! Samples on disk: a line that says what they are samples of, then one line each, written at once. A run that is killed at any
//! moment leaves whole lines and at most one torn one, which the next run takes away before it goes on.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::metric::Metric;
use crate::sample::{Outcome, Sample};
use crate::{EvalError, Result};

/// What a file holds samples of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The task.
    pub task: String,
    /// Its metric.
    pub metric: Metric,
    /// `reasoning`, `text` or `control`.
    pub family: String,
    /// The model, as it is called in results.
    pub model: String,
    /// What makes visual tokens.
    pub compressor: String,
    /// How many were asked for: a number, `adaptive` or `auto`.
    pub visual_tokens: String,
    /// The part of the dataset that was asked; absent in files of older programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub split: Option<String>,
    /// Names all that answers depend on; samples of another run are never mixed in.
    pub run: String,
}

/// A file of samples that this process alone writes.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    samples: Vec<Sample>,
}

impl Journal {
    /// Opens `path` to go on with what it holds; `None` while another process writes it. The lock goes with the process,
    /// however it ends.
    ///
    /// # Errors
    /// A file that cannot be written, that is none of ours, or that holds samples of another run.
    pub fn open(path: &Path, header: &Header) -> Result<Option<Journal>> {
        let failed = || EvalError::io(path);
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed())?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
            Ok(()) => {}
        }
        let found = whole_lines(&file, path)?;
        file.set_len(found.bytes).map_err(failed())?;
        let mut journal = Journal { file, path: path.to_owned(), samples: Vec::new() };
        if found.lines.is_empty() {
            journal.write(header)?;
            return Ok(Some(journal));
        }
        let (have, samples) = parse(path, &found.lines)?;
        if have != *header && samples.is_empty() {
            // A run that answered nothing left only its first line.
            journal.file.set_len(0).map_err(failed())?;
            journal.write(header)?;
            return Ok(Some(journal));
        }
        if have != *header {
            let reason = format!(
                "holds samples of another run ({} with {} visual tokens on {}, run {}; this one is {} with {} on {}, run {}); \
                 remove it, or choose another place",
                have.model,
                have.visual_tokens,
                have.task,
                have.run,
                header.model,
                header.visual_tokens,
                header.task,
                header.run
            );
            return Err(EvalError::format(path.display(), reason));
        }
        journal.samples = samples;
        Ok(Some(journal))
    }

    /// Samples so far, those of earlier runs included.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Adds a sample. What is kept in memory is what was written, to the last bit of every number.
    pub(crate) fn add(&mut self, sample: &Sample) -> Result<()> {
        let line = self.write(sample)?;
        let read =
            serde_json::from_str(&line).map_err(|error| EvalError::format(self.path.display(), error))?;
        self.samples.push(read);
        Ok(())
    }

    /// Takes the first sample that failed away, and all behind it: they are asked again.
    pub(crate) fn forget_from_first_failure(&mut self) -> Result<()> {
        let failed = |sample: &Sample| matches!(sample.outcome, Outcome::Failed { .. });
        let Some(first) = self.samples.iter().position(failed) else { return Ok(()) };
        let text = std::fs::read(&self.path).map_err(EvalError::io(&self.path))?;
        let kept = text.split_inclusive(|byte| *byte == b'\n').take(1 + first);
        let bytes: usize = kept.map(<[u8]>::len).sum();
        self.file.set_len(bytes as u64).map_err(EvalError::io(&self.path))?;
        self.samples.truncate(first);
        Ok(())
    }

    /// Writes a line in one piece.
    fn write(&mut self, value: &impl Serialize) -> Result<String> {
        let text =
            serde_json::to_string(value).map_err(|error| EvalError::format(self.path.display(), error))?;
        self.file.write_all(format!("{text}\n").as_bytes()).map_err(EvalError::io(&self.path))?;
        Ok(text)
    }
}

/// Reads a file of samples, whoever writes it.
///
/// # Errors
/// A file that cannot be read or is none of ours.
pub fn read(path: &Path) -> Result<(Header, Vec<Sample>)> {
    let file = File::open(path).map_err(EvalError::io(path))?;
    parse(path, &whole_lines(&file, path)?.lines)
}

/// Every file of samples in a folder, by name.
///
/// # Errors
/// A folder that cannot be read; as [`read`].
pub fn read_folder(folder: &Path) -> Result<Vec<(PathBuf, Header, Vec<Sample>)>> {
    let entries = std::fs::read_dir(folder).map_err(EvalError::io(folder))?;
    let paths = entries.map(|entry| Ok(entry.map_err(EvalError::io(folder))?.path()));
    let mut paths = paths.collect::<Result<Vec<PathBuf>>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    paths.sort();
    let whole = |path: PathBuf| read(&path).map(|(header, samples)| (path, header, samples));
    paths.into_iter().map(whole).collect()
}

struct Found {
    lines: Vec<Vec<u8>>,
    bytes: u64,
}

fn whole_lines(file: &File, path: &Path) -> Result<Found> {
    let mut input = BufReader::new(file);
    let mut found = Found { lines: Vec::new(), bytes: 0 };
    loop {
        let mut line = Vec::new();
        let read = input.read_until(b'\n', &mut line).map_err(EvalError::io(path))?;
        if !line.ends_with(b"\n") {
            // Somebody's file without an end of line is not to be cut.
            if found.lines.is_empty()
                && !line.is_empty()
                && !BEGINNING.starts_with(&line[..line.len().min(BEGINNING.len())])
            {
                return Err(EvalError::format(path.display(), "is no file of samples"));
            }
            return Ok(found);
        }
        found.bytes += read as u64;
        found.lines.push(line);
    }
}

/// How a file of samples begins.
const BEGINNING: &[u8] = b"{\"task\":";

fn parse(path: &Path, lines: &[Vec<u8>]) -> Result<(Header, Vec<Sample>)> {
    let wrong = |line: usize, error: &dyn std::fmt::Display| {
        EvalError::format(format!("{} line {}", path.display(), line + 1), format!("is no sample: {error}"))
    };
    let Some((first, rest)) = lines.split_first() else {
        return Err(EvalError::format(
            path.display(),
            "is empty; a file of samples begins with what they are of",
        ));
    };
    let header = serde_json::from_slice(first).map_err(|error| wrong(0, &error))?;
    let sample = |(line, text): (usize, &Vec<u8>)| {
        serde_json::from_slice(text).map_err(|error| wrong(line + 1, &error))
    };
    Ok((header, rest.iter().enumerate().map(sample).collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metric::Expected;
    use crate::sample::Answered;

    fn header(run: &str) -> Header {
        Header {
            task: "scenes".into(),
            metric: Metric::ExactMatch,
            family: "reasoning".into(),
            model: "m".into(),
            compressor: "quecc".into(),
            visual_tokens: "4".into(),
            split: Some("validation".into()),
            run: run.into(),
        }
    }

    fn sample(id: &str, score: f64) -> Sample {
        let answered =
            Answered {
                answer: "ü\n".into(), read: None, score, visual_tokens: 4, flops: 1e9 / 3.0, ms: 0.1
            };
        Sample {
            id: id.into(),
            group: id.into(),
            unit: id.into(),
            skill: "count".into(),
            family: "reasoning".into(),
            question: "?".into(),
            looked_for: None,
            expected: Expected::Texts(vec!["ü".into()]),
            outcome: Outcome::Answered(answered),
        }
    }

    #[test]
    fn a_torn_line_is_taken_away_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let mut journal = Journal::open(&path, &header("x")).unwrap().unwrap();
        journal.add(&sample("1", 1.0 / 3.0)).unwrap();
        assert!(Journal::open(&path, &header("x")).unwrap().is_none(), "another one writes it");
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        // Torn anywhere within a second line.
        let mut journal = Journal::open(&path, &header("x")).unwrap().unwrap();
        journal.add(&sample("2", 0.0)).unwrap();
        drop(journal);
        let all = std::fs::read(&path).unwrap();
        for cut in [whole.len() + 1, all.len() - 30, all.len() - 1] {
            std::fs::write(&path, &all[..cut]).unwrap();
            let journal = Journal::open(&path, &header("x")).unwrap().unwrap();
            assert_eq!(journal.samples().len(), 1);
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        assert_eq!(read(&path).unwrap().1, [sample("1", 1.0 / 3.0)]);
    }

    #[test]
    fn other_runs_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        drop(Journal::open(&path, &header("w")).unwrap());
        let mut journal = Journal::open(&path, &header("x")).unwrap().unwrap();
        journal.add(&sample("1", 1.0)).unwrap();
        drop(journal);
        assert_eq!(read(&path).unwrap().0, header("x"));
        let error = Journal::open(&path, &header("y")).unwrap_err().to_string();
        assert!(
            error.contains("another run") && error.contains("run x") && error.contains("run y"),
            "{error}"
        );
        for theirs in ["hello", "hello\n", "{\"task\": 3}\n"] {
            std::fs::write(&path, theirs).unwrap();
            assert!(Journal::open(&path, &header("x")).is_err(), "{theirs:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), theirs);
        }
    }
}
