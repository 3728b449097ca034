//! LLaVA-NeXT's any-resolution arithmetic: which grid of tiles an image gets, and which of their features remain once
//! the padding is taken off again. Pure functions of sizes.
//!
//! Reference: transformers 4.57, `image_processing_utils.select_best_resolution`, `get_patch_output_size` and
//! `modeling_llava_next.unpad_image`, `pack_image_features`.

use std::ops::Range;

use super::Size;

/// The resolution of `pinpoints` in which the image keeps most of its pixels; among equals the one that wastes least,
/// among those the first. `None` only for an empty list.
///
/// ```
/// use foveate_data::image::{Size, select_best_resolution};
/// let pinpoints = [Size::new(336, 672), Size::new(672, 336), Size::square(672)];
/// assert_eq!(select_best_resolution(Size::new(300, 900), &pinpoints), Some(Size::new(336, 672)));
/// ```
pub fn select_best_resolution(original: Size, pinpoints: &[Size]) -> Option<Size> {
    let (height, width) = (f64::from(original.height), f64::from(original.width));
    let mut best: Option<(u64, u64, Size)> = None;
    for &candidate in pinpoints {
        let scale = (f64::from(candidate.width) / width).min(f64::from(candidate.height) / height);
        let fitted = (width * scale) as u64 * (height * scale) as u64;
        let effective = fitted.min(original.area());
        let wasted = candidate.area().saturating_sub(effective);
        let better =
            best.is_none_or(|(most, least, _)| effective > most || (effective == most && wasted < least));
        if better {
            best = Some((effective, wasted, candidate));
        }
    }
    best.map(|(_, _, size)| size)
}

/// The size at which the image touches two sides of `target` and keeps its aspect; the other side rounds up.
pub fn fit_inside(original: Size, target: Size) -> Size {
    let across = f64::from(target.width) / f64::from(original.width);
    let down = f64::from(target.height) / f64::from(original.height);
    if across < down {
        let height = (f64::from(original.height) * across).ceil() as u32;
        Size { height: height.clamp(1, target.height), width: target.width }
    } else {
        let width = (f64::from(original.width) * down).ceil() as u32;
        Size { height: target.height, width: width.clamp(1, target.width) }
    }
}

/// The rows and columns of a feature grid that belong to the image, not to its padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureWindow {
    /// Rows that remain.
    pub rows: Range<usize>,
    /// Columns that remain.
    pub columns: Range<usize>,
}

/// Takes the padding off a grid of `rows` x `columns` features of an image that was `original` before it was resized and
/// padded. For an extreme aspect nothing may remain.
///
/// ```
/// use foveate_data::image::{Size, unpad};
/// // 640 x 480 on 672 x 672, 48 x 48 features: 6 padded rows above, 6 below.
/// assert_eq!(unpad(48, 48, Size::new(480, 640)).rows, 6..42);
/// ```
pub fn unpad(rows: usize, columns: usize, original: Size) -> FeatureWindow {
    let (height, width) = (f64::from(original.height), f64::from(original.width));
    let mut window = FeatureWindow { rows: 0..rows, columns: 0..columns };
    if width / height > columns as f64 / rows as f64 {
        let kept = whole(height * (columns as f64 / width));
        let padding = rows.saturating_sub(kept) / 2;
        window.rows = padding..rows - padding;
    } else {
        let kept = whole(width * (rows as f64 / height));
        let padding = columns.saturating_sub(kept) / 2;
        window.columns = padding..columns - padding;
    }
    window
}

/// `int(round(value, 7))`: what a hair's breadth below a whole number counts as that number.
fn whole(value: f64) -> usize {
    // Formatting rounds the exact decimal value, half to even, as Python's `round` does.
    format!("{value:.7}").parse::<f64>().map_or(0, |rounded| rounded as usize)
}

/// How the tiles of one image lie, and how their features become one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyResolution {
    /// Size of the image as it was given.
    pub original: Size,
    /// Tiles below each other.
    pub rows: u32,
    /// Tiles beside each other.
    pub columns: u32,
}

/// Where a token of a tiled image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Feature `index` (row-major) of tile `tile`; tile 0 is the whole image, the rest follow row by row.
    Feature {
        /// Tile.
        tile: usize,
        /// Feature within it.
        index: usize,
    },
    /// The learned embedding at the end of a row.
    Newline,
}

impl AnyResolution {
    /// The remaining part of the joined feature grid when each tile has `side` x `side` features.
    pub fn window(&self, side: usize) -> FeatureWindow {
        unpad(self.rows as usize * side, self.columns as usize * side, self.original)
    }

    /// The tokens of the image: the whole-image tile, then row by row what remains of the joined tiles, each row closed
    /// by a newline.
    pub fn slots(&self, side: usize) -> impl Iterator<Item = Slot> {
        let FeatureWindow { rows, columns } = self.window(side);
        let tiles_across = self.columns as usize;
        let base = (0..side * side).map(|index| Slot::Feature { tile: 0, index });
        let rest = rows.flat_map(move |y| {
            let features = columns.clone().map(move |x| Slot::Feature {
                tile: 1 + (y / side) * tiles_across + x / side,
                index: (y % side) * side + x % side,
            });
            features.chain([Slot::Newline])
        });
        base.chain(rest)
    }

    /// How many tokens [`slots`](Self::slots) yields.
    pub fn token_count(&self, side: usize) -> usize {
        let FeatureWindow { rows, columns } = self.window(side);
        side * side + rows.len() * (columns.len() + 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_follow_the_reference_order() {
        // 2 x 1 tiles of 2 x 2 features, image of the grid's aspect: nothing is padding.
        let layout = AnyResolution { original: Size::new(20, 10), rows: 2, columns: 1 };
        let feature = |tile, index| Slot::Feature { tile, index };
        let expected = [
            vec![feature(0, 0), feature(0, 1), feature(0, 2), feature(0, 3)],
            vec![feature(1, 0), feature(1, 1), Slot::Newline, feature(1, 2), feature(1, 3), Slot::Newline],
            vec![feature(2, 0), feature(2, 1), Slot::Newline, feature(2, 2), feature(2, 3), Slot::Newline],
        ];
        assert_eq!(layout.slots(2).collect::<Vec<_>>(), expected.concat());
    }

    #[test]
    fn rounding_at_the_seventh_decimal() {
        assert_eq!(whole(11.999_999_96), 12);
        assert_eq!(whole(11.999_999_8), 11);
    }

    proptest! {
        #[test]
        fn every_slot_exists_once(
            height in 1u32..5000, width in 1u32..5000, rows in 1u32..5, columns in 1u32..5, side in 1usize..25,
        ) {
            let layout = AnyResolution { original: Size { height, width }, rows, columns };
            let slots: Vec<_> = layout.slots(side).collect();
            prop_assert_eq!(slots.len(), layout.token_count(side));
            let mut seen = std::collections::HashSet::new();
            for slot in slots {
                if let Slot::Feature { tile, index } = slot {
                    prop_assert!(tile <= (rows * columns) as usize && index < side * side);
                    prop_assert!(seen.insert((tile, index)));
                }
            }
        }

        #[test]
        fn the_fitted_image_touches_its_target(
            height in 1u32..70_000, width in 1u32..70_000, tall in 1u32..2000, wide in 1u32..2000,
        ) {
            let target = Size::new(tall, wide);
            let fitted = fit_inside(Size { height, width }, target);
            prop_assert!(fitted.height <= tall && fitted.width <= wide && fitted.area() > 0);
            prop_assert!(fitted.height == tall || fitted.width == wide);
        }
    }
}
