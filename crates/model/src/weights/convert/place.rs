//! Where a result goes: beside its place first, as `.foveate-*.tmp`, there in the end. A failure removes what was begun; a
//! process that is killed cannot, and leaves it under that name.

use std::fs::{self, Permissions};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use super::ConvertError;

/// The final path of an output.
#[derive(Debug)]
pub(super) struct Place {
    /// As it was asked for.
    pub(super) shown: PathBuf,
    folder: PathBuf,
    path: PathBuf,
}

impl Place {
    /// Checks `output` before any work is done for it: that it is not there (or may be replaced), and that neither it nor
    /// the input would be written over.
    pub(super) fn check(input: &Path, output: &Path, replace: bool) -> Result<Self, ConvertError> {
        let refuse =
            |reason: &str| ConvertError::Place { path: output.to_owned(), reason: reason.to_owned() };
        let folder = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = output.file_name().ok_or_else(|| refuse("it names no file or folder"))?;
        let folder = folder.canonicalize().ok().filter(|folder| folder.is_dir());
        let folder = folder.ok_or_else(|| refuse("the folder that it is to be in does not exist"))?;
        let path = match output.canonicalize() {
            Ok(path) => path,
            // What is there but leads nowhere, such as a broken link, is still there.
            Err(_) if output.symlink_metadata().is_ok() => return Err(refuse("it is a broken link")),
            Err(_) => folder.join(name),
        };
        let input = input.canonicalize().map_err(ConvertError::read(input))?;
        if path == input {
            return Err(refuse("it is what is to be converted"));
        }
        if path.starts_with(&input) || input.starts_with(&path) {
            return Err(refuse("one of input and output lies inside the other"));
        }
        if path.exists() {
            if !replace {
                return Err(refuse("it exists; --force replaces it"));
            }
            if input.is_dir() {
                let model = path.join("config.json").is_file();
                let empty = || fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
                if !model && !empty() {
                    return Err(refuse(
                        "it is no folder of a model (no config.json in it), so it is not replaced",
                    ));
                }
            } else if !path.is_file() {
                return Err(refuse("it is not a regular file"));
            }
        }
        let folder = path.parent().map_or(folder, Path::to_owned);
        Ok(Self { shown: output.to_owned(), folder, path })
    }

    fn builder<'a>() -> tempfile::Builder<'a, 'a> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".foveate-").suffix(".tmp");
        builder
    }

    /// An empty folder beside the place.
    pub(super) fn stage_folder(&self) -> Result<TempDir, ConvertError> {
        let mut builder = Self::builder();
        // Temporary folders are private; what the user asked for gets what the umask allows.
        #[cfg(unix)]
        builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o777));
        builder.tempdir_in(&self.folder).map_err(ConvertError::write(&self.shown))
    }

    /// An empty file beside the place.
    pub(super) fn stage_file(&self) -> Result<NamedTempFile, ConvertError> {
        let mut builder = Self::builder();
        #[cfg(unix)]
        builder.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
        builder.tempfile_in(&self.folder).map_err(ConvertError::write(&self.shown))
    }

    /// Moves a finished file to its place.
    pub(super) fn commit_file(self, staged: NamedTempFile) -> Result<(), ConvertError> {
        let kept = staged.persist(&self.path).map_err(|error| ConvertError::write(&self.shown)(error.error));
        kept.map(|_| ())
    }

    /// Moves a finished folder to its place. A folder that is there makes room first and is removed at last; between the
    /// two moves there is a moment without either under the name.
    pub(super) fn commit_folder(self, staged: TempDir) -> Result<(), ConvertError> {
        let failed = || ConvertError::write(&self.shown);
        let replaced = if self.path.exists() {
            let aside = Self::builder().tempdir_in(&self.folder).map_err(failed())?;
            let old = aside.path().join("replaced");
            fs::rename(&self.path, &old).map_err(failed())?;
            Some((aside, old))
        } else {
            None
        };
        if let Err(error) = fs::rename(staged.path(), &self.path) {
            if let Some((_, old)) = &replaced {
                // The error that counts is the first.
                _ = fs::rename(old, &self.path);
            }
            return Err(failed()(error));
        }
        // It is not where it was staged any more.
        _ = staged.keep();
        Ok(())
    }
}
