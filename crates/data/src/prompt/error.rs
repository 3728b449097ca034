//! What can go wrong between a conversation and its prompt.

/// A chat template that cannot be used, or messages it cannot render.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// A file of the model cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// Path of the file.
        file: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A file of the model is larger than any such file needs to be.
    #[error("{file}: has more than {allowed} bytes, which no chat template needs")]
    TooLarge {
        /// Path of the file.
        file: String,
        /// Bytes that are read at most.
        allowed: u64,
    },
    /// A file of the model is no JSON.
    #[error("{file}: {source}")]
    Json {
        /// Path or name of the file.
        file: String,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A field has another form than tokenizers write.
    #[error("{file}: `{field}` is {found}, allowed are {allowed}")]
    Field {
        /// Path or name of the file.
        file: String,
        /// Name of the field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The template has an error, or fails on these messages.
    #[error("chat template of {file}: {reason}")]
    Template {
        /// Path or name of the file it came from.
        file: String,
        /// Kind of error, line and reason.
        reason: String,
    },
    /// The template itself refuses the messages (its `raise_exception`).
    #[error("the chat template of {file} refuses these messages: {message}")]
    Refused {
        /// Path or name of the file it came from.
        file: String,
        /// The template's words.
        message: String,
    },
    /// The image token must not be empty, or every prompt would be full of it.
    #[error("the image token is empty; LLaVA's is <image>")]
    EmptyImageToken,
    /// Images to place, but no user message to put them in.
    #[error("{} given, but no user message to show before", count(*images, "image was", "images were"))]
    NoUserMessage {
        /// Images given.
        images: usize,
    },
    /// The prompt has more or fewer places than there are images.
    #[error("{} given, but the prompt has {} for one (`{image_token}`)", count(*images, "image was", "images were"), count(*places, "place", "places"))]
    ImageCount {
        /// Images given.
        images: usize,
        /// Image tokens in the messages or the rendered prompt.
        places: usize,
        /// The token that marks a place.
        image_token: String,
    },
}

fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}
