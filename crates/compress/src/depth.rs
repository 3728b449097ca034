//! Which hidden state, which block, for towers of any depth.
//!
//! A tower of L blocks has L + 1 hidden states: 0 is the input of the first block, i the output of `layers.{i − 1}`. So
//! state −2 of 24 blocks is state 23, the output of `layers.22`, while *block* −2 is `layers.22` itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CompressError, Result};

/// A hidden state, named so that it means the same thing in towers of other depths.
///
/// In a configuration it is a number, negative from the end, or a share such as `"2/3"`.
///
/// ```
/// use foveate_compress::StateDepth;
/// // QueCC and TokenPacker on 24 blocks read states 12, 16, 22 and 23.
/// assert_eq!(StateDepth::MULTI_LEVEL.map(|depth| depth.resolve(24).unwrap()), [12, 16, 22, 23]);
/// assert_eq!(StateDepth::MULTI_LEVEL.map(|depth| depth.resolve(27).unwrap()), [14, 18, 25, 26]);
/// assert!(StateDepth::Index(25).resolve(24).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum StateDepth {
    /// Counted from the front; 0 is the input of the first block.
    Index(usize),
    /// Counted from the end; 1 is the output of the last block, 2 what LLaVA calls −2.
    FromEnd(usize),
    /// After this share of the blocks, rounded to the nearest, halves up.
    Share {
        /// Blocks run …
        numerator: usize,
        /// … of so many.
        denominator: usize,
    },
}

impl StateDepth {
    /// LLaVA's feature state, −2.
    pub const LLAVA: Self = Self::FromEnd(2);

    /// States 12, 16, 22 and 23 of 24 and the same places in other towers. The last two count from the end, so that no
    /// block beyond LLaVA's feature state has to run whatever the depth.
    pub const MULTI_LEVEL: [Self; 4] = [
        Self::Share { numerator: 1, denominator: 2 },
        Self::Share { numerator: 2, denominator: 3 },
        Self::FromEnd(3),
        Self::FromEnd(2),
    ];

    /// The index from the front in a tower of `blocks` blocks.
    ///
    /// # Errors
    /// [`CompressError::Config`] when the tower has no such state.
    pub fn resolve(self, blocks: usize) -> Result<usize> {
        let index = match self {
            Self::Index(index) => Some(index),
            Self::FromEnd(0) => None,
            Self::FromEnd(nth) => (blocks + 1).checked_sub(nth),
            Self::Share { numerator, denominator } => (2 * blocks)
                .checked_mul(numerator)
                .and_then(|twice| twice.checked_add(denominator)?.checked_div(denominator.checked_mul(2)?)),
        };
        index.filter(|index| *index <= blocks).ok_or_else(|| {
            CompressError::config(
                "states",
                self,
                format!("a tower of {blocks} blocks has states 0..={blocks}"),
            )
        })
    }
}

impl fmt::Display for StateDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "state {index}"),
            Self::FromEnd(nth) => write!(f, "state -{nth}"),
            Self::Share { numerator, denominator } => {
                write!(f, "state at {numerator}/{denominator} of the depth")
            }
        }
    }
}

/// A block of a tower, counted from its end: 1 is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockDepth(usize);

impl BlockDepth {
    /// The last block, `layers.{L − 1}`; its input is hidden state −2.
    pub const LAST: Self = Self(1);
    /// The last block but one, `layers.{L − 2}`; its output is hidden state −2.
    pub const LAST_BUT_ONE: Self = Self(2);

    /// How far from the end: 1 is the last block.
    pub fn from_end(self) -> usize {
        self.0
    }
}

impl fmt::Display for BlockDepth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block -{}", self.0)
    }
}

/// How a depth is written in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Share(String),
}

impl TryFrom<Written> for StateDepth {
    type Error = CompressError;

    fn try_from(written: Written) -> Result<Self> {
        let wrong = |value: &dyn fmt::Display| {
            CompressError::config(
                "states",
                value,
                "a number, negative from the end, or a share such as `2/3`",
            )
        };
        match written {
            Written::Number(number) => {
                let size = usize::try_from(number.unsigned_abs()).map_err(|_| wrong(&number))?;
                Ok(if number < 0 { Self::FromEnd(size) } else { Self::Index(size) })
            }
            Written::Share(text) => {
                let (numerator, denominator) = text.split_once('/').ok_or_else(|| wrong(&text))?;
                let parse = |part: &str| part.trim().parse::<usize>().map_err(|_| wrong(&text));
                let (numerator, denominator) = (parse(numerator)?, parse(denominator)?);
                if denominator == 0 || numerator > denominator {
                    return Err(wrong(&text));
                }
                Ok(Self::Share { numerator, denominator })
            }
        }
    }
}

impl From<StateDepth> for Written {
    fn from(depth: StateDepth) -> Self {
        match depth {
            StateDepth::Index(index) => Self::Number(index as i64),
            StateDepth::FromEnd(nth) => Self::Number(-(nth as i64)),
            StateDepth::Share { numerator, denominator } => Self::Share(format!("{numerator}/{denominator}")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn written_as_numbers_and_shares() {
        let read = |text: &str| serde_json::from_str::<StateDepth>(text);
        assert_eq!(read("-2").unwrap(), StateDepth::LLAVA);
        assert_eq!(read("16").unwrap(), StateDepth::Index(16));
        for depth in StateDepth::MULTI_LEVEL {
            assert_eq!(read(&serde_json::to_string(&depth).unwrap()).unwrap(), depth);
        }
        for wrong in ["\"2\"", "\"1/0\"", "\"3/2\"", "\"-1/2\""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_level_exists_and_none_is_beyond_the_feature_state() {
        for blocks in 2..80 {
            let feature = StateDepth::LLAVA.resolve(blocks).unwrap();
            assert_eq!(feature, blocks - 1);
            for depth in StateDepth::MULTI_LEVEL {
                assert!(depth.resolve(blocks).unwrap() <= feature, "{depth} of {blocks}");
            }
        }
    }

    #[test]
    fn no_depth_panics() {
        let numbers = [0, 1, 2, 7, 24, 25, 1 << 40, usize::MAX / 2, usize::MAX];
        for (number, other) in numbers.iter().flat_map(|a| numbers.iter().map(move |b| (*a, *b))) {
            for blocks in [0, 1, 24] {
                let share = StateDepth::Share { numerator: number, denominator: other };
                for depth in [StateDepth::Index(number), StateDepth::FromEnd(number), share] {
                    assert!(depth.resolve(blocks).map_or(true, |index| index <= blocks), "{depth}");
                }
            }
        }
    }
}
