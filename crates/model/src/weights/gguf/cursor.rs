//! Reads little-endian values off a byte slice; running past the end is an error that names the field.

use std::ops::Range;

use super::super::WeightsError;
use super::super::bytes::Bytes;

pub(super) struct Cursor<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Steps over `length` bytes and gives their place. `field` is only called for the error.
    pub(super) fn skip(
        &mut self,
        length: u64,
        field: impl Fn() -> String,
    ) -> Result<Range<usize>, WeightsError> {
        let remaining = self.remaining();
        match usize::try_from(length).ok().filter(|length| *length <= remaining) {
            Some(length) => {
                let range = self.at..self.at + length;
                self.at = range.end;
                Ok(range)
            }
            None => Err(self.bytes.malformed(
                field(),
                format!("needs {length} bytes at offset {}, but {remaining} are left in the file", self.at),
            )),
        }
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: impl Fn() -> String,
    ) -> Result<[u8; N], WeightsError> {
        let range = self.skip(N as u64, field)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self, field: impl Fn() -> String) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    pub(super) fn u64(&mut self, field: impl Fn() -> String) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// A count whose items take at least `smallest_item` bytes each, checked against what is left of the file, so that
    /// the caller may allocate for it.
    pub(super) fn count(
        &mut self,
        smallest_item: usize,
        field: impl Fn() -> String,
    ) -> Result<usize, WeightsError> {
        let count = self.u64(&field)?;
        let most = self.remaining() / smallest_item;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or_else(|| {
            self.bytes.malformed(
                field(),
                format!("is {count}, but the rest of the file has room for at most {most}"),
            )
        })
    }

    /// The place of a length-prefixed string.
    pub(super) fn text_range(&mut self, field: impl Fn() -> String) -> Result<Range<usize>, WeightsError> {
        let length = self.u64(&field)?;
        self.skip(length, field)
    }

    pub(super) fn text(&mut self, field: impl Fn() -> String) -> Result<&'a str, WeightsError> {
        let range = self.text_range(&field)?;
        let bytes: &'a Bytes = self.bytes;
        std::str::from_utf8(&bytes[range])
            .map_err(|error| bytes.malformed(field(), format!("is not UTF-8: {error}")))
    }
}
