//! What a caller hears while models are fetched, and the clock that waits between tries.

use std::time::{Duration, SystemTime};

/// Something that happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A file begins: `present` of its `total` bytes are here from an earlier try.
    Started {
        /// Name of the file in its repository or wheel.
        name: &'a str,
        /// Bytes that are here already.
        present: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// More bytes of the file that began last.
    Advanced {
        /// How many.
        bytes: u64,
    },
    /// The server began again: bytes of the file that were here do not count any more.
    Restarted,
    /// The file that began last is complete and verified.
    Finished,
    /// Another process fetches this file; we wait for it.
    Waiting {
        /// Name of the file.
        name: &'a str,
    },
    /// The same request is made again after a wait.
    Retrying {
        /// Name of what is asked for.
        name: &'a str,
        /// The wait.
        wait: Duration,
        /// Why.
        reason: &'a str,
    },
    /// pip runs, and reports to nobody.
    Pip {
        /// NAME or NAME==VERSION.
        requirement: &'a str,
    },
}

/// Hears of every [`Event`], in order.
pub trait Progress {
    /// Called on the thread that fetches; returning late delays it.
    fn on(&self, event: Event<'_>);
}

/// Silence.
impl Progress for () {
    fn on(&self, _event: Event<'_>) {}
}

/// Time as the waits between tries see it; tests bring their own.
pub trait Clock {
    /// The time of day, for dates in `Retry-After`.
    fn now(&self) -> SystemTime;
    /// Returns after `wait`.
    fn sleep(&self, wait: Duration);
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep(&self, wait: Duration) {
        std::thread::sleep(wait);
    }
}
