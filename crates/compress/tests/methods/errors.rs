//! Everything that can be wrong has a name and says what is allowed.

use candle_core::Device;
use foveate_compress::{
    AveragePooling, BlockDepth, Budget, CompressError, Compressor, Features, Filters, Fresh, Grid, M3, Mqt,
    MqtConfig, Parameters, PruMerge, PruMergePlus, QueCC, QueCCConfig, StateDepth, TokenPacker,
    TokenPackerConfig, VisionZip,
};

use crate::fixture::{Fixture, every_feature, random};

fn quecc(filters: Filters) -> QueCC {
    let config = QueCCConfig { heads: 2, filters, ..QueCCConfig::single(8, 12, 1) };
    QueCC::load(&config, &Parameters::new(&Fresh::new(1, Device::Cpu), "")).unwrap()
}

fn refusal(compressor: &dyn Compressor, features: &Features, budget: impl Into<Budget>) -> CompressError {
    compressor.compress(features, budget.into()).unwrap_err()
}

#[test]
fn a_number_off_the_ladder_lists_the_ladder() {
    let features = every_feature(Grid::square(12), 1, 8, BlockDepth::LAST);
    let message = refusal(&quecc(Filters::Elastic(vec![2, 3, 12])), &features, 50).to_string();
    assert!(message.contains("50 visual tokens") && message.contains("36, 16, 1"), "{message}");
    let message = refusal(&AveragePooling::default(), &features, 0).to_string();
    assert!(message.contains("144, 36, 16, 9, 4, 1"), "{message}");
    let message = refusal(&PruMerge::default(), &features, 1).to_string();
    assert!(message.contains("from 2 to 144, or adaptive"), "{message}");
    let message = refusal(&PruMergePlus::default(), &features, 20).to_string();
    assert!(message.contains("only an adaptive number"), "{message}");
    for budget in [Budget::Tokens(2), Budget::Tokens(usize::MAX), Budget::Adaptive] {
        let error = refusal(&VisionZip::default(), &features, budget);
        assert!(matches!(error, CompressError::OffLadder { .. }), "{error}");
    }
}

#[test]
fn a_window_that_does_not_divide() {
    let features = every_feature(Grid::new(12, 10), 1, 8, BlockDepth::LAST);
    let error = refusal(&quecc(Filters::Single(3)), &features, 16);
    assert!(matches!(error, CompressError::Window { window: 3, .. }), "{error}");
    assert!(error.to_string().contains("[1, 2]"), "{error}");
    let config = TokenPackerConfig { heads: 2, ..TokenPackerConfig::published(8, 10, 4) };
    let packer = TokenPacker::load(&config, &Parameters::new(&Fresh::new(1, Device::Cpu), "")).unwrap();
    assert!(matches!(refusal(&packer, &features, 9), CompressError::Window { window: 4, .. }));
    assert!(matches!(refusal(&M3::default(), &features, 1), CompressError::Grid { .. }));
}

#[test]
fn a_grid_that_the_patches_do_not_fill() {
    let error = Features::new(Grid::square(5)).with_state(StateDepth::LLAVA, random(&[1, 24, 8], "x"));
    let message = error.unwrap_err().to_string();
    assert!(message.contains("5 × 5") && message.contains("25") && message.contains("24"), "{message}");
    let error = Features::new(Grid::new(0, 7)).with_state(StateDepth::LLAVA, random(&[1, 1, 8], "x"));
    assert!(matches!(error.unwrap_err(), CompressError::Grid { .. }));
}

#[test]
fn missing_inputs_are_named() {
    let grid = Grid::square(4);
    let bare = Features::new(grid).with_state(StateDepth::LLAVA, random(&[1, 16, 8], "x")).unwrap();
    let error = refusal(&quecc(Filters::Single(2)), &bare, 4);
    assert!(matches!(error, CompressError::MissingQuestion(_)), "{error}");
    let error =
        refusal(&quecc(Filters::Single(2)), &bare.clone().with_question(random(&[1, 12], "q")).unwrap(), 4);
    assert!(matches!(error, CompressError::MissingState { .. }), "{error}");
    assert!(
        error.to_string().contains("1/2 of the depth") && error.to_string().contains("state -2"),
        "{error}"
    );
    let error = refusal(&PruMerge::default(), &bare, 4).to_string();
    assert!(error.contains("block -1") && error.contains("no block"), "{error}");
    let wrong_block = every_feature(grid, 1, 8, BlockDepth::LAST);
    let error = refusal(&VisionZip::default(), &wrong_block, 4).to_string();
    assert!(error.contains("block -2") && error.contains("block -1"), "{error}");
    let error = refusal(&M3::default(), &Features::new(grid), 4);
    assert!(matches!(error, CompressError::MissingState { .. }), "{error}");
}

#[test]
fn features_and_weights_of_other_widths() {
    let grid = Grid::square(4);
    let wide = every_feature(grid, 1, 10, BlockDepth::LAST);
    let error = refusal(&quecc(Filters::Single(2)), &wide, 4).to_string();
    assert!(error.contains("width 8") && error.contains("10"), "{error}");
    let question = every_feature(grid, 1, 8, BlockDepth::LAST).with_question(random(&[1, 13], "q")).unwrap();
    let error = refusal(&quecc(Filters::Single(2)), &question, 4).to_string();
    assert!(error.contains("questions of width 12") && error.contains("13"), "{error}");

    let fixture = Fixture::open("quecc_k3");
    let load = |config: &QueCCConfig| {
        QueCC::load(config, &Parameters::new(&fixture.weights(), "mm_projector.0")).unwrap_err()
    };
    let error = load(&QueCCConfig::single(64, 40, 3));
    assert!(matches!(error, CompressError::ParameterShape { .. }), "{error}");
    let error = load(&QueCCConfig::single(32, 40, 4)).to_string();
    assert!(
        error.contains("mm_projector.0.q_downsample.weight") && error.contains("[32, 1, 4, 4]"),
        "{error}"
    );
    let error = load(&QueCCConfig::elastic(32, 40, &[3])).to_string();
    assert!(error.contains("mm_projector.0.q_downsample.3.weight") && error.contains("no such"), "{error}");
}

#[test]
fn batches_that_do_not_agree() {
    let features = every_feature(Grid::square(4), 2, 8, BlockDepth::LAST);
    let error = features.clone().with_question(random(&[3, 12], "q")).unwrap_err();
    assert!(matches!(error, CompressError::Shape { .. }), "{error}");
    let error = refusal(&PruMerge::default(), &features, Budget::Adaptive);
    assert!(matches!(error, CompressError::AdaptiveBatch { images: 2 }), "{error}");
    let error = PruMerge::default().compress_rows(&features, &[Budget::Tokens(4)]).unwrap_err();
    assert!(matches!(error, CompressError::BudgetCount { budgets: 1, images: 2 }), "{error}");
}

#[test]
fn configurations_that_cannot_be() {
    let fresh = Fresh::new(1, Device::Cpu);
    let from = Parameters::new(&fresh, "");
    for config in [
        QueCCConfig { heads: 3, ..QueCCConfig::single(8, 12, 2) },
        QueCCConfig { heads: 0, ..QueCCConfig::single(8, 12, 2) },
        QueCCConfig { states: Vec::new(), ..QueCCConfig::single(8, 12, 2) },
        QueCCConfig::single(8, 12, 0),
        QueCCConfig::elastic(8, 12, &[]),
        QueCCConfig::elastic(8, 12, &[2, 2]),
    ] {
        let error = QueCC::load(&config, &from).unwrap_err();
        assert!(matches!(error, CompressError::Config { .. }), "{config:?}: {error}");
    }
    let sizes = [(6, 2, 16), (8, 2, 0), (8, 2, 1 << 40), (8, 5, 16)];
    for (width, heads, query_side) in sizes {
        let config = MqtConfig { heads, query_side, ..MqtConfig::published(width, 10) };
        assert!(matches!(Mqt::load(&config, &from).unwrap_err(), CompressError::Config { .. }), "{config:?}");
    }
}

#[test]
fn configurations_survive_json() {
    let config = QueCCConfig::elastic(1024, 2048, &[1, 2, 3]);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<QueCCConfig>(&text).unwrap(), config);
    let config = TokenPackerConfig::published(1024, 4096, 2);
    assert_eq!(config.heads, 8);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<TokenPackerConfig>(&text).unwrap(), config);
}
