//! The files of a dataset: below a folder, or inside a zip file that is never unpacked.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use zip::ZipArchive;
use zip::result::ZipError;

use super::DatasetError;
use crate::image::{DecodeError, DecodeProblem, Image, Limits, decode_bytes};
use crate::sample::{Draws, Picture};

/// Longest index file that is read out of a zip file into memory.
const MAX_TEXT: u64 = 512 << 20;

/// A folder or a zip file, and the files in it by their relative names with slashes.
pub(super) struct Files {
    path: PathBuf,
    zip: Option<Mutex<ZipArchive<BufReader<File>>>>,
}

impl Files {
    /// A folder, or else a zip file (a wheel is one).
    pub(super) fn open(path: &Path) -> Result<Arc<Files>, DatasetError> {
        let read = |error| DatasetError::Read { path: path.to_path_buf(), error };
        let found = std::fs::metadata(path).map_err(read)?;
        let zip = if found.is_dir() {
            None
        } else {
            let file = BufReader::new(File::open(path).map_err(read)?);
            let archive = ZipArchive::new(file).map_err(|error| DatasetError::Layout {
                path: path.to_path_buf(),
                reason: format!("is neither a folder nor a sound zip file: {error}"),
            })?;
            Some(Mutex::new(archive))
        };
        Ok(Arc::new(Files { path: path.to_path_buf(), zip }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What messages call the file `name`.
    pub(super) fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// The file on disk; `None` inside a zip file.
    pub(super) fn on_disk(&self, name: &str) -> Option<PathBuf> {
        self.zip.is_none().then(|| self.path.join(name))
    }

    /// Whether a file has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        let Some(zip) = &self.zip else { return is_inside(name) && self.path.join(name).is_file() };
        zip.lock().unwrap_or_else(PoisonError::into_inner).index_for_name(name).is_some()
    }

    /// The first of these names that a file has.
    pub(super) fn first_of(&self, names: &[String]) -> Result<String, DatasetError> {
        names.iter().find(|name| self.has(name)).cloned().ok_or_else(|| DatasetError::Layout {
            path: self.path.clone(),
            reason: format!("holds none of {}", names.join(", ")),
        })
    }

    /// The bytes of `name`; more than `most` are an error of kind [`io::ErrorKind::FileTooLarge`].
    pub(super) fn read(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        if !is_inside(name) {
            let reason = format!("the name {name:?} leads out of the dataset");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let mut bytes = Vec::new();
        let Some(zip) = &self.zip else {
            File::open(self.path.join(name))?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
            return within(bytes, most);
        };
        let mut zip = zip.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = zip.by_name(name).map_err(|error| match error {
            ZipError::Io(error) => error,
            ZipError::FileNotFound => io::Error::new(io::ErrorKind::NotFound, "no such file in the zip file"),
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })?;
        entry.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        within(bytes, most)
    }

    /// A text that is read as a whole.
    pub(super) fn read_text(&self, name: &str) -> Result<Vec<u8>, DatasetError> {
        self.read(name, MAX_TEXT).map_err(|error| DatasetError::Read { path: self.path.join(name), error })
    }

    /// The image `name`, to be decoded later; over white where it is transparent and `over_white` is set.
    pub(super) fn picture(self: &Arc<Files>, name: &str, over_white: bool) -> Picture {
        Picture::new(Stored { files: self.clone(), name: name.to_owned(), over_white })
    }
}

fn within(bytes: Vec<u8>, most: u64) -> io::Result<Vec<u8>> {
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// Whether a name from a record stays below the folder that it is joined to.
pub(super) fn is_inside(name: &str) -> bool {
    !name.is_empty()
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

struct Stored {
    files: Arc<Files>,
    name: String,
    over_white: bool,
}

impl Draws for Stored {
    fn draw(&self) -> Result<Image, DecodeError> {
        let (place, limits) = (self.files.place(&self.name), Limits::default());
        let bytes = self
            .files
            .read(&self.name, limits.max_bytes)
            .map_err(|error| DecodeError { file: place.clone(), problem: DecodeProblem::Read(error) })?;
        if self.over_white {
            crate::image::decode_bytes_over(&place, &bytes, &limits, [255; 3])
        } else {
            decode_bytes(&place, &bytes, &limits)
        }
    }
}
