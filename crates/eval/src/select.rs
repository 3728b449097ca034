//! Which items are asked when not all are.

use std::collections::HashSet;

use crate::item::Item;
use crate::random::shuffle;

/// Keeps all items of `limit` units chosen by `seed`, in their order; all of them for no limit.
pub(crate) fn select(items: Vec<Item>, limit: Option<usize>, seed: u64) -> Vec<Item> {
    let Some(limit) = limit else { return items };
    let mut known = HashSet::new();
    let mut units: Vec<&str> =
        items.iter().map(|item| item.unit.as_str()).filter(|unit| known.insert(*unit)).collect();
    if units.len() <= limit {
        return items;
    }
    shuffle(&mut units, seed);
    let kept: HashSet<String> = units[..limit].iter().map(|unit| (*unit).to_owned()).collect();
    items.into_iter().filter(|item| kept.contains(&item.unit)).collect()
}
