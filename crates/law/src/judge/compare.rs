//! Product against sum: corrected Akaike criterion and error on held-out rows.

use serde::Serialize;

use super::holdout::{LeftOut, hold_out_largest, leave_each_out};
use crate::error::LawError;
use crate::fit::{FitOptions, Floor, Objective, fit};
use crate::form::{Form, Law};
use crate::table::Table;

/// How one form does on the table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormScore {
    /// Which form.
    pub law: Form,
    /// Its coefficients.
    pub coefficients: Law,
    /// Its objective, the plain sum.
    pub objective: f64,
    /// Fitted coefficients, exponents included.
    pub parameters: usize,
    /// AICc, lower is better; `None` when the table is too small for the correction.
    pub aicc: Option<f64>,
    /// Root mean square error on the largest x1 when it is held out, in units of y.
    pub holdout_rmse: Option<f64>,
    /// The same over all levels of both factors, each left out once.
    pub leave_out_rmse: Option<f64>,
    /// The fit without the largest x1.
    #[serde(skip)]
    pub holdout: Option<LeftOut>,
    /// The fits without one level each.
    #[serde(skip)]
    pub leave_out: Vec<LeftOut>,
}

/// Both forms on one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The product form.
    pub product: FormScore,
    /// The sum form, unless the table is too small for it.
    pub sum: Option<FormScore>,
    /// The form with the lower AICc.
    pub preferred: Form,
    /// AICc of the other form minus that of the preferred one; above 10 the other has next to no support.
    pub delta_aicc: Option<f64>,
}

/// Fits both forms and compares them.
///
/// # Errors
/// When not even one form can be fitted.
pub(crate) fn compare(table: &Table, options: &FitOptions) -> Result<Comparison, LawError> {
    let product = score(table, Form::Product, options)?;
    // The sum form has one coefficient more; a table that carries only the product is no error.
    let sum = score(table, Form::Sum, options).ok();
    let pair = sum.as_ref().and_then(|sum| Some((product.aicc?, sum.aicc?)));
    let preferred = match pair {
        Some((product, sum)) if sum < product => Form::Sum,
        _ => Form::Product,
    };
    let delta_aicc = pair.map(|(product, sum)| (product - sum).abs());
    Ok(Comparison { product, sum, preferred, delta_aicc })
}

impl Comparison {
    /// The score of a form.
    pub fn of(&self, form: Form) -> Option<&FormScore> {
        match form {
            Form::Product => Some(&self.product),
            Form::Sum => self.sum.as_ref(),
        }
    }
}

fn score(table: &Table, form: Form, options: &FitOptions) -> Result<FormScore, LawError> {
    let fit = fit(table, form, options)?;
    let floor = usize::from(options.floor == Floor::Free);
    let parameters = floor
        + match form {
            Form::Product => 3,
            Form::Sum => 4,
        };
    let left_out = leave_each_out(table, options, &fit.law);
    let rows: usize = left_out.iter().map(|left| left.n).sum();
    let squares: f64 = left_out.iter().map(|left| left.rmse.powi(2) * left.n as f64).sum();
    let holdout = hold_out_largest(table, options, &fit.law);
    Ok(FormScore {
        law: form,
        coefficients: fit.law,
        objective: fit.value,
        parameters,
        aicc: aicc(fit.value, fit.n, parameters, options.objective),
        holdout_rmse: holdout.as_ref().map(|left| left.rmse),
        leave_out_rmse: (rows > 0).then(|| (squares / rows as f64).sqrt()),
        holdout,
        leave_out: left_out,
    })
}

/// `−2 ln L + 2k + 2k(k+1)/(n−k−1)` up to a constant of the table, k counting the error's scale as well. The squared
/// objective is a Gaussian likelihood, the log-Huber one close to a Laplacian: 2n·ln(objective).
fn aicc(value: f64, n: usize, parameters: usize, objective: Objective) -> Option<f64> {
    let (n, k) = (n as f64, parameters as f64 + 1.0);
    if n - k - 1.0 <= 0.0 || value <= 0.0 {
        return None;
    }
    let deviance = match objective {
        Objective::Squared => n * (value / n).ln(),
        Objective::HuberLog { .. } => 2.0 * n * (value / n).ln(),
    };
    Some(deviance + 2.0 * k + 2.0 * k * (k + 1.0) / (n - k - 1.0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::preset::Preset;

    /// By hand: n = 28, product k = 4 + 1, sum k = 5 + 1, SSE from method.md.
    #[test]
    fn sum_fits_the_published_table_better() {
        let comparison = compare(&Preset::Reasoning.table().unwrap(), &FitOptions::default()).unwrap();
        let product = 28.0 * (3.79380e-4_f64 / 28.0).ln() + 10.0 + 60.0 / 22.0;
        let sum = 28.0 * (3.16760e-4_f64 / 28.0).ln() + 12.0 + 84.0 / 21.0;
        assert!((comparison.of(Form::Product).unwrap().aicc.unwrap() - product).abs() < 1e-3);
        assert!((comparison.of(Form::Sum).unwrap().aicc.unwrap() - sum).abs() < 1e-3);
        assert_eq!(comparison.preferred, Form::Sum);
        assert!((comparison.delta_aicc.unwrap() - (product - sum)).abs() < 1e-3);
    }

    #[test]
    fn each_form_wins_on_its_own_data() {
        let wobble = |place: f64| 1.0 + 0.002 * (17.0 * place).sin();
        for law in [
            Law::Product { a: 0.6, alpha: 0.4, beta: 0.2, d: 0.1 },
            Law::Sum { a: 0.3, alpha: 0.4, b: 0.4, beta: 0.3, e: 0.1 },
        ] {
            let mut points = Vec::new();
            for x1 in [0.2, 0.5, 1.8, 4.0, 9.0] {
                for x2 in [1.0, 4.0, 16.0, 64.0, 256.0] {
                    points.push((x1, x2, law.predict(x1, x2) * wobble(x1 + x2)));
                }
            }
            let found = compare(&Table::from_points(&points), &FitOptions::default()).unwrap();
            assert_eq!(found.preferred, law.form());
        }
    }
}
