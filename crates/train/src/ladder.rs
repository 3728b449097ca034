//! Elastic training: which number of visual tokens a part of a step has.

use foveate_compress::{Budget, Compressor, Grid};

use crate::random::Draw;
use crate::recipe::Recipe;
use crate::{Result, TrainError};

/// Numbers of visual tokens and how often each is drawn. One rung is training at a fixed number; none, as where patches are
/// learnt, gives 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Rungs {
    seed: u64,
    tokens: Vec<usize>,
    weights: Vec<f64>,
}

impl Rungs {
    /// Rungs as a stage of a recipe lists them; `field` names it in errors.
    ///
    /// # Errors
    /// [`TrainError::Field`] for a number that the compressor does not offer on this grid.
    pub fn new(
        field: &str,
        ladder: &[(usize, f64)],
        seed: u64,
        compressor: &dyn Compressor,
        grid: Grid,
    ) -> Result<Self> {
        let offered = compressor.ladder(grid);
        for (tokens, _) in ladder {
            if !offered.contains(Budget::Tokens(*tokens)) {
                let allowed = format!("what {} offers on {grid} patches: {offered}", compressor.method());
                return Err(TrainError::field(field, tokens, allowed));
            }
        }
        let (tokens, weights) = ladder.iter().copied().unzip();
        Ok(Self { seed, tokens, weights })
    }

    /// Those of stage number `stage` of a recipe.
    ///
    /// # Errors
    /// As [`Rungs::new`].
    pub fn of(recipe: &Recipe, stage: usize, compressor: &dyn Compressor, grid: Grid) -> Result<Self> {
        let field = format!("stages.{stage}.ladder");
        Self::new(&field, &recipe.stages[stage].ladder, recipe.seed, compressor, grid)
    }

    /// The number for part `part` of step `step`: a function of these and the seed.
    pub fn draw(&self, step: u64, part: usize) -> usize {
        if self.tokens.is_empty() {
            return 0;
        }
        let mut draw = Draw::new(self.seed, &format!("ladder {part}"), step);
        self.tokens[draw.weighted(&self.weights)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use foveate_compress::AveragePooling;

    #[test]
    fn draws_follow_the_weights_and_depend_on_the_step_alone() {
        let ladder = [(1, 3.0), (4, 1.0)];
        let pooling = AveragePooling::default();
        let rungs = Rungs::new("ladder", &ladder, 5, &pooling, Grid::square(4)).unwrap();
        let drawn: Vec<usize> = (0..4000).map(|step| rungs.draw(step, 0)).collect();
        let ones = drawn.iter().filter(|tokens| **tokens == 1).count();
        // Five standard deviations of a binomial with n = 4000 and p = 3/4.
        assert!((2864..3136).contains(&ones), "{ones}");
        assert_eq!(rungs.draw(77, 0), drawn[77]);
        assert!((0..100).any(|step| rungs.draw(step, 1) != drawn[step as usize]), "parts differ");
    }

    #[test]
    fn a_number_off_the_ladder_is_refused_with_the_ladder() {
        let refused =
            Rungs::new("stages.0.ladder", &[(5, 1.0)], 0, &AveragePooling::default(), Grid::square(4));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("`stages.0.ladder` is 5") && error.contains("16, 4, 1"), "{error}");
    }
}
