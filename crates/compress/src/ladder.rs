//! The numbers of visual tokens: what is asked for, what is on offer.

use std::fmt;

use crate::Grid;

/// How many visual tokens an image may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Budget {
    /// Exactly so many.
    Tokens(usize),
    /// As many as the image itself calls for (PruMerge and PruMerge+).
    Adaptive,
}

impl From<usize> for Budget {
    fn from(tokens: usize) -> Self {
        Self::Tokens(tokens)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tokens(tokens) => write!(f, "{tokens}"),
            Self::Adaptive => f.write_str("an adaptive number of"),
        }
    }
}

/// The numbers of visual tokens that a method offers on a grid.
///
/// ```
/// use foveate_compress::{Budget, Grid, Ladder};
/// let ladder = Ladder::of_windows(Grid::square(24), &[1, 2, 3, 4, 6, 8, 12, 24]);
/// assert_eq!(ladder.to_string(), "576, 144, 64, 36, 16, 9, 4, 1");
/// assert!(ladder.contains(Budget::Tokens(36)) && !ladder.contains(Budget::Tokens(50)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ladder {
    /// These numbers, largest first.
    Rungs(Vec<usize>),
    /// Every number from the first to the second, both included.
    Range(usize, usize),
    /// Every number of a range, or what the image calls for.
    RangeOrAdaptive(usize, usize),
    /// Only what the image calls for.
    Adaptive,
}

impl Ladder {
    /// The numbers of windows of the given sides, for those that tile the grid.
    pub fn of_windows(grid: Grid, sides: &[usize]) -> Self {
        let mut rungs: Vec<usize> =
            sides.iter().filter(|side| grid.tiles(**side)).map(|side| grid.windows(*side)).collect();
        rungs.sort_unstable_by(|a, b| b.cmp(a));
        rungs.dedup();
        Self::Rungs(rungs)
    }

    /// Whether `budget` is on offer.
    pub fn contains(&self, budget: Budget) -> bool {
        match (self, budget) {
            (Self::Rungs(rungs), Budget::Tokens(tokens)) => rungs.contains(&tokens),
            (Self::Range(first, last) | Self::RangeOrAdaptive(first, last), Budget::Tokens(tokens)) => {
                (*first..=*last).contains(&tokens)
            }
            (Self::RangeOrAdaptive(..) | Self::Adaptive, Budget::Adaptive) => true,
            _ => false,
        }
    }

    /// Every number on offer, largest first; none where only the image decides.
    pub fn values(&self) -> Vec<usize> {
        match self {
            Self::Rungs(rungs) => rungs.clone(),
            Self::Range(first, last) | Self::RangeOrAdaptive(first, last) => (*first..=*last).rev().collect(),
            Self::Adaptive => Vec::new(),
        }
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rungs(rungs) if rungs.is_empty() => f.write_str("nothing on this grid"),
            Self::Rungs(rungs) => {
                let list: Vec<String> = rungs.iter().map(usize::to_string).collect();
                f.write_str(&list.join(", "))
            }
            Self::Range(first, last) | Self::RangeOrAdaptive(first, last) if first > last => {
                f.write_str("nothing on so small a grid")
            }
            Self::Range(first, last) => write!(f, "any number from {first} to {last}"),
            Self::RangeOrAdaptive(first, last) => {
                write!(f, "any number from {first} to {last}, or adaptive")
            }
            Self::Adaptive => f.write_str("only an adaptive number, which the image decides"),
        }
    }
}
