//! `foveate demo` and the model that is a part of the program, with nothing around it.

use std::collections::BTreeSet;

use super::*;

/// The program with no home, no caches and no path, in `folder`.
fn bare(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
    command.env_clear().current_dir(folder).args(arguments).output().unwrap()
}

fn printed(output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Width and height of a PNG file, from its header.
fn png_size(path: &Path) -> [u32; 2] {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n", "{}", path.display());
    [16_usize, 20].map(|at| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()))
}

#[test]
fn everything_is_shown_without_a_home_and_the_last_line_is_for_programs() {
    let folder = tempfile::tempdir().unwrap();
    let text = printed(bare(folder.path(), &["demo"]));
    let (told, last) = text.trim_end().rsplit_once('\n').unwrap();
    for part in ["alpha/beta 4.70", "2 TFLOP", "foveate-nano", "expected", "V = 1 ", "V = 16", "median ms"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let document: Value = serde_json::from_str(last).unwrap();
    assert!((number(&document["law"]["ratio"]) - 4.70).abs() < 0.01);
    assert_eq!(document["plan"]["best"].as_array().unwrap().len(), 3);
    assert!(number(&document["seconds"]) < 30.0, "{}", document["seconds"]);

    // What is marked right in the table is right: the answer is the one that was expected.
    let answers = document["answers"].as_array().unwrap();
    assert!(answers.len() >= 6);
    let mut right = 0;
    for answered in answers {
        let expected = answered["expected"].as_str().unwrap();
        let answers = answered["answers"].as_object().unwrap();
        assert!(["1", "4", "16"].iter().all(|tokens| answers.contains_key(*tokens)), "{answered}");
        for (tokens, answer) in answers {
            let same = answer.as_str().unwrap().eq_ignore_ascii_case(expected);
            assert!(!same || answered["right"][tokens] == true, "{answered}");
            right += usize::from(answered["right"][tokens] == true);
            assert!(number(&answered["ms"][tokens]) > 0.0);
        }
    }
    assert_eq!(told.matches('✓').count(), right);

    let out = folder.path().join("foveate-demo");
    let [width, height] = png_size(&folder.path().join(document["picture"].as_str().unwrap()));
    assert!((600..4000).contains(&width) && (300..4000).contains(&height), "{width} x {height}");
    let mut wanted: BTreeSet<String> =
        answers.iter().map(|answered| answered["image"].as_str().unwrap().to_owned()).collect();
    for image in &wanted {
        assert_eq!(png_size(&out.join(image)), [168, 168]);
    }
    wanted.insert("look.png".to_owned());
    assert_eq!(names(&out), wanted);
    assert_eq!(names(folder.path()), BTreeSet::from(["foveate-demo".to_owned()]), "nothing else is written");
}

#[test]
fn json_is_that_line_alone_and_answers_do_not_change() {
    let folder = tempfile::tempdir().unwrap();
    // A home that nothing can be written to, nor read from.
    let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME", "FOVEATE_HOME"] {
        command.env(variable, "/dev/null/nowhere");
    }
    command.current_dir(folder.path()).args(["demo", "--json", "--out", "shown"]);
    let text = printed(command.output().unwrap());
    assert_eq!(text.lines().count(), 1, "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["picture"].as_str(), Some("shown/look.png"));
    // Into a folder that is there, on one thread.
    let again = printed(bare(folder.path(), &["demo", "--json", "--out", "shown", "--threads", "1"]));
    let again: Value = serde_json::from_str(&again).unwrap();
    let answers = |document: &Value| {
        let answers = document["answers"].as_array().unwrap().iter();
        answers.map(|answered| answered["answers"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(answers(&document), answers(&again));
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "mine").unwrap();
    for (out, wanted) in [
        ("file", "cannot write file: it is not a folder"),
        ("file/inside", "cannot write file/inside: there is no folder file"),
        ("absent/inside", "cannot write absent/inside: there is no folder absent"),
    ] {
        let output = bare(folder.path(), &["demo", "--out", out]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(output.stdout.is_empty() && message.contains(wanted), "{message}");
        assert_eq!(names(folder.path()), BTreeSet::from(["file".to_owned()]));
    }
}

#[test]
fn the_embedded_model_goes_wherever_a_model_goes() {
    let folder = tempfile::tempdir().unwrap();
    printed(bare(folder.path(), &["demo", "--json"]));
    let run = |arguments: &[&str]| printed(bare(folder.path(), arguments));
    let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let question = "How many shapes are there?";
    let image = ["--image", "foveate-demo/scene-1.png", "--max-new-tokens", "4"];

    let named =
        parse(run(
            &[&["ask", "foveate-nano", question, "--visual-tokens", "4", "--json"][..], &image].concat()
        ));
    assert_eq!((named["model"].as_str(), named["visual_tokens"].as_u64()), (Some("foveate-nano"), Some(4)));
    // Without MODEL the same one answers.
    let default = parse(run(&[&["ask", question, "--visual-tokens", "4", "--json"][..], &image].concat()));
    assert_eq!((&default["model"], &default["answer"]), (&named["model"], &named["answer"]));
    let rows = parse(run(&[&["compare", question, "--visual-tokens", "1,4", "--json"][..], &image].concat()));
    assert_eq!((rows[0]["visual_tokens"].as_u64(), &rows[1]["answer"]), (Some(1), &named["answer"]));
    let looked = run(&[
        "look",
        "foveate-nano",
        question,
        "--image",
        "foveate-demo/scene-1.png",
        "--visual-tokens",
        "4",
    ]);
    assert!(looked.starts_with("look.png: 4 tokens of quecc"), "{looked}");
    std::fs::write(folder.path().join("in.jsonl"), format!("{{\"question\": \"{question}\"}}\n")).unwrap();
    let done =
        parse(run(&["batch", "foveate-nano", "in.jsonl", "out.jsonl", "--max-new-tokens", "2", "--json"]));
    assert_eq!(done["answered"], 1);
    let timed =
        run(&["bench", "foveate-nano", "--no-profile", "--visual-tokens", "4", "--threads", "1", "--json"]);
    assert!(timed.contains("\"stage\":\"tower\"") && timed.contains("\"stage\":\"decode\""), "{timed}");
}

#[test]
fn the_embedded_model_has_a_card() {
    let folder = tempfile::tempdir().unwrap();
    let document: Value =
        serde_json::from_str(&printed(bare(folder.path(), &["inspect", "foveate-nano", "--json"]))).unwrap();
    assert_eq!(document["kind"], "vision-language-model");
    assert_eq!(
        (document["path"].as_str(), document["image"]["compressor"].as_str()),
        (Some("foveate-nano"), Some("quecc"))
    );
    let card = document["card"].as_str().unwrap();
    for section in ["## Data and licences", "## Recipe", "## Scores", "## Limits"] {
        assert!(card.contains(section), "{section} is not in\n{card}");
    }
    assert!(!card.starts_with("---"), "front matter is for machines");
    let told = printed(bare(folder.path(), &["inspect", "foveate-nano"]));
    assert!(told.trim_end().ends_with(card), "the card comes last\n{told}");
    // As a folder it says the same of itself.
    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/foveate-nano");
    let outside = json(&["inspect", assets, "--json"]);
    for field in ["architecture", "parts", "bytes", "image", "cost", "card"] {
        assert_eq!(document[field], outside[field], "{field}");
    }
    assert_eq!(json(&["inspect", &fixture("models/llava-1.5"), "--json"])["card"], Value::Null);
}

#[test]
fn what_needs_files_or_a_question_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // A folder of that name is another model.
    std::fs::create_dir(folder.path().join("foveate-nano")).unwrap();
    for (arguments, wanted) in [
        (&["convert", "foveate-nano", "out", "--dtype", "bf16"][..], "foveate-nano is a part of the program"),
        (&["pull", "foveate-nano"], "foveate-nano is a part of the program"),
        (&["ask", "./foveate-nano", "Why?"], "no config.json"),
        (&["ask", "foveate-nano"], "a question is missing"),
        (&["ask", "owner/model"], "owner/model: this names a model, and a question is missing"),
        (&["compare", "./foveate-nano", "--image", "x.png"], "a question is missing"),
        (&["ask"], "<QUESTION>"),
        (&["look", "--image", "x.png"], "<MODEL>"),
        (&["batch", "in.jsonl", "out.jsonl"], "required"),
        (&["ask", "foveate-nano", "Why?", "--mmproj", "x.gguf"], "--mmproj: foveate-nano is whole"),
    ] {
        let output = bare(folder.path(), arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(wanted), "{arguments:?}: {message}");
    }
}
