//! The Vicuna v1 conversation of LLaVA-1.5 (`conv_vicuna_v1` in its source): no line breaks, a space after what the
//! person says, `</s>` after what the model says.

use super::{Message, Role};

const SYSTEM: &str = "A chat between a curious user and an artificial intelligence assistant. \
    The assistant gives helpful, detailed, and polite answers to the user's questions.";

/// The prompt as text. A system message replaces the usual preamble; the result of a tool reads like a user message.
pub(super) fn render(messages: &[Message], image_token: &str, add_generation_prompt: bool) -> String {
    let system = messages.iter().find(|message| message.role == Role::System);
    let mut prompt = system.map_or_else(|| SYSTEM.to_owned(), |message| message.flatten(image_token));
    prompt.push(' ');
    for message in messages {
        let text = message.flatten(image_token);
        match message.role {
            Role::System => {}
            Role::User | Role::Tool => prompt.extend(["USER: ", &text, " "]),
            Role::Assistant => prompt.extend(["ASSISTANT: ", &text, "</s>"]),
        }
    }
    if add_generation_prompt {
        prompt.push_str("ASSISTANT:");
    }
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_turns() {
        let messages = [
            Message::user("What is this?").with_images(1),
            Message::assistant("A cat."),
            Message::user("Which colour?"),
        ];
        assert_eq!(
            render(&messages, "<image>", true),
            format!(
                "{SYSTEM} USER: <image>\nWhat is this? ASSISTANT: A cat.</s>USER: Which colour? ASSISTANT:"
            )
        );
        assert_eq!(
            render(&[Message::system("Be brief."), Message::user("Hi")], "<image>", false),
            "Be brief. USER: Hi "
        );
    }
}
