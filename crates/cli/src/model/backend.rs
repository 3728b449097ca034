//! A model as the server knows it: the same questions, prompts and images as everywhere else in the program.

use std::sync::Arc;

use candle_core::Tensor;
use foveate_data::image::{Frame, Image, Size};
use foveate_data::prompt::{ChatTemplate, DEFAULT_IMAGE_TOKEN, Message, PromptError};
use foveate_model::llm::Decoder;
use foveate_model::vlm::{Image as Tiles, Viewer};
use foveate_serve::{Asked, Backend, Refusal};
use tokenizers::Tokenizer;

use super::Model;
use crate::failure::Failure;

impl Backend for Model {
    fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    fn image_token(&self) -> &str {
        self.template.as_ref().map_or(DEFAULT_IMAGE_TOKEN, ChatTemplate::image_token)
    }

    fn viewer(&self) -> Option<&Viewer> {
        Model::viewer(self)
    }

    fn prepare(&self, image: &Image) -> Result<Tiles, Refusal> {
        let (_, tiles) = self.preprocess(image).map_err(refused)?;
        Ok(tiles)
    }

    fn frames(&self, size: Size) -> Vec<Frame> {
        self.sight.as_ref().map(|sight| sight.preprocessor.frames(size)).unwrap_or_default()
    }

    fn question(&self, text: &str) -> Result<Vec<u32>, Refusal> {
        self.question_tokens(text).map_err(refused)
    }

    fn prompt(&self, messages: &[Message], images: &[Tensor]) -> Result<Asked, Refusal> {
        let asked = Model::prompt(self, messages, images).map_err(refused)?;
        Ok(Asked { prompt: asked.prompt, text_tokens: asked.text_tokens })
    }
}

/// What clients are told: of a chat template what is wrong with it, but not where it lies on this machine.
fn refused(failure: Failure) -> Refusal {
    let users = matches!(failure, Failure::User(_));
    let of_template = match &failure {
        Failure::User(error) => error.downcast_ref(),
        _ => None,
    };
    let message = match of_template {
        Some(PromptError::Template { reason, .. }) => format!("the model's chat template: {reason}"),
        Some(PromptError::Refused { message, .. }) => {
            format!("the model's chat template refuses these messages: {message}")
        }
        _ => failure.message(),
    };
    Refusal { message, users }
}
