//! What a model is made of, in a few letters: answers of one are never taken for those of another under its name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use foveate_model::vlm::FAMILIES_FILE;
use sha2::{Digest, Sha256};

use super::Place;
use super::embedded::{is_embedded, parts};
use crate::auto::LAWS_FILE;
use crate::failure::Failure;

/// A file is read at so many places, in pieces of so many bytes: all of it up to 64 MiB. Training changes every tensor a little,
/// so that the places of a larger one tell.
const PLACES: u64 = 64;
const PIECE: u64 = 1 << 20;

/// Files of a model's folder that no answer at a given number of visual tokens depends on.
const BESIDE: [&str; 3] = ["README.md", FAMILIES_FILE, LAWS_FILE];

impl Place {
    /// Names the contents of all files that the model is opened from. Parts that the model names itself stand in its
    /// configuration with their SHA-256.
    pub(crate) fn fingerprint(&self) -> Result<String, Failure> {
        let mut sum = Sha256::new();
        if is_embedded(&self.model) {
            parts().iter().for_each(|part| sum.update(Sha256::digest(part)));
        } else {
            add(&mut sum, &self.fetch.path(&self.model)?)?;
        }
        for beside in [&self.tower, &self.language].into_iter().flatten() {
            add(&mut sum, &self.fetch.beside().path(beside)?)?;
        }
        if let Some(path) = &self.mmproj {
            add(&mut sum, path)?;
        }
        Ok(sum.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// Adds a file, or the files of a folder by name.
fn add(sum: &mut Sha256, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::user(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        return add_file(sum, path).map_err(failed);
    }
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && !BESIDE.iter().any(|name| file.ends_with(name)));
    files.sort();
    for file in files {
        sum.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        add_file(sum, &file).map_err(failed)?;
    }
    Ok(())
}

fn add_file(sum: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    sum.update(length.to_le_bytes());
    let step = length.div_ceil(PLACES).max(PIECE);
    let mut piece = Vec::new();
    for at in (0..length).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        piece.clear();
        file.seek(SeekFrom::Start(at))?;
        (&mut file).take(PIECE).read_to_end(&mut piece)?;
        sum.update(&piece);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_file_that_answers_depend_on_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        let print = || {
            let mut sum = Sha256::new();
            add(&mut sum, folder.path()).unwrap();
            format!("{:x?}", sum.finalize())
        };
        write("config.json", b"{}");
        let mut weights = vec![0; 3 << 20];
        write("model.safetensors", &weights);
        let first = print();
        assert_eq!(first, print());
        write("laws.json", b"{}");
        assert_eq!(first, print(), "laws are measured by answers");
        // Any byte of a file that is read whole.
        for at in [0, (1 << 20) + 7, (3 << 20) - 1] {
            weights[at] = 1;
            write("model.safetensors", &weights);
            assert_ne!(first, print(), "{at}");
            weights[at] = 0;
        }
        write("model.safetensors", &weights);
        assert_eq!(first, print());
        write("config.json", b"{ }");
        assert_ne!(first, print());
    }
}
