//! A cache that is bounded by bytes and forgets what was used longest ago.
//!
//! Policy: an entry counts the bytes that its owner states; before one is added, others are dropped in the order of their
//! last use until it fits; one that is larger than the whole cache is not kept. A bound of 0 keeps nothing. Each look-up
//! and each insertion is a use. The lock is held for look-ups and insertions only, never while a value is made: two
//! threads that miss at once both make it, and the second insertion replaces the first.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// What a cache did and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheStatistics {
    /// Look-ups that found their entry.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Entries dropped to make room.
    pub evictions: u64,
    /// Entries held.
    pub entries: usize,
    /// Bytes held.
    pub bytes: usize,
    /// The most bytes that may be held.
    pub limit: usize,
}

/// The cache; share it behind an `Arc`. Values are cloned out, so they should be cheap to clone.
///
/// ```
/// use foveate_model::cache::ByteCache;
/// let cache = ByteCache::new(10);
/// cache.insert("a", 1, 4);
/// cache.insert("b", 2, 4);
/// assert_eq!(cache.get(&"a"), Some(1)); // now `b` was used longest ago
/// cache.insert("c", 3, 4);
/// assert_eq!((cache.get(&"b"), cache.get(&"c")), (None, Some(3)));
/// let statistics = cache.statistics();
/// assert_eq!((statistics.hits, statistics.misses, statistics.bytes), (2, 1, 8));
/// ```
pub struct ByteCache<K, V> {
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// Keys by the time of their last use, which no two share.
    by_use: BTreeMap<u64, K>,
    clock: u64,
    statistics: CacheStatistics,
}

struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> ByteCache<K, V> {
    /// An empty cache that holds at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let statistics = CacheStatistics { limit, ..CacheStatistics::default() };
        let state = State { entries: HashMap::new(), by_use: BTreeMap::new(), clock: 0, statistics };
        Self { state: Mutex::new(state) }
    }

    /// The value under `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().get(key)
    }

    /// Keeps `value`, which takes `bytes`, under `key`; an older value there is replaced.
    pub fn insert(&self, key: K, value: V, bytes: usize) {
        self.lock().insert(key, value, bytes);
    }

    /// Drops every entry; the counts of hits and misses stay.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.entries.clear();
        state.by_use.clear();
        state.statistics.bytes = 0;
    }

    /// What it did and holds.
    pub fn statistics(&self) -> CacheStatistics {
        let state = self.lock();
        CacheStatistics { entries: state.entries.len(), ..state.statistics }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // Nothing in here panics between two changes that belong together but `clone` and `drop` of the values; the
        // worst that such a panic leaves behind is a wrong count of bytes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> State<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        let Some(entry) = self.entries.get_mut(key) else {
            self.statistics.misses += 1;
            return None;
        };
        self.statistics.hits += 1;
        self.clock += 1;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, key.clone());
        Some(entry.value.clone())
    }

    fn insert(&mut self, key: K, value: V, bytes: usize) {
        self.remove(&key);
        if bytes > self.statistics.limit {
            return;
        }
        while self.statistics.bytes > self.statistics.limit - bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.statistics.bytes -= entry.bytes;
                self.statistics.evictions += 1;
            }
        }
        self.clock += 1;
        self.statistics.bytes += bytes;
        self.by_use.insert(self.clock, key.clone());
        self.entries.insert(key, Entry { value, bytes, used: self.clock });
    }

    fn remove(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.by_use.remove(&entry.used);
            self.statistics.bytes -= entry.bytes;
        }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> fmt::Debug for ByteCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByteCache").field(&self.statistics()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Get(u8),
        Insert(u8, usize),
        Clear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..12_u8).prop_map(Step::Get),
            6 => (0..12_u8, 0..40_usize).prop_map(|(key, bytes)| Step::Insert(key, bytes)),
            1 => Just(Step::Clear),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against the plainest cache there is: a list in the order of last use.
        #[test]
        fn behaves_like_a_list_in_the_order_of_use(limit in 0..120_usize, steps in steps()) {
            let cache = ByteCache::new(limit);
            let mut list: Vec<(u8, usize, usize)> = Vec::new(); // key, value, bytes; last used last
            let (mut hits, mut misses) = (0, 0);
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Get(key) => {
                        let at = list.iter().position(|entry| entry.0 == key);
                        let expected = at.map(|at| {
                            let entry = list.remove(at);
                            list.push(entry);
                            entry.1
                        });
                        if expected.is_some() { hits += 1 } else { misses += 1 }
                        prop_assert_eq!(cache.get(&key), expected);
                    }
                    Step::Insert(key, bytes) => {
                        list.retain(|entry| entry.0 != key);
                        if bytes <= limit {
                            while list.iter().map(|entry| entry.2).sum::<usize>() + bytes > limit {
                                list.remove(0);
                            }
                            list.push((key, value, bytes));
                        }
                        cache.insert(key, value, bytes);
                    }
                    Step::Clear => {
                        list.clear();
                        cache.clear();
                    }
                }
                let statistics = cache.statistics();
                prop_assert_eq!(statistics.bytes, list.iter().map(|entry| entry.2).sum::<usize>());
                prop_assert_eq!(statistics.entries, list.len());
                prop_assert!(statistics.bytes <= limit);
                prop_assert_eq!((statistics.hits, statistics.misses), (hits, misses));
            }
        }
    }

    #[test]
    fn threads_share_it() {
        let cache = Arc::new(ByteCache::new(64));
        let threads = (0..4_u32).map(|thread| {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || {
                for round in 0..500_u32 {
                    let key = (round * 7 + thread) % 32;
                    match cache.get(&key) {
                        Some(value) => assert_eq!(value, key * 3),
                        None => cache.insert(key, key * 3, 4),
                    }
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
        let statistics = cache.statistics();
        assert_eq!(statistics.hits + statistics.misses, 2000);
        assert_eq!((statistics.entries, statistics.bytes), (16, 64));
    }
}
