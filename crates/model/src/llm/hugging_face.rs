//! A decoder's configuration as a Hugging Face `config.json`, whatever file it was read from.

use serde_json::{Value, json};

use super::{Architecture, DecoderConfig};
use crate::nn::RotaryScaling;
use crate::{ModelError, Result};

impl DecoderConfig {
    /// The fields from which [`from_json`](Self::from_json) reads this configuration again.
    ///
    /// # Errors
    /// [`ModelError::Config`] for what these fields cannot say: frequencies divided one by one, blocks with windows of
    /// their own, biases that the family does not have.
    pub fn to_json(&self) -> Result<Value> {
        let kind = match self.architecture {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Qwen2 => "qwen2",
            Architecture::Phi3 => "phi3",
        };
        let window = self.windows.first().copied().flatten();
        let mut json = json!({
            "model_type": kind,
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.head_width,
            "hidden_act": self.activation,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rotary_theta,
            "max_position_embeddings": self.context,
            "sliding_window": window,
            "tie_word_embeddings": self.tied,
            "attention_bias": self.output_bias,
            "mlp_bias": self.mlp_bias,
            "eos_token_id": self.end_tokens,
        });
        if let Some(start) = self.start_token {
            json["bos_token_id"] = start.into();
        }
        if self.rotary_width != self.head_width {
            json["partial_rotary_factor"] = (self.rotary_width as f64 / self.head_width as f64).into();
        }
        if self.architecture == Architecture::Qwen2 && window.is_some() {
            json["use_sliding_window"] = true.into();
            json["max_window_layers"] = 0.into();
        }
        match self.rotary_scaling {
            RotaryScaling::None | RotaryScaling::Divisors(_) => {}
            RotaryScaling::Linear { factor } => {
                json["rope_scaling"] = json!({"rope_type": "linear", "factor": factor});
            }
            RotaryScaling::Llama3 { factor, low, high, original } => {
                json["rope_scaling"] = json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low,
                    "high_freq_factor": high,
                    "original_max_position_embeddings": original,
                });
            }
        }
        // Rather than a list of what cannot be said: what is read back says it.
        if Self::from_json(&json.to_string())? != *self {
            let expected = "this configuration has no form as a config.json of its family";
            return Err(ModelError::config("model_type", kind, expected));
        }
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_can_be_said_is_read_back() {
        for text in [
            r#"{"model_type": "llama", "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
                "num_hidden_layers": 2, "rope_theta": 100000, "tie_word_embeddings": true, "bos_token_id": 1,
                "eos_token_id": 2}"#,
            r#"{"model_type": "qwen2", "num_hidden_layers": 2, "eos_token_id": [5, 6], "vocab_size": 300}"#,
            r#"{"model_type": "mistral", "num_hidden_layers": 3, "sliding_window": 64}"#,
            r#"{"model_type": "llama", "num_hidden_layers": 1, "rope_scaling": {"rope_type": "llama3", "factor": 32.0,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}"#,
        ] {
            let config = DecoderConfig::from_json(text).unwrap();
            let again = config.to_json().unwrap().to_string();
            assert_eq!(DecoderConfig::from_json(&again).unwrap(), config);
        }
    }

    #[test]
    fn what_cannot_is_refused() {
        let text =
            r#"{"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}"#;
        let config = DecoderConfig::from_json(text).unwrap();
        let divided =
            DecoderConfig { rotary_scaling: RotaryScaling::Divisors(vec![2.0; 8]), ..config.clone() };
        let own = DecoderConfig { windows: vec![Some(4), None], ..config };
        for config in [divided, own] {
            let message = config.to_json().unwrap_err().to_string();
            assert!(message.contains("llama") && message.contains("no form"), "{message}");
        }
    }
}
