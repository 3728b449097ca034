//! The table of a sweep: one row a finished cell, as CSV that grows by whole rows and as Parquet of the same.
//!
//! `foveate fit` reads both as they are: `params`, `visual_tokens`, `error`, `error_se`, `run` and `task` are the names that it
//! looks for.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{EvalError, Result};

mod columns;

pub use columns::csv_of_parquet;

/// A finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The model's name in the plan.
    pub model: String,
    /// Parameters of its language model, tied embeddings once.
    pub params: u64,
    /// Visual tokens of a picture.
    pub visual_tokens: f64,
    /// What makes them.
    pub compressor: String,
    /// The task.
    pub task: String,
    /// `reasoning` or `text`; `control` for what was asked in other words than the compressor read.
    pub family: String,
    /// The training's seed.
    pub seed: u64,
    /// Questions answered.
    pub n: usize,
    /// From 0 to 1.
    pub score: f64,
    /// 1 − score.
    pub error: f64,
    /// Its standard error.
    pub error_se: f64,
    /// Mean FLOPs of a question, tower included.
    pub flops: f64,
    /// Median milliseconds of a question, tower included.
    pub ms: f64,
    /// Lower end of the score's 95 % interval.
    pub score_low: f64,
    /// Upper end.
    pub score_high: f64,
    /// Parameters without those that look tokens up or score them: `--x1 body_params` fits a law of these.
    pub body_params: u64,
    /// Models of one series make one law.
    pub series: String,
    /// The training run: rows of one run share its luck, and the bootstrap of a fit draws them together.
    pub run: String,
    /// The cell's name in its plan, and of its file of samples.
    pub cell: String,
    /// Names all that the row depends on.
    pub settings: String,
}

/// The table of a folder.
#[derive(Clone, Debug)]
pub struct Results {
    folder: PathBuf,
}

/// The names of the two files.
const CSV: &str = "results.csv";
const PARQUET: &str = "results.parquet";

impl Results {
    /// The table in `folder`.
    pub fn at(folder: &Path) -> Results {
        Results { folder: folder.to_owned() }
    }

    /// The CSV file.
    pub fn csv(&self) -> PathBuf {
        self.folder.join(CSV)
    }

    /// The Parquet file.
    pub fn parquet(&self) -> PathBuf {
        self.folder.join(PARQUET)
    }

    /// The whole rows of the CSV, in the order in which cells were finished; none where there is no file yet.
    ///
    /// # Errors
    /// A file that cannot be read, or is another table.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let path = self.csv();
        match std::fs::read(&path) {
            Ok(bytes) => parse(&path, whole(&bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(EvalError::io(&path)(error)),
        }
    }

    /// Adds a row, unless the cell is there already. Processes wait for each other; what a killed one left of a row goes.
    ///
    /// # Errors
    /// A file that cannot be written, or is another table.
    pub fn append(&self, row: &Row) -> Result<()> {
        let path = self.csv();
        let failed = || EvalError::io(&path);
        let options = OpenOptions::new().read(true).append(true).create(true).clone();
        let mut file = options.open(&path).map_err(failed())?;
        file.lock().map_err(failed())?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed())?;
        let kept = whole(&bytes);
        if parse(&path, kept)?.iter().any(|have| have.cell == row.cell) {
            return Ok(());
        }
        file.set_len(kept.len() as u64).map_err(failed())?;
        file.seek(SeekFrom::End(0)).map_err(failed())?;
        let mut writer = csv::WriterBuilder::new().has_headers(kept.is_empty()).from_writer(Vec::new());
        let wrong = |error: csv::Error| EvalError::format(path.display(), error);
        writer.serialize(row).map_err(wrong)?;
        let text = writer.into_inner().map_err(|error| EvalError::format(path.display(), error))?;
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(failed())
    }

    /// Writes the rows so far as Parquet, in one piece.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_parquet(&self) -> Result<()> {
        let path = self.csv();
        let file = File::open(&path).map_err(EvalError::io(&path))?;
        // One process at a time: they would write the same temporary file.
        file.lock().map_err(EvalError::io(&path))?;
        let beside = self.folder.join("results.parquet.part");
        columns::write(&beside, &self.rows()?)?;
        std::fs::rename(&beside, self.parquet()).map_err(EvalError::io(&beside))
    }
}

/// The rows that end.
fn whole(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)]
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Row>> {
    let wrong =
        |error: csv::Error| EvalError::format(path.display(), format!("is no table of a sweep: {error}"));
    csv::Reader::from_reader(bytes).into_deserialize().map(|row| row.map_err(wrong)).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn row(model: &str, params: u64, visual_tokens: f64, error: f64) -> Row {
        Row {
            model: model.into(),
            params,
            visual_tokens,
            compressor: "quecc".into(),
            task: "scenes".into(),
            family: "reasoning".into(),
            seed: 1,
            n: 100,
            score: 1.0 - error,
            error,
            error_se: 0.01,
            flops: 2.0 * params as f64 * visual_tokens,
            ms: 1.25,
            score_low: 0.1,
            score_high: 0.9,
            body_params: params / 2,
            series: "grid".into(),
            run: format!("{model}-s1"),
            cell: format!("{model}-s1-v{visual_tokens}-own-scenes"),
            settings: "abc".into(),
        }
    }

    #[test]
    fn rows_are_kept_once_and_torn_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::at(folder.path());
        assert!(results.rows().unwrap().is_empty());
        let (one, two) = (row("a", 1_000_000, 4.0, 1.0 / 3.0), row("a, \"b\"", 2_000_000, 16.0, 0.25));
        results.append(&one).unwrap();
        results.append(&two).unwrap();
        results.append(&one).unwrap();
        assert_eq!(results.rows().unwrap(), [one.clone(), two.clone()]);
        let text = std::fs::read(results.csv()).unwrap();
        for cut in 0..text.len() {
            std::fs::write(results.csv(), &text[..cut]).unwrap();
            results.append(&one).unwrap();
            results.append(&two).unwrap();
            assert_eq!(std::fs::read(results.csv()).unwrap(), text, "cut at {cut}");
        }
        std::fs::write(results.csv(), "theirs\n1\n").unwrap();
        assert!(results.append(&one).unwrap_err().to_string().contains("is no table of a sweep"));
    }

    #[test]
    fn both_files_are_tables_that_a_law_is_fitted_to() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::at(folder.path());
        for params in [1_000_000_u64, 4_000_000, 16_000_000] {
            for tokens in [1.0_f64, 4.0, 16.0] {
                let error = 0.8 * (params as f64 / 1e6).powf(-0.2) * tokens.powf(-0.05);
                results.append(&row(&params.to_string(), params, tokens, error)).unwrap();
            }
        }
        results.write_parquet().unwrap();
        let csv = csv_of_parquet(&results.parquet()).unwrap();
        let options = foveate_law::ReadOptions::default();
        let from_parquet = foveate_law::read_str(&csv, "results.parquet", &options).unwrap();
        let from_csv = foveate_law::read_file(&results.csv(), &options).unwrap();
        assert_eq!((from_parquet.len(), from_csv.len()), (1, 1));
        assert_eq!(from_parquet[0].rows, from_csv[0].rows);
        let fit =
            foveate_law::fit(&from_csv[0], foveate_law::Form::Product, &foveate_law::FitOptions::default());
        let law = fit.unwrap().law;
        assert!((law.alpha() - 0.2).abs() < 1e-6 && (law.beta() - 0.05).abs() < 1e-6);
    }
}
