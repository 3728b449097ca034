//! The threads that all products of the process share.
//!
//! One pool for the process, as rayon and PyTorch have it: several would compete for the same cores. Results do not
//! depend on the number of threads, to the bit.

use std::sync::{Arc, PoisonError, RwLock};

use foveate_kernels::{Pool, Result};

static POOL: RwLock<Option<Arc<Pool>>> = RwLock::new(None);

/// The threads there are; as many as the machine has cores unless [`set`] said otherwise.
pub fn pool() -> Arc<Pool> {
    if let Some(pool) = &*POOL.read().unwrap_or_else(PoisonError::into_inner) {
        return Arc::clone(pool);
    }
    let mut pool = POOL.write().unwrap_or_else(PoisonError::into_inner);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let start = || Arc::new(Pool::new(cores).unwrap_or_else(|_| Pool::single()));
    Arc::clone(pool.get_or_insert_with(start))
}

/// Uses `threads` threads from now on, the calling one among them; products that are running keep theirs.
///
/// # Errors
/// [`Error::Size`](foveate_kernels::Error::Size) unless there are 1 to 1024 threads and the operating system grants them.
pub fn set(threads: usize) -> Result<()> {
    let fresh = Arc::new(Pool::new(threads)?);
    *POOL.write().unwrap_or_else(PoisonError::into_inner) = Some(fresh);
    Ok(())
}
