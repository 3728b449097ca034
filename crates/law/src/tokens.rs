//! What counts as tokens: the visual ones alone (the published exponents) or all that the language model reads.

use serde::{Deserialize, Serialize};

use crate::form::Law;
use crate::table::Table;

/// The token convention of a law.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "convention")]
#[non_exhaustive]
pub enum Tokens {
    /// T = V. The published exponents were fitted so.
    Visual,
    /// T = Q + V, as the paper's text has it, with the Q of the measurements.
    Total {
        /// Q, text tokens of each question.
        text_tokens: f64,
    },
}

impl Tokens {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Tokens::Visual => "visual",
            Tokens::Total { .. } => "total",
        }
    }

    /// Replaces V by T in a table whose x2 was divided by `scale2`.
    pub fn apply(self, table: &mut Table, scale2: f64) {
        if let Tokens::Total { text_tokens } = self {
            table.rows.iter_mut().for_each(|row| row.x2 += text_tokens / scale2);
        }
    }
}

/// Whether a column of this name counts visual tokens: tables of two other factors have other costs and other advice.
pub(crate) fn names_visual_tokens(column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    ["visual_tokens", "vision_tokens", "image_tokens", "v"].contains(&column.as_str())
}

/// A law together with its units, ready to be asked about a model and a token count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Units {
    /// x1 was divided by this.
    pub scale1: f64,
    /// x2 was divided by this.
    pub scale2: f64,
    /// What x2 counts.
    pub tokens: Tokens,
}

impl Units {
    /// The error that `law` predicts for a language model of `params` parameters reading `visual_tokens` and, where the
    /// convention counts them, `text_tokens`.
    pub fn predict(&self, law: &Law, params: f64, visual_tokens: f64, text_tokens: f64) -> f64 {
        let tokens = match self.tokens {
            Tokens::Visual => visual_tokens,
            Tokens::Total { .. } => visual_tokens + text_tokens,
        };
        law.predict(params / self.scale1, tokens / self.scale2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_counts_the_text_in_both_directions() {
        let tokens = Tokens::Total { text_tokens: 50.0 };
        let mut table = Table::from_points(&[(1.0, 0.1, 0.5)]);
        tokens.apply(&mut table, 10.0);
        assert_eq!(table.rows[0].x2, 5.1);
        let law = Law::Product { a: 1.0, alpha: 0.0, beta: 1.0, d: 0.0 };
        let units = Units { scale1: 1.0, scale2: 10.0, tokens };
        assert!((units.predict(&law, 3.0, 1.0, 50.0) - 1.0 / 5.1).abs() < 1e-15);
        assert!(
            (Units { tokens: Tokens::Visual, ..units }.predict(&law, 3.0, 1.0, 50.0) - 10.0).abs() < 1e-12
        );
    }
}
