//! Tokenizers that are not stored as `tokenizer.json`, rebuilt as `tokenizers` pipelines with the same ids: what GGUF
//! metadata and SentencePiece's own `tokenizer.model` have in common.

mod folder;
mod merges;
mod model;
mod sentence_piece;

use tokenizers::PostProcessorWrapper;
use tokenizers::processors::sequence::Sequence as Processors;
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

pub use folder::sentence_piece;
pub(super) use sentence_piece::{Pieces, Prefix};

/// What a token of a vocabulary is, numbered alike in SentencePiece's `ModelProto` and in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// What the numbers are.
    pub(super) const NUMBERS: &'static str = "1 to 6";

    pub(super) fn numbered(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// Post-processing that puts `beginning` before a text and `end` behind it, ids with their text; `None` for neither.
pub(super) fn framing(
    beginning: Option<(u32, String)>,
    end: Option<(u32, String)>,
) -> tokenizers::Result<Option<Processors>> {
    if beginning.is_none() && end.is_none() {
        return Ok(None);
    }
    // Names of our own for the template: a token's text may hold what the template's syntax gives a meaning to.
    let parts = [beginning.as_ref().map(|_| "beginning"), Some("$A"), end.as_ref().map(|_| "end")];
    let named = |name: &str, token: Option<(u32, String)>| {
        token.map(|(id, text)| SpecialToken::new(name.to_owned(), vec![id], vec![text])).transpose()
    };
    let special = [named("beginning", beginning)?, named("end", end)?];
    let single: Vec<&str> = parts.into_iter().flatten().collect();
    let special: Vec<SpecialToken> = special.into_iter().flatten().collect();
    let template = TemplateProcessing::builder().try_single(single)?.special_tokens(special).build()?;
    Ok(Some(Processors::new(vec![PostProcessorWrapper::from(template)])))
}
