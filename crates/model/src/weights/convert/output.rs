//! A file that is hashed while it is written and read back afterwards.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{ConvertError, WeightFile};

/// What is written and read at once.
const BUFFER: usize = 1 << 20;

/// A weight file under construction.
pub(super) struct Output {
    file: BufWriter<File>,
    hash: Sha256,
    bytes: u64,
    staged: PathBuf,
    /// Where it will be, for errors.
    place: PathBuf,
}

impl Output {
    /// A new file at `staged`, known as `place`.
    pub(super) fn create(staged: &Path, place: &Path) -> Result<Self, ConvertError> {
        Ok(Self::over(File::create_new(staged).map_err(ConvertError::write(place))?, staged, place))
    }

    /// The open, empty file `staged`.
    pub(super) fn over(file: File, staged: &Path, place: &Path) -> Self {
        Self {
            file: BufWriter::with_capacity(BUFFER, file),
            hash: Sha256::new(),
            bytes: 0,
            staged: staged.to_owned(),
            place: place.to_owned(),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ConvertError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(ConvertError::write(&self.place))
    }

    /// Zeros up to a multiple of `alignment`.
    pub(super) fn pad(&mut self, alignment: u64) -> Result<(), ConvertError> {
        let mut missing = self.bytes.next_multiple_of(alignment) - self.bytes;
        while missing > 0 {
            let some = missing.min(64);
            self.write(&[0; 64][..some as usize])?;
            missing -= some;
        }
        Ok(())
    }

    /// Flushes the file to the disk, reads it again and compares.
    pub(super) fn finish(self) -> Result<WeightFile, ConvertError> {
        let failed = || ConvertError::write(self.place.clone());
        let file = self.file.into_inner().map_err(|error| failed()(error.into_error()))?;
        file.sync_all().map_err(failed())?;
        drop(file);
        let expected = hexadecimal(&self.hash.finalize());
        let found = hash_of(&self.staged).map_err(ConvertError::read(&self.place))?;
        if found != expected {
            return Err(ConvertError::Changed { path: self.place, expected, found });
        }
        Ok(WeightFile { path: self.place, bytes: self.bytes, sha256: expected })
    }
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; BUFFER]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standard_and_of_what_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (staged, place) = (folder.path().join("staged"), Path::new("model.safetensors"));
        let mut output = Output::create(&staged, place).unwrap();
        output.write(b"ab").unwrap();
        output.write(b"c").unwrap();
        let written = output.finish().unwrap();
        // FIPS 180-2, appendix B.1.
        assert_eq!(written.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((written.bytes, written.path.as_path()), (3, place));

        // A file that somebody changes meanwhile is found out.
        let staged = folder.path().join("spoilt");
        let mut output = Output::create(&staged, place).unwrap();
        output.write(b"abc").unwrap();
        output.pad(8).unwrap();
        output.file.flush().unwrap();
        std::fs::write(&staged, b"xyz\0\0\0\0\0").unwrap();
        let error = output.finish().unwrap_err().to_string();
        assert!(error.starts_with("model.safetensors: read back with SHA-256"), "{error}");
        assert!(
            matches!(Output::create(&staged, place), Err(ConvertError::Write { .. })),
            "no file is replaced"
        );
    }
}
