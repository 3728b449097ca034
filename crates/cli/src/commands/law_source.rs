//! Where `plan` and `frontier` take their law from: a file that `fit --out` wrote, or published measurements.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use foveate_law::{BootstrapOptions, FitOptions, PlannedLaw, Preset, Resample, Tokens, Units, assess};
use serde::Deserialize;

use super::fit::{LawName, PresetName};
use crate::failure::Failure;

/// Largest law file that is read, in bytes: a million refits.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Args)]
pub(crate) struct LawSource {
    /// A law that `foveate fit --out` wrote.
    #[arg(long, value_name = "law.json")]
    law: Option<PathBuf>,
    /// The task to plan for, where the file holds several.
    #[arg(long, requires = "law")]
    task: Option<String>,
    /// Fit published measurements instead [default: reasoning].
    #[arg(long, value_enum, conflicts_with = "law")]
    preset: Option<PresetName>,
    /// The form fitted to the preset.
    #[arg(long, value_enum, default_value_t = LawName::Product, conflicts_with = "law")]
    form: LawName,
    /// Refits for the intervals of a preset; 0 leaves them out.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        conflicts_with = "law",
        allow_negative_numbers = true
    )]
    bootstrap: usize,
    /// Seed of the bootstrap of a preset.
    #[arg(
        long,
        value_name = "S",
        default_value_t = 0,
        conflicts_with = "law",
        allow_negative_numbers = true
    )]
    seed: u64,
}

impl LawSource {
    /// The law, with refits where there are any.
    pub(crate) fn load(&self) -> Result<PlannedLaw, Failure> {
        if let Some(path) = &self.law {
            return read(path, self.task.as_deref());
        }
        let preset = Preset::from(self.preset.unwrap_or(PresetName::Reasoning));
        let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
        let resampling = (self.bootstrap > 0).then_some(BootstrapOptions {
            resample: Resample::Cases,
            draws: self.bootstrap,
            seed: self.seed,
        });
        let options = FitOptions::default();
        Ok(PlannedLaw::new(&assess(&preset.table()?, self.form.form(), &options, units, resampling)?))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LawFile {
    All { fits: Vec<PlannedLaw> },
    One(Box<PlannedLaw>),
}

/// The law of a file.
pub(crate) fn read(path: &Path, task: Option<&str>) -> Result<PlannedLaw, Failure> {
    let failed = |message: String| Failure::user(format!("{}: {message}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(failed(format!("more than {MAX_BYTES} bytes; a law file has at most that many")));
    }
    let laws = match serde_json::from_slice(&bytes) {
        Ok(LawFile::One(law)) => vec![*law],
        Ok(LawFile::All { fits }) => fits,
        Err(error) if error.is_syntax() || error.is_eof() => {
            return Err(failed(format!("not JSON: {error}")));
        }
        Err(_) => {
            return Err(failed("not a law; `foveate fit --out` writes one".into()));
        }
    };
    let names =
        || laws.iter().map(|law| law.task.as_deref().unwrap_or("(no name)")).collect::<Vec<_>>().join(", ");
    let found = match task {
        Some(task) => laws.iter().find(|law| law.task.as_deref() == Some(task)),
        None if laws.len() == 1 => laws.first(),
        None => {
            return Err(failed(format!("holds {} tasks; choose one with --task: {}", laws.len(), names())));
        }
    };
    let law =
        found.ok_or_else(|| failed(format!("no task {:?}; it holds {}", task.unwrap_or(""), names())))?;
    if !law.is_sound() {
        return Err(failed("a coefficient, scale or measured range is negative, zero or not finite".into()));
    }
    Ok(law.clone())
}
