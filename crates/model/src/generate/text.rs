//! Tokens to text as they come, in whole characters.

use std::collections::HashSet;

use tokenizers::Tokenizer;

use crate::{ModelError, Result};

/// Turns a stream of tokens into a stream of text that, joined, equals decoding all tokens at once (special tokens left
/// out).
///
/// A token's text depends on its neighbours: a character may be spread over several tokens, and decoders strip a space at
/// the very start. So each step decodes a short window, from the start of the piece shown last, and shows what has been
/// added, once it ends with a whole character.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens that stand for single bytes (`<0x0A>`). A run of them is decoded as a whole: one invalid byte turns all of
    /// the run into replacement characters, so it is shown when it has ended.
    bytes: HashSet<u32>,
    /// Tokens that a decode leaves out, so that they do not end a run of bytes.
    special: HashSet<u32>,
    /// Whether the last token that counts is such a byte.
    in_bytes: bool,
    tokens: Vec<u32>,
    /// Where the window starts.
    window: usize,
    /// Up to where the tokens are shown.
    shown: usize,
    /// The text of `tokens[window..shown]`.
    before: String,
}

impl<'a> TextStream<'a> {
    /// A stream that has seen nothing.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        let bytes =
            (0..=255_u8).filter_map(|byte| tokenizer.token_to_id(&format!("<0x{byte:02X}>"))).collect();
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        Self {
            tokenizer,
            bytes,
            special,
            in_bytes: false,
            tokens: Vec::new(),
            window: 0,
            shown: 0,
            before: String::new(),
        }
    }

    /// Adds a token and returns the text that is certain now, often that of the token, sometimes nothing.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] when the tokenizer cannot decode.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        if !self.special.contains(&token) {
            self.in_bytes = self.bytes.contains(&token);
        }
        let text = self.decode(self.window)?;
        if self.in_bytes || text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.show(&text)
    }

    /// The rest, when no token follows: here half a character shows as U+FFFD, as a full decode has it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<String> {
        let text = self.decode(self.window)?;
        self.show(&text)
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn show(&mut self, text: &str) -> Result<String> {
        let added = text.strip_prefix(self.before.as_str()).unwrap_or_default().to_owned();
        let alone = self.decode(self.shown)?;
        if alone.is_empty() {
            // A window without text (a stripped space, a special token) would make the next piece look like the start.
            self.before = text.to_owned();
        } else {
            self.window = self.shown;
            self.before = alone;
        }
        self.shown = self.tokens.len();
        Ok(added)
    }

    fn decode(&self, start: usize) -> Result<String> {
        self.tokenizer
            .decode(&self.tokens[start..], true)
            .map_err(|error| ModelError::Tokenizer { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    fn tokenizer(vocabulary: Vec<String>, decoder: Value) -> Tokenizer {
        let unknown = vocabulary.len();
        let vocabulary: Map<String, Value> =
            vocabulary.into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
        let text = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": decoder,
            "added_tokens": [{"id": unknown, "content": "<|end|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}],
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                "merges": []}
        });
        Tokenizer::from_bytes(text.to_string()).unwrap()
    }

    /// GPT-2's way: every byte is a printable character of the vocabulary; tokens cut characters anywhere.
    fn byte_level() -> Tokenizer {
        let shifted: Vec<u8> =
            (0..=255_u8).filter(|byte| !matches!(byte, 33..=126 | 161..=172 | 174..=255)).collect();
        let printable = |byte: u8| match shifted.iter().position(|other| *other == byte) {
            Some(place) => char::from_u32(256 + place as u32).unwrap(),
            None => char::from(byte),
        };
        let mut vocabulary: Vec<String> = (0..=255).map(|byte| printable(byte).to_string()).collect();
        for bytes in [&b"\xF0\x9F"[..], b"\x98\x80", b" the", b"\xC3\xA9t\xC3", b"\x80\xE2\x82"] {
            vocabulary.push(bytes.iter().map(|byte| printable(*byte)).collect());
        }
        tokenizer(
            vocabulary,
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
            "use_regex": false}),
        )
    }

    /// Llama's way: words with a marked space, single bytes where a word is not known, the first space stripped.
    fn byte_fallback() -> Tokenizer {
        let mut vocabulary: Vec<String> = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>")).collect();
        vocabulary.extend(["▁", "▁a", "b", "é", "▁▁", "."].map(str::to_owned));
        tokenizer(
            vocabulary,
            json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        )
    }

    fn pieces(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new(tokenizer);
        let mut pieces: Vec<String> = tokens.iter().map(|token| stream.push(*token).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn an_emoji_over_two_tokens_comes_whole() {
        assert_eq!(pieces(&byte_level(), &[258, 256, 257, 33]), [" the", "", "😀", "!", ""]);
        let bytes = [0xF0, 0x9F, 0x98, 0x80, 261];
        assert_eq!(pieces(&byte_fallback(), &bytes), ["", "", "", "", "😀.", ""]);
    }

    #[test]
    fn half_a_character_shows_only_at_the_end() {
        assert_eq!(pieces(&byte_level(), &[33, 256]), ["!", "", "\u{FFFD}"]);
    }

    #[test]
    fn a_space_after_a_stripped_or_special_start_is_kept() {
        // ▁ alone decodes to nothing; the space of ▁a behind it must not be stripped with it.
        assert_eq!(pieces(&byte_fallback(), &[256, 257, 257]), ["", " a", " a", ""]);
        assert_eq!(pieces(&byte_fallback(), &[258, 262, 257]).concat(), "b a");
    }

    proptest! {
        #[test]
        fn joined_text_equals_a_full_decode(
            byte_level_tokens in prop::collection::vec(0_u32..262, 0..24),
            fallback_tokens in prop::collection::vec(prop_oneof![0_u32..256, 256_u32..263, Just(0xC3), Just(0xA9)], 0..24),
        ) {
            for (tokenizer, tokens) in [(byte_level(), byte_level_tokens), (byte_fallback(), fallback_tokens)] {
                let pieces = pieces(&tokenizer, &tokens);
                prop_assert_eq!(pieces.concat(), tokenizer.decode(&tokens, true).unwrap());
            }
        }

        #[test]
        fn real_text_never_shows_a_replacement_character(text in "\\PC{0,20}") {
            let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
            for tokenizer in [byte_level(), byte_fallback()] {
                let pieces = pieces(&tokenizer, &tokens);
                let broken = pieces.iter().any(|piece| piece.contains(char::REPLACEMENT_CHARACTER));
                prop_assert_eq!(broken, text.contains(char::REPLACEMENT_CHARACTER));
            }
        }
    }
}
