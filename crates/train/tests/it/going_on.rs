//! What may change before a run goes on, and what may not.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foveate_data::{Order, Stream, Tolerance};
use foveate_train::recipe::Recipe;
use foveate_train::trainer::{Outcome, Trainer};

use crate::halves;

fn trainer(recipe: &Recipe, run: &Path, resume: bool) -> Trainer {
    Trainer::new(recipe.clone(), halves::student(recipe), run, resume, 1).unwrap()
}

/// Why a run does not go on.
fn refused(recipe: &Recipe, run: &Path) -> String {
    Trainer::new(recipe.clone(), halves::student(recipe), run, true, 1).err().unwrap().to_string()
}

#[test]
fn data_that_end_a_run_lose_no_step_and_may_be_tolerated_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let more = format!(
        "data.more={{ kind = 'folder', path = '{}/validation', held_out = true }}",
        folder.path().display()
    );
    let tolerant = ["checkpoints.every=1000", "tolerance=0.1", more.as_str(), "evaluation.data=['more']"];
    let tolerant = halves::recipe(folder.path(), &tolerant);
    let strict = halves::recipe(folder.path(), &["checkpoints.every=1000", "tolerance=0.0"]);
    // The last of 48 pictures, of which every step takes eight.
    let order = Order::Shuffled { seed: strict.seed, epoch: 0 };
    let stream = Stream::new(strict.data["halves"].open(2).unwrap(), order, Tolerance::default());
    let last = stream.last().unwrap().unwrap().name;
    let record: usize = last.rsplit(' ').next().unwrap().parse().unwrap();
    std::fs::write(folder.path().join(format!("train/{}.bmp", record - 1)), b"torn").unwrap();

    let error = trainer(&strict, &run, false).run(&mut (), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("1 of its 48 samples are broken"), "{error}");
    let mut resumed = trainer(&tolerant, &run, true);
    assert_eq!(resumed.step(), 5);
    let ended = resumed.run(&mut (), &AtomicBool::new(false)).unwrap();
    assert_eq!((ended, resumed.step()), (Outcome::Finished(Vec::new()), 12));
    drop(resumed);

    let other = halves::recipe(folder.path(), &["stages.0.batch=4"]);
    let error = refused(&other, &run);
    assert!(error.contains("another recipe") && error.contains("`tolerance`"), "{error}");
}

#[test]
fn data_that_changed_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (recipe, run) = (halves::recipe(folder.path(), &[]), folder.path().join("run"));
    trainer(&recipe, &run, false).run(&mut (), &AtomicBool::new(true)).unwrap();
    let metadata = folder.path().join("train/metadata.jsonl");
    let text = std::fs::read_to_string(&metadata).unwrap();

    let more: String = text.lines().take(12).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(&metadata, format!("{text}{more}")).unwrap();
    let error = refused(&recipe, &run);
    assert!(error.contains("data.halves has 60 samples, the run began with 48"), "{error}");
    // As many, from whose words another tokenizer is learnt.
    std::fs::write(&metadata, text.replace("colour", "paint")).unwrap();
    let error = refused(&recipe, &run);
    assert!(error.contains("the tokenizer has the SHA-256"), "{error}");

    // A checkpoint of an older program says nothing of them.
    let state = run.join("checkpoints/step-00000001/state.json");
    let mut older: serde_json::Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    older.as_object_mut().unwrap().remove("material");
    std::fs::write(&metadata, text).unwrap();
    assert_eq!(trainer(&recipe, &run, true).step(), 1);
    std::fs::write(&state, older.to_string()).unwrap();
    let mut resumed = trainer(&recipe, &run, true);
    resumed.run(&mut (), &AtomicBool::new(false)).unwrap();
    assert_eq!(resumed.step(), 12);
}
