//! A table of measurements: one row per (x1, x2), for example model size and visual tokens, with an error or loss.

use std::collections::BTreeMap;

use crate::tokens::{Tokens, Units};
use crate::units::exact;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// First factor, already divided by `scale1`; positive.
    pub x1: f64,
    /// Second factor, already divided by `scale2`; positive.
    pub x2: f64,
    /// Error in 0…1, or a loss; lower is better.
    pub y: f64,
    /// Weight in the objective; 1 unless the table gives a weight or a standard error (then 1/se²).
    pub weight: f64,
    /// Cluster for the bootstrap, for example a training run.
    pub run: Option<String>,
    /// A remark that came with the row.
    pub note: Option<String>,
    /// Line in the source, counted from 1.
    pub line: u64,
}

/// The rows of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// File or preset name, for messages.
    pub origin: String,
    /// Task, where the source has a task column.
    pub task: Option<String>,
    /// Column names of x1, x2 and y.
    pub columns: [String; 3],
    /// The measurements.
    pub rows: Vec<Row>,
}

impl Table {
    /// A table from plain triples (x1, x2, y), each of weight one.
    pub fn from_points(points: &[(f64, f64, f64)]) -> Table {
        let rows = points
            .iter()
            .zip(1..)
            .map(|(&(x1, x2, y), line)| Row { x1, x2, y, weight: 1.0, run: None, note: None, line })
            .collect();
        let columns = ["x1", "x2", "y"].map(String::from);
        Table { origin: "points".into(), task: None, columns, rows }
    }

    /// The distinct values of x1 and of x2, ascending.
    pub fn levels(&self) -> [Vec<f64>; 2] {
        [distinct(self.rows.iter().map(|row| row.x1)), distinct(self.rows.iter().map(|row| row.x2))]
    }

    /// Smallest and largest x1 and x2.
    pub fn ranges(&self) -> [[f64; 2]; 2] {
        self.levels().map(|levels| {
            [levels.first().copied().unwrap_or(f64::NAN), levels.last().copied().unwrap_or(f64::NAN)]
        })
    }

    /// The rows that `keep` accepts.
    pub fn filtered(&self, keep: impl Fn(&Row) -> bool) -> Table {
        Table { rows: self.rows.iter().filter(|row| keep(row)).cloned().collect(), ..self.clone() }
    }

    /// What a reader of this table should know before trusting a fit: cells given twice, measurements that agree to
    /// all their digits, and the table's own remarks. `units` are those that its rows were brought to; the remarks
    /// print x1 and x2 as the source has them.
    pub fn remarks(&self, units: &Units) -> Vec<String> {
        let mut remarks = self.repeated_cells(units);
        remarks.extend(self.repeated_values(units));
        for row in &self.rows {
            if let Some(note) = &row.note {
                remarks.push(format!("{} line {}: the table notes: {note}", self.origin, row.line));
            }
        }
        remarks
    }

    /// The table as messages name it: its origin, and its task if it has one.
    pub(crate) fn place(&self) -> String {
        match &self.task {
            Some(task) => format!("{}, task {task}", self.origin),
            None => self.origin.clone(),
        }
    }

    /// The cell of a row as the source writes it.
    fn cell(&self, row: &Row, units: &Units) -> String {
        let text_tokens = match units.tokens {
            Tokens::Visual => 0.0,
            Tokens::Total { text_tokens } => text_tokens,
        };
        let (x1, x2) = (row.x1 * units.scale1, row.x2 * units.scale2 - text_tokens);
        format!("{} = {}, {} = {}", self.columns[0], exact(x1), self.columns[1], exact(x2))
    }

    fn repeated_cells(&self, units: &Units) -> Vec<String> {
        let mut cells: BTreeMap<[u64; 2], Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            cells.entry([row.x1.to_bits(), row.x2.to_bits()]).or_default().push(row);
        }
        let mut found = Vec::new();
        for rows in cells.values().filter(|rows| rows.len() > 1) {
            // Repeated runs of a cell are replicates, not contradictions.
            if rows.iter().all(|row| row.run.is_some()) && distinct_runs(rows) == rows.len() {
                continue;
            }
            let lines = rows.iter().map(|row| row.line.to_string()).collect::<Vec<_>>().join(", ");
            let lines = format!("{} lines {lines}", self.origin);
            let first = rows[0];
            let cell = self.cell(first, units);
            if rows.iter().all(|row| row.y == first.y) {
                found.push(format!("{lines} repeat the same measurement ({cell}, error {})", exact(first.y)));
            } else {
                let values = rows.iter().map(|row| exact(row.y)).collect::<Vec<_>>().join(", ");
                found.push(format!("{lines} contradict each other ({cell}): errors {values}"));
            }
        }
        found
    }

    fn repeated_values(&self, units: &Units) -> Vec<String> {
        let mut values: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| significant_digits(row.y) >= 7) {
            values.entry(row.y.to_bits()).or_default().push(row);
        }
        let mut found = Vec::new();
        for rows in values.values() {
            let first = rows[0];
            for row in rows.iter().filter(|row| (row.x1, row.x2) != (first.x1, first.x2)) {
                found.push(format!(
                    "{} line {} repeats the value of line {} to every digit in another cell ({}): \
                     probably not a measurement of its own",
                    self.origin,
                    row.line,
                    first.line,
                    self.cell(row, units)
                ));
            }
        }
        found
    }
}

fn distinct_runs(rows: &[&Row]) -> usize {
    rows.iter().filter_map(|row| row.run.as_deref()).collect::<std::collections::BTreeSet<_>>().len()
}

fn distinct(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

/// Decimal digits of `value` without leading or trailing zeros. Twelve are looked at, because 1 − score carries a
/// rounding error in the last of its sixteen.
fn significant_digits(value: f64) -> usize {
    let text = format!("{value:.11e}");
    let mantissa = text.split('e').next().unwrap_or("").trim_end_matches('0');
    mantissa.chars().filter(char::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: Units = Units { scale1: 1.0, scale2: 1.0, tokens: Tokens::Visual };

    #[test]
    fn remarks_print_what_the_source_holds_and_no_rounding_error() {
        let units = Units { scale1: 1e9, scale2: 10.0, tokens: Tokens::Total { text_tokens: 50.0 } };
        let (x1, x2) = (0.57e9 / 1e9, (7.0 + 50.0) / 10.0);
        let table = Table::from_points(&[(x1, x2, 1.0 - 0.43), (x1, x2, 1.0 - 0.42), (x1, 9.0, 0.3)]);
        assert_eq!(
            table.remarks(&units),
            ["points lines 1, 2 contradict each other (x1 = 570000000, x2 = 7): errors 0.57, 0.58"]
        );
    }

    #[test]
    fn repeated_cells_and_values_are_pointed_out() {
        let table = Table::from_points(&[
            (1.0, 1.0, 0.5),
            (1.0, 1.0, 0.6),
            (1.0, 4.0, 0.4),
            (1.0, 4.0, 0.4),
            (2.0, 1.0, 0.653946319),
            (2.0, 4.0, 0.653946319),
        ]);
        let remarks = table.remarks(&UNITS);
        assert_eq!(remarks.len(), 3, "{remarks:?}");
        assert!(remarks[0].contains("lines 1, 2 contradict") && remarks[0].contains("0.5, 0.6"));
        assert!(remarks[1].contains("lines 3, 4 repeat the same measurement"));
        assert!(remarks[2].starts_with("points line 6 repeats the value of line 5"));
    }

    #[test]
    fn runs_of_one_cell_are_replicates() {
        let mut table = Table::from_points(&[(1.0, 1.0, 0.5), (1.0, 1.0, 0.6)]);
        for (row, run) in table.rows.iter_mut().zip(["s0", "s1"]) {
            row.run = Some(run.into());
        }
        assert!(table.remarks(&UNITS).is_empty());
    }

    #[test]
    fn digits_ignore_zeros_at_both_ends() {
        assert_eq!(significant_digits(0.00250), 2);
        assert_eq!(significant_digits(0.653946319), 9);
        assert_eq!(significant_digits(1.0 - 0.4131), 4);
        assert_eq!(significant_digits(12.0), 2);
    }
}
