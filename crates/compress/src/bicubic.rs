//! Bicubic resize of a table over a grid, as MQT does with its position table: a = −0.75, half-pixel centres, borders
//! clamped, no antialiasing.

use crate::Grid;

/// For each of `to` places the four source indices among `from` and their weights.
fn taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    const A: f64 = -0.75;
    let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let place = |to_index: usize| {
        let source = (to_index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let (first, t) = (source.floor(), source - source.floor());
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        std::array::from_fn(|nth| {
            let index = (first + nth as f64 - 1.0).clamp(0.0, from as f64 - 1.0);
            (index as usize, weights[nth])
        })
    };
    (0..to).map(place).collect()
}

/// Resizes a row-major table of `channels` values for each place of a grid.
pub(crate) fn resize(table: &[f32], from: Grid, to: Grid, channels: usize) -> Vec<f32> {
    let (down, across) = (taps(from.rows, to.rows), taps(from.columns, to.columns));
    let mut resized = Vec::with_capacity(to.patches() * channels);
    // Along rows first; `line` is one row of the new grid before its columns are resized.
    let mut line = vec![0.0_f64; from.columns * channels];
    for row_taps in &down {
        line.fill(0.0);
        for (row, weight) in row_taps {
            let source = &table[row * from.columns * channels..(row + 1) * from.columns * channels];
            for (sum, value) in line.iter_mut().zip(source) {
                *sum += weight * f64::from(*value);
            }
        }
        for column_taps in &across {
            for channel in 0..channels {
                let sum: f64 = column_taps
                    .iter()
                    .map(|(column, weight)| weight * line[column * channels + channel])
                    .sum();
                resized.push(sum as f32);
            }
        }
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_changes_nothing() {
        let table: Vec<f32> = (0..24).map(|x| (x * x % 7) as f32).collect();
        assert_eq!(resize(&table, Grid::new(3, 4), Grid::new(3, 4), 2), table);
    }

    #[test]
    fn weights_at_the_half_are_the_kernels() {
        // Twice the size: place 3 of 8 lies at source 1.25.
        let weights = taps(4, 8)[3].map(|(_, weight)| weight);
        for (got, expected) in weights.iter().zip([-0.10546875, 0.87890625, 0.26171875, -0.03515625]) {
            assert!((got - expected).abs() < 1e-12, "{weights:?}");
        }
    }

    #[test]
    fn a_constant_stays_constant() {
        for (from, to) in (1..20).flat_map(|from| (1..30).map(move |to| (from, to))) {
            let resized = resize(&vec![-3.7; from * from], Grid::square(from), Grid::square(to), 1);
            assert_eq!(resized.len(), to * to);
            assert!(resized.iter().all(|found| (found + 3.7).abs() < 1e-5), "{from} to {to}");
        }
    }
}
