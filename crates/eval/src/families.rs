//! The error of a model by family of questions and number of visual tokens, from what was answered: what `--visual-tokens auto`
//! chooses by.
//!
//! Only answers to validation count: an error that was looked up in a test would choose for that test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use foveate_law::auto::{ErrorTable, Errors, MeasuredErrors, RungError};

use crate::journal;
use crate::packed::Answers;
use crate::sweep::{Folder, OWN};
use crate::task::CONTROL;
use crate::{EvalError, Figures, Result};

/// Names of splits that are there to decide by.
const VALIDATION: [&str; 3] = ["validation", "val", "dev"];

/// The errors of a model with this compressor, from folders of samples that `foveate eval --samples` or `foveate sweep` wrote.
/// `run` names the model where there are samples of several. The error of a family is the mean over its tasks; numbers of
/// tokens at which a task is missing are left out.
///
/// # Errors
/// Folders without samples of this compressor; samples of several models, of a split that is not validation, or of one question
/// twice.
pub fn measured(folders: &[PathBuf], compressor: &str, run: Option<&str>) -> Result<ErrorTable> {
    let mut files = Vec::new();
    for folder in folders {
        if !Answers::are_in(folder) {
            files.extend(journal::read_folder(folder)?);
            continue;
        }
        let sweep = Folder::at(folder);
        let answers = Answers::open(&sweep)?;
        for cell in answers.cells()? {
            let (header, samples) = answers.of(&cell)?;
            files.push((sweep.samples(&cell), header, samples));
        }
    }
    let place = folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
    files.retain(|(_, header, _)| {
        let own = header.compressor == compressor || header.compressor == OWN;
        let asked = header.family != CONTROL && header.visual_tokens.parse::<usize>().is_ok();
        own && asked && run.is_none_or(|run| header.model == run)
    });
    let models: BTreeSet<&str> = files.iter().map(|(_, header, _)| header.model.as_str()).collect();
    match models.len() {
        0 => {
            let of = run.map_or(String::new(), |run| format!(" of {run}"));
            let reason = format!(
                "holds no samples{of} with {compressor} at fixed numbers of visual tokens; `foveate eval --samples` and `foveate sweep` \
                 write them"
            );
            return Err(EvalError::format(place, reason));
        }
        1 => {}
        _ => {
            let models = models.into_iter().collect::<Vec<_>>().join(", ");
            return Err(EvalError::format(
                place,
                format!("holds samples of several models, {models}: name one"),
            ));
        }
    }
    let mut cells: BTreeMap<(String, usize), BTreeMap<String, Cell>> = BTreeMap::new();
    for (path, header, samples) in &files {
        let Some(split) = header.split.as_deref().filter(|split| VALIDATION.contains(split)) else {
            let found = header.split.as_deref().unwrap_or("a split that they do not name");
            let reason = format!("holds answers to {found}; errors to choose by are measured on validation");
            return Err(EvalError::format(path.display(), reason));
        };
        let figures = Figures::new(header.metric, samples, crate::run::SEED);
        let (Some(figures), Ok(tokens)) = (figures, header.visual_tokens.parse()) else {
            return Err(EvalError::format(path.display(), format!("answers no question of {split}")));
        };
        let cell = Cell { error: figures.error, error_se: figures.error_se, questions: figures.n };
        let tasks = cells.entry((header.family.clone(), tokens)).or_default();
        if tasks.insert(header.task.clone(), cell).is_some() {
            let reason =
                format!("answers {} with {tokens} visual tokens, and so does another file", header.task);
            return Err(EvalError::format(path.display(), reason));
        }
    }
    let mut families = BTreeMap::new();
    for family in cells.keys().map(|(family, _)| family.clone()).collect::<BTreeSet<_>>() {
        let own = || cells.iter().filter(|((of, _), _)| *of == family);
        let tasks: BTreeSet<&String> = own().flat_map(|(_, cells)| cells.keys()).collect();
        let whole = own().filter(|(_, cells)| cells.len() == tasks.len());
        let rungs: Vec<RungError> = whole.map(|((_, tokens), cells)| rung(*tokens, cells)).collect();
        if rungs.is_empty() {
            let tasks = tasks.into_iter().cloned().collect::<Vec<_>>().join(", ");
            let reason = format!("answers {tasks} at no common number of visual tokens");
            return Err(EvalError::format(place, reason));
        }
        let tasks = tasks.into_iter().cloned().collect();
        families.insert(family, Errors::Measured(MeasuredErrors { tasks, rungs }));
    }
    Ok(ErrorTable { compressor: Some(compressor.to_owned()), families })
}

/// A task at a number of visual tokens.
struct Cell {
    error: f64,
    error_se: f64,
    questions: usize,
}

/// The mean over tasks.
fn rung(visual_tokens: usize, cells: &BTreeMap<String, Cell>) -> RungError {
    let count = cells.len() as f64;
    let deviation = cells.values().map(|cell| cell.error_se.powi(2)).sum::<f64>().sqrt() / count;
    RungError {
        visual_tokens,
        error: cells.values().map(|cell| cell.error).sum::<f64>() / count,
        error_se: Some(deviation),
        questions: Some(cells.values().map(|cell| cell.questions).sum()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;
    use std::path::Path;

    use super::*;
    use crate::journal::Header;
    use crate::metric::{Expected, Metric};
    use crate::sample::{Answered, Outcome, Sample};

    /// A file of samples of which the first `right` of twenty are right.
    fn write(
        folder: &Path,
        task: &str,
        family: &str,
        tokens: &str,
        right: usize,
        change: impl Fn(&mut Header),
    ) {
        let mut header = Header {
            task: task.into(),
            metric: Metric::ExactMatch,
            family: family.into(),
            model: "nano".into(),
            compressor: "quecc".into(),
            visual_tokens: tokens.into(),
            split: Some("validation".into()),
            run: "x".into(),
        };
        change(&mut header);
        let name = format!("{task}-v{tokens}-{}-{}.jsonl", header.compressor, header.model);
        let mut file = std::fs::File::create(folder.join(name)).unwrap();
        writeln!(file, "{}", serde_json::to_string(&header).unwrap()).unwrap();
        for nth in 0..20 {
            let score = f64::from(nth < right);
            let sample = Sample {
                id: nth.to_string(),
                group: nth.to_string(),
                unit: nth.to_string(),
                skill: String::new(),
                family: family.into(),
                question: String::new(),
                looked_for: None,
                expected: Expected::Texts(vec!["x".into()]),
                outcome: Outcome::Answered(Answered {
                    answer: String::new(),
                    read: None,
                    score,
                    visual_tokens: 1,
                    flops: 1.0,
                    ms: 1.0,
                }),
            };
            writeln!(file, "{}", serde_json::to_string(&sample).unwrap()).unwrap();
        }
    }

    fn filled(folder: &Path) {
        for (task, family, tokens, right) in [
            ("scenes", "reasoning", "1", 10),
            ("scenes", "reasoning", "16", 12),
            ("nlvr", "reasoning", "16", 16),
            ("texts", "text", "1", 0),
            ("texts", "text", "16", 15),
            ("texts", "text", "auto", 15),
        ] {
            write(folder, task, family, tokens, right, |_| ());
        }
        write(folder, "texts", "text", "16", 3, |header| header.compressor = "average-pooling".into());
    }

    #[test]
    fn errors_are_means_over_the_tasks_of_a_family() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("samples");
        std::fs::create_dir(&folder).unwrap();
        filled(&folder);
        // A sweep's folder, or that of the samples themselves.
        for path in [home.path(), &folder] {
            let table = measured(&[path.to_owned()], "quecc", None).unwrap();
            let guess = [("reasoning".to_owned(), 1.0), ("text".to_owned(), 0.0)];
            let found = table.expected(&guess, 1.0, 1.0, &[16, 1]).unwrap();
            // NLVR was not asked at one token.
            assert!(found.len() == 1 && found[0].0 == 16 && (found[0].1 - 0.3).abs() < 1e-12, "{found:?}");
            let Errors::Measured(text) = &table.families["text"] else { panic!("{table:?}") };
            assert_eq!((text.tasks.as_slice(), text.rungs[0].error), (&["texts".to_owned()][..], 1.0));
            assert!(text.rungs[0].error_se.unwrap() > 0.0 && text.rungs[1].questions == Some(20));
        }
    }

    #[test]
    fn only_validation_is_chosen_by() {
        for split in [Some("test"), Some("train"), Some("testmini"), None] {
            let folder = tempfile::tempdir().unwrap();
            filled(folder.path());
            write(folder.path(), "pope", "reasoning", "1", 9, |header| {
                header.split = split.map(str::to_owned)
            });
            let error = measured(&[folder.path().to_owned()], "quecc", None).unwrap_err().to_string();
            let named = split.unwrap_or("do not name");
            assert!(
                error.contains("pope-v1") && error.contains(named) && error.contains("on validation"),
                "{error}"
            );
        }
    }

    #[test]
    fn one_model_and_one_file_for_each_cell() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        let read = |run| measured(&[folder.path().to_owned()], "quecc", run);
        let none = measured(&[folder.path().to_owned()], "mqt", None).unwrap_err().to_string();
        assert!(none.contains("holds no samples with mqt"), "{none}");
        write(folder.path(), "scenes", "reasoning", "4", 9, |header| header.model = "other".into());
        let several = read(None).unwrap_err().to_string();
        assert!(several.contains("nano, other: name one"), "{several}");
        assert!(read(Some("nano")).is_ok());
        let twice = measured(&[folder.path().to_owned(), folder.path().to_owned()], "quecc", Some("nano"));
        assert!(twice.unwrap_err().to_string().contains("and so does another file"));
        let missing = folder.path().join("no-such");
        assert!(measured(&[missing], "quecc", None).unwrap_err().to_string().contains("no-such"));
    }
}
