//! Token budgets: `ask --visual-tokens`, `compare`, `look` and `batch` on tiny checkpoints in each published layout, judged
//! by what PyTorch answered.

use std::path::PathBuf;
use std::process::Stdio;

use safetensors::SafeTensors;
use tokenizers::Tokenizer;

use super::*;

const QUESTION: &str = "What colour is the small square?";

fn model(layout: &str) -> String {
    fixture(&format!("models/compressed-{layout}"))
}

fn cat() -> String {
    fixture("images/cat.png")
}

/// Every `METHOD.V` whose greedy tokens the fixture holds, with their text.
fn references(layout: &str) -> Vec<(String, String, String)> {
    let folder = PathBuf::from(model(layout));
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut found = Vec::new();
    for (name, tensor) in tensors.tensors() {
        let Some(case) = name.strip_prefix("out.").and_then(|name| name.strip_suffix(".greedy")) else {
            continue;
        };
        let (method, budget) = case.split_once('.').unwrap();
        let ids: Vec<u32> = tensor
            .data()
            .chunks_exact(8)
            .map(|id| u32::try_from(i64::from_le_bytes(id.try_into().unwrap())).unwrap())
            .collect();
        found.push((method.to_owned(), budget.to_owned(), tokenizer.decode(&ids, true).unwrap()));
    }
    found
}

fn ask(layout: &str, more: &[&str]) -> Value {
    let (model, image) = (model(layout), cat());
    let mut arguments = vec!["ask", &model, QUESTION, "--image", &image, "--max-new-tokens", "12", "--json"];
    arguments.extend(more);
    json(&arguments)
}

#[test]
fn every_layout_and_method_answers_as_the_reference_at_each_budget() {
    let mut cases = 0;
    for layout in ["plain", "quecc", "elastic", "token-packer", "mqt"] {
        for (method, budget, text) in references(layout) {
            let document = match method.as_str() {
                // Four patches of seven pixels on a side.
                "down-scaled" => ask(layout, &["--image-size", "28", "--visual-tokens", &budget]),
                method => ask(layout, &["--compressor", method, "--visual-tokens", &budget]),
            };
            let name = format!("{layout} {method} {budget}");
            // The references read Vicuna's prompt, which the original layouts mean; our own folder has a template.
            assert!(layout == "elastic" || document["answer"] == text, "{name}: {}", document["answer"]);
            let made_by = if method == "down-scaled" { "identity" } else { &method };
            assert_eq!(document["compressor"], made_by, "{name}");
            if let Ok(tokens) = budget.parse::<u64>() {
                assert_eq!(document["visual_tokens"], tokens, "{name}");
            }
            // Only QueCC asks the language model about the question first.
            assert_eq!(number(&document["ms"]["query"]) > 0.0, method == "quecc", "{name}");
            cases += 1;
        }
    }
    assert!(cases >= 20, "{cases}");
}

#[test]
fn fewer_tokens_cost_less_and_the_checkpoint_chooses_the_method() {
    let own = ask("elastic", &[]);
    assert_eq!((&own["compressor"], &own["visual_tokens"]), (&"quecc".into(), &36.into()));
    let costs: Vec<f64> = ["36", "9", "4", "1"]
        .iter()
        .map(|tokens| number(&ask("elastic", &["--visual-tokens", tokens])["flops"]))
        .collect();
    assert!(costs.is_sorted_by(|more, fewer| more > fewer), "{costs:?}");
    assert_eq!(ask("plain", &[])["compressor"], "identity");
    // Two images have the budget each.
    let image = cat();
    assert_eq!(ask("elastic", &["--visual-tokens", "4", "--image", &image])["visual_tokens"], 8);
}

#[test]
fn a_budget_off_the_ladder_lists_the_ladder() {
    let (elastic, plain, image) = (model("elastic"), model("plain"), cat());
    let refused = |model: &str, more: &[&str]| {
        let mut arguments = vec!["ask", model, QUESTION, "--image", &image];
        arguments.extend(more);
        refuses(&arguments)
    };
    let off = refused(&elastic, &["--visual-tokens", "5"]);
    assert!(off.contains("quecc cannot give 5") && off.contains("36, 9, 4, 1"), "{off}");
    let adaptive = refused(&elastic, &["--visual-tokens", "adaptive"]);
    assert!(adaptive.contains("36, 9, 4, 1"), "{adaptive}");
    let none = refused(&plain, &["--visual-tokens", "0"]);
    assert!(none.contains("a whole number of at least 1"), "{none}");
    let weights = refused(&plain, &["--compressor", "quecc"]);
    assert!(weights.contains("quecc") && weights.contains("carries no compressor's weights"), "{weights}");
    let unknown = refused(&plain, &["--compressor", "nonsense"]);
    assert!(unknown.contains("average-pooling") && unknown.contains("visionzip"), "{unknown}");
    let open = refused(&plain, &["--compressor", "visionzip"]);
    assert!(open.contains("any number from 3 to 36"), "{open}");
    let blind = refuses(&["ask", &fixture("models/llama-tied"), QUESTION, "--visual-tokens", "4"]);
    assert!(blind.contains("without sight"), "{blind}");
}

/// The baseline: 28 pixels are 4 x 4 patches of 7, so that the tower itself has less to do.
#[test]
fn an_image_may_be_scaled_down_instead() {
    let full = ask("plain", &[]);
    let small = ask("plain", &["--image-size", "28"]);
    assert_eq!((&full["image_size"], &full["visual_tokens"]), (&42.into(), &36.into()));
    assert_eq!((&small["image_size"], &small["visual_tokens"]), (&28.into(), &16.into()));
    assert_ne!(small["answer"], full["answer"]);
    let pooled = ask("plain", &["--compressor", "average-pooling", "--visual-tokens", "9"]);
    let scaled = ask("plain", &["--image-size", "21"]);
    assert_eq!(scaled["visual_tokens"], pooled["visual_tokens"]);
    assert!(number(&scaled["flops"]) < number(&pooled["flops"]));
    assert_eq!(ask("plain", &["--image-size", "42"])["answer"], full["answer"]);

    let (model, image) = (model("plain"), cat());
    let refused =
        |model: &str, size: &str| refuses(&["ask", model, QUESTION, "--image", &image, "--image-size", size]);
    let odd = refused(&model, "40");
    assert!(odd.contains("--image-size 40") && odd.contains('7'), "{odd}");
    assert!(refused(&model, "0").contains("--image-size 0"));
    let tiled = refused(&fixture("models/llava-next"), "28");
    assert!(tiled.contains("llava-next") && tiled.contains("square"), "{tiled}");
    let rows = json(&[
        "compare",
        &model,
        QUESTION,
        "--image",
        &image,
        "--image-size",
        "42,28",
        "--max-new-tokens",
        "2",
        "--json",
    ]);
    let tokens: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["visual_tokens"]).collect();
    assert_eq!(tokens, [&Value::from(36), &Value::from(16)]);
}

#[test]
fn flags_are_refused_before_anything_is_asked() {
    // Without any image, and for every row of a batch at once.
    let off = refuses(&["ask", &model("elastic"), QUESTION, "--visual-tokens", "5"]);
    assert!(off.contains("36, 9, 4, 1"), "{off}");
    let batch = Batch::new(&questions(3));
    let (code, _, errors) = batch.run_with(&["--visual-tokens", "5"]);
    assert!(code == 2 && errors.contains("36, 9, 4, 1") && !batch.out().exists(), "{errors}");
    // The compressor of the flags counts, not the one that goes with windows of three.
    let scaled = ["--image-size", "28", "--compressor", "average-pooling", "--visual-tokens", "4"];
    assert_eq!(ask("quecc", &scaled)["visual_tokens"], 4);
    let (model, image) = (model("quecc"), cat());
    for arguments in [
        &["look", &model, "--image", &image, "--out", "look.png"][..],
        &["ask", &model, " <image> ", "--image", &image],
    ] {
        let silent = refuses(arguments);
        assert!(silent.contains("quecc") && silent.contains("question"), "{silent}");
    }
}

/// The first finetunes of TokenPacker do not say that they are some; their tensors do.
#[test]
fn a_token_packer_is_known_by_its_tensors() {
    let (_keep, copy) = super::ask::copy("compressed-token-packer");
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    let mut untold: Value = serde_json::from_str(&config).unwrap();
    untold.as_object_mut().unwrap().remove("scale_factor").unwrap();
    untold["mm_projector_type"] = "mlp2x_gelu".into();
    std::fs::write(copy.join("config.json"), untold.to_string()).unwrap();
    let (image, tower) = (cat(), format!("{}/vision_tower", model("token-packer")));
    let document = json(&[
        "ask",
        text(&copy),
        QUESTION,
        "--image",
        &image,
        "--tower",
        &tower,
        "--max-new-tokens",
        "12",
        "--json",
    ]);
    assert_eq!(document["answer"], ask("token-packer", &[])["answer"]);
    assert_eq!(document["compressor"], "token-packer");
}

#[test]
fn a_comparison_is_a_list_of_answers() {
    let (model, image) = (model("plain"), cat());
    let arguments = [
        "compare",
        &model,
        QUESTION,
        "--image",
        &image,
        "--max-new-tokens",
        "12",
        "--visual-tokens",
        "36,9,1",
        "--compressor",
        "average-pooling,prumerge",
    ];
    let mut with_json = arguments.to_vec();
    with_json.push("--json");
    let list = json(&with_json);
    let rows: Vec<(String, u64)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["compressor"].as_str().unwrap().to_owned(), row["visual_tokens"].as_u64().unwrap()))
        .collect();
    let row = |method: &str, tokens| (method.to_owned(), tokens);
    // PruMerge keeps at least one patch beside its last token.
    let wanted = [
        row("average-pooling", 36),
        row("average-pooling", 9),
        row("average-pooling", 1),
        row("prumerge", 36),
        row("prumerge", 9),
    ];
    assert_eq!(rows, wanted);
    for row in list.as_array().unwrap() {
        let tokens = row["visual_tokens"].to_string();
        let alone =
            ask("plain", &["--compressor", row["compressor"].as_str().unwrap(), "--visual-tokens", &tokens]);
        assert_eq!((&row["answer"], &row["flops"]), (&alone["answer"], &alone["flops"]));
        assert!(number(&row["ms"]["tower"]) > 0.0, "each row runs the tower");
    }
    let table = succeeds(&arguments);
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.lines().next().unwrap().contains("first token") && table.contains("FLOP"), "{table}");

    let off = refuses(&["compare", &model, QUESTION, "--image", &image, "--visual-tokens", "36,7"]);
    assert!(off.contains('7') && off.contains("identity offers 36"), "{off}");
    assert!(refuses(&["compare", &model, QUESTION]).contains("--image"));
}

#[test]
fn a_picture_shows_where_each_token_looks() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("look.png");
    let image = cat();
    let look = |layout: &str, more: &[&str]| {
        let model = model(layout);
        let mut arguments = vec!["look", &model, QUESTION, "--image", &image, "--out", text(&out), "--json"];
        arguments.extend(more);
        json(&arguments)
    };
    for (layout, more, tokens) in [
        ("elastic", &["--visual-tokens", "9"][..], 9),
        ("token-packer", &[], 9),
        ("mqt", &["--visual-tokens", "7"], 7),
        ("plain", &["--compressor", "average-pooling", "--visual-tokens", "4"], 4),
        ("plain", &["--compressor", "visionzip", "--visual-tokens", "12"], 12),
        ("plain", &["--compressor", "prumerge", "--visual-tokens", "9"], 9),
    ] {
        let document = look(layout, more);
        assert_eq!(document["grid"], serde_json::json!([6, 6]));
        let picture = &document["pictures"][0];
        assert_eq!(picture["visual_tokens"], tokens, "{layout}");
        let weights = picture["weights"].as_array().unwrap();
        assert_eq!(weights.len(), tokens);
        for weights in weights {
            let sum: f64 = weights.as_array().unwrap().iter().map(number).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{layout}: {sum}");
        }
        let selects = more.contains(&"visionzip") || more.contains(&"prumerge");
        assert_eq!(picture["kept"].is_array(), selects, "{layout}");
        let png = std::fs::read(&out).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);
        std::fs::remove_file(&out).unwrap();
    }
    // Windows of average pooling: each token looks at its own nine patches alone.
    let pooled = look("plain", &["--compressor", "average-pooling", "--visual-tokens", "4"]);
    let first = pooled["pictures"][0]["weights"][0].as_array().unwrap();
    let lit: Vec<usize> = (0..36).filter(|patch| number(&first[*patch]) > 0.0).collect();
    assert_eq!(lit, [0, 1, 2, 6, 7, 8, 12, 13, 14]);

    let model = model("plain");
    let refused = |out: &str| refuses(&["look", &model, "--image", &image, "--out", out]);
    assert!(refused("look.jpg").contains(".png"));
    let nowhere = folder.path().join("absent/look.png");
    assert!(refused(text(&nowhere)).contains("there is no folder"));
}

#[test]
fn a_chat_about_an_image_starts_like_a_question() {
    let (model, image) = (model("elastic"), cat());
    let arguments =
        ["chat", &model, "--image", &image, "--visual-tokens", "4", "--max-new-tokens", "12", "--json"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_foveate"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), QUESTION.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["answer"], ask("elastic", &["--visual-tokens", "4"])["answer"]);
    assert_eq!(document["visual_tokens"], 4);
}

/// The answers of OUT, without times and costs: what caches save differs between runs that end at different rows.
fn answers(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let parse = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        let fields = row.as_object_mut().unwrap();
        fields.remove("ms");
        fields.remove("flops");
        row
    };
    text.lines().map(parse).collect()
}

struct Batch {
    folder: tempfile::TempDir,
}

impl Batch {
    fn new(rows: &[Value]) -> Batch {
        let batch = Batch { folder: tempfile::tempdir().unwrap() };
        batch.ask(rows);
        batch
    }

    fn ask(&self, rows: &[Value]) {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        std::fs::write(self.folder.path().join("in.jsonl"), lines.join("\n")).unwrap();
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out.jsonl")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
        command.args([
            "batch",
            &model("elastic"),
            text(&self.folder.path().join("in.jsonl")),
            text(&self.out()),
        ]);
        command.args([
            "--visual-tokens",
            "4",
            "--max-new-tokens",
            "12",
            "--image-folder",
            &fixture("images"),
        ]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, more: &[&str]) -> (i32, String, String) {
        self.finish(self.command(more))
    }

    /// With flags that the others have already.
    fn run_with(&self, flags: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foveate"));
        command.args([
            "batch",
            &model("elastic"),
            text(&self.folder.path().join("in.jsonl")),
            text(&self.out()),
        ]);
        command.args(flags);
        self.finish(command)
    }

    fn finish(&self, mut command: Command) -> (i32, String, String) {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn questions(count: usize) -> Vec<Value> {
    let images = ["cat.png", "grey.png", "alpha.png"];
    let row = |nth: usize| serde_json::json!({"id": format!("q{nth}"), "question": format!("What is {nth}?"), "image": images[nth % 3]});
    (0..count).map(row).collect()
}

#[test]
fn a_batch_that_is_killed_ends_with_the_answers_of_one_that_is_not() {
    let whole = Batch::new(&questions(40));
    let (code, printed, _) = whole.run(&["--json"]);
    assert_eq!(code, 0);
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&summary["answered"], &summary["failed"]), (&40.into(), &0.into()));
    // Three images were seen once each.
    let towers = &summary["caches"]["towers"];
    assert_eq!((&towers["misses"], &towers["hits"]), (&3.into(), &37.into()));
    assert!(number(&towers["bytes"]) > 0.0);

    let cut = Batch::new(&questions(40));
    for _ in 0..3 {
        let before = std::fs::metadata(cut.out()).map_or(0, |about| about.len());
        let mut child = cut.command(&[]).spawn().unwrap();
        while std::fs::metadata(cut.out()).map_or(0, |about| about.len()) <= before
            && child.try_wait().unwrap().is_none()
        {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What a crash of the machine may leave: the beginning of a line.
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().append(true).open(cut.out()).unwrap();
    file.write_all(b"{\"row\": 3, \"ans").unwrap();
    let (code, printed, errors) = cut.run(&["--json"]);
    assert_eq!(code, 0, "{errors}");
    let summary: Value = serde_json::from_str(&printed).unwrap();
    assert!(number(&summary["continued"]) >= 1.0, "{summary}");
    assert_eq!(answers(&cut.out()), answers(&whole.out()));
    // A run that is over has nothing left to do.
    let finished = std::fs::read(cut.out()).unwrap();
    assert_eq!(cut.run(&[]).0, 0);
    assert_eq!(std::fs::read(cut.out()).unwrap(), finished);
}

#[test]
fn answers_of_a_batch_are_those_of_single_questions() {
    let batch = Batch::new(&[serde_json::json!({"question": QUESTION, "images": ["cat.png"]})]);
    assert_eq!(batch.run(&[]).0, 0);
    let row = &answers(&batch.out())[0];
    let alone = ask("elastic", &["--visual-tokens", "4"]);
    assert_eq!(
        (&row["answer"], &row["row"], &row["question"]),
        (&alone["answer"], &0.into(), &QUESTION.into())
    );
}

#[test]
fn bad_rows_are_told_and_skipped_up_to_a_share() {
    let mut rows = questions(10);
    rows[4] = serde_json::json!({"id": 4, "question": "Where?", "image": "absent.png"});
    rows[6] = serde_json::json!({"id": 6, "prompt": "no question"});
    let batch = Batch::new(&rows);
    let (code, printed, _) = batch.run(&["--skip-fraction", "0.2"]);
    assert_eq!(code, 0);
    assert!(printed.contains("8 rows answered, 2 failed"), "{printed}");
    let told = answers(&batch.out());
    assert!(told[4]["error"].as_str().unwrap().contains("absent.png"), "{}", told[4]);
    assert!(told[6]["error"].as_str().unwrap().contains("`question` is missing"), "{}", told[6]);
    assert_eq!((&told[4]["id"], &told[9]["id"]), (&4.into(), &"q9".into()));

    let strict = Batch::new(&rows);
    let (code, printed, errors) = strict.run(&[]);
    assert_eq!((code, printed.as_str()), (2, ""));
    assert!(errors.contains("2 of 10 rows") && errors.contains("--skip-fraction 0.1"), "{errors}");
}

#[test]
fn a_file_of_other_answers_is_not_continued() {
    let batch = Batch::new(&questions(2));
    assert_eq!(batch.run(&[]).0, 0);
    let before = std::fs::read(batch.out()).unwrap();
    let refused = |more: &[&str], wanted: &str| {
        let (code, _, errors) = batch.run(more);
        assert!(code == 2 && errors.contains(wanted), "{code} {errors}");
        assert_eq!(std::fs::read(batch.out()).unwrap(), before);
    };
    refused(&["--seed", "1"], "other flags");
    batch.ask(&questions(1));
    refused(&[], "only 1");
    let mut other = questions(2);
    other[1]["question"] = "Another?".into();
    batch.ask(&other);
    refused(&[], "line 2 answers another question");
    batch.ask(&[]);
    refused(&[], "no rows");
    let mut other = questions(2);
    other[0]["image"] = "grey.png".into();
    batch.ask(&other);
    refused(&[], "line 1 answers another question");
    batch.ask(&questions(2));
    refused(&["--skip-fraction", "0.5", "--system", "Be brief."], "other flags");
    let images = fixture("models");
    let (code, _, errors) =
        batch.run_with(&["--visual-tokens", "4", "--max-new-tokens", "12", "--image-folder", &images]);
    assert!(code == 2 && errors.contains("other flags"), "{errors}");
    // Somebody's only copy, without a line break at its end.
    std::fs::write(batch.out(), "{\"my\": \"only copy\"}").unwrap();
    let (code, _, errors) = batch.run(&[]);
    assert!(code == 2 && errors.contains("line 1 is not ours"), "{errors}");
    assert_eq!(std::fs::read_to_string(batch.out()).unwrap(), "{\"my\": \"only copy\"}");
    let input = batch.folder.path().join("in.jsonl");
    let same = refuses(&["batch", &model("elastic"), text(&input), text(&input)]);
    assert!(same.contains("another file than IN"), "{same}");
    // A run that writes has the file for itself.
    let held = std::fs::File::create(batch.out()).unwrap();
    held.lock().unwrap();
    let (code, _, errors) = batch.run(&[]);
    assert!(code == 2 && errors.contains("another run is writing it"), "{errors}");
    drop(held);
    std::fs::write(batch.out(), "something else\n").unwrap();
    let (code, _, errors) = batch.run(&[]);
    assert!(code == 2 && errors.contains("line 1 is not ours"), "{errors}");
    assert_eq!(std::fs::read_to_string(batch.out()).unwrap(), "something else\n");
}
