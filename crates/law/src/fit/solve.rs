//! The one small linear system: a symmetric positive definite matrix restricted to some of its rows and columns.

/// Solves `matrix · x = right` over the `free` unknowns, the others zero; `None` unless the restricted matrix is positive
/// definite, each pivot above `tolerance` times its diagonal entry.
pub(crate) fn solve<const SIZE: usize>(
    matrix: &[[f64; SIZE]; SIZE],
    right: &[f64; SIZE],
    free: &[bool; SIZE],
    tolerance: f64,
) -> Option<[f64; SIZE]> {
    let (mut work, mut right) = (*matrix, *right);
    // Elimination without exchanges meets only positive pivots exactly when the matrix is positive definite.
    for pivot in 0..SIZE {
        if !free[pivot] {
            continue;
        }
        let size = work[pivot][pivot];
        if size.is_nan() || size <= tolerance * matrix[pivot][pivot].abs() {
            return None;
        }
        for row in pivot + 1..SIZE {
            if free[row] {
                let factor = work[row][pivot] / size;
                for column in pivot + 1..SIZE {
                    work[row][column] -= factor * work[pivot][column];
                }
                right[row] -= factor * right[pivot];
            }
        }
    }
    let mut solution = [0.0; SIZE];
    for pivot in (0..SIZE).rev() {
        if free[pivot] {
            let mut rest = right[pivot];
            for column in pivot + 1..SIZE {
                rest -= work[pivot][column] * solution[column];
            }
            solution[pivot] = rest / work[pivot][pivot];
        }
    }
    solution.iter().all(|value| value.is_finite()).then_some(solution)
}

/// The Newton step −H⁻¹·g over the `free` parameters; `None` unless H is positive definite there.
pub(crate) fn newton_step<const SIZE: usize>(
    hessian: &[[f64; SIZE]; SIZE],
    gradient: &[f64; SIZE],
    free: &[bool; SIZE],
) -> Option<[f64; SIZE]> {
    solve(hessian, &gradient.map(|slope| -slope), free, 0.0)
}

/// How much of the majorant is added to the Hessian before a step: none near the bottom (Newton), a multiple of it where
/// the Hessian leads astray. The majorant alone is the reweighted least-squares step, so the steps keep their scale even
/// where the objective is piecewise linear and the Hessian vanishes. A share of its diagonal comes on top: with two levels
/// of a factor the exponent, its coefficient and the floor give the same law in many ways, and both matrices are singular.
#[derive(Clone, Copy, Default)]
pub(crate) struct Damping(f64);

/// The share of the majorant's diagonal that is added once more.
const DIAGONAL: f64 = 1e-2;

impl Damping {
    pub(crate) fn raise(&mut self) {
        self.0 = (self.0 * 8.0).max(1e-2);
    }

    pub(crate) fn lower(&mut self) {
        self.0 = if self.0 > 1e-2 { self.0 * 0.1 } else { 0.0 };
    }

    pub(crate) fn is_raised(self) -> bool {
        self.0 > 0.0
    }

    pub(crate) fn apply<const SIZE: usize>(
        self,
        hessian: &[[f64; SIZE]; SIZE],
        majorant: &[[f64; SIZE]; SIZE],
    ) -> [[f64; SIZE]; SIZE] {
        let share = |i, j| if i == j { 1.0 + DIAGONAL } else { 1.0 };
        std::array::from_fn(|i| {
            std::array::from_fn(|j| hessian[i][j] + self.0 * share(i, j) * majorant[i][j])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_what_is_free_and_refuses_what_is_not_definite() {
        let matrix = [[4.0, 2.0, 9.0], [2.0, 3.0, 9.0], [9.0, 9.0, 1.0]];
        let free = [true, true, false];
        // 4x + 2y = 10 and 2x + 3y = 11 have the solution (1, 3).
        assert_eq!(solve(&matrix, &[10.0, 11.0, 5.0], &free, 0.0), Some([1.0, 3.0, 0.0]));
        assert_eq!(solve(&matrix, &[10.0, 11.0, 5.0], &[true; 3], 0.0), None);
        let collinear = [[1.0, 1.0], [1.0, 1.0 + 1e-15]];
        assert_eq!(solve(&collinear, &[1.0, 1.0], &[true; 2], 1e-14), None);
    }
}
