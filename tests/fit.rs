//! `foveate fit` on the published tables and on tables of its user.

use super::*;

#[test]
fn published_reasoning_table_as_the_method_states_it() {
    for arguments in [&["fit", "--json"][..], &["fit", REASONING, "--scale1", "1e9", "--json"]] {
        let found = json(arguments);
        assert_eq!(found["law"], "product");
        let rounded = |name: &str| format!("{:.6}", number(&found["coefficients"][name]));
        assert_eq!(
            ["A", "alpha", "beta", "D"].map(rounded),
            ["0.590771", "0.070937", "0.015102", "0.000000"]
        );
        assert_eq!(format!("{:.5e}", number(&found["objective"]["value"])), "3.79380e-4");
        assert_eq!((&found["objective"]["kind"], &found["objective"]["n"]), (&"squared".into(), &28.into()));
        assert_eq!(format!("{:.2}", number(&found["ratio"]["value"])), "4.70");
        let ends = [0, 1].map(|end| format!("{:.1}", number(&found["ratio"]["ci95"][end])));
        assert!(ends[0].starts_with("4.") && ends[1].starts_with("5."), "{ends:?}");
        for name in ["A", "alpha", "beta", "D"] {
            assert!(number(&found["ci95"][name][0]) <= number(&found["ci95"][name][1]), "{name}");
        }
        assert_eq!(found["status"]["D"], "at lower bound 0");
        assert_eq!(found["status"]["alpha"], "on a ridge");
        assert!(
            found["findings"][0]
                .as_str()
                .unwrap()
                .starts_with("alpha is not identified: any value from 0 to")
        );
        assert_eq!(found["holdout"]["level"], 7.0);
        assert_eq!(found["comparison"]["preferred"], "sum");
        assert!(found.get("draws").is_none());
    }
    let sum = json(&["fit", "--law", "sum", "--bootstrap", "0", "--json"]);
    let rounded = |name: &str| format!("{:.6}", number(&sum["coefficients"][name]));
    let wanted = ["0.401285", "0.101060", "0.188510", "0.050066", "0.000000"];
    assert_eq!(["A", "alpha", "B", "beta", "E"].map(rounded), wanted);
    assert!(sum["ci95"].is_null() && sum["ratio"]["ci95"].is_null() && sum["bootstrap"].is_null());
    assert_eq!(json(&["fit", "--law", "auto", "--bootstrap", "0", "--json"])["law"], "sum");
}

#[test]
fn same_seed_same_output_other_seed_other_intervals() {
    let one = succeeds(&["fit", "--json", "--bootstrap", "50", "--seed", "1"]);
    assert_eq!(one, succeeds(&["fit", "--json", "--bootstrap", "50", "--seed", "1"]));
    assert_ne!(one, succeeds(&["fit", "--json", "--bootstrap", "50", "--seed", "2"]));
}

#[test]
fn card_names_status_intervals_and_findings() {
    let card = succeeds(&["fit", "--preset", "ocr", "--bootstrap", "100"]);
    for wanted in [
        "product law",
        "95 % interval",
        "at lower bound 0",
        "alpha/beta",
        "findings:",
        "repeats the value of line 22",
    ] {
        assert!(card.contains(wanted), "{card}\nlacks {wanted}");
    }
    assert!(card.lines().all(|line| line.chars().count() <= 100), "{card}");
}

#[test]
fn files_are_written_together_and_a_plan_reads_the_law() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (law, svg, png) = (path("law.json"), path("law.svg"), path("profile.png"));
    succeeds(&[
        "fit",
        "--bootstrap",
        "60",
        "--out",
        text(&law),
        "--plot",
        text(&svg),
        "--plot-profile",
        text(&png),
    ]);
    let document: Value = serde_json::from_slice(&std::fs::read(&law).unwrap()).unwrap();
    assert_eq!(document["draws"].as_array().unwrap().len(), 60);
    let drawn = std::fs::read_to_string(&svg).unwrap();
    for wanted in ["<svg", "1 TFLOP", "Visual tokens V", "7.0B", "95 % interval"] {
        assert!(drawn.contains(wanted), "{wanted}");
    }
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG\r\n"));
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let planned = json(&["plan", "--law", text(&law), "--budget", "2TFLOP", "--json"]);
    assert!(planned["ranked"][0]["ci95"][1].is_number());
}

#[test]
fn tasks_are_fitted_one_by_one_and_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (table, law) = (folder.path().join("sweep.csv"), folder.path().join("law.json"));
    let mut rows = String::from(
        "model,params,visual_tokens,compressor,task,family,seed,n,score,error,error_se,flops,ms\n",
    );
    for (task, exponent) in [("scenes", 0.4_f64), ("text", 0.2)] {
        for params in [1e6_f64, 3e6, 9e6] {
            for tokens in [1.0_f64, 4.0, 16.0] {
                let error = 0.9 * (params / 1e6).powf(-exponent) * tokens.powf(-0.1);
                let cells = format!("quecc,{task},f,0,1000,{},{error},0.01,1,1", 1.0 - error);
                rows += &format!("m,{params},{tokens},{cells}\n");
            }
        }
    }
    std::fs::write(&table, rows).unwrap();
    let arguments =
        ["fit", text(&table), "--scale1", "1e6", "--bootstrap", "0", "--json", "--out", text(&law)];
    let found = json(&arguments);
    for (place, (task, exponent)) in [("scenes", 0.4), ("text", 0.2)].into_iter().enumerate() {
        let fit = &found["fits"][place];
        assert_eq!(fit["task"], task);
        assert!((number(&fit["coefficients"]["alpha"]) - exponent).abs() < 1e-6);
        assert_eq!(fit["columns"]["y"], "error", "the column with standard errors, not the score");
    }
    let plan = ["plan", "--law", text(&law), "--budget", "2TFLOP"];
    assert!(refuses(&plan).contains("holds 2 tasks; choose one with --task: scenes, text"));
    succeeds(&[&plan[..], &["--task", "text"]].concat());
    assert!(refuses(&[&plan[..], &["--task", "speech"]].concat()).contains("no task \"speech\""));
}

/// Loss over parameters and training tokens: other columns, other scales, the robust objective.
#[test]
fn any_two_factor_table_of_losses() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("losses.tsv");
    let mut rows = String::from("N\tD\tloss\n");
    for (place, size) in [1e8_f64, 4e8, 1.6e9, 6.4e9].into_iter().enumerate() {
        for (other, tokens) in [1e9_f64, 8e9, 6.4e10].into_iter().enumerate() {
            let loss = 1.7 + 400.0 * size.powf(-0.34) + 410.0 * tokens.powf(-0.28);
            // One run that diverged must not move the robust fit.
            let loss = if (place, other) == (1, 1) { loss * 1.4 } else { loss };
            rows += &format!("{size}\t{tokens}\t{loss}\n");
        }
    }
    std::fs::write(&table, rows).unwrap();
    let base = ["fit", text(&table), "--x1", "N", "--x2", "D", "--law", "sum", "--bootstrap", "0", "--json"];
    let robust = json(&[&base[..], &["--objective", "huber-log"]].concat());
    for (name, wanted) in [("alpha", 0.34), ("beta", 0.28), ("E", 1.7)] {
        let found = number(&robust["coefficients"][name]);
        assert!((found - wanted).abs() < 0.02 * wanted, "{name}: {found}");
    }
    assert_eq!(robust["objective"]["delta"], 1e-3);
    let scaled =
        json(&[&base[..], &["--objective", "huber-log", "--scale1", "1e9", "--scale2", "1e9"]].concat());
    let change = number(&scaled["coefficients"]["alpha"]) - number(&robust["coefficients"]["alpha"]);
    assert!(change.abs() < 1e-9, "{change}");
}

#[test]
fn runs_are_drawn_whole() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("runs.csv");
    let mut rows = String::from("params,visual_tokens,error,run\n");
    for run in 0..4 {
        for params in [1.0_f64, 2.0, 4.0] {
            for tokens in [1.0_f64, 4.0, 16.0] {
                let error = 0.5 * params.powf(-0.3) * tokens.powf(-0.1) * (1.0 + 0.01 * f64::from(run));
                rows += &format!("{params},{tokens},{error},seed{run}\n");
            }
        }
    }
    std::fs::write(&table, rows).unwrap();
    let found = json(&["fit", text(&table), "--bootstrap", "40", "--json"]);
    assert_eq!(found["bootstrap"]["resample"], "clusters");
    let remarks = found["findings"].to_string();
    assert!(!remarks.contains("contradict"), "replicates are no contradictions: {remarks}");
}
