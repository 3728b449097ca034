//! The model in a folder: the user's own, or what a wheel unpacked to.

use std::path::{Path, PathBuf};

use crate::cache::list;
use crate::choose::choose;
use crate::error::HubError;
use crate::{Located, Options, safe_path};

/// A folder that the user gave.
pub(crate) fn given(path: &Path, options: &Options<'_>) -> Result<Located, HubError> {
    let entries = std::fs::read_dir(path).map_err(HubError::given(path))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    // A file that is asked for may lie deeper.
    for name in &options.files {
        if !names.contains(name) && safe_path::relative(name).is_ok_and(|name| path.join(name).is_file()) {
            names.push(name.clone());
        }
    }
    let what = path.display().to_string();
    let files: Vec<PathBuf> =
        choose(&names, &options.files, &what)?.iter().map(|name| path.join(name)).collect();
    let is_gguf = |file: &&PathBuf| file.extension().is_some_and(|extension| extension == "gguf");
    let opened = match options.files.first() {
        Some(name) => path.join(name),
        None => files.iter().find(is_gguf).cloned().unwrap_or_else(|| path.to_path_buf()),
    };
    Ok(Located { path: opened, files, revision: None })
}

/// The model in an unpacked wheel, wherever its package put it: the files asked for (their last parts suffice), else
/// a GGUF file, else a folder with `config.json` and safetensors, else an ONNX or safetensors file.
pub(crate) fn unpacked(folder: &Path, what: &str, requested: &[String]) -> Result<Located, HubError> {
    let mut names = Vec::new();
    list(folder, "", &mut names).map_err(HubError::cache(folder))?;
    names.sort();
    let refuse = |reason: String| HubError::Choice { what: what.into(), reason };
    let weights: Vec<&String> = names
        .iter()
        .filter(|name| [".gguf", ".onnx", ".safetensors"].iter().any(|end| name.ends_with(end)))
        .collect();
    let all = || match weights.len() {
        0 => "it holds no GGUF, ONNX or safetensors file".to_string(),
        _ => format!("it holds {}", weights.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")),
    };
    let at = |name: &str| folder.join(name);
    if !requested.is_empty() {
        let mut files = Vec::new();
        for wanted in requested {
            let matches = |name: &&String| {
                *name == wanted || name.strip_suffix(wanted).is_some_and(|folder| folder.ends_with('/'))
            };
            match names.iter().filter(matches).collect::<Vec<_>>()[..] {
                [name] => files.push(at(name)),
                [] => return Err(refuse(format!("no file {wanted:?}; {}", all()))),
                _ => return Err(refuse(format!("several files {wanted:?}; {}", all()))),
            }
        }
        return Ok(Located { path: files[0].clone(), files, revision: None });
    }
    let ending = |end: &str| weights.iter().copied().filter(|name| name.ends_with(end)).collect::<Vec<_>>();
    let parent = |name: &str| name.rsplit_once('/').map_or("", |(parent, _)| parent).to_string();
    let mut homes: Vec<String> = ending(".safetensors").iter().map(|name| parent(name)).collect();
    homes.retain(|home| names.contains(&format!("{home}/config.json")));
    homes.dedup();
    let found = match (&ending(".gguf")[..], &homes[..], &ending(".onnx")[..], &ending(".safetensors")[..]) {
        ([name], ..) | ([], [], [name], _) | ([], [], [], [name]) => {
            return Ok(Located { path: at(name), files: vec![at(name)], revision: None });
        }
        ([], [home], ..) => home,
        _ => {
            let hint = if weights.is_empty() { "" } else { "; choose with --file" };
            return Err(refuse(format!("{}{hint}", all())));
        }
    };
    let inside = |name: &&String| parent(name) == *found;
    let files = names.iter().filter(inside).map(|name| at(name)).collect();
    Ok(Located { path: at(found), files, revision: None })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;
    use crate::settings::Settings;

    fn with(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    fn found(names: &[&str], requested: &[&str]) -> Result<String, String> {
        let folder = with(names);
        let requested: Vec<String> = requested.iter().map(|name| (*name).to_string()).collect();
        let located = unpacked(folder.path(), "w", &requested).map_err(|error| error.to_string())?;
        Ok(located.path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_string())
    }

    #[test]
    fn models_in_wheels() {
        assert_eq!(found(&["p/m.gguf", "p/__init__.py", "p-1.dist-info/RECORD"], &[]).unwrap(), "p/m.gguf");
        assert_eq!(found(&["p/models/t.onnx", "p/x.py"], &[]).unwrap(), "p/models/t.onnx");
        assert_eq!(
            found(&["p/m/config.json", "p/m/a.safetensors", "p/m/b.safetensors"], &[]).unwrap(),
            "p/m"
        );
        assert_eq!(found(&["p/w.safetensors"], &[]).unwrap(), "p/w.safetensors");
        let two = ["p/a.gguf", "p/b.gguf"];
        assert_eq!(found(&two, &[]).unwrap_err(), "w: it holds p/a.gguf, p/b.gguf; choose with --file");
        assert_eq!(found(&two, &["b.gguf"]).unwrap(), "p/b.gguf");
        assert_eq!(found(&two, &["p/a.gguf"]).unwrap(), "p/a.gguf");
        assert!(found(&two, &[".gguf"]).unwrap_err().contains("no file"));
        assert!(found(&["p/a.gguf", "q/a.gguf"], &["a.gguf"]).unwrap_err().contains("several files"));
        assert!(found(&["p/x.py"], &[]).unwrap_err().contains("no GGUF, ONNX or safetensors file"));
    }

    #[test]
    fn folders_of_the_user() {
        let settings = Settings::from_variables(|_| None, Some("/nowhere".into())).unwrap();
        let mut options = Options::new(settings);
        let folder = with(&["config.json", "model.safetensors", "onnx/model.onnx"]);
        let located = given(folder.path(), &options).unwrap();
        assert_eq!((located.path.as_path(), located.files.len()), (folder.path(), 2));
        options.files = vec!["onnx/model.onnx".into()];
        assert_eq!(given(folder.path(), &options).unwrap().path, folder.path().join("onnx/model.onnx"));
        let absent = given(&folder.path().join("absent"), &options).unwrap_err();
        assert!(absent.is_users() && absent.to_string().contains("absent"));
    }
}
