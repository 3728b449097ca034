//! What the engine tells of an answer, as OpenAI's documents.

use foveate_compress::Budget;
use foveate_model::generate::{Finish, Scored};
use tokenizers::Tokenizer;

use super::types::{
    Account, Alternative, ChatChunk, ChatReply, ChunkChoice, Delta, Logprobs, PromptTokens, ReplyChoice,
    ReplyMessage, TokenLogprob, Usage,
};
use super::{AppState, now};
use crate::engine::Done;

const ROLE: &str = "assistant";

/// What all documents of one answer share.
#[derive(Clone, Debug)]
pub(crate) struct Heading {
    id: String,
    created: u64,
    model: String,
    visual_tokens: Option<usize>,
    compressor: Option<String>,
    /// Whether a last chunk says what was used; all others then say `null`.
    uses: bool,
}

impl Heading {
    pub(crate) fn new(app: &AppState, request: &str, budget: Option<Budget>, uses: bool) -> Self {
        let vlm = app.backend.viewer().map(|viewer| viewer.vlm());
        Self {
            id: format!("chatcmpl-{request}"),
            created: now(),
            model: app.options.model.clone(),
            visual_tokens: match budget {
                Some(Budget::Tokens(tokens)) => Some(tokens),
                _ => None,
            },
            compressor: vlm.map(|vlm| vlm.compressor().method().to_string()),
            uses,
        }
    }

    /// The whole answer.
    pub(crate) fn reply(self, content: String, logprobs: Option<Logprobs>, done: &Done) -> ChatReply {
        let (foveate, usage) = (self.account(done), usage(done));
        let message = ReplyMessage { role: ROLE, content, refusal: None };
        let finish_reason = finish_reason(done.finish);
        ChatReply {
            id: self.id,
            object: "chat.completion",
            created: self.created,
            model: self.model,
            choices: vec![ReplyChoice { index: 0, message, logprobs, finish_reason }],
            usage,
            foveate,
        }
    }

    /// The chunk that opens an answer.
    pub(crate) fn opening(&self) -> ChatChunk {
        self.chunk(Delta { role: Some(ROLE), content: Some(String::new()) }, None, None)
    }

    /// A chunk of text.
    pub(crate) fn piece(&self, text: String, logprobs: Option<Logprobs>) -> ChatChunk {
        self.chunk(Delta { role: None, content: Some(text) }, logprobs, None)
    }

    /// The chunk that ends an answer.
    pub(crate) fn end(&self, done: &Done) -> ChatChunk {
        let chunk = self.chunk(Delta::default(), None, Some(finish_reason(done.finish)));
        ChatChunk { foveate: Some(self.account(done)), ..chunk }
    }

    /// The chunk behind the end, which says what was used, where that was asked for.
    pub(crate) fn used(&self, done: &Done) -> Option<ChatChunk> {
        let chunk = self.chunk(Delta::default(), None, None);
        self.uses.then(|| ChatChunk { choices: Vec::new(), usage: Some(Some(usage(done))), ..chunk })
    }

    fn chunk(&self, delta: Delta, logprobs: Option<Logprobs>, finish: Option<&'static str>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            choices: vec![ChunkChoice { index: 0, delta, logprobs, finish_reason: finish }],
            usage: self.uses.then_some(None),
            foveate: None,
        }
    }

    fn account(&self, done: &Done) -> Account {
        Account {
            visual_tokens: self.visual_tokens,
            compressor: self.compressor.clone(),
            ms: done.ms,
            flops: done.flops,
        }
    }
}

fn usage(done: &Done) -> Usage {
    let prompt_tokens = done.text_tokens + done.image_tokens;
    Usage {
        prompt_tokens,
        completion_tokens: done.new_tokens,
        total_tokens: prompt_tokens + done.new_tokens,
        prompt_tokens_details: PromptTokens {
            image_tokens: done.image_tokens,
            text_tokens: done.text_tokens,
            cached_tokens: done.cached_tokens,
        },
    }
}

pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::MaxTokens | Finish::Context => "length",
        _ => "stop",
    }
}

/// The probabilities of tokens, with their texts.
pub(crate) fn logprobs(tokenizer: &Tokenizer, scored: &[(u32, Scored)]) -> Logprobs {
    let alternative = |token: u32, logprob: f32| {
        // One by one, so that a space in front of a word shows.
        let text = tokenizer.decode(&[token], false).unwrap_or_default();
        let bytes = (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.clone().into_bytes());
        Alternative { token: text, logprob, bytes }
    };
    let content = scored.iter().map(|(token, scored)| TokenLogprob {
        of: alternative(*token, scored.logprob),
        top_logprobs: scored.best.iter().map(|(token, logprob)| alternative(*token, *logprob)).collect(),
    });
    Logprobs { content: content.collect(), refusal: None }
}
