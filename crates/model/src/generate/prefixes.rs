//! What ended answers have read, kept for prompts that begin alike.
//!
//! Policy: bounded by bytes; what was used longest ago goes first. One that begins a longer one goes when that comes, since
//! the longer one does for both: of a conversation only the last turn stays.

use super::prompt::Position;
use crate::cache::CacheStatistics;
use crate::llm::KeyValueCache;

/// The kept prefixes.
#[derive(Debug)]
pub(super) struct Prefixes {
    /// Longest unused first.
    kept: Vec<Prefix>,
    statistics: CacheStatistics,
}

#[derive(Debug)]
struct Prefix {
    positions: Vec<Position>,
    cache: KeyValueCache,
    bytes: usize,
}

/// How many positions two sequences begin with alike.
pub(super) fn shared(left: &[Position], right: &[Position]) -> usize {
    left.iter().zip(right).take_while(|(left, right)| left == right).count()
}

impl Prefixes {
    /// Nothing yet, and never more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), statistics: CacheStatistics { limit, ..CacheStatistics::default() } }
    }

    pub(super) fn statistics(&self) -> CacheStatistics {
        CacheStatistics { entries: self.kept.len(), ..self.statistics }
    }

    /// Counts a prompt that began like another, or did not.
    pub(super) fn count(&mut self, hit: bool) {
        let CacheStatistics { hits, misses, .. } = &mut self.statistics;
        *(if hit { hits } else { misses }) += 1;
    }

    /// The one that begins with the most of `positions`, and how many.
    pub(super) fn longest(&mut self, positions: &[Position]) -> Option<(&KeyValueCache, usize)> {
        let lengths = self.kept.iter().map(|prefix| shared(&prefix.positions, positions)).enumerate();
        let (at, length) = lengths.max_by_key(|(_, length)| *length).filter(|(_, length)| *length > 0)?;
        // Used last now.
        let prefix = self.kept.remove(at);
        self.kept.push(prefix);
        self.kept.last().map(|prefix| (&prefix.cache, length))
    }

    /// Keeps what `cache` holds, `positions`.
    pub(super) fn keep(&mut self, positions: Vec<Position>, cache: KeyValueCache) {
        let bytes = cache.bytes() + positions.iter().map(Position::bytes).sum::<usize>();
        let limit = self.statistics.limit;
        if positions.is_empty()
            || bytes > limit
            || self.kept.iter().any(|prefix| prefix.positions.starts_with(&positions))
        {
            return;
        }
        self.kept.retain(|prefix| !positions.starts_with(&prefix.positions));
        self.kept.push(Prefix { positions, cache, bytes });
        let mut held: usize = self.kept.iter().map(|prefix| prefix.bytes).sum();
        while held > limit {
            held -= self.kept.remove(0).bytes;
            self.statistics.evictions += 1;
        }
        self.statistics.bytes = held;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::llm::tests::all_kinds;
    use crate::llm::{Input, Padding};

    fn prefix(ids: &[u32]) -> (Vec<Position>, KeyValueCache) {
        let decoder = all_kinds().remove(0);
        let mut cache = decoder.cache(Padding::none(1));
        let tokens = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        decoder.forward(Input::Tokens(&tokens), &mut cache).unwrap();
        (positions(ids), cache)
    }

    fn positions(ids: &[u32]) -> Vec<Position> {
        ids.iter().copied().map(Position::Token).collect()
    }

    #[test]
    fn the_longest_is_found_and_what_was_not_used_goes_first() {
        let (first, cache) = prefix(&[1, 2, 3]);
        let one = cache.bytes() + 3 * Position::Token(0).bytes();
        let mut prefixes = Prefixes::new(2 * one);
        prefixes.keep(first, cache);
        let (second, cache) = prefix(&[1, 2, 9]);
        prefixes.keep(second, cache);
        let length = |prefixes: &mut Prefixes, ids: &[u32]| {
            prefixes.longest(&positions(ids)).map(|(cache, length)| (cache.len(), length))
        };
        assert_eq!(length(&mut prefixes, &[1, 2, 3, 4]), Some((3, 3)));
        assert_eq!(length(&mut prefixes, &[7]), None);
        let (third, cache) = prefix(&[5, 5, 5]);
        prefixes.keep(third, cache);
        // [1, 2, 9] was used longest ago.
        assert_eq!(length(&mut prefixes, &[1, 2, 9]), Some((3, 2)));
        assert_eq!(length(&mut prefixes, &[5, 5]), Some((3, 2)));
        let held = prefixes.statistics();
        assert_eq!((held.entries, held.evictions, held.bytes), (2, 1, 2 * one));
    }

    #[test]
    fn a_longer_one_does_for_its_beginnings() {
        let mut prefixes = Prefixes::new(usize::MAX);
        for ids in [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, 3], &[1, 2, 3, 4]] {
            let (positions, cache) = prefix(ids);
            prefixes.keep(positions, cache);
        }
        assert_eq!(prefixes.statistics().entries, 1);
        let (positions, cache) = prefix(&[6]);
        let mut none = Prefixes::new(0);
        none.keep(positions, cache);
        assert_eq!((none.statistics().entries, none.statistics().bytes), (0, 0));
    }
}
