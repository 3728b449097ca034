//! What must hold whatever the weights.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use foveate_compress::{
    AveragePooling, BlockDepth, Budget, Compressor, Features, Fresh, Grid, Identity, M3, Mqt, MqtConfig,
    Parameters, PruMerge, PruMergePlus, QueCC, QueCCConfig, StateDepth, TokenPacker, TokenPackerConfig,
    VisionZip,
};

use crate::fixture::{apart, block_of, every_feature, random, stored, tokens};

const D: usize = 16;

fn elastic(sides: &[usize]) -> (QueCC, Fresh) {
    let fresh = Fresh::new(3, Device::Cpu);
    let config = QueCCConfig { heads: 4, ..QueCCConfig::elastic(D, 12, sides) };
    let compressor = QueCC::load(&config, &Parameters::new(&fresh, "")).unwrap();
    (compressor, fresh)
}

fn token_packer(sides: &[usize]) -> TokenPacker {
    let config =
        TokenPackerConfig { heads: 2, sides: sides.to_vec(), ..TokenPackerConfig::published(D, 20, 1) };
    TokenPacker::load(&config, &Parameters::new(&Fresh::new(4, Device::Cpu), "")).unwrap()
}

fn mqt() -> Mqt {
    let config = MqtConfig { heads: 4, query_side: 4, ..MqtConfig::published(D, 20) };
    Mqt::load(&config, &Parameters::new(&Fresh::new(5, Device::Cpu), "")).unwrap()
}

/// Every method, with the budgets it offers on a 12 × 12 grid that are worth a try.
fn every_method() -> Vec<(Box<dyn Compressor>, Vec<Budget>)> {
    let some = |list: &[usize]| list.iter().copied().map(Budget::Tokens).collect::<Vec<_>>();
    let mut prumerge = some(&[2, 17, 144]);
    prumerge.push(Budget::Adaptive);
    vec![
        (Box::new(elastic(&[2, 3, 6, 12]).0), some(&[1, 4, 16, 36])),
        (Box::new(token_packer(&[2, 3, 4])), some(&[9, 16, 36])),
        (Box::new(mqt()), some(&[1, 5, 16])),
        (Box::new(M3::default()), some(&[144, 36, 9, 1])),
        (Box::new(PruMerge::default()), prumerge),
        (Box::new(PruMergePlus::default()), vec![Budget::Adaptive]),
        (Box::new(VisionZip::default()), some(&[3, 12, 144])),
        (Box::new(AveragePooling::default()), some(&[144, 36, 1])),
        (Box::new(Identity::default()), some(&[144])),
    ]
}

#[test]
fn a_row_of_a_batch_is_the_row_alone() {
    for (method, budgets) in every_method() {
        let features = every_feature(Grid::square(12), 3, D, block_of(&*method));
        for budget in budgets {
            let rows = method.compress_rows(&features, &[budget; 3]).unwrap();
            for (row, together) in rows.iter().enumerate() {
                let alone = method.compress(&features.rows(&[row]).unwrap(), budget).unwrap();
                assert!(apart(&together.tokens, &alone.tokens) < 1e-5, "{} {budget}", method.method());
                assert_eq!(together.kept, alone.kept, "{} {budget}", method.method());
            }
        }
    }
}

#[test]
fn rows_may_have_different_budgets() {
    let (compressor, _) = elastic(&[2, 3, 6]);
    let features = every_feature(Grid::square(12), 3, D, BlockDepth::LAST);
    let budgets = [36, 4, 36].map(Budget::Tokens);
    let rows = compressor.compress_rows(&features, &budgets).unwrap();
    assert_eq!(
        rows.iter().map(|row| row.tokens.dims().to_vec()).collect::<Vec<_>>(),
        [[1, 36, D], [1, 4, D], [1, 36, D]]
    );
    for (row, budget) in budgets.into_iter().enumerate() {
        let alone = tokens(&compressor, &features.rows(&[row]).unwrap(), budget);
        assert!(apart(&rows[row].tokens, &alone) < 1e-6);
    }
    let mixed = [Budget::Adaptive, Budget::Tokens(9), Budget::Adaptive];
    let rows = PruMerge::default().compress_rows(&features, &mixed).unwrap();
    assert_eq!(rows[1].tokens.dims(), [1, 9, D]);
}

#[test]
fn only_quecc_reads_the_question() {
    for (method, budgets) in every_method() {
        let features = every_feature(Grid::square(12), 1, D, block_of(&*method));
        let other = features.clone().with_question(random(&[1, 12], "other question")).unwrap();
        for budget in budgets {
            let (one, two) = (tokens(&*method, &features, budget), tokens(&*method, &other, budget));
            let changed = apart(&one, &two) > 1e-4;
            assert_eq!(changed, method.method() == foveate_compress::Method::QueCC, "{}", method.method());
            assert_eq!(changed, method.reads_question());
        }
    }
}

#[test]
fn weights_of_where_tokens_look_sum_to_one() {
    for (method, budgets) in every_method() {
        let features = every_feature(Grid::square(12), 1, D, block_of(&*method));
        for budget in budgets {
            let seen = method.look(&features, budget).unwrap();
            let v = tokens(&*method, &features, budget).dim(1).unwrap();
            assert_eq!(seen.dims(), [1, v, 144], "{}", method.method());
            for (token, row) in seen.squeeze(0).unwrap().to_vec2::<f32>().unwrap().iter().enumerate() {
                let sum: f32 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-4, "{} {budget}, token {token}: {sum}", method.method());
            }
        }
    }
}

#[test]
fn looking_explains_pooled_and_merged_tokens() {
    // Where a method mixes patches linearly, tokens are proportional to the look's weights times the patches.
    let features = every_feature(Grid::square(12), 2, D, BlockDepth::LAST);
    let patches = random(&[2, 144, D], "state 3");
    let pooled = tokens(&AveragePooling::default(), &features, 16);
    let look = AveragePooling::default().look(&features, Budget::Tokens(16)).unwrap();
    assert!(apart(&pooled, &look.matmul(&patches).unwrap()) < 1e-5);
    let features = every_feature(Grid::square(12), 2, D, BlockDepth::LAST_BUT_ONE);
    let zipped = tokens(&VisionZip::default(), &features, 24).narrow(1, 1, 19).unwrap();
    let look = VisionZip::default().look(&features, Budget::Tokens(24)).unwrap().narrow(1, 1, 19).unwrap();
    let mixed = look.contiguous().unwrap().matmul(&patches).unwrap();
    assert!(apart(&zipped, &mixed) < 1e-5);
}

#[test]
fn pooling_by_one_is_the_identity() {
    let features = every_feature(Grid::square(12), 2, D, BlockDepth::LAST);
    let all = tokens(&Identity::default(), &features, 144);
    assert_eq!(apart(&tokens(&AveragePooling::default(), &features, 144), &all), 0.0);
    assert_eq!(apart(&tokens(&M3::default(), &features, 144), &all), 0.0);
}

#[test]
fn pooling_commutes_with_a_linear_projector() {
    let grid = Grid::new(6, 8);
    let patches = random(&[2, 48, D], "patches");
    let projector = random(&[D, 24], "projector");
    let project = |x: &Tensor| x.broadcast_matmul(&projector).unwrap();
    let pool = |x: Tensor| {
        let features = Features::new(grid).with_state(StateDepth::LLAVA, x).unwrap();
        tokens(&AveragePooling::default(), &features, 12)
    };
    assert!(apart(&pool(project(&patches)), &project(&pool(patches.clone()))) < 1e-5);
}

/// Which of the V tokens change when the patch at `position` of all hidden states changes.
fn changed_by(method: &dyn Compressor, grid: Grid, position: usize, v: usize) -> Vec<usize> {
    let features = every_feature(grid, 1, D, BlockDepth::LAST);
    let mut moved = features.clone();
    for (nth, depth) in StateDepth::MULTI_LEVEL.into_iter().enumerate() {
        let state = random(&[1, grid.patches(), D], &format!("state {nth}"));
        let bump: Vec<f32> =
            (0..grid.patches()).map(|patch| if patch == position { 1.0 } else { 0.0 }).collect();
        let bump = Tensor::from_vec(bump, (1, grid.patches(), 1), &Device::Cpu).unwrap();
        let direction = random(&[1, 1, D], "direction");
        let state = (state + bump.broadcast_mul(&direction).unwrap()).unwrap();
        moved = moved.with_state(depth, state).unwrap();
    }
    let (before, after) = (tokens(method, &features, v), tokens(method, &moved, v));
    let difference = (before - after).unwrap().abs().unwrap().max(2).unwrap().squeeze(0).unwrap();
    let difference = difference.to_vec1::<f32>().unwrap();
    (0..v).filter(|token| difference[*token] > 0.0).collect()
}

#[test]
fn a_patch_changes_the_token_of_its_window_and_no_other() {
    for grid in [Grid::square(12), Grid::new(12, 18)] {
        for side in [2, 3, 6] {
            let v = grid.patches() / (side * side);
            for position in [0, 17, 100, grid.patches() - 1] {
                let (row, column) = (position / grid.columns, position % grid.columns);
                let window = row / side * (grid.columns / side) + column / side;
                let (compressor, _) = elastic(&[side]);
                assert_eq!(changed_by(&compressor, grid, position, v), [window], "QueCC {grid} {side}");
                let packer = token_packer(&[side]);
                assert_eq!(changed_by(&packer, grid, position, v), [window], "TokenPacker {grid} {side}");
            }
        }
    }
}

#[test]
fn an_elastic_rung_is_the_plain_quecc_with_its_filter() {
    let (compressor, fresh) = elastic(&[2, 3, 6]);
    let features = every_feature(Grid::square(12), 2, D, BlockDepth::LAST);
    let mut stored_tensors: HashMap<String, Tensor> = fresh.tensors().into_iter().collect();
    for name in ["weight", "bias"] {
        let filter = stored_tensors[&format!("q_downsample.3.{name}")].clone();
        stored_tensors.insert(format!("q_downsample.{name}"), filter);
    }
    let config = QueCCConfig { heads: 4, ..QueCCConfig::single(D, 12, 3) };
    let plain = QueCC::load(&config, &Parameters::new(&stored(&stored_tensors), "")).unwrap();
    let expected = tokens(&plain, &features, 16);
    assert_eq!(apart(&tokens(&compressor, &features, 16), &expected), 0.0);
    let restricted = compressor.restricted(3).unwrap();
    assert_eq!(apart(&tokens(&restricted, &features, 16), &expected), 0.0);
    assert_eq!(restricted.parameters(), plain.parameters());
    assert!(compressor.parameters() > plain.parameters());
}

#[test]
fn mqt_rows_do_not_depend_on_how_many_there_are() {
    let features = every_feature(Grid::new(5, 7), 2, D, BlockDepth::LAST);
    let all = tokens(&mqt(), &features, 16);
    for m in [1, 3, 15] {
        assert!(apart(&tokens(&mqt(), &features, m), &all.narrow(1, 0, m).unwrap()) < 1e-6);
    }
}

#[test]
fn any_list_of_hidden_states_will_do() {
    let depths = [StateDepth::Index(0), StateDepth::FromEnd(1)];
    let config = QueCCConfig {
        heads: 4,
        states: depths.to_vec(),
        query_state: depths[1],
        ..QueCCConfig::single(D, 12, 2)
    };
    let compressor = QueCC::load(&config, &Parameters::new(&Fresh::new(1, Device::Cpu), "")).unwrap();
    assert_eq!(compressor.needs().states, [depths[1], depths[0]]);
    let mut features = Features::new(Grid::square(4)).with_question(random(&[1, 12], "q")).unwrap();
    for depth in depths {
        features = features.with_state(depth, random(&[1, 16, D], &depth.to_string())).unwrap();
    }
    assert_eq!(tokens(&compressor, &features, 4).dims(), [1, 4, D]);
}

#[test]
fn questions_about_one_image_are_each_the_question_alone() {
    let (compressor, _) = elastic(&[2, 3, 6, 12]);
    let images = every_feature(Grid::square(12), 2, D, BlockDepth::LAST);
    let questions = random(&[6, 12], "questions");
    let together = images.clone().with_questions(questions.clone()).unwrap();
    for budget in [1, 4, 16, 36] {
        let all = tokens(&compressor, &together, budget);
        assert_eq!(all.dims(), [6, budget, D]);
        let look = compressor.look(&together, Budget::Tokens(budget)).unwrap();
        for row in 0..6 {
            let question = questions.narrow(0, row, 1).unwrap();
            let alone = images.rows(&[row / 3]).unwrap().with_question(question).unwrap();
            let expected = tokens(&compressor, &alone, budget);
            assert!(apart(&all.narrow(0, row, 1).unwrap(), &expected) < 1e-5, "row {row}, {budget} tokens");
            let expected = compressor.look(&alone, Budget::Tokens(budget)).unwrap();
            assert!(apart(&look.narrow(0, row, 1).unwrap(), &expected) < 1e-6, "row {row}, {budget} tokens");
        }
        let second = tokens(&compressor, &together.rows(&[1]).unwrap(), budget);
        assert_eq!(apart(&second, &all.narrow(0, 3, 3).unwrap()), 0.0, "questions follow their image");
    }
    let message = images.with_questions(random(&[5, 12], "questions")).unwrap_err().to_string();
    assert!(message.contains("[5, 12]"), "{message}");
}
