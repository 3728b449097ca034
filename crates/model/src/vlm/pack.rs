//! LLaVA-NeXT's arrangement of tiles: put together as they lie in the picture, the padding cut off, each row of patches
//! ended by the newline embedding; the whole picture first.
//!
//! Reference: transformers 4.57, `modeling_llava_next.unpad_image`, `pack_image_features`.

use candle_core::Tensor;

use crate::vision::Grid;
use crate::{ModelError, Result};

/// How an image was tiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Tiles from top to bottom.
    pub rows: usize,
    /// Tiles from left to right.
    pub columns: usize,
    /// Height of the image before it was resized and padded, in pixels.
    pub height: usize,
    /// Its width.
    pub width: usize,
}

/// What is left of a grid when the padding is cut off: `rows` from row `top`, `columns` from column `left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Crop {
    top: usize,
    left: usize,
    rows: usize,
    columns: usize,
}

impl Tiling {
    /// The patches of the joined tiles, `grid` each, that show the image and not the padding beside it.
    fn crop(&self, grid: Grid) -> Crop {
        let (rows, columns) = (self.rows * grid.rows, self.columns * grid.columns);
        let (height, width) = (self.height as f64, self.width as f64);
        if width / height > columns as f64 / rows as f64 {
            let shown = whole(height * (columns as f64 / width));
            let top = rows.saturating_sub(shown) / 2;
            Crop { top, left: 0, rows: rows - 2 * top, columns }
        } else {
            let shown = whole(width * (rows as f64 / height));
            let left = columns.saturating_sub(shown) / 2;
            Crop { top: 0, left, rows, columns: columns - 2 * left }
        }
    }

    /// How many rows the language model will read for this image, with tiles of `grid` patches.
    pub fn positions(&self, grid: Grid) -> usize {
        let crop = self.crop(grid);
        grid.patches() + crop.rows * (crop.columns + 1)
    }
}

/// `int(round(value, 7))`: what a hair's breadth below a whole number counts as that number.
fn whole(value: f64) -> usize {
    // Formatting rounds the exact decimal value, half to even, as Python's `round` does.
    format!("{value:.7}").parse::<f64>().map_or(0, |rounded| rounded as usize)
}

/// `tiles` `[1 + rows · columns, patches, d]`, the whole picture first, and `newline` `[d]` to `[positions, d]`.
///
/// # Errors
/// [`ModelError::Shape`] when the number of tiles or of patches differs from what `tiling` and `grid` say.
pub(super) fn pack(tiles: &Tensor, tiling: &Tiling, grid: Grid, newline: &Tensor) -> Result<Tensor> {
    let (count, patches, d) = tiles.dims3()?;
    let expected = [1 + tiling.rows * tiling.columns, grid.patches(), d];
    if [count, patches] != expected[..2] || tiling.height == 0 || tiling.width == 0 {
        return Err(ModelError::shape("tiles of an image", &expected, tiles.dims()));
    }
    let overview = tiles.get(0)?; // [patches, d]
    let crop = tiling.crop(grid);
    let joined = tiles
        .narrow(0, 1, count - 1)?
        .reshape(&[tiling.rows, tiling.columns, grid.rows, grid.columns, d][..])?
        .permute(vec![0, 2, 1, 3, 4])? // [tile rows, patch rows, tile columns, patch columns, d]
        .reshape((tiling.rows * grid.rows, tiling.columns * grid.columns, d))?
        .narrow(0, crop.top, crop.rows)?
        .narrow(1, crop.left, crop.columns)?; // [rows, columns, d]
    let newlines = newline.broadcast_as((crop.rows, 1, d))?;
    let lines = Tensor::cat(&[joined, newlines], 1)?.flatten_to(1)?; // [rows · (columns + 1), d]
    Ok(Tensor::cat(&[overview, lines], 0)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    #[test]
    fn rows_run_across_the_tiles() {
        // Two tiles side by side, 2 x 2 patches each: the picture's first row is 10 11 | 20 21.
        let values = [[0.0_f32, 1., 2., 3.], [10., 11., 12., 13.], [20., 21., 22., 23.]];
        let tiles = Tensor::new(&values, &Device::Cpu).unwrap().unsqueeze(2).unwrap();
        let newline = Tensor::new(&[-1.0_f32], &Device::Cpu).unwrap();
        let pack = |height, width| {
            let tiling = Tiling { rows: 1, columns: 2, height, width };
            let packed = pack(&tiles, &tiling, Grid::square(2), &newline).unwrap();
            assert_eq!(packed.dims()[0], tiling.positions(Grid::square(2)));
            packed.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let whole = [0.0, 1., 2., 3.];
        assert_eq!(pack(28, 56), [&whole[..], &[10., 11., 20., 21., -1., 12., 13., 22., 23., -1.]].concat());
        // A square image in a wide grid is padded left and right.
        assert_eq!(pack(40, 40), [&whole[..], &[11., 20., -1., 13., 22., -1.]].concat());
    }

    // transformers' arithmetic by hand: 24 patches a tile, 2 x 2 tiles, image 1000 high and 700 wide:
    // 48 · 700 / 1000 = 33.6 -> 33 columns shown, (48 − 33) / 2 = 7 cut on either side, 34 stay.
    #[test]
    fn the_published_size() {
        let tiling = Tiling { rows: 2, columns: 2, height: 1000, width: 700 };
        assert_eq!(tiling.crop(Grid::square(24)), Crop { top: 0, left: 7, rows: 48, columns: 34 });
        assert_eq!(tiling.positions(Grid::square(24)), 576 + 48 * 35);
    }

    #[test]
    fn rounding_at_the_seventh_decimal() {
        assert_eq!(whole(11.999_999_96), 12);
        assert_eq!(whole(11.999_999_8), 11);
    }

    /// Columns of a case: height and width, the resolution chosen, the fitted size, first and last row and column of the
    /// features that stay, tokens.
    #[test]
    fn what_is_left_of_images_of_many_sizes() {
        #[derive(serde::Deserialize)]
        struct Fixture {
            settings: Vec<Setting>,
        }
        #[derive(serde::Deserialize)]
        struct Setting {
            side: usize,
            features: usize,
            cases: Vec<[usize; 11]>,
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/anyres.json");
        let fixture: Fixture = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut compared = 0;
        for Setting { side, features, cases } in fixture.settings {
            for [height, width, tall, wide, _, _, top, bottom, left, right, tokens] in cases {
                let tiling = Tiling { rows: tall / side, columns: wide / side, height, width };
                let crop = tiling.crop(Grid::square(features));
                let size = (bottom.saturating_sub(top), right.saturating_sub(left));
                assert_eq!((crop.rows, crop.columns), size, "of {height} x {width}");
                // Where nothing is left, it does not matter where it would lie.
                if size.0 > 0 && size.1 > 0 {
                    assert_eq!((crop.top, crop.left), (top, left), "of {height} x {width}");
                }
                assert_eq!(tiling.positions(Grid::square(features)), tokens, "of {height} x {width}");
                compared += 1;
            }
        }
        assert!(compared > 300);
    }

    #[test]
    fn a_wrong_number_of_tiles_is_named() {
        let tiles = Tensor::zeros((4, 4, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let tiling = Tiling { rows: 2, columns: 2, height: 10, width: 10 };
        let newline = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
        let message = pack(&tiles, &tiling, Grid::square(2), &newline).unwrap_err().to_string();
        assert!(message.contains("[5, 4, 1]") && message.contains("[4, 4, 1]"), "{message}");
    }
}
