//! `--visual-tokens auto`: fitted, measured, chosen, and the same answer as with the number that was chosen.

use std::path::{Path, PathBuf};

use super::*;

const QUESTION: &str = "How many stars are there?";

/// Scenes and texts to learn from, few steps, and a guess of the family.
pub(crate) fn trained(home: &Path, families: &str) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/smoke.toml");
    let mut written = std::fs::read_to_string(recipe).unwrap();
    for split in ["train", "validation"] {
        let name = if split == "train" { "texts" } else { "texts-validation" };
        written += &format!(
            "\n[data.{name}]\nkind = \"texts\"\nsplit = \"{split}\"\nseed = 1\nlength = 5000\nside = 32\n"
        );
    }
    let path = home.join("recipe.toml");
    std::fs::write(&path, written + families).unwrap();
    let out = home.join("run");
    let set = [
        "stages.0.steps=4",
        "stages.0.batch=4",
        "stages.0.mix={ scenes = 1.0, texts = 1.0 }",
        "evaluation.questions=20",
        "evaluation.data=['scenes-validation', 'texts-validation']",
        "parts.tokenizer.trained.samples=60",
    ];
    let mut arguments = vec!["train", text(&path), "--out", text(&out), "--json"];
    arguments.extend(set.iter().flat_map(|set| ["--set", set]));
    json(&arguments);
    out.join("model")
}

/// One token is as good as sixteen for reasoning, and sixteen are needed to read.
pub(crate) const LAWS: &str = r#"{"compressor": "quecc", "families": {
    "reasoning": {"rungs": [{"visual_tokens": 1, "error": 0.30}, {"visual_tokens": 4, "error": 0.295}, {"visual_tokens": 16, "error": 0.29}]},
    "text": {"rungs": [{"visual_tokens": 1, "error": 0.99}, {"visual_tokens": 4, "error": 0.80}, {"visual_tokens": 16, "error": 0.30}]}}}"#;

fn written(folder: &Path, name: &str, content: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn ask(model: &Path, question: &str, more: &[&str]) -> Value {
    let image = fixture("images/cat.png");
    let all = ["ask", text(model), question, "--image", &image, "--max-new-tokens", "4", "--json"];
    json(&[&all[..], more].concat())
}

/// An answer without its times and without how its tokens were chosen.
fn plain(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let fields = answer.as_object_mut().unwrap();
    fields.remove("ms");
    fields.remove("auto");
    answer
}

#[test]
fn a_model_is_measured_and_then_chooses() {
    let home = tempfile::tempdir().unwrap();
    let model = trained(home.path(), "\n[families]\ndata = [\"scenes\", \"texts\"]\nquestions = 400\n");
    let head: Value = serde_json::from_slice(&std::fs::read(model.join("families.json")).unwrap()).unwrap();
    assert_eq!(head["families"], serde_json::json!(["reasoning", "text"]));
    let [right, asked] = [0, 1].map(|at| number(&head["fitted"]["validation"][at]));
    // Questions about scenes and texts share few words: even a model of four steps tells most of them apart.
    assert!(asked == 400.0 && right > 0.9 * asked, "{right} of {asked}");
    let card = std::fs::read_to_string(model.join("README.md")).unwrap();
    assert!(
        card.contains("## Visual tokens by question") && card.contains("of 400 validation questions"),
        "{card}"
    );

    // Without errors there is nothing to choose by.
    let refused = refuses(&["ask", text(&model), QUESTION, "--visual-tokens", "auto"]);
    assert!(refused.contains("has no laws.json") && refused.contains("foveate calibrate"), "{refused}");
    let samples = home.path().join("samples");
    let eval = |split: &str, tokens: &str, folder: &Path| {
        json(&[
            "eval",
            text(&model),
            "scenes",
            "texts",
            "--limit",
            "16",
            "--split",
            split,
            "--visual-tokens",
            tokens,
            "--samples",
            text(folder),
            "--json",
        ])
    };
    eval("validation", "1,4,16", &samples);
    let test = home.path().join("test");
    eval("test", "1", &test);
    let calibrate = ["calibrate", text(&model), "--json", "--results"];
    let refused = refuses(&[&calibrate[..], &[text(&test)]].concat());
    assert!(refused.contains("holds answers to test"), "{refused}");
    let document = json(&[&calibrate[..], &[text(&samples)]].concat());
    assert_eq!((&document["fitted"], &document["questions"]), (&false.into(), &400.into()));
    let errors = &document["laws"]["families"]["reasoning"]["rungs"];
    assert_eq!(errors.as_array().unwrap().len(), 3);
    let shown = succeeds(&["inspect", text(&model)]);
    assert!(
        shown.contains("a guess of reasoning or text, right about") && shown.contains("error of text:"),
        "{shown}"
    );

    let auto = ask(&model, QUESTION, &["--visual-tokens", "auto"]);
    let chosen = &auto["auto"];
    let sum: f64 = ["reasoning", "text"].iter().map(|family| number(&chosen["families"][family])).sum();
    assert!((sum - 1.0).abs() < 1e-9, "{chosen}");
    assert_eq!(auto["visual_tokens"], chosen["visual_tokens"]);
    let tokens = chosen["visual_tokens"].to_string();
    assert_eq!(plain(&auto), plain(&ask(&model, QUESTION, &["--visual-tokens", &tokens])));

    // Both kinds of numbers side by side, on the same questions.
    let document = eval("validation", "1,4,16,auto", &samples);
    let frontier = document["frontier"].as_array().unwrap();
    assert_eq!(frontier.iter().map(|found| &found["cost"]).collect::<Vec<_>>(), ["flops", "ms"]);
    assert_eq!((&frontier[0]["questions"], frontier[0]["fixed"].as_array().unwrap().len()), (&32.into(), 3));
    let [low, high] = [0, 1].map(|end| number(&frontier[0]["interval"][end]));
    assert!(low <= number(&frontier[0]["difference"]) && number(&frontier[0]["difference"]) <= high);
    assert!(samples.join("texts-vauto-quecc.jsonl").is_file());
}

#[test]
fn families_and_limits_decide() {
    let home = tempfile::tempdir().unwrap();
    let model = trained(home.path(), "");
    assert!(!model.join("families.json").exists());
    let refused = refuses(&["ask", text(&model), QUESTION, "--visual-tokens", "auto"]);
    assert!(refused.contains("has no families.json") && refused.contains("foveate calibrate"), "{refused}");
    // Fitted to a finished model; the same on any number of threads.
    let fitted = |threads: &str| {
        let document = json(&["calibrate", text(&model), "--threads", threads, "--json"]);
        assert_eq!((&document["fitted"], &document["laws"]), (&true.into(), &Value::Null));
        let path = model.join("families.json");
        let head = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        head
    };
    assert_eq!(fitted("1"), fitted("2"));
    json(&["calibrate", text(&model), "--json"]);
    let card = std::fs::read_to_string(model.join("README.md")).unwrap();
    assert_eq!(card.matches("## Visual tokens by question").count(), 1, "{card}");

    let laws = written(home.path(), "laws.json", LAWS);
    let chosen = |question: &str, more: &[&str]| {
        let flags = ["--visual-tokens", "auto", "--laws", text(&laws)];
        let answer = ask(&model, question, &[&flags[..], more].concat());
        let tokens = answer["auto"]["visual_tokens"].to_string();
        assert_eq!(plain(&answer), plain(&ask(&model, question, &["--visual-tokens", &tokens])));
        answer["auto"].clone()
    };
    let table: Value = serde_json::from_str(LAWS).unwrap();
    for question in [QUESTION, "What is written in the picture?"] {
        let found = chosen(question, &[]);
        // By hand: the mean over the families, and the cheapest within 0.02 of the least.
        let expected = |rung: usize| -> f64 {
            ["reasoning", "text"]
                .iter()
                .map(|family| {
                    let error = &table["families"][family]["rungs"][rung]["error"];
                    number(&found["families"][family]) * number(error)
                })
                .sum()
        };
        let errors = [0, 1, 2].map(expected);
        let wanted = [1, 4, 16][errors.iter().position(|error| *error <= errors[2] + 0.02).unwrap()];
        assert_eq!(found["visual_tokens"], wanted, "{found}");
        assert!(found["why"].as_str().unwrap().contains("within 0.02 of the least"), "{found}");
        let costs: Vec<f64> =
            found["rungs"].as_array().unwrap().iter().map(|rung| number(&rung["cost"])).collect();
        assert!(costs.len() == 3 && costs[0] > costs[1] && costs[1] > costs[2], "{found}");

        // What the cheapest costs buys the cheapest; what all cost buys the least error; any less buys nothing.
        let budget = |flops: f64| format!("{}FLOP", flops.ceil());
        assert_eq!(chosen(question, &["--budget", &budget(costs[2])])["visual_tokens"], 1);
        let all = chosen(question, &["--budget", &budget(costs[0])]);
        assert!(
            all["visual_tokens"] == 16 && all["why"].as_str().unwrap().contains("3 of 3 numbers within"),
            "{all}"
        );
        assert_eq!(chosen(question, &["--tolerance", "1"])["visual_tokens"], 1);
    }
    let ample = chosen(QUESTION, &["--max-latency", "60000"]);
    assert_eq!((&ample["visual_tokens"], &ample["cost"]), (&16.into(), &"ms".into()), "{ample}");
    let image = fixture("images/cat.png");
    let base =
        ["ask", text(&model), QUESTION, "--image", &image, "--visual-tokens", "auto", "--laws", text(&laws)];
    let refused = refuses(&[&base[..], &["--budget", "1FLOP"]].concat());
    assert!(refused.contains("with 1 visual tokens"), "{refused}");
    let refused = refuses(&[&base[..], &["--max-latency", "0.000001"]].concat());
    assert!(refused.contains("ms may be spent"), "{refused}");
}

#[test]
fn rows_of_a_file_get_what_each_calls_for() {
    let home = tempfile::tempdir().unwrap();
    let model = trained(home.path(), "");
    json(&["calibrate", text(&model), "--json"]);
    let laws = written(home.path(), "laws.json", LAWS);
    let image = fixture("images/cat.png");
    let rows: Vec<String> = [QUESTION, "What is written in the picture?", QUESTION]
        .iter()
        .map(|question| serde_json::json!({"question": question, "image": image}).to_string())
        .chain([serde_json::json!({"question": "Hello?"}).to_string()])
        .collect();
    let input = written(home.path(), "in.jsonl", &rows.join("\n"));
    let run = |out: &str, more: &[&str]| -> Vec<Value> {
        let out = home.path().join(out);
        let all = ["batch", text(&model), text(&input), text(&out), "--max-new-tokens", "4", "--json"];
        let output = foveate(&[&all[..], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = std::fs::read_to_string(out).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let auto = ["--visual-tokens", "auto", "--laws", text(&laws)];
    let lines = run("auto.jsonl", &auto);
    for line in &lines[..3] {
        let alone = ask(&model, line["question"].as_str().unwrap(), &auto);
        assert_eq!((&line["answer"], &line["auto"]), (&alone["answer"], &alone["auto"]));
    }
    assert!(lines[3].get("auto").is_none() && lines[3]["visual_tokens"] == 0, "{}", lines[3]);
    // Answers that were chosen by other limits are not gone on with.
    let out = home.path().join("auto.jsonl");
    let all =
        ["batch", text(&model), text(&input), text(&out), "--max-new-tokens", "4", "--tolerance", "0.5"];
    let refused = refuses(&[&all[..], &auto].concat());
    assert!(refused.contains("other flags"), "{refused}");
}

#[test]
fn models_and_flags_that_do_not_go_with_it_are_named() {
    let home = tempfile::tempdir().unwrap();
    let laws = written(home.path(), "laws.json", LAWS);
    let plain = fixture("models/llava-1.5");
    let image = fixture("images/cat.png");
    let refused = refuses(&["ask", &plain, QUESTION, "--image", &image, "--visual-tokens", "auto"]);
    assert!(refused.contains("identity of") && refused.contains("does not read the question"), "{refused}");
    let refused = refuses(&["calibrate", &plain]);
    assert!(refused.contains("does not read the question"), "{refused}");
    let refused = refuses(&["calibrate", "foveate-nano"]);
    assert!(refused.contains("a model's folder is needed"), "{refused}");
    let refused = refuses(&["ask", &plain, QUESTION, "--image", &image, "--laws", text(&laws)]);
    assert!(refused.contains("--laws goes with --visual-tokens auto"), "{refused}");
    let refused = refuses(&["serve", &plain, "--visual-tokens", "auto"]);
    assert!(refused.contains("only ask and batch"), "{refused}");
    let refused = refuses(&["eval", &plain, "scenes", "--visual-tokens", "4", "--tolerance", "0.1"]);
    assert!(refused.contains("--tolerance goes with"), "{refused}");
    for (flag, value) in [("--tolerance", "2"), ("--budget", "3GiB"), ("--max-latency", "-1")] {
        let output = foveate(&["ask", &plain, QUESTION, "--visual-tokens", "auto", flag, value]);
        assert_eq!(output.status.code(), Some(2), "{flag} {value}");
    }
    let refused = refuses(&["serve", &plain, "--laws", text(&laws)]);
    assert!(refused.contains("does not read the question"), "{refused}");
}
