//! What the server must know of a model: parts of it as they are, and the three things that the program does with its
//! tokenizer, template and image processor.

use std::sync::Arc;

use candle_core::Tensor;
use foveate_data::image::{Frame, Image, Size};
use foveate_data::prompt::Message;
use foveate_model::generate::Prompt;
use foveate_model::llm::Decoder;
use foveate_model::vlm::{Image as Pixels, Viewer};
use tokenizers::Tokenizer;

/// An open model that holds conversations.
pub trait Backend: Send + Sync + 'static {
    /// The language model.
    fn decoder(&self) -> &Arc<Decoder>;

    /// Its tokenizer.
    fn tokenizer(&self) -> &Tokenizer;

    /// The tokens that end an answer.
    fn end_tokens(&self) -> &[u32];

    /// The text that marks the place of an image in a message.
    fn image_token(&self) -> &str;

    /// The part that sees, where there is one.
    fn viewer(&self) -> Option<&Viewer>;

    /// An image as the tower reads it.
    ///
    /// # Errors
    /// An image that the model's processor cannot take.
    fn prepare(&self, image: &Image) -> Result<Pixels, Refusal>;

    /// Where the pictures that [`prepare`](Self::prepare) makes of an image of this size lie on it.
    fn frames(&self, size: Size) -> Vec<Frame>;

    /// A question as a compressor reads it.
    ///
    /// # Errors
    /// A question without text.
    fn question(&self, text: &str) -> Result<Vec<u32>, Refusal>;

    /// The prompt that asks for an answer to `messages`, with `images` (rows for the language model) at their places.
    ///
    /// # Errors
    /// Messages that the model's template refuses; more or fewer images than places.
    fn prompt(&self, messages: &[Message], images: &[Tensor]) -> Result<Asked, Refusal>;
}

/// A prompt and how much of it is text.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What the language model reads.
    pub prompt: Prompt,
    /// Positions that stand for text.
    pub text_tokens: usize,
}

/// Why a backend will not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// In words.
    pub message: String,
    /// Whether the request is to blame, rather than this machine.
    pub users: bool,
}
