//! A law for each family, and whether the paper's finding holds for it.

use std::collections::{BTreeMap, BTreeSet};

use foveate_law::{
    Assessment, BootstrapOptions, FitOptions, Form, LawError, ReadOptions, Resample, Table, Tokens, Units,
    assess, read_str,
};

use crate::Result;
use crate::results::Row;

/// Language models are counted in millions of parameters: exponents do not depend on it.
const SCALE: f64 = 1e6;

/// What the rows of one series, family and compressor say.
pub struct FamilyLaw {
    /// The series.
    pub series: String,
    /// `reasoning` or `text`.
    pub family: String,
    /// What made the visual tokens.
    pub compressor: String,
    /// The tasks whose mean error was fitted.
    pub tasks: Vec<String>,
    /// Cells left out because a task of the family is missing.
    pub incomplete: usize,
    /// The table, and what was fitted to it, or why nothing could be.
    pub fitted: std::result::Result<(Table, Box<Assessment>), LawError>,
}

/// Whether reasoning is served best by the largest language model with one visual token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// α/β lies wholly above 1.
    Holds,
    /// α/β lies wholly below 1.
    Fails,
    /// The interval includes 1, or there is none.
    Unclear,
}

impl Verdict {
    /// Of an interval of α/β.
    pub fn of(ratio: Option<[f64; 2]>) -> Verdict {
        match ratio {
            Some([low, _]) if low > 1.0 => Verdict::Holds,
            Some([_, high]) if high < 1.0 => Verdict::Fails,
            _ => Verdict::Unclear,
        }
    }
}

impl FamilyLaw {
    /// The verdict in a sentence, with the interval.
    pub fn says(&self) -> String {
        let place = format!("{} ({}, {})", self.family, self.compressor, self.series);
        let (_, assessment) = match &self.fitted {
            Ok(fitted) => fitted,
            Err(error) => {
                return format!("{place}: no law could be fitted, so the data cannot say: {error}.");
            }
        };
        let number = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "∞".to_owned() };
        let interval = assessment.ratio_ci95();
        let ratio = assessment.fit.law.ratio().map_or("∞".to_owned(), number);
        let shown = interval.map_or("no interval".to_owned(), |[low, high]| {
            format!("95 % interval {} to {}", number(low), number(high))
        });
        match Verdict::of(interval) {
            Verdict::Holds => format!(
                "{place}: the paper's finding holds here. α/β is {ratio} ({shown}, wholly above 1): at a fixed cost a larger \
                 language model with the fewest visual tokens errs least."
            ),
            Verdict::Fails => format!(
                "{place}: the paper's finding does not hold here. α/β is {ratio} ({shown}, wholly below 1): visual tokens lower \
                 the error more than the same cost spent on parameters."
            ),
            Verdict::Unclear => format!(
                "{place}: the data cannot say whether the paper's finding holds. α/β is {ratio} ({shown}), which leaves both \
                 answers open."
            ),
        }
    }
}

/// The laws of all groups of rows with more than one model.
///
/// # Errors
/// Rows that make no table, which rows of a sweep always do.
pub fn laws(rows: &[Row]) -> Result<Vec<FamilyLaw>> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry((&row.series, &row.family, &row.compressor)).or_default().push(row);
    }
    let several = |rows: &Vec<&Row>| rows.iter().map(|row| row.params).collect::<BTreeSet<_>>().len() > 1;
    let groups = groups.into_iter().filter(|(_, rows)| several(rows));
    groups.map(|((series, family, compressor), rows)| law(series, family, compressor, &rows)).collect()
}

fn law(series: &str, family: &str, compressor: &str, rows: &[&Row]) -> Result<FamilyLaw> {
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    // A run at a number of tokens: one point, the mean over the family's tasks.
    let mut points: BTreeMap<(&str, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        points.entry((&row.run, row.visual_tokens.to_bits())).or_default().push(row);
    }
    let all = points.len();
    points.retain(|_, rows| rows.len() == tasks.len());
    let mut csv = String::from("params,visual_tokens,error,error_se,run\n");
    let mut runs: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for ((run, _), rows) in &points {
        let (count, first) = (rows.len() as f64, rows[0]);
        let error = rows.iter().map(|row| row.error).sum::<f64>() / count;
        let deviation = rows.iter().map(|row| row.error_se.powi(2)).sum::<f64>().sqrt() / count;
        csv += &format!("{},{},{error},{deviation},{run}\n", first.params, first.visual_tokens);
        runs.entry(first.params).or_default().insert(run);
    }
    // Whole runs are drawn where each size has several; with one run a size a draw of runs would be one of sizes.
    let replicated = runs.values().all(|runs| runs.len() > 1);
    let resample = if replicated { Resample::Clusters } else { Resample::Cases };
    let options = ReadOptions { scale1: SCALE, ..ReadOptions::default() };
    let units = Units { scale1: SCALE, scale2: 1.0, tokens: Tokens::Visual };
    let bootstrap = BootstrapOptions { resample, draws: 1000, seed: 0 };
    let name = format!("{family}, {compressor}, {series}");
    let fitted = read_str(&csv, &name, &options).and_then(|mut tables| {
        let table = tables.swap_remove(0);
        let assessment = assess(&table, Some(Form::Product), &FitOptions::default(), units, Some(bootstrap))?;
        Ok((table, Box::new(assessment)))
    });
    Ok(FamilyLaw {
        series: series.to_owned(),
        family: family.to_owned(),
        compressor: compressor.to_owned(),
        tasks: tasks.into_iter().map(str::to_owned).collect(),
        incomplete: all - points.len(),
        fitted,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::results::tests::row;

    /// Four sizes, two seeds, four numbers of tokens: errors of a law with these exponents and a little noise.
    fn rows(alpha: f64, beta: f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for (size, params) in [1_u64, 4, 16, 64].into_iter().enumerate() {
            for seed in 0..2 {
                for (at, tokens) in [1.0_f64, 4.0, 16.0, 64.0].into_iter().enumerate() {
                    for (task, lift) in [("scenes", 0.02), ("nlvr", -0.02)] {
                        let noise = 0.002 * f64::from(((size * 7 + at * 3 + seed * 5) % 5) as u32 as i32 - 2);
                        let error = 0.6 * (params as f64).powf(-alpha) * tokens.powf(-beta) + lift + noise;
                        let mut row = row(&format!("m{params}"), params * 1_000_000, tokens, error);
                        row.run = format!("m{params}-s{seed}");
                        row.task = task.into();
                        rows.push(row);
                    }
                }
            }
        }
        rows
    }

    #[test]
    fn the_finding_is_stated_with_its_interval_both_ways() {
        for (alpha, beta, verdict, words) in [
            (0.2, 0.05, Verdict::Holds, "finding holds here"),
            (0.04, 0.15, Verdict::Fails, "does not hold here"),
        ] {
            let laws = laws(&rows(alpha, beta)).unwrap();
            assert_eq!(laws.len(), 1);
            assert_eq!(
                (laws[0].tasks.as_slice(), laws[0].incomplete),
                (&["nlvr".to_owned(), "scenes".to_owned()][..], 0)
            );
            let (_, assessment) = laws[0].fitted.as_ref().unwrap();
            assert_eq!(Verdict::of(assessment.ratio_ci95()), verdict, "{:?}", assessment.ratio_ci95());
            let said = laws[0].says();
            assert!(
                said.starts_with("reasoning (quecc, grid): ")
                    && said.contains(words)
                    && said.contains("95 %"),
                "{said}"
            );
        }
    }

    #[test]
    fn too_little_data_cannot_say() {
        let few: Vec<Row> = rows(0.2, 0.05).into_iter().filter(|row| row.visual_tokens == 4.0).collect();
        let said = laws(&few).unwrap()[0].says();
        assert!(said.contains("cannot say") && said.contains("visual_tokens"), "{said}");
        assert_eq!(Verdict::of(Some([0.5, f64::INFINITY])), Verdict::Unclear);
        assert_eq!(Verdict::of(None), Verdict::Unclear);
        // One size alone is no law at all.
        let one: Vec<Row> = rows(0.2, 0.05).into_iter().filter(|row| row.params == 4_000_000).collect();
        assert!(laws(&one).unwrap().is_empty());
    }

    #[test]
    fn cells_without_all_tasks_are_left_out() {
        let mut rows = rows(0.2, 0.05);
        rows.retain(|row| !(row.task == "nlvr" && row.run == "m1-s0" && row.visual_tokens == 1.0));
        let law = &laws(&rows).unwrap()[0];
        let (table, _) = law.fitted.as_ref().unwrap();
        assert_eq!((law.incomplete, table.rows.len()), (1, 31));
    }
}
