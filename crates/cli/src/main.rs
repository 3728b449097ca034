//! The `foveate` program: parse, run one subcommand, turn its outcome into an exit code.

mod answer;
mod auto;
mod commands;
mod evaluated;
mod failure;
mod fetch;
mod gaze;
mod generation;
mod looking;
mod machine;
mod model;
mod output;
mod panels;
mod text;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;
use failure::Failure;

/// Find how many visual tokens and how large a language model a budget should buy.
///
/// Exit codes: 0 success, 2 a path or value that you gave cannot be used, 1 any other failure; `train` that was stopped by
/// a signal and saved itself: 128 and the signal's number, 130 after Ctrl-C, 143 after SIGTERM.
#[derive(Parser)]
#[command(name = "foveate", version, max_term_width = 100, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    command.prepare();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Everything a subcommand's outcome can be.
type Outcome = Result<(), Failure>;
