//! Scores while a run goes on: what cannot be measured is told in time, what is broken is named, an end is heard.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use foveate_train::estimate::estimate;
use foveate_train::evaluate::Score;
use foveate_train::log::{Event, Observer};
use foveate_train::recipe::Recipe;
use foveate_train::trainer::{Outcome, Trainer};

use crate::halves;

/// Four steps and scores at their end, with these changes.
fn recipe(folder: &Path, more: &[&str]) -> Recipe {
    let evaluated = [
        "stages.0.steps=4",
        "evaluation.questions=64",
        "evaluation.data=['halves-validation']",
        "evaluation.visual_tokens=[1, 4]",
    ];
    halves::recipe(folder, &[&evaluated[..], more].concat())
}

fn trainer(recipe: &Recipe, run: &Path, resume: bool) -> Trainer {
    Trainer::new(recipe.clone(), halves::student(recipe), run, resume, 1).unwrap()
}

/// The scores of a run that comes to its end.
fn scores(recipe: &Recipe, run: &Path, resume: bool) -> Vec<Score> {
    match trainer(recipe, run, resume).run(&mut (), &AtomicBool::new(false)).unwrap() {
        Outcome::Finished(scores) => scores,
        Outcome::Interrupted { step } => panic!("interrupted after {step} steps"),
    }
}

fn log(run: &Path) -> String {
    std::fs::read_to_string(run.join("log.jsonl")).unwrap()
}

fn evaluations(run: &Path) -> usize {
    log(run).lines().filter(|line| line.contains(r#""kind":"evaluation""#)).count()
}

#[test]
fn what_cannot_be_measured_is_told_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let missing = format!("data.halves-validation.path='{}/nowhere'", folder.path().display());
    for (set, said) in [
        ("evaluation.visual_tokens=[4, 5]", ["`evaluation.visual_tokens` is 5", "4, 1"]),
        (missing.as_str(), ["nowhere", "nowhere"]),
        ("families={ data=['halves'] }", ["`families.data` is reasoning", "two families"]),
    ] {
        let recipe = recipe(folder.path(), &[set]);
        let cost = estimate(&recipe, &halves::student(&recipe), 1).unwrap_err().to_string();
        let ended = trainer(&recipe, &run, false).run(&mut (), &AtomicBool::new(false));
        assert_eq!(cost, ended.unwrap_err().to_string());
        assert!(said.iter().all(|said| cost.contains(said)), "{set}: {cost}");
        assert!(!run.join("log.jsonl").exists(), "{set}: no step was taken");
    }
}

#[test]
fn a_question_longer_than_the_context_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &["tolerance=0.1"]);
    let metadata = folder.path().join("validation/metadata.jsonl");
    let text = std::fs::read_to_string(&metadata).unwrap();
    std::fs::write(&metadata, text.replacen("which", &"which ".repeat(200), 1)).unwrap();
    let run = folder.path().join("run");
    let found = scores(&recipe, &run, false);
    // Two questions about each of 32 pictures, but for one.
    assert!(found.len() == 2 && found.iter().all(|score| score.total().asked == 62), "{found:?}");
    let log = log(&run);
    let named = |line: &&str| line.contains("metadata.jsonl record 1:") && line.contains("room for 124");
    assert_eq!(log.lines().filter(named).count(), 1, "{log}");
}

#[test]
fn every_broken_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &["stages.0.steps=8", "tolerance=0.3"]);
    let is_torn = |nth: &usize| nth % 6 == 1;
    for split in ["train", "validation"] {
        let metadata = folder.path().join(split).join("metadata.jsonl");
        let text = std::fs::read_to_string(&metadata).unwrap();
        let line = |(nth, line): (usize, &str)| match is_torn(&nth) {
            true => "{\"torn\": 1}\n".to_owned(),
            false => format!("{line}\n"),
        };
        std::fs::write(&metadata, text.lines().enumerate().map(line).collect::<String>()).unwrap();
    }
    let run = folder.path().join("run");
    scores(&recipe, &run, false);
    let log = log(&run);
    // More than an error would have as examples: eight of 48 and six of 32.
    for (split, count) in [("train", 48), ("validation", 32)] {
        for nth in (0..count).filter(is_torn) {
            let record = format!("{split}/metadata.jsonl record {}:", nth + 1);
            assert!(log.contains(&record), "{record} in {log}");
        }
    }
}

/// Asks for an end as soon as the run is saved.
struct Stops<'a>(&'a AtomicBool);

impl Observer for Stops<'_> {
    fn on(&mut self, event: Event<'_>) {
        if matches!(event, Event::Saved { .. }) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_evaluation_is_given_up_when_the_run_is_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &["evaluation.every=2"]);
    let (run, stop) = (folder.path().join("run"), AtomicBool::new(false));
    let outcome = trainer(&recipe, &run, false).run(&mut Stops(&stop), &stop).unwrap();
    assert_eq!(outcome, Outcome::Interrupted { step: 2 });
    assert_eq!(evaluations(&run), 0);
    // It is made up for.
    assert_eq!(scores(&recipe, &run, true).len(), 2);
    assert_eq!(evaluations(&run), 2);
}

#[test]
fn scores_of_other_settings_are_not_taken_for_these() {
    let folder = tempfile::tempdir().unwrap();
    let (all, run) = (recipe(folder.path(), &[]), folder.path().join("run"));
    let fewer = recipe(folder.path(), &["evaluation.questions=10", "evaluation.visual_tokens=[4]"]);
    assert_eq!(scores(&all, &run, false).len(), 2);
    for _ in 0..2 {
        let [score] = &scores(&fewer, &run, true)[..] else { panic!("one number of visual tokens") };
        assert_eq!((score.visual_tokens, score.total().asked), (4, 10));
        assert_eq!(evaluations(&run), 2, "what is known is not measured again");
    }
    // A log of an older program does not say with what it measured: it is believed.
    let older = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("settings");
        format!("{line}\n")
    };
    let lines: String = log(&run).lines().map(older).collect();
    std::fs::write(run.join("log.jsonl"), lines).unwrap();
    assert_eq!(scores(&all, &run, true).len(), 1);
    assert_eq!(evaluations(&run), 2);
}
