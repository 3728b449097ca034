//! The size in pixels of the pictures that a tower reads.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Height and width in pixels. In files a number for a square, `[height, width]` for a rectangle, as transformers writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ImageSize {
    /// From top to bottom.
    pub height: usize,
    /// From left to right.
    pub width: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of pixels or [height, width]")]
enum Written {
    Square(usize),
    Rectangle([usize; 2]),
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

impl From<Written> for ImageSize {
    fn from(written: Written) -> Self {
        match written {
            Written::Square(side) => side.into(),
            Written::Rectangle([height, width]) => Self { height, width },
        }
    }
}

impl From<ImageSize> for Written {
    fn from(size: ImageSize) -> Self {
        match size.side() {
            Some(side) => Self::Square(side),
            None => Self::Rectangle([size.height, size.width]),
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
        let error = serde_json::from_str::<ImageSize>("[1, 2, 3]").unwrap_err().to_string();
        assert!(error.contains("a number of pixels or [height, width]"), "{error}");
        assert_eq!(ImageSize::new(84, 336).grid(14), (6, 24));
        assert_eq!(ImageSize::new(84, 336).grid(0), (0, 0));
    }
}
