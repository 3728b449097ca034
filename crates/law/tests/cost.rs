//! The cost model as its callers see it: published figures, hand counts, and errors. The identities between
//! scenarios are in `cost_properties.rs`.
#![allow(clippy::unwrap_used)]

use foveate_law::cost::{
    Catalogue, Compressor, Cost, CostModel, Dtype, LlmDimensions, Precision, Rates, Stage, TowerDimensions,
    Vlm, Workload,
};

fn parts(tower: &str, llm: &str) -> (TowerDimensions, LlmDimensions) {
    let catalogue = Catalogue::builtin();
    (catalogue.tower(tower).unwrap().clone(), catalogue.llm(llm).unwrap().clone())
}

fn clip_and(llm: &str) -> (TowerDimensions, LlmDimensions) {
    parts("clip-l-14-336", llm)
}

fn full(vlm: &Vlm<'_>, visual_tokens: usize, workload: &Workload) -> Cost {
    vlm.cost(visual_tokens, workload, CostModel::Full).unwrap()
}

#[test]
fn clip_costs_what_is_published() {
    let (tower, llm) = clip_and("vicuna-7b");
    let mut vlm = Vlm::new(&tower, &llm, Compressor::QueCC);
    assert_eq!(vlm.tower_blocks, 23);
    let part = full(&vlm, 36, &Workload::new(50, 1));
    assert_eq!((part.stage(Stage::Tower).flops / 1e9).round(), 366.0);
    assert!(part.stage(Stage::Compress).flops < 0.06 * part.stage(Stage::Tower).flops);
    vlm.tower_blocks = 24;
    let whole = full(&vlm, 36, &Workload::new(50, 1)).stage(Stage::Tower).flops;
    assert_eq!((whole / 1e10).round(), 38.0);
    // docs/model_profile.csv of open_clip: 381.92 GFLOP, the projection to the text space included.
    assert!((whole / 381.92e9 - 1.0).abs() < 1e-3, "{whole:e}");
}

#[test]
fn siglip_costs_what_is_published() {
    // docs/model_profile.csv of open_clip, which includes the pooling head: its keys and values add about one per cent.
    for (name, gflop) in [("siglip-so400m-14-384", 670.35), ("siglip-so400m-14-224", 220.35)] {
        let (tower, llm) = parts(name, "vicuna-7b");
        let mut vlm = Vlm::new(&tower, &llm, Compressor::Identity);
        vlm.tower_blocks = tower.layers;
        let flops = full(&vlm, tower.patches(), &Workload::new(0, 1)).stage(Stage::Tower).flops;
        let missing = 1.0 - flops / (gflop * 1e9);
        assert!((0.0..0.012).contains(&missing), "{name}: {flops:e}, {missing}");
    }
}

#[test]
fn half_a_billion_parameters_over_fifty_one_tokens_cost_a_twentieth_of_a_teraflop() {
    let (tower, llm) = clip_and("qwen1.5-0.5b");
    let vlm = Vlm::new(&tower, &llm, Compressor::QueCC);
    let cost = vlm.cost(1, &Workload::new(50, 1), CostModel::Paper).unwrap();
    assert_eq!(cost.flops(), 2.0 * 463_987_712.0 * 51.0);
    assert_eq!((cost.flops() / 1e10).round(), 5.0);
    assert_eq!((cost.bytes(), cost.stages.len()), (0.0, 1));
}

#[test]
fn every_stage_of_a_small_model_by_hand() {
    let (mut tower, mut llm) = clip_and("vicuna-7b");
    (tower.image_size, tower.patch, tower.hidden, tower.heads) = (4.into(), 2, 4, 2);
    (tower.intermediate, tower.layers) = (8, 2);
    (llm.vocab, llm.hidden, llm.intermediate, llm.layers) = (10, 4, 8, 1);
    (llm.heads, llm.kv_heads, llm.head_dim) = (2, 1, 2);
    let vlm =
        Vlm::new(&tower, &llm, Compressor::AveragePooling).with_precision(Precision::uniform(Dtype::F16));
    let cost = full(&vlm, 1, &Workload::new(2, 3));
    let flops = |stage| cost.stage(stage).flops;
    // One block of two runs: 4 patches of 12 values to 4 channels; 5 tokens through 4·16 + 2·32 weights; 25 pairs.
    assert_eq!(flops(Stage::Tower), 2.0 * 4.0 * 48.0 + 2.0 * 5.0 * 128.0 + 4.0 * 25.0 * 4.0);
    assert_eq!(flops(Stage::Query), 0.0);
    assert_eq!(flops(Stage::Compress), 2.0 * 4.0 * 4.0);
    assert_eq!(flops(Stage::Project), 2.0 * (16.0 + 16.0));
    // 144 weights a block; pairs 1 + 2 + 3 of 4 channels; head 4 × 10.
    assert_eq!(flops(Stage::Prefill), 2.0 * 3.0 * 144.0 + 4.0 * 6.0 * 4.0 + 80.0);
    // Three answer tokens take two more passes, over 4 and 5 tokens of context.
    assert_eq!(flops(Stage::Decode), 2.0 * (2.0 * 144.0 + 80.0) + 4.0 * 9.0 * 4.0);
    // Decode bytes: two passes over 144 + 40 weights of 2 bytes; (2 written + 9 read) tokens of 4 numbers of 2 bytes;
    // activations of one token: q, k, v, o (8 + 6 + 6 + 8), feed-forward 3 · 12, attention 8, head 14, 4 bytes each.
    assert_eq!(cost.stage(Stage::Decode).bytes, 2.0 * 184.0 * 2.0 + 11.0 * 8.0 + 2.0 * 86.0 * 4.0);
    // Prefill: one pass over the same weights; 3 tokens written and 3 read; 3 tokens of 72 activations and the head's.
    assert_eq!(cost.stage(Stage::Prefill).bytes, 184.0 * 2.0 + 6.0 * 8.0 + (3.0 * 72.0 + 14.0) * 4.0);
    // Tower: 48 + 128 weights; 4 patches of 12 + 4 values; 5 tokens of 4 · 8 + 2 · 12 + 8.
    assert_eq!(cost.stage(Stage::Tower).bytes, 176.0 * 2.0 + (4.0 * 16.0 + 5.0 * 64.0) * 4.0);
    assert_eq!(cost.memory.llm, 236.0 * 2.0);
    assert_eq!(cost.memory.kv_cache, 6.0 * 8.0);
    assert_eq!(cost.memory.connector, (16.0 + 4.0 + 16.0 + 4.0) * 2.0);
    assert_eq!(cost.memory.tower, tower.parameters() as f64 * 2.0);
    assert_eq!(vlm.parameters(1).unwrap(), 236 + 40 + tower.parameters());
    // A request for no answer still ends with the distribution over its first token.
    assert_eq!(full(&vlm, 1, &Workload::new(2, 0)).stages, full(&vlm, 1, &Workload::new(2, 1)).stages);
}

#[test]
fn a_seven_billion_model_decodes_at_the_speed_of_its_memory() {
    let (tower, llm) = clip_and("vicuna-7b");
    let vlm = Vlm::new(&tower, &llm, Compressor::Identity);
    let cost = full(&vlm, 576, &Workload::new(50, 101));
    let decode = cost.stage(Stage::Decode);
    // A token reads all of the 6.7e9 bf16 weights but the embedding table, and some 700 tokens of cache.
    let weights = 2.0 * (6_738_415_616.0 - 32_000.0 * 4096.0) * 100.0;
    assert!((1.0..1.1).contains(&(decode.bytes / weights)), "{}", decode.bytes / weights);
    let rates = Rates::new(300e12, 2e12).unwrap();
    assert_eq!(decode.seconds(&rates), decode.bytes / 2e12);
    assert_eq!(cost.stage(Stage::Tower).seconds(&rates), cost.stage(Stage::Tower).flops / 300e12);
    // The cache of Llama-7B takes half a mebibyte a token at two bytes a number.
    assert_eq!(cost.memory.kv_cache, 727.0 * 524_288.0);
}

#[test]
fn a_sliding_window_bounds_the_cache_and_attention() {
    let (tower, llm) = clip_and("phi-3-mini");
    let vlm = Vlm::new(&tower, &llm, Compressor::QueCC);
    let per_token = llm.kv_bytes_per_token(Dtype::Bf16);
    assert_eq!(full(&vlm, 36, &Workload::new(10_000, 1)).memory.kv_cache, 2047.0 * per_token);
    let unbounded = LlmDimensions { sliding_window: None, ..llm.clone() };
    let all = Vlm { llm: &unbounded, ..vlm };
    let prefill = |vlm: &Vlm<'_>, text| full(vlm, 36, &Workload::new(text, 1)).stage(Stage::Prefill).flops;
    assert_eq!(prefill(&vlm, 2000), prefill(&all, 2000));
    assert!(prefill(&vlm, 4000) < prefill(&all, 4000));
}

#[test]
fn own_projections_stand_in_for_the_projector_and_m3_projects_every_patch() {
    let (tower, llm) = clip_and("vicuna-7b");
    let stage = |compressor, v, stage| {
        full(&Vlm::new(&tower, &llm, compressor), v, &Workload::new(9, 1)).stage(stage).flops
    };
    assert_eq!(stage(Compressor::TokenPacker, 36, Stage::Project), 0.0);
    assert_eq!(stage(Compressor::Mqt, 36, Stage::Project), 0.0);
    let projected = |tokens: f64| 2.0 * tokens * 4096.0 * (1024.0 + 4096.0);
    assert_eq!(stage(Compressor::QueCC, 36, Stage::Project), projected(36.0));
    assert_eq!(stage(Compressor::M3, 36, Stage::Project), projected(576.0));
}

#[test]
fn the_json_names_are_stable() {
    let (tower, llm) = clip_and("smollm2-135m");
    let cost = full(&Vlm::new(&tower, &llm, Compressor::QueCC), 36, &Workload::new(20, 5));
    let json = serde_json::to_value(&cost).unwrap();
    let stages: Vec<&str> =
        json["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["tower", "query", "compress", "project", "prefill", "decode"]);
    for key in ["llm", "tower", "connector", "kv_cache"] {
        assert!(json["memory"][key].as_f64().unwrap() > 0.0);
    }
    assert_eq!(serde_json::to_value(Compressor::AveragePooling).unwrap(), "average-pooling");
    assert_eq!(serde_json::to_value(Dtype::Q4K).unwrap(), "q4_k");
}

#[test]
fn bad_requests_are_refused() {
    let (tower, llm) = clip_and("smollm2-135m");
    let vlm = Vlm::new(&tower, &llm, Compressor::QueCC);
    let refused = |vlm: Vlm<'_>, visual_tokens, workload: Workload, expected: &str| {
        for model in [CostModel::Paper, CostModel::Full] {
            let message = vlm.cost(visual_tokens, &workload, model).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    };
    let workload = Workload::new(10, 10);
    refused(vlm, 37, workload, "it offers 576, 144, 64, 36, 16, 9, 4, 1");
    refused(vlm, 0, workload, "cannot produce 0 visual tokens");
    refused(vlm, 36, Workload::new(usize::MAX, 1), "text tokens = 18446744073709551615");
    refused(Vlm { tower_blocks: 25, ..vlm }, 36, workload, "blocks to run = 25");
    let broken = LlmDimensions { hidden: 0, ..llm.clone() };
    refused(Vlm { llm: &broken, ..vlm }, 36, workload, "hidden = 0");
    assert!(Rates::new(0.0, 1.0).is_err() && Rates::new(1.0, f64::INFINITY).is_err());
}
