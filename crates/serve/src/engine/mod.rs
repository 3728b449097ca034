//! Jobs in, events out: the thread that owns the model, seen from outside.

mod job;
mod meter;
mod scheduler;
#[cfg(test)]
mod tests;
mod writing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use job::{Answering, Done, Event, Failed, Job, Look, Milliseconds, Order, Picture, Piece};
pub use meter::{Meter, Work};
use scheduler::Scheduler;

use crate::backend::Backend;
use crate::metrics::Metrics;
use crate::options::Schedule;

/// The way to the model.
pub(crate) struct Engine {
    jobs: Mutex<Option<mpsc::Sender<Order>>>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    schedule: Schedule,
}

/// What the thread and the others look at.
pub(crate) struct Shared {
    meter: Mutex<Meter>,
    /// Set to end all work at once.
    cancelled: AtomicBool,
    /// Whether the thread is there.
    alive: AtomicBool,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    pub(crate) fn meter(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Every place in the queue is taken.
#[derive(Debug)]
pub(crate) struct Full {
    /// When one should be free.
    pub(crate) retry_after: Duration,
}

/// The thread has ended: the process must be started anew.
#[derive(Debug)]
pub(crate) struct Gone;

impl Engine {
    /// Starts the thread.
    pub(crate) fn start(
        backend: Arc<dyn Backend>,
        schedule: Schedule,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::channel();
        let shared = Arc::new(Shared {
            meter: Mutex::default(),
            cancelled: AtomicBool::new(false),
            alive: AtomicBool::new(true),
            metrics,
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            // Also when the thread panics.
            let _alive = Alive(of_thread.clone());
            Scheduler::new(&*backend, schedule, &of_thread).run(&inbox);
        })?;
        let places = Arc::new(Semaphore::new(schedule.parallel + schedule.queue));
        Ok((Self { jobs: Mutex::new(Some(jobs)), places, shared, schedule }, thread))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A place in the queue, before any work is done for a request.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Full> {
        self.places.clone().try_acquire_owned().map_err(|_| Full { retry_after: self.retry_after() })
    }

    /// Accepted requests, waiting or in progress.
    pub(crate) fn accepted(&self) -> usize {
        (self.schedule.parallel + self.schedule.queue).saturating_sub(self.places.available_permits())
    }

    /// Hands an order over.
    pub(crate) fn submit(&self, order: impl Into<Order>) -> Result<(), Gone> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.as_ref().ok_or(Gone)?.send(order.into()).map_err(|_| Gone)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Relaxed)
    }

    /// How long a new request waits for a place among those in progress.
    pub(crate) fn wait(&self) -> Duration {
        let ahead = (self.accepted() + 1).saturating_sub(self.schedule.parallel);
        let each =
            self.shared.meter().answer() / u32::try_from(self.schedule.parallel.max(1)).unwrap_or(u32::MAX);
        each.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    fn retry_after(&self) -> Duration {
        // A place is free as soon as the next answer ends.
        let each =
            self.shared.meter().answer() / u32::try_from(self.schedule.parallel.max(1)).unwrap_or(u32::MAX);
        each.clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// Takes no more jobs; the thread ends with the last one, or at once where `now`.
    pub(crate) fn stop(&self, now: bool) {
        if now {
            self.shared.cancelled.store(true, Ordering::Relaxed);
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Tells the others when the thread ends.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Relaxed);
    }
}
