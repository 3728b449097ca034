//! `foveate sweep` and `foveate report`: a grid that is killed and shared, its table, its page.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

/// Two sizes, two seeds, three numbers of visual tokens and two tasks: models of some steps, answers by likelihood, so that
/// even these say something of their weights.
fn plan(folder: &Path, more: &str) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/smoke.toml");
    let mut text = String::from("name = \"short\"\nseeds = [1, 2]\nvisual_tokens = [1, 4, 16]\nlimit = 24\n");
    for (name, width) in [("small", 32), ("large", 64)] {
        text += &format!(
            "[[models]]\nname = \"{name}\"\nrecipe = '{}'\nset = [\"stages.0.steps=12\", \"stages.0.batch=4\", \
             \"checkpoints.every=3\", \"evaluation.questions=0\", \"parts.tokenizer.trained.samples=60\", \
             \"parts.language.fresh.hidden_size={width}\", \"parts.compressor.text_width={width}\"]\n",
            recipe.display()
        );
    }
    text += more;
    for kind in ["scenes", "texts"] {
        text += &format!(
            "[tasks.{kind}]\ndata = {{ kind = \"{kind}\", split = \"validation\", seed = 3, length = 200, side = 32 }}\n\
             answer = \"options\"\noptions = [\"yes\", \"no\", \"2\", \"red\"]\n"
        );
    }
    let path = folder.join("plan.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn sweep(plan: &Path, results: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_foveate"))
        .args(["sweep", text(plan), "--out", text(results), "--threads", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn ends_well(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The rows without their times, sorted: cells are finished in any order.
fn rows(results: &Path) -> Vec<String> {
    let table = std::fs::read_to_string(results.join("results.csv")).unwrap();
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let times = header.iter().position(|name| *name == "ms").unwrap();
    let row = |line: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), header.len(), "{line}");
        cells.remove(times);
        cells.join(",")
    };
    let mut rows: Vec<String> = lines.map(row).collect();
    rows.sort();
    rows
}

/// Bytes of everything that a sweep writes while it works.
fn written(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |path: PathBuf| match path.is_dir() {
        true => written(&path),
        false => std::fs::metadata(&path).map_or(0, |about| about.len()),
    };
    let known = |path: &PathBuf| {
        path.is_dir() || path.extension().is_some_and(|ending| ending == "jsonl" || ending == "csv")
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(known).map(size).sum()
}

#[test]
fn a_sweep_that_is_killed_five_times_ends_with_the_rows_of_one_that_is_not() {
    let home = tempfile::tempdir().unwrap();
    let (plan, whole) = (plan(home.path(), ""), home.path().join("whole"));
    ends_well(sweep(&plan, &whole));
    let expected = rows(&whole);
    assert_eq!(expected.len(), 2 * 2 * 3 * 2);
    let scores: std::collections::BTreeSet<&str> =
        expected.iter().map(|row| row.split(',').nth(8).unwrap()).collect();
    assert!(scores.len() > 2, "rows that differ can be told apart: {scores:?}");

    // Killed at any moment of training and answering, two processes at once in the last two rounds.
    let (cut, random) = (home.path().join("cut"), RandomState::new());
    let most = written(&whole);
    for round in 0..5_u64 {
        let moment = written(&cut) + 1 + random.hash_one(round) % (most / 5);
        let mut children = vec![sweep(&plan, &cut)];
        if round > 2 {
            children.push(sweep(&plan, &cut));
        }
        while written(&cut) < moment && children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
            std::thread::yield_now();
        }
        for mut child in children {
            // One that ended by itself cannot be killed.
            _ = child.kill();
            child.wait().unwrap();
        }
    }
    ends_well(sweep(&plan, &cut));
    assert_eq!(rows(&cut), expected);
    // A sweep that is over has nothing left to do.
    let table = std::fs::read(cut.join("results.csv")).unwrap();
    let document = json_of(&["sweep", text(&plan), "--out", text(&cut), "--json"]);
    assert_eq!((&document["cells"], &document["finished"]), (&24.into(), &0.into()));
    assert_eq!(std::fs::read(cut.join("results.csv")).unwrap(), table);

    fits_and_reports(&whole);
}

/// The JSON document of a run that succeeds and may talk on standard error.
fn json_of(arguments: &[&str]) -> Value {
    let output = foveate(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fits_and_reports(results: &Path) {
    let fit = |file: &str| {
        let path = results.join(file);
        json(&["fit", text(&path), "--task", "family", "--scale1", "1e6", "--bootstrap", "0", "--json"])
    };
    let (from_csv, from_parquet) = (fit("results.csv"), fit("results.parquet"));
    let of = |document: &Value| -> BTreeMap<String, Value> {
        let fits = document["fits"].as_array().unwrap();
        fits.iter()
            .map(|fit| (fit["task"].as_str().unwrap().to_owned(), fit["coefficients"].clone()))
            .collect()
    };
    assert_eq!(of(&from_csv), of(&from_parquet));
    assert_eq!(of(&from_csv).into_keys().collect::<Vec<_>>(), ["reasoning", "text"]);

    let out = results.join("page");
    std::fs::create_dir(&out).unwrap();
    let document = json(&["report", text(results), "--out", text(&out), "--title", "Short", "--json"]);
    let read = |field: &str| std::fs::read_to_string(document[field].as_str().unwrap()).unwrap();
    let (html, markdown) = (read("html"), read("markdown"));
    for page in [&html, &markdown] {
        for part in [
            "Short",
            "reasoning (quecc, grid): the data cannot say whether the paper's finding holds",
            "text (quecc, grid): the data cannot say",
            "2 sizes of language model",
            "α/β",
            "Task: scenes",
            "same-different %",
            "foveate sweep",
            "1 threads",
        ] {
            assert!(page.contains(part), "{part} is not in\n{page}");
        }
    }
    // Everything is inside.
    assert_eq!(html.matches("<svg").count(), 6);
    assert!(!html.contains("src=") && !html.contains("href=") && !html.contains("@import"), "{html}");
    for figure in document["figures"].as_array().unwrap() {
        let name = Path::new(figure.as_str().unwrap());
        assert!(markdown.contains(name.file_name().unwrap().to_str().unwrap()) && name.is_file());
    }

    // Packed, the answers are one file, and the page is the same.
    let samples = || std::fs::read_dir(results.join("samples")).unwrap().count();
    assert_eq!(samples(), 24);
    for _ in 0..2 {
        json(&["report", text(results), "--out", text(&out), "--title", "Short", "--pack", "--json"]);
        assert_eq!(
            (samples(), std::fs::read_to_string(out.join("report.md")).unwrap()),
            (0, markdown.clone())
        );
    }
    assert!(results.join("samples.zip").is_file());
}

#[test]
fn the_cost_is_told_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let nano = "[[models]]\nname = \"nano\"\nmodel = \"foveate-nano\"\nseeds = [0]\nseries = \"peers\"\n";
    let (plan, results) = (plan(home.path(), nano), home.path().join("results"));
    let cost = json(&["sweep", text(&plan), "--out", text(&results), "--dry-run", "--json"]);
    assert_eq!(
        (&cost["cells"], &cost["finished"], &cost["untrained_cells"]),
        (&30.into(), &0.into(), &24.into())
    );
    assert_eq!(cost["training"].as_array().unwrap().len(), 4);
    let nano = &cost["answering"][0];
    assert_eq!((&nano["run"], &nano["questions"]), (&"nano-s0".into(), &(6 * 24).into()));
    let parts: f64 = ["training", "answering"]
        .iter()
        .flat_map(|part| cost[*part].as_array().unwrap())
        .map(|one| number(&one["flops"]))
        .sum();
    assert!(number(&cost["flops"]) > 1e8 && (parts / number(&cost["flops"]) - 1.0).abs() < 1e-9);
    assert!(number(&cost["hours"]) > 0.0);
    let told = succeeds(&["sweep", text(&plan), "--out", text(&results), "--dry-run"]);
    assert!(told.contains("0 of 30 cells are finished") && told.contains("hours are left"), "{told}");
    assert!(!results.exists());
}

#[test]
fn what_is_wrong_with_a_plan_or_with_results_is_named() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("plan.toml");
    let results = home.path().join("results");
    let refused = |text_of: &str| {
        std::fs::write(&path, text_of).unwrap();
        refuses(&["sweep", text(&path), "--out", text(&results)])
    };
    let task = "[tasks.scenes]\ndata = { kind = \"scenes\", split = \"validation\", seed = 1, length = 9, side = 32 }\n";
    let model =
        |more: &str| format!("name = \"x\"\nvisual_tokens = [5]\n[[models]]\nname = \"a\"\n{more}\n{task}");
    assert!(refused("name = 3").contains("plan.toml"));
    assert!(refused(&model("")).contains("`models.0.model` is missing"));
    let rung = refused(&model("model = \"foveate-nano\""));
    assert!(rung.contains("cell a-s0-v5-own-scenes") && rung.contains("cannot give 5"), "{rung}");
    let recipe = refused(&model("recipe = \"no-such.toml\""));
    assert!(recipe.contains("no-such.toml"), "{recipe}");
    let method = refused(&model("model = \"foveate-nano\"\ncompressors = [\"magic\"]"));
    assert!(method.contains("magic") && method.contains("down-scaling"), "{method}");
    assert!(refuses(&["sweep", "no-such-plan.toml"]).contains("no-such-plan.toml"));
    assert!(refuses(&["report", "no-such-folder"]).contains("no-such-folder: no folder"));
    assert!(refuses(&["report", text(home.path())]).contains("has no rows"));
}
