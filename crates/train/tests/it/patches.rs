//! A tower that learns what patches show before anything is asked.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use foveate_data::PatchField;
use foveate_model::Dtype;
use foveate_model::vlm::Vlm;
use foveate_train::log::{Event, Observer};
use foveate_train::recipe::Recipe;
use foveate_train::student::{Scope, Storage};
use foveate_train::trainer::{Outcome, Trainer};

use crate::halves;

const SEE: &str = r#"
[[stages]]
name = "see"
learns = "patches"
steps = 150
batch = 16
accumulation = 2
rates = { tower = 4e-3, patches = 4e-3 }
mix = { scenes = 1.0 }
"#;

/// The smoke recipe with a stage of patches in front.
fn recipe(overrides: &[&str]) -> Result<Recipe, String> {
    let smoke = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/smoke.toml");
    let text = std::fs::read_to_string(smoke).unwrap();
    let (before, stages) = text.split_once("[[stages]]").unwrap();
    let text = format!("{before}{SEE}\n[[stages]]{stages}");
    let always = ["stages.1.steps=4", "stages.1.batch=4", "evaluation.questions=0", "checkpoints.every=1000"];
    let overrides: Vec<&str> = always.iter().chain(overrides).copied().collect();
    Recipe::parse("see", &text, &overrides).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn on(&mut self, event: Event<'_>) {
        if let Event::Step(report) = event {
            self.0.push(report.loss);
        }
    }
}

/// The entropy of each field over the patches of some pictures, summed: nats that a patch costs whoever does not look.
fn frequencies_alone(recipe: &Recipe) -> f64 {
    let source = recipe.data["scenes"].open(4).unwrap();
    let labels = (0..300).map(|at| source.sample(at).unwrap().picture.unwrap().patches(4).unwrap());
    let labels: Vec<_> = labels.collect();
    let patches = 16.0 * labels.len() as f64;
    let entropy = |field: &PatchField| {
        let mut counts = vec![0.0_f64; field.classes()];
        for (labels, patch) in labels.iter().flat_map(|labels| (0..16).map(move |patch| (labels, patch))) {
            counts[usize::from(labels.class(patch, *field))] += 1.0 / patches;
        }
        counts.into_iter().filter(|part| *part > 0.0).map(|part| -part * part.ln()).sum::<f64>()
    };
    PatchField::ALL.iter().map(entropy).sum()
}

#[test]
fn patches_are_learnt_and_their_layer_is_no_part_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&[]).unwrap();
    let run = folder.path().join("run");
    let mut trainer = Trainer::new(recipe.clone(), halves::student(&recipe), &run, false, 2).unwrap();
    let mut losses = Losses::default();
    assert!(matches!(trainer.run(&mut losses, &AtomicBool::new(false)).unwrap(), Outcome::Finished(_)));
    assert_eq!(losses.0.len(), 154);
    // Uniform guesses over all classes at first, and in the end less than knowing how often each class occurs would cost.
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let guessing: f64 = PatchField::ALL.iter().map(|field| (field.classes() as f64).ln()).sum();
    assert!((losses.0[0] - guessing).abs() < 4.0, "{} against {guessing}", losses.0[0]);
    let (blind, last) = (frequencies_alone(&recipe), mean(&losses.0[130..150]));
    assert!(last < 0.8 * blind, "{last} against {blind}");

    let (student, model) = (trainer.student(), folder.path().join("model"));
    let layer: Vec<&String> =
        student.parameters().keys().filter(|name| name.contains("patch_head")).collect();
    assert_eq!(layer, ["patch_head.bias", "patch_head.weight"]);
    for scope in [Scope::Whole, Scope::Trained] {
        student.save(&model, Storage::F32, scope).unwrap();
        let file = std::fs::read(model.join("model.safetensors")).unwrap();
        assert!(!file.windows(10).any(|window| window == b"patch_head"), "{scope:?}");
    }
    student.save(&model, Storage::F32, Scope::Whole).unwrap();
    Vlm::open(&model, None, Dtype::F32).unwrap();
}

#[test]
fn a_run_interrupted_among_patches_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(&["stages.0.steps=6", "checkpoints.every=3"]).unwrap();
    let state = |run: &Path| std::fs::read(run.join("checkpoints/step-00000010/state.safetensors")).unwrap();
    let alone = folder.path().join("alone");
    let mut trainer = Trainer::new(recipe.clone(), halves::student(&recipe), &alone, false, 1).unwrap();
    trainer.run(&mut Losses::default(), &AtomicBool::new(false)).unwrap();

    // Stops after every step: among patches, between the stages, among answers.
    let stopped = folder.path().join("stopped");
    for _ in 0..10 {
        let mut trainer = Trainer::new(recipe.clone(), halves::student(&recipe), &stopped, true, 2).unwrap();
        trainer.run(&mut Losses::default(), &AtomicBool::new(true)).unwrap();
    }
    assert!(state(&alone) == state(&stopped));
}

#[test]
fn what_a_stage_of_patches_cannot_have_is_named() {
    for (set, said) in [
        ("stages.0.ladder=[[4, 1.0]]", ["stages.0.ladder", "absent where patches are learnt"]),
        ("stages.0.rates={ tower = 1e-3 }", ["stages.0.rates` is tower", "tower and patches"]),
        ("stages.0.rates.language=1e-3", ["tower, language, patches", "tower and patches"]),
        ("stages.1.rates.patches=1e-3", ["stages.1.rates.patches", "only where patches are learnt"]),
        ("stages.1.ladder=[]", ["stages.1.ladder", "[[visual tokens, weight], ...]"]),
        ("stages.0.learns='pixels'", ["pixels", "answers"]),
    ] {
        let error = recipe(&[set]).unwrap_err();
        assert!(said.iter().all(|said| error.contains(said)), "{set}: {error}");
    }
    let folder = "data.photos={ kind = 'folder', path = 'photos' }";
    let error = recipe(&[folder, "stages.0.mix={ photos = 1.0 }"]).unwrap_err();
    assert!(error.contains("stages.0.mix.photos") && error.contains("whose patches are known"), "{error}");
}
