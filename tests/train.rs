//! `foveate train`: a recipe, its cost, a run that is stopped and goes on, and the model that comes out of it.

use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Output, Stdio};

use tempfile::tempdir;

use crate::{foveate, json, number, succeeds};

fn recipe() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/smoke.toml").display().to_string()
}

/// Six small steps.
const SHORT: [&str; 8] = [
    "--set",
    "stages.0.steps=6",
    "--set",
    "stages.0.batch=4",
    "--set",
    "checkpoints.every=2",
    "--set",
    "evaluation.questions=20",
];

#[test]
fn a_recipe_becomes_a_model_that_answers() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let recipe = recipe();
    let arguments = [&["train", &recipe, "--out", &out, "--json"][..], &SHORT].concat();
    let document = json(&arguments);
    assert_eq!((document["step"].as_u64(), document["questions"].as_u64()), (Some(6), Some(6 * 4 * 4)));
    assert_eq!(document["scores"].as_array().unwrap().len(), 3);
    let model = document["model"].as_str().unwrap();

    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/images/cat.png");
    let answer = json(&[
        "ask",
        model,
        "How many stars are there?",
        "--image",
        image,
        "--visual-tokens",
        "4",
        "--max-new-tokens",
        "2",
        "--json",
    ]);
    assert_eq!((answer["visual_tokens"].as_u64(), answer["compressor"].as_str()), (Some(4), Some("quecc")));

    // A card says what is known of it, and going on with a run that is over leaves it.
    let card = std::fs::read_to_string(Path::new(model).join("README.md")).unwrap();
    for part in
        ["license: [\"mit\",\"apache-2.0\"]", "6 steps over 96 questions", "`stages.0.batch=4`", "| V = 16 |"]
    {
        assert!(card.contains(part), "{part} is not in\n{card}");
    }
    let shown = succeeds(&["inspect", model]);
    assert!(shown.contains("# smoke") && !shown.contains("license:"), "{shown}");

    // The folder holds a run: another one is refused, and going on finds nothing left to do.
    let again = foveate(&[&["train", &recipe, "--out", &out][..], &SHORT].concat());
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8(again.stderr).unwrap().contains("holds a run of 6 steps"));
    let resumed = json(&[&arguments[..], &["--resume"]].concat());
    assert_eq!(resumed["step"], document["step"]);
    assert_eq!(std::fs::read_to_string(Path::new(model).join("README.md")).unwrap(), card);

    // Scores are told where there is no terminal as well, beside what the question alone gives away.
    let fewer = ["--resume", "--set", "evaluation.questions=10"];
    let told = foveate(&[&["train", &recipe, "--out", &out][..], &SHORT, &fewer].concat());
    let (text, errors) = (String::from_utf8(told.stdout).unwrap(), String::from_utf8(told.stderr).unwrap());
    assert!(told.status.success() && text.contains("question only"), "{text}{errors}");
    assert!(errors.contains("step 6: scenes-validation with 4 visual tokens"), "{errors}");
}

/// Starts a run that nobody waits for, and signals it once it has taken a step.
#[cfg(unix)]
fn stopped_by(signal: &str, mut command: Command, log: &Path) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let steps = || std::fs::read_to_string(log).unwrap_or_default().matches("\"kind\":\"step\"").count();
    let before = steps();
    let mut child = command.spawn().unwrap();
    while steps() <= before {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::yield_now();
    }
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    child.wait_with_output().unwrap()
}

/// Whether this process, and whatever it starts, ignores the signal: under `nohup` and, in scripts, behind `&`.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
}

#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_is_ignored_stays_ignored() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let (out, recipe) = (run.display().to_string(), recipe());
    let more = ["--set", "stages.0.steps=60", "--set", "evaluation.questions=0"];
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_foveate")]);
    command.args(["train", &recipe, "--out", &out]).args(&SHORT[2..4]).args(more);
    let output = stopped_by("HUP", command, &run.join("log.jsonl"));
    let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr));
    assert_eq!((output.status.code(), errors.unwrap().as_str()), (Some(0), ""), "{told}");
    assert!(told.contains("60 of 60 steps") && run.join("model").exists(), "{told}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_run_with_its_own_exit_code_and_nothing_is_lost() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    let (out, recipe) = (run.display().to_string(), recipe());
    let more =
        [&SHORT[2..4], &["--set", "stages.0.steps=100000", "--set", "evaluation.questions=0"]].concat();
    let arguments = [&["train", &recipe, "--out", &out, "--resume"][..], &more].concat();
    let mut last = 0;
    for (signal, code, json) in [("INT", 130, true), ("TERM", 143, true), ("HUP", 129, false)] {
        if is_ignored(code - 128) {
            continue;
        }
        let arguments = if json { [&arguments[..], &["--json"]].concat() } else { arguments.clone() };
        let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
        command.args(&arguments);
        let output = stopped_by(signal, command, &run.join("log.jsonl"));
        let (told, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr));
        assert_eq!((output.status.code(), errors.unwrap().as_str()), (Some(code), ""), "{signal}: {told}");
        // The step at hand was finished and saved, and the next run goes on behind it.
        let saved = std::fs::read_dir(run.join("checkpoints")).unwrap();
        let saved = saved
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok());
        let step: u64 = saved.max().unwrap();
        assert!(step > last, "{signal}: {step} after {last}");
        last = step;
        if json {
            let document: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert_eq!((&document["model"], &document["step"]), (&serde_json::Value::Null, &step.into()));
        } else {
            assert!(told.contains(&format!("interrupted; --resume goes on with {out}")), "{told}");
        }
    }
}

#[test]
fn a_compressor_is_exchanged_in_the_model_inside_of_the_program() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/foveate-nano/config.json");
    let config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(config).unwrap()).unwrap();
    let side = config["vision_config"]["image_size"].as_u64().unwrap();
    let sets = [
        "parts.tower={ from = 'foveate-nano' }".to_owned(),
        "parts.language={ from = 'foveate-nano' }".to_owned(),
        "parts.tokenizer={ from = 'foveate-nano' }".to_owned(),
        "parts.compressor={ method = 'average-pooling', state = -1 }".to_owned(),
        format!("parts.image.side={side}"),
        format!("data.scenes.side={side}"),
        "stages.0.ladder=[[1, 1.0]]".to_owned(),
        "stages.0.rates={ projector = 1e-3, language = 1e-3 }".to_owned(),
        "stages.0.steps=2".to_owned(),
        "stages.0.batch=2".to_owned(),
        "evaluation.questions=0".to_owned(),
    ];
    let recipe = recipe();
    let mut arguments = vec!["train", &recipe, "--out", &out, "--json"];
    sets.iter().for_each(|set| arguments.extend(["--set", set.as_str()]));
    let document = json(&arguments);
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/images/cat.png");
    let model = document["model"].as_str().unwrap();
    let ask = ["ask", model, "Is there a star?", "--image", image, "--visual-tokens", "1", "--json"];
    let answer = json(&ask);
    let found = (answer["visual_tokens"].as_u64(), answer["compressor"].as_str());
    assert_eq!(found, (Some(1), Some("average-pooling")));
}

#[test]
fn the_cost_is_told_before_anything_is_written() {
    let folder = tempdir().unwrap();
    let out = folder.path().join("run").display().to_string();
    let recipe = recipe();
    let cost = json(&["train", &recipe, "--dry-run", "--out", &out, "--set", "stages.0.batch=4", "--json"]);
    assert!(cost["flops"].as_f64().unwrap() > 1e9 && cost["hours"].as_f64().unwrap() > 0.0);
    assert_eq!(cost["trained_parameters"], cost["parameters"].as_u64().unwrap() - 2 * 48);
    let text = succeeds(&["train", &recipe, "--dry-run", "--set", "stages.0.batch=4"]);
    assert!(text.contains("hours") && text.contains("together") && text.contains("GFLOP/s"), "{text}");
    let stage = &cost["stages"][0];
    let (flops, seconds) = (number(&stage["flops_per_step"]), number(&stage["seconds_per_step"]));
    let rate = number(&stage["flops_per_second"]);
    assert!((flops / seconds / rate - 1.0).abs() < 1e-6, "{cost}");
    assert!((number(&cost["hours"]) - seconds * number(&stage["steps"]) / 3600.0).abs() < 1e-9, "{cost}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_is_wrong_with_a_recipe_is_named() {
    let recipe = recipe();
    for (arguments, part) in [
        (&["train", "no-such.toml"][..], "no-such.toml"),
        (&["train", &recipe, "--set", "stages.0.steps"], "key=value"),
        (&["train", &recipe, "--set", "stages.0.stepz=3"], "stepz"),
        (&["train", &recipe, "--set", "stages.0.warm_up=3"], "`stages.0.warm_up` is 3"),
        (&["train", &recipe, "--dry-run", "--set", "stages.0.ladder=[[7, 1.0]]"], "16, 4, 1"),
        (
            &["train", &recipe, "--dry-run", "--set", "evaluation.visual_tokens=[5]"],
            "`evaluation.visual_tokens` is 5",
        ),
        (&["train", &recipe, "--set", "parts.tower={ from = './nowhere' }"], "nowhere"),
    ] {
        let output = foveate(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(part), "{errors}");
    }
}
