//! Prompts: messages in, text with places for images out.
//!
//! A [`ChatTemplate`] is the one that a model was published with, or [`ChatTemplate::vicuna_v1`]. The image token
//! (`<image>` unless the model says otherwise) marks where an image's tokens go, in the person's text as well as in place
//! of [`Part::Image`]; the rendered prompt must hold as many as there are images. A model without sight reads it as any
//! other text ([`Reader::Tokenizer`]).

mod error;
mod json;
mod segments;
mod source;
mod template;
mod vicuna;

pub use error::PromptError;
pub use segments::{Prompt, Segment};
pub use template::{ChatTemplate, Clock, DEFAULT_IMAGE_TOKEN, Reader, RenderOptions};

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions that hold for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name that templates compare with.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text; an image token in what the person says counts as an image.
    Text(String),
    /// The next image.
    Image,
}

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<Part>,
}

impl Message {
    /// A message of text alone.
    pub fn new(role: Role, text: impl Into<String>) -> Message {
        Message { role, content: vec![Part::Text(text.into())] }
    }

    /// A system message.
    pub fn system(text: impl Into<String>) -> Message {
        Message::new(Role::System, text)
    }

    /// What the person says.
    pub fn user(text: impl Into<String>) -> Message {
        Message::new(Role::User, text)
    }

    /// What the model said.
    pub fn assistant(text: impl Into<String>) -> Message {
        Message::new(Role::Assistant, text)
    }

    /// The message with `count` images in front.
    pub fn with_images(mut self, count: usize) -> Message {
        self.content.splice(0..0, std::iter::repeat_n(Part::Image, count));
        self
    }

    /// Image parts, and image tokens in its text.
    fn image_count(&self, image_token: &str) -> usize {
        let count = |part: &Part| match part {
            Part::Image => 1,
            Part::Text(text) => text.matches(image_token).count(),
        };
        self.content.iter().map(count).sum()
    }

    /// Nobody but the person shows images: in other texts a space behind the first character of an image token keeps it
    /// a text.
    fn without_places(&mut self, image_token: &str) {
        let Some(first) = image_token.chars().next().filter(|_| self.role != Role::User) else { return };
        let broken = format!("{first} {}", &image_token[first.len_utf8()..]);
        for part in &mut self.content {
            if let Part::Text(text) = part {
                *text = text.replace(image_token, &broken);
            }
        }
    }

    /// One string, for templates that know nothing of parts: an image becomes its token on a line of its own.
    fn flatten(&self, image_token: &str) -> String {
        let text = |part: &Part| match part {
            Part::Image => format!("{image_token}\n"),
            Part::Text(text) => text.clone(),
        };
        self.content.iter().map(text).collect()
    }
}
