//! Gradients of the trainable methods against finite differences.

use candle_core::{DType, Device, Tensor, Var};
use foveate_compress::{
    BlockDepth, Budget, Compressor, Features, Fresh, Grid, Mqt, MqtConfig, Parameters, QueCC, QueCCConfig,
    StateDepth, TokenPacker, TokenPackerConfig,
};

use crate::fixture::{every_feature, random, tokens};

const D: usize = 8;

/// Biases that add the same to every key of a query. Softmax does not see that, so their gradient is zero in exact
/// arithmetic; the only ones of their kind.
const SHIFTS_EVERY_KEY: [&str; 3] = ["k_proj.3.bias", "ln_k_1.bias", "ln_k.bias"];

/// A loss that weighs every element of the tokens differently.
fn loss(compressor: &dyn Compressor, features: &Features, budget: usize) -> Tensor {
    let tokens = tokens(compressor, features, Budget::Tokens(budget));
    let weights = random(tokens.dims(), "loss");
    (tokens * weights).unwrap().sum_all().unwrap()
}

/// Checks each variable's gradient along a random direction and asks for a finite, non-zero one.
fn check(compressor: &dyn Compressor, fresh: &Fresh, features: &Features, budget: usize) {
    check_those(compressor, fresh, features, budget, |_| true);
}

/// The same for the variables whose names `take` accepts.
fn check_those(
    compressor: &dyn Compressor,
    fresh: &Fresh,
    features: &Features,
    budget: usize,
    take: impl Fn(&str) -> bool,
) {
    let mut variables = fresh.variables();
    variables.retain(|name, _| take(name));
    assert!(!variables.is_empty());
    // Values that are neither 0 nor 1, so that biases and norms matter.
    for (name, variable) in &variables {
        let noise = (random(variable.dims(), &format!("{name} noise")) * 0.2).unwrap();
        variable.set(&(variable.as_tensor() + noise).unwrap()).unwrap();
    }
    let gradients = loss(compressor, features, budget).backward().unwrap();
    for (name, variable) in &variables {
        let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} has no gradient"));
        let size = norm(gradient);
        if SHIFTS_EVERY_KEY.contains(&name.as_str()) {
            assert!(size < 1e-4, "{name}: {size}");
            continue;
        }
        assert!(size.is_finite() && size > 1e-3, "{name}: {size}");
        // Along the gradient itself the slope is its length, which f32 can resolve.
        let direction = (gradient / f64::from(size)).unwrap();
        let slope = size;
        let step = 1e-2 * norm(variable).max(0.1) / (variable.elem_count() as f32).sqrt().min(4.0);
        let start = variable.as_tensor().copy().unwrap();
        let at = |distance: f32| {
            variable.set(&(&start + (&direction * f64::from(distance)).unwrap()).unwrap()).unwrap();
            loss(compressor, features, budget).to_scalar::<f32>().unwrap()
        };
        let difference = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step);
        variable.set(&start).unwrap();
        assert!((slope - difference).abs() < 0.01 * slope + 2e-3, "{name}: {slope} against {difference}");
    }
}

fn norm(x: &Tensor) -> f32 {
    x.to_dtype(DType::F32).unwrap().sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar().unwrap()
}

#[test]
fn quecc() {
    let fresh = Fresh::new(21, Device::Cpu);
    let config = QueCCConfig { heads: 2, ..QueCCConfig::single(D, 12, 2) };
    let compressor = QueCC::load(&config, &Parameters::new(&fresh, "")).unwrap();
    check(&compressor, &fresh, &every_feature(Grid::square(4), 2, D, BlockDepth::LAST), 4);
}

#[test]
fn elastic_quecc_trains_the_filter_in_use_and_all_that_is_shared() {
    let fresh = Fresh::new(22, Device::Cpu);
    let config = QueCCConfig { heads: 2, ..QueCCConfig::elastic(D, 12, &[2, 4]) };
    let compressor = QueCC::load(&config, &Parameters::new(&fresh, "")).unwrap();
    let features = every_feature(Grid::square(4), 2, D, BlockDepth::LAST);
    let gradients = loss(&compressor, &features, 1).backward().unwrap();
    for (name, variable) in fresh.variables() {
        let trained = gradients.get(&variable).is_some_and(|gradient| norm(gradient) > 0.0);
        assert_eq!(trained, !name.starts_with("q_downsample.2."), "{name}");
    }
    for (budget, idle) in [(1, "q_downsample.2."), (4, "q_downsample.4.")] {
        check_those(&compressor, &fresh, &features, budget, |name| !name.starts_with(idle));
    }
}

#[test]
fn the_gradient_reaches_the_question() {
    let config = QueCCConfig { heads: 2, ..QueCCConfig::single(D, 12, 2) };
    let compressor = QueCC::load(&config, &Parameters::new(&Fresh::new(21, Device::Cpu), "")).unwrap();
    let question = Var::from_tensor(&random(&[1, 12], "question")).unwrap();
    let patches = Var::from_tensor(&random(&[1, 16, D], "patches")).unwrap();
    let features = every_feature(Grid::square(4), 1, D, BlockDepth::LAST)
        .with_state(StateDepth::LLAVA, patches.as_tensor().clone())
        .and_then(|features| features.with_question(question.as_tensor().clone()))
        .unwrap();
    let gradients = loss(&compressor, &features, 4).backward().unwrap();
    assert!(gradients.get(&question).is_some_and(|gradient| norm(gradient) > 0.0));
    assert!(gradients.get(&patches).is_some());
}

#[test]
fn token_packer() {
    for (side, budget) in [(2, 4), (4, 1)] {
        let fresh = Fresh::new(23, Device::Cpu);
        let config =
            TokenPackerConfig { heads: 2, sides: vec![side], ..TokenPackerConfig::published(D, 10, 1) };
        let compressor = TokenPacker::load(&config, &Parameters::new(&fresh, "")).unwrap();
        check(&compressor, &fresh, &every_feature(Grid::square(4), 2, D, BlockDepth::LAST), budget);
    }
}

#[test]
fn mqt() {
    let fresh = Fresh::new(24, Device::Cpu);
    let config = MqtConfig { heads: 2, query_side: 3, ..MqtConfig::published(D, 10) };
    let compressor = Mqt::load(&config, &Parameters::new(&fresh, "")).unwrap();
    assert!(!fresh.variables().contains_key("pos_embed"), "the position table is fixed");
    assert!(fresh.tensors().contains_key("pos_embed"), "but belongs to the checkpoint");
    check(&compressor, &fresh, &every_feature(Grid::square(4), 2, D, BlockDepth::LAST), 9);
}

#[test]
fn questions_about_one_image_give_the_gradients_of_each_alone() {
    let fresh = Fresh::new(25, Device::Cpu);
    let config = QueCCConfig { heads: 2, ..QueCCConfig::single(D, 12, 2) };
    let compressor = QueCC::load(&config, &Parameters::new(&fresh, "")).unwrap();
    let images = every_feature(Grid::square(4), 2, D, BlockDepth::LAST);
    let questions = random(&[6, 12], "questions");
    let together = images.clone().with_questions(questions.clone()).unwrap();
    let repeated = images.rows(&[0, 0, 0, 1, 1, 1]).unwrap().with_question(questions).unwrap();
    let [together, repeated] = [together, repeated].map(|features| {
        let loss = loss(&compressor, &features, 4);
        (loss.to_scalar::<f32>().unwrap(), loss.backward().unwrap())
    });
    assert!((together.0 - repeated.0).abs() < 1e-4 * repeated.0.abs(), "{} {}", together.0, repeated.0);
    for (name, variable) in fresh.variables() {
        let [together, repeated] = [&together.1, &repeated.1].map(|store| store.get(&variable).unwrap());
        let apart = norm(&(together - repeated).unwrap());
        assert!(apart < 1e-4 * (1.0 + norm(repeated)), "{name}: {apart}");
    }
}
