//! How many patches stand below and beside each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A grid of patches, row-major: patch p stands in row p / columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grid {
    /// Patches from top to bottom.
    pub rows: usize,
    /// Patches from left to right.
    pub columns: usize,
}

impl Grid {
    /// `rows` by `columns`.
    pub fn new(rows: usize, columns: usize) -> Self {
        Self { rows, columns }
    }

    /// `side` by `side`.
    pub fn square(side: usize) -> Self {
        Self { rows: side, columns: side }
    }

    /// The number of patches.
    pub fn patches(self) -> usize {
        self.rows.saturating_mul(self.columns)
    }

    /// Sides of square windows that tile the grid exactly, smallest first.
    ///
    /// ```
    /// use foveate_compress::Grid;
    /// assert_eq!(Grid::square(24).window_sides(), [1, 2, 3, 4, 6, 8, 12, 24]);
    /// assert_eq!(Grid::new(12, 18).window_sides(), [1, 2, 3, 6]);
    /// ```
    pub fn window_sides(self) -> Vec<usize> {
        let shorter = self.rows.min(self.columns);
        (1..=shorter).filter(|side| self.tiles(*side)).collect()
    }

    /// Whether windows of `side` × `side` patches tile the grid.
    pub fn tiles(self, side: usize) -> bool {
        side > 0 && self.patches() > 0 && self.rows.is_multiple_of(side) && self.columns.is_multiple_of(side)
    }

    /// The grid of windows of `side` × `side` patches. Only meaningful where they tile the grid.
    pub(crate) fn shrunk(self, side: usize) -> Self {
        Self { rows: self.rows / side, columns: self.columns / side }
    }

    /// How many windows of `side` × `side` patches there are. Only meaningful where they tile the grid.
    pub(crate) fn windows(self, side: usize) -> usize {
        self.shrunk(side).patches()
    }

    /// The side of the window that leaves `tokens` of them, when there is one among `sides`.
    pub(crate) fn window_for(self, tokens: usize, sides: &[usize]) -> Option<usize> {
        sides.iter().copied().find(|side| self.tiles(*side) && self.windows(*side) == tokens)
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.rows, self.columns)
    }
}
