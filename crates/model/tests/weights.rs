//! Weights and tokenizers against other programs' readings of the same files.
//!
//! The fixtures say in their metadata which program made them. Tests on published weights need the folder that
//! `scripts/fetch-test-weights.sh` fills, named by `FOVEATE_TEST_WEIGHTS`; without it they say that they did nothing.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use foveate_model::Weights;
use foveate_model::weights::gguf::{Activation, Architecture, GgufFile, RopeScaling};

use support::{DINOV2, SMOLLM2, published};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn bits(weights: &Weights, name: &str) -> Vec<u32> {
    let tensor = weights.get(weights.shape(name).unwrap(), name).unwrap();
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Both must hold the same names, shapes and bits.
fn assert_same(found: &Weights, expected: &Weights) {
    assert_eq!(found.names(), expected.names());
    for name in expected.names() {
        assert_eq!(found.shape(&name), expected.shape(&name), "{name}");
        let (found, expected) = (bits(found, &name), bits(expected, &name));
        let differing = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        assert_eq!(differing, 0, "{name}: {differing} of {} numbers differ", expected.len());
    }
}

#[test]
fn random_blocks_expand_to_the_bits_that_gguf_py_gives() {
    let file = GgufFile::open(&fixture("gguf/random-blocks.gguf")).unwrap();
    let expected = Weights::open(&fixture("gguf/random-blocks.expected.safetensors")).unwrap();
    assert_eq!(expected.names().len(), 13);
    assert_same(&file.weights().unwrap(), &expected);
}

#[test]
fn blocks_of_llama_cpps_quantiser_expand_to_the_bits_that_gguf_py_gives() {
    let found = Weights::open(&fixture("gguf/blocks.gguf")).unwrap();
    let expected = Weights::open(&fixture("gguf/blocks.expected.safetensors")).unwrap().pp("out");
    assert_eq!(expected.names().len(), 12);
    assert_same(&found, &expected.rename(|_| None));
}

/// The same numbers as a llama.cpp pair and in the original LLaVA layout, stored in f16 by both.
#[test]
fn a_llama_cpp_pair_has_the_names_and_numbers_of_the_checkpoint_it_was_made_from() {
    let original = fixture("models/llava-original");
    let language = Weights::open(&original).unwrap();
    let tower = Weights::open(&original.join("vision_tower")).unwrap();

    let found = Weights::open(&fixture("models/llava-gguf/model.gguf")).unwrap();
    for name in found.names() {
        assert_eq!(found.shape(&name), language.shape(&name), "{name}");
        assert_eq!(bits(&found, &name), bits(&language, &name), "{name}");
    }
    let left = ["0.bias", "0.weight", "2.bias", "2.weight"].map(|name| format!("model.mm_projector.{name}"));
    assert_eq!(language.unused(), left);

    // One has its feed-forward layers exchanged, as the published files have; the other says which block is read.
    for (file, feature_layers) in [("mmproj.gguf", vec![]), ("mmproj-feature-layer.gguf", vec![2])] {
        let file = GgufFile::open(&fixture("models/llava-gguf").join(file)).unwrap();
        let config = file.image_encoder().unwrap();
        assert_eq!((config.image, config.patch, config.width, config.feed_forward), (28, 7, 32, 48));
        assert_eq!((config.layers, config.heads, config.activation), (2, 4, Activation::QuickGelu));
        assert_eq!(config.feature_layers, feature_layers);
        let found = file.weights().unwrap();
        for name in found.pp("vision_tower").names() {
            assert_eq!(bits(&found.pp("vision_tower"), &name), bits(&tower, &name), "{name}");
        }
        for (ours, theirs) in [("linear_1", "0"), ("linear_2", "2")] {
            for kind in ["weight", "bias"] {
                let found = bits(&found.pp("multi_modal_projector").pp(ours), kind);
                assert_eq!(found, bits(&language.pp("model.mm_projector").pp(theirs), kind), "{ours}.{kind}");
            }
        }
        assert!(found.unused().is_empty(), "{:?}", found.unused());
        // 5 tensors before the blocks, 16 in each, 4 of the projector.
        assert_eq!(found.names().len(), 5 + 2 * 16 + 4);
    }
}

#[test]
fn a_k_quant_llama_and_its_tokenizer_are_read() {
    let file = GgufFile::open(&fixture("gguf/llama-q4km.gguf")).unwrap();
    let config = file.language_model().unwrap();
    assert_eq!((config.vocabulary, config.width, config.heads, config.key_value_heads), (384, 256, 8, 4));
    assert!(!config.tied_embeddings);
    // The same vocabulary as a tokenizer.json: both must give the same ids, the leading `<s>` included.
    let gguf = file.tokenizer().unwrap();
    assert!(gguf.add_beginning && gguf.chat_template.is_some());
    let json = tokenizers::Tokenizer::from_file(fixture("models/llama-untied/tokenizer.json")).unwrap();
    for text in ["What colour is the small square?", " <image>\n1234 é</s>", "<|im_start|>user\n\n  🦀 don't"]
    {
        let (found, expected) =
            (gguf.tokenizer.encode(text, true).unwrap(), json.encode(text, true).unwrap());
        assert_eq!(found.get_ids(), expected.get_ids(), "{text:?}");
    }
}

#[test]
fn metadata_of_every_type_is_read() {
    let file = GgufFile::open(&fixture("gguf/random-blocks.gguf")).unwrap();
    let metadata = file.metadata();
    let unsigned = ["test.uint8", "test.uint16", "test.uint32", "test.uint64"];
    let maxima = [u8::MAX.into(), u16::MAX.into(), u32::MAX.into(), u64::MAX];
    assert_eq!(unsigned.map(|key| metadata.require::<u64>(key).unwrap()), maxima);
    let signed = ["test.int8", "test.int16", "test.int32", "test.int64"];
    let minima = [i8::MIN.into(), i16::MIN.into(), i32::MIN.into(), i64::MIN];
    assert_eq!(signed.map(|key| metadata.require::<i64>(key).unwrap()), minima);
    assert_eq!(metadata.require::<f64>("test.float32").unwrap(), f64::from(0.1f32));
    assert_eq!(metadata.require::<f64>("test.float64").unwrap(), 0.1);
    assert!(metadata.require::<bool>("test.bool").unwrap());
    assert_eq!(metadata.require::<&str>("test.string").unwrap(), "vu à l’œil 👁");
    assert_eq!(metadata.require::<Vec<i64>>("test.integers").unwrap(), [3, -1, 4]);
    assert_eq!(metadata.require::<Vec<f64>>("test.floats").unwrap(), [0.5, -1.5]);
    assert_eq!(metadata.require::<Vec<&str>>("test.strings").unwrap(), ["", "a", "é"]);
    assert_eq!(metadata.get::<u64>("test.absent").unwrap(), None);
    let error = metadata.require::<u64>("test.int8").unwrap_err().to_string();
    assert!(
        error.ends_with("metadata `test.int8`: is the number -128, expected a whole number, not negative")
    );
}

/// Each pre-tokeniser, and SentencePiece with its merges rebuilt from scores, against the libraries that trained them.
#[test]
fn tokens_of_small_vocabularies_equal_those_of_tokenizers_and_sentencepiece() {
    #[derive(serde::Deserialize)]
    struct Expected {
        lines: Vec<String>,
        ids: std::collections::BTreeMap<String, Vec<Vec<u32>>>,
    }
    let text = std::fs::read_to_string(fixture("gguf-tokenizers/expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.ids.keys().collect::<Vec<_>>(), ["gpt-2", "llama", "llama-bpe", "qwen2"]);
    for (name, ids) in expected.ids {
        let path = fixture("gguf-tokenizers").join(format!("{name}.gguf"));
        let gguf = GgufFile::open(&path).unwrap().tokenizer().unwrap();
        assert_eq!(ids.len(), expected.lines.len());
        for (line, expected) in expected.lines.iter().zip(&ids) {
            let found = gguf.tokenizer.encode(line.as_str(), true).unwrap();
            assert_eq!(found.get_ids(), expected, "{name}: {line:?}");
            // Qwen2 composes characters first, so that its text may come back composed.
            if name != "qwen2" {
                assert_eq!(gguf.tokenizer.decode(expected, true).unwrap(), *line, "{name}");
            }
        }
    }
}

/// What the original LLaVA is published with: `tokenizer.model` alone, against transformers' LlamaTokenizer on
/// `sentencepiece` itself.
#[test]
fn a_sentencepiece_model_gives_the_tokens_of_transformers() {
    #[derive(serde::Deserialize)]
    struct Expected {
        lines: Vec<String>,
        ids: std::collections::BTreeMap<String, Vec<Vec<u32>>>,
    }
    let stored = fixture("sentencepiece");
    let text = std::fs::read_to_string(stored.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    assert!(expected.lines.len() > 30);
    let config = std::fs::read_to_string(stored.join("tokenizer_config.json")).unwrap();
    for (mode, legacy) in [("new", "false"), ("legacy", "true")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(stored.join("tokenizer.model"), folder.path().join("tokenizer.model")).unwrap();
        let changed = config.replace("\"legacy\": false", &format!("\"legacy\": {legacy}"));
        assert_eq!(changed == config, mode == "new");
        std::fs::write(folder.path().join("tokenizer_config.json"), changed).unwrap();
        let tokenizer = foveate_model::weights::sentence_piece(folder.path()).unwrap();
        for (line, expected) in expected.lines.iter().zip(&expected.ids[mode]) {
            let found = tokenizer.encode(line.as_str(), true).unwrap();
            assert_eq!(found.get_ids(), expected, "{mode}: {line:?}");
        }
        assert_eq!(tokenizer.token_to_id("[PAD]"), Some(384));
    }
    // The older way to say it, and no configuration at all: legacy, beginning token first.
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(stored.join("tokenizer.model"), folder.path().join("tokenizer.model")).unwrap();
    std::fs::write(folder.path().join("added_tokens.json"), r#"{"[PAD]": 384, "<im_patch>": 386}"#).unwrap();
    let tokenizer = foveate_model::weights::sentence_piece(folder.path()).unwrap();
    for (line, expected) in expected.lines.iter().zip(&expected.ids["legacy"]) {
        assert_eq!(tokenizer.encode(line.as_str(), true).unwrap().get_ids(), expected, "{line:?}");
    }
    let ids = tokenizer.encode("<im_patch>[PAD]", false).unwrap();
    assert_eq!(ids.get_ids(), [386, 384]);
    let refused = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        let message = foveate_model::weights::sentence_piece(folder.path()).unwrap_err().to_string();
        std::fs::remove_file(folder.path().join(name)).unwrap();
        message
    };
    let message = refused("added_tokens.json", r#"{"twice": 7}"#);
    assert!(
        message.contains("added_tokens.json: added token 7: is `twice`, but the vocabulary has `<0x04>`"),
        "{message}"
    );
    let message = refused("tokenizer_config.json", r#"{"tokenizer_class": "T5Tokenizer"}"#);
    assert!(
        message.contains("tokenizer_config.json: tokenizer_class: `T5Tokenizer` is not supported"),
        "{message}"
    );
    let message = refused("tokenizer_config.json", "[");
    assert!(message.contains("tokenizer_config.json: JSON: "), "{message}");
}

/// 1,000 lines on which `tokenizers` with the published pipeline and llama.cpp agree.
#[test]
fn smollm2_tokens_equal_those_of_tokenizers_and_llama_cpp() {
    let Some(path) = published("smollm2_tokens_equal_those_of_tokenizers_and_llama_cpp", SMOLLM2) else {
        return;
    };
    let gguf = GgufFile::open(&path).unwrap().tokenizer().unwrap();
    let text = std::fs::read_to_string(fixture("smollm2-tokens.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lines: Vec<(String, Vec<u32>)> = serde_json::from_value(fixture["lines"].clone()).unwrap();
    assert_eq!(lines.len(), 1000);
    for (line, expected) in &lines {
        let found = gguf.tokenizer.encode(line.as_str(), true).unwrap();
        assert_eq!(found.get_ids(), expected, "{line:?}");
        assert_eq!(gguf.tokenizer.decode(expected, false).unwrap(), *line);
    }
}

#[test]
fn smollm2_has_the_published_configuration_and_nothing_else() {
    let Some(path) = published("smollm2_has_the_published_configuration_and_nothing_else", SMOLLM2) else {
        return;
    };
    let file = GgufFile::open(&path).unwrap();
    let config = file.language_model().unwrap();
    assert_eq!(config.architecture, Architecture::Llama);
    assert_eq!((config.vocabulary, config.width, config.feed_forward), (49152, 576, 1536));
    assert_eq!((config.layers, config.heads, config.key_value_heads, config.head_width), (30, 9, 3, 64));
    assert_eq!((config.context, config.rope_base, config.rope_scaling), (8192, 100_000.0, RopeScaling::None));
    assert_eq!(config.norm_epsilon, f64::from(1e-5f32));
    assert!(config.tied_embeddings && !config.attention_bias && config.sliding_window.is_none());

    let tokenizer = file.tokenizer().unwrap();
    assert_eq!((tokenizer.beginning, tokenizer.end, tokenizer.padding), (Some(1), Some(2), Some(2)));
    assert!(!tokenizer.add_beginning);
    assert!(tokenizer.chat_template.unwrap().starts_with("{% for message in messages %}"));

    let weights = Weights::open(&path).unwrap();
    weights.get((49152, 576), "model.embed_tokens.weight").unwrap();
    weights.get(576, "model.norm.weight").unwrap();
    for layer in 0..30 {
        let layer = weights.pp("model.layers").pp(layer);
        layer.get(576, "input_layernorm.weight").unwrap();
        layer.get(576, "post_attention_layernorm.weight").unwrap();
        let attention = layer.pp("self_attn");
        for (name, rows) in [("q_proj", 576), ("k_proj", 192), ("v_proj", 192), ("o_proj", 576)] {
            attention.pp(name).get((rows, 576), "weight").unwrap();
        }
        let feed_forward = layer.pp("mlp");
        for (name, shape) in
            [("gate_proj", (1536, 576)), ("up_proj", (1536, 576)), ("down_proj", (576, 1536))]
        {
            feed_forward.pp(name).get(shape, "weight").unwrap();
        }
    }
    assert!(weights.unused().is_empty());
}

/// Numbers from gguf-py, with llama.cpp's interleaving of rotary rows undone in numpy.
#[test]
fn smollm2_weights_equal_those_of_gguf_py() {
    let Some(path) = published("smollm2_weights_equal_those_of_gguf_py", SMOLLM2) else { return };
    let weights = Weights::open(&path).unwrap();
    let attention = weights.pp("model.layers.7.self_attn");
    let rows = |name, shape: (usize, usize), rows: [usize; 3]| {
        let tensor = attention.get(shape, name).unwrap().to_vec2::<f32>().unwrap();
        rows.map(|row| [tensor[row][0], tensor[row][1], tensor[row][2]])
    };
    let expected = [
        [-0.203_796_39, 0.043_548_584, 0.389_831_54],
        [-0.115_783_69, -0.115_783_69, 0.022_277_832],
        [0.058_044_434, -0.114_990_234, 0.115_722_656],
    ];
    assert_eq!(rows("q_proj.weight", (576, 576), [1, 33, 100]), expected);
    let expected = [
        [-0.027_984_62, -0.193_878_17, 0.013_488_769_5],
        [-0.004_211_426, 0.144_653_32, -0.004_211_426],
        [-0.018_676_758, -0.018_676_758, 0.105_773_926],
    ];
    assert_eq!(rows("k_proj.weight", (192, 576), [1, 33, 100]), expected);
}

/// Names and shapes of transformers' `Dinov2Model`, numbers from the `onnx` package.
#[test]
fn dinov2_small_is_complete_under_hugging_face_names() {
    let Some(path) = published("dinov2_small_is_complete_under_hugging_face_names", DINOV2) else { return };
    let weights = Weights::open(&path).unwrap().pp("backbone");
    let embeddings = weights.pp("embeddings");
    embeddings.get((1, 1, 384), "cls_token").unwrap();
    embeddings.get((384, 3, 14, 14), "patch_embeddings.projection.weight").unwrap();
    embeddings.get(384, "patch_embeddings.projection.bias").unwrap();
    let positions = embeddings.get((1, 1 + 37 * 37, 384), "position_embeddings").unwrap();
    for layer in 0..12 {
        let layer = weights.pp("encoder.layer").pp(layer);
        let linears = [
            ("attention.attention.query", 384, 384),
            ("attention.attention.key", 384, 384),
            ("attention.attention.value", 384, 384),
            ("attention.output.dense", 384, 384),
            ("mlp.fc1", 1536, 384),
            ("mlp.fc2", 384, 1536),
        ];
        for (name, outputs, inputs) in linears {
            layer.pp(name).get((outputs, inputs), "weight").unwrap();
            layer.pp(name).get(outputs, "bias").unwrap();
        }
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            layer.get(384, name).unwrap();
        }
        layer.get(384, "layer_scale1.lambda1").unwrap();
        layer.get(384, "layer_scale2.lambda1").unwrap();
    }
    weights.get(384, "layernorm.weight").unwrap();
    weights.get(384, "layernorm.bias").unwrap();
    assert!(weights.unused().is_empty());

    let positions = positions.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(positions[0][..2], [-0.006_006_296_3, 0.000_142_172_34]);
    assert_eq!(positions[1369][..2], [0.008_983_412, -0.016_312_897]);
    let fc1 = weights.pp("encoder.layer.11.mlp.fc1").get((1536, 384), "weight").unwrap();
    assert_eq!(fc1.to_vec2::<f32>().unwrap()[5][..3], [-0.025_585_322, 0.006_435_387, 0.010_592_924]);
    let query = weights.pp("encoder.layer.0.attention.attention.query").get((384, 384), "weight").unwrap();
    assert_eq!(query.to_vec2::<f32>().unwrap()[5][..3], [0.004_133_614, -0.004_104_607_3, -0.023_008_55]);
}
