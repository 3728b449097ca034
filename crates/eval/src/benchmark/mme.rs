//! MME as its authors publish it: a folder for each subtask, with a text of two questions beside each picture.
//!
//! ```text
//! color/000000001.jpg  color/000000001.txt                                QUESTION ⇥ ANSWER
//! artwork/images/1.jpg artwork/questions_answers_YN/1.txt                  the same
//! color.txt                                                               PICTURE ⇥ QUESTION ⇥ ANSWER (⇥ what a model said)
//! ```
//!
//! The last is the list of a subtask that their scorer reads; its pictures are found in the folders of the first two.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::table::Table;
use crate::{EvalError, Result};

/// Where texts lie apart from their pictures.
const TEXTS: &str = "questions_answers_YN";
const PICTURES: &str = "images";
const ENDINGS: [&str; 3] = ["jpg", "png", "jpeg"];
/// Their scorer and the lists of its example, which are no questions more.
const SCORER: &str = "eval_tool";
/// Folders within folders that are looked into: a release, a subtask, its texts.
const DEPTH: usize = 3;

/// The questions of a text, or of the texts in a folder; `None` where there is none, so that `path` is something else.
/// Pictures of lists are looked for in `images`.
pub(super) fn read(path: &Path, images: &Path) -> Result<Option<Table>> {
    let mut texts = Vec::new();
    if path.is_dir() {
        find(path, DEPTH, &mut texts)?;
        texts.sort();
    } else if is_text(path) {
        texts.push(path.to_owned());
    }
    if texts.is_empty() {
        return Ok(None);
    }
    let mut records = Vec::new();
    for text in &texts {
        let content = std::fs::read_to_string(text).map_err(EvalError::io(text))?;
        for (number, line) in content.trim_start_matches('\u{feff}').lines().enumerate() {
            if !line.trim().is_empty() {
                records.push(record(text, number + 1, line, images)?);
            }
        }
    }
    Ok(Some(Table::of_records(path, records)))
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("txt"))
}

fn find(folder: &Path, depth: usize, texts: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(EvalError::io(folder))? {
        let path = entry.map_err(EvalError::io(folder))?.path();
        if path.is_dir() {
            if depth > 1 && path.file_name().is_none_or(|name| name != SCORER) {
                find(&path, depth - 1, texts)?;
            }
        } else if is_text(&path) {
            texts.push(path);
        }
    }
    Ok(())
}

/// A line of a text, under the names of the columns that the hub has.
fn record(text: &Path, number: usize, line: &str, images: &Path) -> Result<Map<String, Value>> {
    let columns: Vec<&str> = line.split('\t').map(str::trim).collect();
    let (picture, subtask, question, answer) = match columns.as_slice() {
        [question, answer] => {
            let (picture, subtask) = beside(text);
            (picture, subtask, *question, *answer)
        }
        [picture, question, answer, ..] => {
            let subtask = part(text.file_stem());
            (listed(images, &subtask, picture), subtask, *question, *answer)
        }
        _ => {
            let reason = format!(
                "has {} column; a question and its answer are needed, with a tab between",
                columns.len()
            );
            return Err(EvalError::format(format!("{} line {number}", text.display()), reason));
        }
    };
    let name = part(picture.file_name());
    // Absolute or seen from where the program runs, as the texts are: joined to a folder of pictures it must stay as it is.
    let picture = std::path::absolute(&picture).map_err(EvalError::io(&picture))?;
    let fields = [
        ("question_id", format!("{subtask}/{name}")),
        ("image", picture.display().to_string()),
        ("question", question.to_owned()),
        ("answer", answer.to_owned()),
        ("category", subtask),
    ];
    Ok(fields.into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect())
}

/// The picture that a text of two questions is about, and its subtask: the name of the folder around both.
fn beside(text: &Path) -> (PathBuf, String) {
    let folder = text.parent().unwrap_or(Path::new(""));
    let apart = folder.file_name().is_some_and(|name| name == TEXTS);
    let subtask = if apart { folder.parent().unwrap_or(Path::new("")) } else { folder };
    let pictures = if apart { subtask.join(PICTURES) } else { subtask.to_owned() };
    let stem = part(text.file_stem());
    let named = |ending: &str| pictures.join(format!("{stem}.{ending}"));
    let found = ENDINGS.iter().map(|ending| named(ending)).find(|path| path.is_file());
    (found.unwrap_or_else(|| named(ENDINGS[0])), part(subtask.file_name()))
}

/// The picture that a list names.
fn listed(images: &Path, subtask: &str, name: &str) -> PathBuf {
    let folder = images.join(subtask);
    let places = [folder.join(PICTURES).join(name), folder.join(name), images.join(name)];
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.unwrap_or_else(|| folder.join(name))
}

fn part(name: Option<&std::ffi::OsStr>) -> String {
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}
