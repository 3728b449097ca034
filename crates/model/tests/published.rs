//! Published weights against other programs' numbers, from `reference/make_published.py`.
//!
//! The weights lie in the folder that `scripts/fetch-test-weights.sh` fills, named by `FOVEATE_TEST_WEIGHTS`; without it
//! these tests say that they did nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use foveate_model::Dtype;
use foveate_model::llm::{Decoder, Input, Padding};
use foveate_model::vision::{HiddenState, VisionTower, Wanted};

use support::{DINOV2, SMOLLM2, published};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/published").join(name)
}

/// transformers in float32 on the dequantised weights, at every position of ten texts.
#[test]
fn smollm2_chooses_the_tokens_that_transformers_chooses() {
    #[derive(serde::Deserialize)]
    struct Reference {
        texts: Vec<Text>,
    }
    #[derive(serde::Deserialize)]
    struct Text {
        ids: Vec<u32>,
        next: Vec<u32>,
    }
    let reference = std::fs::read_to_string(fixture("smollm2.json")).unwrap();
    let reference: Reference = serde_json::from_str(&reference).unwrap();
    let positions: usize = reference.texts.iter().map(|text| text.ids.len()).sum();
    assert!(positions >= 500, "{positions}");
    let Some(path) = published("smollm2_chooses_the_tokens_that_transformers_chooses", SMOLLM2) else {
        return;
    };
    let decoder = Decoder::open(&path, Dtype::F32).unwrap();
    let mut equal = 0;
    for text in &reference.texts {
        assert_eq!(text.ids.len(), text.next.len());
        let ids = Tensor::new(&text.ids[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = decoder.forward_uncached(Input::Tokens(&ids), &Padding::none(1)).unwrap();
        let best = decoder.logits(&hidden).unwrap().squeeze(0).unwrap().argmax(1).unwrap();
        let best = best.to_vec1::<u32>().unwrap();
        equal += best.iter().zip(&text.next).filter(|(found, expected)| found == expected).count();
    }
    assert!(equal * 100 >= positions * 99, "{equal} of {positions}");
}

/// ONNX Runtime runs the exported graph; here the weights alone are taken from it. 224 pixels, so that the position
/// table of 518 is interpolated.
#[test]
fn dinov2_has_the_hidden_states_of_onnx_runtime() {
    const PHOTOS: [&str; 3] = ["cat.png", "rocket-tall.png", "coffee-wide.png"];
    const STATES: [usize; 3] = [6, 9, 12];
    const ROWS: [u32; 4] = [0, 1, 128, 256];
    let Some(path) = published("dinov2_has_the_hidden_states_of_onnx_runtime", DINOV2) else { return };
    let expected = candle_core::safetensors::load(fixture("dinov2.safetensors"), &Device::Cpu).unwrap();
    let tower = VisionTower::open(&path, Dtype::F32).unwrap();
    for photo in PHOTOS {
        let states = STATES.map(HiddenState::new);
        let output =
            tower.forward(&pixels(&expected[&format!("in.{photo}")]), &Wanted::states(&states)).unwrap();
        for (state, found) in STATES.iter().zip(&output.states) {
            let found = found.squeeze(0).unwrap(); // [257, 384]
            assert_eq!(found.dims(), [257, 384]);
            let rows = found.index_select(&Tensor::new(&ROWS, &Device::Cpu).unwrap(), 0).unwrap();
            let name = |kind: &str| format!("out.{photo}.{state}.{kind}");
            let apart_rows = apart(&rows, &expected, &name("rows"));
            let apart_sample = apart(&sample(&found), &expected, &name("sample"));
            assert!(
                apart_rows < 1e-3 && apart_sample < 1e-3,
                "{photo}, state {state}: {apart_rows}, {apart_sample}"
            );
        }
    }
}

/// Levels `[3, 112, 112]` doubled both ways, normalised: `[1, 3, 224, 224]`.
fn pixels(levels: &Tensor) -> Tensor {
    const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
    const STD: [f64; 3] = [0.229, 0.224, 0.225];
    let levels = levels.to_dtype(DType::U32).unwrap().to_vec3::<u32>().unwrap();
    let side = 2 * levels[0].len();
    let value = |at: usize| {
        let (channel, y, x) = (at / (side * side), at / side % side, at % side);
        let level = f64::from(levels[channel][y / 2][x / 2]);
        ((level / 255.0 - MEAN[channel]) / STD[channel]) as f32
    };
    let values: Vec<f32> = (0..3 * side * side).map(value).collect();
    Tensor::from_vec(values, (1, 3, side, side), &Device::Cpu).unwrap()
}

/// Row r, entry j: column (7 r + 32 j) mod 384.
fn sample(state: &Tensor) -> Tensor {
    let rows = state.to_vec2::<f32>().unwrap();
    let picked: Vec<Vec<f32>> = rows
        .iter()
        .enumerate()
        .map(|(r, row)| (0..row.len() / 32).map(|j| row[(7 * r + 32 * j) % row.len()]).collect())
        .collect();
    Tensor::new(picked, &Device::Cpu).unwrap()
}

/// The largest difference; NaN counts as infinite.
fn apart(found: &Tensor, expected: &HashMap<String, Tensor>, name: &str) -> f32 {
    let expected = &expected[name];
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let values = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().fold(0.0, |most, value| if value.is_nan() { f32::INFINITY } else { most.max(value) })
}
