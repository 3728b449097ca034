//! The subcommands, one file each.

mod ask;
mod chat;
mod completions;
mod figures;
mod fit;
mod frontier;
mod inspect;
mod law_source;
mod plan;
mod pull;
mod system;

use clap::Subcommand;

use crate::Outcome;

/// What the program can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Fit a scaling law to measurements and say what they can and cannot tell.
    Fit(Box<fit::Arguments>),
    /// Turn a budget into the best language model and number of visual tokens.
    Plan(Box<plan::Arguments>),
    /// Show the best predicted error at every cost.
    Frontier(Box<frontier::Arguments>),
    /// Answer a question, about images or without any.
    Ask(Box<ask::Arguments>),
    /// Talk with a language model.
    Chat(Box<chat::Arguments>),
    /// Show what a model file or folder holds, and what a question to it costs.
    Inspect(inspect::Arguments),
    Pull(pull::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Outcome {
        match self {
            Command::Fit(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Frontier(arguments) => arguments.run(),
            Command::Ask(arguments) => arguments.run(),
            Command::Chat(arguments) => arguments.run(),
            Command::Inspect(arguments) => arguments.run(),
            Command::Pull(arguments) => arguments.run(),
            Command::Completions(arguments) => arguments.run(),
        }
    }
}
