//! From options to a running server, and to its end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::backend::Backend;
use crate::engine::Engine;
use crate::files::Files;
use crate::http::{App, AppState, router, sweep_files, warm_up};
use crate::metrics::Metrics;
use crate::options::Options;

/// What clients get to be told when the time to stop is over.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The folder of the files cannot be used.
    #[error("files: {0}")]
    Files(io::Error),
    /// The first answer, which the server gives itself, failed.
    #[error("the model gives no answer: {0}")]
    WarmUp(String),
    /// Threads or signals that the operating system does not grant.
    #[error(transparent)]
    System(io::Error),
}

/// Serves `backend` until the process is told to stop (SIGTERM, or Ctrl-C). Accepted requests are then finished, as far as
/// [`Options::grace`] allows.
///
/// # Errors
/// [`ServeError`], before the first request.
pub fn serve(backend: Arc<dyn Backend>, options: Options) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(ServeError::System)?;
    let outcome = runtime.block_on(run(backend, options));
    // A fetch that hangs must not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    outcome
}

async fn run(backend: Arc<dyn Backend>, options: Options) -> Result<(), ServeError> {
    let mut stop = Stop::new().map_err(ServeError::System)?;
    let (address, grace, limits) = (options.address, options.grace, options.limits);
    let listen = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let files = Files::open(&options.files).map_err(ServeError::Files)?;
    let caches = backend.viewer().map(|viewer| viewer.caches().clone());
    let metrics = Arc::new(Metrics::new(caches));
    let (engine, thread) =
        Engine::start(backend.clone(), options.schedule, metrics.clone()).map_err(ServeError::System)?;
    let app: App = Arc::new(AppState::new(backend, engine, files, metrics, options));
    tracing::info!(%address, model = app.options.model, "listening");

    let warming = tokio::spawn({
        let app = app.clone();
        async move {
            let warm = warm_up(&app).await;
            if warm.is_ok() {
                app.set_ready(true);
                tracing::info!("ready");
            }
            warm
        }
    });
    let sweeping = tokio::spawn(sweep_files(app.clone()));

    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(limits.connections));
    let router = TowerToHyperService::new(router(app.clone()));
    let mut http = http1::Builder::new();
    // Below 8 KiB hyper would not work at all.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes.max(8 << 10));
    tokio::pin!(warming);
    let mut warm = false;
    loop {
        let accepted = async {
            // One that is full leaves further connections to the operating system's queue.
            let place = connections.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            signal = stop.wait() => {
                tracing::info!(signal, accepted = app.engine.accepted(), "stopping");
                break;
            }
            outcome = &mut warming, if !warm => {
                warm = true;
                match outcome {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Err(ServeError::WarmUp(error.message().to_owned())),
                    Err(error) => return Err(ServeError::WarmUp(error.to_string())),
                }
            }
        };
        let stream = match (place, accepted) {
            (Ok(place), Ok((stream, _))) => (place, stream),
            (_, Err(error)) => {
                // Too many open files, mostly: it passes, but not at once.
                tracing::warn!(%error, "a connection failed");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            (Err(_), _) => continue,
        };
        let (place, stream) = stream;
        // Tokens are small and should not wait for each other.
        _ = stream.set_nodelay(true);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), router.clone()));
        tokio::spawn(async move {
            // A client that breaks its connection or sends no HTTP is its own affair.
            _ = connection.await;
            drop(place);
        });
    }

    drop(listener);
    app.set_ready(false);
    sweeping.abort();
    let whole = timeout(grace, graceful.shutdown()).await.is_ok();
    app.engine.stop(!whole);
    if !whole {
        tracing::warn!(accepted = app.engine.accepted(), "the time to stop is over");
    }
    let ended = tokio::task::spawn_blocking(move || thread.join());
    let ended = timeout(LAST_WORDS, ended).await;
    if !whole {
        // The errors are on their way.
        sleep(Duration::from_millis(100)).await;
    }
    tracing::info!(whole, thread_ended = ended.is_ok(), "stopped");
    Ok(())
}

/// The order to stop.
struct Stop {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => "terminate",
            _ = tokio::signal::ctrl_c() => "interrupt",
        }
        #[cfg(not(unix))]
        {
            _ = tokio::signal::ctrl_c().await;
            "interrupt"
        }
    }
}
