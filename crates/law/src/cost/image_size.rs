//! The size in pixels of the pictures that a tower reads.

use std::fmt;

use serde::de::{Error, IgnoredAny, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Height and width in pixels. In files a number for a square, `[height, width]` for a rectangle, as transformers writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImageSize {
    /// From top to bottom.
    pub height: usize,
    /// From left to right.
    pub width: usize,
}

impl ImageSize {
    /// `height` by `width`.
    pub fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    /// The side, where it is a square.
    pub fn side(self) -> Option<usize> {
        (self.height == self.width).then_some(self.height)
    }

    /// Whole patches of `patch` pixels from top to bottom and from left to right.
    pub fn grid(self, patch: usize) -> (usize, usize) {
        let along = |length: usize| length.checked_div(patch).unwrap_or(0);
        (along(self.height), along(self.width))
    }
}

impl From<usize> for ImageSize {
    fn from(side: usize) -> Self {
        Self::new(side, side)
    }
}

impl Serialize for ImageSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.side() {
            Some(side) => side.serialize(serializer),
            None => [self.height, self.width].serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ImageSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = ImageSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("image_size as a number of pixels or [height, width]")
    }

    fn visit_u64<E: Error>(self, side: u64) -> Result<ImageSize, E> {
        let side = usize::try_from(side);
        side.map(ImageSize::from).map_err(|_| E::invalid_value(Unexpected::Other("so many pixels"), &self))
    }

    fn visit_i64<E: Error>(self, side: i64) -> Result<ImageSize, E> {
        match u64::try_from(side) {
            Ok(side) => self.visit_u64(side),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(side), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<ImageSize, A::Error> {
        let (height, width) = (sides.next_element()?, sides.next_element()?);
        match (height, width, sides.next_element::<IgnoredAny>()?) {
            (Some(height), Some(width), None) => Ok(ImageSize { height, width }),
            (_, None, _) => Err(A::Error::invalid_length(usize::from(height.is_some()), &self)),
            _ => Err(A::Error::invalid_length(3, &self)),
        }
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.height, self.width)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn squares_are_numbers_and_rectangles_pairs() {
        for (size, text) in [(ImageSize::from(336), "336"), (ImageSize::new(84, 336), "[84,336]")] {
            assert_eq!(serde_json::to_string(&size).unwrap(), text);
            assert_eq!(serde_json::from_str::<ImageSize>(text).unwrap(), size);
        }
        for (text, found) in [
            ("[1, 2, 3]", "length 3"),
            ("[1]", "length 1"),
            ("\"336\"", "\"336\""),
            ("-1", "`-1`"),
            ("{}", "map"),
        ] {
            let error = serde_json::from_str::<ImageSize>(text).unwrap_err().to_string();
            assert!(
                error.contains(found) && error.contains("a number of pixels or [height, width]"),
                "{error}"
            );
        }
        assert_eq!(ImageSize::new(84, 336).grid(14), (6, 24));
        assert_eq!(ImageSize::new(84, 336).grid(0), (0, 0));
    }
}
