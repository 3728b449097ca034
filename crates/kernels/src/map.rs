//! A read-only memory map of a file, so that a checkpoint's tensors are paged in when they are read and not before.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a regular file, mapped read-only. Empty files give an empty slice.
///
/// The map is private to this process, and the length is fixed when it is made. Weight files must not be written
/// or truncated by anybody while they are mapped; programs that replace one should write a new file and rename it
/// over the old one, as the downloader of `foveate pull` does.
#[derive(Debug)]
pub struct Map(Option<memmap2::Mmap>);

impl Map {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// The operating system's error if the file cannot be opened or mapped, and [`io::ErrorKind::InvalidInput`] if it is
    /// not a regular file (a folder, a pipe, a device).
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening: opening a named pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        // An empty map is an error on some systems.
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is read-only and lives in `self`, which hands out slices bound to its own lifetime, so no
        // slice outlives it, and this process never writes through it. What the type system cannot rule out is another
        // process that changes the file meanwhile: the readers above treat every byte as untrusted and check each value
        // they read once, and tensors are copied out before use, so a changed byte changes a number and not memory
        // safety in practice; a file cut short ends the process with SIGBUS, as in every program that maps weights.
        let map = unsafe { memmap2::Mmap::map(&file) }?;
        Ok(Self(Some(map)))
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shows_the_bytes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, b"tower").unwrap();
        assert_eq!(&Map::open(&path).unwrap()[..], b"tower");
        // The usual way to replace a mapped file leaves the old map as it was.
        let map = Map::open(&path).unwrap();
        let fresh = folder.path().join("fresh");
        std::fs::write(&fresh, b"other").unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        assert_eq!(&map[..], b"tower");
        assert_eq!(&Map::open(&path).unwrap()[..], b"other");
    }

    #[test]
    fn empty_files_are_empty_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(Map::open(&path).unwrap().is_empty());
        assert_eq!(Map::open(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Map::open(&folder.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
