//! Fits a law to a table.

mod linear;
mod problem;
mod robust;
mod screen;
mod search;
mod solve;

pub use problem::{Floor, Objective};
pub use screen::SearchRange;

pub(crate) use problem::{Exponents, Problem, Rows};
pub(crate) use screen::{Care, Screen, Valley};
pub(crate) use search::{Minimum, minimise, project};

use crate::error::LawError;
use crate::form::{Form, Law};
use crate::table::Table;

/// What to fit and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FitOptions {
    /// The objective to minimise.
    pub objective: Objective,
    /// What is known of the floor.
    pub floor: Floor,
    /// Where to look for the exponents.
    pub range: SearchRange,
}

impl Default for FitOptions {
    fn default() -> Self {
        FitOptions { objective: Objective::Squared, floor: Floor::Free, range: SearchRange::default() }
    }
}

impl FitOptions {
    fn check(&self) -> Result<(), LawError> {
        let refuse = |option, value: f64, allowed: &str| {
            Err(LawError::BadOption { option, value: value.to_string(), allowed: allowed.into() })
        };
        match self.objective {
            Objective::HuberLog { delta } if !(delta.is_finite() && delta > 0.0) => {
                refuse("delta", delta, "a finite number above 0")
            }
            _ => match self.floor {
                Floor::Fixed(value) if !(value.is_finite() && value >= 0.0) => {
                    refuse("floor", value, "free, or a finite number of 0 or more")
                }
                _ if !(self.range.low >= 0.0 && self.range.low.is_finite()) => {
                    refuse("lowest exponent", self.range.low, "0 or more")
                }
                _ if !(self.range.high > self.range.low && self.range.high <= 100.0) => {
                    refuse("largest exponent", self.range.high, "above the lowest and at most 100")
                }
                _ => Ok(()),
            },
        }
    }
}

/// A fitted law.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The law in the table's units.
    pub law: Law,
    /// The least value of the objective: the plain weighted sum, no half, no mean.
    pub value: f64,
    /// Number of rows.
    pub n: usize,
}

/// Fits one law.
///
/// # Errors
/// Options out of range; one level only of a factor, fewer rows than coefficients, and for the log-Huber objective an
/// error of zero: each by column name.
///
/// ```
/// use foveate_law::{FitOptions, Form, Preset, fit};
/// let fit = fit(&Preset::Reasoning.table()?, Form::Product, &FitOptions::default())?;
/// assert!((fit.law.alpha() - 0.070937).abs() < 5e-7);
/// assert!((fit.law.beta() - 0.015102).abs() < 5e-7);
/// # Ok::<(), foveate_law::LawError>(())
/// ```
pub fn fit(table: &Table, form: Form, options: &FitOptions) -> Result<Fit, LawError> {
    check(table, form, options)?;
    let rows = Rows::new(table);
    let (problem, minimum) = solve(&rows, form, options);
    Ok(Fit { law: problem.law(minimum.theta, &minimum.c), value: minimum.value, n: rows.len() })
}

/// Fits a table that differs little from the one `near` was fitted to: followed from there and from the two lowest valleys
/// of the squared objective only.
pub(crate) fn refit(table: &Table, options: &FitOptions, near: &Law) -> Result<Fit, LawError> {
    let form = near.form();
    check(table, form, options)?;
    let rows = Rows::new(table);
    let problem = options.problem(&rows, &rows.weight, form);
    let screen = Screen::new(&rows, options.range);
    let minimum = minimise(&problem, options.range, &screen, Care::Quick, Some(problem.valley(near)));
    Ok(Fit { law: problem.law(minimum.theta, &minimum.c), value: minimum.value, n: rows.len() })
}

pub(crate) fn solve<'a>(rows: &'a Rows, form: Form, options: &FitOptions) -> (Problem<'a>, Minimum) {
    let problem = options.problem(rows, &rows.weight, form);
    let screen = Screen::new(rows, options.range);
    let minimum = minimise(&problem, options.range, &screen, Care::Thorough, None);
    (problem, minimum)
}

impl FitOptions {
    pub(crate) fn problem<'a>(&self, rows: &'a Rows, weight: &'a [f64], form: Form) -> Problem<'a> {
        Problem { rows, weight, form, floor: self.floor, objective: self.objective }
    }
}

/// Whether the options are in range and the table can carry a law at all: two levels of each factor, as many rows as
/// coefficients, and for the logarithmic objective no error of zero.
pub(crate) fn check(table: &Table, form: Form, options: &FitOptions) -> Result<(), LawError> {
    options.check()?;
    let too_little = |message: String| Err(LawError::TooLittle { origin: table.place(), message });
    for (levels, column) in table.levels().iter().zip(&table.columns) {
        if levels.len() < 2 {
            let have = levels.iter().map(f64::to_string).collect::<Vec<_>>().join(", ");
            return too_little(format!(
                "column {column:?} has one level only ({have}); a law over two factors needs two or more of each"
            ));
        }
    }
    let wanted = match form {
        Form::Product => 3,
        Form::Sum => 4,
    } + usize::from(options.floor == Floor::Free);
    if table.rows.len() < wanted {
        return too_little(format!(
            "{} rows, but the {form} law has {wanted} coefficients; at least that many rows are needed",
            table.rows.len()
        ));
    }
    if let (Objective::HuberLog { .. }, Some(row)) =
        (options.objective, table.rows.iter().find(|row| row.y <= 0.0))
    {
        return Err(LawError::BadValue {
            origin: table.place(),
            line: row.line,
            column: table.columns[2].clone(),
            value: row.y.to_string(),
            problem: "has no logarithm; the huber-log objective needs errors above 0".into(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
