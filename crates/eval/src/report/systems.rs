//! Who wins where: ways to make visual tokens for language models of one size, at equal numbers of visual tokens, question by
//! question and over seeds of training.
//!
//! In each group the paper's compressor, in the model that serves most numbers of visual tokens, stands first; all others are
//! compared with it, a model that was trained for one number alone among them. Groups are of series that are called alike up to
//! the first point: models of `grid` and of `grid.peers` are compared, and make laws of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::Block;
use crate::Result;
use crate::packed::Answers;
use crate::results::Row;
use crate::statistics::seeds::{Ahead, OverSeeds, Pair, over_seeds};
use crate::units;

/// The compressor of the paper.
const PAPERS: &str = "quecc";

/// Two systems on one task at one number of visual tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The task.
    pub task: String,
    /// Visual tokens.
    pub visual_tokens: f64,
    /// Parameters of both language models.
    pub params: u64,
    /// What is compared.
    pub first: System,
    /// What it is compared with.
    pub second: System,
    /// Mean scores of both.
    pub scores: [f64; 2],
    /// The first less the second.
    pub found: OverSeeds,
}

/// A model with a way to make its visual tokens, whatever the seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct System {
    /// The model's name in the plan.
    pub model: String,
    /// What makes visual tokens.
    pub compressor: String,
    /// Whether it answered with one number of visual tokens alone where others answered with several.
    pub dedicated: bool,
}

impl System {
    fn told(&self) -> String {
        let System { model, compressor, dedicated } = self;
        let name = if model == compressor { model.clone() } else { format!("{model} ({compressor})") };
        if *dedicated { format!("{name}, trained for one V") } else { name }
    }
}

/// Compares all systems that answered the same questions with language models of one size.
///
/// # Errors
/// Samples that cannot be read.
pub(super) fn compared(answers: &Answers, rows: &[Row]) -> Result<Vec<Compared>> {
    // How many numbers of visual tokens each model serves with a compressor.
    let mut served: BTreeMap<(&str, &str), BTreeSet<u64>> = BTreeMap::new();
    let mut groups: BTreeMap<(&str, u64, &str, u64), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let tokens = row.visual_tokens.to_bits();
        served.entry((&row.model, &row.compressor)).or_default().insert(tokens);
        let series = row.series.split('.').next().unwrap_or_default();
        groups.entry((series, row.params, &row.task, tokens)).or_default().push(row);
    }
    let mut all = Vec::new();
    for ((_, params, task, tokens), rows) in groups {
        let most = rows.iter().map(|row| served[&(&*row.model, &*row.compressor)].len()).max().unwrap_or(1);
        let mut systems: BTreeMap<(bool, usize, System), Vec<&Row>> = BTreeMap::new();
        for row in rows {
            let count = served[&(&*row.model, &*row.compressor)].len();
            let (model, compressor) = (row.model.clone(), row.compressor.clone());
            let system = System { model, compressor, dedicated: count == 1 && most > 1 };
            systems.entry((row.compressor != PAPERS, most - count, system)).or_default().push(row);
        }
        let mut systems = systems.into_iter().map(|((_, _, system), rows)| (system, rows));
        let Some((first, own)) = systems.next() else { continue };
        for (second, others) in systems {
            let Some((scores, found)) = over(answers, &own, &others)? else { continue };
            let visual_tokens = f64::from_bits(tokens);
            let (task, first) = (task.to_owned(), first.clone());
            all.push(Compared { task, visual_tokens, params, first, second, scores, found });
        }
    }
    Ok(all)
}

/// The mean scores of both and their difference, over the seeds that both have.
fn over(answers: &Answers, own: &[&Row], others: &[&Row]) -> Result<Option<([f64; 2], OverSeeds)>> {
    let mut read = Vec::new();
    for row in own {
        if let Some(other) = others.iter().find(|other| other.seed == row.seed) {
            read.push((row.seed, answers.of(&row.cell)?, answers.of(&other.cell)?.1));
        }
    }
    let mut pairs = Vec::new();
    for (seed, (header, own), others) in &read {
        let others = units(header.metric, others);
        pairs.extend(units(header.metric, own).into_iter().filter_map(|(name, unit)| {
            Some(Pair { seed: *seed, group: unit.group, one: unit.score, other: others.get(name)?.score })
        }));
    }
    let mean = |of: fn(&Pair<'_>) -> f64| {
        let mut sums: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for pair in &pairs {
            let sum = sums.entry(pair.seed).or_default();
            *sum = (sum.0 + of(pair), sum.1 + 1.0);
        }
        sums.values().map(|(sum, count)| sum / count).sum::<f64>() / sums.len().max(1) as f64
    };
    let scores = [mean(|pair| pair.one), mean(|pair| pair.other)];
    Ok(over_seeds(pairs.iter().copied(), 0).map(|found| (scores, found)))
}

impl Compared {
    /// The finding at this number of visual tokens, in words.
    fn says(&self) -> String {
        let OverSeeds { difference, interval: [low, high], seeds, .. } = &self.found;
        let [difference, low, high] = [difference, low, high].map(|part| 100.0 * part);
        let agree = match seeds.len() {
            1 => "one seed, which says nothing of others".to_owned(),
            count => format!("{} of {count} seeds", self.found.agreeing()),
        };
        let place = format!("V = {}", self.visual_tokens);
        match self.found.ahead() {
            Ahead::First => {
                format!("{place}: ahead by {difference:.1} points ({low:.1} to {high:.1}; {agree})")
            }
            Ahead::Second => {
                format!("{place}: behind by {:.1} points ({:.1} to {:.1}; {agree})", -difference, -high, -low)
            }
            Ahead::Neither => format!("{place}: no difference shown ({low:+.1} to {high:+.1})"),
        }
    }
}

/// A sentence for each pair of systems and task.
pub(super) fn says(all: &[Compared]) -> Vec<String> {
    let mut pairs: BTreeMap<(u64, &System, &System, &str), Vec<&Compared>> = BTreeMap::new();
    for one in all {
        pairs.entry((one.params, &one.first, &one.second, &one.task)).or_default().push(one);
    }
    let sentence =
        |((_, first, second, task), mut found): ((u64, &System, &System, &str), Vec<&Compared>)| {
            found.sort_by(|one, other| one.visual_tokens.total_cmp(&other.visual_tokens));
            let parts: Vec<String> = found.iter().map(|one| one.says()).collect();
            format!("{} against {} on {task}. {}.", first.told(), second.told(), parts.join("; "))
        };
    pairs.into_iter().map(sentence).collect()
}

/// The section of the page; nothing where there is nothing to compare.
pub(super) fn section(all: &[Compared]) -> Vec<Block> {
    if all.is_empty() {
        return Vec::new();
    }
    let row = |one: &Compared| {
        let [low, high] = one.found.interval.map(|end| 100.0 * end);
        let star = if one.found.ahead() == Ahead::Neither { "" } else { " *" };
        vec![
            one.task.clone(),
            foveate_law::plan::count(one.params as f64),
            one.visual_tokens.to_string(),
            one.first.told(),
            one.second.told(),
            one.found.seeds.len().to_string(),
            format!("{:.1}", 100.0 * one.scores[0]),
            format!("{:.1}", 100.0 * one.scores[1]),
            format!("{:+.1} ({low:+.1} to {high:+.1}){star}", 100.0 * one.found.difference),
            format!("{} of {}", one.found.agreeing(), one.found.seeds.len()),
        ]
    };
    let header =
        ["task", "N", "V", "first", "second", "seeds", "first %", "second %", "first less second %", "agree"];
    let about = "Systems with language models of one size, on the same questions and seeds. The interval of a difference is \
                 the paired bootstrap over seeds and pictures, never narrower than Student's over the seeds; one that leaves \
                 out 0 is marked with a star. Each is for its comparison alone: among twenty, one is expected to leave out 0 \
                 by chance.";
    vec![
        Block::Heading("Ways to make visual tokens".into()),
        Block::Text(about.into()),
        Block::Table { header: header.map(str::to_owned).into(), rows: all.iter().map(row).collect() },
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::{Header, Journal};
    use crate::metric::{Expected, Metric};
    use crate::sample::{Answered, Outcome, Sample};
    use crate::sweep::Folder;

    /// A row of 300 questions about 100 pictures, and its file of samples. `right` says which are answered rightly.
    fn cell(
        folder: &Folder,
        [model, compressor]: [&str; 2],
        seed: u64,
        tokens: usize,
        right: &dyn Fn(usize) -> bool,
    ) -> Row {
        let key = format!("{model}-s{seed}-v{tokens}-own-scenes");
        let header = Header {
            task: "scenes".into(),
            metric: Metric::ExactMatch,
            family: "reasoning".into(),
            split: Some("validation".into()),
            model: model.into(),
            compressor: compressor.into(),
            visual_tokens: tokens.to_string(),
            run: "x".into(),
        };
        let mut journal = Journal::open(&folder.samples(&key), &header).unwrap().unwrap();
        for nth in 0..300 {
            let answered = Answered {
                answer: "a".into(),
                read: None,
                score: f64::from(right(nth)),
                visual_tokens: tokens,
                flops: 1.0,
                ms: 1.0,
            };
            let sample = Sample {
                id: nth.to_string(),
                group: (nth / 3).to_string(),
                unit: nth.to_string(),
                skill: "count".into(),
                family: "reasoning".into(),
                question: "?".into(),
                looked_for: None,
                expected: Expected::Texts(vec!["a".into()]),
                outcome: Outcome::Answered(answered),
            };
            journal.add(&sample).unwrap();
        }
        Row {
            seed,
            compressor: compressor.into(),
            run: format!("{model}-s{seed}"),
            cell: key,
            ..crate::results::tests::row(model, 1000, tokens as f64, 0.5)
        }
    }

    #[test]
    fn the_winner_is_named_at_each_number_of_tokens() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        let mut rows = Vec::new();
        // Two in three right. The elastic QueCC gets a tenth more at 4 tokens than its peer, and at 1 as many, others with each
        // seed. Trained for 4 tokens alone it gets a twentieth more.
        let base = |nth: usize| !nth.is_multiple_of(3);
        for seed in 1..=4_u64 {
            let luck = seed as usize;
            for tokens in [1, 4] {
                let own = move |nth: usize| base(nth) || tokens == 4 && nth % 10 == luck;
                rows.push(cell(&folder, ["quecc", "quecc"], seed, tokens, &own));
                let peer =
                    move |nth: usize| if tokens == 1 { base((nth + 7 * luck) % 300) } else { base(nth) };
                rows.push(cell(&folder, ["pool", "average-pooling"], seed, tokens, &peer));
            }
            let dedicated =
                move |nth: usize| base(nth) || nth % 10 == luck || nth % 20 == luck + 10 || nth % 10 == 9;
            rows.push(cell(&folder, ["at_4", "quecc"], seed, 4, &dedicated));
        }
        let answers = Answers::open(&folder).unwrap();
        let found = compared(&answers, &rows).unwrap();
        let told = says(&found);
        assert_eq!(told.len(), 2, "{told:?}");
        // Everything is compared with the elastic model; pairs are in the order of the second's name.
        assert!(
            told[0].starts_with("quecc against at_4 (quecc), trained for one V on scenes. V = 4: behind by"),
            "{told:?}"
        );
        assert!(told[0].contains("4 of 4 seeds") && !told[0].contains("V = 1"), "{told:?}");
        assert!(
            told[1].starts_with("quecc against pool (average-pooling) on scenes. V = 1: no difference shown"),
            "{told:?}"
        );
        assert!(told[1].contains("V = 4: ahead by 3.3 points"), "{told:?}");
        let Block::Table { rows, .. } = &section(&found)[2] else { panic!() };
        assert_eq!(rows.len(), 3);
        assert_eq!(rows.iter().filter(|row| row[8].ends_with('*')).count(), 2);
        // A seed that one of them does not have is no pair.
        let (others, own): (Vec<Row>, Vec<Row>) = found_rows(&folder);
        assert_eq!(compared(&answers, &[own, others].concat()).unwrap().len(), 0);
    }

    /// QueCC's rows of one seed, pooling's of another.
    fn found_rows(folder: &Folder) -> (Vec<Row>, Vec<Row>) {
        let row = |model: &str, compressor: &str, seed: u64| Row {
            seed,
            compressor: compressor.into(),
            cell: format!("{model}-s{seed}-v4-own-scenes"),
            ..crate::results::tests::row(model, 1000, 4.0, 0.5)
        };
        assert!(folder.samples("quecc-s1-v4-own-scenes").is_file());
        (vec![row("quecc", "quecc", 1)], vec![row("pool", "average-pooling", 2)])
    }
}
