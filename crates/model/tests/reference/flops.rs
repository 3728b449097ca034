//! What runs, counted, against what `law::cost` says.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use foveate_compress::{
    BlockAttention, BlockDepth, Budget, CompressorConfig, Features, Fresh, Grid, Method, MqtConfig,
    Parameters, QueCCConfig, StateDepth, TokenPackerConfig,
};
use foveate_law::cost::{Catalogue, Compressor, CostModel, LlmDimensions, Scenario, Stage, TowerDimensions};
use foveate_law::cost::{Vlm as Priced, Workload};
use foveate_model::count::counted;
use foveate_model::generate::{GenerateOptions, Session};
use foveate_model::vlm::{Segment, Vlm};

use crate::common::Expected;
use crate::compressed::{image, open};

/// The method in the words of the cost model.
fn priced(method: Method) -> Compressor {
    match method {
        // Its tokens cost what as many of PruMerge do.
        Method::PruMergePlus => Compressor::PruMerge,
        method => method.to_string().parse().unwrap(),
    }
}

fn agree(found: f64, expected: f64, what: &str) {
    assert!(expected > 0.0 || found == 0.0, "{what}: {found} counted, nothing priced");
    assert!(
        found == 0.0 && expected == 0.0 || (found / expected - 1.0).abs() < 0.01,
        "{what}: {found} {expected}"
    );
}

/// Every stage of one question, counted apart.
fn check(model: &Vlm, expected: &Expected, budget: Budget) {
    const ANSWER: usize = 5;
    let (method, image) = (model.compressor().method(), image());
    // The cost model lets the whole text be the question.
    let text: Vec<u32> = expected.ids("in.question_ids");
    let mut stages: HashMap<Stage, f64> = HashMap::new();
    let mut count = |stage: Stage, flops: f64| *stages.entry(stage).or_default() += flops;

    let (seen, flops) = counted(|| model.see(&image).unwrap());
    count(Stage::Tower, flops);
    agree(flops, model.cost().tower_flops(1, seen.blocks_run) + in_tower(model), &format!("{method}: tower"));
    let reads = model.compressor().reads_question();
    let (vector, flops) = counted(|| reads.then(|| model.question_vector(&text).unwrap()));
    count(Stage::Query, flops);
    if reads {
        agree(flops, model.cost().question_flops(text.len()).unwrap(), "query");
    }
    let (seen, flops) = counted(|| model.project_before(seen).unwrap());
    count(Stage::Project, flops);
    let (compressed, flops) = counted(|| model.compress(&seen, vector.as_ref(), &[budget]).unwrap());
    // What the tower makes for PruMerge alone counts as the compressor's.
    count(Stage::Compress, flops + in_tower(model));
    count(Stage::Tower, -in_tower(model));
    let v = compressed[0].tokens.dims()[1];
    agree(
        flops + in_tower(model),
        model.cost().compressor_flops(v).unwrap(),
        &format!("{method} {budget}: compress"),
    );
    let (rows, flops) = counted(|| model.project_after(&compressed).unwrap());
    count(Stage::Project, flops);
    agree(stages[&Stage::Project], model.cost().projector_flops(v), &format!("{method} {budget}: project"));

    let prompt = model.prompt(&[Segment::Image, Segment::Tokens(text.clone())], &rows).unwrap();
    let mut session = Session::new(model.decoder().clone());
    let mut generate = |max_tokens| {
        let options =
            GenerateOptions { max_tokens, end_tokens: Some(Vec::new()), ..GenerateOptions::default() };
        counted(|| {
            session.clear();
            session.generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap()
        })
        .1
    };
    let (prefill, whole) = (generate(1), generate(ANSWER));
    stages.insert(Stage::Prefill, prefill);
    stages.insert(Stage::Decode, whole - prefill);

    let (tower, llm) = dimensions(model);
    let workload = Workload::new(text.len(), ANSWER).with_scenario(Scenario::Single);
    let cost = Priced::new(&tower, &llm, priced(method)).cost(v, &workload, CostModel::Full).unwrap();
    for stage in [Stage::Tower, Stage::Query, Stage::Compress, Stage::Project, Stage::Prefill, Stage::Decode]
    {
        agree(stages[&stage], cost.stage(stage).flops, &format!("{method} {budget}: {stage:?}"));
    }
    agree(stages.values().sum(), cost.flops(), &format!("{method} {budget}: all of it"));
}

/// The class token's query and the keys of the last block, which only PruMerge asks the tower for.
fn in_tower(model: &Vlm) -> f64 {
    match model.compressor().method() {
        Method::PruMerge | Method::PruMergePlus => {
            let (d, patches) = (model.tower().config().width(), model.grid().patches());
            2.0 * ((patches + 2) * d * d) as f64
        }
        _ => 0.0,
    }
}

fn dimensions(model: &Vlm) -> (TowerDimensions, LlmDimensions) {
    (model.tower().config().dimensions("vision tower"), model.decoder().config().dimensions("language model"))
}

#[test]
fn every_stage_costs_what_the_cost_model_says() {
    let plain = open("compressed-plain");
    let expected = Expected::of("compressed-plain");
    for method in Method::ALL.into_iter().filter(|method| !method.has_weights()) {
        let model = plain.clone().with_compressor(method).unwrap();
        let mut budgets: Vec<Budget> = model.ladder().values().into_iter().map(Budget::Tokens).collect();
        budgets.extend(Some(Budget::Adaptive).filter(|budget| model.ladder().contains(*budget)));
        for budget in budgets {
            check(&model, &expected, budget);
        }
    }
    for name in ["compressed-quecc", "compressed-token-packer", "compressed-elastic"] {
        let (model, expected) = (open(name), Expected::of(name));
        for v in model.ladder().values() {
            check(&model, &expected, Budget::Tokens(v));
        }
    }
    let (model, expected) = (open("compressed-mqt"), Expected::of("compressed-mqt"));
    for v in [1, 40, 256] {
        check(&model, &expected, Budget::Tokens(v));
    }
}

/// CLIP-L/14-336 under a Vicuna of 7 B parameters.
fn large() -> (TowerDimensions, LlmDimensions) {
    let catalogue = Catalogue::builtin();
    (catalogue.tower("clip-l-14-336").unwrap().clone(), catalogue.llm("vicuna-7b").unwrap().clone())
}

#[test]
fn compression_costs_little_of_the_tower() {
    let (tower, llm) = large();
    let whole = tower.flops(tower.feature_blocks());
    for (compressors, most) in [
        (&[Compressor::QueCC, Compressor::TokenPacker][..], 0.06),
        (
            &[
                Compressor::PruMerge,
                Compressor::VisionZip,
                Compressor::AveragePooling,
                Compressor::M3,
                Compressor::Identity,
            ],
            0.01,
        ),
    ] {
        for compressor in compressors {
            for v in compressor.ladder(&tower).values() {
                let mut flops = compressor.flops(&tower, &llm, v).unwrap();
                if *compressor == Compressor::TokenPacker {
                    // Its own projection is not compression: the others leave it to the projector.
                    flops -= foveate_law::cost::projector_flops(v, tower.hidden, llm.hidden);
                }
                assert!(flops < most * whole, "{compressor} at {v}: {}", flops / whole);
            }
        }
    }
}

#[test]
fn compressors_of_full_size_run_what_their_formulae_say() {
    let (tower, llm) = large();
    let (rows, columns) = tower.grid();
    let (d, grid) = (tower.hidden, Grid::new(rows, columns));
    let fresh = Fresh::new(1, Device::Cpu);
    let tensor = |shape: &[usize]| {
        // Values do not matter here, but equal ones would be ties.
        let values = (0..shape.iter().product::<usize>()).map(|at| (at as f32 * 0.37).sin());
        Tensor::from_iter(values, &Device::Cpu).unwrap().reshape(shape).unwrap()
    };
    let patches = tensor(&[1, grid.patches(), d]);
    let (queries, keys) = (tensor(&[1, 1, d]), tensor(&[1, grid.patches() + 1, d]));
    let configs = [
        (CompressorConfig::QueCC(QueCCConfig::single(d, llm.hidden, 4)), 36),
        (CompressorConfig::TokenPacker(TokenPackerConfig::published(d, llm.hidden, 2)), 144),
        (CompressorConfig::Mqt(MqtConfig::published(d, llm.hidden)), 16),
        (CompressorConfig::without_weights(Method::PruMerge, StateDepth::LLAVA).unwrap(), 64),
        (CompressorConfig::without_weights(Method::VisionZip, StateDepth::LLAVA).unwrap(), 64),
        (CompressorConfig::without_weights(Method::AveragePooling, StateDepth::LLAVA).unwrap(), 64),
    ];
    for (config, v) in configs {
        let method = config.method();
        let compressor = config.load(&Parameters::new(&fresh, &method.to_string())).unwrap();
        let block = compressor.needs().attention.unwrap_or(BlockDepth::LAST);
        let mut features = Features::new(grid);
        for depth in compressor.needs().states {
            features = features.with_state(depth, patches.clone()).unwrap();
        }
        let features = features
            .with_class_token(tensor(&[1, d]))
            .and_then(|features| {
                features.with_attention(BlockAttention::new(block, &queries, &keys, tower.heads)?)
            })
            .and_then(|features| features.with_question(tensor(&[1, llm.hidden])))
            .unwrap();
        let (result, flops) = counted(|| compressor.compress(&features, Budget::Tokens(v)).unwrap());
        assert_eq!((result.tokens.dims()[1], result.tokens.dtype()), (v, DType::F32));
        let in_tower = match method {
            Method::PruMerge => 2.0 * ((grid.patches() + 2) * d * d) as f64,
            _ => 0.0,
        };
        let stated = priced(method).flops(&tower, &llm, v).unwrap();
        agree(flops + in_tower, stated, &format!("{method} at {v}"));
    }
}
