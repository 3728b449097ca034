//! Axes: from values to positions on the page, and the marks along the way that people can read.

use super::error::PlotError;
use crate::units::{Unit, exponent_of, fixed, scientific};

/// Magnitudes from here to its inverse can be drawn; it leaves room for padding in either direction.
const TINY: f64 = 1e-100;

/// Strides over powers of ten when not all can be labelled, and over powers of two.
const TEN_STRIDES: [i32; 9] = [1, 2, 3, 6, 12, 30, 60, 90, 120];
const TWO_STRIDES: [i32; 9] = [1, 2, 5, 10, 20, 50, 100, 200, 400];

/// How an axis is spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios; values must be above zero.
    Log,
}

/// What an axis shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// The text beside the axis. The unit stands at each mark, so it need not be repeated here.
    pub label: String,
    /// What is counted.
    pub unit: Unit,
    /// Linear or logarithmic.
    pub scale: Scale,
}

/// A marked value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    pub(super) label: String,
}

/// The values an axis covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) low: f64,
    pub(super) high: f64,
    scale: Scale,
}

impl Range {
    /// The range of checked `values`, widened where they coincide.
    pub(super) fn of(values: impl IntoIterator<Item = f64>, scale: Scale) -> Option<Self> {
        let (low, high) = values
            .into_iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        let apart = high - low > (1e-9 * low.abs().max(high.abs())).max(TINY);
        let (low, high) = match scale {
            _ if apart => (low, high),
            Scale::Log => (low / 2.0, high * 2.0),
            Scale::Linear if low.abs() <= TINY => (-1.0, 1.0),
            Scale::Linear => (low - 0.1 * low.abs(), high + 0.1 * high.abs()),
        };
        Some(Self { low, high, scale })
    }

    /// Room of `share` of the range on both sides, so that nothing sits on the frame.
    pub(super) fn padded(self, share: f64) -> Self {
        let span = 1.0 + 2.0 * share;
        Self { low: self.value_at(-share), high: self.value_at(span - share), scale: self.scale }
    }

    /// 0 at the low end, 1 at the high end.
    pub(super) fn share_of(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        }
    }

    /// The value at `share` of the way from the low end to the high end.
    pub(super) fn value_at(&self, share: f64) -> f64 {
        match self.scale {
            Scale::Linear => self.low + share * (self.high - self.low),
            Scale::Log => (self.low.ln() + share * (self.high.ln() - self.low.ln())).exp(),
        }
    }

    fn covers(&self, value: f64) -> bool {
        let slack = 1e-9;
        (-slack..=1.0 + slack).contains(&self.share_of(value))
    }
}

/// The marks of an axis: labelled ones and, on a logarithmic axis, the small ones between.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Marks {
    pub(super) major: Vec<Tick>,
    pub(super) minor: Vec<f64>,
}

/// The densest marks whose labels keep their distance, as judged by `fits`.
pub(super) fn marks(
    range: &Range,
    unit: Unit,
    at_most: usize,
    mut fits: impl FnMut(&[Tick]) -> Result<bool, PlotError>,
) -> Result<Marks, PlotError> {
    let mut candidates = Vec::new();
    if range.scale == Scale::Log {
        candidates.extend(log_marks(range, unit));
    }
    candidates.extend((2..=at_most.max(2)).rev().map(|count| linear_marks(range, unit, count)));
    for candidate in candidates {
        let enough = (2..=at_most.max(2)).contains(&candidate.major.len());
        if enough && fits(&candidate.major)? {
            return Ok(candidate);
        }
    }
    Ok(Marks::default())
}

fn log_marks(range: &Range, unit: Unit) -> Vec<Marks> {
    if unit == Unit::Bytes {
        let powers = whole_powers(range.low.log2(), range.high.log2());
        return strided(&powers, |exponent| 2f64.powi(exponent), range, unit);
    }
    let powers = whole_powers(range.low.log10(), range.high.log10());
    let decades = range.high.log10() - range.low.log10();
    let mut candidates = Vec::new();
    if decades < 2.0 {
        let major: Vec<f64> = between_powers(&powers, &[1.0, 2.0, 5.0], range);
        let minor = between_powers(&powers, &[3.0, 4.0, 6.0, 7.0, 8.0, 9.0], range);
        // Below a third of a decade even these are too sparse, and even steps read better.
        if major.len() > 2 {
            candidates.push(Marks { major: labelled(major, unit), minor });
        }
    }
    if decades > 1.2 {
        candidates.extend(strided(&powers, |exponent| 10f64.powi(exponent), range, unit));
    }
    candidates
}

/// Marks at every power, every second, and so on; the powers left out become small marks.
fn strided(powers: &[i32], value: impl Fn(i32) -> f64, range: &Range, unit: Unit) -> Vec<Marks> {
    let inside: Vec<i32> = powers.iter().copied().filter(|&power| range.covers(value(power))).collect();
    let strides = if unit == Unit::Bytes { TWO_STRIDES } else { TEN_STRIDES };
    strides
        .into_iter()
        .map(|stride| {
            let (kept, left_out): (Vec<i32>, Vec<i32>) =
                inside.iter().partition(|power| power.rem_euclid(stride) == 0);
            let minor = match (stride, unit) {
                (1, Unit::Bytes) => Vec::new(),
                (1, _) => between_powers(powers, &[2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], range),
                _ => left_out.into_iter().map(&value).collect(),
            };
            Marks { major: labelled(kept.into_iter().map(&value).collect(), unit), minor }
        })
        .collect()
}

/// The whole exponents from one below `low` to one above `high`.
fn whole_powers(low: f64, high: f64) -> Vec<i32> {
    ((low.floor() as i32 - 1)..=(high.ceil() as i32 + 1)).collect()
}

fn between_powers(powers: &[i32], multiples: &[f64], range: &Range) -> Vec<f64> {
    powers
        .iter()
        .flat_map(|&power| multiples.iter().map(move |multiple| multiple * 10f64.powi(power)))
        .filter(|&value| range.covers(value))
        .collect()
}

fn labelled(values: Vec<f64>, unit: Unit) -> Vec<Tick> {
    values.into_iter().map(|value| Tick { value, label: unit.format(value) }).collect()
}

/// About `count` marks at even steps of 1, 2, 2.5 or 5, all in one multiple of the unit.
fn linear_marks(range: &Range, unit: Unit, count: usize) -> Marks {
    let largest = range.low.abs().max(range.high.abs());
    let mut factor = unit.multiple(largest).factor;
    let suffix = unit.multiple(largest).suffix;
    // A plain number too large or too small to write out carries a power of ten instead.
    let power = exponent_of(largest / factor);
    let power = if (-3..6).contains(&power) { 0 } else { power };
    factor *= 10f64.powi(power);
    let (low, high) = (range.low / factor, range.high / factor);
    let (step, decimals) = nice_step((high - low) / count as f64);
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let number = (last - first).clamp(-1.0, 1000.0) as i64;
    let major = (0..=number)
        .map(|index| {
            let value = (first + index as f64) * step;
            let text = fixed(value, decimals);
            let label = match power {
                _ if value == 0.0 => "0".to_owned(),
                0 => format!("{text}{suffix}"),
                _ => format!("{}{suffix}", scientific(&text, power)),
            };
            Tick { value: value * factor, label }
        })
        .collect();
    Marks { major, minor: Vec::new() }
}

/// The smallest of 1, 2, 2.5, 5 × 10^k that is at least `raw`, and the decimals it takes to write its multiples.
fn nice_step(raw: f64) -> (f64, usize) {
    let exponent = exponent_of(raw);
    let mantissa = raw / 10f64.powi(exponent);
    let (nice, exponent, digits) = if mantissa <= 1.0 + 1e-9 {
        (1.0, exponent, 0)
    } else if mantissa <= 2.0 + 1e-9 {
        (2.0, exponent, 0)
    } else if mantissa <= 2.5 + 1e-9 {
        (2.5, exponent, 1)
    } else if mantissa <= 5.0 + 1e-9 {
        (5.0, exponent, 0)
    } else {
        (1.0, exponent + 1, 0)
    };
    (nice * 10f64.powi(exponent), usize::try_from(digits - exponent).unwrap_or(0))
}

/// Refuses what no axis of this scale can show; `place` names the value in the message.
pub(super) fn check(value: f64, scale: Scale, place: impl FnOnce() -> String) -> Result<(), PlotError> {
    if !value.is_finite() || value.abs() >= 1.0 / TINY {
        return Err(PlotError::NotFinite { place: place(), value });
    }
    if scale == Scale::Log && value <= TINY {
        return Err(PlotError::NotPositive { place: place(), value });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn labels(low: f64, high: f64, scale: Scale, unit: Unit) -> Vec<String> {
        let range = Range::of([low, high], scale).unwrap();
        let marks = marks(&range, unit, 8, |_| Ok(true)).unwrap();
        assert!(marks.major.iter().all(|tick| range.covers(tick.value)));
        assert!(marks.minor.iter().all(|value| range.covers(*value)));
        marks.major.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn decades_of_operations_carry_their_own_prefix() {
        let expected = ["1 GFLOP", "10 GFLOP", "100 GFLOP", "1 TFLOP"];
        assert_eq!(labels(0.9e9, 8e12, Scale::Log, Unit::Flops), expected);
    }

    #[test]
    fn short_log_axes_use_one_two_five_and_shorter_ones_even_steps() {
        let expected = ["20 GFLOP", "50 GFLOP", "100 GFLOP", "200 GFLOP"];
        assert_eq!(labels(15e9, 400e9, Scale::Log, Unit::Flops), expected);
        let expected = ["0.46", "0.48", "0.50", "0.52", "0.54", "0.56", "0.58", "0.60"];
        assert_eq!(labels(0.45, 0.61, Scale::Log, Unit::Plain), expected);
    }

    #[test]
    fn huge_log_axes_stride_over_decades() {
        let expected = ["10⁻⁶⁰", "10⁻³⁰", "1", "10³⁰", "10⁶⁰", "10⁹⁰"];
        assert_eq!(labels(1e-80, 2e95, Scale::Log, Unit::Plain), expected);
    }

    #[test]
    fn memory_goes_by_powers_of_two() {
        let gib = 1024f64.powi(3);
        let expected = ["512 MiB", "1 GiB", "2 GiB", "4 GiB", "8 GiB", "16 GiB"];
        assert_eq!(labels(0.4 * gib, 20.0 * gib, Scale::Log, Unit::Bytes), expected);
        let expected = ["0", "2 GiB", "4 GiB", "6 GiB", "8 GiB", "10 GiB"];
        assert_eq!(labels(0.0, 11.0 * gib, Scale::Linear, Unit::Bytes), expected);
    }

    #[test]
    fn linear_axes_share_one_multiple_and_the_decimals_of_their_step() {
        let expected = ["0", "0.2 TFLOP", "0.4 TFLOP", "0.6 TFLOP", "0.8 TFLOP", "1.0 TFLOP"];
        assert_eq!(labels(0.0, 1.1e12, Scale::Linear, Unit::Flops), expected);
        assert_eq!(labels(-0.05, 0.05, Scale::Linear, Unit::Plain)[..2], ["−0.04", "−0.02"]);
        assert_eq!(labels(0.0, 4e7, Scale::Linear, Unit::Plain)[..3], ["0", "10⁷", "2×10⁷"]);
    }

    #[test]
    fn one_value_still_makes_a_range() {
        for (value, scale) in [(0.0, Scale::Linear), (-3.0, Scale::Linear), (5e9, Scale::Log)] {
            let range = Range::of([value, value], scale).unwrap().padded(0.05);
            assert!(range.low < value && value < range.high);
            assert!((range.share_of(value) - 0.5).abs() < 0.3);
        }
        assert!(Range::of([], Scale::Linear).is_none());
    }
}
