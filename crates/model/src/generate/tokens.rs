//! A rendered prompt as token ids: the same when a model is trained, asked and measured.

use foveate_data::prompt::{Prompt as Rendered, Segment as Piece};
use tokenizers::Tokenizer;

use crate::vlm::Segment;
use crate::{ModelError, Result};

/// The tokens of a prompt, and the places of its images.
///
/// Where the vocabulary has the image token, the whole text is encoded at once, as the Hugging Face processors do. The
/// original LLaVA has no such token: it encodes the text between the images piece by piece, special tokens only in
/// front of the first.
///
/// # Errors
/// [`ModelError::Tokenizer`] where the tokenizer cannot encode a text.
pub fn prompt_tokens(tokenizer: &Tokenizer, prompt: &Rendered, image_token: &str) -> Result<Vec<Segment>> {
    let encode = |text: &str, special: bool| {
        let encoding = tokenizer.encode(text, special);
        let encoding = encoding.map_err(|error| ModelError::Tokenizer { reason: error.to_string() })?;
        Ok::<_, ModelError>(encoding.get_ids().to_vec())
    };
    let mut segments = Vec::new();
    // In a text for a model without sight the token is a text like any other.
    let shows = prompt.segments.iter().any(|piece| matches!(piece, Piece::Image(_)));
    if let Some(image) = tokenizer.token_to_id(image_token).filter(|_| shows) {
        let ids = encode(&prompt.text(image_token), prompt.add_special_tokens)?;
        for (nth, run) in ids.split(|id| *id == image).enumerate() {
            segments.extend((nth > 0).then_some(Segment::Image));
            segments.extend((!run.is_empty()).then(|| Segment::Tokens(run.to_vec())));
        }
        return Ok(segments);
    }
    let mut special = prompt.add_special_tokens;
    if special && matches!(prompt.segments.first(), Some(Piece::Image(_))) {
        segments.push(Segment::Tokens(encode("", true)?));
        special = false;
    }
    for piece in &prompt.segments {
        segments.push(match piece {
            Piece::Image(_) => Segment::Image,
            Piece::Text(text) => Segment::Tokens(encode(text, std::mem::take(&mut special))?),
        });
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_data::prompt::{ChatTemplate, Message};

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_file(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/models/llava-1.5/tokenizer.json"
        ))
        .unwrap()
    }

    #[test]
    fn images_cut_the_tokens_and_only_the_beginning_is_special() {
        let template = ChatTemplate::vicuna_v1();
        let question = Message::user("<image>one <image>two");
        let prompt = template.render(&[question], 2).unwrap();
        // With the token in the vocabulary, and with a placeholder that it does not have.
        let whole = prompt_tokens(&tokenizer(), &prompt, "<image>").unwrap();
        let pieces = prompt_tokens(&tokenizer(), &prompt, "<no such token>").unwrap();
        assert_eq!(whole, pieces);
        let kinds: Vec<bool> = whole.iter().map(|segment| *segment == Segment::Image).collect();
        assert_eq!(kinds, [false, true, false, true, false]);
        let ids =
            |segment: &Segment| if let Segment::Tokens(ids) = segment { ids.clone() } else { Vec::new() };
        let beginnings = whole.iter().flat_map(ids).filter(|id| *id == 1).count();
        assert_eq!((beginnings, ids(&whole[0])[0]), (1, 1));
    }

    #[test]
    fn a_prompt_that_starts_with_an_image_keeps_its_beginning() {
        let prompt =
            Rendered { segments: vec![Piece::Image(0), Piece::Text("a".into())], add_special_tokens: true };
        for token in ["<image>", "<no such token>"] {
            let stretches = prompt_tokens(&tokenizer(), &prompt, token).unwrap();
            assert_eq!(stretches[..2], [Segment::Tokens(vec![1]), Segment::Image]);
            assert_eq!(stretches.len(), 3);
        }
    }
}
