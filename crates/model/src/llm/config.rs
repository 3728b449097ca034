//! What tells Llama, Mistral, Qwen2, Phi-3 and their descendants apart, read from a Hugging Face `config.json`.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::{LARGEST_SIZE, MOST_BLOCKS};
use crate::nn::{Activation, RotaryScaling};
use crate::{ModelError, Result};

/// The family that a configuration's defaults and tensor names follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Architecture {
    /// Llama and all that share its blocks: Vicuna, TinyLlama, SmolLM2.
    Llama,
    /// Mistral: Llama with a sliding window.
    Mistral,
    /// Qwen1.5 and Qwen2: Llama with biased q, k and v projections.
    Qwen2,
    /// Phi-3: Llama with fused projections.
    Phi3,
}

/// A decoder, described without regard to the family it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// The family: it decides whether projections are stored fused.
    pub architecture: Architecture,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Width inside the MLP.
    pub hidden: usize,
    /// Blocks.
    pub blocks: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub groups: usize,
    /// Width of one head; even.
    pub head_width: usize,
    /// The gate's activation.
    pub activation: Activation,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// How many of a head's channels turn with the position, from the first; even.
    pub rotary_width: usize,
    /// Base of the rotary frequencies.
    pub rotary_theta: f64,
    /// Their scaling.
    pub rotary_scaling: RotaryScaling,
    /// The longest sequence, in tokens.
    pub context: usize,
    /// For each block the number of last positions that a token sees, itself included; `None` for all.
    pub windows: Vec<Option<usize>>,
    /// Whether the output head is the embedding table.
    pub tied: bool,
    /// Whether the q, k and v projections have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the MLP's projections have a bias.
    pub mlp_bias: bool,
    /// The token that starts a text.
    pub start_token: Option<u32>,
    /// The tokens that end one.
    pub end_tokens: Vec<u32>,
}

/// `config.json` as stored. Published LLaVA files leave most of `text_config` out, so absence means the default of the
/// family in transformers, while `null` can mean something else (no sliding window).
#[derive(Deserialize)]
struct Stored {
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    num_key_value_heads: Option<Option<usize>>,
    head_dim: Option<usize>,
    hidden_act: Option<Activation>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<usize>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<LayerType>>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
enum LayerType {
    #[serde(rename = "full_attention")]
    Full,
    #[serde(rename = "sliding_attention")]
    Sliding,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What transformers assumes for fields that a configuration leaves out.
struct Defaults {
    vocabulary: usize,
    width: usize,
    hidden: usize,
    groups: Option<usize>,
    context: usize,
    norm_eps: f64,
    window: Option<usize>,
}

impl Architecture {
    fn defaults(self) -> Defaults {
        let llama = Defaults {
            vocabulary: 32_000,
            width: 4096,
            hidden: 11_008,
            groups: None,
            context: 2048,
            norm_eps: 1e-6,
            window: None,
        };
        match self {
            Self::Llama => llama,
            Self::Mistral => {
                Defaults { hidden: 14_336, groups: Some(8), context: 131_072, window: Some(4096), ..llama }
            }
            Self::Qwen2 => Defaults {
                vocabulary: 151_936,
                hidden: 22_016,
                groups: Some(32),
                context: 32_768,
                window: Some(4096),
                ..llama
            },
            Self::Phi3 => Defaults {
                vocabulary: 32_064,
                width: 3072,
                hidden: 8192,
                context: 4096,
                norm_eps: 1e-5,
                ..llama
            },
        }
    }
}

impl DecoderConfig {
    /// Reads a `config.json`, or the `text_config` inside one.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the field and what is allowed; [`ModelError::Json`] for other text.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| ModelError::json("config.json", &error))?;
        let value = value.get("text_config").unwrap_or(&value);
        let kind = value.get("model_type").cloned().unwrap_or(Value::Null);
        let architecture = serde_json::from_value(kind.clone())
            .map_err(|_| ModelError::config("model_type", kind, "must be llama, mistral, qwen2 or phi3"))?;
        Self::from_value(value, architecture)
    }

    pub(crate) fn from_value(value: &Value, architecture: Architecture) -> Result<Self> {
        let stored: Stored =
            serde_json::from_value(value.clone()).map_err(|error| ModelError::json("config.json", &error))?;
        let defaults = architecture.defaults();
        let heads = stored.num_attention_heads.unwrap_or(32);
        let width = stored.hidden_size.unwrap_or(defaults.width);
        let blocks = stored.num_hidden_layers.unwrap_or(32);
        // Before anything is made for each block: the number may be hostile.
        ModelError::check_size("num_hidden_layers", blocks, MOST_BLOCKS)?;
        let groups = match stored.num_key_value_heads {
            Some(groups) => groups.unwrap_or(heads),
            None => defaults.groups.unwrap_or(heads),
        };
        let head_width = stored.head_dim.unwrap_or(width / heads.max(1));
        let rotary = Rotation::read(&stored)?;
        let biased = stored.attention_bias.unwrap_or(false);
        let config = Self {
            architecture,
            vocabulary: stored.vocab_size.unwrap_or(defaults.vocabulary),
            width,
            hidden: stored.intermediate_size.unwrap_or(defaults.hidden),
            blocks,
            heads,
            groups,
            head_width,
            activation: stored.hidden_act.unwrap_or(Activation::Silu),
            norm_eps: stored.rms_norm_eps.unwrap_or(defaults.norm_eps),
            rotary_width: (head_width as f64 * stored.partial_rotary_factor.unwrap_or(1.0)) as usize,
            rotary_theta: rotary.theta,
            rotary_scaling: rotary.scaling,
            context: stored.max_position_embeddings.unwrap_or(defaults.context),
            windows: windows(&stored, architecture, blocks, defaults.window)?,
            tied: stored.tie_word_embeddings.unwrap_or(false),
            qkv_bias: biased || architecture == Architecture::Qwen2,
            output_bias: biased,
            mlp_bias: stored.mlp_bias.unwrap_or(false),
            start_token: stored.bos_token_id,
            end_tokens: match stored.eos_token_id {
                Some(OneOrMany::One(token)) => vec![token],
                Some(OneOrMany::Many(tokens)) => tokens,
                None => Vec::new(),
            },
        };
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// [`ModelError::Config`] naming the first field that no decoder can be built with.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocabulary),
            ("hidden_size", self.width),
            ("intermediate_size", self.hidden),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.groups),
            ("head_dim", self.head_width),
            ("max_position_embeddings", self.context),
        ];
        for (field, value) in sizes {
            ModelError::check_size(field, value, LARGEST_SIZE)?;
        }
        ModelError::check_size("num_hidden_layers", self.blocks, MOST_BLOCKS)?;
        if !self.heads.is_multiple_of(self.groups) {
            let expected = format!("must divide num_attention_heads = {}", self.heads);
            return Err(ModelError::config("num_key_value_heads", self.groups, expected));
        }
        if !self.head_width.is_multiple_of(2) {
            return Err(ModelError::config("head_dim", self.head_width, "must be even"));
        }
        if self.rotary_width == 0
            || !self.rotary_width.is_multiple_of(2)
            || self.rotary_width > self.head_width
        {
            let expected =
                format!("must leave an even number of at most head_dim = {} channels", self.head_width);
            return Err(ModelError::config("partial_rotary_factor", self.rotary_width, expected));
        }
        if let RotaryScaling::Divisors(divisors) = &self.rotary_scaling
            && !(divisors.len() == self.rotary_width / 2 && divisors.iter().all(|divisor| *divisor > 0.0))
        {
            let expected = format!("must be {} positive numbers", self.rotary_width / 2);
            return Err(ModelError::config("rope_freqs", format!("{divisors:?}"), expected));
        }
        if self.windows.len() != self.blocks {
            let expected = format!("must have one entry for each of {} blocks", self.blocks);
            return Err(ModelError::config("layer_types", self.windows.len(), expected));
        }
        if self.windows.contains(&Some(0)) {
            return Err(ModelError::config("sliding_window", 0, "must be at least 1"));
        }
        if !(self.rotary_theta.is_finite() && self.rotary_theta > 0.0) {
            return Err(ModelError::config("rope_theta", self.rotary_theta, "must be a positive number"));
        }
        Ok(())
    }

    /// The name and shape of every tensor, as a published checkpoint stores them. A tied head is not listed twice.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (queries, keys) = (self.heads * self.head_width, self.groups * self.head_width);
        let mut list = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, self.width])];
        for block in 0..self.blocks {
            let mut linear = |name: &str, output: usize, input: usize, bias: bool| {
                list.push((format!("model.layers.{block}.{name}.weight"), vec![output, input]));
                if bias {
                    list.push((format!("model.layers.{block}.{name}.bias"), vec![output]));
                }
            };
            if self.architecture == Architecture::Phi3 {
                linear("self_attn.qkv_proj", queries + 2 * keys, self.width, self.qkv_bias);
                linear("mlp.gate_up_proj", 2 * self.hidden, self.width, self.mlp_bias);
            } else {
                linear("self_attn.q_proj", queries, self.width, self.qkv_bias);
                linear("self_attn.k_proj", keys, self.width, self.qkv_bias);
                linear("self_attn.v_proj", keys, self.width, self.qkv_bias);
                linear("mlp.gate_proj", self.hidden, self.width, self.mlp_bias);
                linear("mlp.up_proj", self.hidden, self.width, self.mlp_bias);
            }
            linear("self_attn.o_proj", self.width, queries, self.output_bias);
            linear("mlp.down_proj", self.width, self.hidden, self.mlp_bias);
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                list.push((format!("model.layers.{block}.{norm}.weight"), vec![self.width]));
            }
        }
        list.push(("model.norm.weight".to_owned(), vec![self.width]));
        if !self.tied {
            list.push(("lm_head.weight".to_owned(), vec![self.vocabulary, self.width]));
        }
        list
    }

    /// All parameters, a tied embedding counted once: the N of the scaling law.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

struct Rotation {
    theta: f64,
    scaling: RotaryScaling,
}

impl Rotation {
    /// Transformers 5 puts base and scaling together into `rope_parameters`; before, `rope_scaling` named its kind
    /// `type`, then `rope_type`.
    fn read(stored: &Stored) -> Result<Self> {
        let object = stored.rope_parameters.as_ref().or(stored.rope_scaling.as_ref());
        let number = |name: &str| object.and_then(|object| object.get(name)).and_then(Value::as_f64);
        let theta = stored.rope_theta.or_else(|| number("rope_theta")).unwrap_or(10_000.0);
        let kind = object.and_then(|object| object.get("rope_type").or_else(|| object.get("type")));
        let field = |field: &'static str, name: &str| match number(name) {
            Some(value) if value > 0.0 => Ok(value),
            other => {
                let value = other.map_or_else(|| "missing".to_owned(), |value| value.to_string());
                Err(ModelError::config(field, value, "must be a positive number"))
            }
        };
        let factor = || field("rope_scaling.factor", "factor");
        let scaling = match kind.and_then(Value::as_str) {
            None | Some("default") => RotaryScaling::None,
            Some("linear") => RotaryScaling::Linear { factor: factor()? },
            Some("llama3") => RotaryScaling::Llama3 {
                factor: factor()?,
                low: field("rope_scaling.low_freq_factor", "low_freq_factor")?,
                high: field("rope_scaling.high_freq_factor", "high_freq_factor")?,
                original: field(
                    "rope_scaling.original_max_position_embeddings",
                    "original_max_position_embeddings",
                )?,
            },
            Some(other) => {
                return Err(ModelError::config(
                    "rope_scaling.rope_type",
                    other,
                    "must be default, linear or llama3",
                ));
            }
        };
        if let RotaryScaling::Llama3 { low, high, .. } = scaling
            && high <= low
        {
            let expected = format!("must be above low_freq_factor = {low}");
            return Err(ModelError::config("rope_scaling.high_freq_factor", high, expected));
        }
        Ok(Self { theta, scaling })
    }
}

/// The window of each block. Qwen2 states a window that is off unless `use_sliding_window`, and then holds from block
/// `max_window_layers` on.
fn windows(
    stored: &Stored,
    architecture: Architecture,
    blocks: usize,
    default: Option<usize>,
) -> Result<Vec<Option<usize>>> {
    let mut window = stored.sliding_window.unwrap_or(default);
    let mut first = 0;
    match architecture {
        Architecture::Llama => window = None,
        Architecture::Qwen2 => {
            window = window.filter(|_| stored.use_sliding_window.unwrap_or(false));
            first = stored.max_window_layers.unwrap_or(28);
        }
        Architecture::Mistral | Architecture::Phi3 => {}
    }
    match &stored.layer_types {
        Some(types) if architecture == Architecture::Qwen2 => {
            if types.len() != blocks {
                let expected = format!("must have num_hidden_layers = {blocks} entries");
                return Err(ModelError::config("layer_types", format!("{} entries", types.len()), expected));
            }
            Ok(types.iter().map(|kind| window.filter(|_| *kind == LayerType::Sliding)).collect())
        }
        _ => Ok((0..blocks).map(|block| window.filter(|_| block >= first)).collect()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parameters_of_published_models() {
        let smollm2 = r#"{"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
            "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": true}"#;
        assert_eq!(DecoderConfig::from_json(smollm2).unwrap().parameters(), 134_515_008);
        // Nothing but the defaults: Vicuna-7B, Mistral-7B.
        let parameters = |kind: &str| DecoderConfig::from_json(kind).unwrap().parameters();
        assert_eq!(parameters(r#"{"model_type": "llama"}"#), 6_738_415_616);
        assert_eq!(parameters(r#"{"model_type": "mistral"}"#), 7_241_732_096);
        assert_eq!(parameters(r#"{"model_type": "phi3"}"#), 3_821_079_552);
        let qwen = r#"{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
            "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": true}"#;
        assert_eq!(parameters(qwen), 494_032_768);
    }

    #[test]
    fn null_window_differs_from_no_window() {
        let windows = |json: &str| DecoderConfig::from_json(json).unwrap().windows;
        assert_eq!(windows(r#"{"model_type": "mistral", "num_hidden_layers": 1}"#), [Some(4096)]);
        let json = r#"{"model_type": "mistral", "num_hidden_layers": 1, "sliding_window": null}"#;
        assert_eq!(windows(json), [None]);
        let json = r#"{"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 8}"#;
        assert_eq!(windows(json), [None; 3]);
        let json = r#"{"model_type": "qwen2", "num_hidden_layers": 3, "sliding_window": 8, "use_sliding_window": true,
            "max_window_layers": 2}"#;
        assert_eq!(windows(json), [None, None, Some(8)]);
    }

    #[test]
    fn both_spellings_of_rope_scaling() {
        let old =
            r#"{"model_type": "llama", "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}"#;
        let new = r#"{"model_type": "llama", "rope_parameters":
            {"rope_theta": 5e5, "rope_type": "linear", "factor": 2}}"#;
        let old = DecoderConfig::from_json(old).unwrap();
        assert_eq!(old, DecoderConfig::from_json(new).unwrap());
        assert_eq!((old.rotary_theta, old.rotary_scaling), (5e5, RotaryScaling::Linear { factor: 2.0 }));
    }

    #[test]
    fn errors_name_field_value_and_what_is_allowed() {
        for (json, parts) in [
            (r#"{"model_type": "gpt2"}"#, ["model_type", "gpt2", "mistral"]),
            (r#"{"model_type": "llama", "num_key_value_heads": 5}"#, ["num_key_value_heads", "5", "32"]),
            (r#"{"model_type": "llama", "head_dim": 7}"#, ["head_dim", "7", "even"]),
            (
                r#"{"model_type": "phi3", "rope_scaling": {"type": "longrope"}}"#,
                ["rope_type", "longrope", "llama3"],
            ),
            (
                r#"{"model_type": "llama", "rope_scaling": {"type": "linear"}}"#,
                ["factor", "missing", "positive"],
            ),
            (r#"{"model_type": "llama", "hidden_act": "mish"}"#, ["mish", "silu", "gelu"]),
            (
                r#"{"model_type": "mistral", "num_hidden_layers": 18446744073709551615}"#,
                ["num_hidden_layers", "18446744073709551615", "4096"],
            ),
            (r#"{"model_type": "llama", "vocab_size": 0}"#, ["vocab_size", "0", "1..="]),
            (r#"{"model_type": "mistral", "sliding_window": 0}"#, ["sliding_window", "0", "at least 1"]),
        ] {
            let message = DecoderConfig::from_json(json).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{json}: {message}");
        }
    }
}
