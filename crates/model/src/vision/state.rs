//! Which hidden state, which block: indices that cannot be confused.
//!
//! A tower of L blocks has L + 1 hidden states. State 0 is the input of the first block; state i is the output of block
//! i counted from 1, that is of `layers.{i − 1}`. So state −2 of 24 blocks is state 23, the output of `layers.22`, while
//! *block* −2 is `layers.22` itself. Ports that mix the two are off by one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// A hidden state of a tower, counted from the front or from the back.
///
/// ```
/// use foveate_model::vision::HiddenState;
/// assert_eq!(HiddenState::from_end(2).resolve(24)?, 23);
/// assert_eq!(HiddenState::new(0).resolve(24)?, 0);
/// assert_eq!(HiddenState::from_end(1).resolve(24)?, 24);
/// assert!(HiddenState::new(25).resolve(24).is_err());
/// # Ok::<(), foveate_model::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct HiddenState(i64);

/// A block of a tower: `layers.{i}`, counted from the front (from 0) or from the back.
///
/// ```
/// use foveate_model::vision::BlockIndex;
/// assert_eq!(BlockIndex::from_end(1).resolve(24)?, 23); // the last block is layers.23
/// assert_eq!(BlockIndex::from_end(2).resolve(24)?, 22);
/// assert_eq!(BlockIndex::new(24).resolve(24).is_err(), true);
/// # Ok::<(), foveate_model::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub struct BlockIndex(i64);

impl HiddenState {
    /// State `index`: 0 is the input of the first block, L the output of the last.
    pub fn new(index: usize) -> Self {
        Self(index as i64)
    }

    /// The `nth` state from the end: 1 is the output of the last block, 2 (LLaVA's −2) that of the block before it.
    /// 0 counts as 1.
    pub fn from_end(nth: usize) -> Self {
        Self(-(nth.max(1) as i64))
    }

    /// The index from the front in a tower of `blocks` blocks: how many blocks must run for it.
    ///
    /// # Errors
    /// [`ModelError::Index`] when the tower has no such state.
    pub fn resolve(self, blocks: usize) -> Result<usize> {
        resolve(self.0, blocks + 1).ok_or_else(|| ModelError::index("hidden state", self.0, blocks + 1))
    }
}

impl BlockIndex {
    /// Block `layers.{index}`.
    pub fn new(index: usize) -> Self {
        Self(index as i64)
    }

    /// The `nth` block from the end: 1 is the last. 0 counts as 1.
    pub fn from_end(nth: usize) -> Self {
        Self(-(nth.max(1) as i64))
    }

    /// The index from the front in a tower of `blocks` blocks. The block's input is the hidden state of that index.
    ///
    /// # Errors
    /// [`ModelError::Index`] when the tower has no such block.
    pub fn resolve(self, blocks: usize) -> Result<usize> {
        resolve(self.0, blocks).ok_or_else(|| ModelError::index("block", self.0, blocks))
    }
}

fn resolve(index: i64, count: usize) -> Option<usize> {
    let count = i64::try_from(count).ok()?;
    let from_front = if index < 0 { index + count } else { index };
    (0..count).contains(&from_front).then_some(from_front as usize)
}

impl From<i64> for HiddenState {
    /// Python's convention, as in `vision_feature_layer`: negative numbers count from the end.
    fn from(index: i64) -> Self {
        Self(index)
    }
}

impl From<HiddenState> for i64 {
    fn from(state: HiddenState) -> Self {
        state.0
    }
}

impl From<i64> for BlockIndex {
    /// Python's convention: negative numbers count from the end.
    fn from(index: i64) -> Self {
        Self(index)
    }
}

impl From<BlockIndex> for i64 {
    fn from(block: BlockIndex) -> Self {
        block.0
    }
}

impl fmt::Display for HiddenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "state {}", self.0)
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_what_the_tower_has() {
        let message = HiddenState::from(-26).resolve(24).unwrap_err().to_string();
        assert!(message.contains("-26") && message.contains("0..=24"), "{message}");
        let message = BlockIndex::from(24).resolve(24).unwrap_err().to_string();
        assert!(message.contains("24") && message.contains("0..=23"), "{message}");
        assert!(BlockIndex::from(i64::MIN).resolve(24).is_err());
    }

    proptest! {
        #[test]
        fn both_ways_of_counting_meet(blocks in 1_usize..60, nth in 1_usize..60) {
            prop_assume!(nth <= blocks);
            let state = HiddenState::from_end(nth).resolve(blocks).unwrap();
            prop_assert_eq!(state, blocks + 1 - nth);
            prop_assert_eq!(HiddenState::new(state).resolve(blocks).unwrap(), state);
            // The output of a block is the state one above the block's own index.
            prop_assert_eq!(BlockIndex::from_end(nth).resolve(blocks).unwrap() + 1, state);
        }
    }
}
