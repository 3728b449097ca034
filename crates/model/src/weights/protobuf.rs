//! The protobuf wire format, as far as finding fields in messages goes.
//!
//! A message is a run of fields: a varint of field number and wire type, then a varint, 4 bytes, 8 bytes, or a length and
//! that many bytes. Nothing is copied; fields are places in the file. Source: protobuf's encoding specification.

use std::ops::Range;

/// A field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Varint(u64),
    /// Four or eight bytes.
    Fixed(Range<usize>),
    /// A message, a text, bytes, or packed numbers.
    Bytes(Range<usize>),
}

/// What is wrong with a message, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("a varint at byte {0} is cut short or longer than 64 bits")]
    Varint(usize),
    #[error("the field at byte {at} needs {length} bytes, but its message has {left} left")]
    Length { at: usize, length: u64, left: usize },
    #[error("the field at byte {at} has wire type {wire_type}, expected 0, 1, 2 or 5")]
    WireType { at: usize, wire_type: u64 },
}

/// The fields of the message at `at`, in order.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// `at` must lie within `bytes`.
    pub(super) fn new(bytes: &'a [u8], at: Range<usize>) -> Self {
        Self { bytes, at: at.start, end: at.end }
    }

    /// A varint: seven bits a byte, lowest first, the top bit set on all but the last.
    pub(super) fn varint(&mut self) -> Result<u64, Broken> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes[..self.end].get(self.at).ok_or(Broken::Varint(start))?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(Broken::Varint(start));
            }
            value |= bits << shift;
            self.at += 1;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Broken::Varint(start))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    fn take(&mut self, length: u64) -> Result<Range<usize>, Broken> {
        let left = self.end - self.at;
        let taken = usize::try_from(length).ok().filter(|length| *length <= left);
        let taken = taken.ok_or(Broken::Length { at: self.at, length, left })?;
        let range = self.at..self.at + taken;
        self.at = range.end;
        Ok(range)
    }

    fn field(&mut self) -> Result<Field, Broken> {
        let at = self.at;
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed(self.take(4)?),
            // 3 and 4 are groups, which neither ONNX nor SentencePiece uses.
            wire_type => return Err(Broken::WireType { at, wire_type }),
        };
        Ok(Field { number: key >> 3, value })
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // What follows a broken field has no meaning.
            self.at = self.end;
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Vec<Result<Field, Broken>> {
        Fields::new(bytes, 0..bytes.len()).collect()
    }

    #[test]
    fn the_specification_s_examples() {
        // Field 1 = 150; field 2 = "testing".
        let found = fields(&[0x08, 0x96, 0x01, 0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6E, 0x67]);
        let expected = [
            Ok(Field { number: 1, value: Value::Varint(150) }),
            Ok(Field { number: 2, value: Value::Bytes(5..12) }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_does_not_fit_is_refused_once() {
        assert_eq!(fields(&[0x08, 0x96]), [Err(Broken::Varint(1))]);
        // 2^64 and more.
        let mut long = vec![0x08];
        long.extend([0xFF; 9]);
        long.push(0x02);
        assert_eq!(fields(&long), [Err(Broken::Varint(1))]);
        assert_eq!(fields(&[0x12, 0x05, 0x00]), [Err(Broken::Length { at: 2, length: 5, left: 1 })]);
        assert_eq!(fields(&[0x0B]), [Err(Broken::WireType { at: 0, wire_type: 3 })]);
    }
}
