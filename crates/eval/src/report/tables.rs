//! Scores in tables, one line for all seeds of a model: what is best for a cost, and skills.

use std::collections::{BTreeMap, BTreeSet};

use super::Block;
use crate::packed::Answers;
use crate::results::Row;
use crate::statistics::seeds::reach;
use crate::{Figures, Result};

/// The quantile of the normal distribution that leaves 2.5 % above it.
const Z: f64 = 1.959_964;

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

    /// The mean score with its interval. All seeds answered the same questions, so that what these leave open does not
    /// become less with more seeds.
    fn score(&self) -> String {
        let [low, high] = match self.rows[..] {
            [row] => [row.score_low, row.score_high],
            _ => {
                let scores: Vec<f64> = self.rows.iter().map(|row| row.score).collect();
                let half = reach(&scores).hypot(Z * self.mean(|row| row.error_se));
                [-half, half].map(|end| (self.mean(|row| row.score) + end).clamp(0.0, 1.0))
            }
        };
        format!("{:.1} ({:.1} to {:.1})", 100.0 * self.mean(|row| row.score), 100.0 * low, 100.0 * high)
    }
}

/// What no other way beats at the same or a lower cost, for each task.
pub(super) fn frontier(what: &str, unit: &str, rows: &[Row], cost: impl Fn(&Row) -> f64) -> Vec<Block> {
    let mut table = Vec::new();
    for (task, lines) in Line::all(rows) {
        let mut own: Vec<(f64, f64, Line<'_>)> =
            lines.into_iter().map(|line| (line.mean(&cost), line.mean(|row| row.error), line)).collect();
        let mut least = f64::INFINITY;
        own.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
        for (cost, error, line) in own {
            if error < least {
                least = error;
                let row = line.first();
                table.push(vec![
                    task.to_owned(),
                    row.model.clone(),
                    foveate_law::plan::count(row.params as f64),
                    row.compressor.clone(),
                    row.visual_tokens.to_string(),
                    line.rows.len().to_string(),
                    format!("{cost:.3}"),
                    line.score(),
                ]);
            }
        }
    }
    let header =
        ["task", "model", "N", "compressor", "V", "seeds", unit, "score %"].map(str::to_owned).into();
    vec![
        Block::Heading(format!("Best for the cost: {what}")),
        Block::Text(
            "Means over seeds whose error nothing measured beats at the same or a lower cost.".into(),
        ),
        Block::Table { header, rows: table },
    ]
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
        let table = measured.iter().map(|(line, figures)| {
            let row = line.first();
            let mut cells = vec![
                row.model.clone(),
                row.compressor.clone(),
                row.visual_tokens.to_string(),
                line.rows.len().to_string(),
                row.n.to_string(),
                line.score(),
            ];
            cells.extend(names.iter().map(|name| {
                let skills = figures.iter().filter_map(|one| one.skills.get(*name));
                shown(skills.map(|skill| 100.0 * skill.score.value).collect(), 1)
            }));
            cells.extend(also.iter().map(|name| {
                let others = figures.iter().filter_map(|one| one.also.get(*name));
                shown(others.map(|figure| figure.value).collect(), 3)
            }));
            cells
        });
        let rows = table.collect();
        blocks.extend([Block::Heading(format!("Task: {task}")), Block::Table { header, rows }]);
    }
    Ok(blocks)
}

/// The mean of what is known, or a dash.
fn shown(values: Vec<f64>, digits: usize) -> String {
    if values.is_empty() { "–".into() } else { format!("{:.digits$}", mean(values.into_iter())) }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: &str, seed: u64, score: f64, flops: f64) -> Row {
        Row {
            model: model.to_owned(),
            params: 1000,
            visual_tokens: 4.0,
            compressor: "own".to_owned(),
            task: "scenes".to_owned(),
            family: "reasoning".to_owned(),
            seed,
            n: 100,
            score,
            error: 1.0 - score,
            error_se: 0.03,
            flops,
            ms: 1.0,
            score_low: score - 0.05,
            score_high: score + 0.05,
            body_params: 900,
            series: "grid".to_owned(),
            run: format!("{model}-s{seed}"),
            cell: format!("{model}-s{seed}-v4"),
            settings: String::new(),
        }
    }

    fn table(rows: &[Row]) -> Vec<Vec<String>> {
        let blocks = frontier("FLOPs", "GFLOP", rows, |row| row.flops);
        blocks
            .into_iter()
            .find_map(|block| if let Block::Table { rows, .. } = block { Some(rows) } else { None })
            .unwrap_or_default()
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
        let table = table(&rows);
        let models: Vec<&str> = table.iter().map(|line| line[1].as_str()).collect();
        assert_eq!(models, ["cheap", "dearest"]);
        // By hand: 12.706 · sqrt(2 · 0.01² / 1 / 2) = 0.12706 of the seeds, 1.96 · 0.03 = 0.0588 of the questions.
        assert_eq!((table[0][5].as_str(), table[0][7].as_str()), ("2", "51.0 (37.0 to 65.0)"));
        assert_eq!((table[1][5].as_str(), table[1][7].as_str()), ("1", "55.0 (50.0 to 60.0)"));
    }
}
