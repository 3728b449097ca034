//! The subcommands, one file each.

mod ask;
mod batch;
mod bench;
mod calibrate;
mod chat;
mod compare;
mod completions;
mod convert;
mod demo;
mod eval;
mod figures;
mod fit;
mod frontier;
mod inspect;
mod law_source;
mod look;
mod plan;
mod pull;
mod report;
mod serve;
mod sweep;
mod system;
mod train;

use clap::Subcommand;
use foveate_kernels::process;

use crate::Outcome;

/// What the program can do. The variants have no doc comments: one there would replace the longer help of its arguments.
#[derive(Subcommand)]
pub(crate) enum Command {
    Demo(demo::Arguments),
    Fit(Box<fit::Arguments>),
    Plan(Box<plan::Arguments>),
    Frontier(Box<frontier::Arguments>),
    Ask(Box<ask::Arguments>),
    Chat(Box<chat::Arguments>),
    Compare(Box<compare::Arguments>),
    Look(Box<look::Arguments>),
    Batch(Box<batch::Arguments>),
    Bench(Box<bench::Arguments>),
    Inspect(inspect::Arguments),
    Convert(convert::Arguments),
    Pull(pull::Arguments),
    Serve(Box<serve::Arguments>),
    Train(Box<train::Arguments>),
    Calibrate(calibrate::Arguments),
    Eval(Box<eval::Arguments>),
    Sweep(sweep::Arguments),
    Report(report::Arguments),
    Completions(completions::Arguments),
}

impl Command {
    /// Settles what the process must know before its first thread starts.
    pub(crate) fn prepare(&self) {
        // candle has a pool of its own for element-wise work, whose threads spin between two pieces of it on the cores that
        // our pool computes on: on two cores a training step took 0.84 s with it and 0.61 s without.
        process::set_default("CANDLE_NUM_THREADS", "1");
        // Not where a model only answers: its memory is to be little more than its weights once it has loaded them.
        if matches!(self, Command::Train(_) | Command::Sweep(_)) {
            process::keep_freed_memory();
        }
    }

    pub(crate) fn run(self) -> Outcome {
        match self {
            Command::Demo(arguments) => arguments.run(),
            Command::Fit(arguments) => arguments.run(),
            Command::Plan(arguments) => arguments.run(),
            Command::Frontier(arguments) => arguments.run(),
            Command::Ask(arguments) => arguments.run(),
            Command::Chat(arguments) => arguments.run(),
            Command::Compare(arguments) => arguments.run(),
            Command::Look(arguments) => arguments.run(),
            Command::Batch(arguments) => arguments.run(),
            Command::Bench(arguments) => arguments.run(),
            Command::Inspect(arguments) => arguments.run(),
            Command::Convert(arguments) => arguments.run(),
            Command::Pull(arguments) => arguments.run(),
            Command::Serve(arguments) => arguments.run(),
            Command::Train(arguments) => arguments.run(),
            Command::Calibrate(arguments) => arguments.run(),
            Command::Eval(arguments) => arguments.run(),
            Command::Sweep(arguments) => arguments.run(),
            Command::Report(arguments) => arguments.run(),
            Command::Completions(arguments) => arguments.run(),
        }
    }
}
