//! Requests and replies of `/v1/chat/completions`, field by field as in OpenAI's API, and foveate's own.
//!
//! A field that is not listed is refused by name: what would change the answer must not be dropped without a word.

use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::Milliseconds;

/// A conversation to answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are known and of no consequence")]
pub(crate) struct ChatRequest {
    /// The model's name, as `/v1/models` lists it.
    pub(crate) model: String,
    #[schema(min_items = 1, max_items = 2048)]
    pub(crate) messages: Vec<ChatMessage>,
    /// How many tokens the language model reads for each image: a number on the model's ladder; `auto` for what serves the
    /// question best within `max_latency_ms`, or for the cheapest that serves it nearly as well as any, where the model knows
    /// its errors by kind of question, else for the most that there is time for; `adaptive` for a compressor that lets the
    /// image decide.
    #[schema(value_type = Option<VisualTokensSchema>)]
    pub(crate) visual_tokens: Option<VisualTokens>,
    /// How long the answer may take, in milliseconds from the request's arrival to the last token, by what this server has
    /// measured of itself. Without `visual_tokens` it means `auto`.
    pub(crate) max_latency_ms: Option<f64>,
    /// The most new tokens.
    #[schema(minimum = 1)]
    pub(crate) max_tokens: Option<usize>,
    /// The same by its newer name.
    #[schema(minimum = 1)]
    pub(crate) max_completion_tokens: Option<usize>,
    /// 0 always takes the best token; 1 where nothing is said.
    #[schema(minimum = 0, maximum = 2)]
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    /// Draw from this many of the best tokens.
    #[schema(minimum = 1)]
    pub(crate) top_k: Option<usize>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition_penalty: Option<f32>,
    /// Text that ends the answer and is not part of it: one, or up to 16.
    #[schema(value_type = Option<StopSchema>)]
    pub(crate) stop: Option<Stop>,
    /// Equal seeds draw equal answers.
    pub(crate) seed: Option<i64>,
    pub(crate) logprobs: Option<bool>,
    /// 0 to 20.
    #[schema(maximum = 20)]
    pub(crate) top_logprobs: Option<usize>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    /// Only 1.
    #[schema(minimum = 1, maximum = 1)]
    pub(crate) n: Option<u32>,
    /// Only 0.
    pub(crate) frequency_penalty: Option<f32>,
    /// Only 0.
    pub(crate) presence_penalty: Option<f32>,
    /// Only empty.
    #[schema(value_type = Option<Object>)]
    pub(crate) logit_bias: Option<Value>,
    /// Only empty.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) tools: Option<Value>,
    /// Only `none` or `auto`.
    #[schema(value_type = Option<String>)]
    pub(crate) tool_choice: Option<Value>,
    /// Of no consequence without tools.
    pub(crate) parallel_tool_calls: Option<bool>,
    /// Only `{"type": "text"}`.
    #[schema(value_type = Option<Object>)]
    pub(crate) response_format: Option<Value>,
    /// Only `["text"]`.
    pub(crate) modalities: Option<Vec<String>>,
    /// Not read.
    pub(crate) user: Option<String>,
    /// Not read.
    #[schema(value_type = Option<Object>)]
    pub(crate) metadata: Option<Value>,
    /// Not read: nothing is stored.
    pub(crate) store: Option<bool>,
    /// Not read.
    pub(crate) service_tier: Option<String>,
    /// Not read.
    pub(crate) safety_identifier: Option<String>,
    /// Not read: prompts that begin alike are always recognised.
    pub(crate) prompt_cache_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are known and of no consequence")]
pub(crate) struct StreamOptions {
    /// Whether a last chunk without choices says what was used.
    pub(crate) include_usage: Option<bool>,
    /// Not read.
    pub(crate) include_obfuscation: Option<bool>,
}

/// A turn of the conversation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "some fields are known and of no consequence")]
pub(crate) struct ChatMessage {
    pub(crate) role: ChatRole,
    #[schema(value_type = Option<ContentSchema>)]
    pub(crate) content: Option<Content>,
    /// Not read.
    pub(crate) name: Option<String>,
    /// What clients send back with the model's own messages; only `null`, or not read.
    #[schema(value_type = Option<Object>)]
    pub(crate) refusal: Option<Value>,
    #[schema(value_type = Option<Object>)]
    pub(crate) annotations: Option<Value>,
    /// Only `null` or empty, as the two behind it.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) audio: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) function_call: Option<Value>,
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) tool_calls: Option<Value>,
    pub(crate) tool_call_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChatRole {
    System,
    /// The newer name of `system`.
    Developer,
    User,
    Assistant,
    Tool,
}

/// Text, or parts of text and images.
#[derive(Debug, PartialEq)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message: `type` says which of the other fields counts.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentPart {
    /// `text`, `image_url` or `file`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) text: Option<String>,
    pub(crate) image_url: Option<ImageUrl>,
    pub(crate) file: Option<FilePart>,
}

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageUrl {
    /// `data:image/png;base64,…`, the id of an uploaded file, or an address where the server allows those.
    pub(crate) url: String,
    /// Not read: `visual_tokens` says it exactly.
    pub(crate) detail: Option<String>,
}

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePart {
    /// Of an uploaded image.
    pub(crate) file_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VisualTokens {
    Number(usize),
    Auto,
    Adaptive,
}

/// One or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop(pub(crate) Vec<String>);

/// How [`Content`] looks in JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum ContentSchema {
    Text(String),
    #[schema(value_type = Vec<ContentPartSchema>)]
    Parts(()),
}

/// How [`ContentPart`] looks in JSON.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum ContentPartSchema {
    Text {
        text: String,
    },
    ImageUrl {
        #[schema(value_type = ImageUrl)]
        image_url: (),
    },
    File {
        #[schema(value_type = FilePart)]
        file: (),
    },
}

/// How [`VisualTokens`] looks in JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum VisualTokensSchema {
    Number(VisualTokensNumber),
    Word(VisualTokensWord),
}

#[derive(Serialize, ToSchema)]
#[schema(minimum = 1)]
pub(crate) struct VisualTokensNumber(usize);

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum VisualTokensWord {
    Auto,
    Adaptive,
}

/// How [`Stop`] looks in JSON.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum StopSchema {
    One(String),
    Several(Vec<String>),
}

/// Text or a list: what serde's `untagged` would read as well, but without a copy of every image and with errors that say
/// where.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of parts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Content, E> {
                Ok(Content::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Content, A::Error> {
                let mut all = Vec::new();
                while let Some(part) = parts.next_element()? {
                    all.push(part);
                }
                Ok(Content::Parts(all))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Stop, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = texts.next_element()? {
                    all.push(text);
                }
                Ok(Stop(all))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for VisualTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = VisualTokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of at least 1, \"auto\" or \"adaptive\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<VisualTokens, E> {
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(number), &self);
                let number = usize::try_from(number).map_err(|_| wrong())?;
                if number == 0 { Err(wrong()) } else { Ok(VisualTokens::Number(number)) }
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<VisualTokens, E> {
                match word {
                    "auto" => Ok(VisualTokens::Auto),
                    "adaptive" => Ok(VisualTokens::Adaptive),
                    _ => Err(E::invalid_value(de::Unexpected::Str(word), &self)),
                }
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatReply {
    pub(crate) id: String,
    /// `chat.completion`
    pub(crate) object: &'static str,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) choices: Vec<ReplyChoice>,
    pub(crate) usage: Usage,
    pub(crate) foveate: Account,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplyChoice {
    pub(crate) index: u32,
    pub(crate) message: ReplyMessage,
    pub(crate) logprobs: Option<Logprobs>,
    /// `stop`, or `length` for an answer that reached its most tokens or the end of the context.
    pub(crate) finish_reason: &'static str,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplyMessage {
    /// `assistant`
    pub(crate) role: &'static str,
    pub(crate) content: String,
    /// Always `null`.
    pub(crate) refusal: Option<String>,
}

/// A piece of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    pub(crate) id: String,
    /// `chat.completion.chunk`
    pub(crate) object: &'static str,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) choices: Vec<ChunkChoice>,
    /// In the last chunk, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Usage>)]
    pub(crate) usage: Option<Option<Usage>>,
    /// In the chunk that ends the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) foveate: Option<Account>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    pub(crate) index: u32,
    pub(crate) delta: Delta,
    pub(crate) logprobs: Option<Logprobs>,
    pub(crate) finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Logprobs {
    pub(crate) content: Vec<TokenLogprob>,
    /// Always `null`.
    pub(crate) refusal: Option<Vec<TokenLogprob>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenLogprob {
    #[serde(flatten)]
    pub(crate) of: Alternative,
    pub(crate) top_logprobs: Vec<Alternative>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alternative {
    /// The token's text alone.
    pub(crate) token: String,
    pub(crate) logprob: f32,
    /// The text's bytes; `null` for a token that is a part of a character.
    pub(crate) bytes: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
    pub(crate) prompt_tokens_details: PromptTokens,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct PromptTokens {
    /// That stand for images.
    pub(crate) image_tokens: usize,
    /// That stand for everything else.
    pub(crate) text_tokens: usize,
    /// That were read for an earlier prompt.
    pub(crate) cached_tokens: usize,
}

/// What the images became, and what the answer took.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    /// Tokens for each image; `null` without images or where each image decides.
    pub(crate) visual_tokens: Option<usize>,
    /// What made them; `null` for a model without sight.
    pub(crate) compressor: Option<String>,
    pub(crate) ms: Milliseconds,
    /// 2 × multiply-adds of everything that ran for it.
    pub(crate) flops: f64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<ChatRequest, serde_json::Error> {
        serde_json::from_value(value)
    }

    #[test]
    fn content_is_text_or_parts() {
        let request = read(json!({"model": "m", "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What?"},
                {"type": "image_url", "image_url": {"url": "file-1", "detail": "low"}}]},
            {"role": "assistant", "content": null, "refusal": null, "tool_calls": null}
        ], "stop": ["a", "b"], "visual_tokens": "auto"}))
        .unwrap();
        assert_eq!(request.messages[0].content, Some(Content::Text("Be brief.".into())));
        let Some(Content::Parts(parts)) = &request.messages[1].content else { panic!("{request:?}") };
        assert_eq!(parts[1].image_url.as_ref().unwrap().url, "file-1");
        assert_eq!(request.messages[2].content, None);
        assert_eq!(request.stop, Some(Stop(vec!["a".into(), "b".into()])));
        assert_eq!(request.visual_tokens, Some(VisualTokens::Auto));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let with = |field: &str, value: Value| {
            let mut request = json!({"model": "m", "messages": []});
            request[field] = value;
            read(request).err().unwrap().to_string()
        };
        assert!(with("visual_token", json!(4)).contains("visual_token"));
        assert!(with("visual_tokens", json!("all")).contains("\"auto\" or \"adaptive\""));
        assert!(with("visual_tokens", json!(0)).contains("at least 1"));
        assert!(with("visual_tokens", json!(2.5)).contains("whole number"));
        assert!(with("stop", json!(3)).contains("a text, or a list of texts"));
        assert!(with("messages", json!([{"role": "judge"}])).contains("judge"));
        assert!(with("messages", json!([{"role": "user", "content": 3}])).contains("a list of parts"));
    }
}
