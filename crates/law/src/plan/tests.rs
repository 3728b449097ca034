//! The advice that the figures ask for, and what must hold of every plan.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::cost::{Catalogue, Scenario, Stage};
use crate::fit::FitOptions;
use crate::judge::{BootstrapOptions, Resample, assess};
use crate::preset::Preset;
use crate::tokens::{Tokens, Units};

fn law(preset: Preset) -> PlannedLaw {
    let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
    let resampling = BootstrapOptions { resample: Resample::Cases, draws: 100, seed: 3 };
    let form = Some(crate::Form::Product);
    PlannedLaw::new(
        &assess(&preset.table().unwrap(), form, &FitOptions::default(), units, Some(resampling)).unwrap(),
    )
}

fn request<'a>(law: &'a PlannedLaw, catalogue: &'a Catalogue, text: usize, cost: CostModel) -> Request<'a> {
    Request {
        law,
        tower: catalogue.tower("clip-l-14-336").unwrap(),
        llms: catalogue.llms().iter().collect(),
        compressor: Compressor::TokenPacker,
        precision: Precision::default(),
        workload: Workload::new(text, 16),
        cost,
        rates: None,
    }
}

#[test]
fn twenty_gflop_buy_a_large_model_for_reasoning_and_tokens_for_ocr() {
    let catalogue = Catalogue::builtin();
    let budget = [Budget::Flops(20e9)];
    let reasoning = law(Preset::Reasoning);
    let best = plan(&request(&reasoning, &catalogue, 0, CostModel::Paper), &budget).unwrap().ranked.remove(0);
    let largest = catalogue.llms().iter().map(|llm| llm.parameters() as f64).filter(|n| 2.0 * n <= 20e9);
    assert_eq!((best.visual_tokens, best.params), (1, largest.fold(0.0, f64::max)));
    let ocr = law(Preset::Ocr);
    let best = plan(&request(&ocr, &catalogue, 0, CostModel::Paper), &budget).unwrap().ranked.remove(0);
    assert!(best.visual_tokens >= 64 && best.params < 0.5e9, "{best:?}");
    assert!(best.extrapolates[0].contains("outside 500M to 7.0B"), "{best:?}");
}

#[test]
fn closed_form_at_fifty_text_tokens_and_none_under_the_full_cost() {
    let catalogue = Catalogue::builtin();
    let law = law(Preset::Reasoning);
    let budget = [Budget::Flops(2e12)];
    let found = plan(&request(&law, &catalogue, 50, CostModel::Paper), &budget).unwrap();
    assert_eq!(format!("{:.1}", found.optimum.unwrap().visual_tokens), "13.5");
    // Ten questions that share the image's tokens make each of them ten times cheaper.
    let mut shared = request(&law, &catalogue, 50, CostModel::Paper);
    shared.workload = shared.workload.with_scenario(Scenario::questions_per_image(10).unwrap());
    let found = plan(&shared, &budget).unwrap();
    assert_eq!(format!("{:.0}", found.optimum.unwrap().visual_tokens), "135");
    let full = plan(&request(&law, &catalogue, 50, CostModel::Full), &budget).unwrap();
    assert!(full.optimum.is_none());
    assert!(full.ranked[0].cost.tower_share > 0.15);
    assert!(full.ranked[0].cost.stages.iter().any(|stage| stage.stage == Stage::Tower));
}

#[test]
fn plans_hold_their_budgets_and_frontiers_fall() {
    let catalogue = Catalogue::builtin();
    let law = law(Preset::Reasoning);
    let mut request = request(&law, &catalogue, 50, CostModel::Full);
    request.rates = Some(Rates::new(500e9, 39e9).unwrap());
    let budgets = [Budget::Seconds(4.0), Budget::Bytes(6e9), Budget::Flops(1.5e12)];
    let found = plan(&request, &budgets).unwrap();
    for candidate in &found.ranked {
        assert!(candidate.cost.ms.unwrap() <= 4000.0);
        assert!(candidate.cost.memory_bytes <= 6e9);
        assert!(candidate.cost.flops <= 1.5e12);
    }
    assert!(found.ranked.windows(2).all(|pair| pair[0].error <= pair[1].error));
    assert!((found.ranked.iter().map(|candidate| candidate.wins.unwrap()).sum::<f64>() - 1.0).abs() < 1e-9);
    for pair in found.frontier.windows(2) {
        assert!(pair[0].cost.ms < pair[1].cost.ms && pair[0].error > pair[1].error);
    }
    let best = &found.ranked[0];
    assert!(found.half.unwrap().error >= best.error && found.twice.unwrap().error <= best.error);
    let all = candidates(&request).unwrap();
    for candidate in &all {
        let beaten = found.frontier.iter().any(|point| {
            point.error <= candidate.error && point.cost.ms.unwrap() <= candidate.cost.ms.unwrap()
        });
        assert!(beaten, "{candidate:?}");
    }
}

#[test]
fn impossible_requests_say_why() {
    let catalogue = Catalogue::builtin();
    let law = law(Preset::Reasoning);
    let full = request(&law, &catalogue, 50, CostModel::Full);
    let message = |request: &Request<'_>, budgets: &[Budget]| plan(request, budgets).unwrap_err().to_string();
    assert!(message(&full, &[]).starts_with("no budget"));
    let tower = message(&full, &[Budget::Flops(20e9)]);
    assert!(
        tower.contains("nothing fits 20 GFLOP: the least is") && tower.contains("in the vision tower"),
        "{tower}"
    );
    assert!(message(&full, &[Budget::Seconds(1.0)]).contains("needs the machine's rates"));
    let paper = request(&law, &catalogue, 50, CostModel::Paper);
    assert!(message(&paper, &[Budget::Seconds(1.0)]).contains("needs the full cost"));
    let small = message(&full, &[Budget::Bytes(1e6), Budget::Flops(1e15)]);
    assert!(
        small.contains("nothing fits 977 KiB") && small.contains("weights of the language model"),
        "{small}"
    );
    let none = Request { llms: Vec::new(), ..full };
    assert!(message(&none, &[Budget::Flops(1e12)]).contains("no language model"));
}

#[test]
fn a_law_of_all_tokens_is_beyond_its_measurements_by_all_tokens() {
    let catalogue = Catalogue::builtin();
    let mut table = Preset::Reasoning.table().unwrap();
    let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Total { text_tokens: 50.0 } };
    units.tokens.apply(&mut table, units.scale2);
    let form = Some(crate::Form::Product);
    let law = PlannedLaw::new(&assess(&table, form, &FitOptions::default(), units, None).unwrap());
    assert_eq!(law.measured.x2, [51.0, 626.0]);
    let said = |text: usize| {
        let found = candidates(&request(&law, &catalogue, text, CostModel::Paper)).unwrap();
        let seven = found.into_iter().filter(|candidate| candidate.model == "qwen1.5-7b");
        seven.map(|candidate| (candidate.visual_tokens, candidate.extrapolates)).collect::<Vec<_>>()
    };
    // With the measured question, every rung was measured.
    assert!(said(50).iter().all(|(_, extrapolates)| extrapolates.is_empty()), "{:?}", said(50));
    let none = said(0);
    let of = |rung: usize| none.iter().find(|(tokens, _)| *tokens == rung).unwrap().1.join("; ");
    assert_eq!((of(1).as_str(), of(64).as_str()), ("T = 1 outside 51 to 626", ""));
}

#[test]
fn the_optimum_is_that_of_the_tightest_flop_budget() {
    let catalogue = Catalogue::builtin();
    let law = law(Preset::Reasoning);
    let request = request(&law, &catalogue, 50, CostModel::Paper);
    let optimum = |budgets: &[f64]| {
        let budgets: Vec<Budget> = budgets.iter().map(|&flops| Budget::Flops(flops)).collect();
        plan(&request, &budgets).unwrap().optimum.unwrap()
    };
    let tight = optimum(&[1e12]);
    assert_eq!(optimum(&[2e12, 1e12]), tight);
    assert_eq!(optimum(&[1e12, 2e12]), tight);
    assert_ne!(optimum(&[2e12]), tight);
}

#[test]
fn a_law_of_another_quantity_is_said_first() {
    let catalogue = Catalogue::builtin();
    let mut law = law(Preset::Reasoning);
    let mut first = |x2: Option<&str>| {
        law.columns = x2.map(|x2| crate::Columns { x1: "params".into(), x2: x2.into(), y: "loss".into() });
        plan(&request(&law, &catalogue, 50, CostModel::Paper), &[Budget::Flops(1e12)])
            .unwrap()
            .findings
            .remove(0)
    };
    let other = first(Some("training_tokens"));
    assert!(other.contains("another quantity") && other.contains("\"training_tokens\""), "{other}");
    assert!(first(None).contains("does not name its columns"));
    for known in ["visual_tokens", "V", "Tokens"] {
        assert!(first(Some(known)).contains("is the best in"), "{known}");
    }
}
