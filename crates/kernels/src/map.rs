//! A read-only memory map of a file, so that a checkpoint's tensors are paged in when they are read and not before.

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
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

    /// Tells the system that these bytes are not needed any more, so that weights copied elsewhere are not resident twice.
    /// They stay readable: a later read fetches them from the file again.
    ///
    /// Whole pages inside the range are given back; what lies past the end of the file is left out. It is advice:
    /// systems that have no such call, or refuse it, keep the pages until memory is short.
    pub fn release(&self, range: Range<usize>) {
        // The smallest page in use. Where pages are larger, those at the two ends may be given back as well, which
        // costs their next reader a look into the page cache.
        const PAGE: usize = 4096;
        let Some(map) = &self.0 else { return };
        let start = range.start.checked_next_multiple_of(PAGE).unwrap_or(usize::MAX);
        // The last page of a file is whole in memory, so it goes when its last byte is in the range.
        let end = if range.end >= map.len() { map.len() } else { range.end / PAGE * PAGE };
        if start >= end {
            return;
        }
        #[cfg(unix)]
        // SAFETY: the map is read-only and backed by a file, so that dropped pages come back with the file's bytes:
        // slices of it stay readable and, as `open` says of every byte of a map, the same as long as the file is.
        let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
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

    /// Bytes of the map that are resident, as the system counts them.
    #[cfg(target_os = "linux")]
    fn resident(map: &Map) -> usize {
        let start = format!("{:x}-", map.as_ptr().addr());
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn released_bytes_leave_memory_and_read_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let bytes: Vec<u8> =
            (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let map = Map::open(&path).unwrap();
        assert_eq!(&map[..], bytes);
        #[cfg(target_os = "linux")]
        assert!(resident(&map) >= 1_000_003, "{}", resident(&map));
        map.release(100..600_000);
        // 145 whole pages of 4 KiB lie inside; where pages are larger, fewer and larger ones.
        #[cfg(target_os = "linux")]
        assert!((400_000..500_000).contains(&resident(&map)), "{}", resident(&map));
        // Ranges inside a page, past the end and the wrong way round do no harm.
        #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
        let reversed = 9000..10;
        for range in [5000..5001, 2_000_000..3_000_000, reversed, usize::MAX..usize::MAX] {
            map.release(range);
        }
        map.release(0..usize::MAX);
        #[cfg(target_os = "linux")]
        assert_eq!(resident(&map), 0);
        assert_eq!(&map[..], bytes);
    }

    #[test]
    fn empty_files_are_empty_and_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        std::fs::write(&path, b"").unwrap();
        assert!(Map::open(&path).unwrap().is_empty());
        Map::open(&path).unwrap().release(0..10);
        assert_eq!(Map::open(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(Map::open(&folder.path().join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
