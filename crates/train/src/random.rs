//! Random choices that depend on a seed, a name and a position alone, so that nothing has to be saved to go on with them.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A stream of random choices.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream called `name` at `position` under `seed`; streams that differ in any of the three are unrelated.
    pub(crate) fn new(seed: u64, name: &str, position: u64) -> Draw {
        let key = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
        let mut words = ChaCha8Rng::from_seed(key.into());
        words.set_stream(position);
        Draw(words)
    }

    /// A number in `[0, 1)`, in steps of 2⁻⁵³.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number below `bound`, which is at least one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.0.next_u64()) * bound as u128) >> 64) as usize
    }

    /// The index of one of `weights`, chosen with that weight. They are not negative and their sum is positive.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        let chosen = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a remainder behind the last.
        chosen.unwrap_or_else(|| weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0))
    }

    /// A normal deviate, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ_in_seed_name_and_position() {
        let draw = |seed, name, position| Draw::new(seed, name, position).uniform();
        assert_eq!(draw(1, "a", 2), draw(1, "a", 2));
        for other in [draw(2, "a", 2), draw(1, "b", 2), draw(1, "a", 3)] {
            assert_ne!(draw(1, "a", 2), other);
        }
    }

    #[test]
    fn weights_are_followed_and_zero_is_never_chosen() {
        let mut draw = Draw::new(3, "weights", 0);
        let mut counts = [0_usize; 4];
        for _ in 0..10_000 {
            counts[draw.weighted(&[1.0, 0.0, 3.0, 0.0])] += 1;
        }
        // Five standard deviations of a binomial with n = 10,000 and p = 1/4.
        assert!((2284..2716).contains(&counts[0]), "{counts:?}");
        assert_eq!((counts[1], counts[3]), (0, 0));
        assert!((0..1000).all(|_| draw.below(3) < 3));
    }
}
