//! Configurations with any value in any field: an error, or a configuration that can be built, never a panic and never
//! memory in proportion to a stated number.

use foveate_model::llm::DecoderConfig;
use foveate_model::vision::VisionConfig;
use foveate_model::vlm::{Vlm, VlmConfig, published_names};
use foveate_model::weights::Weights;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{config, folder};

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..70).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,6}".prop_map(Value::from),
        prop::collection::vec(any::<i64>(), 0..3).prop_map(Value::from),
        Just(json!({"rope_type": "llama3", "factor": 0})),
        Just(json!({"type": "linear", "factor": -1.5})),
    ]
}

/// Every path to a value in a JSON object, nested objects included.
fn paths(value: &Value, prefix: &str) -> Vec<String> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .flat_map(|(name, value)| {
            let path = format!("{prefix}/{name}");
            let mut below = paths(value, &path);
            below.push(path);
            below
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_field_may_hold_anything(
        name in prop::sample::select(vec![
            "llama3-rope", "mistral", "qwen2", "phi3", "clip-full", "siglip", "dinov2", "llava-1.5", "llava-1.5-v5",
            "llava-next", "llava-original",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 1..3),
    ) {
        let mut json: Value = serde_json::from_str(&config(name)).unwrap();
        for (place, value) in changes {
            let paths = paths(&json, "");
            if !paths.is_empty() {
                *json.pointer_mut(&paths[place.index(paths.len())]).unwrap() = value;
            }
        }
        let text = json.to_string();
        if let Ok(config) = DecoderConfig::from_json(&text) {
            prop_assert!(config.validate().is_ok());
            prop_assert_eq!(config.windows.len(), config.blocks);
        }
        if let Ok(config) = VisionConfig::from_json(&text) {
            prop_assert!(config.validate().is_ok());
            prop_assert!(config.grid().patches() >= 1);
        }
        if let Ok(config) = VlmConfig::from_json(&text) {
            prop_assert!(config.text.validate().is_ok() && !config.feature_states.is_empty());
        }
    }
}

/// What the layouts say of a compressor.
const COMPRESSOR_FIELDS: [(&str, &str); 14] = [
    ("compressed-elastic", "/compressor"),
    ("compressed-elastic", "/compressor/method"),
    ("compressed-elastic", "/compressor/width"),
    ("compressed-elastic", "/compressor/text_width"),
    ("compressed-elastic", "/compressor/heads"),
    ("compressed-elastic", "/compressor/filters"),
    ("compressed-elastic", "/compressor/filters/elastic"),
    ("compressed-elastic", "/compressor/query_state"),
    ("compressed-elastic", "/compressor/states"),
    ("compressed-quecc", "/mm_vision_token_compression_kernel_size"),
    ("compressed-quecc", "/mm_vision_output_token_count"),
    ("compressed-quecc", "/mm_vision_token_compression_type"),
    ("compressed-token-packer", "/scale_factor"),
    ("compressed-mqt", "/query_abstractor_type"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Down to the weights: a model whose ladder offers something, or an error.
    #[test]
    fn any_field_of_a_compressor_may_hold_anything(
        (name, field) in prop::sample::select(COMPRESSOR_FIELDS.to_vec()),
        value in any_value(),
    ) {
        let mut json: Value = serde_json::from_str(&config(name)).unwrap();
        *json.pointer_mut(field).unwrap() = value;
        let Ok(mut config) = VlmConfig::from_json(&json.to_string()) else { return Ok(()) };
        if config.vision.is_none() {
            let tower = std::fs::read_to_string(folder(name).join("vision_tower/config.json")).unwrap();
            config.vision = Some(VisionConfig::from_json(&tower).unwrap());
        }
        let weights = published_names(Weights::open(&folder(name)).unwrap());
        if let Ok(model) = Vlm::load(config, &weights) {
            prop_assert!(!model.ladder().values().is_empty());
        }
    }
}
