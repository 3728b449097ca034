//! `foveate bench`: what it measures, the profile it leaves, and the worker that scripts talk to.

use std::io::Write;
use std::process::Stdio;

use super::*;

fn rows(document: &Value, stage: &str) -> Vec<Value> {
    let all = document["rows"].as_array().unwrap().iter();
    all.filter(|row| row["stage"] == stage).cloned().collect()
}

#[test]
fn every_stage_is_measured_and_the_profile_feeds_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let profile = folder.path().join("machine.json");
    let model = fixture("models/compressed-elastic");
    let output = succeeds(&[
        "bench",
        &model,
        "--visual-tokens",
        "4,1",
        "--dtype",
        "f32,int8",
        "--threads",
        "1,2",
        "--rounds",
        "2",
        "--text-tokens",
        "8",
        "--new-tokens",
        "3",
        "--profile",
        text(&profile),
    ]);
    let document: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    for stage in ["decode_image", "tower", "query", "compress", "project", "prefill", "first_token", "decode"]
    {
        let rows = rows(&document, stage);
        // Two dtypes on one and two threads, and where images count each number of visual tokens.
        let expected = if matches!(stage, "decode_image" | "tower" | "decode") { 4 } else { 8 };
        assert_eq!(rows.len(), expected, "{stage}");
        for row in rows {
            let (median, least) = (number(&row["ms_median"]), number(&row["ms_min"]));
            assert!(0.0 < least && least <= median, "{row}");
            assert_eq!(row["flops"].is_number(), matches!(stage, "tower" | "prefill"), "{row}");
        }
    }
    // Everything from the pixels on takes longer than its last stage alone.
    for (whole, prefill) in rows(&document, "first_token").iter().zip(rows(&document, "prefill")) {
        assert!(number(&whole["ms_min"]) > number(&prefill["ms_min"]), "{whole} {prefill}");
    }
    assert!(
        document["peaks"].as_array().unwrap().iter().all(|peak| number(&peak["operations_per_second"]) > 1e8)
    );
    for (heading, line) in [("at most", "memory, GB/s"), ("median", "first token")] {
        assert!(output.contains(heading) && output.contains(line), "{output}");
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(&profile).unwrap()).unwrap();
    assert!(
        number(&stored["flops_per_second"]) > 1e6 && number(&stored["bytes_per_second"]) > 1e8,
        "{stored}"
    );
    // A toy reaches so little that nothing real fits, and the message says whose rates these are.
    let message = refuses(&["plan", "--budget", "1ms", "--bootstrap", "0", "--machine", text(&profile)]);
    assert!(message.contains("machine.json"), "{message}");
}

/// A plan within a time budget, with the profile of the cache folder; `rate` is what the profile says.
fn planned(rate: &str) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("foveate");
    std::fs::create_dir(&place).unwrap();
    let profile = format!(r#"{{"flops_per_second": {rate}, "bytes_per_second": 1e15, "model": "x"}}"#);
    std::fs::write(place.join("machine.json"), profile).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_foveate"))
        .env("XDG_CACHE_HOME", folder.path())
        .args(["plan", "--budget", "800ms", "--bootstrap", "0", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    number(&document["ranked"][0]["params"])
}

#[test]
fn a_faster_machine_affords_a_larger_model() {
    assert!(planned("1e12") < planned("1e14"));
}

#[test]
fn a_worker_answers_line_by_line_and_survives_what_it_cannot_do() {
    let model = fixture("models/llama-tied");
    let mut worker = Command::new(env!("CARGO_BIN_EXE_foveate"))
        .args(["bench", "--worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let cases = [
        format!(r#"{{"stage": "prefill", "model": "{model}", "text_tokens": 5, "visual_tokens": 2}}"#),
        format!(r#"{{"stage": "tower", "model": "{model}"}}"#),
        "{".to_owned(),
        format!(
            r#"{{"stage": "decode", "model": "{model}", "context": 4, "new_tokens": 2, "dtype": "bf16", "threads": 1}}"#
        ),
        format!(
            r#"{{"stage": "decode", "model": "{model}", "context": 4, "new_tokens": 2, "dtype": "fp8"}}"#
        ),
        r#"{"stage": "tower", "model": "shape:no-such-tower"}"#.to_owned(),
        format!(r#"{{"stage": "prefill", "model": "{model}", "visual_tokens": 9000000000000000000}}"#),
    ];
    worker.stdin.take().unwrap().write_all(cases.join("\n").as_bytes()).unwrap();
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let replies: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(replies.len(), cases.len());
    for at in [0, 3] {
        assert!(number(&replies[at]["ms"]) > 0.0, "{}", replies[at]);
    }
    for (at, word) in [(1, "tower"), (2, "case"), (4, "fp8"), (5, "no-such-tower"), (6, "context")] {
        let error = replies[at]["error"].as_str().unwrap();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn what_cannot_be_measured_is_named() {
    let language = fixture("models/llama-tied");
    let message = refuses(&["bench", &language, "--visual-tokens", "4", "--no-profile"]);
    assert!(message.contains("4") && message.contains("no tower"), "{message}");
    let pooled = fixture("models/compressed-elastic");
    let message = refuses(&["bench", &pooled, "--visual-tokens", "5", "--no-profile"]);
    assert!(message.contains("--visual-tokens 5") && message.contains("offers"), "{message}");
    let message = refuses(&["bench", &language, "--compressor", "quecc", "--no-profile"]);
    assert!(message.contains("quecc") && message.contains("no tower"), "{message}");
    let message = refuses(&["bench", &language, "--text-tokens", "90000", "--no-profile"]);
    assert!(message.contains("90000") && message.contains("context"), "{message}");
    let message = refuses(&["bench", &language, "--profile", "/no/such/folder/machine.json"]);
    assert!(message.contains("/no/such/folder"), "{message}");
    let message = refuses(&["bench", "--dtype", "fp16"]);
    assert!(message.contains("fp16") && message.contains("bf16"), "{message}");
    let message = refuses(&["bench", "shape:clip-vit-l-14-336+gpt-9", "--no-profile"]);
    assert!(message.contains("gpt-9"), "{message}");
}
