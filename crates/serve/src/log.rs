//! The log: one line for each thing that happened, on standard error, as text or JSON.
//!
//! Lines carry request ids, routes, statuses, counts and times; what was asked, shown and answered is in none of them unless
//! the operator wants that.

use tracing::Level;
use tracing_subscriber::fmt;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

/// Sends the log of this process to standard error. Called once; where a log was set up already, that one stays.
pub fn start_log(format: LogFormat) {
    let builder = fmt().with_writer(std::io::stderr).with_max_level(Level::INFO).with_target(false);
    // The second call of a process fails; its log is set up then.
    _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
