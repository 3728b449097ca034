//! A run that is killed at any moment and goes on ends with the same bits as one that was left alone.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;

use foveate_train::log::{Event, Observer};
use foveate_train::trainer::Trainer;

use crate::halves;

const DATA: &str = "FOVEATE_TRAIN_TEST_DATA";
const RUN: &str = "FOVEATE_TRAIN_TEST_RUN";
const THREADS: &str = "FOVEATE_TRAIN_TEST_THREADS";
const STEPS: u64 = 12;

struct Tell;

impl Observer for Tell {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Step(report) = event {
            println!("step {}", report.step);
        }
    }
}

/// What the child processes of the tests below do; by itself it does nothing.
#[test]
fn child() {
    let (Ok(data), Ok(run)) = (std::env::var(DATA), std::env::var(RUN)) else { return };
    let threads = std::env::var(THREADS).unwrap().parse().unwrap();
    let recipe = halves::recipe(Path::new(&data), &[]);
    let mut trainer =
        Trainer::new(recipe.clone(), halves::student(&recipe), Path::new(&run), true, threads).unwrap();
    if let Err(error) = trainer.run(&mut Tell, &AtomicBool::new(false)) {
        println!("failed: {error}");
    }
}

fn start(program: &str, before: &[&str], data: &Path, run: &Path, threads: usize) -> Child {
    let mut command = Command::new(program);
    command.args(before).args(["resume::child", "--exact", "--nocapture"]);
    command.env(DATA, data).env(RUN, run).env(THREADS, threads.to_string());
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn this() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

/// Runs a child, kills it (SIGKILL) when it has told of `kill_at` steps done by it, and returns what it said.
fn child_said(mut child: Child, kill_at: Option<usize>) -> Vec<String> {
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        let told = line.find("step ").map(|at| line[at..].to_owned());
        said.extend(told.or_else(|| line.starts_with("failed").then_some(line)));
        if kill_at == Some(said.len()) {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

/// The weights and moments of the last checkpoint.
fn last_state(run: &Path) -> Vec<u8> {
    std::fs::read(run.join(format!("checkpoints/step-{STEPS:08}/state.safetensors"))).unwrap()
}

#[test]
fn killed_runs_end_with_the_same_bits_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone");
    let said = child_said(start(&this(), &[], folder.path(), &alone, 1), None);
    assert_eq!(said.len() as u64, STEPS, "{said:?}");
    let expected = last_state(&alone);

    // Kills before the first checkpoint, between two, and while one may be written (every second step).
    for (nth, kills) in [&[1, 1, 2][..], &[3, 2, 4], &[5, 1, 2]].into_iter().enumerate() {
        let run = folder.path().join(format!("killed-{nth}"));
        for (at, kill) in kills.iter().enumerate() {
            child_said(start(&this(), &[], folder.path(), &run, 1 + at % 2), Some(*kill));
        }
        let said = child_said(start(&this(), &[], folder.path(), &run, 2), None);
        assert!(said.iter().all(|line| line.starts_with("step")), "{said:?}");
        assert!(last_state(&run) == expected, "killed after {kills:?} steps");
        // The log tells each step once, whatever was done twice.
        let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
        let steps: Vec<u64> = log
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>());
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_takes_no_more_is_an_error_and_the_last_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    child_said(start(&this(), &[], folder.path(), &run, 1), Some(5));
    let checkpoints = || -> Vec<String> {
        let names = std::fs::read_dir(run.join("checkpoints")).unwrap();
        let mut names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // Files of more than 64 blocks of 512 bytes cannot be written; the signal that comes with it is ignored.
    let limited = ["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"", &this()];
    let said = child_said(start("sh", &limited, folder.path(), &run, 1), None);
    let failure = said.last().unwrap();
    assert!(failure.starts_with("failed") && failure.contains("state.safetensors"), "{said:?}");
    let whole: Vec<String> = checkpoints().into_iter().filter(|name| name.starts_with("step-")).collect();
    assert_eq!(checkpoints(), whole, "nothing half-written stays");
    // With room again the run ends as if nothing had been.
    child_said(start(&this(), &[], folder.path(), &run, 1), None);
    let alone = folder.path().join("alone");
    child_said(start(&this(), &[], folder.path(), &alone, 1), None);
    assert!(last_state(&run) == last_state(&alone));
}
