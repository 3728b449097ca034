//! The model card that a run leaves beside its model: `README.md`, as far as the program knows what belongs there.
//!
//! Front matter as the Hugging Face hub reads it, then data and licences, recipe, a table of scores for each dataset with a
//! column for each number of visual tokens, and limits. Whoever publishes the model completes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use foveate_data::Question;
use foveate_data::baseline::{QuestionOnly, Report};
use foveate_model::vlm::{FamilyHead, FittedHead, FrozenPart};
use serde_json::json;

use crate::evaluate::{Count, Score};
use crate::families::{self, Pick};
use crate::recipe::{Kind, Parts, Recipe, Source as From, SplitName, Tokens};
use crate::{Result, TrainError, atomic};

/// Questions of the training data that the question-only baseline learns from, at most.
const LEARNT: usize = 20_000;
/// The quantile of the normal distribution that leaves 2.5 % above it.
const Z: f64 = 1.959_964;

/// What is known when a run ends.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The recipe as it was run.
    pub recipe: &'a Recipe,
    /// The text of its file.
    pub text: &'a str,
    /// What was changed of it on the command line, `key=value`.
    pub overrides: &'a [String],
    /// Elements of trained tensors, and of all.
    pub parameters: (usize, usize),
    /// Of training.
    pub seconds: f64,
    /// Asked while training.
    pub questions: u64,
    /// That worked.
    pub threads: usize,
    /// Of the last evaluation.
    pub scores: &'a [Score],
    /// By dataset, what can be answered without looking; those that are known.
    pub baselines: &'a BTreeMap<String, Report>,
    /// The weights that compressor, projector and adapters went on from, where they did not start fresh.
    pub start: Option<&'a FrozenPart>,
    /// The guess of a question's family, where there is one.
    pub families: Option<&'a FamilyHead>,
    /// Name and version of the program.
    pub program: &'a str,
    /// The commit that it was built from, if known.
    pub commit: Option<&'a str>,
}

/// Puts the card into a model's folder.
///
/// # Errors
/// A file that cannot be written.
pub fn save(folder: &Path, facts: &Facts<'_>) -> Result<()> {
    atomic::replace_bytes(&folder.join("README.md"), write(facts).as_bytes())
}

/// What the recipe's training data teach about its evaluation questions without their pictures, by dataset.
///
/// # Errors
/// A dataset that cannot be opened.
pub fn baselines(recipe: &Recipe) -> Result<BTreeMap<String, Report>> {
    let names: Vec<&String> = trained_on(recipe).map(|(name, _)| name).collect();
    let mut learnt = Vec::new();
    for name in &names {
        learnt.extend(questions(recipe, name, LEARNT / names.len().max(1))?);
    }
    let baseline = QuestionOnly::fit(&learnt);
    let measure = |name: &String| {
        let asked = questions(recipe, name, recipe.evaluation.questions)?;
        Ok((name.clone(), baseline.measure(&asked)))
    };
    recipe.evaluation.data.iter().map(measure).collect()
}

/// Questions of a dataset, `most` of them, in the order in which [`evaluate`](crate::evaluate::evaluate) asks.
fn questions(recipe: &Recipe, name: &str, most: usize) -> Result<Vec<Question>> {
    families::questions(&recipe.data[name], Pick { each: recipe.questions, seed: recipe.seed, most })
}

/// The card.
pub fn write(facts: &Facts<'_>) -> String {
    let recipe = facts.recipe;
    let mut sections = vec![head(facts), data(recipe), made(facts), scores(facts)];
    sections.extend(facts.families.map(automatic));
    sections.extend([limits(facts), file(facts.text)]);
    format!("{}\n{}\n", front_matter(recipe), sections.join("\n\n"))
}

/// Says in the card of a model's folder how well families are guessed; a folder without a card stays without.
///
/// # Errors
/// A file that cannot be read or written.
pub fn tell_families(folder: &Path, head: &FamilyHead) -> Result<()> {
    let path = folder.join("README.md");
    match std::fs::read_to_string(&path) {
        Ok(card) => atomic::replace_bytes(&path, with_families(&card, head).as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(TrainError::Io { path, error }),
    }
}

/// The heading of what is said about `--visual-tokens auto`.
const AUTOMATIC: &str = "## Visual tokens by question";

/// How well the family of a question is guessed.
fn automatic(head: &FamilyHead) -> String {
    let FittedHead { questions, validation, .. } = head.fitted;
    let mut text = format!(
        "{AUTOMATIC}\n\nA linear layer on the question's vector tells {} apart, for `--visual-tokens auto`; it was fitted to \
         {questions} training questions",
        listed(&head.families, "and")
    );
    if let Some([right, asked]) = validation {
        let [low, high] = wilson(Count { right, asked });
        let part = Count { right, asked }.accuracy();
        _ = write!(
            text,
            " and is right about {:.1} % [{:.1}, {:.1}] of {asked} validation questions",
            100.0 * part,
            100.0 * low,
            100.0 * high
        );
    }
    text + "."
}

/// A card with what is said of this head in place of what was said of another; behind everything else where the card is not ours.
pub fn with_families(card: &str, head: &FamilyHead) -> String {
    let section = automatic(head);
    // The recipe may hold any text.
    let ours = &card[..card.find("\n## The recipe\n").unwrap_or(card.len())];
    if let Some(start) = ours.find(&format!("\n{AUTOMATIC}\n")) {
        let rest = &card[start + 1..];
        let behind = rest.find("\n## ").map_or("\n", |end| &rest[end..]);
        let gap = if behind == "\n" { "" } else { "\n" };
        return format!("{}\n{section}{gap}{behind}", &card[..start]);
    }
    match ours.find("\n## Limits\n") {
        Some(start) => format!("{}\n{section}\n{}", &card[..start], &card[start..]),
        None => format!("{}\n\n{section}\n", card.trim_end()),
    }
}

/// Strings as JSON writes them, which YAML reads as well.
fn front_matter(recipe: &Recipe) -> String {
    let licence = if is_our_own(recipe) { json!(["mit", "apache-2.0"]) } else { json!("other") };
    format!(
        "---\nlicense: {licence}\nlanguage: en\nlibrary_name: foveate\npipeline_tag: image-text-to-text\ntags: {}\n---\n",
        json!(["vision-language-model", "visual-token-compression", "llava", recipe.name])
    )
}

/// Whether everything that it was made of came with the program.
fn is_our_own(recipe: &Recipe) -> bool {
    trained_on(recipe).all(|(_, kind)| matches!(kind, Kind::Scenes { .. } | Kind::Texts { .. }))
        && taken(&recipe.parts).is_empty()
}

fn trained_on(recipe: &Recipe) -> impl Iterator<Item = (&String, &Kind)> {
    recipe.data.iter().filter(|(name, _)| recipe.trains_on(name)).map(|(name, data)| (name, &data.kind))
}

/// Parts that were not made by this recipe, and where they are from.
fn taken(parts: &Parts) -> Vec<(&'static str, &str)> {
    let mut taken = Vec::new();
    for (part, source) in [("vision tower", &parts.tower), ("language model", &parts.language)] {
        if let From::From(word) = source {
            taken.push((part, word.as_str()));
        }
    }
    if let Some(Tokens::From(word)) = &parts.tokenizer {
        taken.push(("tokenizer", word));
    }
    taken.extend(parts.start.as_ref().map(|word| ("compressor, projector and adapters", word.as_str())));
    taken
}

fn head(facts: &Facts<'_>) -> String {
    let (trained, all) = facts.parameters;
    let mut rungs: Vec<usize> =
        facts.recipe.stages.iter().flat_map(|stage| stage.ladder.iter().map(|rung| rung.0)).collect();
    rungs.sort_unstable();
    rungs.dedup();
    let rungs: Vec<String> = rungs.iter().map(ToString::to_string).collect();
    format!(
        "# {}\n\nA vision-language model of {all} parameters, {trained} of them trained by one run of foveate, that reads an \
         image as {} visual tokens, as it is told.",
        facts.recipe.name,
        listed(&rungs, "or")
    )
}

fn listed(items: &[String], word: &str) -> String {
    match items {
        [first @ .., last] if !first.is_empty() => format!("{} {word} {last}", first.join(", ")),
        _ => items.concat(),
    }
}

fn data(recipe: &Recipe) -> String {
    let mut text =
        String::from("## Data and licences\n\n| data | used for | what | licence |\n|---|---|---|---|\n");
    let trained: Vec<&String> = trained_on(recipe).map(|(name, _)| name).collect();
    for (name, source) in &recipe.data {
        let uses = [("training", trained.contains(&name)), ("scores", recipe.evaluation.data.contains(name))];
        let uses: Vec<&str> = uses.iter().filter(|(_, used)| *used).map(|(word, _)| *word).collect();
        if !uses.is_empty() {
            let (what, licence) = described(&source.kind);
            _ = writeln!(text, "| {name} | {} | {what} | {licence} |", uses.join(", "));
        }
    }
    for (part, word) in taken(&recipe.parts) {
        _ = writeln!(text, "| {part} | start | `{word}` | its own; see there |");
    }
    text.trim_end().to_owned()
}

/// What a dataset is, and under which licence.
fn described(kind: &Kind) -> (String, &'static str) {
    const OURS: &str = "MIT OR Apache-2.0; fonts SIL Open Font Licence 1.1";
    const UNKNOWN: &str = "that of the files; not known here";
    let part = |split: &SplitName| match split {
        SplitName::Train => "train",
        SplitName::Validation => "validation",
        SplitName::Test => "test",
    };
    match kind {
        Kind::Scenes { split, seed, length, side, .. } => {
            let part = part(split);
            (
                format!("generated scenes, {part}, seed {seed}, {length} pictures of {side} pixels"),
                "MIT OR Apache-2.0",
            )
        }
        Kind::Texts { split, seed, length, side, numbers } => {
            let what = if *numbers { "numbers" } else { "texts" };
            let part = part(split);
            (format!("generated {what}, {part}, seed {seed}, {length} pictures of {side} pixels"), OURS)
        }
        Kind::Llava { .. } => ("conversations in LLaVA's format".to_owned(), UNKNOWN),
        Kind::EasyVqa { split, .. } => (format!("easy-VQA, {}", part(split)), "MIT"),
        Kind::Nlvr { split, .. } => (format!("NLVR v1, {}", part(split)), "CC BY 4.0"),
        Kind::TextLines { split, .. } => (format!("pictures of text lines, {}", part(split)), UNKNOWN),
        Kind::Emoji { set, .. } => {
            let licence = match set {
                crate::recipe::EmojiName::Google => "Apache-2.0 (drawings), MIT (names)",
                crate::recipe::EmojiName::Twitter => "CC BY 4.0 (drawings), MIT (names)",
            };
            (format!("emoji-datasource, drawings of {set:?}"), licence)
        }
        Kind::Folder { .. } => ("a folder of images".to_owned(), UNKNOWN),
    }
}

fn made(facts: &Facts<'_>) -> String {
    let Facts { recipe, seconds, questions, threads, program, .. } = facts;
    let commit = facts.commit.map_or("commit not known".to_owned(), |commit| format!("commit `{commit}`"));
    let mut text = format!(
        "## Recipe\n\nMade by {program} ({commit}) with the recipe below and seed {}: {} steps over {questions} questions in \
         {:.1} minutes on {threads} thread{}. The same recipe and program give the same weights on such a processor, bit for \
         bit.",
        recipe.seed,
        recipe.steps(),
        seconds / 60.0,
        if *threads == 1 { "" } else { "s" },
    );
    if let Some(start) = facts.start {
        let word = start.from.as_deref().unwrap_or(&start.file);
        _ = write!(
            text,
            " It went on from the model in `{word}`, an earlier run whose card says what that one learnt from and how long; its \
             weights have the SHA-256 `{}`.",
            start.sha256
        );
    }
    if !facts.overrides.is_empty() {
        text += " Changed on the command line:\n";
    }
    for change in facts.overrides {
        _ = write!(text, "\n- `{change}`");
    }
    text
}

/// The recipe, behind a fence that none of its lines closes.
fn file(text: &str) -> String {
    let longest = text.split(|other| other != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("## The recipe\n\n{fence}toml\n{}\n{fence}", text.trim())
}

fn scores(facts: &Facts<'_>) -> String {
    let mut text = String::from("## Scores\n\n");
    if facts.scores.is_empty() {
        return text + "None were measured.";
    }
    text += "Percent of questions answered exactly, with Wilson's 95 % interval, by number of visual tokens (V). \
             `question only` answers without the picture, as the training data answer most often.\n";
    let mut names: Vec<&String> = facts.scores.iter().map(|score| &score.data).collect();
    names.dedup();
    for name in names {
        let columns: Vec<&Score> = facts.scores.iter().filter(|score| score.data == *name).collect();
        text += &table(name, &columns, facts.baselines.get(name));
    }
    text.trim_end().to_owned()
}

fn table(name: &str, columns: &[&Score], baseline: Option<&Report>) -> String {
    let mut text = format!("\n### {name}\n\n| skill | questions | question only |");
    for score in columns {
        _ = write!(text, " V = {} |", score.visual_tokens);
    }
    text += &format!("\n|---|--:|--:|{}\n", "--:|".repeat(columns.len()));
    let skills = columns.first().map(|score| score.skills.keys()).into_iter().flatten();
    for skill in skills {
        let found = baseline.and_then(|report| report.by_skill.iter().find(|(of, _)| of.name() == skill));
        let counts = columns.iter().map(|score| score.skills.get(skill).copied().unwrap_or_default());
        row(&mut text, skill, counts, found.map(|(_, score)| score.best()));
    }
    let all = columns.iter().map(|score| score.total());
    row(&mut text, "**all**", all, baseline.map(|report| report.overall.best()));
    text
}

fn row(text: &mut String, name: &str, counts: impl Iterator<Item = Count>, baseline: Option<f64>) {
    let counts: Vec<Count> = counts.collect();
    let asked = counts.first().map_or(0, |count| count.asked);
    let baseline = baseline.map_or("–".to_owned(), |part| format!("{:.1}", 100.0 * part));
    _ = write!(text, "| {name} | {asked} | {baseline} |");
    for count in counts {
        let [low, high] = wilson(count);
        _ = write!(text, " {:.1} [{:.1}, {:.1}] |", 100.0 * count.accuracy(), 100.0 * low, 100.0 * high);
    }
    text.push('\n');
}

/// Wilson's 95 % interval of a proportion (J. Am. Stat. Assoc. 22, 1927): it stays within 0 and 1, and does not shrink to a
/// point where all or none are right. Everything where nothing was asked.
pub fn wilson(count: Count) -> [f64; 2] {
    if count.asked == 0 {
        return [0.0, 1.0];
    }
    let n = count.asked as f64;
    let part = count.accuracy();
    let spread = Z * Z / n;
    let middle = (part + spread / 2.0) / (1.0 + spread);
    let half = (part * (1.0 - part) * spread + spread * spread / 4.0).sqrt() / (1.0 + spread);
    [(middle - half).max(0.0), (middle + half).min(1.0)]
}

fn limits(facts: &Facts<'_>) -> String {
    let recipe = facts.recipe;
    let mut points = Vec::new();
    if is_our_own(recipe) {
        points.push(
            "It has seen generated pictures and English questions of a few hundred patterns alone. About photographs, other \
             questions and other languages it knows nothing, and answers all the same."
                .to_owned(),
        );
    } else {
        points
            .push("It was measured on the data named here alone; nothing is known about others.".to_owned());
    }
    points.push("One run with one seed: how much another seed would change is not known.".to_owned());
    if !facts.scores.is_empty() {
        points.push(format!(
            "The intervals take questions for independent, though up to {} share a picture: the true ones are somewhat wider.",
            recipe.questions
        ));
    }
    let point = |point: &String| format!("- {point}\n");
    format!("## Limits\n\n{}", points.iter().map(point).collect::<String>()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SMOKE: &str = include_str!("../../../recipes/smoke.toml");

    fn card(text: &str, overrides: &[String]) -> String {
        let recipe = Recipe::parse("smoke.toml", text, overrides).unwrap();
        let score = |visual_tokens, right| Score {
            data: "scenes-validation".to_owned(),
            visual_tokens,
            loss: 1.0,
            skills: [("count", right), ("exist", 2 * right)]
                .map(|(skill, right)| (skill.to_owned(), Count { right, asked: 100 }))
                .into(),
        };
        write(&Facts {
            recipe: &recipe,
            text,
            overrides,
            parameters: (12, 34),
            seconds: 90.0,
            questions: 56,
            threads: 2,
            scores: &[score(1, 20), score(16, 40)],
            baselines: &baselines(&recipe).unwrap(),
            start: None,
            families: None,
            program: "foveate 1.2.3",
            commit: Some("abcdef"),
        })
    }

    #[test]
    fn intervals_are_wilsons() {
        // Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (right, asked, wanted) in [
            (81, 263, [0.2553, 0.3662]),
            (15, 148, [0.0624, 0.1605]),
            (0, 20, [0.0, 0.1611]),
            (1, 29, [0.0061, 0.1718]),
            (29, 29, [0.8830, 1.0]),
            (0, 0, [0.0, 1.0]),
        ] {
            let found = wilson(Count { right, asked });
            let near = found.iter().zip(wanted).all(|(found, wanted)| (found - wanted).abs() < 5e-5);
            assert!(near, "{right} of {asked}: {found:?}, not {wanted:?}");
        }
    }

    #[test]
    fn a_card_says_what_is_known() {
        let set = ["stages.0.steps=7".to_owned()];
        let card = card(SMOKE, &set);
        let (front, body) = card.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
        assert!(
            front.contains(r#"license: ["mit","apache-2.0"]"#) && front.contains(r#""smoke""#),
            "{front}"
        );
        for part in [
            "# smoke\n",
            "34 parameters, 12 of them",
            "as 1, 4 or 16 visual tokens",
            "| scenes | training | generated scenes, train, seed 1, 100000 pictures of 32 pixels | MIT OR Apache-2.0 |",
            "| scenes-validation | scores |",
            "foveate 1.2.3 (commit `abcdef`) with the recipe below and seed 1: 7 steps over 56 questions in 1.5 minutes on 2 threads",
            "Changed on the command line:\n\n- `stages.0.steps=7`\n\n## Scores",
            "```toml\n# A minute of training",
            "| skill | questions | question only | V = 1 | V = 16 |",
            // 60 and 120 of 200.
            "30.0 [24.1, 36.7] | 60.0 [53.1, 66.5] |",
            "## Limits",
            "up to 4 share a picture",
        ] {
            assert!(body.contains(part), "{part} is not in\n{body}");
        }
        // The baseline was measured: each row has a number, none a dash.
        assert!(!body.contains("| – |"), "{body}");
    }

    #[test]
    fn parts_and_data_from_elsewhere_have_licences_of_their_own() {
        let text = SMOKE
            .replace(
                "kind = \"scenes\"\nsplit = \"train\"\nseed = 1\nlength = 100000\nside = 32",
                "kind = \"nlvr\"\nsplit = \"train\"\npath = \"nlvr.zip\"",
            )
            .replace(
                "tokenizer = { trained = { vocabulary = 420, samples = 500 } }",
                "tokenizer = { from = \"o/n\" }",
            );
        let recipe = Recipe::parse("smoke.toml", &text, &[""; 0]).unwrap();
        assert!(front_matter(&recipe).contains("license: \"other\""), "{}", front_matter(&recipe));
        let data = data(&recipe);
        assert!(data.contains("| scenes | training | NLVR v1, train | CC BY 4.0 |"), "{data}");
        assert!(data.contains("| tokenizer | start | `o/n` | its own; see there |"), "{data}");
    }

    #[test]
    fn a_card_says_how_well_families_are_guessed() {
        let head = |right| FamilyHead {
            families: vec!["reasoning".into(), "text".into()],
            weights: vec![vec![0.0], vec![1.0]],
            bias: vec![0.0, 0.0],
            fitted: FittedHead { questions: 500, ridge: 1e-3, validation: Some([right, 263]) },
        };
        // A heading of ours inside of the recipe is none of the card's.
        let plain = card(&format!("{SMOKE}\n## Visual tokens by question\n## Limits\n"), &[]);
        let once = with_families(&plain, &head(81));
        let (before, section) = once.split_once(AUTOMATIC).unwrap();
        assert!(before.contains("## Scores") && !before.contains("## Limits"), "{once}");
        assert!(
            section.contains("tells reasoning and text apart") && section.contains("500 training questions")
        );
        assert!(
            section.contains("30.8 % [25.5, 36.6] of 263 validation questions.\n\n## Limits\n"),
            "{once}"
        );
        let twice = with_families(&once, &head(263));
        assert!(twice.contains("100.0 % [98.6, 100.0] of 263") && !twice.contains("30.8 %"), "{twice}");
        assert_eq!(with_families(&twice, &head(81)), once);
        let theirs = with_families("# Mine\n", &head(81));
        assert!(theirs.starts_with("# Mine\n\n## Visual tokens by question\n\nA linear"), "{theirs}");
        assert_eq!(with_families(&theirs, &head(81)), theirs);
    }

    #[test]
    fn a_recipe_cannot_break_out_of_its_fence() {
        let card = card(&format!("# ````\n{SMOKE}"), &[]);
        assert!(card.contains("`````toml\n# ````\n"), "{card}");
    }
}
