//! The messages of a chat request as the prompt's template wants them, and the images that they show.
//!
//! As in `foveate ask`, the images of a message stand in front of its text, unless the text says where with the model's image
//! token. A compressor that reads a question reads that of the message which shows the image, so that what an image becomes
//! stays the same for the rest of the conversation and is not computed again.

use foveate_data::prompt::{Message, Part, Role};
use serde_json::Value;

use super::error::{Answer, ApiError};
use super::types::{ChatMessage, ChatRole, Content, ContentPart};
use crate::images::Source;

/// The most messages and parts of one request: each costs time whatever it holds.
const MOST_MESSAGES: usize = 2048;
const MOST_PARTS: usize = 256;

/// A conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) messages: Vec<Message>,
    pub(crate) images: Vec<Shown>,
}

/// An image of a conversation.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) source: Source,
    /// The text that it was shown with, without image tokens.
    pub(crate) question: String,
    /// Where it stands in the request.
    pub(crate) param: String,
}

impl Conversation {
    /// `image_token` marks the place of an image in a text.
    ///
    /// # Errors
    /// What no message can be; more than `most_images` images.
    pub(crate) fn of(messages: Vec<ChatMessage>, image_token: &str, most_images: usize) -> Answer<Self> {
        if messages.is_empty() || messages.len() > MOST_MESSAGES {
            let message =
                format!("messages: {} of them, where 1 to {MOST_MESSAGES} are needed", messages.len());
            return Err(ApiError::field("messages", message));
        }
        let mut conversation = Self { messages: Vec::with_capacity(messages.len()), images: Vec::new() };
        for (nth, message) in messages.into_iter().enumerate() {
            conversation.add(message, &format!("messages[{nth}]"), image_token)?;
            if conversation.images.len() > most_images {
                let message = format!("more than {most_images} images, which is the most of a request");
                return Err(ApiError::field("messages", message).code("too_many_images"));
            }
        }
        conversation.borrow_questions();
        Ok(conversation)
    }

    fn add(&mut self, message: ChatMessage, at: &str, image_token: &str) -> Answer<()> {
        let field = |name: &str| format!("{at}.{name}");
        for (name, value) in [
            ("tool_calls", &message.tool_calls),
            ("function_call", &message.function_call),
            ("audio", &message.audio),
        ] {
            let empty = value.as_ref().is_none_or(|value| match value {
                Value::Null => true,
                Value::Array(list) => list.is_empty(),
                _ => false,
            });
            if !empty {
                return Err(ApiError::field(field(name), format!("{}: there is none", field(name))));
            }
        }
        let role = match message.role {
            ChatRole::System | ChatRole::Developer => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
            ChatRole::Tool => Role::Tool,
        };
        let parts = match message.content {
            Some(Content::Text(text)) => return self.push(role, text, Vec::new(), at, image_token),
            Some(Content::Parts(parts)) => parts,
            // What clients send back for an answer without text.
            None if role == Role::Assistant => Vec::new(),
            None => return Err(ApiError::field(field("content"), format!("{}: missing", field("content")))),
        };
        if parts.len() > MOST_PARTS {
            let message = format!("{at}.content has {} parts, at most {MOST_PARTS} are allowed", parts.len());
            return Err(ApiError::field(field("content"), message));
        }
        let (mut text, mut images) = (String::new(), Vec::new());
        for (nth, part) in parts.into_iter().enumerate() {
            let at = format!("{at}.content[{nth}]");
            match read(part, &at)? {
                Read::Text(piece) => text += &piece,
                Read::Image(_) if role != Role::User => {
                    return Err(ApiError::field(&at, format!("{at}: only the user shows images")));
                }
                Read::Image(source) => images.push((source, at)),
            }
        }
        self.push(role, text, images, at, image_token)
    }

    fn push(
        &mut self,
        role: Role,
        text: String,
        images: Vec<(Source, String)>,
        at: &str,
        image_token: &str,
    ) -> Answer<()> {
        let places = text.matches(image_token).count();
        let mut content = Vec::new();
        if !images.is_empty() && places > 0 && places != images.len() {
            let message = format!(
                "{at} shows {} images and has {places} places for one ({image_token:?}); without any the images come first",
                images.len()
            );
            return Err(ApiError::field(format!("{at}.content"), message));
        }
        if places == 0 {
            content.extend(images.iter().map(|_| Part::Image));
        }
        let question = text.replace(image_token, " ");
        content.push(Part::Text(text));
        self.messages.push(Message { role, content });
        let shown = |(source, param)| Shown { source, question: question.clone(), param };
        self.images.extend(images.into_iter().map(shown));
        Ok(())
    }

    /// An image that was shown without a word belongs to the question that comes after it.
    fn borrow_questions(&mut self) {
        let places = |message: &Message, image: usize| {
            // Images are counted in the order of the messages that show them.
            let own = message.content.iter().filter(|part| **part == Part::Image).count();
            image < own
        };
        for at in 0..self.images.len() {
            if !self.images[at].question.trim().is_empty() {
                continue;
            }
            let mut left = at;
            let mut messages = self.messages.iter();
            for message in messages.by_ref() {
                if places(message, left) {
                    break;
                }
                left -= message.content.iter().filter(|part| **part == Part::Image).count();
            }
            let texts = messages.filter(|message| message.role == Role::User).map(text);
            if let Some(question) = texts.into_iter().find(|text| !text.trim().is_empty()) {
                self.images[at].question = question;
            }
        }
    }
}

fn text(message: &Message) -> String {
    let texts = message.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image => None,
    });
    texts.collect()
}

enum Read {
    Text(String),
    Image(Source),
}

fn read(part: ContentPart, at: &str) -> Answer<Read> {
    let ContentPart { kind, text, image_url, file } = part;
    match (kind.as_str(), text, image_url, file) {
        ("text", Some(text), None, None) => Ok(Read::Text(text)),
        ("image_url", None, Some(image), None) => {
            Source::of_url(image.url).map(Read::Image).map_err(|told| {
                ApiError::field(format!("{at}.image_url.url"), format!("{at}.image_url.url: {told}"))
            })
        }
        ("file", None, None, Some(file)) => Source::of_file(&file.file_id).map(Read::Image).map_err(|told| {
            ApiError::field(format!("{at}.file.file_id"), format!("{at}.file.file_id: {told}"))
        }),
        ("text" | "image_url" | "file", ..) => {
            let message = format!("{at}: a part of type {kind:?} has the field {kind:?} and no other");
            Err(ApiError::field(at, message))
        }
        _ => {
            let kind: String = kind.chars().take(40).collect();
            let message = format!("{at}.type is {kind:?}: must be text, image_url or file");
            Err(ApiError::field(format!("{at}.type"), message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const FILE: &str = "file-0123456789abcdef01234567";

    fn of(messages: Value) -> Answer<Conversation> {
        Conversation::of(serde_json::from_value(messages).unwrap(), "<image>", 3)
    }

    fn image() -> Value {
        json!({"type": "image_url", "image_url": {"url": FILE}})
    }

    fn says(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    #[test]
    fn images_come_first_or_where_the_text_says() {
        let found = of(json!([{"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [says("What is this?"), image()]},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": [image(), says("And <image> or <image>?"), {"type": "file",
                "file": {"file_id": FILE}}]}]))
        .unwrap();
        assert_eq!(found.messages[0], Message::system("Be brief."));
        assert_eq!(found.messages[1], Message::user("What is this?").with_images(1));
        assert_eq!(found.messages[3], Message::user("And <image> or <image>?"));
        let questions: Vec<&str> = found.images.iter().map(|image| image.question.as_str()).collect();
        assert_eq!(questions, ["What is this?", "And   or  ?", "And   or  ?"]);
        assert_eq!(found.images[2].param, "messages[3].content[2]");
    }

    #[test]
    fn an_image_without_a_word_belongs_to_the_next_question() {
        let found = of(json!([{"role": "user", "content": [says("One."), image()]},
            {"role": "user", "content": [image()]}, {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "What is it?"}, {"role": "user", "content": "Well?"}]))
        .unwrap();
        assert_eq!(found.images[0].question, "One.");
        assert_eq!(found.images[1].question, "What is it?");
    }

    #[test]
    fn what_no_message_can_be_is_named() {
        let user = |content: Value| json!([{"role": "user", "content": content}]);
        for (messages, param) in [
            (json!([]), "messages"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (user(json!([{"type": "video", "text": "x"}])), "messages[0].content[0].type"),
            (user(json!([{"type": "text"}])), "messages[0].content[0]"),
            (
                user(json!([{"type": "text", "text": "x", "image_url": {"url": FILE}}])),
                "messages[0].content[0]",
            ),
            (
                user(json!([{"type": "image_url", "image_url": {"url": "ftp://x/y"}}])),
                "messages[0].content[0].image_url.url",
            ),
            (
                user(json!([{"type": "file", "file": {"file_id": "../../etc/passwd"}}])),
                "messages[0].content[0].file.file_id",
            ),
            (user(json!([image(), says("<image> <image>")])), "messages[0].content"),
            (user(json!([image(), image(), image(), image()])), "messages"),
            (json!([{"role": "system", "content": [image()]}]), "messages[0].content[0]"),
            (json!([{"role": "assistant", "tool_calls": [{}]}]), "messages[0].tool_calls"),
        ] {
            let error = of(messages.clone()).unwrap_err();
            let body = serde_json::to_value(error.body()).unwrap();
            assert_eq!(body["error"]["param"], param, "{messages}: {body}");
        }
    }
}
