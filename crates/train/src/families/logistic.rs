//! Multinomial logistic regression with a ridge, by Newton's method: small, exact, the same on every run.
//!
//! Minimised is the mean of −log p(class | x) plus ridge/2 · Σ w² over the weights of standardised inputs; biases carry no ridge.
//! The first class is the reference, whose weights are 0, so that the minimum is unique. Each step is halved until the objective
//! falls; it ends where no part of the gradient is above [`TOLERANCE`].

/// The largest part of the gradient at which a fit is done.
pub(crate) const TOLERANCE: f64 = 1e-9;
/// Newton's steps at most; a handful is usual.
const MOST_STEPS: usize = 200;
/// Halvings of a step at most: beyond them it changes nothing in 64 bits.
const MOST_HALVINGS: usize = 50;

/// A fit on the inputs as they were given: standardisation is folded in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Logistic {
    /// A row for each class.
    pub(crate) weights: Vec<Vec<f64>>,
    /// One for each class.
    pub(crate) bias: Vec<f64>,
    /// The largest part of the gradient at the end.
    pub(crate) gradient: f64,
}

/// Fits `classes` classes to rows of equal width with their classes. There are rows of every class.
pub(crate) fn fit(rows: &[(&[f64], usize)], classes: usize, ridge: f64) -> Logistic {
    let width = rows.first().map_or(0, |(row, _)| row.len());
    let scale = Standard::of(rows, width);
    let standard: Vec<(Vec<f64>, usize)> =
        rows.iter().map(|(row, class)| (scale.apply(row), *class)).collect();
    let problem = Problem { rows: &standard, width, free: classes - 1, ridge };
    let (parameters, gradient) = problem.minimise();
    let (mut weights, mut bias) = (vec![vec![0.0; width]], vec![0.0]);
    for own in parameters.chunks(width + 1) {
        let folded: Vec<f64> = own[..width].iter().zip(&scale.deviation).map(|(w, s)| w / s).collect();
        bias.push(own[width] - folded.iter().zip(&scale.mean).map(|(w, mean)| w * mean).sum::<f64>());
        weights.push(folded);
    }
    Logistic { weights, bias, gradient }
}

/// Mean and deviation of each column.
struct Standard {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Standard {
    fn of(rows: &[(&[f64], usize)], width: usize) -> Standard {
        let count = rows.len().max(1) as f64;
        let column = |at: usize| rows.iter().map(move |(row, _)| row[at]);
        let mean: Vec<f64> = (0..width).map(|at| column(at).sum::<f64>() / count).collect();
        let spread = |at: usize| {
            let mean = mean[at];
            let variance = column(at).map(|value| (value - mean).powi(2)).sum::<f64>() / count;
            // A column that never changes says nothing, and must not be blown up.
            let noise = 1e-9 * (1.0 + mean.abs());
            if variance.sqrt() > noise { variance.sqrt() } else { 1.0 }
        };
        let deviation = (0..width).map(spread).collect();
        Standard { mean, deviation }
    }

    /// With a 1 behind, for the bias.
    fn apply(&self, row: &[f64]) -> Vec<f64> {
        let columns = row.iter().zip(&self.mean).zip(&self.deviation);
        columns.map(|((value, mean), deviation)| (value - mean) / deviation).chain([1.0]).collect()
    }
}

/// Parameters are `free` blocks of `width` weights and a bias.
struct Problem<'a> {
    /// Standardised, each with a 1 at its end.
    rows: &'a [(Vec<f64>, usize)],
    width: usize,
    /// Classes but the first.
    free: usize,
    ridge: f64,
}

impl Problem<'_> {
    /// Probabilities of the free classes, and −log p of the right one.
    fn judge(&self, parameters: &[f64], row: &[f64], class: usize) -> (Vec<f64>, f64) {
        let block = self.width + 1;
        let score = |own: &[f64]| own.iter().zip(row).map(|(w, x)| w * x).sum::<f64>();
        let scores: Vec<f64> = parameters.chunks(block).map(score).collect();
        let most = scores.iter().copied().fold(0.0, f64::max);
        let sum = (-most).exp() + scores.iter().map(|score| (score - most).exp()).sum::<f64>();
        let own = if class == 0 { 0.0 } else { scores[class - 1] };
        let parts = scores.iter().map(|score| (score - most).exp() / sum).collect();
        (parts, most + sum.ln() - own)
    }

    fn objective(&self, parameters: &[f64]) -> f64 {
        let loss: f64 = self.rows.iter().map(|(row, class)| self.judge(parameters, row, *class).1).sum();
        let weights = parameters.chunks(self.width + 1).flat_map(|own| &own[..self.width]);
        loss / self.rows.len() as f64 + 0.5 * self.ridge * weights.map(|w| w * w).sum::<f64>()
    }

    /// The gradient and the Hessian's lower triangle, row by row.
    fn derivatives(&self, parameters: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (block, size) = (self.width + 1, parameters.len());
        let (mut gradient, mut hessian) = (vec![0.0; size], vec![vec![0.0; size]; size]);
        let share = 1.0 / self.rows.len() as f64;
        for (row, class) in self.rows {
            let (parts, _) = self.judge(parameters, row, *class);
            for (one, part) in parts.iter().enumerate() {
                let residual = share * (part - f64::from(u8::from(*class == one + 1)));
                for (at, x) in row.iter().enumerate() {
                    gradient[one * block + at] += residual * x;
                }
                for (other, second) in parts[..=one].iter().enumerate() {
                    let curve = share * part * (f64::from(u8::from(one == other)) - second);
                    for (at, x) in row.iter().enumerate() {
                        let (line, factor) = (&mut hessian[one * block + at], curve * x);
                        let line = &mut line[other * block..][..block];
                        line.iter_mut().zip(row).for_each(|(sum, y)| *sum += factor * y);
                    }
                }
            }
        }
        for at in (0..size).filter(|at| at % block < self.width) {
            gradient[at] += self.ridge * parameters[at];
            hessian[at][at] += self.ridge;
        }
        (gradient, hessian)
    }

    fn minimise(&self) -> (Vec<f64>, f64) {
        let mut parameters = vec![0.0; self.free * (self.width + 1)];
        let mut value = self.objective(&parameters);
        let mut largest = f64::INFINITY;
        for _ in 0..MOST_STEPS {
            let (gradient, hessian) = self.derivatives(&parameters);
            largest = gradient.iter().fold(0.0, |most: f64, part| most.max(part.abs()));
            if largest <= TOLERANCE {
                break;
            }
            let Some(step) = solve(hessian, &gradient) else { break };
            let descent: f64 = step.iter().zip(&gradient).map(|(step, part)| step * part).sum();
            let mut length = 1.0;
            let mut better = None;
            for _ in 0..MOST_HALVINGS {
                let next: Vec<f64> =
                    parameters.iter().zip(&step).map(|(now, step)| now - length * step).collect();
                let found = self.objective(&next);
                // Armijo's rule; near the minimum the last bits of the sum decide nothing.
                if found <= value - 1e-4 * length * descent + 1e-15 * value.abs() {
                    better = Some((next, found));
                    break;
                }
                length /= 2.0;
            }
            let Some((next, found)) = better else { break };
            (parameters, value) = (next, found);
        }
        (parameters, largest)
    }
}

/// Solves a positive definite system by Cholesky's factors; only the lower triangle is read. `None` where it is not definite.
fn solve(mut matrix: Vec<Vec<f64>>, right: &[f64]) -> Option<Vec<f64>> {
    let size = right.len();
    for row in 0..size {
        for column in 0..=row {
            let (above, below) = matrix.split_at_mut(row);
            let known: f64 = match above.get(column) {
                Some(other) => other[..column].iter().zip(&below[0]).map(|(a, b)| a * b).sum(),
                None => below[0][..column].iter().map(|a| a * a).sum(),
            };
            let rest = below[0][column] - known;
            below[0][column] = match above.get(column) {
                Some(other) => rest / other[column],
                None if rest > 0.0 => rest.sqrt(),
                None => return None,
            };
        }
    }
    let mut x = right.to_vec();
    for row in 0..size {
        let known: f64 = matrix[row][..row].iter().zip(&x).map(|(a, b)| a * b).sum();
        x[row] = (x[row] - known) / matrix[row][row];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|below| matrix[below][row] * x[below]).sum();
        x[row] = (x[row] - known) / matrix[row][row];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fitted(rows: &[(Vec<f64>, usize)], classes: usize, ridge: f64) -> Logistic {
        fit(&rows.iter().map(|(row, class)| (row.as_slice(), *class)).collect::<Vec<_>>(), classes, ridge)
    }

    /// Without a ridge and with one column of 0 and 1 the fit is the table of counts: log odds in closed form.
    #[test]
    fn a_table_of_counts_has_its_log_odds() {
        let mut rows = Vec::new();
        for (value, counts) in [(0.0, [30, 10, 5]), (1.0, [8, 24, 12])] {
            for (class, count) in counts.into_iter().enumerate() {
                rows.extend(vec![(vec![value], class); count]);
            }
        }
        let found = fitted(&rows, 3, 0.0);
        assert!(found.gradient <= TOLERANCE, "{found:?}");
        for (class, [without, with]) in [(1, [10.0 / 30.0, 24.0 / 8.0]), (2, [5.0 / 30.0, 12.0 / 8.0_f64])] {
            assert!((found.bias[class] - f64::ln(without)).abs() < 1e-7, "{found:?}");
            assert!((found.weights[class][0] - f64::ln(with / without)).abs() < 1e-7, "{found:?}");
        }
        assert_eq!((&found.weights[0], found.bias[0]), (&vec![0.0], 0.0));
    }

    /// Units and offsets of the inputs change the weights and no probability; a constant column changes nothing.
    #[test]
    fn standardisation_makes_units_no_matter() {
        let mut rows = Vec::new();
        for nth in 0..60_u32 {
            let (x, y) = (f64::from(nth * 7 % 13) - 6.0, f64::from(nth * 5 % 11) - 5.0);
            rows.push((vec![x, y], usize::from(x - 0.5 * y + f64::from(nth % 3) > 1.0)));
        }
        let plain = fitted(&rows, 2, 1e-2);
        let moved: Vec<(Vec<f64>, usize)> =
            rows.iter().map(|(row, class)| (vec![1e3 * row[0] + 5e4, row[1] - 2.0, 7.0], *class)).collect();
        let other = fitted(&moved, 2, 1e-2);
        let score = |of: &Logistic, row: &[f64]| {
            of.bias[1] + of.weights[1].iter().zip(row).map(|(w, x)| w * x).sum::<f64>()
        };
        for (one, two) in rows.iter().zip(&moved) {
            let (one, two) = (score(&plain, &one.0), score(&other, &two.0));
            assert!((one - two).abs() < 1e-6, "{one} {two}");
        }
    }

    /// What a line separates has no minimum without a ridge; with one it has, and more ridge means smaller weights.
    #[test]
    fn a_ridge_bounds_what_a_line_separates() {
        let rows: Vec<(Vec<f64>, usize)> =
            (0..40).map(|nth| (vec![f64::from(nth) - 19.5], usize::from(nth > 19))).collect();
        let size = |ridge| {
            let found = fitted(&rows, 2, ridge);
            assert!(found.gradient <= TOLERANCE, "{found:?}");
            found.weights[1][0]
        };
        let (little, more) = (size(1e-4), size(1e-1));
        assert!(little > more && more > 0.0, "{little} {more}");
    }
}
