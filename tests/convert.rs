//! `foveate convert`: what it prints, what it leaves behind, and that the result answers.

use serde_json::Value;

use super::{fixture, foveate, json, number, refuses, stand_in, succeeds, text};

const QUESTION: &str = "What colour is the small square?";

/// The beginning of the answer of a model to a picture.
fn answer(model: &str, more: &[&str]) -> String {
    let picture = fixture("images/cat.png");
    let mut arguments = vec!["ask", model, QUESTION, "--image", &picture, "--max-new-tokens", "8"];
    arguments.extend(more);
    succeeds(&arguments)
}

fn stored(model: &str) -> Vec<(String, f64)> {
    let document = json(&["inspect", model, "--json"]);
    let formats = document["dtypes"].as_array().unwrap();
    let mut formats: Vec<(String, f64)> = formats
        .iter()
        .map(|format| (format["dtype"].as_str().unwrap().to_owned(), number(&format["bytes"])))
        .collect();
    formats.sort_by(|a, b| a.0.cmp(&b.0));
    formats
}

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Eight greedy tokens are the same: on these models of random weights answers part later than that.
#[test]
fn converted_folders_answer_and_are_inspected_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    for (model, formats) in [
        ("llava-1.5", [vec!["bf16"], vec!["bf16", "int8"], vec!["bf16", "q8_0"]]),
        // PyTorch files, and a tower in a folder of its own.
        ("llava-original", [vec!["bf16"], vec!["bf16", "int8"], vec!["bf16", "q8_0"]]),
    ] {
        let input = fixture(&format!("models/{model}"));
        let expected = answer(&input, &[]);
        for (dtype, formats) in ["bf16", "int8", "q8_0"].iter().zip(formats) {
            let output = folder.path().join(format!("{model}-{dtype}"));
            let output = text(&output);
            let document = json(&["convert", &input, output, "--dtype", dtype, "--json"]);
            assert_eq!((&document["dtype"], &document["tensors"]), (&Value::from(*dtype), &Value::from(80)));
            let error = number(&document["largest_error"]["error"]);
            assert!(error > 0.0 && error <= if *dtype == "bf16" { 5e-3 } else { 4e-2 }, "{document}");
            let stored = stored(output);
            assert_eq!(
                stored.iter().map(|format| format.0.as_str()).collect::<Vec<_>>(),
                formats,
                "{output}"
            );
            assert_eq!(stored.iter().map(|format| format.1).sum::<f64>(), number(&document["bytes_after"]));
            assert_eq!(answer(output, &[]), expected, "{output}");
        }
    }
}

#[test]
fn a_converted_pair_of_gguf_files_answers() {
    let folder = tempfile::tempdir().unwrap();
    let parts = ["model", "mmproj"].map(|part| fixture(&format!("models/llava-gguf/{part}.gguf")));
    let expected = answer(&parts[0], &["--mmproj", &parts[1]]);
    for dtype in ["bf16", "q8_0"] {
        let converted = parts.clone().map(|part| {
            let output = folder.path().join(format!("{dtype}-{}", part.rsplit('/').next().unwrap()));
            succeeds(&["convert", &part, text(&output), "--dtype", dtype]);
            text(&output).to_owned()
        });
        let formats = stored(&converted[1]);
        assert!(formats.iter().any(|format| format.0 == dtype), "{formats:?}");
        assert_eq!(answer(&converted[0], &["--mmproj", &converted[1]]), expected, "{dtype}");
    }
}

#[test]
fn the_document_and_the_card_name_the_files_with_their_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (fixture("models/llama-untied"), folder.path().join("out"));
    let document = json(&["convert", &input, text(&output), "--dtype", "int8", "--json"]);
    let fields: Vec<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let known = ["input", "output", "dtype", "tensors", "converted", "bytes_before", "bytes_after"];
    assert_eq!(fields, [&known[..], &["largest_error", "files", "left_out"]].concat());
    let files = document["files"].as_array().unwrap();
    assert_eq!(files.len(), 1);
    let written = std::fs::read(files[0]["path"].as_str().unwrap()).unwrap();
    assert_eq!(files[0]["sha256"], stand_in::sha256(&written));
    assert_eq!(number(&files[0]["bytes"]), written.len() as f64);

    let card = succeeds(&["convert", &input, text(&output), "--dtype", "int8", "--force"]);
    let hash = stand_in::sha256(&std::fs::read(output.join("model.safetensors")).unwrap());
    for part in ["weights before", "as int8", "30, of which 30 converted", "largest relative error", &hash] {
        assert!(card.contains(part), "{part}: {card}");
    }
    assert_eq!(names(folder.path()), ["out"]);
}

#[test]
fn nothing_is_written_over_unless_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (fixture("models/llama-tied"), folder.path().join("out"));
    let run = |input: &str, output: &str, more: &[&str]| {
        let arguments = [&["convert", input, output, "--dtype", "bf16"], more].concat();
        refuses(&arguments)
    };
    std::fs::create_dir(&output).unwrap();
    std::fs::write(output.join("thesis.txt"), "years of work").unwrap();
    let message = run(&input, text(&output), &[]);
    assert!(message.contains("out: it exists; --force replaces it"), "{message}");
    let message = run(&input, text(&output), &["--force"]);
    assert!(message.contains("it is no folder of a model"), "{message}");
    assert_eq!(std::fs::read_to_string(output.join("thesis.txt")).unwrap(), "years of work");

    // The input as the output, inside of it and around it.
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    for name in names(std::path::Path::new(&input)) {
        std::fs::copy(format!("{input}/{name}"), model.join(name)).unwrap();
    }
    let message = run(text(&model), text(&model), &["--force"]);
    assert!(message.contains("it is what is to be converted"), "{message}");
    for (input, output) in [(&model, &model.join("inner")), (&model, &folder.path().to_owned())] {
        let message = run(text(input), text(output), &["--force"]);
        assert!(message.contains("lies inside the other"), "{message}");
    }
    let message = run(&input, text(&folder.path().join("no/such/out")), &[]);
    assert!(message.contains("no/such/out") && message.contains("does not exist"), "{message}");
    assert_eq!(names(folder.path()), ["model", "out"]);
}

#[test]
fn what_cannot_be_converted_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let run = |input: &str, dtype: &str| refuses(&["convert", input, text(&output), "--dtype", dtype]);
    let message = run(&fixture("models/llava-gguf/model.gguf"), "int8");
    assert!(message.contains("int8 is no type of GGUF; allowed for a GGUF file: bf16, q8_0"), "{message}");
    let message = run(&fixture("gguf/llama-q4km.gguf"), "bf16");
    assert!(message.contains("Q4_K") && message.contains("--requantise"), "{message}");
    let message = run(&fixture("models/clip/model.safetensors"), "bf16");
    assert!(message.contains("a model's folder or FILE.gguf"), "{message}");
    let message = run(text(folder.path()), "bf16");
    assert!(message.contains("no config.json"), "{message}");
    assert!(names(folder.path()).is_empty());
}

/// A limit on the size of files stands for a disk that fills up: where its signal is ignored writing fails, else the
/// process is ended in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_and_an_interrupted_run_leave_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_foveate");
    for (input, name) in [("models/llava-1.5", "out"), ("models/llava-gguf/model.gguf", "out.gguf")] {
        let (input, output) = (fixture(input), folder.path().join(name));
        let run = |before: &str| {
            let script = format!("{before}; exec \"$0\" convert \"$1\" \"$2\" --dtype bf16 --force");
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script, program, &input, text(&output)]).output().unwrap()
        };
        for earlier in [false, true] {
            if earlier {
                let done = foveate(&["convert", &input, text(&output), "--dtype", "bf16"]);
                assert!(done.status.success(), "{done:?}");
            }
            let before = earlier.then(|| stored(text(&output)));
            // Blocks of 512 bytes or of a kilobyte, as the shell has it: less than the weights either way.
            let failed = run("trap '' XFSZ; ulimit -f 64");
            let message = String::from_utf8(failed.stderr).unwrap();
            assert_eq!(failed.status.code(), Some(2), "{message}");
            assert!(message.contains("cannot write") && message.contains(text(&output)), "{message}");
            let hidden = names(folder.path()).into_iter().filter(|name| name.starts_with('.'));
            assert_eq!(hidden.count(), 0, "a failure tidies up");
            let ended = run("ulimit -c 0; ulimit -f 64");
            assert!(!ended.status.success() && ended.status.code().is_none(), "{ended:?}");
            assert_eq!(output.exists().then(|| stored(text(&output))), before);
            // What was begun lies beside it, under a hidden name.
            for name in names(folder.path()).into_iter().filter(|name| name.starts_with('.')) {
                let path = folder.path().join(name);
                if path.is_dir() {
                    std::fs::remove_dir_all(path).unwrap()
                } else {
                    std::fs::remove_file(path).unwrap()
                }
            }
        }
    }
}
