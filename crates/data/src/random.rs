//! The random numbers of shuffles and generators: ChaCha8, whose output is defined to the bit on every platform.
//!
//! Integers and floats are taken from its words by the few lines below and not by `rand`, whose sampling may change
//! between versions: a seed written into a recipe must give the same data in ten years.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of random choices.
pub(crate) struct Draw {
    words: ChaCha8Rng,
}

impl Draw {
    /// The stream for item `index` of `domain` under `seed`; streams that differ in any of the three are unrelated.
    pub(crate) fn new(seed: u64, domain: &str, index: u64) -> Draw {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&hash(domain.as_bytes()).to_le_bytes());
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(index);
        Draw { words }
    }

    /// A whole number below `bound`, which is at least one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        debug_assert!(bound > 0);
        // The bias of one part in 2^32 / bound shows in no data set.
        ((u64::from(self.words.next_u32()) * bound as u64) >> 32) as usize
    }

    /// Puts `items` in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(feature = "synthetic")]
impl Draw {
    /// A whole number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// A number in `[low, high)`.
    pub(crate) fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.words.next_u32() >> 8) as f32 / (1 << 24) as f32
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f32) -> bool {
        self.uniform(0.0, 1.0) < probability
    }

    /// One of `items`, which are not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A word to seed noise that needs no quality.
    pub(crate) fn word(&mut self) -> u32 {
        self.words.next_u32()
    }
}

/// FNV-1a of 64 bits: for splits by name, which must never change.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(all(test, feature = "synthetic"))]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, domain, index| {
            let mut draw = Draw::new(seed, domain, index);
            (0..8).map(|_| draw.word()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, "scenes", 5), draw(1, "scenes", 5));
        for other in [draw(2, "scenes", 5), draw(1, "texts", 5), draw(1, "scenes", 6)] {
            assert_ne!(draw(1, "scenes", 5), other);
        }
        // The published first words of ChaCha8 with a zero key, stream zero.
        let mut zero = ChaCha8Rng::from_seed([0; 32]);
        assert_eq!(zero.next_u32().to_le_bytes(), [0x3e, 0x00, 0xef, 0x2f]);
        // FNV-1a's published value for "foobar".
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_order_of_three_is_as_likely() {
        let mut draw = Draw::new(0, "test", 0);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..6000 {
            let mut items = [0, 1, 2];
            draw.shuffle(&mut items);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 6);
        assert!(seen.values().all(|count| (850..1150).contains(count)), "{seen:?}");
    }
}
