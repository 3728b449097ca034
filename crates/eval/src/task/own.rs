//! The project's own datasets as questions.

use foveate_data::dataset::{DataSource, Kind};
use foveate_data::{Question, Sample, Tolerance};

use super::TaskSpec;
use crate::item::Item;
use crate::metric::{Expected, Metric};
use crate::random::shuffle;
use crate::{EvalError, Result};

/// The questions that a task chooses, in the order of the dataset, and the measure that suits them.
pub(super) fn read(spec: &TaskSpec, data: &DataSource) -> Result<(Vec<Item>, Metric)> {
    let metric = match data.kind {
        Kind::TextLines { .. } => Metric::CharacterError,
        _ => Metric::ExactMatch,
    };
    let source = data.open(spec.questions)?;
    let mut order: Vec<usize> = (0..source.len()).collect();
    let limit = spec.limit.unwrap_or(usize::MAX);
    if spec.limit.is_some() {
        shuffle(&mut order, spec.seed);
    }
    let (mut chosen, mut asked, mut broken) = (Vec::new(), 0, 0);
    let tolerated = (Tolerance::default().fraction * source.len() as f64) as usize;
    for index in order {
        if asked >= limit {
            break;
        }
        match source.sample(index) {
            Ok(sample) => {
                let most = spec.questions.min(limit - asked);
                let items = items(index, &sample, most, spec.seed, spec.metric.unwrap_or(metric));
                asked += items.len();
                chosen.push((index, items));
            }
            Err(error) => {
                broken += 1;
                if broken > tolerated {
                    return Err(EvalError::from(error));
                }
            }
        }
    }
    chosen.sort_by_key(|(index, _)| *index);
    Ok((chosen.into_iter().flat_map(|(_, items)| items).collect(), metric))
}

/// At most `most` questions about one picture, drawn by `seed` where it has more. Of a conversation the first alone is a question; what has no picture says
/// nothing about visual tokens.
fn items(index: usize, sample: &Sample, most: usize, seed: u64, metric: Metric) -> Vec<Item> {
    let Some(picture) = &sample.picture else { return Vec::new() };
    let most = if sample.conversation { most.min(1) } else { most };
    let item = |(nth, question): (usize, &Question)| Item {
        id: format!("{index}.{nth}"),
        group: sample.group.clone(),
        unit: format!("{index}.{nth}"),
        pictures: vec![picture.clone()],
        question: question.text.clone(),
        options: Vec::new(),
        expected: expected(question, metric),
        skill: question.skill.name().to_owned(),
        family: question.family,
    };
    sample.some_questions(most, seed).into_iter().map(item).collect()
}

fn expected(question: &Question, metric: Metric) -> Expected {
    match (metric, question.answer.trim().to_lowercase().as_str()) {
        (Metric::Pope | Metric::Mme, "yes") => Expected::YesNo(true),
        (Metric::Pope | Metric::Mme, "no") => Expected::YesNo(false),
        _ => Expected::Texts(vec![question.answer.clone()]),
    }
}
