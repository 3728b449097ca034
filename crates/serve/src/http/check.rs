//! The fields of a chat request that say how the answer is written.

use foveate_compress::Budget;
use foveate_model::ModelError;
use foveate_model::generate::{Choice, Draw, Sampler, Sampling};
use serde_json::Value;

use super::error::{Answer, ApiError};
use super::types::{ChatRequest, VisualTokens};
use crate::files::random_number;

/// The most stop strings, and their bytes.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 1024;
/// The most alternatives to a token, as in OpenAI's API.
const MOST_ALTERNATIVES: usize = 20;

/// What was asked for, with every value in its range.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) alternatives: Option<usize>,
    pub(crate) visual_tokens: Wanted,
    /// In milliseconds.
    pub(crate) max_latency: Option<f64>,
}

/// How many visual tokens were asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// Nothing: what the model does by itself.
    Own,
    Exactly(Budget),
    /// What serves the question, or the most that the time allows.
    Auto,
}

impl Checked {
    /// # Errors
    /// The first field that is outside its range or asks for what there is not.
    pub(crate) fn of(request: &ChatRequest) -> Answer<Self> {
        refuse_what_there_is_not(request)?;
        let max_tokens = match (request.max_tokens, request.max_completion_tokens) {
            (Some(one), Some(other)) if one != other => {
                let message = "max_tokens and max_completion_tokens are two names of one number, and differ";
                return Err(ApiError::field("max_tokens", message));
            }
            (one, other) => one.or(other),
        };
        if max_tokens == Some(0) {
            return Err(ApiError::field("max_tokens", "max_tokens is 0: must be at least 1"));
        }
        let stop = request.stop.as_ref().map(|stop| stop.0.clone()).unwrap_or_default();
        if stop.len() > MOST_STOPS || stop.iter().any(|stop| stop.is_empty() || stop.len() > LONGEST_STOP) {
            let message = format!("stop: at most {MOST_STOPS} texts of 1 to {LONGEST_STOP} bytes");
            return Err(ApiError::field("stop", message));
        }
        let max_latency = request.max_latency_ms;
        if max_latency.is_some_and(|ms| !(ms.is_finite() && ms > 0.0)) {
            return Err(ApiError::field("max_latency_ms", "max_latency_ms must be a number above 0"));
        }
        let visual_tokens = match request.visual_tokens {
            Some(VisualTokens::Number(tokens)) => Wanted::Exactly(Budget::Tokens(tokens)),
            Some(VisualTokens::Adaptive) => Wanted::Exactly(Budget::Adaptive),
            Some(VisualTokens::Auto) => Wanted::Auto,
            None if max_latency.is_some() => Wanted::Auto,
            None => Wanted::Own,
        };
        let (sampling, alternatives) = (sampling(request)?, alternatives(request)?);
        Ok(Self { sampling, stop, max_tokens, alternatives, visual_tokens, max_latency })
    }
}

fn sampling(request: &ChatRequest) -> Answer<Sampling> {
    let temperature = request.temperature.unwrap_or(1.0);
    if !(0.0..=2.0).contains(&temperature) {
        let message = format!("temperature is {temperature}: must be in 0..=2");
        return Err(ApiError::field("temperature", message));
    }
    let draw = Draw {
        temperature: if temperature == 0.0 { 1.0 } else { temperature },
        top_k: request.top_k,
        // Every token.
        top_p: request.top_p.filter(|p| *p != 1.0),
        min_p: request.min_p,
        seed: request.seed.map_or_else(random_number, i64::cast_unsigned),
    };
    let repetition_penalty = request.repetition_penalty.unwrap_or(1.0);
    // Also where the best token is taken in any case: a value that cannot be is a mistake there, too.
    let checked = Sampler::new(Sampling { choice: Choice::Draw(draw), repetition_penalty });
    checked.map_err(|error| match &error {
        ModelError::Option { option, .. } => {
            ApiError::field(option.replace(['-', ' '], "_"), error.to_string())
        }
        _ => ApiError::internal(&error),
    })?;
    let choice = if temperature == 0.0 { Choice::Greedy } else { Choice::Draw(draw) };
    Ok(Sampling { choice, repetition_penalty })
}

fn alternatives(request: &ChatRequest) -> Answer<Option<usize>> {
    match (request.logprobs.unwrap_or(false), request.top_logprobs) {
        (false, Some(count)) if count > 0 => {
            Err(ApiError::field("top_logprobs", "top_logprobs goes with `logprobs: true`"))
        }
        (true, Some(count)) if count > MOST_ALTERNATIVES => {
            let message = format!("top_logprobs is {count}: must be in 0..={MOST_ALTERNATIVES}");
            Err(ApiError::field("top_logprobs", message))
        }
        (true, count) => Ok(Some(count.unwrap_or(0))),
        (false, _) => Ok(None),
    }
}

/// What would change the answer and is not here.
fn refuse_what_there_is_not(request: &ChatRequest) -> Answer<()> {
    let empty = |value: &Option<Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(fields)) => fields.is_empty(),
        Some(_) => false,
    };
    let neutral = |number: Option<f32>| number.is_none_or(|number| number == 0.0);
    let word = |value: &Option<Value>, allowed: &[&str]| match value {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str().is_some_and(|word| allowed.contains(&word)),
    };
    let is_text = |value: &Value| value.get("type").and_then(Value::as_str) == Some("text");
    let format = request.response_format.as_ref();
    let checks = [
        ("n", request.n.is_none_or(|n| n == 1), "only one answer a request"),
        ("frequency_penalty", neutral(request.frequency_penalty), "only 0; there is `repetition_penalty`"),
        ("presence_penalty", neutral(request.presence_penalty), "only 0; there is `repetition_penalty`"),
        ("logit_bias", empty(&request.logit_bias), "there is none"),
        ("tools", empty(&request.tools), "there are none"),
        ("tool_choice", word(&request.tool_choice, &["none", "auto"]), "there are no tools"),
        ("response_format", format.is_none_or(|of| of.is_null() || is_text(of)), "only {\"type\": \"text\"}"),
        (
            "modalities",
            request.modalities.as_ref().is_none_or(|of| of.iter().all(|of| of == "text")),
            "only text is answered",
        ),
    ];
    match checks.into_iter().find(|(_, fine, _)| !fine) {
        Some((field, _, told)) => Err(ApiError::field(field, format!("{field}: {told}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn checked(fields: Value) -> Answer<Checked> {
        let mut request = json!({"model": "m", "messages": []});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Checked::of(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn fields_mean_what_they_mean_at_openai() {
        let plain = checked(json!({})).unwrap();
        let Choice::Draw(draw) = plain.sampling.choice else { panic!("{plain:?}") };
        assert_eq!((draw.temperature, draw.top_p, plain.alternatives), (1.0, None, None));
        assert_eq!((plain.visual_tokens, plain.max_tokens), (Wanted::Own, None));
        let other = checked(json!({})).unwrap();
        assert_ne!(plain.sampling.choice, other.sampling.choice, "seeds differ where none is given");

        let greedy =
            checked(json!({"temperature": 0, "max_completion_tokens": 7, "logprobs": true})).unwrap();
        assert_eq!((greedy.sampling, greedy.max_tokens), (Sampling::greedy(), Some(7)));
        assert_eq!(greedy.alternatives, Some(0));
        let seeded = checked(json!({"seed": -1, "top_p": 0.5, "visual_tokens": 4})).unwrap();
        let Choice::Draw(draw) = seeded.sampling.choice else { panic!("{seeded:?}") };
        assert_eq!((draw.seed, draw.top_p), (u64::MAX, Some(0.5)));
        assert_eq!(seeded.visual_tokens, Wanted::Exactly(Budget::Tokens(4)));
        assert_eq!(checked(json!({"max_latency_ms": 5})).unwrap().visual_tokens, Wanted::Auto);
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        for (fields, param) in [
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"top_k": 0}), "top_k"),
            (json!({"top_k": 0, "temperature": 0}), "top_k"),
            (json!({"min_p": 1.5}), "min_p"),
            (json!({"repetition_penalty": 0}), "repetition_penalty"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_tokens"),
            (json!({"stop": ""}), "stop"),
            (json!({"stop": vec!["a"; 17]}), "stop"),
            (json!({"top_logprobs": 2}), "top_logprobs"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
            (json!({"max_latency_ms": 0}), "max_latency_ms"),
            (json!({"n": 2}), "n"),
            (json!({"presence_penalty": 0.5}), "presence_penalty"),
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"logit_bias": {"5": 1}}), "logit_bias"),
            (json!({"modalities": ["text", "audio"]}), "modalities"),
        ] {
            let error = checked(fields.clone()).unwrap_err();
            let body = serde_json::to_value(error.body()).unwrap();
            assert_eq!(body["error"]["param"], param, "{fields}: {body}");
            assert_eq!(body["error"]["type"], "invalid_request_error");
        }
        let harmless = json!({"n": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
            "frequency_penalty": 0, "modalities": ["text"], "user": "u", "metadata": {"a": "b"}, "store": false});
        assert!(checked(harmless).is_ok());
    }
}
