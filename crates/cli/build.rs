//! Tells the program which commit it is built from, where the checkout says it; model cards name it. And which of the files that
//! a model may do without foveate-nano has.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(error) = optional_files() {
        println!("cargo::error=optional files of foveate-nano: {error}");
    }
    // Every commit and every switch of branches adds a line here.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    // A package that merely lies inside of somebody's repository has no commit of its own.
    if git(&["ls-files", "--error-unmatch", "build.rs"]).is_none() {
        return;
    }
    if let Some(commit) = git(&["rev-parse", "HEAD"]) {
        println!("cargo::rustc-env=FOVEATE_COMMIT={commit}");
    }
}

/// Writes constants with the text of each of these files, or `None`.
fn optional_files() -> std::io::Result<()> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).unwrap_or_default();
    let folder = variable("CARGO_MANIFEST_DIR").join("../../assets/foveate-nano");
    // A file that appears changes its folder.
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut text = String::new();
    for (constant, name) in [("FAMILIES", "families.json"), ("LAWS", "laws.json")] {
        let path = folder.join(name);
        let value = if path.is_file() { included(&path) } else { "None".to_owned() };
        // Writing to a string cannot fail.
        _ = writeln!(text, "pub(crate) const {constant}: Option<&str> = {value};");
    }
    std::fs::write(variable("OUT_DIR").join("optional.rs"), text)
}

fn included(path: &Path) -> String {
    format!("Some(include_str!({:?}))", path.display().to_string())
}

/// One line of git's answer; nothing where there is no git, no repository, or an error.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}
