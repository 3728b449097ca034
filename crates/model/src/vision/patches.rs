//! Pixels to patch embeddings, and position tables resized to another grid.

use candle_core::{Device, Tensor};
pub use foveate_compress::Grid;
use foveate_law::cost::ImageSize;

use crate::nn::Linear;
use crate::weights::{Kept, Weights};
use crate::{ModelError, Result};

/// A convolution whose stride equals its window, written as one matrix product over the flattened windows.
#[derive(Clone, Debug)]
pub(super) struct PatchEmbedding {
    projection: Linear,
    patch: usize,
}

impl PatchEmbedding {
    /// Takes `weight` `[width, 3, patch, patch]` and, where asked for, `bias` `[width]`.
    pub(super) fn load(weights: &Weights, width: usize, patch: usize, bias: bool) -> Result<Self> {
        let weight = weights.get((width, 3, patch, patch), "weight")?;
        let bias = bias.then(|| weights.get(width, "bias")).transpose()?;
        let kept = weights.without_int8().keep(weight.reshape((width, 3 * patch * patch))?)?;
        let projection = match kept {
            Kept::Tensor(weight) => Linear::new(weight, bias),
            Kept::Packed(matrix) => Linear::packed(matrix, bias)?,
        };
        Ok(Self { projection, patch })
    }

    /// `[b, 3, height, width] -> [b, rows · columns, d]` in row-major order. Pixels beyond the last whole patch are left
    /// out, as a convolution without padding does (SigLIP: 384 = 27 · 14 + 6).
    pub(super) fn forward(&self, pixels: &Tensor) -> Result<(Tensor, Grid)> {
        let grid = grid_of_pixels(pixels, self.patch)?;
        let (b, channels, _, _) = pixels.dims4()?;
        let (rows, columns, p) = (grid.rows, grid.columns, self.patch);
        let windows = pixels
            .narrow(2, 0, rows * p)?
            .narrow(3, 0, columns * p)?
            .reshape(&[b, channels, rows, p, columns, p][..])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((b, rows * columns, channels * p * p))?; // [b, patches, 3·p·p]
        Ok((self.projection.forward(&windows)?, grid)) // [b, patches, d]
    }
}

/// The whole patches of an image.
pub(super) fn patch_grid(image_size: ImageSize, patch: usize) -> Grid {
    let (rows, columns) = image_size.grid(patch);
    Grid { rows, columns }
}

fn grid_of_pixels(pixels: &Tensor, patch: usize) -> Result<Grid> {
    match *pixels.dims() {
        [_, 3, height, width] if height >= patch && width >= patch => {
            Ok(Grid { rows: height / patch, columns: width / patch })
        }
        ref found => Err(ModelError::Pixels {
            found: found.to_vec(),
            expected: format!("[batch, 3, height, width] of at least one {patch} x {patch} patch"),
        }),
    }
}

/// A position table `[from.rows · from.columns, d]` resized to another grid: bicubic with a = −0.75, half-pixel centres,
/// border clamped, no antialiasing, as `torch.nn.functional.interpolate(mode="bicubic")`. Two matrix products, so the
/// table may be trained.
pub(super) fn resize_positions(table: &Tensor, from: Grid, to: Grid) -> Result<Tensor> {
    let width = table.dim(1)?;
    let down = bicubic(from.rows, to.rows, table.device())?; // [to.rows, from.rows]
    let across = bicubic(from.columns, to.columns, table.device())?; // [to.columns, from.columns]
    let rows = down.matmul(&table.reshape((from.rows, from.columns * width))?)?; // [to.rows, from.columns · d]
    let rows = rows.reshape((to.rows, from.columns, width))?;
    let cells = across.broadcast_left(to.rows)?.contiguous()?.matmul(&rows)?; // [to.rows, to.columns, d]
    Ok(cells.reshape((to.patches(), width))?)
}

/// The same for a table `[extra + from.rows · from.columns, d]` whose first `extra` rows stand for no patch and are kept.
pub(super) fn resize_behind(table: &Tensor, extra: usize, from: Grid, to: Grid) -> Result<Tensor> {
    let resized = resize_positions(&table.narrow(0, extra, from.patches())?, from, to)?;
    Ok(Tensor::cat(&[table.narrow(0, 0, extra)?, resized], 0)?)
}

/// The weights of a one-dimensional bicubic resize, `[to, from]`; each row sums to one.
fn bicubic(from: usize, to: usize, device: &Device) -> Result<Tensor> {
    const A: f64 = -0.75;
    let kernel = |distance: f64| {
        let x = distance.abs();
        if x <= 1.0 {
            ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
        } else {
            0.0
        }
    };
    let mut weights = vec![0.0_f32; to * from];
    for (row, weights) in weights.chunks_exact_mut(from).enumerate() {
        let centre = (row as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = centre.floor() as i64 - 1;
        for tap in first..first + 4 {
            let column = tap.clamp(0, from as i64 - 1) as usize;
            weights[column] += kernel(centre - tap as f64) as f32;
        }
    }
    Ok(Tensor::from_vec(weights, (to, from), device)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::HashMap;

    // torch.nn.functional.interpolate(torch.tensor([[[[0., 1., 4., 9.]]]]), size=(1, 6), mode="bicubic")
    // by hand for the second sample: centre 0.5, taps −1..2 clamped, kernel(±1.5) = −0.09375, kernel(±0.5) = 0.59375
    #[test]
    fn bicubic_by_hand() {
        let weights = bicubic(4, 6, &Device::Cpu).unwrap().to_vec2::<f32>().unwrap();
        let expected = [-0.09375 + 0.59375, 0.59375, -0.09375, 0.0];
        for (got, expected) in weights[1].iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{weights:?}");
        }
        for row in weights {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn same_size_changes_nothing() {
        let table = Tensor::randn(0.0_f32, 1.0, (6, 5), &Device::Cpu).unwrap();
        let grid = Grid { rows: 2, columns: 3 };
        let same = resize_positions(&table, grid, grid).unwrap();
        assert_eq!(same.to_vec2::<f32>().unwrap(), table.to_vec2::<f32>().unwrap());
    }

    #[test]
    fn patches_equal_a_convolution_and_drop_the_rest() {
        let device = Device::Cpu;
        let weight = Tensor::randn(0.0_f32, 1.0, (4, 3, 2, 2), &device).unwrap();
        let weights = Weights::from_tensors(HashMap::from([("weight".to_owned(), weight.clone())]));
        let pixels = Tensor::randn(0.0_f32, 1.0, (2, 3, 5, 6), &device).unwrap();
        let (patches, grid) = PatchEmbedding::load(&weights, 4, 2, false).unwrap().forward(&pixels).unwrap();
        assert_eq!(grid, Grid { rows: 2, columns: 3 });
        let expected =
            pixels.conv2d(&weight, 0, 2, 1, 1).unwrap().flatten_from(2).unwrap().transpose(1, 2).unwrap();
        let apart =
            (patches - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-5, "{apart}");
    }
}
