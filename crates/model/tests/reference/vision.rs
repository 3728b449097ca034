//! Vision towers: every hidden state, and the attention of the last two blocks.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};
use foveate_model::vision::{
    BlockIndex, Dinov2Config, HiddenState, Queries, VisionConfig, VisionOutput, VisionTower, Wanted,
};
use foveate_model::{Dtype, Weights};

use crate::common::{Expected, TOLERANCE, apart, config, folder, tensors};

const TOWERS: [&str; 4] = ["clip", "clip-full", "siglip", "dinov2"];

fn open(name: &str) -> (VisionTower, Expected) {
    println!("{name}");
    (VisionTower::open(&folder(name), Dtype::F32).unwrap(), Expected::of(name))
}

fn forward(tower: &VisionTower, pixels: &Tensor, states: &[HiddenState]) -> VisionOutput {
    tower.forward(pixels, &Wanted::states(states)).unwrap()
}

#[test]
fn all_hidden_states() {
    for name in TOWERS {
        let (tower, expected) = open(name);
        let depth = tower.config().blocks();
        let all: Vec<HiddenState> = (0..=depth).map(HiddenState::new).collect();
        let output = forward(&tower, expected.get("in.pixel_values"), &all);
        assert_eq!(output.blocks_run, depth);
        for (index, state) in output.states.iter().enumerate() {
            expected.assert_close(&format!("out.hidden_states.{index}"), state);
        }
        // LLaVA's −2 is the state before the last, whatever order states are asked for in.
        let some = [HiddenState::from_end(2), HiddenState::new(0), HiddenState::from_end(2)];
        let output = forward(&tower, expected.get("in.pixel_values"), &some);
        assert_eq!(output.blocks_run, depth - 1, "no block more than needed");
        for (state, index) in output.states.iter().zip([depth - 1, 0, depth - 1]) {
            expected.assert_close(&format!("out.hidden_states.{index}"), state);
        }
        let patches = output.patches(0).unwrap();
        let first = usize::from(output.class_token);
        let whole = expected.get(&format!("out.hidden_states.{}", depth - 1));
        assert_eq!(patches.dims()[1], output.grid.patches());
        assert_eq!(whole.dims()[1], output.grid.patches() + first);
        let cut = whole.narrow(1, first, output.grid.patches()).unwrap();
        assert!(apart(&patches, &cut) < TOLERANCE);
    }
}

#[test]
fn attention_of_chosen_blocks() {
    for name in TOWERS {
        let (tower, expected) = open(name);
        let depth = tower.config().blocks();
        let wanted =
            Wanted { attention: &[BlockIndex::from_end(1), BlockIndex::from_end(2)], ..Wanted::default() };
        let output = tower.forward(expected.get("in.pixel_values"), &wanted).unwrap();
        assert_eq!(output.blocks_run, depth - 1, "of the last block only two projections run");
        let class = Wanted { queries: Queries::ClassToken, ..wanted };
        let class = tower.forward(expected.get("in.pixel_values"), &class).unwrap();
        for (inputs, class) in output.attention.iter().zip(&class.attention) {
            assert!(apart(&class.queries, &inputs.queries.narrow(1, 0, 1).unwrap()) < 1e-5);
            assert!(apart(&class.keys, &inputs.keys) < 1e-5);
        }
        for (inputs, block) in output.attention.iter().zip([depth - 1, depth - 2]) {
            expected.assert_close(&format!("out.queries.layers.{block}"), &inputs.queries);
            expected.assert_close(&format!("out.keys.layers.{block}"), &inputs.keys);
            if output.class_token {
                let attention = expected.get(&format!("out.attentions.layers.{block}")); // [b, heads, n, n]
                let class = attention.narrow(2, 0, 1).unwrap().squeeze(2).unwrap(); // [b, heads, n]
                let found = inputs.class_attention_by_head().unwrap();
                assert!(apart(&found, &class) < 1e-5);
            }
        }
    }
}

#[test]
fn a_batch_row_equals_the_image_alone() {
    for name in TOWERS {
        let (tower, expected) = open(name);
        let pixels = expected.get("in.pixel_values");
        let state = [HiddenState::from_end(1)];
        let together = forward(&tower, pixels, &state).states.remove(0);
        for row in 0..pixels.dims()[0] {
            let alone = forward(&tower, &pixels.narrow(0, row, 1).unwrap(), &state).states.remove(0);
            assert!(apart(&alone, &together.narrow(0, row, 1).unwrap()) < 1e-5);
        }
    }
}

#[test]
fn dinov2_at_other_sizes() {
    let (tower, expected) = open("dinov2");
    for size in ["8x8", "5x9", "4x4"] {
        let states = [HiddenState::new(0), HiddenState::new(4)];
        let output = forward(&tower, expected.get(&format!("in.{size}.pixel_values")), &states);
        expected.assert_close(&format!("out.{size}.hidden_states.0"), &output.states[0]);
        expected.assert_close(&format!("out.{size}.hidden_states.4"), &output.states[1]);
    }
}

#[test]
fn dinov2_dimensions_can_be_read_off_the_tensors() {
    let weights = Weights::from_tensors(tensors("dinov2"));
    let VisionConfig::Dinov2(stored) = VisionConfig::from_json(&config("dinov2")).unwrap() else { panic!() };
    // The fixture's heads are not 64 wide, and its epsilon is not the published one.
    let message = Dinov2Config::from_shapes(&weights).unwrap_err().to_string();
    assert!(message.contains("num_attention_heads") && message.contains('0'), "{message}");
    let wide =
        weights.rename(|name| (name == "encoder.layer.0.mlp.fc1.weight").then(|| "elsewhere".to_owned()));
    let message = Dinov2Config::from_shapes(&wide).unwrap_err().to_string();
    assert!(message.contains("encoder.layer.0.mlp.fc1.weight") && message.contains("missing"), "{message}");
    assert_eq!(stored.image_size, 42.into());
}

#[test]
fn other_sizes_and_states_are_refused() {
    let (clip, expected) = open("clip");
    let large = expected.get("in.pixel_values").pad_with_zeros(3, 0, 7).unwrap();
    let message = clip.forward(&large, &Wanted::default()).unwrap_err().to_string();
    assert!(message.contains("[2, 3, 42, 49]") && message.contains("[batch, 3, 42, 42]"), "{message}");
    let wanted = [HiddenState::new(5)];
    let message =
        clip.forward(expected.get("in.pixel_values"), &Wanted::states(&wanted)).unwrap_err().to_string();
    assert!(message.contains("hidden state 5") && message.contains("0..=4"), "{message}");
}

#[test]
fn every_tensor_that_is_read_gets_a_gradient() {
    for name in TOWERS {
        let expected = Expected::of(name);
        let variables: HashMap<String, Var> = tensors(name)
            .into_iter()
            .filter(|(_, tensor)| tensor.dtype() == DType::F32)
            .map(|(name, tensor)| (name, Var::from_tensor(&tensor).unwrap()))
            .collect();
        let of_variables =
            variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let weights = Weights::from_tensors(of_variables);
        let tower = VisionTower::load(VisionConfig::from_json(&config(name)).unwrap(), &weights).unwrap();
        // DINOv2 also through its resized position table.
        let pixels = if name == "dinov2" { "in.5x9.pixel_values" } else { "in.pixel_values" };
        let last = forward(&tower, expected.get(pixels), &[HiddenState::from_end(1)]).states.remove(0);
        let gradients = last.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let unread = weights.unused();
        for (tensor, variable) in variables.iter().filter(|(tensor, _)| !unread.contains(tensor)) {
            let gradient =
                gradients.get(variable).unwrap_or_else(|| panic!("{name}: {tensor} gets no gradient"));
            let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size.is_finite() && size > 0.0, "{name}: {tensor}: {size}");
        }
    }
}
