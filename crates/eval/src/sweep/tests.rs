#![allow(clippy::unwrap_used)]
//! The loop on models that answer at once: processes are played by threads and by errors in the middle of things. The program
//! itself is killed in `tests/sweep.rs` of the workspace.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::run::{Question, Reply, Trouble};

const PLAN: &str = r#"
    name = "test"
    seeds = [1, 2]
    visual_tokens = [1, 4]
    limit = 20
    [[models]]
    name = "small"
    recipe = "none.toml"
    [[models]]
    name = "large"
    model = "there"
    [tasks.scenes]
    data = { kind = "scenes", split = "validation", seed = 1, length = 100, side = 16 }
"#;

/// Makes models by writing a file, and answers with a word that hangs on the question and on V.
struct Source<'a> {
    folder: &'a Folder,
    made: &'a AtomicUsize,
    /// Questions after which the source fails.
    patience: usize,
}

struct Oracle {
    visual_tokens: usize,
    patience: usize,
}

impl System for Oracle {
    type Error = EvalError;

    fn ask(&mut self, question: &Question<'_>) -> std::result::Result<Reply, Trouble<EvalError>> {
        if self.patience == 0 {
            return Err(Trouble::System(EvalError::format("machine", "killed")));
        }
        self.patience -= 1;
        let yes = (question.text.len() + self.visual_tokens).is_multiple_of(2);
        let text = if yes { "yes" } else { "no" }.to_owned();
        Ok(Reply { text, chosen: None, visual_tokens: self.visual_tokens, flops: 1e6, ms: 1.0 })
    }
}

impl ModelSource for Source<'_> {
    type Error = EvalError;
    type System = Oracle;

    fn fingerprint(&self, run: &RunSpec) -> Result<Option<String>> {
        let content = || std::fs::read_to_string(self.folder.path().join("there")).unwrap_or_default();
        Ok(run.word.is_some().then(content))
    }

    fn is_ready(&self, run: &RunSpec) -> bool {
        run.word.is_some() || self.folder.run(run).exists()
    }

    fn make(&mut self, run: &RunSpec) -> Result<()> {
        self.made.fetch_add(1, Ordering::Relaxed);
        std::fs::write(self.folder.run(run), "model").unwrap();
        Ok(())
    }

    fn open(&mut self, cell: &Cell) -> Result<Opened<Oracle>> {
        let params = if cell.run.model == "small" { 1_000 } else { 2_000 };
        let system = Oracle { visual_tokens: cell.visual_tokens, patience: self.patience };
        self.patience = self.patience.saturating_sub(20);
        Ok(Opened { system, params, body_params: params, compressor: "oracle".into() })
    }
}

fn plan() -> Plan {
    Plan::parse("plan.toml", PLAN).unwrap()
}

fn sorted(folder: &Folder) -> Vec<Row> {
    let mut rows = folder.results().rows().unwrap();
    rows.sort_by(|one, other| one.cell.cmp(&other.cell));
    rows
}

fn undisturbed() -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let (folder, made) = (Folder::open(home.path()).unwrap(), AtomicUsize::new(0));
    let mut source = Source { folder: &folder, made: &made, patience: usize::MAX };
    let mut finished = Vec::new();
    sweep(&plan(), &folder, &mut source, &mut |event| {
        if let Event::Finished { done, of, .. } = event {
            finished.push((done, of));
        }
    })
    .unwrap();
    assert_eq!(finished, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
    assert_eq!(made.into_inner(), 2, "each seed of the model with a recipe");
    assert!(folder.results().parquet().is_file());
    sorted(&folder)
}

#[test]
fn a_sweep_that_fails_anywhere_ends_with_the_rows_of_one_that_does_not() {
    let rows = undisturbed();
    assert_eq!(rows.len(), 8);
    for patience in [0, 1, 19, 20, 33] {
        let home = tempfile::tempdir().unwrap();
        let (folder, made) = (Folder::open(home.path()).unwrap(), AtomicUsize::new(0));
        let mut attempts = 0;
        loop {
            // Each attempt gets a little further.
            let mut source = Source { folder: &folder, made: &made, patience: patience + attempts };
            attempts += 1;
            match sweep(&plan(), &folder, &mut source, &mut |_| ()) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.to_string(), "machine: killed"),
            }
        }
        assert!(attempts > 1);
        assert_eq!(sorted(&folder), rows);
        assert_eq!(made.into_inner(), 2);
    }
}

#[test]
fn several_workers_share_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let (folder, made) = (Folder::open(home.path()).unwrap(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut source = Source { folder: &folder, made: &made, patience: usize::MAX };
                sweep(&plan(), &folder, &mut source, &mut |_| ()).unwrap();
            });
        }
    });
    assert_eq!(sorted(&folder), undisturbed());
    assert_eq!(made.into_inner(), 2);
}

#[test]
fn rows_of_another_plan_are_not_taken_for_ours() {
    let home = tempfile::tempdir().unwrap();
    let (folder, made) = (Folder::open(home.path()).unwrap(), AtomicUsize::new(0));
    let mut source = Source { folder: &folder, made: &made, patience: usize::MAX };
    sweep(&plan(), &folder, &mut source, &mut |_| ()).unwrap();
    let other = Plan::parse("plan.toml", &PLAN.replace("limit = 20", "limit = 21")).unwrap();
    let error = sweep(&other, &folder, &mut source, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("small-s1-v1-own-scenes was made with other settings"), "{error}");
    // So are those of a model whose files have changed.
    std::fs::write(folder.path().join("there"), "other weights").unwrap();
    let error = sweep(&plan(), &folder, &mut source, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("was made with other settings") && error.contains("-own-scenes"), "{error}");
    std::fs::remove_file(folder.path().join("there")).unwrap();
    // A plan that asks for more goes on with what is there.
    let more = Plan::parse("plan.toml", &PLAN.replace("[1, 4]", "[1, 4, 16]")).unwrap();
    let mut new = 0;
    sweep(&more, &folder, &mut source, &mut |event| {
        new += usize::from(matches!(event, Event::Finished { .. }))
    })
    .unwrap();
    assert_eq!((new, sorted(&folder).len()), (4, 12));
}
