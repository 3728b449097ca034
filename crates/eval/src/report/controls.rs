//! Controls beside what they are controls of: what is lost when the compressor reads questions about other pictures.

use std::collections::BTreeMap;

use super::Block;
use crate::Result;
use crate::packed::Answers;
use crate::results::Row;
use crate::sample::Sample;
use crate::statistics::seeds::{Ahead, Pair, over_seeds};

/// A seed, its answers where the compressor read the right questions, and where it read others.
type Seed = (u64, Vec<Sample>, Vec<Sample>);

/// The section of the page, and its findings in sentences; nothing where there is no control. `rows` are all other rows.
pub(super) fn section(
    answers: &Answers,
    controls: &[Row],
    rows: &[Row],
) -> Result<Option<(Vec<Block>, Vec<String>)>> {
    // All seeds of a model at a number of visual tokens.
    let mut groups: BTreeMap<(&str, &str, &str, u64), Vec<Seed>> = BTreeMap::new();
    for control in controls {
        let (_, shuffled) = answers.of(&control.cell)?;
        let alike = |row: &&Row| {
            row.run == control.run
                && row.compressor == control.compressor
                && row.visual_tokens == control.visual_tokens
        };
        for row in rows.iter().filter(alike) {
            let (_, plain) = answers.of(&row.cell)?;
            if same_questions(&plain, &shuffled) {
                let key = (&*row.model, &*row.compressor, &*row.task, row.visual_tokens.to_bits());
                groups.entry(key).or_default().push((row.seed, plain, shuffled.clone()));
                break;
            }
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let (mut lines, mut sentences) = (Vec::new(), Vec::new());
    for ((model, compressor, task, tokens), seeds) in &groups {
        let pairs = seeds.iter().flat_map(|(seed, plain, shuffled)| {
            plain.iter().zip(shuffled).filter_map(move |(plain, shuffled)| {
                let (one, other) = (plain.score()?, shuffled.score()?);
                Some(Pair { seed: *seed, group: &plain.group, one, other })
            })
        });
        let pairs: Vec<Pair<'_>> = pairs.collect();
        let Some(found) = over_seeds(pairs.iter().copied(), 0) else { continue };
        let mean = |of: fn(&Pair<'_>) -> f64| 100.0 * pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let [low, high] = found.interval.map(|end| 100.0 * end);
        let (tokens, difference) = (f64::from_bits(*tokens), 100.0 * found.difference);
        lines.push(vec![
            (*model).to_owned(),
            (*compressor).to_owned(),
            (*task).to_owned(),
            tokens.to_string(),
            found.seeds.len().to_string(),
            format!("{:.1}", mean(|pair| pair.one)),
            format!("{:.1}", mean(|pair| pair.other)),
            format!("{difference:+.1} ({low:+.1} to {high:+.1})"),
        ]);
        let says = match found.ahead() {
            Ahead::First => "it reads the question, and uses it",
            Ahead::Second => "it answers better with wrong questions, which nobody would expect",
            Ahead::Neither => "that it uses the question is not shown",
        };
        sentences.push(format!(
            "{model} on {task} with V = {tokens}: {difference:.1} points ({low:.1} to {high:.1}) are lost when its compressor \
             ({compressor}) reads questions about other pictures; {says}."
        ));
    }
    let header =
        ["model", "compressor", "task", "V", "seeds", "right question %", "other question %", "lost %"];
    let about = "Controls: the compressor reads questions about other pictures of the same task, the language model the right \
                 ones. Intervals are those of differences question by question.";
    let blocks = vec![
        Block::Heading("Does the compressor read the question?".into()),
        Block::Text(about.into()),
        Block::Table { header: header.map(str::to_owned).into(), rows: lines },
    ];
    Ok(Some((blocks, sentences)))
}

/// Whether one is the control of the other: the language model was asked the same, question by question.
fn same_questions(plain: &[Sample], shuffled: &[Sample]) -> bool {
    let same = |(plain, shuffled): (&Sample, &Sample)| {
        plain.id == shuffled.id && plain.question == shuffled.question && plain.group == shuffled.group
    };
    plain.len() == shuffled.len() && plain.iter().zip(shuffled).all(same)
}
