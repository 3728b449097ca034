//! A law for each family, and whether the paper's finding holds for it.

use std::collections::{BTreeMap, BTreeSet};

use foveate_law::{
    Assessment, BootstrapOptions, FitOptions, Form, Held, Law, LawError, ReadOptions, Resample, Status,
    Table, Tokens, Units, assess, assess_replicates, percentile_interval, read_str,
};

use super::measured::Point;
use super::replicates::{Luck, Measured, replicates};
use crate::Result;
use crate::results::Row;

/// Language models are counted in millions of parameters: exponents do not depend on it. Those of words are left out: a visual
/// token passes none of them, and of small models they are most.
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
    /// What was measured.
    pub points: Vec<Point>,
    /// The table, and what was fitted to it, or why nothing could be.
    pub fitted: std::result::Result<(Table, Box<Assessment>), LawError>,
}

/// Whether a family is served best by the largest language model with the fewest visual tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// All that fits as well has α/β above 1.
    Holds,
    /// All that fits as well has α/β below 1.
    Fails,
    /// Both answers fit, or there are too few sizes to tell.
    Unclear(Doubt),
}

/// Why the data cannot say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// Fewer than three sizes of language model: an exponent and a floor are not told apart.
    Sizes(usize),
    /// The interval of α/β includes 1.
    Interval,
    /// It does not, but what fits as well with a floor of any sign does.
    Floor,
    /// The error is the same everywhere.
    Flat,
    /// The exponent of one of the two, named here, is at its bound: more of it did not lower the error, so that it was not traded
    /// for the other.
    Useless(&'static str),
}

/// Sizes below which no verdict is given.
const LEAST_SIZES: usize = 3;
/// Relative change of the error over the whole grid below which a law says nothing.
const FLAT: f64 = 1e-6;

impl Verdict {
    /// Judges a fit by its bootstrap and by the profile of α/β.
    pub fn new(table: &Table, of: &Assessment) -> Verdict {
        let sizes = table.levels()[0].len();
        if sizes < LEAST_SIZES {
            return Verdict::Unclear(Doubt::Sizes(sizes));
        }
        let Some([low, high]) = interval(of) else { return Verdict::Unclear(Doubt::Flat) };
        // What fits as well, whatever sign the floor has.
        let fits = of.profile(Held::Ratio).map(|profile| profile.widest());
        let (above, below) = (
            fits.is_none_or(|fits| fits.low > 1.0 && !fits.open_below),
            fits.is_none_or(|fits| fits.high < 1.0 && !fits.open_above),
        );
        let useless = |exponent| matches!(of.status.get(exponent), Some(Status::AtLower(_)));
        if is_flat(of, &of.fit.law) {
            Verdict::Unclear(Doubt::Flat)
        } else if useless("beta") {
            Verdict::Unclear(Doubt::Useless("more visual tokens"))
        } else if useless("alpha") {
            Verdict::Unclear(Doubt::Useless("larger language models"))
        } else if low <= 1.0 && high >= 1.0 {
            Verdict::Unclear(Doubt::Interval)
        } else if low > 1.0 && above {
            Verdict::Holds
        } else if high < 1.0 && below {
            Verdict::Fails
        } else {
            Verdict::Unclear(Doubt::Floor)
        }
    }
}

/// 95 % percentile interval of α/β over the bootstrap. A refit in which neither factor matters has no ratio; it counts as the
/// lowest at the lower end and as the highest at the upper one.
fn interval(of: &Assessment) -> Option<[f64; 2]> {
    let (_, bootstrap) = of.bootstrap.as_ref()?;
    let ratios = |unknown: f64| -> Vec<f64> {
        let ratio = |law: &Law| if is_flat(of, law) { unknown } else { law.ratio().unwrap_or(f64::INFINITY) };
        bootstrap.laws.iter().map(ratio).collect()
    };
    let [low, _] = percentile_interval(&ratios(0.0), 0.95)?;
    let [_, high] = percentile_interval(&ratios(f64::INFINITY), 0.95)?;
    Some([low, high])
}

/// Whether a law is the same at every size and number of tokens that was measured.
fn is_flat(of: &Assessment, law: &Law) -> bool {
    let [[small, large], [few, many]] = of.ranges;
    let (most, least) = (law.predict(small, few), law.predict(large, many));
    most - least <= FLAT * most
}

impl FamilyLaw {
    /// The verdict in a sentence, with the interval of α/β.
    pub fn says(&self) -> String {
        let place = format!("{} ({}, {})", self.family, self.compressor, self.series);
        let (table, assessment) = match &self.fitted {
            Ok(fitted) => fitted,
            Err(error) => {
                return format!("{place}: no law could be fitted, so the data cannot say: {error}.");
            }
        };
        let number = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "∞".to_owned() };
        let ratio = assessment.fit.law.ratio().map_or("∞".to_owned(), number);
        let shown = interval(assessment).map_or("no interval".to_owned(), |[low, high]| {
            format!("95 % interval {} to {}", number(low), number(high))
        });
        let doubt = match Verdict::new(table, assessment) {
            Verdict::Holds => {
                return format!(
                    "{place}: the paper's finding holds here. α/β is {ratio} ({shown}, wholly above 1): at a fixed 2·N·V, \
                     where text and tower cost nothing, a larger language model with the fewest visual tokens errs least. \
                     With Q text tokens the best V is Q/(α/β − 1)."
                );
            }
            Verdict::Fails => {
                return format!(
                    "{place}: the paper's finding does not hold here. α/β is {ratio} ({shown}, wholly below 1): at a \
                     fixed 2·N·V visual tokens lower the error more than the same cost spent on parameters."
                );
            }
            Verdict::Unclear(Doubt::Sizes(sizes)) => {
                format!(
                    "{sizes} sizes of language model do not tell an exponent from a floor; three are needed"
                )
            }
            Verdict::Unclear(Doubt::Interval) => {
                "the interval includes 1, which leaves both answers open".to_owned()
            }
            Verdict::Unclear(Doubt::Floor) => {
                "the interval leaves out 1, but with a floor of any sign values on its other side fit as well"
                    .to_owned()
            }
            Verdict::Unclear(Doubt::Useless(what)) => {
                format!(
                    "{what} did not lower the error of these models at all, so that there was nothing to trade"
                )
            }
            Verdict::Unclear(Doubt::Flat) => {
                "the error is the same at every size and number of tokens".to_owned()
            }
        };
        format!(
            "{place}: the data cannot say whether the paper's finding holds. α/β is {ratio} ({shown}); {doubt}."
        )
    }
}

/// The laws of all groups of rows with more than one model; `luck` is theirs with the pictures that they were asked about.
///
/// # Errors
/// Rows that make no table, which rows of a sweep always do.
pub fn laws(rows: &[Row], luck: &Luck) -> Result<Vec<FamilyLaw>> {
    let mut groups: BTreeMap<(&str, &str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry((&row.series, &row.family, &row.compressor)).or_default().push(row);
    }
    let several =
        |rows: &Vec<&Row>| rows.iter().map(|row| row.body_params).collect::<BTreeSet<_>>().len() > 1;
    let groups = groups.into_iter().filter(|(_, rows)| several(rows));
    groups.map(|((series, family, compressor), rows)| law(series, family, compressor, &rows, luck)).collect()
}

fn law(series: &str, family: &str, compressor: &str, rows: &[&Row], luck: &Luck) -> Result<FamilyLaw> {
    let tasks: BTreeSet<&str> = rows.iter().map(|row| row.task.as_str()).collect();
    // A run at a number of tokens: one point, the mean over the family's tasks.
    let mut points: BTreeMap<(&str, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        points.entry((&row.run, row.visual_tokens.to_bits())).or_default().push(row);
    }
    let all = points.len();
    points.retain(|_, rows| rows.len() == tasks.len());
    let mut csv = String::from("body_params,visual_tokens,error,error_se,run\n");
    let (mut measured, mut drawn) = (Vec::new(), Vec::new());
    for ((run, _), rows) in &points {
        let (count, first) = (rows.len() as f64, rows[0]);
        let mean = |of: fn(&Row) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / count;
        let (error, flops, ms) = (mean(|row| row.error), mean(|row| row.flops), mean(|row| row.ms));
        let (params, visual_tokens) = (first.body_params, first.visual_tokens);
        measured.push(Point { params, visual_tokens, error, flops, ms });
        let deviation = rows.iter().map(|row| row.error_se.powi(2)).sum::<f64>().sqrt() / count;
        csv += &format!("{params},{visual_tokens},{error},{deviation},{run}\n");
        let cells = rows.iter().map(|row| row.cell.as_str()).collect();
        drawn.push(Measured { run, params, visual_tokens, error, cells });
    }
    let replicates = replicates(&drawn, luck);
    let options = ReadOptions { x1: Some("body_params".into()), scale1: SCALE, ..ReadOptions::default() };
    let units = Units { scale1: SCALE, scale2: 1.0, tokens: Tokens::Visual };
    let cases = BootstrapOptions { resample: Resample::Cases, draws: 1000, seed: 0 };
    let name = format!("{family}, {compressor}, {series}");
    let fitted = read_str(&csv, &name, &options).and_then(|mut tables| {
        let table = tables.swap_remove(0);
        let (form, options) = (Some(Form::Product), FitOptions::default());
        let assessment = match &replicates {
            Some(replicates) => assess_replicates(&table, form, &options, units, replicates)?,
            None => assess(&table, form, &options, units, Some(cases))?,
        };
        Ok((table, Box::new(assessment)))
    });
    Ok(FamilyLaw {
        series: series.to_owned(),
        family: family.to_owned(),
        compressor: compressor.to_owned(),
        tasks: tasks.into_iter().map(str::to_owned).collect(),
        incomplete: all - points.len(),
        points: measured,
        fitted,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_law::Preset;

    use super::*;
    use crate::results::tests::row;
    use crate::statistics::DRAWS;

    /// Four sizes, two seeds, four numbers of tokens: errors of a law with these exponents and a little noise.
    fn rows(alpha: f64, beta: f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for (size, params) in [1_u64, 4, 16, 64].into_iter().enumerate() {
            for seed in 0..2 {
                for (at, tokens) in [1.0_f64, 4.0, 16.0, 64.0].into_iter().enumerate() {
                    for (task, lift) in [("scenes", 0.02), ("nlvr", -0.02)] {
                        let noise = 0.002
                            * f64::from(((size * 7 + at * 3 + seed * (size + 2)) % 5) as u32 as i32 - 2);
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
            (0.1, 0.1, Verdict::Unclear(Doubt::Interval), "the interval includes 1"),
            (0.2, -0.05, Verdict::Unclear(Doubt::Useless("more visual tokens")), "nothing to trade"),
            (-0.05, 0.2, Verdict::Unclear(Doubt::Useless("larger language models")), "nothing to trade"),
        ] {
            let laws = laws(&rows(alpha, beta), &Luck::new()).unwrap();
            assert_eq!(laws.len(), 1);
            assert_eq!((laws[0].tasks.join(" "), laws[0].incomplete), ("nlvr scenes".to_owned(), 0));
            let (table, assessment) = laws[0].fitted.as_ref().unwrap();
            let said = laws[0].says();
            assert_eq!(Verdict::new(table, assessment), verdict, "{said}");
            let begins = said.starts_with("reasoning (quecc, grid): ");
            assert!(begins && said.contains(words) && said.contains("95 %"), "{said}");
        }
    }

    #[test]
    fn too_little_data_cannot_say() {
        let said = |keep: &dyn Fn(&Row) -> bool, change: &dyn Fn(&mut Row)| {
            let mut few: Vec<Row> = rows(0.2, 0.05).into_iter().filter(|row| keep(row)).collect();
            few.iter_mut().for_each(change);
            let laws = laws(&few, &Luck::new()).unwrap();
            laws.first().map(FamilyLaw::says)
        };
        let one_rung = said(&|row| row.visual_tokens == 4.0, &|_| ()).unwrap();
        assert!(one_rung.contains("cannot say") && one_rung.contains("visual_tokens"), "{one_rung}");
        let two_sizes = said(&|row| row.params < 16_000_000, &|_| ()).unwrap();
        assert!(two_sizes.contains("2 sizes of language model"), "{two_sizes}");
        let flat = said(&|_| true, &|row| row.error = 1.0).unwrap();
        assert!(flat.contains("the error is the same at every size"), "{flat}");
        // One size alone is no law at all.
        assert_eq!(said(&|row| row.params == 4_000_000, &|_| ()), None);
    }

    /// The published measurements say what the paper says of them.
    #[test]
    fn the_papers_own_tables_are_judged_as_the_paper_does() {
        let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
        let bootstrap = BootstrapOptions { resample: Resample::Cases, draws: 1000, seed: 0 };
        let verdict = |preset: Preset| {
            let table = preset.table().unwrap();
            let product = Some(Form::Product);
            let of = assess(&table, product, &FitOptions::default(), units, Some(bootstrap)).unwrap();
            Verdict::new(&table, &of)
        };
        assert_eq!(verdict(Preset::Reasoning), Verdict::Holds);
        assert_ne!(verdict(Preset::Ocr), Verdict::Holds);
    }

    #[test]
    fn a_size_with_one_run_leaves_the_others_their_runs() {
        let mut one = rows(0.2, 0.05);
        one.retain(|row| row.run != "m64-s1");
        let law = laws(&one, &Luck::new()).unwrap().remove(0);
        let (table, assessment) = law.fitted.unwrap();
        let runs: BTreeSet<_> = table.rows.into_iter().filter_map(|row| row.run).collect();
        assert_eq!(runs.len(), 2 * 3 + 1);
        assert_eq!(assessment.bootstrap.unwrap().0.resample, Resample::Replicates);
        // Where no size has several runs, single points are drawn.
        one.retain(|row| row.run.ends_with("s0"));
        let (_, assessment) = laws(&one, &Luck::new()).unwrap().remove(0).fitted.unwrap();
        assert_eq!(assessment.bootstrap.unwrap().0.resample, Resample::Cases);
    }

    /// Questions that favour many tokens by luck are doubt about β, however well the runs agree.
    #[test]
    fn luck_with_pictures_widens_the_interval() {
        let rows = rows(0.2, 0.05);
        let with = |luck: &Luck| interval(&laws(&rows, luck).unwrap()[0].fitted.as_ref().unwrap().1).unwrap();
        let moved = |row: &Row| {
            let moved = |draw: usize| 0.03 * (draw as f64 * 0.7).sin() * row.visual_tokens.ln();
            (row.cell.clone(), (0..DRAWS).map(moved).collect())
        };
        let (sure, unsure) = (with(&Luck::new()), with(&rows.iter().map(moved).collect()));
        assert!(unsure[0] < sure[0] && unsure[1] > sure[1], "{sure:?} {unsure:?}");
    }

    #[test]
    fn cells_without_all_tasks_are_left_out() {
        let mut rows = rows(0.2, 0.05);
        rows.retain(|row| !(row.task == "nlvr" && row.run == "m1-s0" && row.visual_tokens == 1.0));
        let law = &laws(&rows, &Luck::new()).unwrap()[0];
        let (table, _) = law.fitted.as_ref().unwrap();
        assert_eq!((law.incomplete, table.rows.len()), (1, 31));
    }
}
