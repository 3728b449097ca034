//! Which questions are asked when not all are: a shuffle that is the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut words = ChaCha8Rng::seed_from_u64(seed);
    for last in (1..items.len()).rev() {
        let other = (u64::from(words.next_u32()) * (last as u64 + 1)) >> 32;
        items.swap(last, other as usize);
    }
}
