//! `foveate inspect` on each kind of file.

use serde_json::Value;

use super::{fixture, json, number, refuses, succeeds, text};

fn inspect(path: &str) -> Value {
    json(&["inspect", &fixture(path), "--json"])
}

fn parameters(document: &Value) -> Vec<(String, f64)> {
    let parts = document["parts"].as_array().unwrap();
    parts
        .iter()
        .map(|part| (part["part"].as_str().unwrap().to_owned(), number(&part["parameters"])))
        .collect()
}

/// A Llama of `blocks` blocks, by hand: q and o, k and v, three of the feed-forward layer, two norms; the embedding, and
/// the head where there is one of its own; the last norm.
fn llama(width: f64, keys: f64, hidden: f64, blocks: f64, tables: f64) -> f64 {
    let block = 2.0 * width * width + 2.0 * width * keys + 3.0 * width * hidden + 2.0 * width;
    tables * 384.0 * width + blocks * block + width
}

#[test]
fn a_vision_language_model_has_parts_a_ladder_and_a_cost_at_each_rung() {
    // Width 48, keys of width 24, feed-forward 80, 2 blocks, its own head.
    let language = llama(48.0, 24.0, 80.0, 2.0, 2.0);
    let projector = 32.0 * 48.0 + 48.0 + 48.0 * 48.0 + 48.0;
    for folder in
        ["llava-1.5", "llava-1.5-v5", "llava-1.5-v5-flat", "llava-original", "llava-original-embedded"]
    {
        let document = inspect(&format!("models/{folder}"));
        assert_eq!(document["architecture"], "LLaVA-1.5 (CLIP, Llama)", "{folder}");
        assert_eq!(document["kind"], "vision-language-model");
        let parts = parameters(&document);
        let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["vision tower", "projector", "language model"], "{folder}");
        assert_eq!((parts[1].1, parts[2].1), (projector, language), "{folder}");
        assert_eq!(number(&document["parameters"]), parts.iter().map(|part| part.1).sum::<f64>());
        assert_eq!(document["image"]["ladder"], serde_json::json!([16, 4, 1]));
        assert_eq!(document["image"]["blocks_run"], 2);
        assert_eq!(document["dtypes"][0]["dtype"], "f16");
        let bytes = number(&document["dtypes"][0]["bytes"]);
        assert_eq!(bytes, 2.0 * number(&document["dtypes"][0]["parameters"]));

        let cost = document["cost"].as_array().unwrap();
        let tokens: Vec<f64> = cost.iter().map(|cost| number(&cost["visual_tokens"])).collect();
        assert_eq!(tokens, [16.0, 4.0, 1.0]);
        let flops: Vec<f64> = cost.iter().map(|cost| number(&cost["flops"])).collect();
        assert!(flops.is_sorted_by(|more, fewer| more > fewer), "{flops:?}");
        let stages: Vec<&str> = cost[0]["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["stage"].as_str().unwrap())
            .collect();
        assert_eq!(stages, ["tower", "project", "prefill", "decode"]);
    }
}

#[test]
fn tiles_are_counted() {
    let document = inspect("models/llava-next");
    assert_eq!(document["architecture"], "LLaVA-NeXT (CLIP, Mistral)");
    // The largest pinpoint is 56 x 56: 2 x 2 tiles of 4 x 4 patches and the overview, a newline after each of 8 rows.
    assert_eq!(document["image"]["tiles"], 5);
    assert_eq!(document["image"]["visual_tokens"], 16 + 8 * (8 + 1));
}

#[test]
fn language_models_are_counted_in_every_form() {
    let tied = inspect("models/llama-tied");
    assert_eq!(tied["kind"], "language-model");
    assert_eq!(tied["language_model"]["tied_embeddings"], true);
    assert_eq!(tied["dtypes"][0]["dtype"], "bf16");
    for (folder, family) in
        [("llama-untied", "Llama"), ("mistral", "Mistral"), ("qwen2", "Qwen2"), ("phi3", "Phi-3")]
    {
        let document = inspect(&format!("models/{folder}"));
        assert_eq!(document["architecture"], family);
        assert_eq!(parameters(&document), [("language model".to_owned(), number(&document["parameters"]))]);
        let language = &document["language_model"];
        let of = |field: &str| number(&language[field]);
        if family == "Llama" {
            let keys = of("key_value_heads") * of("head_width");
            assert_eq!(
                number(&document["parameters"]),
                llama(of("width"), keys, of("feed_forward"), of("blocks"), 2.0)
            );
        }
    }
    let gguf = inspect("gguf/llama-q4km.gguf");
    assert_eq!((&gguf["architecture"], number(&gguf["language_model"]["width"])), (&"Llama".into(), 256.0));
    let formats: Vec<&str> =
        gguf["dtypes"].as_array().unwrap().iter().map(|format| format["dtype"].as_str().unwrap()).collect();
    for format in ["q4_k", "q6_k", "q5_k", "q5_0", "q3_k", "q8_0", "f32"] {
        assert!(formats.contains(&format), "{formats:?}");
    }
    // 256 numbers in 144 bytes.
    let q4 = &gguf["dtypes"].as_array().unwrap().iter().find(|format| format["dtype"] == "q4_k").unwrap();
    assert_eq!(number(&q4["bytes"]) * 256.0, number(&q4["parameters"]) * 144.0);
}

#[test]
fn towers_are_told_apart() {
    for (folder, name, parts) in [
        ("models/clip", "CLIP", vec!["vision tower"]),
        ("models/clip-full", "CLIP", vec!["text tower", "vision tower"]),
        ("models/siglip", "SigLIP", vec!["text tower", "vision tower"]),
        ("models/dinov2", "DINOv2", vec!["vision tower"]),
        (
            "models/llava-gguf/mmproj.gguf",
            "CLIP and projector of LLaVA-1.5",
            vec!["vision tower", "projector"],
        ),
    ] {
        let document = inspect(folder);
        assert_eq!((&document["architecture"], &document["kind"]), (&name.into(), &"vision-tower".into()));
        let names: Vec<String> = parameters(&document).into_iter().map(|part| part.0).collect();
        assert_eq!(names, parts, "{folder}");
        assert!(number(&document["cost"][0]["flops"]) > 0.0);
    }
    assert_eq!(inspect("models/clip")["vision_tower"]["patches"], 36);
    let file = inspect("models/clip/model.safetensors");
    assert_eq!((&file["kind"], &file["cost"]), (&"tensors".into(), &serde_json::json!([])));
}

#[test]
fn people_read_the_same() {
    let card = succeeds(&["inspect", &fixture("models/llava-1.5")]);
    for part in [
        "LLaVA-1.5 (CLIP, Llama)",
        "language model: 2 blocks of width 48",
        "tokens: 16, 4, 1",
        "f16",
        "prefill",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    let card = succeeds(&["inspect", &fixture("models/dinov2"), "--text-tokens", "9"]);
    assert!(card.contains("36 patches and a class token") && !card.contains("question"), "{card}");
}

#[test]
fn errors_name_the_file_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(refuses(&["inspect", "no/such/model"]).contains("no/such/model"));
    assert!(refuses(&["inspect", text(folder.path())]).contains("no config.json"));
    std::fs::write(path("config.json"), r#"{"model_type": "bert"}"#).unwrap();
    std::fs::copy(fixture("models/clip/model.safetensors"), path("model.safetensors")).unwrap();
    let message = refuses(&["inspect", text(folder.path())]);
    assert!(
        message.contains("bert") && message.contains("config.json") && message.contains("siglip"),
        "{message}"
    );
    std::fs::write(path("config.json"), "{").unwrap();
    assert!(refuses(&["inspect", text(folder.path())]).contains("config.json"));
    std::fs::write(path("config.json"), r#"{"model_type": "llama", "num_attention_heads": 0}"#).unwrap();
    let message = refuses(&["inspect", text(folder.path())]);
    assert!(message.contains("config.json") && message.contains("num_attention_heads"), "{message}");
    for (name, bytes) in
        [("a.gguf", &b"GGML"[..]), ("a.onnx", b"\xff"), ("a.safetensors", &[255; 16]), ("a.bin", b"")]
    {
        std::fs::write(path(name), bytes).unwrap();
        let message = refuses(&["inspect", text(&path(name))]);
        assert!(message.contains(name), "{message}");
    }
}

/// The checkpoint's own compressor is a part with parameters, a ladder of its own and stages of its own.
#[test]
fn a_compressor_is_counted_where_a_checkpoint_carries_one() {
    for (layout, method, ladder, stages) in [
        (
            "elastic",
            "quecc",
            vec![36, 9, 4, 1],
            &["tower", "query", "compress", "project", "prefill", "decode"][..],
        ),
        ("quecc", "quecc", vec![4], &["tower", "query", "compress", "project", "prefill", "decode"]),
        ("token-packer", "token-packer", vec![9], &["tower", "compress", "project", "prefill", "decode"]),
    ] {
        let document = inspect(&format!("models/compressed-{layout}"));
        assert_eq!(document["architecture"], format!("LLaVA-1.5 (CLIP, {method}, Llama)"));
        assert_eq!(document["image"]["compressor"], method);
        assert_eq!(document["image"]["ladder"], serde_json::json!(ladder));
        assert!(parameters(&document).iter().any(|(part, count)| part == "compressor" && *count > 1000.0));
        assert!(parameters(&document).iter().all(|(part, _)| part != "other"));
        let cost = document["cost"].as_array().unwrap();
        assert_eq!(cost.len(), ladder.len());
        let names: Vec<&str> = cost[0]["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|stage| stage["stage"].as_str().unwrap())
            .collect();
        assert_eq!(names, stages, "{layout}");
    }
    let mqt = inspect("models/compressed-mqt");
    assert_eq!(mqt["image"]["ladder"].as_array().unwrap().len(), 256);
    assert_eq!(mqt["cost"].as_array().unwrap().len(), 5);
}

/// A pair of llama.cpp has the dimensions and the costs of the folder that it was made from.
#[test]
fn a_llama_cpp_pair_is_one_model() {
    let (language, projector) =
        (fixture("models/llava-gguf/model.gguf"), fixture("models/llava-gguf/mmproj.gguf"));
    let pair = json(&["inspect", &language, "--mmproj", &projector, "--json"]);
    let folder = inspect("models/llava-original");
    assert_eq!(pair["architecture"], folder["architecture"]);
    assert_eq!((&pair["language_model"], &pair["cost"]), (&folder["language_model"], &folder["cost"]));
    assert_eq!(pair["image"]["ladder"], folder["image"]["ladder"]);
    let folder_path = fixture("models/llava-original");
    let wrong = refuses(&["inspect", &folder_path, "--mmproj", &projector]);
    assert!(wrong.contains("--mmproj goes with a GGUF language model"), "{wrong}");
}
