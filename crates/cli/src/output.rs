//! Files that appear whole or not at all, several of them together.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

use foveate_law::plot::Figure;
use serde::Serialize;
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// Files written beside their destination, moved there by [`Outputs::commit`] once all of them stand.
#[derive(Default)]
pub(crate) struct Outputs {
    staged: Vec<(NamedTempFile, PathBuf)>,
    inputs: Vec<PathBuf>,
}

impl Outputs {
    /// Keeps `input` from being written over.
    pub(crate) fn keep(&mut self, input: &Path) {
        self.inputs.extend(input.canonicalize());
    }

    /// Writes `bytes` for `path`.
    pub(crate) fn stage(&mut self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        // The kind alone: the temporary file's name would only confuse.
        let failed = |source: std::io::Error| {
            Failure::user(format!("cannot write {}: {}", path.display(), source.kind()))
        };
        let refuse = |reason: &str| Failure::user(format!("cannot write {}: {reason}", path.display()));
        let place = check_place(path)?;
        if self.staged.iter().any(|(_, other)| *other == place) {
            return Err(refuse("another output of this run has the same path"));
        }
        if self.inputs.contains(&place) {
            return Err(refuse("it is what this run reads"));
        }
        let folder = place.parent().unwrap_or(Path::new("/"));
        let mut builder = temporary();
        // Temporary files are private; what the user asked for gets what the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder).map_err(failed)?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        self.staged.push((file, place));
        Ok(())
    }

    /// Writes `document` as JSON with a final newline.
    pub(crate) fn stage_json(&mut self, path: &Path, document: &impl Serialize) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec_pretty(document)?;
        bytes.push(b'\n');
        self.stage(path, &bytes)
    }

    /// Draws `figure` in the format that the extension names.
    pub(crate) fn stage_figure(&mut self, path: &Path, figure: &impl Figure) -> Result<(), Failure> {
        match Picture::of(path)? {
            Picture::Svg => self.stage(path, figure.svg()?.as_bytes()),
            Picture::Png => self.stage(path, &figure.png()?),
        }
    }

    /// Moves every file to its place.
    pub(crate) fn commit(self) -> Result<(), Failure> {
        for (file, path) in self.staged {
            file.persist(&path).map_err(|error| {
                Failure::user(format!("cannot write {}: {}", path.display(), error.error))
            })?;
        }
        Ok(())
    }
}

/// A folder that gets several files at once: a new one appears with all of them in it.
pub(crate) struct OutputFolder {
    path: PathBuf,
    /// Where a new one is made before it appears; `None` for a folder that is there.
    parent: Option<PathBuf>,
}

impl OutputFolder {
    /// Refuses a path that no folder can have or that nothing can be written to, before any work is done for it.
    pub(crate) fn open(path: &Path) -> Result<OutputFolder, Failure> {
        let refuse =
            |reason: &dyn Display| Failure::user(format!("cannot write {}: {reason}", path.display()));
        let path = path.to_owned();
        // What is made here is gone again at once: whether it can be made is all that is asked.
        match std::fs::metadata(&path) {
            Ok(about) if about.is_dir() => {
                temporary().tempfile_in(&path).map_err(|error| refuse(&error.kind()))?;
                return Ok(OutputFolder { path, parent: None });
            }
            Ok(_) => return Err(refuse(&"it is not a folder")),
            Err(_) => {}
        }
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !parent.is_dir() {
            return Err(refuse(&format!("there is no folder {}", parent.display())));
        }
        temporary().tempdir_in(&parent).map_err(|error| refuse(&error.kind()))?;
        Ok(OutputFolder { path, parent: Some(parent) })
    }

    /// Where a file of it will be.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes the files, all or none of them in a new folder.
    pub(crate) fn write(&self, files: &[(&str, &[u8])]) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::user(format!("cannot write {}: {error}", self.path.display()));
        let stage = |folder: &Path| {
            let mut outputs = Outputs::default();
            for (name, bytes) in files {
                outputs.stage(&folder.join(name), bytes)?;
            }
            outputs.commit()
        };
        let Some(parent) = &self.parent else { return stage(&self.path) };
        let mut builder = temporary();
        // Temporary folders are private; what the user asked for gets what the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        // On a failure it goes the way of temporary folders.
        let new = builder.tempdir_in(parent).map_err(failed)?;
        let (made, shown) = (new.path().display().to_string(), self.path.display().to_string());
        stage(new.path()).map_err(|failure| failure.reworded(|told| told.replace(&made, &shown)))?;
        std::fs::rename(new.path(), &self.path).map_err(failed)?;
        _ = new.keep();
        Ok(())
    }
}

/// Files and folders that are to be moved, or to go.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".foveate-").suffix(".tmp");
    builder
}

/// Where a file for `path` will be: behind any link. Refuses a path that no regular file can have, before any work is done
/// for it.
pub(crate) fn check_place(path: &Path) -> Result<PathBuf, Failure> {
    let refuse = |reason: &str| Failure::user(format!("cannot write {}: {reason}", path.display()));
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => return Err(refuse("it is a folder")),
        // A device or a pipe would be replaced by a file.
        Ok(about) if !about.is_file() => return Err(refuse("it is not a regular file")),
        Ok(_) => return path.canonicalize().map_err(|error| refuse(&error.to_string())),
        Err(_) => {}
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| refuse("it names no file"))?;
    match folder.canonicalize() {
        Ok(folder) if folder.is_dir() => Ok(folder.join(name)),
        _ => Err(refuse(&format!("there is no folder {}", folder.display()))),
    }
}

/// Formats of figures.
#[derive(Clone, Copy)]
enum Picture {
    Svg,
    Png,
}

impl Picture {
    fn of(path: &Path) -> Result<Picture, Failure> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("svg") => Ok(Picture::Svg),
            Some("png") => Ok(Picture::Png),
            _ => Err(Failure::user(format!("{}: a figure is written as .svg or .png", path.display()))),
        }
    }
}

/// Refuses a figure's path before any work is done for it.
pub(crate) fn check_figure(path: Option<&Path>) -> Result<(), Failure> {
    path.map_or(Ok(()), |path| Picture::of(path).map(|_| ()))
}

/// Prints one JSON document.
pub(crate) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document)?;
    print(&text)
}

/// Prints `text` and a newline.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_folder_appears_whole_and_an_old_one_keeps_what_it_has() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let folder = OutputFolder::open(&path).unwrap();
        assert!(!path.exists());
        folder.write(&[("a", b"1"), ("b", b"2")]).unwrap();
        assert_eq!(
            (names(home.path()), names(&path)),
            (vec!["out".to_owned()], vec!["a".to_owned(), "b".to_owned()])
        );
        std::fs::write(path.join("own"), "").unwrap();
        OutputFolder::open(&path).unwrap().write(&[("a", b"3")]).unwrap();
        assert_eq!((names(&path).len(), std::fs::read(path.join("a")).unwrap()), (3, b"3".to_vec()));
    }

    #[test]
    fn nothing_is_left_of_a_folder_that_was_not_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        OutputFolder::open(&path).unwrap();
        assert!(names(home.path()).is_empty());
        // Somebody else was faster, with a file.
        let folder = OutputFolder::open(&path).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        assert!(folder.write(&[("a", b"1")]).unwrap_err().message().contains("out"));
        assert_eq!(
            (names(home.path()), std::fs::read(&path).unwrap()),
            (vec!["out".to_owned()], b"theirs".to_vec())
        );
        let refused = OutputFolder::open(&path).err().unwrap().message();
        assert!(refused.contains("it is not a folder"), "{refused}");
        let refused = OutputFolder::open(&path.join("deeper")).err().unwrap().message();
        assert!(refused.contains("there is no folder"), "{refused}");
    }
}
