//! Numbers of the reference implementations, see `fixtures/compress/README.md`.

use candle_core::Tensor;
use foveate_compress::{
    BlockAttention, BlockDepth, Budget, Compressor, Contextual, Features, Filters, Grid, M3, Mqt, MqtConfig,
    Parameters, PruMerge, PruMergePlus, QueCC, QueCCConfig, StateDepth, TokenPacker, TokenPackerConfig,
    VisionZip,
};

use crate::fixture::{APART, Fixture, apart, tokens};
use crate::tower::Tower;

/// PyTorch's own orders of summation are up to 3e-6 apart; the kernels' GELU is exact to 4e-7.
const TOLERANCE: f32 = 4e-6;

fn assert_close(compressor: &dyn Compressor, found: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    let apart = apart(found, expected);
    assert!(apart <= tolerance, "{} {what}: {apart:e} > {tolerance:e}", compressor.method());
}

fn quecc(file: &str) {
    let fixture = Fixture::open(file);
    let grid = if file.starts_with("extra") {
        Grid::new(fixture.number("rows"), fixture.number("columns"))
    } else {
        Grid::square(fixture.number("grid"))
    };
    let config = QueCCConfig {
        heads: fixture.number("heads"),
        filters: Filters::Single(fixture.number("kernel")),
        query_state: APART,
        ..QueCCConfig::single(fixture.number("embed_dim"), fixture.number("text_dim"), 1)
    };
    let compressor = QueCC::load(&config, &Parameters::new(&fixture.weights(), "mm_projector.0")).unwrap();
    let found = tokens(&compressor, &fixture.multi_level(grid), fixture.number("tokens"));
    assert_close(&compressor, &found, &fixture.get("out"), TOLERANCE, file);
}

#[test]
fn quecc_at_every_published_window() {
    for side in [3, 4, 6, 12, 24] {
        quecc(&format!("quecc_k{side}"));
    }
}

#[test]
fn quecc_at_other_windows_and_grids() {
    for case in ["k1_6x6", "k2_8x8", "k8_8x8", "k8_16x16", "k3_6x9", "k2_10x4"] {
        quecc(&format!("extra_quecc_{case}"));
    }
}

#[test]
fn token_packer_at_every_published_scale() {
    for side in [2, 3, 4] {
        let fixture = Fixture::open(&format!("tokenpacker_s{side}"));
        let config = TokenPackerConfig {
            heads: fixture.number("heads"),
            query_state: APART,
            ..TokenPackerConfig::published(fixture.number("embed_dim"), fixture.number("hidden_size"), side)
        };
        let weights = fixture.weights();
        let compressor = TokenPacker::load(&config, &Parameters::new(&weights, "mm_projector")).unwrap();
        let grid = Grid::square(fixture.number("grid"));
        let expected = fixture.get("out");
        let found = tokens(&compressor, &fixture.multi_level(grid), expected.dim(1).unwrap());
        assert_close(&compressor, &found, &expected, TOLERANCE, &side.to_string());
    }
}

fn mqt(fixture: &Fixture) -> Mqt {
    let config = MqtConfig {
        heads: fixture.number("heads"),
        query_side: fixture.number("query_grid"),
        ..MqtConfig::published(fixture.number("kv_dim"), fixture.number("embed_dim"))
    };
    Mqt::load(&config, &Parameters::new(&fixture.weights(), "mm_projector")).unwrap()
}

#[test]
fn mqt_at_several_numbers_of_queries() {
    let fixture = Fixture::open("mqt");
    let compressor = mqt(&fixture);
    let features = Features::new(Grid::square(24)).with_state(StateDepth::LLAVA, fixture.get("in.features"));
    let features = features.unwrap();
    for m in [1, 2, 16, 36, 256] {
        let found = tokens(&compressor, &features, m);
        assert_close(&compressor, &found, &fixture.get(&format!("out.{m}")), TOLERANCE, &m.to_string());
    }
}

#[test]
fn mqt_on_other_grids() {
    let fixture = Fixture::open("extra_mqt");
    let compressor = mqt(&fixture);
    for grid in [Grid::square(7), Grid::square(16), Grid::square(27), Grid::new(9, 20)] {
        let name = format!("{}x{}", grid.rows, grid.columns);
        let features = Features::new(grid).with_state(StateDepth::LLAVA, fixture.get(&format!("in.{name}")));
        let features = features.unwrap();
        for m in [1, 10, 256] {
            let found = tokens(&compressor, &features, m);
            let expected = fixture.get(&format!("out.{name}.{m}"));
            assert_close(&compressor, &found, &expected, TOLERANCE, &format!("{name} {m}"));
        }
    }
}

#[test]
fn m3_at_its_five_scales() {
    let fixture = Fixture::open("m3_pool");
    let features = Features::new(Grid::square(24)).with_state(StateDepth::LLAVA, fixture.get("in.features"));
    let features = features.unwrap();
    for v in [1, 9, 36, 144, 576] {
        let found = tokens(&M3::default(), &features, v);
        assert_close(&M3::default(), &found, &fixture.get(&format!("out.{v}")), TOLERANCE, &v.to_string());
    }
}

/// Features of the CLIP fixture for a method that ranks patches by the attention of `block` (from the end).
fn clip_features(tower: &Tower, states: impl Fn(usize) -> Tensor, block: BlockDepth) -> Features {
    let state = states(23);
    // The block's input is the state of the block's own index.
    let index = 24 - block.from_end();
    let (queries, keys) = tower.queries_and_keys(index, &states(index));
    let attention = BlockAttention::new(block, &queries, &keys, tower.heads).unwrap();
    Features::new(Grid::square(24))
        .with_state(StateDepth::LLAVA, state.narrow(1, 1, 576).unwrap())
        .and_then(|features| features.with_class_token(state.narrow(1, 0, 1)?.squeeze(1)?))
        .and_then(|features| features.with_attention(attention))
        .unwrap()
}

#[test]
fn prumerge_from_stored_hidden_states() {
    let fixture = Fixture::open("clip_prumerge");
    let tower = Tower::new(&fixture);
    let states = |index: usize| fixture.get(&format!("out.hidden_states.{index}"));
    let features = clip_features(&tower, states, BlockDepth::LAST);
    let plain = PruMerge::default();
    let adaptive = plain.compress(&features, Budget::Adaptive).unwrap();
    assert_close(&plain, &adaptive.tokens, &fixture.get("out.prumerge"), 2e-6, "adaptive");
    let kept = adaptive.kept.unwrap();
    assert_eq!(kept[0].len(), 21);
    assert_eq!(kept[0][20], None);
    let fixed = tokens(&plain, &features, 73);
    assert_close(&plain, &fixed, &fixture.get("out.prumerge_fixed_1_8"), 2e-6, "one in eight");
    let plus = PruMergePlus::default();
    let found = tokens(&plus, &features, Budget::Adaptive);
    assert_close(&plus, &found, &fixture.get("out.prumerge_plus"), 2e-6, "plus");
}

#[test]
fn prumerge_plus_where_spaced_and_kept_positions_meet() {
    let clip = Fixture::open("clip_prumerge");
    let tower = Tower::new(&clip);
    let overlap = Fixture::open("prumerge_plus_overlap");
    let states = tower.states(&overlap.get("in.pixels"), 23);
    let features = clip_features(&tower, |index| states[index].clone(), BlockDepth::LAST);
    let plain = PruMerge::default();
    let found = plain.compress(&features, Budget::Adaptive).unwrap();
    assert_close(&plain, &found.tokens, &overlap.get("out.prumerge"), 1e-4, "adaptive");
    assert_eq!(found.kept.unwrap()[0].len(), overlap.number("adaptive_tokens") + 1);
    let plus = PruMergePlus::default();
    let found = plus.compress(&features, Budget::Adaptive).unwrap();
    assert_close(&plus, &found.tokens, &overlap.get("out.prumerge_plus"), 1e-4, "plus");
    let kept: Vec<usize> = found.kept.unwrap()[0].iter().flatten().copied().collect();
    let spaced = kept.iter().filter(|patch| patch.is_multiple_of(overlap.number("step"))).count();
    assert_eq!(spaced, 576 / overlap.number("step"));
}

#[test]
fn the_test_tower_gives_the_stored_states() {
    let fixture = Fixture::open("clip_prumerge");
    let states = Tower::new(&fixture).states(&fixture.get("in.pixels"), 23);
    for index in [0, 12, 22, 23] {
        let apart = apart(&states[index], &fixture.get(&format!("out.hidden_states.{index}")));
        assert!(apart < 1e-4, "state {index}: {apart:e}");
    }
}

#[test]
fn visionzip_with_its_numbers_of_dominant_and_contextual_tokens() {
    let fixture = Fixture::open("clip_prumerge");
    let expected = Fixture::open("visionzip");
    let tower = Tower::new(&fixture);
    let states = |index: usize| fixture.get(&format!("out.hidden_states.{index}"));
    let features = clip_features(&tower, states, BlockDepth::LAST_BUT_ONE);
    for (dominant, contextual) in [(8, 2_usize), (27, 5), (54, 10)] {
        let what = format!("{dominant}_{contextual}");
        let method = VisionZip {
            contextual: Contextual::Exactly(contextual.try_into().unwrap()),
            ..VisionZip::default()
        };
        let found = method.compress(&features, Budget::Tokens(1 + dominant + contextual)).unwrap();
        let rows = expected.get(&format!("out.visionzip.{what}"));
        assert_close(&method, &found.tokens, &rows, 2e-5, &what);
        let positions = expected.get(&format!("out.visionzip_idx.{what}"));
        let positions = positions.to_dtype(candle_core::DType::I64).unwrap().to_vec2::<i64>().unwrap();
        let mut positions: Vec<Option<usize>> =
            positions[0].iter().map(|position| usize::try_from(*position).unwrap().checked_sub(1)).collect();
        positions.sort_unstable();
        assert_eq!(found.kept.unwrap()[0][..=dominant], positions, "{what}");
    }
    // 33 and 65 tokens have the published proportion without saying so.
    let default = tokens(&VisionZip::default(), &features, 65);
    assert_close(&VisionZip::default(), &default, &expected.get("out.visionzip.54_10"), 2e-5, "65 tokens");
}

#[test]
fn visionzip_where_nothing_joins_a_contextual_token() {
    let fixture = Fixture::open("extra_visionzip_empty");
    let (dominant, contextual) = (fixture.number("dominant"), fixture.number("contextual"));
    let (queries, keys) = (fixture.get("in.queries"), fixture.get("in.keys"));
    let attention =
        BlockAttention::new(BlockDepth::LAST_BUT_ONE, &queries, &keys, fixture.number("heads")).unwrap();
    let state = fixture.get("in.state");
    let grid = Grid::square(fixture.number("side"));
    let features = Features::new(grid)
        .with_state(StateDepth::LLAVA, state.narrow(1, 1, grid.patches()).unwrap())
        .and_then(|features| features.with_class_token(state.narrow(1, 0, 1)?.squeeze(1)?))
        .and_then(|features| features.with_attention(attention))
        .unwrap();
    let method =
        VisionZip { contextual: Contextual::Exactly(contextual.try_into().unwrap()), ..VisionZip::default() };
    let found = tokens(&method, &features, 1 + dominant + contextual);
    assert_close(&method, &found, &fixture.get("out"), 1e-6, "with an empty cluster");
}
