//! `foveate completions`: a script for bash, zsh, fish, PowerShell or elvish.

use clap::{Args, CommandFactory};

use crate::Outcome;
use crate::output::print;

/// Print a completion script for a shell.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "foveate", &mut script);
        print(String::from_utf8_lossy(&script).trim_end())
    }
}
