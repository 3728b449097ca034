//! `foveate frontier`: the best predicted error at every cost.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use foveate_law::plan::{Candidate, Resource, candidates, frontier};
use serde::Serialize;

use super::figures;
use super::law_source::LawSource;
use super::plan::candidate_table;
use super::system::System;
use crate::Outcome;
use crate::output::{Outputs, check_figure, print, print_json};

/// Show the best predicted error at every cost: no other choice has less error for as little.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What is spent.
    #[arg(long, value_enum, default_value_t = By::Flops)]
    by: By,
    #[command(flatten)]
    law: LawSource,
    #[command(flatten)]
    system: System,
    /// Draw it.
    #[arg(long, value_name = "FILE.svg|png")]
    plot: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum By {
    Flops,
    /// Time on this machine (full cost only)
    Time,
    Memory,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    resource: Resource,
    frontier: &'a [Candidate],
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        check_figure(self.plot.as_deref())?;
        let resource = match self.by {
            By::Flops => Resource::Flops,
            By::Time => Resource::Seconds,
            By::Memory => Resource::Memory,
        };
        let loaded = self.system.load(self.law.load()?, self.by == By::Time)?;
        let request = self.system.request(&loaded)?;
        let all = candidates(&request)?;
        if self.by == By::Time && all.iter().any(|candidate| candidate.cost.ms.is_none()) {
            return Err(crate::failure::Failure::user(
                "--by time needs --cost full: the paper's cost has no time",
            ));
        }
        let found = frontier(&all, resource);
        let mut outputs = Outputs::default();
        if let Some(path) = &self.plot {
            let title = "The best predicted error at every cost";
            outputs.stage_figure(path, &figures::candidates(title, &all, &found, resource, None, &[]))?;
        }
        outputs.commit()?;
        if self.json {
            return print_json(&Document { resource, frontier: &found });
        }
        print(&candidate_table(&found))
    }
}
