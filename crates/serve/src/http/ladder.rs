//! A ladder of visual tokens for programs.

use foveate_compress::{Budget, Ladder};
use serde::Serialize;
use utoipa::ToSchema;

/// The numbers of visual tokens on offer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LadderDocument {
    /// These numbers, largest first; empty where a range or nothing but `adaptive` is on offer.
    pub(crate) rungs: Vec<usize>,
    /// Every number from the first to the second.
    pub(crate) range: Option<[usize; 2]>,
    /// Whether the image may decide.
    pub(crate) adaptive: bool,
}

impl From<&Ladder> for LadderDocument {
    fn from(ladder: &Ladder) -> Self {
        let (rungs, range) = match ladder {
            Ladder::Rungs(rungs) => (rungs.clone(), None),
            Ladder::Range(first, last) | Ladder::RangeOrAdaptive(first, last) => {
                (Vec::new(), Some([*first, *last]))
            }
            _ => (Vec::new(), None),
        };
        Self { rungs, range, adaptive: ladder.contains(Budget::Adaptive) }
    }
}
