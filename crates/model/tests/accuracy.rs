//! What rounded weights cost, on published weights and the activations that they really meet.
//!
//! As for `published.rs`, without the folder named by `FOVEATE_TEST_WEIGHTS` these tests say that they did nothing.

// The figures are for whoever runs these with `--nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::path::Path;

use candle_core::{D, Device, Tensor};
use foveate_model::llm::{Decoder, DecoderConfig, Input, Padding};
use foveate_model::nn::{Activation, Heads, LayerNorm, Linear, RmsNorm, Rotary, RotaryScaling, Sight};
use foveate_model::vision::{HiddenState, VisionTower, Wanted};
use foveate_model::weights::gguf::GgufFile;
use foveate_model::{Dtype, Weights};
use support::{DINOV2, SMOLLM2, published};

/// The bounds on the relative Frobenius error of a layer's output.
const BOUNDS: [(Dtype, f32); 2] = [(Dtype::Bf16, 5e-3), (Dtype::Int8, 4e-2)];

#[derive(serde::Deserialize)]
struct Text {
    ids: Vec<u32>,
}

/// The ten texts of the fixtures.
fn texts() -> Vec<Text> {
    #[derive(serde::Deserialize)]
    struct Reference {
        texts: Vec<Text>,
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/published/smollm2.json");
    let reference: Reference = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    reference.texts
}

fn tokens(text: &Text) -> Tensor {
    Tensor::new(&text.ids[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap()
}

fn norm(x: &Tensor) -> f32 {
    x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt()
}

/// Checks one layer in every rounded form against itself in f32, for the input `x`; returns the exact output.
fn check(
    weights: &Weights,
    name: &str,
    sizes: (usize, usize),
    bias: bool,
    x: &Tensor,
    worst: &mut [f32; 2],
) -> Tensor {
    let load = |dtype| {
        let weights = weights.clone().packed(dtype).pp(name);
        Linear::load(&weights, sizes.0, sizes.1, bias).unwrap().forward(x).unwrap()
    };
    let exact = load(Dtype::F32);
    for ((dtype, bound), worst) in BOUNDS.into_iter().zip(worst) {
        let error = norm(&(load(dtype) - &exact).unwrap()) / norm(&exact);
        assert!(error <= bound, "{name} in {dtype}: {error}");
        *worst = worst.max(error);
    }
    exact
}

/// All blocks of SmolLM2 on a text, every layer on the input that it has in f32. Its activations reach 3,000
/// before the last layer of the MLP, and 25,000 in the residual stream.
#[test]
fn each_layer_of_smollm2_keeps_its_bound() {
    let Some(path) = published("each_layer_of_smollm2_keeps_its_bound", SMOLLM2) else { return };
    let file = GgufFile::open(&path).unwrap();
    let config = DecoderConfig::from_gguf(&file).unwrap();
    let weights = file.weights().unwrap();
    let decoder = Decoder::load(config.clone(), &weights).unwrap();
    let text = &texts()[0];
    let states = decoder.hidden_states(Input::Tokens(&tokens(text)), &Padding::none(1)).unwrap();
    let heads = Heads { heads: config.heads, groups: config.groups, width: config.head_width };
    let rotary = Rotary::new(config.rotary_width, config.rotary_theta, &RotaryScaling::None);
    let rotary = rotary.tables(&[(0..text.ids.len() as u32).collect()]);
    let mut worst = [0.0; 2];
    for block in 0..config.blocks {
        let weights = weights.pp("model.layers").pp(block);
        let normed = |name: &str, x: &Tensor| {
            RmsNorm::load(&weights.pp(name), config.width, config.norm_eps).unwrap().forward(x).unwrap()
        };
        let mut layer = |name: &str, output: usize, x: &Tensor| {
            check(&weights, name, (x.dim(D::Minus1).unwrap(), output), false, x, &mut worst)
        };
        let x = &states[block];
        let inner = normed("input_layernorm", x);
        let parts = [("q_proj", heads.queries()), ("k_proj", heads.keys()), ("v_proj", heads.keys())];
        let parts = parts.map(|(name, width)| layer(&format!("self_attn.{name}"), width, &inner));
        let joined = Tensor::cat(&parts, D::Minus1).unwrap();
        let joined = rotary.rotate(&joined, heads.heads + heads.groups, heads.width).unwrap();
        let sight = Sight::Causal { start: 0, window: None, padding: [0].into() };
        let mixed = heads.attend(&joined, &sight).unwrap();
        let x = (x + layer("self_attn.o_proj", config.width, &mixed)).unwrap();
        let inner = normed("post_attention_layernorm", &x);
        let gate = layer("mlp.gate_proj", config.hidden, &inner);
        let up = layer("mlp.up_proj", config.hidden, &inner);
        let gated = (Activation::Silu.forward(&gate).unwrap() * up).unwrap();
        let x = (x + layer("mlp.down_proj", config.width, &gated)).unwrap();
        // The steps above are the block: its output is the next hidden state.
        if block + 2 < states.len() {
            assert!(norm(&(&x - &states[block + 1]).unwrap()) / norm(&x) < 1e-4, "block {block}");
        }
    }
    println!("SmolLM2-135M: relative error of a layer at most {} in bf16, {} in int8", worst[0], worst[1]);
}

/// All blocks of DINOv2 on a photo, every layer on the input that it has in f32; int8 as towers have it, by row.
#[test]
fn each_layer_of_dinov2_keeps_its_bound() {
    let Some(path) = published("each_layer_of_dinov2_keeps_its_bound", DINOV2) else { return };
    let weights = Weights::open(&path).unwrap().pp("backbone").by_row();
    let tower = VisionTower::open(&path, Dtype::F32).unwrap();
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/published/dinov2.safetensors");
    let photo = candle_core::safetensors::load(photo, &Device::Cpu).unwrap()["in.cat.png"].clone();
    let photo = photo.to_dtype(candle_core::DType::F32).unwrap(); // [3, 112, 112], levels
    let pixels = ((photo / 58.0).unwrap() - 2.1).unwrap().unsqueeze(0).unwrap();
    let all: Vec<HiddenState> = (0..=12).map(HiddenState::new).collect();
    let states = tower.forward(&pixels, &Wanted::states(&all)).unwrap().states;
    let width = tower.config().width();
    let heads = Heads { heads: width / 64, groups: width / 64, width: 64 };
    let mut worst = [0.0; 2];
    for block in 0..12 {
        let weights = weights.pp("encoder.layer").pp(block);
        let normed = |name: &str, x: &Tensor| {
            LayerNorm::load(&weights.pp(name), width, 1e-6).unwrap().forward(x).unwrap()
        };
        let gain = |name: &str, x: &Tensor| {
            x.broadcast_mul(&weights.pp(name).get(width, "lambda1").unwrap()).unwrap()
        };
        let mut layer = |name: &str, sizes, x: &Tensor| check(&weights, name, sizes, true, x, &mut worst);
        let square = (width, width);
        let x = &states[block];
        let inner = normed("norm1", x);
        let parts = ["query", "key", "value"]
            .map(|name| layer(&format!("attention.attention.{name}"), square, &inner));
        let mixed = heads.attend(&Tensor::cat(&parts, D::Minus1).unwrap(), &Sight::Full).unwrap();
        let x = (x + gain("layer_scale1", &layer("attention.output.dense", square, &mixed))).unwrap();
        let hidden = layer("mlp.fc1", (width, 4 * width), &normed("norm2", &x));
        let hidden = Activation::Gelu.forward(&hidden).unwrap();
        let x = (&x + gain("layer_scale2", &layer("mlp.fc2", (4 * width, width), &hidden))).unwrap();
        assert!(norm(&(&x - &states[block + 1]).unwrap()) / norm(&x) < 1e-4, "block {block}");
    }
    println!("DINOv2-S: relative error of a layer at most {} in bf16, {} in int8", worst[0], worst[1]);
}

/// Over all positions of the ten texts.
#[test]
fn smollm2_in_bf16_chooses_the_tokens_of_f32() {
    let Some(path) = published("smollm2_in_bf16_chooses_the_tokens_of_f32", SMOLLM2) else { return };
    let texts = texts();
    let choices = |dtype| -> Vec<u32> {
        let decoder = Decoder::open(&path, dtype).unwrap();
        let of_text = |text: &Text| {
            let hidden = decoder.forward_uncached(Input::Tokens(&tokens(text)), &Padding::none(1)).unwrap();
            let best = decoder.logits(&hidden).unwrap().squeeze(0).unwrap().argmax(1).unwrap();
            best.to_vec1::<u32>().unwrap()
        };
        texts.iter().flat_map(of_text).collect()
    };
    let exact = choices(Dtype::F32);
    assert!(exact.len() >= 500, "{}", exact.len());
    let equal = |dtype| choices(dtype).iter().zip(&exact).filter(|(found, exact)| found == exact).count();
    let bf16 = equal(Dtype::Bf16);
    println!(
        "of {} positions, bf16 agrees at {bf16}, int8 at {}, the stored blocks at {}",
        exact.len(),
        equal(Dtype::Int8),
        equal(Dtype::AsStored)
    );
    assert!(bf16 * 100 >= exact.len() * 98, "{bf16} of {}", exact.len());
}
