//! Failures and their exit codes: 2 for what the user gave, 128 and a signal's number, 1 for the rest.

use std::io::Write;
use std::process::ExitCode;

use crate::text::without_controls;

/// Why a subcommand did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A path or value that the user gave.
    User(anyhow::Error),
    /// Anything else.
    Other(anyhow::Error),
    /// Whoever read our output closed it: not a failure of ours.
    Closed,
    /// A signal asked for an early end; what there was to save and to say is saved and said.
    Stopped {
        /// Its number.
        signal: u8,
    },
}

impl Failure {
    /// A value that the user gave, with what is allowed.
    pub(crate) fn user(message: impl std::fmt::Display) -> Failure {
        Failure::User(anyhow::anyhow!("{message}"))
    }

    /// A calculation of the tensor library that failed: not the user's doing.
    pub(crate) fn calculation(error: candle_core::Error) -> Failure {
        Failure::Other(error.into())
    }

    /// The same failure in other words, made of its message.
    pub(crate) fn reworded(self, reword: impl FnOnce(String) -> String) -> Failure {
        match self {
            Failure::User(error) => Failure::User(anyhow::Error::msg(reword(error.to_string()))),
            Failure::Other(error) => Failure::Other(anyhow::Error::msg(reword(error.to_string()))),
            other => other,
        }
    }

    /// The message alone.
    pub(crate) fn message(&self) -> String {
        match self {
            Failure::User(error) | Failure::Other(error) => error.to_string(),
            Failure::Closed | Failure::Stopped { .. } => String::new(),
        }
    }

    /// Prints the message and gives the exit code.
    ///
    /// Names in files stand in messages; a terminal must not obey what they hold.
    pub(crate) fn report(self) -> ExitCode {
        let (error, code) = match self {
            Failure::User(error) => (error, 2),
            Failure::Other(error) => (error, 1),
            Failure::Closed => return ExitCode::SUCCESS,
            // As shells count those that a signal ended.
            Failure::Stopped { signal } => return ExitCode::from(128_u8.saturating_add(signal)),
        };
        // Standard error may be closed as well; the exit code still tells.
        let _ = writeln!(anstream::stderr(), "error: {}", without_controls(&error.to_string()));
        ExitCode::from(code)
    }
}

/// Errors of the libraries are about tables, options, catalogues, models, images and paths: all given by the user.
macro_rules! from_user {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::User(error.into())
            }
        })*
    };
}

from_user!(
    foveate_data::image::DecodeError,
    foveate_data::image::PreprocessError,
    foveate_data::prompt::PromptError,
    foveate_eval::EvalError,
    foveate_law::LawError,
    foveate_law::cost::CostError,
    foveate_law::plan::PlanError,
    foveate_law::plot::PlotError,
    foveate_model::WeightsError,
    foveate_model::weights::convert::ConvertError
);

impl From<foveate_model::ModelError> for Failure {
    fn from(error: foveate_model::ModelError) -> Failure {
        match error {
            foveate_model::ModelError::Tensor(_) => Failure::Other(error.into()),
            _ => Failure::User(error.into()),
        }
    }
}

/// Some failures of training are the numbers' own.
impl From<foveate_train::TrainError> for Failure {
    fn from(error: foveate_train::TrainError) -> Failure {
        if error.is_users() { Failure::User(error.into()) } else { Failure::Other(error.into()) }
    }
}

/// Some failures of fetching are the network's or the hub's.
impl From<foveate_hub::HubError> for Failure {
    fn from(error: foveate_hub::HubError) -> Failure {
        if error.is_users() { Failure::User(error.into()) } else { Failure::Other(error.into()) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::Other(error.into())
    }
}

/// Standard output is the only place that is written without naming it.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Other(anyhow::anyhow!("standard output: {error}")),
        }
    }
}
