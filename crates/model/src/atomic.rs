//! Files that are whole or not there.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets `write` fill a file beside `path`, brings it to the disk and moves it there. Whatever fails (a full disk, say), the
/// file that was at `path` stays as it was, and nothing is left beside it.
///
/// # Errors
/// Those of `write`, and a place that cannot be written.
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    place(path, |partial| write(partial).and_then(|()| File::open(partial)?.sync_all()))?;
    sync_folder(path.parent().unwrap_or(Path::new(".")));
    Ok(())
}

/// The same without waiting for the disk: for what can be made again and shows whether it is whole. Several threads may
/// write to one place at a time; one of them wins.
///
/// # Errors
/// As [`replace`].
pub fn place(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let nth = WRITES.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{nth}{PARTIAL}", std::process::id()));
    let partial = path.with_file_name(name);
    // Some writers make private files; what is made for a user gets what the umask allows.
    let made = File::create(&partial).and_then(|file| file.metadata());
    let written = made.and_then(|made| {
        write(&partial)?;
        fs::set_permissions(&partial, made.permissions())?;
        fs::rename(&partial, path)
    });
    if written.is_err() {
        // Best effort: the error that counts is the first.
        _ = fs::remove_file(&partial);
    }
    written
}

/// How the names of unfinished files end; those of a process that was killed stay.
pub const PARTIAL: &str = ".partial";

/// Makes a rename survive a power cut. Not every file system lets folders be synchronised; none loses data of files by it.
pub fn sync_folder(folder: &Path) {
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
    fn threads_that_write_one_file_do_not_take_each_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features");
        std::thread::scope(|scope| {
            for nth in 0..8_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        place(path, |partial| fs::write(partial, vec![nth; 4096])).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() == 4096 && found.iter().all(|byte| *byte == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_of_a_writer_becomes_an_ordinary_one() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let (ordinary, path) = (folder.path().join("ordinary"), folder.path().join("weights"));
        fs::write(&ordinary, b"").unwrap();
        place(&path, |partial| {
            let staged = tempfile::NamedTempFile::new_in(folder.path())?;
            staged.persist(partial).map(|_| ()).map_err(|error| error.error)
        })
        .unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&ordinary));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        replace(&path, |path| fs::write(path, b"old")).unwrap();
        let full = |path: &Path| {
            fs::write(path, b"half of the n")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        };
        let error = replace(&path, full).unwrap_err().to_string();
        assert!(error.contains("space"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
