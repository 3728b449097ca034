//! SentencePiece's `tokenizer.model`: the protobuf message `ModelProto`, as far as Llama's vocabularies use it.
//!
//! Field numbers: `sentencepiece_model.proto` of the SentencePiece repository.

use std::collections::HashMap;
use std::ops::Range;

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::super::protobuf::{Broken, Field, Fields, Value};
use super::Kind;

/// The longest file that is read, in bytes; the largest published vocabularies have some five million.
const LONGEST: usize = 32 << 20;

/// A vocabulary that was trained as byte-pair encoding.
pub(super) struct Model<'a> {
    pub(super) tokens: Vec<&'a str>,
    pub(super) kinds: Vec<Kind>,
    pub(super) scores: Vec<f64>,
    pub(super) index_of: HashMap<&'a str, usize>,
    /// Whether SentencePiece itself puts a space before a text.
    pub(super) dummy_prefix: bool,
    /// Beginning and end of a text, if there are such tokens.
    pub(super) beginning: Option<u32>,
    pub(super) end: Option<u32>,
}

impl<'a> Model<'a> {
    pub(super) fn read(bytes: &'a Bytes) -> Result<Self, WeightsError> {
        if bytes.len() > LONGEST {
            return Err(
                bytes.malformed("file", format!("has {} bytes, at most {LONGEST} are read", bytes.len()))
            );
        }
        let mut model = Self {
            tokens: Vec::new(),
            kinds: Vec::new(),
            scores: Vec::new(),
            index_of: HashMap::new(),
            dummy_prefix: true,
            beginning: None,
            end: None,
        };
        let (mut trainer, mut normaliser) = (None, None);
        for field in Fields::new(bytes, 0..bytes.len()) {
            match field.map_err(broken(bytes, "ModelProto"))? {
                Field { number: 1, value: Value::Bytes(at) } => model.piece(bytes, at)?,
                Field { number: 2, value: Value::Bytes(at) } => trainer = Some(at),
                Field { number: 3, value: Value::Bytes(at) } => normaliser = Some(at),
                _ => {}
            }
        }
        if model.tokens.is_empty() {
            return Err(bytes.malformed("pieces", "has none: this is no SentencePiece model"));
        }
        // What is missing has the format's default values.
        model.trainer(bytes, trainer.unwrap_or(0..0))?;
        model.normaliser(bytes, normaliser.unwrap_or(0..0))?;
        Ok(model)
    }

    fn piece(&mut self, bytes: &'a Bytes, at: Range<usize>) -> Result<(), WeightsError> {
        let index = self.tokens.len();
        let field = || format!("piece {index}");
        let (mut text, mut score, mut kind) = ("", 0.0, Kind::Normal);
        for part in Fields::new(bytes, at) {
            match part.map_err(broken(bytes, &field()))? {
                Field { number: 1, value: Value::Bytes(at) } => {
                    text = std::str::from_utf8(&bytes[at])
                        .map_err(|error| bytes.malformed(field(), format!("is not UTF-8: {error}")))?;
                }
                Field { number: 2, value: Value::Fixed(at) } if at.len() == 4 => {
                    let number =
                        bytes[at].as_chunks().0.first().map_or(0.0, |number| f32::from_le_bytes(*number));
                    score = f64::from(number);
                }
                Field { number: 3, value: Value::Varint(number) } => {
                    kind = Kind::numbered(number).ok_or_else(|| {
                        bytes.malformed(field(), format!("has type {number}, expected {}", Kind::NUMBERS))
                    })?;
                }
                _ => {}
            }
        }
        if score.is_nan() {
            return Err(bytes.malformed(field(), "has a score that is not a number"));
        }
        if let Some(first) = self.index_of.insert(text, index) {
            let reason = format!("is `{}`, as piece {first} is", super::super::gguf::shorten(text));
            return Err(bytes.malformed(field(), reason));
        }
        self.tokens.push(text);
        self.scores.push(score);
        self.kinds.push(kind);
        Ok(())
    }

    fn trainer(&mut self, bytes: &Bytes, at: Range<usize>) -> Result<(), WeightsError> {
        let (mut kind, mut beginning, mut end, mut suffix) = (1, 1, 2, 0);
        for field in Fields::new(bytes, at) {
            if let Field { number, value: Value::Varint(value) } =
                field.map_err(broken(bytes, "trainer_spec"))?
            {
                match number {
                    3 => kind = value,
                    24 => suffix = value,
                    41 => beginning = value,
                    42 => end = value,
                    _ => {}
                }
            }
        }
        if kind != 2 {
            let kinds = ["unknown", "unigram", "bpe", "word", "char"];
            let name = usize::try_from(kind).ok().and_then(|kind| kinds.get(kind)).unwrap_or(&kinds[0]);
            return Err(unsupported(bytes, "trainer_spec.model_type", format!("{kind} ({name})"), "2 (bpe)"));
        }
        if suffix != 0 {
            let field = "trainer_spec.treat_whitespace_as_suffix";
            return Err(unsupported(bytes, field, "true".to_owned(), "false"));
        }
        // −1 stands for none.
        let id = |value: u64| u32::try_from(value).ok().filter(|id| (*id as usize) < self.tokens.len());
        (self.beginning, self.end) = (id(beginning), id(end));
        Ok(())
    }

    fn normaliser(&mut self, bytes: &Bytes, at: Range<usize>) -> Result<(), WeightsError> {
        let (mut removes, mut escapes) = (true, true);
        for field in Fields::new(bytes, at) {
            match field.map_err(broken(bytes, "normalizer_spec"))? {
                Field { number: 2, value: Value::Bytes(map) } if !map.is_empty() => {
                    let field = "normalizer_spec.precompiled_charsmap";
                    let value = format!("a table of {} bytes", map.len());
                    return Err(unsupported(bytes, field, value, "none (`identity`)"));
                }
                Field { number: 3, value: Value::Varint(value) } => self.dummy_prefix = value != 0,
                Field { number: 4, value: Value::Varint(value) } => removes = value != 0,
                Field { number: 5, value: Value::Varint(value) } => escapes = value != 0,
                _ => {}
            }
        }
        for (field, found, supported) in
            [("remove_extra_whitespaces", removes, false), ("escape_whitespaces", escapes, true)]
        {
            if found != supported {
                let field = format!("normalizer_spec.{field}");
                return Err(unsupported(bytes, &field, found.to_string(), &supported.to_string()));
            }
        }
        Ok(())
    }
}

fn broken(bytes: &Bytes, message: &str) -> impl FnOnce(Broken) -> WeightsError {
    let (file, message) = (bytes.file.clone(), message.to_owned());
    move |broken| WeightsError::malformed(&file, message, broken.to_string())
}

fn unsupported(bytes: &Bytes, field: &str, value: String, supported: &str) -> WeightsError {
    WeightsError::Unsupported {
        file: bytes.file.clone(),
        field: field.to_owned(),
        value,
        supported: supported.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn fixture() -> Vec<u8> {
        std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sentencepiece/tokenizer.model"),
        )
        .unwrap()
    }

    fn error(bytes: Vec<u8>) -> String {
        Model::read(&Bytes::held("tokenizer.model", bytes)).err().unwrap().to_string()
    }

    /// A message of one field that holds another.
    fn nested(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn a_vocabulary_of_llamas_kind() {
        let bytes = Bytes::held("tokenizer.model", fixture());
        let model = Model::read(&bytes).unwrap();
        assert_eq!(model.tokens[..4], ["<unk>", "<s>", "</s>", "<0x00>"]);
        assert_eq!(model.kinds[..4], [Kind::Unknown, Kind::Control, Kind::Control, Kind::Byte]);
        assert_eq!((model.tokens.len(), model.beginning, model.end), (384, Some(1), Some(2)));
        assert!(model.dummy_prefix && model.scores[300] < 0.0);
    }

    #[test]
    fn other_kinds_are_named() {
        let piece = nested(1, &nested(1, b"a"));
        let bpe = nested(2, &[3 << 3, 2]);
        let plain = nested(3, &[4 << 3, 0]);
        let with = |parts: &[&[u8]]| error([&[&piece[..]], parts].concat().concat());
        assert!(Model::read(&Bytes::held("", [&piece[..], &bpe, &plain].concat())).is_ok());
        for (parts, wanted) in [
            (
                &[][..],
                "tokenizer.model: trainer_spec.model_type: 1 (unigram) is not supported; supported: 2 (bpe)",
            ),
            (
                &[&bpe[..]],
                "normalizer_spec.remove_extra_whitespaces: true is not supported; supported: false",
            ),
            (
                &[&bpe, &nested(3, &nested(2, b"map"))],
                "normalizer_spec.precompiled_charsmap: a table of 3 bytes",
            ),
            (&[&bpe, &nested(3, &[4 << 3, 0, 5 << 3, 0])], "escape_whitespaces: false is not supported"),
            (&[&nested(2, &[3 << 3, 2, 24 << 3 & 0x7f | 0x80, 1, 1])], "treat_whitespace_as_suffix: true"),
            (&[&piece], "piece 1: is `a`, as piece 0 is"),
            (&[&nested(1, &[3 << 3, 9])], "piece 1: has type 9, expected 1 to 6"),
            (&[&nested(1, &[2 << 3 | 5, 0, 0, 0xc0, 0x7f])], "piece 1: has a score that is not a number"),
            (&[&nested(1, &nested(1, b"\xff"))], "piece 1: is not UTF-8"),
            (&[&[0x0a]], "ModelProto: a varint at byte"),
        ] {
            let message = with(parts);
            assert!(message.contains(wanted), "{message} lacks {wanted}");
        }
        assert!(error(Vec::new()).contains("pieces: has none: this is no SentencePiece model"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn mutated_and_cut_files_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            length in any::<prop::sample::Index>(),
        ) {
            let mut bytes = fixture();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            if let Err(error) = Model::read(&Bytes::held("tokenizer.model", bytes)) {
                prop_assert!(error.to_string().starts_with("tokenizer.model: "));
            }
        }
    }
}
