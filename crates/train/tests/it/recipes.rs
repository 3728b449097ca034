//! The recipes in `recipes/`: each can be read, and everything that it trains learns.

use std::path::{Path, PathBuf};

use foveate_train::estimate::estimate;
use foveate_train::gradients::check;
use foveate_train::recipe::{Learns, Recipe, Source};
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

#[test]
fn everything_that_a_recipe_trains_from_scratch_learns() {
    for path in all() {
        // Two pictures are enough to see a gradient; the sizes are the recipe's own.
        let recipe = Recipe::open(&path, &["questions=2"]).unwrap();
        if !matches!((&recipe.parts.tower, &recipe.parts.language), (Source::Fresh(_), Source::Fresh(_))) {
            continue;
        }
        let mut recipe = recipe;
        for stage in &mut recipe.stages {
            (stage.batch, stage.accumulation) = (2, 1);
            if stage.learns == Learns::Answers {
                stage.ladder = [1, 4, 16].map(|tokens| (tokens, 1.0)).to_vec();
            }
        }
        // Filters of rungs that are not drawn here would have no gradient.
        if let foveate_compress::CompressorConfig::QueCC(quecc) = &mut recipe.parts.compressor {
            let side = recipe.parts.image.side as usize / patch(&recipe.parts.tower);
            quecc.filters = foveate_compress::Filters::Elastic([1, 2, 4].map(|rows| side / rows).to_vec());
        }
        let student = halves::student(&recipe);
        check(&recipe, &student).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn patch(tower: &Source) -> usize {
    match tower {
        Source::Fresh(table) => table["patch_size"].as_integer().unwrap() as usize,
        Source::From(_) => 14,
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
        ("checkpoints.keep=0", ["checkpoints.keep` is 0", "1 to"]),
        ("evaluation.data=['halves']", ["evaluation.data", "held out"]),
        ("parts.language={ from = 'x' }", ["parts.tokenizer.trained", "from scratch"]),
        ("parts.tokenizer.trained.vocabulary=200", ["vocabulary` is 200", "300 to 65536"]),
        (
            "data.halves-validation.cut={ fraction = 1.0, seed = 1, part = 'held-out' }",
            ["data.halves-validation.cut.fraction", "between 0 and 1"],
        ),
        ("data.halves.colour=1", ["colour", "unknown"]),
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
    // What only the model can tell.
    let recipe = halves::recipe(folder.path(), &["stages.0.ladder=[[9, 1.0]]"]);
    let error = estimate(&recipe, &halves::student(&recipe), 1).unwrap_err().to_string();
    assert!(error.contains("stages.0.ladder` is 9") && error.contains("4, 1"), "{error}");
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
