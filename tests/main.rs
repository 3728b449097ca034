//! The program as its user sees it: one process a test, judged by its output, its exit code and what it leaves behind.
#![allow(clippy::unwrap_used)]

mod ask;
mod auto;
mod bench;
mod budgets;
mod chat;
mod convert;
mod demo;
mod errors;
mod evaluate;
mod fetch;
mod fit;
mod inspect;
mod parts;
mod plan;
mod pull;
mod serve;
#[path = "../crates/hub/tests/stand_in/mod.rs"]
mod stand_in;
mod sweep;
mod train;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// The published reasoning table as a file.
const REASONING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../law/data/reasoning.csv");

fn foveate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foveate")).args(arguments).output().unwrap()
}

/// Standard output of a run that succeeds without a word on standard error.
fn succeeds(arguments: &[&str]) -> String {
    let output = foveate(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON document of a run that succeeds.
fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeds(arguments)).unwrap()
}

/// Standard error of a run that refuses what it was given: exit code 2, one message, nothing on standard output.
fn refuses(arguments: &[&str]) -> String {
    let output = foveate(arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
    assert!(output.stdout.is_empty() && errors.starts_with("error: "), "{arguments:?}: {errors}");
    errors
}

/// A file or folder of `fixtures/`.
fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn help_names_every_command_and_completions_know_their_flags() {
    let help = succeeds(&["--help"]);
    for command in [
        "demo",
        "fit",
        "plan",
        "frontier",
        "ask",
        "chat",
        "compare",
        "look",
        "batch",
        "bench",
        "inspect",
        "convert",
        "pull",
        "train",
        "calibrate",
        "eval",
        "sweep",
        "report",
        "serve",
        "completions",
    ] {
        assert!(help.contains(command), "{help}");
    }
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(succeeds(&["completions", shell]).contains("plot-breakdown"), "{shell}");
    }
}

#[test]
fn a_reader_that_stops_is_no_failure() {
    use std::io::Read;
    let mut child = Command::new(env!("CARGO_BIN_EXE_foveate"))
        .args(["frontier", "--bootstrap", "0", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Reading a little and closing the pipe is what `| head` does.
    child.stdout.take().unwrap().read_exact(&mut [0; 8]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
