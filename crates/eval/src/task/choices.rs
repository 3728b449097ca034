//! Answers to choose from, for datasets that have none: the right one among answers to other questions of the task.

use std::collections::BTreeSet;

use crate::item::Item;
use crate::metric::Expected;
use crate::random::shuffle;

/// Gives each item `count` different options, its own answer among them, in an order chosen by `seed`. The options of an item
/// depend on the answers of all items. `Err` with the number of different answers for a count that they do not allow.
pub(super) fn choose(items: &mut [Item], count: usize, seed: u64) -> Result<(), usize> {
    let answers: BTreeSet<&String> = items.iter().filter_map(|item| answer(&item.expected)).collect();
    let answers: Vec<String> = answers.into_iter().cloned().collect();
    if !(2..=answers.len()).contains(&count) {
        return Err(answers.len());
    }
    for (nth, item) in items.iter_mut().enumerate() {
        let Some(own) = answer(&item.expected) else { continue };
        let seed = seed.wrapping_add(nth as u64);
        let mut order: Vec<usize> = (0..answers.len()).filter(|other| answers[*other] != *own).collect();
        shuffle(&mut order, seed);
        let others = order.into_iter().take(count - 1).map(|other| answers[other].clone());
        let mut options: Vec<String> = others.chain([own.clone()]).collect();
        shuffle(&mut options, seed);
        item.options = options;
    }
    Ok(())
}

fn answer(expected: &Expected) -> Option<&String> {
    match expected {
        Expected::Texts(texts) => texts.first(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::task::TaskSpec;

    fn task(choices: &str) -> crate::Result<crate::task::Task> {
        let text = format!(
            r#"
            data = {{ kind = "texts", split = "validation", seed = 1, length = 100, side = 64 }}
            answer = "options"
            limit = 60
            {choices}
            "#
        );
        TaskSpec::parse("test", &text)?.open("named")
    }

    #[test]
    fn the_right_answer_is_one_of_so_many_and_anywhere_among_them() {
        let task = task("choices = 20").unwrap();
        let mut places = BTreeSet::new();
        for item in &task.items {
            let options = task.candidates(item).unwrap();
            assert_eq!(options.iter().collect::<BTreeSet<_>>().len(), 20, "{options:?}");
            let own = answer(&item.expected).unwrap();
            places.insert(options.iter().position(|option| option == own).unwrap());
        }
        assert!(places.len() > 10, "{places:?}");
        assert!(task.items.windows(2).any(|pair| pair[0].options != pair[1].options));
    }

    #[test]
    fn too_few_answers_are_refused_with_their_number() {
        let error = task("choices = 1000").err().unwrap().to_string();
        assert!(error.contains("`choices` is 1000, allowed is 2 to "), "{error}");
        let error = task("choices = 1").err().unwrap().to_string();
        assert!(error.contains("`choices` is 1, allowed is 2 to "), "{error}");
        let error = task("choices = 3\noptions = [\"a\"]").err().unwrap().to_string();
        assert!(error.contains("`options`"), "{error}");
    }
}
