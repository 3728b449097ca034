//! One fitting problem: rows in centred logarithms, a form, a floor, an objective; its value and derivatives.
//!
//! With u = ln x1 − mean and v = ln x2 − mean the laws read
//! `c0 · e^(−αu − βv) + floor` and `c0 · e^(−αu) + c1 · e^(−βv) + floor`: a unit of x1 or x2 changes neither the
//! exponents nor the rounding. Both are linear in the coefficients c once the exponents θ = (α, β) are known.

use super::screen::Valley;
use crate::form::{Form, Law};
use crate::table::Table;

/// How far a row is from the law, and what that costs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// Σ w·(y − law)², the plain sum.
    Squared,
    /// Σ w·huber_δ(ln law − ln y), the plain sum, huber_δ(e) = e²/2 inside δ and δ·(|e| − δ/2) outside.
    HuberLog {
        /// Where the square turns into a line.
        delta: f64,
    },
}

impl Objective {
    /// The name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Objective::Squared => "squared",
            Objective::HuberLog { .. } => "huber-log",
        }
    }
}

/// What is known of the floor (D or E).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Floor {
    /// Fitted, zero or more.
    Free,
    /// Held at this value.
    Fixed(f64),
    /// Fitted without a bound; used to see whether the bound at zero decides the exponents.
    AnySign,
}

/// Rows sorted by (x1, x2, y, weight), so that the order in the file changes not even the last bit.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) u: Vec<f64>,
    pub(crate) v: Vec<f64>,
    pub(crate) y: Vec<f64>,
    pub(crate) ln_y: Vec<f64>,
    pub(crate) weight: Vec<f64>,
    /// Index of the row in the table it came from.
    pub(crate) source: Vec<usize>,
    mean_u: f64,
    mean_v: f64,
}

impl Rows {
    pub(crate) fn new(table: &Table) -> Rows {
        let mut source: Vec<usize> = (0..table.rows.len()).collect();
        let key = |index: usize| {
            let row = &table.rows[index];
            [row.x1, row.x2, row.y, row.weight]
        };
        source.sort_by(|&left, &right| {
            let pairs = key(left).into_iter().zip(key(right));
            pairs.fold(std::cmp::Ordering::Equal, |order, (a, b)| order.then(a.total_cmp(&b)))
        });
        let rows = || source.iter().map(|&index| &table.rows[index]);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let ln_x1: Vec<f64> = rows().map(|row| row.x1.ln()).collect();
        let ln_x2: Vec<f64> = rows().map(|row| row.x2.ln()).collect();
        let (mean_u, mean_v) = (mean(&ln_x1), mean(&ln_x2));
        Rows {
            u: ln_x1.iter().map(|x| x - mean_u).collect(),
            v: ln_x2.iter().map(|x| x - mean_v).collect(),
            y: rows().map(|row| row.y).collect(),
            ln_y: rows().map(|row| row.y.ln()).collect(),
            weight: rows().map(|row| row.weight).collect(),
            source,
            mean_u,
            mean_v,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.y.len()
    }

    /// The same places with other measurements (residual bootstrap).
    pub(crate) fn with_y(&self, y: Vec<f64>) -> Rows {
        Rows { ln_y: y.iter().map(|y| y.ln()).collect(), y, ..self.clone() }
    }
}

/// Exponents (α, β).
pub(crate) type Exponents = [f64; 2];

/// At most three linear coefficients; unused ones stay 0.
pub(crate) type Linear = [f64; 3];

/// α, β and the linear coefficients, in this order.
pub(crate) const PARAMETERS: usize = 5;

/// A matrix over all parameters.
pub(crate) type Square = [[f64; PARAMETERS]; PARAMETERS];

/// Value, gradient and second derivatives with respect to (α, β, c0, c1, c2).
#[derive(Clone, Debug)]
pub(crate) struct Derivatives {
    pub(crate) value: f64,
    pub(crate) gradient: [f64; PARAMETERS],
    pub(crate) hessian: Square,
    /// The Hessian of the weighted least squares that touch the objective here from above (Gauss–Newton with Huber's
    /// weights): positive semi-definite everywhere.
    pub(crate) majorant: Square,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Problem<'a> {
    pub(crate) rows: &'a Rows,
    /// Weights of this fit; a bootstrap draw multiplies them by how often a row was drawn.
    pub(crate) weight: &'a [f64],
    pub(crate) form: Form,
    pub(crate) floor: Floor,
    pub(crate) objective: Objective,
}

impl<'a> Problem<'a> {
    /// Number of columns: power terms, and a constant unless the floor is fixed.
    pub(crate) fn columns(&self) -> usize {
        self.power_columns() + usize::from(!matches!(self.floor, Floor::Fixed(_)))
    }

    pub(crate) fn power_columns(&self) -> usize {
        match self.form {
            Form::Product => 1,
            Form::Sum => 2,
        }
    }

    /// The index of the coefficient that exponent `index` belongs to.
    pub(crate) fn term_of(&self, index: usize) -> usize {
        match self.form {
            Form::Product => 0,
            Form::Sum => index,
        }
    }

    /// What is added to the columns: the fixed floor, or nothing.
    pub(crate) fn offset(&self) -> f64 {
        if let Floor::Fixed(value) = self.floor { value } else { 0.0 }
    }

    /// Whether coefficient `index` may not fall below zero.
    pub(crate) fn bounded(&self, index: usize) -> bool {
        index < self.power_columns() || self.floor != Floor::AnySign
    }

    /// The column values of every row at these exponents.
    pub(crate) fn design(&self, [alpha, beta]: Exponents) -> Vec<Linear> {
        let places = self.rows.u.iter().zip(&self.rows.v);
        match self.form {
            Form::Product => places.map(|(u, v)| [(-alpha * u - beta * v).exp(), 1.0, 0.0]).collect(),
            Form::Sum => places.map(|(u, v)| [(-alpha * u).exp(), (-beta * v).exp(), 1.0]).collect(),
        }
    }

    /// The law's value in a row with these column values.
    pub(crate) fn model(&self, columns: &Linear, c: &Linear) -> f64 {
        let used = self.columns();
        columns[..used].iter().zip(&c[..used]).map(|(g, c)| g * c).sum::<f64>() + self.offset()
    }

    /// The objective; infinite where the logarithm does not exist.
    pub(crate) fn value(&self, design: &[Linear], c: &Linear) -> f64 {
        let mut sum = 0.0;
        for (row, columns) in design.iter().enumerate() {
            let model = self.model(columns, c);
            sum += self.weight[row]
                * match self.objective {
                    Objective::Squared => (model - self.rows.y[row]).powi(2),
                    Objective::HuberLog { delta } => huber(model.ln() - self.rows.ln_y[row], delta).0,
                };
        }
        if sum.is_finite() { sum } else { f64::INFINITY }
    }

    /// Value and derivatives in all parameters; columns that are not used have zeros.
    pub(crate) fn derivatives(&self, design: &[Linear], c: &Linear) -> Derivatives {
        let mut out =
            Derivatives { value: 0.0, gradient: [0.0; 5], hessian: [[0.0; 5]; 5], majorant: [[0.0; 5]; 5] };
        let used = self.columns();
        for (row, columns) in design.iter().enumerate() {
            let (u, v) = (self.rows.u[row], self.rows.v[row]);
            let RowLoss { value, first, second, above } = self.row_loss(row, self.model(columns, c));
            out.value += value;
            // m and its derivatives: `slope` has ∂m/∂(α, β, c…), `curve` the non-zero second derivatives.
            let mut slope = [0.0; PARAMETERS];
            slope[2..2 + used].copy_from_slice(&columns[..used]);
            let h = &mut out.hessian;
            match self.form {
                Form::Product => {
                    let term = c[0] * columns[0];
                    (slope[0], slope[1]) = (-u * term, -v * term);
                    h[0][0] += first * u * u * term;
                    h[0][1] += first * u * v * term;
                    h[1][1] += first * v * v * term;
                    h[0][2] -= first * u * columns[0];
                    h[1][2] -= first * v * columns[0];
                }
                Form::Sum => {
                    let (left, right) = (c[0] * columns[0], c[1] * columns[1]);
                    (slope[0], slope[1]) = (-u * left, -v * right);
                    h[0][0] += first * u * u * left;
                    h[1][1] += first * v * v * right;
                    h[0][2] -= first * u * columns[0];
                    h[1][3] -= first * v * columns[1];
                }
            }
            for i in 0..2 + used {
                out.gradient[i] += first * slope[i];
                for j in i..2 + used {
                    let outer = slope[i] * slope[j];
                    h[i][j] += second * outer;
                    out.majorant[i][j] += above * outer;
                }
            }
        }
        for i in 0..PARAMETERS {
            for j in 0..i {
                out.hessian[i][j] = out.hessian[j][i];
                out.majorant[i][j] = out.majorant[j][i];
            }
        }
        out
    }

    fn row_loss(&self, row: usize, model: f64) -> RowLoss {
        let weight = self.weight[row];
        match self.objective {
            Objective::Squared => {
                let residual = model - self.rows.y[row];
                let (first, second) = (2.0 * weight * residual, 2.0 * weight);
                RowLoss { value: weight * residual * residual, first, second, above: second }
            }
            Objective::HuberLog { delta } => {
                let residual = model.ln() - self.rows.ln_y[row];
                let (value, first, second) = huber(residual, delta);
                let inverse = 1.0 / model;
                let curve = weight * inverse * inverse;
                RowLoss {
                    value: weight * value,
                    first: weight * first * inverse,
                    second: curve * (second - first),
                    above: curve * (delta / residual.abs()).min(1.0),
                }
            }
        }
    }

    /// Fills in the weights at which the squared residual of every row has the slope of its Huber loss: where reweighted
    /// least squares stands still, so does the loss. Returns the objective.
    pub(crate) fn touching_weights(&self, design: &[Linear], c: &Linear, weights: &mut [f64]) -> f64 {
        let Objective::HuberLog { delta } = self.objective else {
            weights.copy_from_slice(self.weight);
            return self.value(design, c);
        };
        let mut sum = 0.0;
        for (row, columns) in design.iter().enumerate() {
            let (model, y) = (self.model(columns, c), self.rows.y[row]);
            let residual = model.ln() - self.rows.ln_y[row];
            sum += self.weight[row] * huber(residual, delta).0;
            weights[row] = self.weight[row]
                * match residual.abs() {
                    // The law is zero here; least squares pulls it up without help.
                    size if !size.is_finite() => y.powi(-2),
                    size if size < 1e-9 => model.powi(-2),
                    size => size.min(delta) / (model * (model - y).abs()),
                };
        }
        if sum.is_finite() { sum } else { f64::INFINITY }
    }

    /// A law of this form in the table's units, as a place to start from.
    pub(crate) fn valley(&self, law: &Law) -> Valley {
        let theta = [law.alpha(), law.beta()];
        let (left, right) = (-theta[0] * self.rows.mean_u, -theta[1] * self.rows.mean_v);
        let c = match *law {
            Law::Product { a, d, .. } => [a * (left + right).exp(), d, 0.0],
            Law::Sum { a, b, e, .. } => [a * left.exp(), b * right.exp(), e],
        };
        Valley { theta, c }
    }

    /// The law in the table's units.
    pub(crate) fn law(&self, [alpha, beta]: Exponents, c: &Linear) -> Law {
        let (left, right) = (alpha * self.rows.mean_u, beta * self.rows.mean_v);
        let floor = if let Floor::Fixed(value) = self.floor { value } else { c[self.power_columns()] };
        match self.form {
            Form::Product => Law::Product { a: c[0] * (left + right).exp(), alpha, beta, d: floor },
            Form::Sum => Law::Sum { a: c[0] * left.exp(), alpha, b: c[1] * right.exp(), beta, e: floor },
        }
    }
}

/// Loss of a row and its derivatives with respect to the law's value there.
struct RowLoss {
    value: f64,
    first: f64,
    second: f64,
    /// Second derivative of the parabola that touches the loss from above.
    above: f64,
}

/// Huber's function and its first two derivatives.
fn huber(residual: f64, delta: f64) -> (f64, f64, f64) {
    if residual.abs() <= delta {
        (0.5 * residual * residual, residual, 1.0)
    } else {
        (delta * (residual.abs() - 0.5 * delta), delta * residual.signum(), 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<(f64, f64, f64)> {
        let law = Law::Sum { a: 0.8, alpha: 0.3, b: 0.4, beta: 0.2, e: 0.1 };
        let mut points = Vec::new();
        for x1 in [0.5, 2.0, 9.0] {
            for x2 in [1.0, 5.0, 40.0] {
                points.push((x1, x2, law.predict(x1, x2) * (1.0 + 0.01 * (x1 * x2).sin())));
            }
        }
        points
    }

    /// Gradient and Hessian agree with central differences, for both forms and both objectives.
    #[test]
    fn derivatives_agree_with_differences() {
        let rows = Rows::new(&Table::from_points(&points()));
        for form in Form::ALL {
            for objective in [Objective::Squared, Objective::HuberLog { delta: 0.05 }] {
                let problem =
                    Problem { rows: &rows, weight: &rows.weight, form, floor: Floor::Free, objective };
                let at = [0.25, 0.15, 0.7, 0.5, 0.12];
                let split = |p: [f64; 5]| ([p[0], p[1]], [p[2], p[3], p[4]]);
                let gradient = |p: [f64; 5]| {
                    let (theta, c) = split(p);
                    problem.derivatives(&problem.design(theta), &c)
                };
                let exact = gradient(at);
                for i in 0..2 + problem.columns() {
                    let step = 1e-6;
                    let (mut up, mut down) = (at, at);
                    up[i] += step;
                    down[i] -= step;
                    let (up, down) = (gradient(up), gradient(down));
                    let slope = (up.value - down.value) / (2.0 * step);
                    assert!((slope - exact.gradient[i]).abs() < 1e-7, "{form} {objective:?} {i}");
                    for j in 0..2 + problem.columns() {
                        let curve = (up.gradient[j] - down.gradient[j]) / (2.0 * step);
                        assert!((curve - exact.hessian[i][j]).abs() < 1e-6, "{form} {objective:?} {i} {j}");
                    }
                }
            }
        }
    }

    #[test]
    fn order_of_rows_changes_nothing() {
        let mut reversed = points();
        reversed.reverse();
        let (one, two) =
            (Rows::new(&Table::from_points(&points())), Rows::new(&Table::from_points(&reversed)));
        assert_eq!((&one.u, &one.y), (&two.u, &two.y));
        assert_ne!(one.source, two.source);
    }
}
