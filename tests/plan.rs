//! `foveate plan` and `foveate frontier`: the advice, and what it must respect.

use super::*;

#[test]
fn twenty_gflop_without_text() {
    let base = [
        "plan",
        "--budget",
        "20GFLOP",
        "--cost",
        "paper",
        "--text-tokens",
        "0",
        "--bootstrap",
        "100",
        "--json",
    ];
    let reasoning = json(&[&base[..], &["--preset", "reasoning"]].concat());
    let best = &reasoning["ranked"][0];
    assert_eq!(best["visual_tokens"], 1);
    for other in reasoning["ranked"].as_array().unwrap() {
        assert!(number(&best["params"]) >= number(&other["params"]), "the largest that fits");
        assert!(number(&other["cost"]["flops"]) <= 20e9);
    }
    let ocr = json(&[&base[..], &["--preset", "ocr"]].concat());
    let best = &ocr["ranked"][0];
    assert!(number(&best["visual_tokens"]) >= 64.0 && number(&best["params"]) < 0.5e9, "{best}");
    assert!(ocr["findings"].to_string().contains("extrapolation: "), "{}", ocr["findings"]);
}

#[test]
fn closed_form_of_the_paper_and_the_towers_share() {
    let paper = json(&["plan", "--budget", "2TFLOP", "--cost", "paper", "--text-tokens", "50", "--json"]);
    assert_eq!(format!("{:.1}", number(&paper["optimum"]["visual_tokens"])), "13.5");
    assert_eq!(paper["optimum"]["kind"], "closed-form");
    let full = json(&["plan", "--budget", "600GFLOP", "--json"]);
    assert!(full["optimum"].is_null());
    let best = &full["ranked"][0];
    assert!(number(&best["cost"]["tower_share"]) > 0.5, "{best}");
    assert_eq!(best["cost"]["stages"][0]["stage"], "tower");
    assert_eq!((number(&best["cost"]["stages"][0]["flops"]) / 1e9).round(), 366.0);
}

#[test]
fn budgets_hold_together_and_rates_give_times() {
    let found = json(&[
        "plan",
        "--budget",
        "3s",
        "--budget",
        "6GiB",
        "--flop-rate",
        "500GFLOP/s",
        "--bandwidth",
        "39GB/s",
        "--bootstrap",
        "0",
        "--json",
    ]);
    assert_eq!(found["budgets"][0], serde_json::json!({"kind": "seconds", "value": 3.0}));
    let ranked = found["ranked"].as_array().unwrap();
    assert!(!ranked.is_empty());
    for candidate in ranked {
        assert!(number(&candidate["cost"]["ms"]) <= 3000.0);
        assert!(number(&candidate["cost"]["memory_bytes"]) <= 6.0 * 1024_f64.powi(3));
        assert!(candidate["ci95"].is_null() && candidate["wins"].is_null());
    }
    let frontier = found["frontier"].as_array().unwrap();
    for pair in frontier.windows(2) {
        assert!(number(&pair[0]["cost"]["ms"]) < number(&pair[1]["cost"]["ms"]));
        assert!(number(&pair[0]["error"]) > number(&pair[1]["error"]));
    }
}

#[test]
fn scenarios_cost_what_they_share() {
    let cost = |more: &[&str]| {
        let base = ["plan", "--budget", "100TFLOP", "--llm", "qwen1.5-7b", "--bootstrap", "0", "--json"];
        let found = json(&[&base[..], more].concat());
        let ranked = found["ranked"].as_array().unwrap().clone();
        let one = ranked.into_iter().find(|candidate| candidate["visual_tokens"] == 144).unwrap();
        number(&one["cost"]["flops"])
    };
    let single = cost(&[]);
    let cached = cost(&["--scenario", "cached-text"]);
    let shared = cost(&["--scenario", "questions-per-image:8"]);
    assert!(cached < single && shared < single, "{single} {cached} {shared}");
    // QueCC reads the question: a fixed question saves its pass, a cached text does not.
    let quecc = |scenario| cost(&["--compressor", "quecc", "--scenario", scenario]);
    assert!(quecc("fixed-question") < quecc("cached-text"));
    assert!(quecc("single") > single);
}

#[test]
fn catalogue_file_adds_models_and_figures_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (svg, bars) = (path("plan.svg"), path("bars.svg"));
    succeeds(&[
        "plan",
        "--budget",
        "2TFLOP",
        "--bootstrap",
        "50",
        "--plot",
        text(&svg),
        "--plot-breakdown",
        text(&bars),
    ]);
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.contains("budget 2 TFLOP") && drawn.contains("qwen1.5-7b"), "{drawn}");
    let drawn = std::fs::read_to_string(&bars).unwrap();
    assert!(drawn.contains("tower") && drawn.contains("V = 576"), "{drawn}");
    let file = path("mine.toml");
    let mine = "[[llm]]\nname = \"mine-1b\"\nfamily = \"Mine\"\nhidden = 2048\nintermediate = 5632\nlayers = 22\n\
                heads = 32\nkv_heads = 4\nhead_dim = 64\nvocab = 32000\n";
    std::fs::write(&file, mine).unwrap();
    let arguments =
        ["plan", "--budget", "2TFLOP", "--catalogue", text(&file), "--llm", "mine-1b", "--bootstrap", "0"];
    assert!(succeeds(&arguments).contains("mine-1b"));
}

#[test]
fn frontier_falls_by_every_resource() {
    for (by, field) in [("flops", "flops"), ("memory", "memory_bytes")] {
        let found = json(&["frontier", "--by", by, "--bootstrap", "0", "--json"]);
        let points = found["frontier"].as_array().unwrap();
        assert!(points.len() > 5);
        for pair in points.windows(2) {
            assert!(number(&pair[0]["cost"][field]) < number(&pair[1]["cost"][field]), "{by}");
            assert!(number(&pair[0]["error"]) > number(&pair[1]["error"]), "{by}");
        }
    }
}

#[test]
fn a_time_budget_measures_the_machine() {
    let found = json(&["plan", "--budget", "10min", "--bootstrap", "0", "--json"]);
    assert!(
        number(&found["rates"]["flops_per_second"]) > 0.0
            && number(&found["rates"]["bytes_per_second"]) > 0.0
    );
}
