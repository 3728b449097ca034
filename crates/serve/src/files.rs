//! Uploaded images on disk: one file for each, a line of JSON and the bytes behind it, moved into place when it is whole.
//!
//! A process that is killed leaves whole files, and at worst a temporary one that the next start removes. Names that clients
//! give are kept as text and are never a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::http::now;
use crate::options::FileOptions;

const ENDING: &str = "image";
const TEMPORARY: &str = ".part-";
/// The longest name that is kept, in characters.
const LONGEST_NAME: usize = 200;
/// The longest first line of a file, in bytes.
const LONGEST_HEAD: u64 = 4096;

/// The name of an uploaded file: `file-` and 24 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct FileId(String);

impl FromStr for FileId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("file-").unwrap_or_default();
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match digits.len() == 24 && digits.bytes().all(hex) {
            true => Ok(Self(text.to_owned())),
            false => Err("the id of a file is `file-` and 24 hexadecimal digits".to_owned()),
        }
    }
}

impl TryFrom<String> for FileId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<FileId> for String {
    fn from(id: FileId) -> Self {
        id.0
    }
}

impl std::fmt::Display for FileId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is known of a file besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: FileId,
    pub(crate) bytes: u64,
    /// Seconds since 1970.
    pub(crate) created_at: u64,
    pub(crate) filename: String,
    pub(crate) purpose: String,
}

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The store is full.
    #[error("the files together would have {needed} bytes, at most {limit} are kept; delete some first")]
    Full { needed: u64, limit: u64 },
    /// The disk does not take or give it.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The files.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    /// Ends with this value.
    _temporary: Option<TempDir>,
    keep: Option<Duration>,
    limit: u64,
    records: Mutex<BTreeMap<FileId, Record>>,
}

impl Files {
    /// Those that are in the folder, which is made where it is missing.
    pub(crate) fn open(options: &FileOptions) -> io::Result<Self> {
        let (folder, temporary) = match &options.folder {
            Some(folder) => (folder.clone(), None),
            None => {
                let folder = tempfile::Builder::new().prefix("foveate-files-").tempdir()?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        std::fs::create_dir_all(&folder)?;
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(TEMPORARY) {
                std::fs::remove_file(&path)?;
            } else if path.extension().is_some_and(|ending| ending == ENDING) {
                // What is not one of ours stays where it is, and is not shown.
                if let Some(record) = read_record(&path)? {
                    records.insert(record.id.clone(), record);
                }
            }
        }
        let (keep, limit) = (options.keep, options.bytes);
        let files = Self { folder, _temporary: temporary, keep, limit, records: Mutex::new(records) };
        files.sweep();
        Ok(files)
    }

    /// Keeps `bytes`.
    pub(crate) fn add(&self, filename: &str, purpose: &str, bytes: &[u8]) -> Result<Record, FileError> {
        let record = Record {
            id: FileId(format!("file-{}", random_hex(12))),
            bytes: bytes.len() as u64,
            created_at: now(),
            filename: harmless(filename),
            purpose: harmless(purpose),
        };
        self.sweep();
        {
            let mut records = self.records();
            let needed = records.values().map(|record| record.bytes).sum::<u64>() + record.bytes;
            if needed > self.limit {
                return Err(FileError::Full { needed, limit: self.limit });
            }
            // Its bytes count from now on.
            records.insert(record.id.clone(), record.clone());
        }
        let written = self.write(&record, bytes);
        if written.is_err() {
            self.records().remove(&record.id);
        }
        written.map(|()| record).map_err(FileError::Io)
    }

    fn write(&self, record: &Record, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.folder)?;
        serde_json::to_writer(&mut file, record)?;
        file.write_all(b"\n")?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(self.path(&record.id)).map_err(|error| error.error)?;
        Ok(())
    }

    pub(crate) fn get(&self, id: &FileId) -> Option<Record> {
        let record = self.records().get(id).cloned()?;
        (!self.is_over(&record)).then_some(record)
    }

    /// Those that are there, oldest first.
    pub(crate) fn list(&self) -> Vec<Record> {
        let mut records: Vec<Record> =
            self.records().values().filter(|record| !self.is_over(record)).cloned().collect();
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    /// When a file goes; `None` for one that stays.
    pub(crate) fn ends_at(&self, record: &Record) -> Option<u64> {
        self.keep.map(|keep| record.created_at.saturating_add(keep.as_secs()))
    }

    /// The bytes of a file that is there.
    pub(crate) fn read(&self, id: &FileId) -> io::Result<Option<Vec<u8>>> {
        let Some(record) = self.get(id) else { return Ok(None) };
        let mut file = match File::open(self.path(id)) {
            Ok(file) => BufReader::new(file),
            // Deleted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut head = Vec::new();
        file.by_ref().take(LONGEST_HEAD).read_until(b'\n', &mut head)?;
        let mut bytes = Vec::new();
        file.take(record.bytes).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether it was there.
    pub(crate) fn delete(&self, id: &FileId) -> io::Result<bool> {
        let Some(record) = self.records().remove(id) else { return Ok(false) };
        match std::fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.records().insert(id.clone(), record);
                Err(error)
            }
            _ => Ok(!self.is_over(&record)),
        }
    }

    /// Removes those whose time is over; one that cannot be removed is tried again the next time.
    pub(crate) fn sweep(&self) {
        let over: Vec<FileId> =
            self.records().values().filter(|record| self.is_over(record)).map(|of| of.id.clone()).collect();
        for id in over {
            if let Err(error) = self.delete(&id) {
                tracing::warn!(%id, %error, "a file cannot be removed");
            }
        }
    }

    fn is_over(&self, record: &Record) -> bool {
        self.ends_at(record).is_some_and(|end| now() >= end)
    }

    fn path(&self, id: &FileId) -> PathBuf {
        self.folder.join(format!("{id}.{ENDING}"))
    }

    fn records(&self) -> MutexGuard<'_, BTreeMap<FileId, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the first line of a file says, where the rest is as long as it says and the name is the file's own.
fn read_record(path: &Path) -> io::Result<Option<Record>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut head = Vec::new();
    file.by_ref().take(LONGEST_HEAD).read_until(b'\n', &mut head)?;
    let length = file.get_ref().metadata()?.len();
    let Ok(record) = serde_json::from_slice::<Record>(&head) else { return Ok(None) };
    let whole = head.len() as u64 + record.bytes == length;
    let named = path.file_stem().is_some_and(|stem| stem == record.id.0.as_str());
    Ok((whole && named).then_some(record))
}

/// A name as text: its last part, without control characters.
fn harmless(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|character| !character.is_control()).take(LONGEST_NAME).collect()
}

/// Random hexadecimal digits, two for each byte.
pub(crate) fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    // The operating system's; without it there is nothing to fall back on, and names must not repeat.
    if getrandom::fill(&mut random).is_err() {
        random.iter_mut().zip(now().to_le_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
    }
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random seed.
pub(crate) fn random_number() -> u64 {
    getrandom::u64().unwrap_or_else(|_| now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(folder: &Path) -> FileOptions {
        FileOptions { folder: Some(folder.to_owned()), keep: None, bytes: 100 }
    }

    #[test]
    fn a_file_is_there_until_it_is_deleted_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&options(folder.path())).unwrap();
        let kept = files.add("../../etc/pass\nwd.png", "vision", b"bytes\nof it").unwrap();
        assert_eq!((kept.filename.as_str(), kept.bytes), ("passwd.png", 11));
        let other = files.add("", "user_data", b"").unwrap();
        assert_eq!(files.read(&kept.id).unwrap().unwrap(), b"bytes\nof it");

        let again = Files::open(&options(folder.path())).unwrap();
        assert_eq!(again.list().len(), 2);
        assert_eq!(again.get(&kept.id), Some(kept.clone()));
        assert_eq!(again.read(&other.id).unwrap().unwrap(), b"");
        assert!(again.delete(&kept.id).unwrap() && !again.delete(&kept.id).unwrap());
        assert_eq!(again.read(&kept.id).unwrap(), None);
        assert_eq!(Files::open(&options(folder.path())).unwrap().list(), [other]);
    }

    #[test]
    fn what_a_killed_process_left_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&options(folder.path())).unwrap();
        let kept = files.add("a.png", "vision", b"0123456789").unwrap();
        let path = files.path(&kept.id);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(folder.path().join(".part-x"), &whole[..20]).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        assert_eq!(Files::open(&options(folder.path())).unwrap().list(), std::slice::from_ref(&kept));
        assert!(!folder.path().join(".part-x").exists() && folder.path().join("notes.txt").exists());
        // Cut short by other means, or under another name.
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        std::fs::write(folder.path().join("file-000000000000000000000000.image"), &whole).unwrap();
        assert_eq!(Files::open(&options(folder.path())).unwrap().list(), []);
    }

    #[test]
    fn there_is_an_end_to_space_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&options(folder.path())).unwrap();
        files.add("a", "vision", &[0; 60]).unwrap();
        let error = files.add("b", "vision", &[0; 60]).unwrap_err();
        assert!(error.to_string().contains("120") && error.to_string().contains("100"), "{error}");
        assert_eq!(files.list().len(), 1);
        // Its time is over at once.
        let over = FileOptions { keep: Some(Duration::ZERO), ..options(folder.path()) };
        let files = Files::open(&over).unwrap();
        assert_eq!(files.list(), []);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let record = files.add("c", "vision", &[0; 60]).unwrap();
        assert_eq!(files.get(&record.id), None);
        assert!(files.add("d", "vision", &[0; 60]).is_ok(), "what is over takes no room");
    }

    #[test]
    fn ids_are_no_paths() {
        for wrong in [
            "",
            "file-",
            "file-../../etc/passwd",
            "file-0123456789ABCDEF01234567",
            "0123456789abcdef01234567",
        ] {
            assert!(wrong.parse::<FileId>().is_err(), "{wrong}");
        }
        assert_eq!(random_hex(12).len(), 24);
        assert_ne!(random_hex(12), random_hex(12));
    }
}
