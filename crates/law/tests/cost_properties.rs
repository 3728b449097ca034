//! Properties of the cost model: identities between scenarios, growth with every kind of token, sums and bounds.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use foveate_law::cost::{
    Catalogue, Compressor, Cost, CostModel, Dtype, LlmDimensions, Precision, Rates, Scenario, Stage,
    TowerDimensions, Vlm, Workload,
};
use proptest::prelude::*;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::builtin);

fn clip() -> &'static TowerDimensions {
    CATALOGUE.tower("clip-l-14-336").unwrap()
}

fn full(vlm: &Vlm<'_>, visual_tokens: usize, workload: &Workload) -> Cost {
    vlm.cost(visual_tokens, workload, CostModel::Full).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Models of the catalogue, small and large, with and without a window.
fn any_llm() -> impl Strategy<Value = LlmDimensions> {
    (0..CATALOGUE.llms().len(), proptest::option::of(1_usize..300)).prop_map(|(index, window)| {
        LlmDimensions { sliding_window: window, ..CATALOGUE.llms()[index].clone() }
    })
}

fn any_compressor() -> impl Strategy<Value = Compressor> {
    proptest::sample::select(Compressor::all().collect::<Vec<_>>())
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    prop_oneof![
        Just(Scenario::Single),
        Just(Scenario::CachedText),
        Just(Scenario::FixedQuestion),
        (1_u32..50).prop_map(|count| Scenario::questions_per_image(count).unwrap()),
    ]
}

proptest! {
    /// Feeding the answer token by token does the same work as reading it at once, but for the extra output heads.
    #[test]
    fn decoding_equals_prefilling_the_answer(llm in any_llm(), text in 0_usize..400, answer in 1_usize..200) {
        let vlm = Vlm::new(clip(), &llm, Compressor::AveragePooling);
        let stepwise = full(&vlm, 36, &Workload::new(text, answer));
        let at_once = full(&vlm, 36, &Workload::new(text + answer - 1, 1));
        let heads = 2.0 * (answer - 1) as f64 * llm.hidden as f64 * llm.vocab as f64;
        let generated = stepwise.stage(Stage::Prefill).flops + stepwise.stage(Stage::Decode).flops;
        prop_assert!(close(generated, at_once.stage(Stage::Prefill).flops + heads));
    }

    /// What a cache of the text saves is what reading the text alone costs: the query pass of QueCC. A fixed question
    /// saves that pass as well.
    #[test]
    fn cached_text_saves_one_pass_over_the_text(llm in any_llm(), text in 1_usize..400) {
        let vlm = Vlm::new(clip(), &llm, Compressor::QueCC);
        let workload = Workload::new(text, 1);
        let single = full(&vlm, 64, &workload);
        let cached = full(&vlm, 64, &workload.with_scenario(Scenario::CachedText));
        let fixed = full(&vlm, 64, &workload.with_scenario(Scenario::FixedQuestion));
        let query = single.stage(Stage::Query).flops;
        prop_assert!(close(single.stage(Stage::Prefill).flops, cached.stage(Stage::Prefill).flops + query));
        prop_assert!(close(cached.flops(), fixed.flops() + query));
        prop_assert_eq!(fixed.stage(Stage::Query).bytes, 0.0);
        prop_assert_eq!(single.memory, fixed.memory);
    }

    /// One question per image is a single question, and k of them share exactly what does not depend on the question.
    #[test]
    fn questions_share_the_image(
        llm in any_llm(), compressor in any_compressor(), text in 1_usize..200, count in 2_u32..40,
    ) {
        let vlm = Vlm::new(clip(), &llm, compressor);
        let v = compressor.ladder(clip()).values()[0];
        let workload = Workload::new(text, 7);
        let single = full(&vlm, v, &workload);
        let once = full(&vlm, v, &workload.with_scenario(Scenario::questions_per_image(1).unwrap()));
        prop_assert_eq!(&single, &once);
        let many = full(&vlm, v, &workload.with_scenario(Scenario::questions_per_image(count).unwrap()));
        let share = f64::from(count);
        prop_assert!(close(many.stage(Stage::Tower).flops * share, single.stage(Stage::Tower).flops));
        let factor = if compressor.reads_question() { 1.0 } else { share };
        for stage in [Stage::Compress, Stage::Project] {
            prop_assert!(close(many.stage(stage).flops * factor, single.stage(stage).flops));
        }
        prop_assert_eq!(many.stage(Stage::Query), single.stage(Stage::Query));
        prop_assert_eq!(many.stage(Stage::Decode), single.stage(Stage::Decode));
        let prefill = |cost: &Cost| cost.stage(Stage::Prefill).flops;
        prop_assert_eq!(prefill(&many) < prefill(&single), !compressor.reads_question());
        // The k questions together read the image once and the text k times: no less than the image and one text.
        prop_assert!(share * prefill(&many) >= prefill(&single));
    }

    /// More tokens of any kind never cost less, and everything is finite and positive.
    #[test]
    fn cost_grows_with_tokens(
        llm in any_llm(), compressor in any_compressor(), scenario in any_scenario(),
        text in 0_usize..500, answer in 0_usize..200, more in 1_usize..50, paper in any::<bool>(),
    ) {
        let vlm = Vlm::new(clip(), &llm, compressor);
        let model = if paper { CostModel::Paper } else { CostModel::Full };
        let cost = |v, text, answer| {
            vlm.cost(v, &Workload::new(text, answer).with_scenario(scenario), model).unwrap()
        };
        let ladder = compressor.ladder(clip()).values();
        let (most, least) = (ladder[0], ladder[ladder.len() - 1]);
        let rates = Rates::new(1e12, 1e11).unwrap();
        let smallest = cost(least, text, answer);
        prop_assert!(smallest.flops() > 0.0 && smallest.flops().is_finite());
        prop_assert!(smallest.memory.total() > 0.0);
        let slack = 1.0 + 1e-12;
        for larger in [cost(most, text, answer), cost(least, text + more, answer), cost(least, text, answer + more)] {
            prop_assert!(larger.flops() * slack >= smallest.flops());
            prop_assert!(larger.bytes() * slack >= smallest.bytes());
            prop_assert!(larger.seconds(&rates) * slack >= smallest.seconds(&rates));
            prop_assert!(larger.memory.kv_cache >= smallest.memory.kv_cache);
        }
    }

    /// Totals are sums, shares add up to one, and a roofline lies between its bounds.
    #[test]
    fn totals_are_sums(llm in any_llm(), compressor in any_compressor(), flops in 1e9..1e15, bytes in 1e9..1e13) {
        let vlm = Vlm::new(clip(), &llm, compressor);
        let cost = full(&vlm, compressor.ladder(clip()).values()[0], &Workload::new(30, 20));
        let rates = Rates::new(flops, bytes).unwrap();
        let shares: f64 = cost.stages.iter().map(|stage| cost.share(stage.stage)).sum();
        prop_assert!(close(shares, 1.0));
        let seconds = cost.seconds(&rates);
        prop_assert!(seconds * (1.0 + 1e-12) >= (cost.flops() / flops).max(cost.bytes() / bytes));
        prop_assert!(seconds <= (cost.flops() / flops + cost.bytes() / bytes) * (1.0 + 1e-12));
    }

    /// Smaller formats move and hold less and compute the same.
    #[test]
    fn formats_change_bytes_and_not_flops(llm in any_llm(), compressor in any_compressor()) {
        let v = compressor.ladder(clip()).values()[0];
        let with = |dtype| {
            let vlm = Vlm::new(clip(), &llm, compressor).with_precision(Precision::uniform(dtype));
            full(&vlm, v, &Workload::new(30, 20))
        };
        let (wide, half, small) = (with(Dtype::F32), with(Dtype::Bf16), with(Dtype::Q4_0));
        prop_assert_eq!(wide.flops(), small.flops());
        prop_assert!(small.bytes() < half.bytes() && half.bytes() < wide.bytes());
        prop_assert!(close(wide.memory.total(), 2.0 * half.memory.total()));
    }
}
