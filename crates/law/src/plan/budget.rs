//! What may be spent on one question.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::LawError;
use crate::units::Unit;

/// An upper limit. In JSON `{"kind": "flops" | "seconds" | "bytes", "value": …}`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "value")]
#[non_exhaustive]
pub enum Budget {
    /// FLOPs a question.
    Flops(f64),
    /// Seconds a question.
    Seconds(f64),
    /// Bytes of memory held.
    Bytes(f64),
}

/// A unit as it is typed, the budget it makes, and its size.
type TypedUnit = (&'static str, fn(f64) -> Budget, f64);

/// Longest first where one ends another.
const UNITS: [TypedUnit; 25] = [
    ("pflops", Budget::Flops, 1e15),
    ("tflops", Budget::Flops, 1e12),
    ("gflops", Budget::Flops, 1e9),
    ("mflops", Budget::Flops, 1e6),
    ("kflops", Budget::Flops, 1e3),
    ("flops", Budget::Flops, 1.0),
    ("pflop", Budget::Flops, 1e15),
    ("tflop", Budget::Flops, 1e12),
    ("gflop", Budget::Flops, 1e9),
    ("mflop", Budget::Flops, 1e6),
    ("kflop", Budget::Flops, 1e3),
    ("flop", Budget::Flops, 1.0),
    ("tib", Budget::Bytes, 1_099_511_627_776.0),
    ("gib", Budget::Bytes, 1_073_741_824.0),
    ("mib", Budget::Bytes, 1_048_576.0),
    ("kib", Budget::Bytes, 1024.0),
    ("tb", Budget::Bytes, 1e12),
    ("gb", Budget::Bytes, 1e9),
    ("mb", Budget::Bytes, 1e6),
    ("kb", Budget::Bytes, 1e3),
    ("min", Budget::Seconds, 60.0),
    ("us", Budget::Seconds, 1e-6),
    ("µs", Budget::Seconds, 1e-6),
    ("ms", Budget::Seconds, 1e-3),
    ("s", Budget::Seconds, 1.0),
];

impl Budget {
    /// The same limit, `factor` times as large.
    pub fn scaled(self, factor: f64) -> Budget {
        match self {
            Budget::Flops(value) => Budget::Flops(value * factor),
            Budget::Seconds(value) => Budget::Seconds(value * factor),
            Budget::Bytes(value) => Budget::Bytes(value * factor),
        }
    }

    /// The limit in FLOPs, seconds or bytes.
    pub fn value(self) -> f64 {
        match self {
            Budget::Flops(value) | Budget::Seconds(value) | Budget::Bytes(value) => value,
        }
    }
}

impl FromStr for Budget {
    type Err = LawError;

    /// ```
    /// use foveate_law::Budget;
    /// assert_eq!("2TFLOP".parse::<Budget>()?, Budget::Flops(2e12));
    /// assert_eq!("800 ms".parse::<Budget>()?, Budget::Seconds(0.8));
    /// assert_eq!("6GiB".parse::<Budget>()?, Budget::Bytes(6.0 * 1024.0 * 1024.0 * 1024.0));
    /// # Ok::<(), foveate_law::LawError>(())
    /// ```
    fn from_str(text: &str) -> Result<Budget, LawError> {
        let refuse = || LawError::BadOption {
            option: "budget",
            value: format!("{text:?}"),
            allowed: "a number above 0 and a unit: FLOP, kFLOP … PFLOP; us, ms, s, min; KB … TB, KiB … TiB"
                .into(),
        };
        let lower = text.trim().to_ascii_lowercase();
        let (number, build, scale) = UNITS
            .iter()
            .find_map(|(unit, build, scale)| Some((lower.strip_suffix(unit)?, build, scale)))
            .ok_or_else(refuse)?;
        let number: f64 = number.trim().replace('_', "").parse().map_err(|_| refuse())?;
        let value = number * scale;
        if value.is_finite() && value > 0.0 { Ok(build(value)) } else { Err(refuse()) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&match *self {
            Budget::Flops(value) => Unit::Flops.format(value),
            Budget::Seconds(value) => Unit::Seconds.format(value),
            Budget::Bytes(value) => Unit::Bytes.format(value),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wrong_budgets_say_what_is_allowed() {
        for text in ["", "2", "TFLOP", "-1s", "nan ms", "1e400GFLOP", "5 apples", "0GB", "inf s"] {
            let error = text.parse::<Budget>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")) && error.contains("PFLOP"), "{error}");
        }
    }

    proptest! {
        /// What is printed reads back within the three digits printed.
        #[test]
        fn printing_reads_back(exponent in -6.0_f64..14.0, kind in 0..3) {
            let value = 10_f64.powf(exponent);
            let budget = match kind {
                0 if value >= 1.0 => Budget::Flops(value),
                1 if value >= 1024.0 => Budget::Bytes(value),
                // Nobody budgets days for a question; longer times are printed as powers of ten.
                _ => Budget::Seconds(value.min(86400.0)),
            };
            let back: Budget = budget.to_string().parse().unwrap();
            prop_assert!((back.value() / budget.value() - 1.0).abs() < 6e-3, "{} {}", back, value);
        }

        #[test]
        fn any_text_is_a_budget_or_an_error(text in ".{0,20}") {
            let _ = text.parse::<Budget>();
        }
    }
}
