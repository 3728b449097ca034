//! The loops for AVX2, FMA and F16C.

use super::Tile;
use crate::format::Layout;

/// Loops by the number of rows.
pub(super) fn tiles(layout: Layout) -> &'static [Tile] {
    super::portable::tiles(layout)
}
