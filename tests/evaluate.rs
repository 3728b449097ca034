//! `foveate eval`: figures, samples that a run goes on with, comparisons, and files that are refused.

use super::*;

/// foveate-nano on generated scenes at two numbers of visual tokens.
const SCENES: [&str; 7] = ["eval", "foveate-nano", "scenes", "--visual-tokens", "1,4", "--limit", "24"];

/// The results without times.
fn results(document: &Value) -> Vec<Value> {
    let mut results = document["results"].as_array().unwrap().clone();
    for result in &mut results {
        result.as_object_mut().unwrap().remove("ms");
        result.as_object_mut().unwrap().remove("samples");
    }
    results
}

#[test]
fn figures_have_intervals_and_samples_say_what_was_answered() {
    let home = tempfile::tempdir().unwrap();
    let samples = home.path().join("samples");
    let document = json(&[&SCENES[..], &["--samples", text(&samples), "--json"]].concat());
    let all = document["results"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    for (result, tokens) in all.iter().zip([1, 4]) {
        assert_eq!((&result["n"], &result["failed"]), (&24.into(), &0.into()));
        assert_eq!((&result["metric"], &result["family"]), (&"exact-match".into(), &"reasoning".into()));
        assert_eq!(result["visual_tokens"], f64::from(tokens));
        let (score, interval) = (number(&result["score"]), &result["interval"]);
        assert!(number(&interval[0]) <= score && score <= number(&interval[1]));
        assert!((score + number(&result["error"]) - 1.0).abs() < 1e-12 && number(&result["error_se"]) > 0.0);

        let lines = std::fs::read_to_string(result["samples"].as_str().unwrap()).unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["task"]), (25, &"scenes".into()));
        let sum: f64 = lines[1..].iter().map(|line| number(&line["score"])).sum();
        assert!((sum / 24.0 - score).abs() < 1e-12);
        let flops: f64 = lines[1..].iter().map(|line| number(&line["flops"])).sum();
        assert!((flops / 24.0 / number(&result["flops"]) - 1.0).abs() < 1e-12);
    }
    assert!(number(&all[0]["flops"]) < number(&all[1]["flops"]), "fewer tokens cost less");
    let told = succeeds(&SCENES);
    assert!(told.contains("95 % interval") && told.contains("scenes"), "{told}");
}

#[test]
fn a_run_that_was_cut_off_goes_on_to_the_same_figures() {
    let home = tempfile::tempdir().unwrap();
    let samples = home.path().join("samples");
    let run = || json(&[&SCENES[..], &["--samples", text(&samples), "--json"]].concat());
    let whole = run();
    let path = samples.join("scenes-v4-quecc.jsonl");
    let all = std::fs::read(&path).unwrap();
    // In the middle of a line.
    std::fs::write(&path, &all[..all.len() / 2]).unwrap();
    assert_eq!(results(&run()), results(&whole));
    // Other questions are no continuation.
    let other = refuses(&[
        "eval",
        "foveate-nano",
        "scenes",
        "--visual-tokens",
        "4",
        "--limit",
        "23",
        "--samples",
        text(&samples),
    ]);
    assert!(other.contains("scenes-v4-quecc.jsonl") && other.contains("another run"), "{other}");
}

#[test]
fn systems_are_compared_question_by_question() {
    let home = tempfile::tempdir().unwrap();
    let samples = home.path().join("samples");
    json(&[&SCENES[..], &["--samples", text(&samples), "--json"]].concat());
    let against =
        |more: &[&str]| json(&[&SCENES[..], more, &["--against", text(&samples), "--json"]].concat());
    let same = against(&[]);
    assert_eq!(
        same["results"][1]["against"],
        serde_json::json!({"n": 24, "difference": 0.0, "interval": [0.0, 0.0]})
    );
    let smaller = against(&["--compressor", "down-scaling"]);
    let result = &smaller["results"][0];
    assert_eq!((&result["compressor"], &result["against"]["n"]), (&"down-scaling".into(), &24.into()));
    assert!(number(&result["against"]["interval"][0]) <= number(&result["against"]["difference"]));
    let empty = home.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let refused = refuses(&[&SCENES[..], &["--against", text(&empty)]].concat());
    assert!(refused.contains("holds 0 to compare with"), "{refused}");
}

#[test]
fn a_control_stands_beside_what_it_controls() {
    let home = tempfile::tempdir().unwrap();
    let samples = home.path().join("samples");
    let control = ["--shuffle-questions=5", "--samples", text(&samples), "--json"];
    let document = json(&[&SCENES[..], &control].concat());
    let all = document["results"].as_array().unwrap();
    let tasks: Vec<&str> = all.iter().map(|result| result["task"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["scenes", "scenes", "scenes-shuffled", "scenes-shuffled"]);
    for (plain, control) in all.iter().zip(&all[2..]) {
        assert_eq!((&plain["family"], &control["family"]), (&"reasoning".into(), &"control".into()));
        assert_eq!((&control["control_of"], &control["against"]["n"]), (&"scenes".into(), &24.into()));
        let difference = number(&control["score"]) - number(&plain["score"]);
        assert!((number(&control["against"]["difference"]) - difference).abs() < 1e-12);
        // The same questions; the compressor read others.
        let lines = |result: &Value| -> Vec<Value> {
            let text = std::fs::read_to_string(result["samples"].as_str().unwrap()).unwrap();
            text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        for (plain, control) in lines(plain).iter().zip(lines(control)) {
            assert_eq!((&plain["question"], &plain["looked_for"]), (&control["question"], &Value::Null));
            assert_ne!(control["looked_for"], control["question"]);
            assert!(control["looked_for"].as_str().unwrap().len() > 3);
        }
    }
    let told = succeeds(&[&SCENES[..], &["--shuffle-questions"]].concat());
    assert!(told.contains("with questions of other pictures for the compressor"), "{told}");
    let deaf = refuses(&[&SCENES[..], &["--shuffle-questions", "--compressor", "down-scaling"]].concat());
    assert!(deaf.contains("reads no question"), "{deaf}");
}

#[test]
fn perplexity_is_told_and_compared() {
    let home = tempfile::tempdir().unwrap();
    let kept = home.path().join("kept");
    let (model, held) = (fixture("models/llama-tied"), fixture("text/held.txt"));
    let eval = |model: &str, more: &[&str]| {
        json(&[&["eval", model, "--perplexity", &held, "--json"][..], more].concat())
    };
    let found = eval(&model, &["--samples", text(&kept)]);
    assert_eq!((&found["documents"], &found["left_out"]), (&20.into(), &0.into()));
    let exact = (number(&found["nats"]) / number(&found["tokens"])).exp();
    assert!((number(&found["perplexity"]["value"]) / exact - 1.0).abs() < 1e-9);
    let same = eval(&model, &["--against", text(&kept)]);
    for ratio in [&same["against"]["value"], &same["against"]["interval"][0], &same["against"]["interval"][1]]
    {
        assert!((number(ratio) - 1.0).abs() < 1e-12, "{same}");
    }
    // Its language model alone; other weights, the same tokens.
    let other = eval(&model, &["--dtype", "int8", "--against", text(&kept)]);
    let ratio = number(&other["against"]["value"]);
    assert!(ratio != 1.0 && (0.8..1.25).contains(&ratio), "{ratio}");
    let nano = refuses(&["eval", "foveate-nano", "--perplexity", &held, "--against", text(&kept)]);
    assert!(nano.contains("reads other tokens"), "{nano}");
    let told = succeeds(&["eval", &model, "--perplexity", &held]);
    assert!(told.contains("bits a byte") && told.contains("20 documents"), "{told}");
    assert!(refuses(&["eval", &model, "--perplexity", "no-such.txt"]).contains("no-such.txt"));
    assert!(refuses(&["eval", &model]).contains("TASK"));
}

#[test]
fn answers_by_likelihood_are_options() {
    let home = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("images/cat.png"), home.path().join("cat.png")).unwrap();
    let path = home.path().join("ai2d.jsonl");
    let record = |question: &str, answer: usize| serde_json::json!({"question": question, "options": ["a cat", "a dog", "yes"], "answer": answer, "image": "cat.png"});
    let records: Vec<String> =
        (0..6).map(|nth| record(&format!("What is number {nth}?"), nth % 3).to_string()).collect();
    std::fs::write(&path, records.join("\n")).unwrap();
    let word = format!("ai2d={}", path.display());
    let samples = home.path().join("samples");
    for answer in ["letters", "options"] {
        let folder = samples.join(answer);
        std::fs::create_dir_all(&folder).unwrap();
        let document =
            json(&["eval", "foveate-nano", &word, "--answer", answer, "--samples", text(&folder), "--json"]);
        let result = &document["results"][0];
        assert_eq!((&result["metric"], &result["n"]), (&"choice".into(), &6.into()));
        let lines = std::fs::read_to_string(result["samples"].as_str().unwrap()).unwrap();
        for line in lines.lines().skip(1) {
            let line: Value = serde_json::from_str(line).unwrap();
            let allowed = if answer == "letters" { ["A", "B", "C"] } else { ["a cat", "a dog", "yes"] };
            assert!(allowed.contains(&line["answer"].as_str().unwrap()), "{line}");
            // Every candidate stands for an option.
            assert!(["A", "B", "C"].contains(&line["read"].as_str().unwrap()), "{line}");
        }
    }
}

#[test]
fn a_file_of_tasks_is_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tasks.toml");
    let tasks = "[easy]\ndata = { kind = \"scenes\", split = \"test\", seed = 4, length = 50, side = 32, most_objects = 3 }\n\
                 limit = 5\n\n[lines]\ndata = { kind = \"texts\", split = \"test\", seed = 4, length = 50, side = 64 }\n\
                 limit = 5\nmetric = \"character-error\"\nprompt = \"Read: {question}\"\n";
    std::fs::write(&path, tasks).unwrap();
    let document = json(&["eval", "foveate-nano", text(&path), "--visual-tokens", "4", "--json"]);
    let names: Vec<&str> = document["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["task"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["easy", "lines"]);
    assert_eq!(document["results"][1]["metric"], "character-error");
    std::fs::write(&path, tasks.replace("prompt", "prompts")).unwrap();
    let refused = refuses(&["eval", "foveate-nano", text(&path)]);
    assert!(refused.contains("tasks.toml") && refused.contains("prompts"), "{refused}");
}

#[test]
fn what_cannot_be_measured_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("pope.jsonl");
    std::fs::write(&path, "{\"question_id\": 1, \"text\": \"Is it?\", \"image\": \"a.jpg\"}\n").unwrap();
    let eval = |task: &str| refuses(&["eval", "foveate-nano", task]);
    let column = eval(&format!("pope={}", path.display()));
    assert!(
        column.contains("pope.jsonl: no column answer or label; it has question_id, text, image"),
        "{column}"
    );
    let unknown = eval("vqa-v9");
    assert!(
        unknown.contains("vqa-v9: no task") && unknown.contains("mathvista") && unknown.contains("nlvr"),
        "{unknown}"
    );
    assert!(eval("docvqa").contains("docvqa=PATH"));
    assert!(eval("nlvr=no-such.zip").contains("no-such.zip"));
    let rung = refuses(&["eval", "foveate-nano", "scenes", "--visual-tokens", "5"]);
    assert!(rung.contains("cannot give 5"), "{rung}");
    let blind = refuses(&["eval", &fixture("models/llama-tied"), "scenes", "--visual-tokens", "4"]);
    assert!(blind.contains("without sight"), "{blind}");
    let metric = refuses(&["eval", "foveate-nano", "scenes", "--metric", "bleu"]);
    assert!(metric.contains("bleu") && metric.contains("relaxed-accuracy"), "{metric}");
    let fits = refuses(&["eval", "foveate-nano", "scenes", "--metric", "choice", "--limit", "3"]);
    assert!(fits.contains("choice cannot judge"), "{fits}");
    // A picture that is lost fails its question, and one in a hundred is tolerated.
    std::fs::write(&path, "{\"text\": \"Is it?\", \"image\": \"a.jpg\", \"label\": \"no\"}\n").unwrap();
    let lost = eval(&format!("pope={}", path.display()));
    assert!(lost.contains("1 of 1 questions could not be asked") && lost.contains("a.jpg"), "{lost}");
}
