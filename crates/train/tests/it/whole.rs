//! Parts of a whole model with another compressor between them, and features that several runs share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use foveate_compress::StateDepth;
use foveate_train::forward;
use foveate_train::gradients::check;
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::{Scope, Storage, Student};
use foveate_train::trainer::Trainer;

use crate::halves;

/// Tower, language model and tokenizer of the model in `folder`/grown; the tower stays as it is.
const GROWN: [&str; 4] = [
    "parts.tower={ from = 'grown' }",
    "parts.language={ from = 'grown' }",
    "parts.tokenizer={ from = 'grown' }",
    "stages.0.rates={ compressor = 5e-3, projector = 5e-3, language = 5e-3 }",
];

const COMPRESSORS: [&str; 4] = [
    "seed=3",
    "parts.compressor={ method = 'token-packer', width = 16, output_width = 24, heads = 2, sides = [1, 2], query_state = -1, states = [1, -1] }",
    "parts.compressor={ method = 'mqt', width = 16, output_width = 24, heads = 2, query_side = 2, state = -1 }",
    "parts.compressor={ method = 'average-pooling', state = -1 }",
];

fn grown(folder: &Path) -> Student {
    let student = halves::student(&halves::recipe(folder, &[]));
    student.save(&folder.join("grown"), Storage::F32, Scope::Whole).unwrap();
    student
}

fn on_grown(folder: &Path, recipe: &Recipe) -> Student {
    Student::new(recipe, &|word| Ok(folder.join(word))).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn compressors_are_exchanged_between_the_parts_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let grown = grown(folder.path());
    let pixels: Vec<f32> = (0..3 * 16 * 16).map(|at| (at % 37) as f32 / 20.0 - 1.0).collect();
    let pixels = Tensor::from_vec(pixels, (1, 3, 16, 16), &Device::Cpu).unwrap();
    for compressor in COMPRESSORS {
        let overrides: Vec<&str> = GROWN.into_iter().chain([compressor]).collect();
        let recipe = halves::recipe(folder.path(), &overrides);
        let student = on_grown(folder.path(), &recipe);
        assert_eq!(student.end_token, grown.end_token);
        let mut language = 0;
        for (name, parameter) in student.parameters() {
            assert_ne!(parameter.group, Group::Tower, "it is frozen");
            if parameter.group == Group::Language {
                let own = grown.parameters()[name].variable.as_tensor();
                assert_eq!(values(parameter.variable.as_tensor()), values(own), "{name}");
                language += 1;
            }
        }
        assert!(language > 10);
        let state = |student: &Student| {
            let vlm = student.vlm(&[]).unwrap();
            let features = forward::features(&vlm, &pixels).unwrap();
            values(features.patches(StateDepth::FromEnd(1)).unwrap())
        };
        let apart = state(&student).iter().zip(state(&grown)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-4, "{compressor}: {apart}");
        check(&recipe, &student).unwrap_or_else(|error| panic!("{compressor}: {error}"));
        // What comes out of it is opened like any other.
        let out = folder.path().join("out");
        student.save(&out, Storage::F32, Scope::Whole).unwrap();
        foveate_model::vlm::Vlm::open(&out, None, foveate_model::Dtype::F32).unwrap();
    }
}

#[test]
fn runs_on_one_tower_share_what_it_saw() {
    let folder = tempfile::tempdir().unwrap();
    grown(folder.path());
    let shared = folder.path().join("features");
    let set = format!("feature_cache_folder='{}'", shared.display());
    let overrides: Vec<&str> =
        GROWN.into_iter().chain(["feature_cache_bytes=1000000", "stages.0.steps=6", set.as_str()]).collect();
    let run = |name: &str, more: &[&str]| {
        let overrides: Vec<&str> = overrides.iter().chain(more).copied().collect();
        let recipe = halves::recipe(folder.path(), &overrides);
        let (student, place) = (on_grown(folder.path(), &recipe), folder.path().join(name));
        let mut trainer = Trainer::new(recipe, student, &place, false, 2).unwrap();
        trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
        assert!(!place.join("features").exists());
        let learnt = trainer.student().parameters().iter();
        learnt.map(|(name, parameter)| (name.clone(), values(parameter.variable.as_tensor()))).collect()
    };
    let files = || std::fs::read_dir(&shared).unwrap().count();
    // One that was killed while it wrote leaves a file that is nobody's; one that is being written is left alone.
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("x.safetensors.1-1.partial"), "half").unwrap();
    let first: BTreeMap<String, Vec<f32>> = run("first", &[]);
    assert_eq!(files(), 48 + 1, "every picture once");
    // The same steps from what is there, to the bit; and others.
    assert_eq!(run("again", &[]), first);
    assert_ne!(run("other", &["seed=4"]), first);
    assert_eq!(files(), 48 + 1);
}
