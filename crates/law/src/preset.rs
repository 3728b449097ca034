//! The published measurements, embedded. Source: the fitting data released with arXiv 2411.03312; see `data/README.md`.

use crate::error::LawError;
use crate::read::{ReadOptions, read_str};
use crate::table::Table;

/// A published table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// Mean of nine visual-reasoning benchmarks.
    Reasoning,
    /// Mean of OCR-like benchmarks.
    Ocr,
}

impl Preset {
    /// Divides x1: sizes are given in parameters and fitted in billions.
    pub const SCALE1: f64 = 1e9;

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Reasoning => "reasoning",
            Preset::Ocr => "ocr",
        }
    }

    /// The table as published, CSV with columns `params,visual_tokens,score,note`.
    pub fn csv(self) -> &'static str {
        match self {
            Preset::Reasoning => include_str!("../data/reasoning.csv"),
            Preset::Ocr => include_str!("../data/ocr.csv"),
        }
    }

    /// The table, sizes in billions of parameters (nominal: 0.5, 1.8, 4 and 7).
    ///
    /// # Errors
    /// None in a build whose tests pass; the signature is the reader's.
    pub fn table(self) -> Result<Table, LawError> {
        let options = ReadOptions { scale1: Self::SCALE1, ..ReadOptions::default() };
        let tables = read_str(self.csv(), &format!("preset {}", self.name()), &options)?;
        tables
            .into_iter()
            .next()
            .ok_or_else(|| LawError::TooLittle { origin: self.name().into(), message: "no rows".into() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tokens::{Tokens, Units};

    #[test]
    fn both_tables_are_four_sizes_by_seven_token_counts() {
        for preset in [Preset::Reasoning, Preset::Ocr] {
            let table = preset.table().unwrap();
            assert_eq!(table.rows.len(), 28);
            assert_eq!(
                table.levels(),
                [vec![0.5, 1.8, 4.0, 7.0], vec![1.0, 4.0, 16.0, 36.0, 64.0, 144.0, 576.0]]
            );
        }
    }

    #[test]
    fn the_copied_ocr_cell_is_found_without_its_note() {
        let mut table = Preset::Ocr.table().unwrap();
        table.rows.iter_mut().for_each(|row| row.note = None);
        let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
        let remarks = table.remarks(&units);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        assert!(remarks[0].starts_with("preset ocr line 29 repeats the value of line 22"), "{remarks:?}");
    }
}
