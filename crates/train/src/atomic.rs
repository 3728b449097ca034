//! Files that are whole or not there, with the errors of training.

use std::path::Path;

pub(crate) use foveate_model::atomic::{PARTIAL, place, sync_folder};

use crate::{Result, TrainError};

/// Puts `bytes` at `path`, all or none of them.
pub(crate) fn replace_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    foveate_model::atomic::replace(path, |path| std::fs::write(path, bytes)).map_err(TrainError::io(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = replace_bytes(&folder.path().join("missing/state"), b"new").unwrap_err().to_string();
        assert!(error.contains("state"), "{error}");
        replace_bytes(&folder.path().join("state"), b"new").unwrap();
        assert_eq!(std::fs::read(folder.path().join("state")).unwrap(), b"new");
    }
}
