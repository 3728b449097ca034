//! The rendered prompt, cut at the places where images go.

use super::PromptError;

/// A piece of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Text to tokenise, never empty.
    Text(String),
    /// The tokens of image `n`, counted from 0.
    Image(usize),
}

/// A rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Text and images in order.
    pub segments: Vec<Segment>,
    /// Whether the tokenizer should still add its special tokens (the beginning-of-sequence token) to the whole. False
    /// where the template writes them itself.
    pub add_special_tokens: bool,
}

impl Prompt {
    /// A prompt without images.
    pub(super) fn plain(text: String) -> Vec<Segment> {
        if text.is_empty() { Vec::new() } else { vec![Segment::Text(text)] }
    }

    /// Cuts `text` at each `image_token` and checks their number.
    pub(super) fn cut(text: &str, image_token: &str, images: usize) -> Result<Vec<Segment>, PromptError> {
        let places = text.matches(image_token).count();
        if places != images {
            return Err(PromptError::ImageCount { images, places, image_token: image_token.to_owned() });
        }
        let mut segments = Vec::with_capacity(2 * images + 1);
        for (index, piece) in text.split(image_token).enumerate() {
            if index > 0 {
                segments.push(Segment::Image(index - 1));
            }
            if !piece.is_empty() {
                segments.push(Segment::Text(piece.to_owned()));
            }
        }
        Ok(segments)
    }

    /// The prompt as one string again, each image as `image_token`.
    pub fn text(&self, image_token: &str) -> String {
        let piece = |segment: &Segment| match segment {
            Segment::Text(text) => text.clone(),
            Segment::Image(_) => image_token.to_owned(),
        };
        self.segments.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn images_land_in_their_places() {
        let text = |text: &str| Segment::Text(text.to_owned());
        assert_eq!(
            Prompt::cut("<image><image>a<image>", "<image>", 3).unwrap(),
            [Segment::Image(0), Segment::Image(1), text("a"), Segment::Image(2)]
        );
        let error = Prompt::cut("a <image> b", "<image>", 2).unwrap_err().to_string();
        assert_eq!(error, "2 images were given, but the prompt has 1 place for one (`<image>`)");
    }

    proptest! {
        #[test]
        fn cutting_and_joining_is_the_identity(pieces in prop::collection::vec("[<>imagé\\n]{0,9}", 1..6)) {
            let text = pieces.join("<image>");
            let images = text.matches("<image>").count();
            let segments = Prompt::cut(&text, "<image>", images).unwrap();
            let places = segments.iter().filter(|segment| matches!(segment, Segment::Image(_))).count();
            prop_assert_eq!(places, images);
            prop_assert_eq!(Prompt { segments, add_special_tokens: false }.text("<image>"), text);
        }
    }
}
