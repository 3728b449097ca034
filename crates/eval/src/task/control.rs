//! A control: each picture is compressed for a question that was asked about another one, while the language model reads the
//! right question. What a compressor loses by it is what it gains by reading the question.

use crate::item::Item;
use crate::random::shuffle;

/// The family under which controls count: no law of a family is fitted to them.
pub const CONTROL: &str = "control";

/// For each item the number of another one, whose question its picture is compressed for: an order of all items, chosen by
/// `seed`, in which no item has the question of its own group, nor one in the same words. `None` where there is no such order.
pub(super) fn shuffled(items: &[Item], seed: u64) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    shuffle(&mut order, seed);
    let fits = |item: usize, asked: usize| {
        items[item].group != items[asked].group && items[item].question != items[asked].question
    };
    for item in 0..items.len() {
        if fits(item, order[item]) {
            continue;
        }
        // Another one gives its question away, if it can do with this one's: what fits already stays so.
        let other = (item + 1..items.len())
            .chain(0..item)
            .find(|other| fits(item, order[*other]) && fits(*other, order[item]))?;
        order.swap(item, other);
    }
    Some(order)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::metric::Expected;

    fn item(id: usize, group: u8, question: u8) -> Item {
        Item {
            id: id.to_string(),
            group: group.to_string(),
            unit: id.to_string(),
            pictures: Vec::new(),
            question: question.to_string(),
            options: Vec::new(),
            expected: Expected::Texts(vec!["yes".into()]),
            skill: String::new(),
            family: foveate_data::Family::Reasoning,
        }
    }

    proptest! {
        #[test]
        fn nobody_gets_an_own_question(asked in prop::collection::vec((0_u8..8, 0_u8..5), 1..60), seed in any::<u64>()) {
            let items: Vec<Item> =
                asked.iter().enumerate().map(|(id, (group, question))| item(id, *group, *question)).collect();
            if let Some(order) = shuffled(&items, seed) {
                for (own, other) in order.iter().enumerate() {
                    prop_assert!(items[own].group != items[*other].group);
                    prop_assert!(items[own].question != items[*other].question);
                }
                let mut sorted = order;
                sorted.sort_unstable();
                prop_assert!(sorted.into_iter().eq(0..items.len()), "every question is read once");
            }
        }
    }

    #[test]
    fn an_order_is_found_where_there_is_one() {
        // Four questions about each of fifty pictures, in twenty wordings.
        let items: Vec<Item> = (0..200).map(|id| item(id, (id / 4) as u8, (id * 7 % 20) as u8)).collect();
        let order = shuffled(&items, 1).unwrap();
        assert_eq!(order, shuffled(&items, 1).unwrap());
        assert_ne!(order, shuffled(&items, 2).unwrap());
        // One picture, or one question for all of them.
        assert!(shuffled(&[item(0, 1, 1), item(1, 1, 2)], 1).is_none());
        assert!(shuffled(&[item(0, 1, 1), item(1, 2, 1)], 1).is_none());
        assert_eq!(shuffled(&[item(0, 1, 1), item(1, 2, 2)], 1), Some(vec![1, 0]));
    }
}
