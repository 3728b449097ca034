//! LLaVA from pixels to answers, in every layout of checkpoint names.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use foveate_model::generate::{GenerateOptions, Part, Prompt, Session};
use foveate_model::llm::{Input, Padding};
use foveate_model::vision::HiddenState;
use foveate_model::vlm::{Image, ImageLayout, Segment, Tiling, Vlm, VlmConfig, published_names};
use foveate_model::{Dtype, ModelError, Weights};
use serde_json::{Value, json};

use crate::common::{Expected, apart, config, folder, tensors};

/// The placeholder in the fixtures' token lists.
const IMAGE: u32 = 5;

/// A folder, and the one whose expected values it shares.
const LLAVA: [(&str, &str); 5] = [
    ("llava-1.5", "llava-1.5"),
    ("llava-1.5-v5", "llava-1.5"),
    ("llava-1.5-v5-flat", "llava-1.5"),
    ("llava-original", "llava-original"),
    ("llava-original-embedded", "llava-original"),
];

fn open(name: &str) -> Vlm {
    println!("{name}");
    Vlm::open(&folder(name), None, Dtype::F32).unwrap()
}

/// The expanded token list cut at its placeholders: a run of them is one image after the other.
fn segments(tokens: &[u32], mut lengths: impl Iterator<Item = usize>) -> Vec<Segment> {
    let mut segments = Vec::new();
    for run in tokens.chunk_by(|a, b| (*a == IMAGE) == (*b == IMAGE)) {
        if run[0] != IMAGE {
            segments.push(Segment::Tokens(run.to_vec()));
            continue;
        }
        let mut left = run.len();
        while left > 0 {
            left -= lengths.next().unwrap();
            segments.push(Segment::Image);
        }
    }
    segments
}

/// What the language model reads, embedded: `[1, s, D]`.
fn embedded(model: &Vlm, prompt: &Prompt) -> Tensor {
    let parts = prompt.parts.iter().map(|part| match part {
        Part::Tokens(tokens) => {
            let tokens = Tensor::new(&tokens[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            model.decoder().embed(&tokens).unwrap()
        }
        Part::Rows(rows) => rows.unsqueeze(0).unwrap(),
    });
    Tensor::cat(&parts.collect::<Vec<_>>(), 1).unwrap()
}

/// Everything behind the image rows: the splice, hidden states, logits and 32 greedy tokens.
fn check_language(model: &Vlm, expected: &Expected, case: &str, rows: &[Tensor]) {
    let lengths = rows.iter().map(|rows| rows.dims()[0]);
    let segments = segments(&expected.ids(&format!("in.{case}input_ids")), lengths);
    let prompt = model.prompt(&segments, rows).unwrap();
    let embeddings = embedded(model, &prompt);
    if expected.contains(&format!("out.{case}inputs_embeds")) {
        expected.assert_close(&format!("out.{case}inputs_embeds"), &embeddings);
    }
    let decoder = model.decoder();
    let hidden = decoder.forward_uncached(Input::Embeddings(&embeddings), &Padding::none(1)).unwrap();
    expected.assert_close(&format!("out.{case}last_hidden_state"), &hidden);
    // LLaVA-NeXT's fixture has the logits of the last positions only.
    let stored = expected.get(&format!("out.{case}logits")).dims()[1];
    let last = hidden.narrow(1, hidden.dims()[1] - stored, stored).unwrap();
    expected.assert_close(&format!("out.{case}logits"), &decoder.logits(&last).unwrap());
    let options = GenerateOptions { max_tokens: 32, ..GenerateOptions::default() };
    let mut session = Session::new(decoder.clone());
    let mut generate = |prompt: &Prompt| {
        session.generate_tokens(prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap()
    };
    let first = generate(&prompt);
    assert_eq!(first.tokens, expected.ids(&format!("out.{case}greedy_ids")));
    // Asked again, all but the last position comes from the cache: image rows are compared by value.
    let again = generate(&model.prompt(&segments, rows).unwrap());
    assert_eq!(again.reused_positions, prompt.len().unwrap() - 1);
    assert_eq!(again.tokens, first.tokens);
    // Another picture in the same place is read anew from there on.
    let other: Vec<Tensor> = rows.iter().map(|rows| rows.neg().unwrap()).collect();
    let first_image =
        expected.ids(&format!("in.{case}input_ids")).iter().position(|id| *id == IMAGE).unwrap();
    assert_eq!(generate(&model.prompt(&segments, &other).unwrap()).reused_positions, first_image);
}

/// LLaVA-1.5 from pixels on, with one image and with two. `states` are those of the tower to look at.
fn check_llava(model: &Vlm, expected: &Expected, states: &[usize]) {
    for case in ["", "two."] {
        let pixels = expected.get(&format!("in.{case}pixel_values"));
        let extra: Vec<HiddenState> = states.iter().copied().map(HiddenState::new).collect();
        let features = model.encode(pixels, &extra, &[]).unwrap();
        for (state, found) in states.iter().zip(&features.extra.states) {
            expected.assert_close(&format!("out.{case}vision_hidden_states.{state}"), found);
        }
        let projected = model.project(&features.rows).unwrap();
        expected.assert_close(&format!("out.{case}image_features"), &projected);
        let rows: Vec<Tensor> = (0..pixels.dims()[0])
            .map(|image| model.image_rows(&Image::Single(pixels.get(image).unwrap())).unwrap())
            .collect();
        for (image, rows) in rows.iter().enumerate() {
            assert!(apart(rows, &projected.get(image).unwrap()) < 1e-5);
        }
        check_language(model, expected, case, &rows);
    }
}

#[test]
fn llava_in_five_layouts_with_one_and_two_images() {
    for (name, values) in LLAVA {
        check_llava(&open(name), &Expected::of(values), &[3, 0]);
    }
}

#[test]
fn llava_from_a_pair_of_llama_cpp_files() {
    let folder = folder("llava-gguf");
    // Of the second, the blocks that are read are named; in the first the two halves of the MLP go by each other's name.
    for projector in ["mmproj.gguf", "mmproj-feature-layer.gguf"] {
        println!("{projector}");
        let model =
            Vlm::open_llama_cpp(&folder.join("model.gguf"), &folder.join(projector), Dtype::F32).unwrap();
        check_llava(&model, &Expected::of("llava-original"), &[2, 0]);
    }
    let swapped = Vlm::open_llama_cpp(&folder.join("mmproj.gguf"), &folder.join("model.gguf"), Dtype::F32);
    let message = swapped.unwrap_err().to_string();
    assert!(message.contains("model.gguf") && message.contains("general.architecture"), "{message}");
}

/// The tiles that transformers chose for a case's image: how many there are, the longer side has more.
fn tiling(tiles: usize, height: usize, width: usize) -> Tiling {
    let (rows, columns) = match tiles - 1 {
        4 => (2, 2),
        count if height > width => (count, 1),
        count => (1, count),
    };
    Tiling { rows, columns, height, width }
}

#[test]
fn llava_next_with_images_of_every_shape() {
    check_llava_next(&open("llava-next"));
}

/// The layouts that have no fixture of their own hold the same tensors under other names, and their configurations say the
/// same in other words.
#[test]
fn llava_next_in_the_other_layouts() {
    let published: Value = serde_json::from_str(&config("llava-next")).unwrap();
    for (layout, config, names) in [
        ("transformers 5", version_5(&published), &VERSION_5[..]),
        ("transformers 5, as it saves", version_5(&published), &VERSION_5_SAVED),
        ("original", original(&published), &ORIGINAL),
    ] {
        println!("{layout}");
        let folder = tempfile::tempdir().unwrap();
        let tower = folder.path().join("vision_tower");
        std::fs::create_dir(&tower).unwrap();
        std::fs::write(tower.join("config.json"), published["vision_config"].to_string()).unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let renamed: HashMap<String, Tensor> = tensors("llava-next")
            .into_iter()
            .map(|(name, tensor)| {
                let found = names.iter().find_map(|(from, to)| Some((name.strip_prefix(from)?, to)));
                let (rest, to) = found.unwrap_or_else(|| panic!("{name} has no name in this layout"));
                (format!("{to}{rest}"), tensor)
            })
            .collect();
        candle_core::safetensors::save(&renamed, folder.path().join("model.safetensors")).unwrap();
        check_llava_next(&Vlm::open(folder.path(), None, Dtype::F32).unwrap());
    }
}

const VERSION_5: [(&str, &str); 5] = [
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("image_newline", "model.image_newline"),
];
const VERSION_5_SAVED: [(&str, &str); 4] = [
    ("language_model.", "language_model."),
    ("vision_tower.vision_model.", "vision_tower."),
    ("multi_modal_projector.", "multi_modal_projector."),
    ("image_newline", "image_newline"),
];
const ORIGINAL: [(&str, &str); 6] = [
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower.vision_tower."),
    ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("image_newline", "model.image_newline"),
];

/// As transformers 5 writes it: `dtype`, and the rotary settings in one place.
fn version_5(published: &Value) -> Value {
    let mut config = published.clone();
    for part in ["", "/text_config"] {
        let part = config.pointer_mut(part).unwrap().as_object_mut().unwrap();
        let dtype = part.remove("torch_dtype").unwrap();
        part.insert("dtype".to_owned(), dtype);
    }
    let text = config["text_config"].as_object_mut().unwrap();
    let theta = text.remove("rope_theta").unwrap();
    text.insert("rope_parameters".to_owned(), json!({"rope_theta": theta, "rope_type": "default"}));
    config
}

/// As the original code writes it: the language model's fields at the top, pinpoints with the width first.
fn original(published: &Value) -> Value {
    let mut config = published["text_config"].clone();
    let pinpoints = published["image_grid_pinpoints"].as_array().unwrap().iter();
    let swapped: Vec<Value> = pinpoints.map(|pair| json!([pair[1], pair[0]])).collect();
    for (field, value) in [
        ("model_type", json!("llava_mistral")),
        ("architectures", json!(["LlavaMistralForCausalLM"])),
        ("image_aspect_ratio", json!("anyres")),
        ("image_grid_pinpoints", json!(swapped)),
        ("mm_patch_merge_type", json!("spatial_unpad")),
        ("mm_projector_type", json!("mlp2x_gelu")),
        ("mm_vision_select_feature", json!("patch")),
        ("mm_vision_select_layer", json!(-2)),
        ("mm_vision_tower", json!("vision_tower")),
    ] {
        config[field] = value;
    }
    config
}

/// Every case of the fixture, from pixels to greedy tokens.
fn check_llava_next(model: &Vlm) {
    let expected = Expected::of("llava-next");
    let ImageLayout::Tiles { resolutions } = &model.config().layout else { panic!("tiles") };
    assert_eq!(resolutions[..2], [(28, 56), (56, 28)]);
    let cases: [(&str, &[usize]); 6] = [
        ("square", &[5]),
        ("photo", &[5]),
        ("wide", &[4]),
        ("tall", &[4]),
        ("small", &[3]),
        ("two", &[4, 5]),
    ];
    for (case, tiles) in cases {
        println!("{case}");
        let pixels = expected.get(&format!("in.{case}.pixel_values"));
        let sizes = expected.ids(&format!("in.{case}.image_sizes"));
        let mut rows = Vec::new();
        let mut projected = Vec::new();
        for (image, &count) in tiles.iter().enumerate() {
            let tiles = pixels.get(image).unwrap().narrow(0, 0, count).unwrap();
            let features = model.encode(&tiles, &[], &[]).unwrap();
            projected.push(model.project(&features.rows).unwrap());
            let tiling = tiling(count, sizes[2 * image] as usize, sizes[2 * image + 1] as usize);
            let packed = model.image_rows(&Image::Tiled { tiles, tiling }).unwrap();
            assert_eq!(packed.dims()[0], tiling.positions(features.extra.grid));
            expected.assert_close(&format!("out.{case}.image_features.{image}"), &packed);
            rows.push(packed);
        }
        expected.assert_close(&format!("out.{case}.tile_features"), &Tensor::cat(&projected, 0).unwrap());
        check_language(model, &expected, &format!("{case}."), &rows);
    }
    let square = Image::Single(expected.get("in.square.pixel_values").get(0).unwrap().get(0).unwrap());
    let message = model.image_rows(&square).unwrap_err().to_string();
    assert!(message.contains("this model reads tiles"), "{message}");
}

#[test]
fn images_without_a_place_are_refused() {
    let model = open("llava-1.5");
    let rows = Tensor::zeros((16, 48), DType::F32, &Device::Cpu).unwrap();
    let error =
        model.prompt(&[Segment::Tokens(vec![1, 2]), Segment::Image], &[rows.clone(), rows]).unwrap_err();
    assert!(matches!(error, ModelError::ImageCount { places: 1, images: 2 }));
}

#[test]
fn a_foreign_and_a_missing_tensor_are_named() {
    let load = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = tensors("llava-1.5-v5");
        change(&mut tensors);
        let weights = published_names(Weights::from_tensors(tensors));
        Vlm::load(VlmConfig::from_json(&config("llava-1.5-v5")).unwrap(), &weights)
    };
    load(&|_| ()).unwrap();
    let message = load(&|tensors| {
        let tensor = tensors["lm_head.weight"].clone();
        tensors.insert("model.language_model.layers.0.self_attn.sinks".to_owned(), tensor);
    });
    let message = message.unwrap_err().to_string();
    let extra = "`language_model.model.layers.0.self_attn.sinks` of shape [384, 48]";
    assert!(message.contains(extra), "{message}");
    let message = load(&|tensors| drop(tensors.remove("model.multi_modal_projector.linear_2.bias")));
    let message = message.unwrap_err().to_string();
    assert!(message.contains("no tensor `multi_modal_projector.linear_2.bias` of shape [48]"), "{message}");
    let message = load(&|tensors| {
        let wrong = Tensor::zeros(47, DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.multi_modal_projector.linear_2.bias".to_owned(), wrong);
    });
    let message = message.unwrap_err().to_string();
    let both = "`multi_modal_projector.linear_2.bias` has shape [47], expected [48]";
    assert!(message.contains(both), "{message}");
}
