//! One run in a folder at a time.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::{Result, TrainError};

/// Keeps other runs out of a folder as long as it lives; the system takes it back from a process that is killed.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the file `lock` of `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`TrainError::Io`]; [`TrainError::Checkpoint`] where another run has it.
    pub(crate) fn of(folder: &Path) -> Result<Lock> {
        fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let path = folder.join("lock");
        let file = File::options().create(true).append(true).open(&path).map_err(TrainError::io(&path))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(TrainError::checkpoint(folder, "another run is at work there"))
            }
            // Where there are no locks, there are none.
            Err(TryLockError::Error(_)) | Ok(()) => Ok(Lock(file)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started holds the file until it becomes another program.
        _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_free_again_when_its_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let lock = Lock::of(&run).unwrap();
        let error = Lock::of(&run).unwrap_err().to_string();
        assert!(error.contains("run: another run is at work there"), "{error}");
        drop(lock);
        Lock::of(&run).unwrap();
        Lock::of(&run).unwrap();
    }
}
