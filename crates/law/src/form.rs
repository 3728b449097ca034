//! The two laws: error (or loss) falls as a power of each factor, towards a floor.
//!
//! Source: arXiv 2411.03312 section 3 (product form); the sum form is the usual one for loss over parameters and
//! training tokens. x1 is the size N (in units of the table's `scale1`), x2 the tokens the language model reads.

use serde::{Deserialize, Serialize};

/// Which law.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Form {
    /// `A · x1^-α · x2^-β + D`
    Product,
    /// `A · x1^-α + B · x2^-β + E`
    Sum,
}

impl Form {
    /// Both forms, in the order of this declaration.
    pub const ALL: [Form; 2] = [Form::Product, Form::Sum];

    /// The lower-case name used on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Form::Product => "product",
            Form::Sum => "sum",
        }
    }

    /// The formula in the field's notation.
    pub fn formula(self) -> &'static str {
        match self {
            Form::Product => "A·N^−α·T^−β + D",
            Form::Sum => "A·N^−α + B·T^−β + E",
        }
    }

    /// The name of the floor, the error that no size and no number of tokens removes.
    pub fn floor_name(self) -> &'static str {
        match self {
            Form::Product => "D",
            Form::Sum => "E",
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(self.name())
    }
}

/// A law with its coefficients.
///
/// ```
/// use foveate_law::Law;
/// let published = Law::Product { a: 0.59, alpha: 0.077, beta: 0.015, d: 0.0 };
/// assert!((published.predict(7.0, 36.0) - 0.4813).abs() < 1e-4);
/// assert!((published.ratio().unwrap() - 5.1333).abs() < 1e-4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Law {
    /// `A · x1^-α + B · x2^-β + E`
    Sum {
        /// Scale of the first term.
        #[serde(rename = "A")]
        a: f64,
        /// Exponent of x1.
        alpha: f64,
        /// Scale of the second term.
        #[serde(rename = "B")]
        b: f64,
        /// Exponent of x2.
        beta: f64,
        /// Floor.
        #[serde(rename = "E")]
        e: f64,
    },
    /// `A · x1^-α · x2^-β + D`
    Product {
        /// Scale.
        #[serde(rename = "A")]
        a: f64,
        /// Exponent of x1.
        alpha: f64,
        /// Exponent of x2.
        beta: f64,
        /// Floor.
        #[serde(rename = "D")]
        d: f64,
    },
}

impl Law {
    /// Which form this law has.
    pub fn form(&self) -> Form {
        match self {
            Law::Product { .. } => Form::Product,
            Law::Sum { .. } => Form::Sum,
        }
    }

    /// The error or loss at (x1, x2).
    pub fn predict(&self, x1: f64, x2: f64) -> f64 {
        match *self {
            Law::Product { a, alpha, beta, d } => a * (-alpha * x1.ln() - beta * x2.ln()).exp() + d,
            Law::Sum { a, alpha, b, beta, e } => {
                a * (-alpha * x1.ln()).exp() + b * (-beta * x2.ln()).exp() + e
            }
        }
    }

    /// The exponent of x1.
    pub fn alpha(&self) -> f64 {
        match *self {
            Law::Product { alpha, .. } | Law::Sum { alpha, .. } => alpha,
        }
    }

    /// The exponent of x2.
    pub fn beta(&self) -> f64 {
        match *self {
            Law::Product { beta, .. } | Law::Sum { beta, .. } => beta,
        }
    }

    /// The floor, D or E.
    pub fn floor(&self) -> f64 {
        match *self {
            Law::Product { d, .. } => d,
            Law::Sum { e, .. } => e,
        }
    }

    /// α/β, or `None` when β is zero.
    pub fn ratio(&self) -> Option<f64> {
        (self.beta() > 0.0).then(|| self.alpha() / self.beta())
    }

    /// Names and values in printing order.
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Law::Product { a, alpha, beta, d } => {
                vec![("A", a), ("alpha", alpha), ("beta", beta), ("D", d)]
            }
            Law::Sum { a, alpha, b, beta, e } => {
                vec![("A", a), ("alpha", alpha), ("B", b), ("beta", beta), ("E", e)]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_keeps_the_form() {
        let product = Law::Product { a: 1.0, alpha: 0.1, beta: 0.2, d: 0.3 };
        let sum = Law::Sum { a: 1.0, alpha: 0.1, b: 2.0, beta: 0.2, e: 0.3 };
        for law in [product, sum] {
            let text = serde_json::to_string(&law).unwrap();
            assert_eq!(serde_json::from_str::<Law>(&text).unwrap(), law, "{text}");
        }
    }

    #[test]
    fn sum_predicts_by_hand() {
        let law = Law::Sum { a: 4.0, alpha: 0.5, b: 27.0, beta: 1.0 / 3.0, e: 1.0 };
        assert!((law.predict(16.0, 27.0) - (1.0 + 9.0 + 1.0)).abs() < 1e-12);
    }
}
