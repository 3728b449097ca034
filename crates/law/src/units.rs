//! Numbers as people read them: 366 GFLOP, 1.5 s, 13.5 GiB, 10⁶.

/// What an axis or a bar counts, which decides how its numbers are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Floating-point operations, in steps of a thousand: kFLOP, MFLOP, GFLOP, …
    Flops,
    /// Seconds: ns, µs, ms, s.
    Seconds,
    /// Bytes, in steps of 1024: KiB, MiB, GiB, …
    Bytes,
    /// Hundredths of a whole.
    Percent,
    /// A number without a unit, such as a count of tokens or an error.
    #[default]
    Plain,
}

/// A multiple of a unit and how it is written behind a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Multiple {
    pub(crate) factor: f64,
    pub(crate) suffix: &'static str,
}

const FLOPS: [(f64, &str); 9] = [
    (1.0, " FLOP"),
    (1e3, " kFLOP"),
    (1e6, " MFLOP"),
    (1e9, " GFLOP"),
    (1e12, " TFLOP"),
    (1e15, " PFLOP"),
    (1e18, " EFLOP"),
    (1e21, " ZFLOP"),
    (1e24, " YFLOP"),
];
const SECONDS: [(f64, &str); 4] = [(1e-9, " ns"), (1e-6, " µs"), (1e-3, " ms"), (1.0, " s")];
const BYTES: [(f64, &str); 6] = [
    (1.0, " B"),
    (1024.0, " KiB"),
    (1_048_576.0, " MiB"),
    (1_073_741_824.0, " GiB"),
    (1_099_511_627_776.0, " TiB"),
    (1_125_899_906_842_624.0, " PiB"),
];
const PERCENT: [(f64, &str); 1] = [(1.0, " %")];
const PLAIN: [(f64, &str); 1] = [(1.0, "")];

impl Unit {
    /// `value` with three significant digits in the multiple that suits it.
    ///
    /// ```
    /// use foveate_law::Unit;
    /// assert_eq!(Unit::Flops.format(366.2e9), "366 GFLOP");
    /// assert_eq!(Unit::Flops.format(999.9e9), "1 TFLOP");
    /// assert_eq!(Unit::Seconds.format(0.0015), "1.5 ms");
    /// assert_eq!(Unit::Bytes.format(13.5 * 1024f64.powi(3)), "13.5 GiB");
    /// assert_eq!(Unit::Plain.format(2.5e-7), "2.5×10⁻⁷");
    /// ```
    #[must_use]
    pub fn format(self, value: f64) -> String {
        let mut multiple = self.multiple(value);
        // 999.9 GFLOP rounds to 1000 GFLOP, which is written 1 TFLOP.
        let rounded = round_to_three(value / multiple.factor) * multiple.factor;
        multiple = self.multiple(rounded);
        format!("{}{}", three_digits(rounded / multiple.factor), multiple.suffix)
    }

    /// The multiple in which `value` is at least 1, or the smallest there is.
    pub(crate) fn multiple(self, value: f64) -> Multiple {
        let ladder: &[(f64, &str)] = match self {
            Self::Flops => &FLOPS,
            Self::Seconds => &SECONDS,
            Self::Bytes => &BYTES,
            Self::Percent => &PERCENT,
            Self::Plain => &PLAIN,
        };
        // A hair of tolerance: 1e-3 times 1e12 is not quite 1e9.
        let reached = ladder.iter().rev().find(|(factor, _)| value.abs() >= factor * (1.0 - 1e-9));
        let &(factor, suffix) = reached.unwrap_or(&ladder[0]);
        Multiple { factor, suffix }
    }
}

/// A measured value as its source has it: twelve significant digits at most, so that the rounding error of a scale or of
/// 1 − score stays out of sight.
pub(crate) fn exact(value: f64) -> String {
    let text = format!("{value:.11e}");
    let Ok(value) = text.parse::<f64>() else { return text };
    if value == 0.0 || (1e-5..1e16).contains(&value.abs()) { value.to_string() } else { format!("{value:e}") }
}

/// `value` with `decimals` digits behind the point and a true minus sign.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.contains(|c: char| c.is_ascii_digit() && c != '0') => format!("−{digits}"),
        Some(digits) => digits.to_owned(),
        None => text,
    }
}

/// `mantissa × 10^exponent` as text; a mantissa of one is left out.
pub(crate) fn scientific(mantissa: &str, exponent: i32) -> String {
    let power = format!("10{}", superscript(exponent));
    match mantissa {
        "1" => power,
        "−1" => format!("−{power}"),
        _ => format!("{mantissa}×{power}"),
    }
}

fn superscript(exponent: i32) -> String {
    exponent
        .to_string()
        .chars()
        .map(|character| match character {
            '-' => '⁻',
            '0' => '⁰',
            '1' => '¹',
            '2' => '²',
            '3' => '³',
            '4' => '⁴',
            '5' => '⁵',
            '6' => '⁶',
            '7' => '⁷',
            '8' => '⁸',
            _ => '⁹',
        })
        .collect()
}

/// The power of ten at or below the magnitude of `value`.
pub(crate) fn exponent_of(value: f64) -> i32 {
    // `{:e}` is exact where log10 may land on the wrong side of a power.
    let text = format!("{:e}", value.abs());
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

fn round_to_three(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

fn three_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = exponent_of(value);
    if (-3..6).contains(&exponent) {
        let decimals = usize::try_from(2 - exponent).unwrap_or(0);
        trim_zeros(&fixed(value, decimals))
    } else {
        let mantissa = value / 10f64.powi(exponent);
        scientific(&trim_zeros(&fixed(mantissa, 2)), exponent)
    }
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn multiples_carry_over_and_extremes_become_powers() {
        assert_eq!(Unit::Flops.format(1e9), "1 GFLOP");
        assert_eq!(Unit::Flops.format(1.0e12 * 1e-3), "1 GFLOP");
        assert_eq!(Unit::Flops.format(0.0), "0 FLOP");
        assert_eq!(Unit::Flops.format(3e31), "3×10⁷ YFLOP");
        assert_eq!(Unit::Bytes.format(1023.9 * 1024.0), "1020 KiB");
        assert_eq!(Unit::Bytes.format(1024.0), "1 KiB");
        assert_eq!(Unit::Seconds.format(2e-10), "0.2 ns");
        assert_eq!(Unit::Seconds.format(59.96), "60 s");
        assert_eq!(Unit::Plain.format(576.0), "576");
        assert_eq!(Unit::Plain.format(-0.0125), "−0.0125");
        assert_eq!(Unit::Plain.format(1e6), "10⁶");
        assert_eq!(Unit::Plain.format(-1e-12), "−10⁻¹²");
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(fixed(-0.01, 2), "−0.01");
    }

    #[test]
    fn exponents_are_exact_at_powers_of_ten() {
        for exponent in -300..300 {
            let power: f64 = format!("1e{exponent}").parse().unwrap();
            assert_eq!(exponent_of(power), exponent);
        }
    }
}
