//! The threads that all products of the process share.
//!
//! One pool for the process, as rayon and PyTorch have it: several would compete for the same cores. Results do not
//! depend on the number of threads, to the bit.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use foveate_kernels::{Pool, Result};

static POOL: RwLock<Option<Arc<Pool>>> = RwLock::new(None);
/// For whoever has one core to himself.
static ALONE: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::single()));
/// Threads inside of [`abreast`].
static ABREAST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is one of them.
    static IS_ABREAST: Cell<bool> = const { Cell::new(false) };
}

/// The threads there are; as many as the machine has cores unless [`set`] said otherwise.
pub fn pool() -> Arc<Pool> {
    let pool = shared();
    if IS_ABREAST.get() && ABREAST.load(Ordering::Relaxed) >= pool.threads() {
        return Arc::clone(&ALONE);
    }
    pool
}

fn shared() -> Arc<Pool> {
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

/// Runs `work` as one of several that run at the same time, each on a thread of its own, as the parts of a training step.
///
/// While there are as many of them as the pool has threads, each computes on its own thread alone: a pool that helped one
/// of them would only take its core from another. When some have ended, the others have the pool again.
pub fn abreast<R>(work: impl FnOnce() -> R) -> R {
    let _count = Counted::new();
    work()
}

/// A thread that is counted in [`ABREAST`], whatever its work ends with.
struct Counted {
    /// Inside of another one, which counts already.
    again: bool,
}

impl Counted {
    fn new() -> Counted {
        let again = IS_ABREAST.replace(true);
        if !again {
            ABREAST.fetch_add(1, Ordering::Relaxed);
        }
        Counted { again }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if !self.again {
            IS_ABREAST.set(false);
            ABREAST.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Barrier;

    use super::*;

    /// One test, because the count is the process's.
    #[test]
    fn those_who_fill_the_machine_compute_alone_until_one_ends() {
        let threads = shared().threads();
        // Everybody is in, everybody has looked; one has left, everybody else has looked again.
        let (inside, looked, fewer, again) =
            (Barrier::new(threads), Barrier::new(threads), Barrier::new(threads), Barrier::new(threads));
        let look = || {
            inside.wait();
            let found = abreast(|| pool().threads());
            looked.wait();
            found
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| abreast(look));
            let others: Vec<_> = (1..threads)
                .map(|_| {
                    scope.spawn(|| {
                        abreast(|| {
                            let before = look();
                            fewer.wait();
                            let after = pool().threads();
                            again.wait();
                            (before, after)
                        })
                    })
                })
                .collect();
            assert_eq!(first.join().unwrap(), 1);
            fewer.wait();
            // A thread that is not one of them has the pool whatever the others do.
            let own = pool().threads();
            again.wait();
            assert_eq!(own, threads);
            for other in others {
                assert_eq!(other.join().unwrap(), (1, threads));
            }
        });
        assert_eq!(ABREAST.load(Ordering::Relaxed), 0);
        let caught = std::panic::catch_unwind(|| abreast(|| panic!("on purpose")));
        assert!(caught.is_err() && ABREAST.load(Ordering::Relaxed) == 0 && !IS_ABREAST.get());
    }
}
