//! Messages and images to what the language model reads.

use candle_core::{DType, Device, Tensor};
use foveate_data::prompt::{Message, Part, Prompt as Rendered, Segment as Piece};
use foveate_model::generate::{Part as Stretch, Prompt, prompt_tokens};
use foveate_model::vlm::Segment;

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
    /// Positions of the prompt of these messages that do not stand for images, whatever number of tokens an image becomes.
    pub(crate) fn text_tokens(&self, messages: &[Message], images: usize) -> Result<usize, Failure> {
        let row = Tensor::zeros((1, 1), DType::F32, &Device::Cpu).map_err(Failure::calculation)?;
        Ok(self.prompt(messages, &vec![row; images])?.text_tokens)
    }

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
        for segment in prompt_tokens(&self.tokenizer, &rendered, image_token)? {
            asked.prompt.parts.push(match segment {
                Segment::Tokens(tokens) => {
                    asked.text_tokens += tokens.len();
                    Stretch::Tokens(tokens)
                }
                // The template has seen to it that there are as many images as places.
                Segment::Image => match images.next() {
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
