//! LLaVA-NeXT's any-resolution arithmetic: which grid of tiles an image gets. Pure functions of sizes.
//!
//! Reference: transformers 4.57, `image_processing_utils.select_best_resolution`, `get_patch_output_size`.

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

/// How the tiles of one image lie. How their features become one sequence is the model's side
/// (`foveate_model::vlm::Tiling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnyResolution {
    /// Size of the image as it was given.
    pub original: Size,
    /// Tiles below each other.
    pub rows: u32,
    /// Tiles beside each other.
    pub columns: u32,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
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
