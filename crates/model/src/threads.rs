//! The threads that all products of the process share: those of `foveate_nn`.

pub use foveate_nn::threads::{abreast, pool};

use crate::{ModelError, Result};

/// Uses `threads` threads from now on, the calling one among them; products that are running keep theirs.
///
/// # Errors
/// [`ModelError::Kernels`] unless there are 1 to 1024 threads and the operating system grants them.
pub fn set(threads: usize) -> Result<()> {
    foveate_nn::threads::set(threads).map_err(ModelError::Kernels)
}
