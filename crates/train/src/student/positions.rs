//! A tower for images of another size: its table of positions is resized once, when the model is put together, so that
//! the model that comes out of training says the size that it was trained for.

use std::collections::HashMap;

use candle_core::Tensor;
use foveate_model::Weights;
use foveate_model::vision::{ClipConfig, Dinov2Config, Grid, ImageSize, SiglipConfig, VisionConfig};

use crate::{Result, TrainError};

/// Resizes the table of positions of a tower's `weights` from the grid of `config` to that of images of `size` pixels,
/// and returns the configuration for these: bicubic with a = −0.75, half-pixel centres, border clamped, as
/// [`VisionTower::resized`](foveate_model::vision::VisionTower::resized). `shapes` are those of the tower's tensors. Also
/// returns the name of the table if it was changed.
pub(super) fn resize(
    config: VisionConfig,
    size: ImageSize,
    weights: Weights,
    shapes: &mut [(String, Vec<usize>)],
) -> Result<(VisionConfig, Weights, Vec<String>)> {
    let patch = config.patch_size();
    let fits = |length: usize| length > 0 && length.is_multiple_of(patch);
    if !fits(size.height) || !fits(size.width) {
        let allowed = format!("a multiple of the tower's patch of {patch} pixels");
        return Err(TrainError::field("parts.image.side", size, allowed));
    }
    let (from, to) = (config.grid(), Grid::new(size.height / patch, size.width / patch));
    let name = match config {
        VisionConfig::Dinov2(_) => "embeddings.position_embeddings",
        _ => "vision_model.embeddings.position_embedding.weight",
    };
    let (mut weights, mut changed) = (weights, Vec::new());
    let stored = shapes.iter_mut().find(|(stored, _)| stored == name);
    if let Some((_, shape)) = stored.filter(|(_, shape)| from != to && shape.len() >= 2) {
        let table = weights.get(shape.as_slice(), name)?;
        let rank = shape.len();
        let (rows, width) = (shape[rank - 2], shape[rank - 1]);
        let extra = rows.saturating_sub(from.patches());
        let values = table.flatten_all()?.to_vec1::<f32>()?;
        let mut resized = values[..extra * width].to_vec();
        resized.extend(bicubic(&values[extra * width..], from, to, width));
        shape[rank - 2] = extra + to.patches();
        let table = Tensor::from_vec(resized, shape.as_slice(), table.device())?;
        weights = weights.with_tensors(HashMap::from([(name.to_owned(), table)]));
        changed.push(name.to_owned());
    }
    let config = match config {
        VisionConfig::Clip(config) => VisionConfig::Clip(ClipConfig { image_size: size, ..config }),
        VisionConfig::Siglip(config) => VisionConfig::Siglip(SiglipConfig { image_size: size, ..config }),
        VisionConfig::Dinov2(config) => VisionConfig::Dinov2(Dinov2Config { image_size: size, ..config }),
        other => other,
    };
    Ok((config, weights, changed))
}

/// A table of the patches of one grid, `[patches, width]`, as that of another.
fn bicubic(table: &[f32], from: Grid, to: Grid, width: usize) -> Vec<f32> {
    let along = |from, to| (0..to).map(move |at| taps(at, from, to)).collect::<Vec<_>>();
    let (rows, columns) = (along(from.rows, to.rows), along(from.columns, to.columns));
    let mut out = Vec::with_capacity(to.patches() * width);
    for down in &rows {
        for across in &columns {
            for channel in 0..width {
                let value = |row: usize, column: usize| {
                    f64::from(table[(row * from.columns + column) * width + channel])
                };
                let cell = down.iter().map(|(row, weight)| {
                    weight * across.iter().map(|(column, weight)| weight * value(*row, *column)).sum::<f64>()
                });
                out.push(cell.sum::<f64>() as f32);
            }
        }
    }
    out
}

/// What the `at`-th of `to` new samples takes from `from` old ones.
fn taps(at: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    const A: f64 = -0.75;
    let centre = (at as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = centre.floor() - 1.0;
    [0.0, 1.0, 2.0, 3.0].map(|nth| {
        let place = first + nth;
        let x = (centre - place).abs();
        let weight = if x <= 1.0 {
            1.0 - x * x * ((A + 3.0) - (A + 2.0) * x)
        } else {
            -A * (4.0 - x * (8.0 - x * (5.0 - x)))
        };
        (place.clamp(0.0, from as f64 - 1.0) as usize, weight)
    })
}
