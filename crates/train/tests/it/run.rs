//! Whole runs: the loss falls, the model beats what can be guessed, the exported folder answers alike.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foveate_data::baseline::QuestionOnly;
use foveate_data::image::decode_file;
use foveate_model::Dtype;
use foveate_model::vlm::Vlm;
use foveate_train::evaluate::evaluate;
use foveate_train::features::FeatureCache;
use foveate_train::forward;
use foveate_train::log::{Event, Observer, StepReport, read_events};
use foveate_train::recipe::Group;
use foveate_train::student::{Scope, Storage};
use foveate_train::trainer::{Outcome, Trainer};

use crate::halves;

#[derive(Default)]
struct Seen {
    steps: Vec<StepReport>,
    saved: Vec<u64>,
}

impl Observer for Seen {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Step(report) => self.steps.push(report.clone()),
            Event::Saved { step } => self.saved.push(step),
            _ => {}
        }
    }
}

const LEARN: [&str; 5] = [
    "stages.0.steps=150",
    "checkpoints.every=100",
    "evaluation.questions=64",
    "evaluation.data=['halves-validation']",
    "evaluation.visual_tokens=[1, 4]",
];

#[test]
fn a_minute_of_training_beats_guessing_at_every_rung() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &LEARN);
    let run = folder.path().join("run");
    let mut trainer = Trainer::new(recipe.clone(), halves::student(&recipe), &run, false, 2).unwrap();
    let mut seen = Seen::default();
    let outcome = trainer.run(&mut seen, &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(scores) = outcome else { panic!("{outcome:?}") };
    let mean =
        |reports: &[StepReport]| reports.iter().map(|report| report.loss).sum::<f64>() / reports.len() as f64;
    let (first, last) = (mean(&seen.steps[..10]), mean(&seen.steps[140..]));
    assert!(last < 0.3 * first, "the loss fell from {first} to {last}");
    assert_eq!(seen.saved, [100, 150]);

    let questions = |name: &str| {
        let source = recipe.data[name].open(2).unwrap();
        (0..source.len()).flat_map(|at| source.sample(at).unwrap().questions).collect::<Vec<_>>()
    };
    let baseline =
        QuestionOnly::fit(&questions("halves")).measure(&questions("halves-validation")).overall.best();
    assert!(baseline < 0.4, "{baseline}");
    for score in &scores {
        let total = score.total();
        assert_eq!(total.asked, 64);
        // Five standard errors above guessing.
        let error = (baseline * (1.0 - baseline) / 64.0).sqrt();
        assert!(score.accuracy() > baseline + 5.0 * error, "{score:?} against {baseline}");
    }

    // The log has every step and the last scores; TensorBoard's file says the same.
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains(r#""kind":"step""#)).count(), 150);
    assert_eq!(log.lines().filter(|line| line.contains(r#""kind":"evaluation""#)).count(), 1);
    let events = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().path());
    let events = events.into_iter().find(|path| path.display().to_string().contains("tfevents")).unwrap();
    let losses: Vec<_> =
        read_events(&events).unwrap().into_iter().filter(|scalar| scalar.tag == "loss").collect();
    assert_eq!((losses.len(), losses[149].step), (150, 150));
    assert_eq!(losses[7].value, seen.steps[7].loss as f32);

    // What is exported is the model that was measured.
    exported_answers_alike(&trainer, &folder.path().join("exported"), folder.path());
}

fn exported_answers_alike(trainer: &Trainer, to: &Path, data: &Path) {
    let student = trainer.student();
    student.save(to, Storage::F32, Scope::Whole).unwrap();
    let (own, opened) = (student.vlm(&[]).unwrap(), Vlm::open(to, None, Dtype::F32).unwrap());
    let image = decode_file(&data.join("validation/1003.bmp"), &Default::default()).unwrap();
    let pixels = student.preprocessor.apply(&image).unwrap().tiles.remove(0);
    let pixels =
        candle_core::Tensor::from_vec(pixels.data, (1, 3, 16, 16), &candle_core::Device::Cpu).unwrap();
    let states = |vlm: &Vlm| {
        let features = forward::features(vlm, &pixels).unwrap();
        let depth = vlm.compressor().needs().states[0];
        features.patches(depth).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    // Packed products round in another order.
    for (own, opened) in states(&own).iter().zip(states(&opened)) {
        assert!((own - opened).abs() < 1e-4, "{own} {opened}");
    }
    let tokenizer = tokenizers::Tokenizer::from_file(to.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.to_string(false).unwrap(), student.tokenizer.to_string(false).unwrap());
}

#[test]
fn features_of_a_frozen_tower_are_kept_and_mended() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &["stages.0.rates={ compressor = 1e-3 }"]);
    let student = halves::student(&recipe);
    let vlm = student.vlm(&[Group::Compressor]).unwrap();
    let pixels = candle_core::Tensor::arange(0_f32, 2.0 * 768.0, &candle_core::Device::Cpu).unwrap();
    let pixels = ((pixels / 800.0).unwrap() - 1.0).unwrap().reshape((2, 3, 16, 16)).unwrap();
    let depth = vlm.compressor().needs().states[0];
    let flat = |features: foveate_compress::Features| {
        features.patches(depth).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let exact = flat(forward::features(&vlm, &pixels).unwrap());

    let place = folder.path().join("features");
    let cache = FeatureCache::open(&place, 1 << 20, student.network(), &vlm).unwrap();
    let first = flat(cache.features(&vlm, &pixels).unwrap());
    let again = flat(cache.features(&vlm, &pixels).unwrap());
    assert_eq!(cache.statistics(), (2, 2));
    assert_eq!(first, again);
    // f16 keeps 11 bits.
    assert!(
        exact.iter().zip(&first).all(|(exact, kept)| (exact - kept).abs() <= exact.abs() / 1024.0 + 1e-6)
    );

    // A torn file and one with a wrong byte are computed anew, and replaced.
    let files: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &bytes[..bytes.len() / 2]).unwrap();
    bytes = std::fs::read(&files[1]).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 4;
    std::fs::write(&files[1], &bytes).unwrap();
    assert_eq!(flat(cache.features(&vlm, &pixels).unwrap()), first);
    assert_eq!(cache.statistics(), (2, 4));
    assert_eq!(flat(cache.features(&vlm, &pixels).unwrap()), first);
    assert_eq!(cache.statistics(), (4, 4));

    // No room: nothing is written, everything is computed.
    let full = FeatureCache::open(&folder.path().join("full"), 100, student.network(), &vlm).unwrap();
    assert_eq!(flat(full.features(&vlm, &pixels).unwrap()), first);
    assert_eq!(std::fs::read_dir(folder.path().join("full")).unwrap().count(), 0);
    // A tower that is trained has no lasting features.
    let trained = halves::recipe(folder.path(), &[]);
    let trained = halves::student(&trained);
    assert!(
        FeatureCache::open(&place, 1, trained.network(), &vlm)
            .unwrap_err()
            .to_string()
            .contains("0 where the tower is trained")
    );
}

#[test]
fn broken_pictures_are_skipped_up_to_the_tolerance() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &["stages.0.steps=8", "tolerance=0.1"]);
    for at in [3, 17] {
        std::fs::write(folder.path().join(format!("train/{at}.bmp")), b"torn").unwrap();
    }
    let mut trainer =
        Trainer::new(recipe.clone(), halves::student(&recipe), &folder.path().join("a"), false, 1).unwrap();
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    // 8 steps of 8 pictures are an epoch and a third: each broken one was met once or twice, and named.
    let log = std::fs::read_to_string(folder.path().join("a/log.jsonl")).unwrap();
    let named = |name: &str| log.lines().filter(|line| line.contains(name)).count();
    assert!((1..=2).contains(&named("3.bmp")) && (1..=2).contains(&named("17.bmp")), "{log}");
    let strict = halves::recipe(folder.path(), &["stages.0.steps=8", "tolerance=0.0"]);
    std::fs::write(folder.path().join("train/3.bmp"), b"torn").unwrap();
    let mut trainer =
        Trainer::new(strict.clone(), halves::student(&strict), &folder.path().join("b"), false, 1).unwrap();
    let error = trainer.run(&mut (), &AtomicBool::new(false)).unwrap_err().to_string();
    assert!(error.contains("1 of its 48 samples are broken") && error.contains("3.bmp"), "{error}");
}

#[test]
fn an_interrupted_run_saves_itself_and_a_folder_holds_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &["checkpoints.every=1000"]);
    let run = folder.path().join("run");
    let mut trainer = Trainer::new(recipe.clone(), halves::student(&recipe), &run, false, 1).unwrap();
    let outcome = trainer.run(&mut (), &AtomicBool::new(true)).unwrap();
    assert_eq!(outcome, Outcome::Interrupted { step: 1 });
    // As long as it is there nobody else writes to its folder.
    let beside = Trainer::new(recipe.clone(), halves::student(&recipe), &run, true, 1);
    assert!(beside.err().unwrap().to_string().contains("another run is at work there"));
    drop(trainer);
    let again = Trainer::new(recipe.clone(), halves::student(&recipe), &run, false, 1);
    assert!(again.err().unwrap().to_string().contains("holds a run of 1 steps"));
    let other = halves::recipe(folder.path(), &["seed=4"]);
    let error =
        Trainer::new(other.clone(), halves::student(&other), &run, true, 1).err().unwrap().to_string();
    assert!(error.contains("another recipe"), "{error}");
    let mut resumed = Trainer::new(recipe.clone(), halves::student(&recipe), &run, true, 1).unwrap();
    assert_eq!(resumed.step(), 1);
    resumed.run(&mut (), &AtomicBool::new(false)).unwrap();
    assert_eq!(resumed.step(), 12);
    evaluate(&recipe, resumed.student(), 1, &AtomicBool::new(false)).unwrap();
}
