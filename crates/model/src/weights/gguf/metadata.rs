//! The key-value part of a GGUF file, with typed access.
//!
//! Arrays and strings stay in the file and are decoded when asked for: a vocabulary of 150,000 tokens costs nothing
//! until a tokenizer is built.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::cursor::Cursor;

/// The metadata of a GGUF file.
pub struct Metadata {
    bytes: Arc<Bytes>,
    /// Each value, and its bytes in the file.
    entries: BTreeMap<String, (Value, Range<usize>)>,
}

/// The type of a value, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    Text,
    Array,
    U64,
    I64,
    F64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Text,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// Bytes of a value; for those of varying length the least they can take.
    fn smallest(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::Text => 8,
            Self::Array => 12,
        }
    }
}

/// A value, or its place in the file.
#[derive(Debug, Clone)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(Range<usize>),
    Array { kind: Kind, count: usize, at: Range<usize> },
}

impl Value {
    fn describe(&self) -> String {
        match self {
            Self::Unsigned(value) => format!("the number {value}"),
            Self::Signed(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value:?}"),
            Self::Bool(value) => format!("{value}"),
            Self::Text(at) => format!("a text of {} bytes", at.len()),
            Self::Array { kind, count, .. } => format!("an array of {count} values of type {kind:?}"),
        }
    }
}

impl Metadata {
    /// Reads `count` pairs.
    pub(super) fn read(
        bytes: &Arc<Bytes>,
        cursor: &mut Cursor<'_>,
        count: usize,
    ) -> Result<Self, WeightsError> {
        let mut entries = BTreeMap::new();
        for index in 0..count {
            let key = cursor.text(|| format!("key {index} of {count}"))?;
            let field = || format!("metadata `{key}`");
            let kind = read_kind(bytes, cursor, &field)?;
            let start = cursor.position();
            let value = match kind {
                Kind::Array => read_array(bytes, cursor, &field)?,
                Kind::Text => Value::Text(cursor.text_range(field)?),
                _ => {
                    let at = cursor.skip(kind.smallest() as u64, field)?;
                    scalar(kind, &bytes[at]).ok_or_else(|| bytes.malformed(field(), "is not 0 or 1"))?
                }
            };
            if entries.insert(key.to_owned(), (value, start..cursor.position())).is_some() {
                return Err(bytes.malformed(field(), "is given twice"));
            }
        }
        Ok(Self { bytes: Arc::clone(bytes), entries })
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The value of `key`, or `None` if the file has no such key.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] naming the key if its value is of another type.
    pub fn get<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<Option<T>, WeightsError> {
        let Some((value, _)) = self.entries.get(key) else { return Ok(None) };
        match T::decode(&self.bytes, value) {
            Some(decoded) => Ok(Some(decoded)),
            None => Err(self.invalid(key, format!("is {}, expected {}", value.describe(), T::EXPECTED))),
        }
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] naming the key if there is none, or if its value is of another type.
    pub fn require<'a, T: FromMetadata<'a>>(&'a self, key: &str) -> Result<T, WeightsError> {
        self.get(key)?.ok_or_else(|| self.invalid(key, format!("is missing, expected {}", T::EXPECTED)))
    }

    /// Where the value of `key` lies in the file.
    pub(super) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.entries.get(key).map(|(_, at)| at.clone())
    }

    /// An error about `key`.
    pub(super) fn invalid(&self, key: &str, reason: impl Into<String>) -> WeightsError {
        self.bytes.malformed(format!("metadata `{key}`"), reason)
    }

    /// An error about a value of `key` that is sound but not one of `supported`.
    pub(super) fn unsupported(&self, key: &str, value: &str, supported: &str) -> WeightsError {
        WeightsError::Unsupported {
            file: self.bytes.file.clone(),
            field: format!("metadata `{key}`"),
            value: format!("`{}`", shorten(value)),
            supported: supported.to_owned(),
        }
    }
}

/// Text for an error message: a hostile file's token may be a gigabyte.
pub(in super::super) fn shorten(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(at, _)| &text[..at])
}

fn read_kind(
    bytes: &Bytes,
    cursor: &mut Cursor<'_>,
    field: &impl Fn() -> String,
) -> Result<Kind, WeightsError> {
    let number = cursor.u32(field)?;
    let kind = usize::try_from(number).ok().and_then(|number| Kind::ALL.get(number));
    kind.copied()
        .ok_or_else(|| bytes.malformed(field(), format!("has value type {number}, expected 0 to 12")))
}

fn read_array(
    bytes: &Bytes,
    cursor: &mut Cursor<'_>,
    field: &impl Fn() -> String,
) -> Result<Value, WeightsError> {
    let kind = read_kind(bytes, cursor, field)?;
    if kind == Kind::Array {
        return Err(WeightsError::Unsupported {
            file: bytes.file.clone(),
            field: field(),
            value: "an array of arrays".to_owned(),
            supported: "arrays of numbers, booleans and texts".to_owned(),
        });
    }
    let count = cursor.count(kind.smallest(), || format!("{}: the array's length", field()))?;
    let start = cursor.position();
    if kind == Kind::Text {
        for index in 0..count {
            cursor.text_range(|| format!("{}: text {index}", field()))?;
        }
    } else {
        // No overflow: `count` values were just found to fit the file.
        cursor.skip((count * kind.smallest()) as u64, field)?;
    }
    Ok(Value::Array { kind, count, at: start..cursor.position() })
}

/// Decodes a value of fixed length; `None` for a boolean that is neither 0 nor 1, and for the other kinds.
fn scalar(kind: Kind, bytes: &[u8]) -> Option<Value> {
    Some(match kind {
        Kind::U8 => Value::Unsigned(bytes.first().copied()?.into()),
        Kind::I8 => Value::Signed(i8::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::U16 => Value::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::I16 => Value::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::U32 => Value::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::I32 => Value::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::U64 => Value::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
        Kind::I64 => Value::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
        Kind::F32 => Value::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        Kind::F64 => Value::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
        Kind::Bool => match bytes {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return None,
        },
        Kind::Text | Kind::Array => return None,
    })
}

/// A type that a metadata value can be asked for as: whole numbers as `u64`, all numbers as `f64`, `bool`, `&str`, and
/// arrays of whole numbers (`Vec<i64>`), numbers (`Vec<f64>`) and texts (`Vec<&str>`).
pub trait FromMetadata<'a>: sealed::Decode<'a> {}

mod sealed {
    use super::{Bytes, Value};

    pub trait Decode<'a>: Sized {
        /// What a right value is, for errors.
        const EXPECTED: &'static str;
        #[expect(private_interfaces, reason = "sealed: only this module implements or calls it")]
        fn decode(bytes: &'a Bytes, value: &Value) -> Option<Self>;
    }
}

/// Implements [`FromMetadata`] from one function.
macro_rules! from_metadata {
    ($type:ty, $expected:literal, |$bytes:ident, $value:ident| $decode:expr) => {
        impl<'a> FromMetadata<'a> for $type {}

        impl<'a> sealed::Decode<'a> for $type {
            const EXPECTED: &'static str = $expected;

            #[expect(private_interfaces, reason = "sealed: only this module implements or calls it")]
            fn decode($bytes: &'a Bytes, $value: &Value) -> Option<Self> {
                $decode
            }
        }
    };
}

from_metadata!(u64, "a whole number, not negative", |_bytes, value| match value {
    Value::Unsigned(value) => Some(*value),
    Value::Signed(value) => u64::try_from(*value).ok(),
    _ => None,
});
from_metadata!(i64, "a whole number", |_bytes, value| match value {
    Value::Unsigned(value) => i64::try_from(*value).ok(),
    Value::Signed(value) => Some(*value),
    _ => None,
});
from_metadata!(f64, "a number", |_bytes, value| match value {
    Value::Unsigned(value) => Some(*value as f64),
    Value::Signed(value) => Some(*value as f64),
    Value::Float(value) => Some(*value),
    _ => None,
});
from_metadata!(bool, "true or false", |_bytes, value| match value {
    Value::Bool(value) => Some(*value),
    _ => None,
});
from_metadata!(&'a str, "a text in UTF-8", |bytes, value| match value {
    Value::Text(at) => std::str::from_utf8(&bytes[at.clone()]).ok(),
    _ => None,
});
from_metadata!(Vec<i64>, "an array of whole numbers", |bytes, value| scalars(bytes, value));
from_metadata!(Vec<f64>, "an array of numbers", |bytes, value| scalars(bytes, value));
from_metadata!(Vec<&'a str>, "an array of texts in UTF-8", |bytes, value| match value {
    Value::Array { kind: Kind::Text, count, at } => {
        let mut texts = Vec::with_capacity(*count);
        let mut rest = &bytes[at.clone()];
        while let Some((length, tail)) = rest.split_first_chunk() {
            // The lengths were checked when the file was opened.
            let (text, tail) = tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
            texts.push(std::str::from_utf8(text).ok()?);
            rest = tail;
        }
        Some(texts)
    }
    _ => None,
});

fn scalars<'a, T: sealed::Decode<'a>>(bytes: &'a Bytes, value: &Value) -> Option<Vec<T>> {
    match value {
        Value::Array { kind, at, .. } if !matches!(kind, Kind::Text | Kind::Array) => bytes[at.clone()]
            .chunks_exact(kind.smallest())
            .map(|chunk| T::decode(bytes, &scalar(*kind, chunk)?))
            .collect(),
        _ => None,
    }
}
