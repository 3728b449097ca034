//! Our own checkpoints written and read back, and what is refused of any: contradictions, compressors that do not go with a
//! model, budgets that are not on offer.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Tensor};
use foveate_compress::{
    Budget, CompressError, CompressorConfig, Fresh, Method, Parameters, QueCCConfig, StateDepth,
};
use foveate_model::vlm::{CarriedCompressor, Image, Vlm, VlmConfig, published_names, save_checkpoint};
use foveate_model::weights::Weights;
use foveate_model::{Dtype, ModelError};

use crate::common::{Expected, apart, config, folder, tensors};
use crate::compressed::{image, open, rows};

#[test]
fn a_checkpoint_of_ours_survives_the_disk() {
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("new/model");
    let source = open("compressed-plain");
    let tower = source.tower().config();
    let value = serde_json::from_str(&config("compressed-elastic")).unwrap();
    let compressor = CompressorConfig::QueCC(QueCCConfig {
        query_state: StateDepth::FromEnd(3),
        ..QueCCConfig::elastic(tower.width(), 24, &[2, 6])
    });
    let fresh = Fresh::new(9, Device::Cpu);
    compressor.load(&Parameters::new(&fresh, "compressor")).unwrap();
    let mut stored: BTreeMap<String, Tensor> = fresh.tensors().into_iter().collect();
    let rest = published_names(Weights::open(&folder("compressed-elastic")).unwrap());
    for name in rest.names().into_iter().filter(|name| !name.starts_with("compressor.")) {
        let tensor = rest.get(rest.shape(&name).unwrap(), &name).unwrap();
        let dtype = if name.starts_with("language_model.") { DType::F16 } else { DType::F32 };
        stored.insert(name, tensor.to_dtype(dtype).unwrap());
    }
    for _ in 0..2 {
        // The second time over what is there.
        save_checkpoint(&target, &value, Some(&compressor), &stored).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(&target).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }
    let model = Vlm::open(&target, None, Dtype::F32).unwrap();
    assert_eq!(model.config().compressor, Some(CarriedCompressor::Configured(compressor)));
    assert_eq!(model.ladder().values(), [9, 1]);
    let expected = Expected::of("compressed-elastic");
    let question = expected.ids("in.question_ids");
    let found = rows(&model, &image(), &question, Budget::Tokens(9));
    assert_eq!(found.dims(), [9, 24]);
    // What the language model makes of the question shows that its weights came through.
    expected.assert_close("out.question", &model.question_vector(&question).unwrap());

    let error =
        save_checkpoint(&target, &serde_json::json!({"model_type": "bert"}), None, &stored).unwrap_err();
    assert!(error.to_string().contains("bert"), "{error}");
    Vlm::open(&target, None, Dtype::F32).unwrap();
}

/// A fixture's model after `change` to its tensors and the text of its configuration.
fn changed(
    name: &str,
    config_change: impl Fn(String) -> String,
    change: impl Fn(&mut HashMap<String, Tensor>),
) -> Result<Vlm, ModelError> {
    let mut tensors = tensors(name);
    change(&mut tensors);
    let mut config = VlmConfig::from_json(&config_change(config(name)))?;
    if config.vision.is_none() {
        let tower = std::fs::read_to_string(folder(name).join("vision_tower/config.json")).unwrap();
        config.vision = Some(foveate_model::vision::VisionConfig::from_json(&tower)?);
    }
    Vlm::load(config, &published_names(Weights::from_tensors(tensors)))
}

fn refusal(
    name: &str,
    config_change: impl Fn(String) -> String,
    change: impl Fn(&mut HashMap<String, Tensor>),
) -> String {
    changed(name, config_change, change).unwrap_err().to_string()
}

#[test]
fn checkpoints_that_contradict_themselves_are_named() {
    let same = |text: String| text;
    let keep = |_: &mut HashMap<String, Tensor>| ();
    for name in ["compressed-quecc", "compressed-token-packer", "compressed-mqt", "compressed-elastic"] {
        changed(name, same, keep).unwrap();
    }
    let replace = |from: &'static str, to: &'static str| {
        move |text: String| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        }
    };
    // A wrong grid, a window that does not divide it, a window other than the weights'.
    let message =
        refusal("compressed-quecc", replace("output_token_count\": 36", "output_token_count\": 576"), keep);
    assert!(message.contains("576") && message.contains("36 patches"), "{message}");
    let five = |text: String| {
        text.replace("kernel_size\": 3", "kernel_size\": 5").replace("_stride\": 3", "_stride\": 5")
    };
    let message = refusal("compressed-quecc", five, |tensors| {
        let filter = Tensor::zeros((16, 1, 5, 5), DType::F32, &Device::Cpu).unwrap();
        tensors.insert("model.mm_projector.0.q_downsample.weight".to_owned(), filter);
    });
    assert!(
        message.contains("do not divide a grid of 6 × 6") && message.contains("[1, 2, 3, 6]"),
        "{message}"
    );
    let two = |text: String| {
        text.replace("kernel_size\": 3", "kernel_size\": 2").replace("_stride\": 3", "_stride\": 2")
    };
    let message = refusal("compressed-quecc", two, keep);
    assert!(message.contains("q_downsample.weight") && message.contains("[16, 1, 2, 2]"), "{message}");
    let message =
        refusal("compressed-token-packer", replace("\"scale_factor\": 2", "\"scale_factor\": 4"), keep);
    assert!(message.contains("token-packer") && message.contains("6 × 6"), "{message}");
    // Weights for another width.
    let message = refusal("compressed-elastic", replace("\"text_width\": 24", "\"text_width\": 64"), keep);
    assert!(message.contains("text_width") && message.contains("64") && message.contains("24"), "{message}");
    let message = refusal("compressed-mqt", same, |tensors| {
        let narrow = tensors["model.query_abstractor.query"].narrow(1, 0, 8).unwrap();
        tensors.insert("model.query_abstractor.query".to_owned(), narrow);
    });
    assert!(message.contains("compressor.query") && message.contains("[256, 8]"), "{message}");
    // Hidden states that the tower does not have; a tensor too many, one too few.
    let message = refusal("compressed-elastic", replace("\"1/2\"", "12"), keep);
    assert!(message.contains("state 12") && message.contains("0..=8"), "{message}");
    let message = refusal("compressed-mqt", same, |tensors| {
        let tensor = tensors["model.query_abstractor.proj"].clone();
        tensors.insert("model.query_abstractor.ln_post.weight".to_owned(), tensor);
    });
    assert!(message.contains("compressor.ln_post.weight"), "{message}");
    let message = refusal("compressed-quecc", same, |tensors| {
        drop(tensors.remove("model.mm_projector.0.text_projection.1.bias"));
    });
    assert!(message.contains("compressor.text_projection.1.bias"), "{message}");
}

#[test]
fn compressors_that_do_not_go_with_a_model_are_named() {
    let refused = |model: &Vlm, method: Method| {
        model.clone().with_compressor(method).map(|_| ()).unwrap_err().to_string()
    };
    let plain = open("compressed-plain");
    let message = refused(&plain, Method::QueCC);
    assert!(
        message.contains("quecc cannot be used here") && message.contains("no compressor's weights"),
        "{message}"
    );
    let quecc = open("compressed-quecc");
    assert!(refused(&quecc, Method::Mqt).contains("carries the weights of quecc"));
    // Back and forth.
    let pooled = quecc.clone().with_compressor(Method::AveragePooling).unwrap();
    assert_eq!(pooled.with_compressor(Method::QueCC).unwrap().ladder().values(), [4]);
    let packer = open("compressed-token-packer");
    for method in [Method::Identity, Method::M3, Method::PruMerge] {
        assert!(refused(&packer, method).contains("token-packer's own projection"), "{method}");
    }
    let error = packer.project(&Tensor::zeros((1, 16), DType::F32, &Device::Cpu).unwrap()).unwrap_err();
    assert!(error.to_string().contains("no projector"), "{error}");

    // A file of llama.cpp without the tower's last block: VisionZip reads the block before the projector's state, which
    // is there, PruMerge the one after it.
    let files = folder("llava-gguf");
    let cut = Vlm::open_llama_cpp(&files.join("model.gguf"), &files.join("mmproj.gguf"), Dtype::F32).unwrap();
    let whole = open("llava-original");
    let pixels = Expected::of("llava-original").get("in.pixel_values").get(0).unwrap();
    let zipped = |model: &Vlm| {
        let model = model.clone().with_compressor(Method::VisionZip).unwrap();
        rows(&model, &Image::Single(pixels.clone()), &[], Budget::Tokens(7))
    };
    assert!(apart(&zipped(&cut), &zipped(&whole)) < 1e-4);
    let message = refused(&cut, Method::PruMerge);
    assert!(message.contains("block -1") && message.contains("2 blocks"), "{message}");
}

#[test]
fn budgets_and_questions_are_checked_before_anything_runs() {
    let quecc = open("compressed-quecc");
    let error = quecc.check(&image(), Budget::Tokens(9)).unwrap_err();
    let ModelError::Compress(error) = error else { panic!("{error}") };
    assert!(matches!(*error, CompressError::OffLadder { .. }), "{error}");
    assert!(error.to_string().contains("it offers 4"), "{error}");
    assert_eq!(quecc.default_budget(), Some(Budget::Tokens(4)));
    let seen = quecc.see(&image()).unwrap();
    let error = quecc.compress(&seen, None, &[Budget::Tokens(4)]).unwrap_err().to_string();
    assert!(error.contains("quecc reads the question"), "{error}");
    assert!(matches!(quecc.question_vector(&[]).unwrap_err(), ModelError::EmptyInput));
    assert!(matches!(quecc.question_vector(&[9999]).unwrap_err(), ModelError::Token { token: 9999, .. }));

    let mqt = open("compressed-mqt");
    assert_eq!(mqt.default_budget(), Some(Budget::Tokens(256)));
    let plain = open("compressed-plain");
    assert_eq!(plain.default_budget(), Some(Budget::Tokens(36)));
    let prumerge = plain.clone().with_compressor(Method::PruMerge).unwrap();
    assert_eq!(prumerge.default_budget(), Some(Budget::Adaptive));
    assert_eq!(plain.with_compressor(Method::VisionZip).unwrap().default_budget(), None);
}
