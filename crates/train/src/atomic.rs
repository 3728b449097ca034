//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Result, TrainError};

/// Lets `write` fill a file beside `path`, brings it to the disk and moves it there. Whatever fails (a full disk, say), the
/// file that was at `path` stays as it was, and nothing is left beside it.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = (|| {
        let mut out = BufWriter::new(File::create(&partial)?);
        write(&mut out)?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&partial, path)
    })();
    if written.is_err() {
        // Best effort: the error that counts is the first.
        _ = fs::remove_file(&partial);
    }
    written.map_err(TrainError::io(path))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// The same for bytes at hand.
pub(crate) fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |out| out.write_all(bytes))
}

/// Makes a rename survive a power cut. Not every file system lets folders be synchronised; none loses data of files by it.
pub(crate) fn sync_folder(folder: &Path) {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Ok(folder) = File::open(folder) {
        _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace_bytes(&path, b"old").unwrap();
        let full = |out: &mut BufWriter<File>| {
            out.write_all(b"half of the n")?;
            Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
        };
        let error = replace(&path, full).unwrap_err().to_string();
        assert!(error.contains("state") && error.contains("space"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
