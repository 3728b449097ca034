//! Floats to fewer bits, and what that loses.

use half::{bf16, f16};
use rayon::prelude::*;

/// Runs shorter than this are rounded several to a task.
const TASK: usize = 1 << 14;

/// Σ (rounded − exact)² and Σ exact², of which ratios of Frobenius norms are made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Deviation {
    error: f64,
    size: f64,
}

impl Deviation {
    fn add(&mut self, exact: f32, rounded: f32) {
        let (exact, rounded) = (f64::from(exact), f64::from(rounded));
        self.error += (rounded - exact).powi(2);
        self.size += exact.powi(2);
    }

    /// In the order of the parts, so that it is the same whatever thread had which.
    fn total(parts: Vec<Self>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            error: sum.error + part.error,
            size: sum.size + part.size,
        })
    }

    /// ‖rounded − exact‖ / ‖exact‖; 0 for zeros that stayed zeros, and for numbers that are not finite, which bf16 keeps.
    pub(super) fn relative(self) -> f64 {
        let ratio = (self.error / self.size).sqrt();
        if ratio.is_nan() { 0.0 } else { ratio }
    }
}

/// bf16 in little-endian bytes.
pub(super) fn to_bf16(values: &[f32]) -> (Vec<u8>, Deviation) {
    let mut bytes = vec![0; 2 * values.len()];
    let parts = bytes.par_chunks_mut(2 * TASK).zip(values.par_chunks(TASK)).map(|(bytes, values)| {
        let mut deviation = Deviation::default();
        for (to, &value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
            let rounded = bf16::from_f32(value);
            *to = rounded.to_le_bytes();
            deviation.add(value, rounded.to_f32());
        }
        deviation
    });
    let parts = parts.collect();
    (bytes, Deviation::total(parts))
}

/// What a scale is rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    F32,
    F16,
}

/// Signed bytes with scales.
pub(super) struct Scaled {
    pub(super) levels: Vec<u8>,
    /// One for each run of numbers.
    pub(super) scales: Vec<f32>,
    pub(super) deviation: Deviation,
}

/// Signed bytes in −127…127 with a scale for each run of `run` numbers; `None` for numbers that no scale fits.
pub(super) fn to_bytes(values: &[f32], run: usize, scale: Scale) -> Option<Scaled> {
    let run = run.max(1);
    let mut levels = vec![0; values.len()];
    let mut scales = vec![0.0; values.len().div_ceil(run)];
    let parts: Option<Vec<Deviation>> = levels
        .par_chunks_mut(run)
        .zip(values.par_chunks(run))
        .zip(&mut scales)
        .with_min_len(TASK / run + 1)
        .map(|((levels, values), to)| {
            // A sum is not finite if a number is not; the largest may hide a NaN.
            let (most, sum) = values
                .iter()
                .fold((0.0_f32, 0.0_f32), |(most, sum), value| (most.max(value.abs()), sum + value * 0.0));
            let found = match scale {
                Scale::F32 => most / 127.0,
                Scale::F16 => f16::from_f32(most / 127.0).to_f32(),
            };
            if !found.is_finite() || sum.is_nan() {
                return None;
            }
            *to = found;
            let inverse = 1.0 / found;
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            let mut deviation = Deviation::default();
            for (level, &value) in levels.iter_mut().zip(values) {
                let rounded = (value * inverse).round_ties_even().clamp(-127.0, 127.0);
                *level = (rounded as i8).cast_unsigned();
                deviation.add(value, rounded * found);
            }
            Some(deviation)
        })
        .collect();
    Some(Scaled { levels, scales, deviation: Deviation::total(parts?) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bytes_times_scales_are_within_half_a_step() {
        let values: Vec<f32> = (0..1000).map(|i| ((i * 37 % 201) as f32 - 100.0) * 0.013).collect();
        for (run, scale) in [(100, Scale::F32), (40, Scale::F16)] {
            let scaled = to_bytes(&values, run, scale).unwrap();
            assert_eq!(scaled.scales.len(), 1000 / run);
            let mut error = 0.0;
            for (i, value) in values.iter().enumerate() {
                let step = scaled.scales[i / run];
                let rounded = f32::from(scaled.levels[i].cast_signed()) * step;
                // f16 scales may be too small by 2⁻¹¹ for the largest number.
                assert!((rounded - value).abs() <= step * (0.5 + 127.0 / 2048.0), "{value} {rounded}");
                error += f64::from(rounded - value).powi(2);
            }
            let size: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((scaled.deviation.relative() - (error / size).sqrt()).abs() < 1e-12);
        }
    }

    /// What is on the grid already comes back as it is: converting twice loses nothing the second time.
    #[test]
    fn levels_survive_a_second_rounding() {
        let values: Vec<f32> =
            (0..4096).map(|i| (((i * 2_654_435_761_usize) >> 7) % 997) as f32 - 498.0).collect();
        for scale in [Scale::F32, Scale::F16] {
            let first = to_bytes(&values, 32, scale).unwrap();
            let back: Vec<f32> = first
                .levels
                .chunks(32)
                .zip(&first.scales)
                .flat_map(|(run, scale)| run.iter().map(move |level| f32::from(level.cast_signed()) * scale))
                .collect();
            let second = to_bytes(&back, 32, scale).unwrap();
            assert_eq!(second.levels, first.levels);
            if scale == Scale::F16 {
                assert_eq!(second.scales, first.scales);
                assert_eq!(second.deviation.relative(), 0.0);
            }
        }
    }

    #[test]
    fn numbers_without_a_scale_are_refused_and_zeros_stay() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(to_bytes(&[1.0, bad, 2.0], 3, Scale::F32).is_none(), "{bad}");
        }
        assert!(to_bytes(&[1e8], 1, Scale::F16).is_none());
        let zeros = to_bytes(&[0.0, -0.0, 1e-42], 3, Scale::F32).unwrap();
        assert_eq!(zeros.levels, [0, 0, 0]);
        assert!(to_bytes(&[], 0, Scale::F16).unwrap().levels.is_empty());
        let (bytes, deviation) = to_bf16(&[1.0, f32::INFINITY, 1.003_906_3]);
        assert_eq!(bytes, [0x80, 0x3F, 0x80, 0x7F, 0x80, 0x3F]);
        assert_eq!(deviation.relative(), 0.0);
    }
}
