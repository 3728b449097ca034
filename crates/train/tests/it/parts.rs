//! Models put together from published parts: what is taken over, what is fresh, what is stored.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use foveate_data::image::{Image, Preprocessor};
use foveate_model::Weights;
use foveate_model::vision::{HiddenState, ImageSize, VisionTower, Wanted};
use foveate_model::vlm::{Vlm, VlmConfig};
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::{Scope, Storage, Student};
use foveate_train::trainer::Trainer;

use crate::halves;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

/// A DINOv2 for images of another size than it was trained for, a language model with adapters, both as published.
fn recipe(folder: &Path, more: &[&str]) -> Recipe {
    let joined = [
        "parts.tower={ from = 'dinov2' }",
        "parts.language={ from = 'llama-tied' }",
        "parts.image={ preset = 'dinov2', side = 28 }",
        "parts.compressor={ method = 'quecc', width = 32, text_width = 48, heads = 4, filters = { elastic = [2, 4] }, query_state = -2, states = [1, -2] }",
        "parts.feature_state=-2",
        "lora={ rank = 2, alpha = 4.0, projections = ['query', 'value'] }",
        "stages.0.rates={ compressor = 1e-3, projector = 1e-3, adapters = 1e-3 }",
        "stages.0.ladder=[[4, 1.0], [1, 1.0]]",
        "stages.0.steps=4",
    ];
    let text = toml::to_string(&halves::recipe(folder, &[])).unwrap();
    // The tokenizer and the template are those of the language model.
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    let parts = table["parts"].as_table_mut().unwrap();
    parts.remove("tokenizer");
    parts.remove("template");
    let overrides: Vec<&str> = joined.iter().chain(more).copied().collect();
    Recipe::parse("joined.toml", &toml::to_string(&table).unwrap(), &overrides).unwrap()
}

fn student(recipe: &Recipe) -> Student {
    Student::new(recipe, &|word| Ok(fixture(word))).unwrap()
}

/// A language model from scratch that takes over the words of another one.
#[test]
fn a_given_tokenizer_says_what_ends_an_answer_and_where_pictures_are() {
    let folder = tempfile::tempdir().unwrap();
    for (tokenizer, image) in [("llava-1.5", Some("<image>")), ("compressed-quecc", None)] {
        let given = format!("parts.tokenizer={{ from = '{tokenizer}' }}");
        let changes = [given.as_str(), "parts.language.fresh.eos_token_id=2"];
        let student = student(&halves::recipe(folder.path(), &changes));
        assert_eq!(student.end_token, 2);
        let out = folder.path().join(tokenizer);
        student.save(&out, Storage::F32, Scope::Whole).unwrap();
        let config = std::fs::read_to_string(out.join("tokenizer_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["eos_token"], "</s>");
        assert_eq!(config.get("image_token").and_then(|token| token.as_str()), image);
    }
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn a_tower_is_taken_over_for_another_image_size() {
    resized(&[], 28, 28);
    // Twice as wide as high: windows of 2 patches, none of 4.
    let wide = "parts.image={ preset = 'dinov2', side = [28, 56], pad = true }";
    let ladder = "stages.0.ladder=[[8, 1.0]]";
    resized(&[wide, ladder], 28, 56);
    let folder = tempfile::tempdir().unwrap();
    let refused = |change: &str| {
        let text = toml::to_string(&halves::recipe(folder.path(), &[])).unwrap();
        Recipe::parse("wide.toml", &text, &[change]).unwrap_err().to_string()
    };
    let cropped = refused("parts.image={ preset = 'dinov2', side = [28, 56] }");
    assert!(cropped.contains("28 x 56") && cropped.contains("`pad` or `squeeze`"), "{cropped}");
    let low = refused("parts.image={ preset = 'siglip', side = [4, 56] }");
    assert!(low.contains("4 x 56") && low.contains("8 to 4096"), "{low}");
}

fn resized(changes: &[&str], height: usize, width: usize) {
    let folder = tempfile::tempdir().unwrap();
    let student = student(&recipe(folder.path(), changes));
    let vlm = student.vlm(&[]).unwrap();
    assert_eq!((vlm.grid().rows, vlm.grid().columns), (height / 7, width / 7));
    let weights = Weights::open(&fixture("dinov2")).unwrap();
    let published = VisionTower::load(vlm.tower().config(), &weights);
    assert!(published.is_err(), "the stored table is for 6 x 6 patches");
    let config = foveate_model::vision::VisionConfig::from_json(
        &std::fs::read_to_string(fixture("dinov2").join("config.json")).unwrap(),
    );
    let resized =
        VisionTower::load(config.unwrap(), &weights).unwrap().resized(ImageSize::new(height, width)).unwrap();
    let values: Vec<f32> = (0..3 * height * width).map(|at| (at % 37) as f32 / 20.0 - 1.0).collect();
    let pixels = Tensor::from_vec(values, (1, 3, height, width), &Device::Cpu).unwrap();
    let states = [HiddenState::new(0), HiddenState::from_end(1)];
    let run = |tower: &VisionTower| tower.forward(&pixels, &Wanted::states(&states)).unwrap().states;
    for (own, expected) in run(vlm.tower()).iter().zip(run(&resized)) {
        assert!(apart(own, &expected) < 1e-5, "{}", apart(own, &expected));
    }

    // What is written is read as the same model of the same pictures.
    let out = folder.path().join("out");
    student.save(&out, Storage::F32, Scope::Whole).unwrap();
    let config = VlmConfig::from_json(&std::fs::read_to_string(out.join("config.json")).unwrap()).unwrap();
    let read = Vlm::load(config, &Weights::open(&out).unwrap()).unwrap();
    assert_eq!((read.grid(), read.ladder()), (vlm.grid(), vlm.ladder()));
    let picture = Image::filled(40, 30, [7; 3]);
    let tile = &Preprocessor::from_folder(&out).unwrap().apply(&picture).unwrap().tiles[0];
    assert_eq!((tile.height, tile.width), (height, width));
}

#[test]
fn adapters_change_the_language_model_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &[]);
    let before = student(&recipe);
    assert_eq!(before.trained_sizes()[&Group::Adapters], 3 * 2 * (48 + 48 + 48 + 16));
    let untouched = Weights::open(&fixture("llama-tied")).unwrap();
    let query = "model.layers.1.self_attn.q_proj.weight";

    let mut trainer =
        Trainer::new(recipe.clone(), student(&recipe), &folder.path().join("run"), false, 2).unwrap();
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let out = folder.path().join("model");
    trainer.student().save(&out, Storage::F32, Scope::Whole).unwrap();
    let saved = Weights::open(&out).unwrap().pp("language_model");
    let stored = untouched.get((48, 48), query).unwrap();
    assert!(apart(&saved.get((48, 48), query).unwrap(), &stored) > 1e-7, "adapters are merged");
    for name in ["model.layers.1.self_attn.k_proj.weight", "model.norm.weight"] {
        let shape = untouched.shape(name).unwrap();
        assert_eq!(
            apart(&saved.get(shape.clone(), name).unwrap(), &untouched.get(shape, name).unwrap()),
            0.0
        );
    }
    // The folder is whole: every tensor has its place, and what the language model needs lies beside them.
    let config = std::fs::read_to_string(out.join("config.json")).unwrap();
    Vlm::load(VlmConfig::from_json(&config).unwrap(), &Weights::open(&out).unwrap()).unwrap();
    assert!(out.join("tokenizer_config.json").is_file() && out.join("preprocessor_config.json").is_file());

    // What is trained alone is small, and nothing frozen is in it.
    let part = folder.path().join("part");
    trainer.student().save(&part, Storage::F16, Scope::Trained).unwrap();
    let tensors = candle_core::safetensors::load(part.join("model.safetensors"), &Device::Cpu).unwrap();
    let frozen = tensors.keys().filter(|name| !trainer.student().parameters().contains_key(*name));
    // Its table of positions is for another size than the published one.
    assert_eq!(frozen.collect::<Vec<_>>(), ["vision_tower.embeddings.position_embeddings"]);
    assert!(tensors.values().all(|tensor| tensor.dtype() == DType::F16));
}

#[test]
fn a_run_goes_on_from_the_model_of_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let bare = ["stages.0.rates={ compressor = 1e-3, projector = 1e-3 }"];
    let first = recipe(folder.path(), &bare);
    let mut trainer =
        Trainer::new(first.clone(), student(&first), &folder.path().join("first"), false, 2).unwrap();
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let model = folder.path().join("model");
    trainer.student().save(&model, Storage::F32, Scope::Trained).unwrap();

    let start = format!("parts.start='{}'", model.display());
    let from = |changes: &[&str]| {
        let changes: Vec<&str> = [start.as_str()].iter().chain(changes).copied().collect();
        let found = |word: &str| Ok(if Path::new(word).exists() { word.into() } else { fixture(word) });
        Student::new(&recipe(folder.path(), &changes), &found)
    };
    let values = |student: &Student, name: &str| student.parameters()[name].variable.as_tensor().clone();
    // Another seed: what is equal is taken over. Adapters, which that model has none of, start fresh.
    let second = from(&["seed=7"]).unwrap();
    for (name, parameter) in trainer.student().parameters() {
        assert_eq!(apart(parameter.variable.as_tensor(), &values(&second, name)), 0.0, "{name}");
    }
    let fresh = student(&recipe(folder.path(), &["seed=7"]));
    let b = "language_model.model.layers.1.self_attn.q_proj.lora_B.weight";
    assert_eq!(apart(&values(&second, b), &values(&fresh, b)), 0.0);

    // With adapters: fewer windows are no matter, another scale and no place for them are.
    second.parameters()[b].variable.set(&values(&fresh, b).ones_like().unwrap()).unwrap();
    second.save(&model, Storage::F32, Scope::Trained).unwrap();
    let fewer = "parts.compressor.filters={ elastic = [2] }";
    let third = from(&[fewer, "stages.0.ladder=[[4, 1.0]]"]).unwrap();
    assert_eq!(apart(&values(&third, b), &values(&second, b)), 0.0);
    let refused = |changes: &[&str]| from(changes).err().unwrap().to_string();
    assert_eq!(refused(&["lora.alpha=3.0"]), "recipe: `lora.alpha` is 3, allowed is 4, as in `parts.start`");
    assert!(refused(&bare).contains("`parts.start` is one with adapters"), "{}", refused(&bare));
    let rank = refused(&["lora.rank=4", "lora.alpha=8.0"]);
    assert_eq!(rank, "recipe: `lora.rank` is 4, allowed is 2, as in `parts.start`");
    let lost = refused(&["lora.projections=['query']"]);
    assert!(lost.contains("`lora.projections` is without") && lost.contains("v_proj"), "{lost}");
    let heads = refused(&["parts.compressor.heads=2"]);
    assert!(heads.contains("`parts.start`") && heads.contains("\"heads\":2"), "{heads}");
    let more = refused(&["parts.compressor.filters={ elastic = [1, 2, 4] }", "lora.rank=2"]);
    assert!(more.contains("compressor."), "{more}");
    // Between another tower or language model it would be worth nothing, and what it holds itself is to be taken from there.
    let tower = refused(&["parts.tower={ from = 'clip' }"]);
    assert!(tower.contains("frozen_parts"), "{tower}");
    second.save(&model, Storage::F32, Scope::Whole).unwrap();
    let merged = refused(&[]);
    assert!(merged.contains("`parts.tower` is") && merged.contains("which holds its own"), "{merged}");
    let own = format!("={{ from = '{}' }}", model.display());
    let both = [format!("parts.tower{own}"), format!("parts.language{own}")];
    let whole = from(&[&both[0], &both[1]]).unwrap();
    let projector = "multi_modal_projector.linear_1.weight";
    assert_eq!(apart(&values(&whole, projector), &values(&second, projector)), 0.0);
}

#[test]
fn visual_tokens_learn_words_without_the_language_model() {
    let folder = tempfile::tempdir().unwrap();
    let words = [
        "stages.0.learns='words'",
        "stages.0.rates={ compressor = 3e-3, projector = 3e-3 }",
        "stages.0.steps=40",
        "evaluation.questions=0",
    ];
    let recipe = recipe(folder.path(), &words);
    foveate_train::gradients::check(&recipe, &student(&recipe)).unwrap();
    let run = folder.path().join("run");
    let mut trainer = Trainer::new(recipe.clone(), student(&recipe), &run, false, 2).unwrap();
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    let losses: Vec<f64> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].as_f64().unwrap())
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    // Each letter of "left" and "right" is a token, and only the t is in both: who guesses among eight letters pays log 8 = 2.08,
    // who knows which word it is 1.51, the mean of log 4 and log 5 over nine letters.
    let (first, last) = (mean(&losses[..5]), mean(&losses[35..]));
    assert!(first > 2.0 && last < 1.8, "{first} {last}");
}

#[test]
fn parts_that_cannot_be_had_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(folder.path(), &["parts.image.side=30"]);
    let refused =
        |recipe: &Recipe| Student::new(recipe, &|word| Ok(fixture(word))).err().unwrap().to_string();
    assert!(
        refused(&recipe)
            .contains("`parts.image.side` is 30 x 30, allowed is a multiple of the tower's patch of 7")
    );
    let missing = Student::new(&recipe, &|word| Err(format!("no {word} here"))).err().unwrap().to_string();
    assert_eq!(missing, "part `language` from `llama-tied`: no llama-tied here");
}
