//! Scores in tables, one line for all seeds of a model: what is best for a cost, and skills.

use std::collections::{BTreeMap, BTreeSet};

use super::Block;
use super::replicates::mean;
use crate::packed::Answers;
use crate::results::Row;
use crate::statistics::seeds::{Pair, over_seeds};
use crate::{Figures, Result, units};

/// All seeds of a model with a way to make its visual tokens, on one task.
struct Line<'a> {
    /// One for each seed, at least one.
    rows: Vec<&'a Row>,
}

/// What tells two lines of a task apart, in the order in which they are shown.
type Key<'a> = (&'a str, u64, &'a str, &'a str, u64);

impl<'a> Line<'a> {
    /// The lines of each task.
    fn all(rows: &'a [Row]) -> BTreeMap<&'a str, Vec<Line<'a>>> {
        let mut found: BTreeMap<&str, BTreeMap<Key<'_>, Line<'_>>> = BTreeMap::new();
        for row in rows {
            // Numbers from 0 on are ordered as their bits are.
            let tokens = row.visual_tokens.to_bits();
            let key: Key<'_> = (&row.series, row.params, &row.model, &row.compressor, tokens);
            let lines = found.entry(&row.task).or_default();
            lines.entry(key).or_insert_with(|| Line { rows: Vec::new() }).rows.push(row);
        }
        found.into_iter().map(|(task, lines)| (task, lines.into_values().collect())).collect()
    }

    fn first(&self) -> &Row {
        self.rows[0]
    }

    fn mean(&self, of: impl Fn(&Row) -> f64) -> f64 {
        mean(self.rows.iter().map(|row| of(row)))
    }

    /// The mean score with its interval, over seeds and groups of questions where there are several seeds.
    fn score(&self, answers: &Answers) -> Result<String> {
        let mean = self.mean(|row| row.score);
        let [low, high] = match self.rows[..] {
            [row] => [row.score_low, row.score_high],
            _ => self.over_seeds(answers)?.map_or([f64::NAN; 2], |ends| ends.map(|end| mean + end)),
        };
        let [low, high] = [low, high].map(|end| 100.0 * end.clamp(0.0, 1.0));
        Ok(format!("{:.1} ({low:.1} to {high:.1})", 100.0 * mean))
    }

    /// How far the ends of the interval lie from the mean; `None` where nothing was judged.
    fn over_seeds(&self, answers: &Answers) -> Result<Option<[f64; 2]>> {
        let mut read = Vec::new();
        for row in &self.rows {
            read.push((row.seed, answers.of(&row.cell)?));
        }
        let pairs = read.iter().flat_map(|(seed, (header, samples))| {
            let units = units(header.metric, samples).into_values();
            units.map(|unit| Pair { seed: *seed, group: unit.group, one: unit.score, other: 0.0 })
        });
        Ok(over_seeds(pairs, 0).map(|found| found.interval.map(|end| end - found.difference)))
    }
}

/// What no other way beats at the same or a lower cost, for each task.
pub(super) fn frontier(
    answers: &Answers,
    what: &str,
    unit: &str,
    rows: &[Row],
    cost: impl Fn(&Row) -> f64,
) -> Result<Vec<Block>> {
    let mut table = Vec::new();
    for (task, lines) in Line::all(rows) {
        for (cost, line) in unbeaten(lines, &cost) {
            let row = line.first();
            table.push(vec![
                task.to_owned(),
                row.model.clone(),
                foveate_law::plan::count(row.params as f64),
                row.compressor.clone(),
                row.visual_tokens.to_string(),
                line.rows.len().to_string(),
                format!("{cost:.3}"),
                line.score(answers)?,
            ]);
        }
    }
    let header =
        ["task", "model", "N", "compressor", "V", "seeds", unit, "score %"].map(str::to_owned).into();
    Ok(vec![
        Block::Heading(format!("Best for the cost: {what}")),
        Block::Text(
            "Means over seeds whose error nothing measured beats at the same or a lower cost.".into(),
        ),
        Block::Table { header, rows: table },
    ])
}

/// The lines whose mean error no other has at the same or a lower mean cost, the cheapest first, with their costs.
fn unbeaten<'a>(lines: Vec<Line<'a>>, cost: impl Fn(&Row) -> f64) -> Vec<(f64, Line<'a>)> {
    let mut own: Vec<(f64, f64, Line<'_>)> =
        lines.into_iter().map(|line| (line.mean(&cost), line.mean(|row| row.error), line)).collect();
    own.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let mut least = f64::INFINITY;
    let better = own.into_iter().filter(|(_, error, _)| {
        let better = *error < least;
        least = least.min(*error);
        better
    });
    better.map(|(cost, _, line)| (cost, line)).collect()
}

/// For each task a table of models and numbers of tokens against skills, means over seeds.
pub(super) fn skills(answers: &Answers, rows: &[Row]) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    for (task, lines) in Line::all(rows) {
        let mut measured: Vec<(Line<'_>, Vec<Figures>)> = Vec::new();
        for line in lines {
            let mut figures = Vec::new();
            for row in &line.rows {
                let (header, samples) = answers.of(&row.cell)?;
                figures.extend(Figures::new(header.metric, &samples, crate::run::SEED));
            }
            measured.push((line, figures));
        }
        let all = || measured.iter().flat_map(|(_, figures)| figures);
        let names: BTreeSet<&String> = all().flat_map(|figures| figures.skills.keys()).collect();
        let also: BTreeSet<&String> = all().flat_map(|figures| figures.also.keys()).collect();
        let mut header: Vec<String> =
            ["model", "compressor", "V", "seeds", "questions", "score %"].map(str::to_owned).into();
        // One skill alone is the score again.
        let names: Vec<&String> =
            names.into_iter().filter(|_| all().any(|one| one.skills.len() > 1)).collect();
        header.extend(names.iter().map(|name| format!("{name} %")));
        header.extend(also.iter().map(|name| (**name).clone()));
        let mut table = Vec::new();
        for (line, figures) in &measured {
            let row = line.first();
            let mut cells = vec![
                row.model.clone(),
                row.compressor.clone(),
                row.visual_tokens.to_string(),
                line.rows.len().to_string(),
                row.n.to_string(),
                line.score(answers)?,
            ];
            cells.extend(names.iter().map(|name| {
                let skills = figures.iter().filter_map(|one| one.skills.get(*name));
                shown(skills.map(|skill| 100.0 * skill.score.value).collect(), 1)
            }));
            cells.extend(also.iter().map(|name| {
                let others = figures.iter().filter_map(|one| one.also.get(*name));
                shown(others.map(|figure| figure.value).collect(), 3)
            }));
            table.push(cells);
        }
        blocks.extend([Block::Heading(format!("Task: {task}")), Block::Table { header, rows: table }]);
    }
    Ok(blocks)
}

/// The mean of what is known, or a dash.
fn shown(values: Vec<f64>, digits: usize) -> String {
    if values.is_empty() { "–".into() } else { format!("{:.digits$}", mean(values.into_iter())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, seed: u64, score: f64, flops: f64) -> Row {
        Row { seed, flops, ..crate::results::tests::row(model, 1000, 4.0, 1.0 - score) }
    }

    #[test]
    fn a_lucky_seed_is_not_a_better_model() {
        let rows = [
            row("cheap", 1, 0.50, 1.0),
            row("cheap", 2, 0.52, 1.0),
            // One seed of it is ahead of all, its mean is behind.
            row("dear", 1, 0.60, 2.0),
            row("dear", 2, 0.40, 2.0),
            row("dearest", 1, 0.55, 3.0),
        ];
        let lines = Line::all(&rows).remove("scenes").unwrap_or_default();
        let best = unbeaten(lines, |row| row.flops);
        let told: Vec<_> =
            best.iter().map(|(cost, line)| (*cost, line.first().model.as_str(), line.rows.len())).collect();
        assert_eq!(told, [(1.0, "cheap", 2), (3.0, "dearest", 1)]);
    }
}
