//! Messages and images to what the language model reads.

use candle_core::Tensor;
use foveate_data::prompt::{Message, Part, Prompt as Rendered, Segment as Piece};
use foveate_model::generate::{Part as Stretch, Prompt};
use tokenizers::Tokenizer;

use super::Model;
use crate::failure::Failure;

/// A prompt and what of it is text.
pub(crate) struct Asked {
    pub(crate) prompt: Prompt,
    pub(crate) text_tokens: usize,
    pub(crate) visual_tokens: usize,
}

/// A conversation of one question, behind instructions where there are some.
pub(crate) fn one_question(system: Option<&str>, question: &str) -> Vec<Message> {
    system.map(Message::system).into_iter().chain([Message::user(question)]).collect()
}

impl Model {
    /// The prompt that asks for an answer to `messages`, with `images` (rows for the language model) at their places.
    ///
    /// A model without a template reads the text of the messages as it is and continues it.
    pub(crate) fn prompt(&self, messages: &[Message], images: &[Tensor]) -> Result<Asked, Failure> {
        let (rendered, image_token) = match &self.template {
            Some(template) => (template.render(messages, images.len())?, template.image_token()),
            None => {
                let parts = messages.iter().flat_map(|message| &message.content);
                let segments = parts.filter_map(|part| match part {
                    Part::Text(text) => Some(Piece::Text(text.clone())),
                    Part::Image => None,
                });
                (Rendered { segments: segments.collect(), add_special_tokens: true }, "")
            }
        };
        let mut asked = Asked { prompt: Prompt::default(), text_tokens: 0, visual_tokens: 0 };
        let mut images = images.iter();
        for stretch in tokenise(&self.tokenizer, &rendered, image_token)? {
            asked.prompt.parts.push(match stretch {
                Some(tokens) => {
                    asked.text_tokens += tokens.len();
                    Stretch::Tokens(tokens)
                }
                // The template has seen to it that there are as many images as places.
                None => match images.next() {
                    Some(rows) => {
                        asked.visual_tokens += rows.dims()[0];
                        Stretch::Rows(rows.clone())
                    }
                    None => continue,
                },
            });
        }
        Ok(asked)
    }
}

/// Token lists, with `None` for each image.
///
/// Where the vocabulary has the image token, the whole text is encoded at once, as the Hugging Face processors do. The
/// original LLaVA has no such token: it encodes the text between the images piece by piece, special tokens only in
/// front of the first.
fn tokenise(
    tokenizer: &Tokenizer,
    prompt: &Rendered,
    image_token: &str,
) -> Result<Vec<Option<Vec<u32>>>, Failure> {
    let encode = |text: &str, special: bool| {
        let encoding = tokenizer.encode(text, special);
        let encoding = encoding
            .map_err(|error| Failure::user(format!("the tokenizer cannot encode the prompt: {error}")))?;
        Ok::<_, Failure>(encoding.get_ids().to_vec())
    };
    let mut stretches = Vec::new();
    // In a text for a model without sight the token is a text like any other.
    let shows = prompt.segments.iter().any(|piece| matches!(piece, Piece::Image(_)));
    if let Some(image) = tokenizer.token_to_id(image_token).filter(|_| shows) {
        let ids = encode(&prompt.text(image_token), prompt.add_special_tokens)?;
        for (nth, run) in ids.split(|id| *id == image).enumerate() {
            stretches.extend((nth > 0).then_some(None));
            stretches.extend((!run.is_empty()).then(|| Some(run.to_vec())));
        }
        return Ok(stretches);
    }
    let mut special = prompt.add_special_tokens;
    if special && matches!(prompt.segments.first(), Some(Piece::Image(_))) {
        stretches.push(Some(encode("", true)?));
        special = false;
    }
    for piece in &prompt.segments {
        match piece {
            Piece::Image(_) => stretches.push(None),
            Piece::Text(text) => stretches.push(Some(encode(text, std::mem::take(&mut special))?)),
        }
    }
    Ok(stretches)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_data::prompt::ChatTemplate;

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
        let whole = tokenise(&tokenizer(), &prompt, "<image>").unwrap();
        let pieces = tokenise(&tokenizer(), &prompt, "<no such token>").unwrap();
        assert_eq!(whole, pieces);
        let kinds: Vec<bool> = whole.iter().map(Option::is_some).collect();
        assert_eq!(kinds, [true, false, true, false, true]);
        let beginnings = whole.iter().flatten().flatten().filter(|id| **id == 1).count();
        assert_eq!((beginnings, whole[0].as_ref().unwrap()[0]), (1, 1));
    }

    #[test]
    fn a_prompt_that_starts_with_an_image_keeps_its_beginning() {
        let prompt =
            Rendered { segments: vec![Piece::Image(0), Piece::Text("a".into())], add_special_tokens: true };
        for token in ["<image>", "<no such token>"] {
            let stretches = tokenise(&tokenizer(), &prompt, token).unwrap();
            assert_eq!(stretches[..2], [Some(vec![1]), None]);
            assert_eq!(stretches.len(), 3);
        }
    }
}
