//! Files of records as benchmarks are published: JSON, JSON lines, TSV, CSV, Parquet, alone or in pieces.
//!
//! Texts are read at once, pictures inside of a Parquet file when they are looked at. A whole benchmark's texts are held in
//! memory: 214,000 questions of VQA v2 take about half a gigabyte.

mod delimited;
mod json;
mod parquet;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use foveate_data::Picture;
use foveate_data::image::{DecodeError, DecodeProblem, Limits, decode_bytes, decode_file};
use serde_json::{Map, Value};

use crate::{EvalError, Result};
use parquet::Shard;

/// Records with named columns.
pub(crate) struct Table {
    /// The file, or the folder of its pieces.
    pub(crate) place: String,
    /// Every column that a record has, in the order of their first appearance.
    pub(crate) columns: Vec<String>,
    /// The records.
    pub(crate) rows: Vec<Row>,
}

/// A record.
pub(crate) struct Row {
    /// Its texts, numbers and lists; pictures are not among them.
    pub(crate) values: Map<String, Value>,
    /// The file that its pictures are in, and its number there.
    shard: Option<(Arc<Shard>, usize)>,
    /// Whether pictures are written as base64 text, as in MMBench's TSV.
    encoded: bool,
}

impl Table {
    /// Opens a file by its ending, or the files of a folder: those of one ending whose names begin with `split`, or else have
    /// it in them, or else all. A folder with VQA's `*questions*.json` and `*annotations*.json` is joined by `question_id`, one
    /// with GQA's `*instructions*` and `*images*` as the hub has them by `imageId`. Files in several folders are several
    /// configurations, which are joined only where the benchmark is made of `subjects`.
    ///
    /// # Errors
    /// A file that cannot be read or is none of these formats; a folder without any, or with several configurations.
    pub(crate) fn open(path: &Path, split: &str, subjects: bool) -> Result<Table> {
        let about = std::fs::metadata(path).map_err(EvalError::io(path))?;
        if !about.is_dir() {
            return Table::join(path, &[path.to_owned()]);
        }
        let files = files(path)?;
        let has = |file: &Path, part: &str| {
            let below = file.strip_prefix(path).unwrap_or(file).to_string_lossy();
            below.contains(part) && ENDINGS.contains(&ending(file).as_str())
        };
        let named = |part: &str| {
            let of_split = files.iter().find(|file| has(file, part) && has(file, split));
            let first = of_split.or_else(|| files.iter().find(|file| has(file, part)))?;
            Some(files.iter().filter(|file| is_piece_of(file, first)).cloned().collect::<Vec<_>>())
        };
        if let (Some(questions), Some(pictures)) = (named("instructions"), named("images")) {
            let mut table = Table::join(path, &questions)?;
            table.lend_pictures(Table::join(path, &pictures)?);
            return Ok(table);
        }
        if let (Some(questions), Some(annotations)) = (named("questions"), named("annotations")) {
            let mut table = Table::join(path, &questions)?;
            table.add(Table::join(path, &annotations)?, "question_id")?;
            return Ok(table);
        }
        let kind = ENDINGS.into_iter().find(|kind| files.iter().any(|file| ending(file) == *kind));
        let Some(kind) = kind else {
            let reason = format!("holds no file that ends in {}", ENDINGS.join(", "));
            return Err(EvalError::format(path.display(), reason));
        };
        let all: Vec<PathBuf> = files.into_iter().filter(|file| ending(file) == kind).collect();
        let those = |named: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
            all.iter().filter(|file| named(name(file))).cloned().collect()
        };
        let (first, anywhere) = (those(&|name| name.starts_with(split)), those(&|name| name.contains(split)));
        let own = if first.is_empty() { anywhere } else { first };
        let chosen = if own.is_empty() { &all } else { &own };
        let folders: BTreeSet<&Path> = chosen.iter().filter_map(|file| file.parent()).collect();
        if folders.len() > 1 && !subjects {
            let names: Vec<_> = folders.iter().map(|folder| name(folder)).collect();
            let reason =
                format!("holds several configurations, {}: give the folder of one", names.join(", "));
            return Err(EvalError::format(path.display(), reason));
        }
        Table::join(path, chosen)
    }

    fn join(place: &Path, files: &[PathBuf]) -> Result<Table> {
        let mut rows = Vec::new();
        for file in files {
            rows.extend(match ending(file).as_str() {
                "json" => plain(json::read(file)?),
                "jsonl" => plain(json::read_lines(file)?),
                "tsv" => delimited::read(file, b'\t')?.into_iter().map(Row::encoded).collect(),
                "csv" => delimited::read(file, b',')?.into_iter().map(Row::encoded).collect(),
                "parquet" => parquet::read(file)?,
                other => {
                    let reason = format!("ends in {other:?}; records are read from {}", ENDINGS.join(", "));
                    return Err(EvalError::format(file.display(), reason));
                }
            });
        }
        let mut table = Table { place: place.display().to_string(), columns: Vec::new(), rows };
        table.find_columns();
        Ok(table)
    }

    /// A table of records that were read elsewhere; pictures are files that they name.
    pub(crate) fn of_records(place: &Path, records: Vec<Map<String, Value>>) -> Table {
        let mut table =
            Table { place: place.display().to_string(), columns: Vec::new(), rows: plain(records) };
        table.find_columns();
        table
    }

    fn find_columns(&mut self) {
        let mut columns: Vec<String> = Vec::new();
        for row in &self.rows {
            let pictures = row.shard.iter().flat_map(|(shard, _)| shard.pictures());
            for name in row.values.keys().map(String::as_str).chain(pictures) {
                if !columns.iter().any(|have| have == name) {
                    columns.push(name.to_owned());
                }
            }
        }
        self.columns = columns;
    }

    /// Adds the columns of another table's records with the same `key`.
    fn add(&mut self, other: Table, key: &str) -> Result<()> {
        self.column(&[key])?;
        other.column(&[key])?;
        let written = |row: &Row| row.values.get(key).map(Value::to_string);
        let mut found: std::collections::HashMap<String, Row> =
            other.rows.into_iter().filter_map(|row| Some((written(&row)?, row))).collect();
        for row in &mut self.rows {
            if let Some(more) = written(row).and_then(|key| found.remove(&key)) {
                for (name, value) in more.values {
                    row.values.entry(name).or_insert(value);
                }
            }
        }
        self.find_columns();
        Ok(())
    }

    /// Gives each record the picture of the one in `pictures` whose `id` is its `imageId`.
    fn lend_pictures(&mut self, pictures: Table) {
        let own = |row: Row| Some((row.text("id")?, row.shard?));
        let found: std::collections::HashMap<String, (Arc<Shard>, usize)> =
            pictures.rows.into_iter().filter_map(own).collect();
        for row in &mut self.rows {
            row.shard = row.text("imageId").and_then(|id| found.get(&id).cloned());
        }
        self.find_columns();
    }

    /// The first of these columns that is there.
    ///
    /// # Errors
    /// [`EvalError::NoColumn`] with the file, the names and the columns that it has.
    pub(crate) fn column(&self, names: &[&str]) -> Result<&str> {
        self.optional(names).ok_or_else(|| EvalError::NoColumn {
            place: self.place.clone(),
            wanted: names.iter().map(|name| (*name).to_owned()).collect(),
            have: self.columns.clone(),
        })
    }

    /// The same, where a benchmark may do without.
    pub(crate) fn optional(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.columns.iter().find(|have| have == name)).map(String::as_str)
    }

    /// An error about one record, counted from 1.
    pub(crate) fn wrong(&self, row: usize, reason: impl std::fmt::Display) -> EvalError {
        EvalError::format(format!("{} record {}", self.place, row + 1), reason)
    }
}

const ENDINGS: [&str; 5] = ["parquet", "jsonl", "json", "tsv", "csv"];

/// The files of a folder and of the folders in it, sorted: the hub keeps pieces in `data/` or in one for each configuration.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = |folder: &Path| -> Result<Vec<PathBuf>> {
        let read = std::fs::read_dir(folder).map_err(EvalError::io(folder))?;
        read.map(|entry| Ok(entry.map_err(EvalError::io(folder))?.path())).collect()
    };
    let mut found = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(entries(&path)?);
        } else {
            found.push(path);
        }
    }
    found.retain(|path| path.is_file());
    found.sort();
    Ok(found)
}

/// Whether a file is this one, or another piece of the same whole: `train-00001-of-00002.parquet`.
fn is_piece_of(file: &Path, whole: &Path) -> bool {
    let stem = |path: &Path| {
        let (front, count) = name(path).rsplit_once("-of-")?;
        Some((front.trim_end_matches(|digit: char| digit.is_ascii_digit()).to_owned(), count.to_owned()))
    };
    file == whole || file.parent() == whole.parent() && stem(whole).is_some() && stem(file) == stem(whole)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase()
}

fn plain(records: Vec<Map<String, Value>>) -> Vec<Row> {
    records.into_iter().map(|values| Row { values, shard: None, encoded: false }).collect()
}

impl Row {
    fn encoded(values: Map<String, Value>) -> Row {
        Row { values, shard: None, encoded: true }
    }

    /// A text, or a number as text; `None` for what is empty, null or absent.
    pub(crate) fn text(&self, column: &str) -> Option<String> {
        match self.values.get(column)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        }
    }

    /// A list of texts: of texts, of numbers, or of records with an `answer`; a text alone is a list of one.
    pub(crate) fn texts(&self, column: &str) -> Option<Vec<String>> {
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Object(record) => record.get("answer").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        match self.values.get(column)? {
            Value::Array(list) => list.iter().map(text).collect(),
            Value::String(written) if written.trim().is_empty() => None,
            other => text(other).map(|text| vec![text]),
        }
        .filter(|texts: &Vec<String>| !texts.is_empty())
    }

    /// The same for options to choose from, which MMMU keeps as the text of a list of Python.
    pub(crate) fn options(&self, column: &str) -> Option<Vec<String>> {
        self.text(column).and_then(|written| python_list(&written)).or_else(|| self.texts(column))
    }

    /// The same for answers, of which MMMU writes several as `['24/7', '3.429']`; `[0, 1]` is one answer, an interval.
    pub(crate) fn answers(&self, column: &str) -> Option<Vec<String>> {
        let begins =
            |written: &String| ["['", "[\""].iter().any(|front| written.trim_start().starts_with(front));
        let quoted = self.text(column).filter(begins);
        let several = quoted.and_then(|written| python_list(&written)).filter(|texts| !texts.is_empty());
        several.or_else(|| self.texts(column))
    }

    /// The picture of a column: bytes inside of the file, base64 text, or the name of a file in `folder`.
    pub(crate) fn picture(&self, column: &str, folder: &Path) -> Option<Picture> {
        if let Some((shard, row)) = self.embedded(column) {
            let column = column.to_owned();
            return Some(Picture::lazy(move || shard.picture(&column, row)));
        }
        let written = self.text(column)?;
        if !self.encoded {
            return Some(file(folder.join(written)));
        }
        Some(Picture::lazy(move || {
            let place = "a picture in base64";
            let bytes = STANDARD.decode(written.trim()).map_err(|error| DecodeError {
                file: place.to_owned(),
                problem: DecodeProblem::Read(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
            })?;
            decode_bytes(place, &bytes, &Limits::default())
        }))
    }
}

impl Row {
    /// Whether there is a picture in the column; looks into the file where it is inside.
    pub(crate) fn has_picture(&self, column: &str) -> bool {
        match self.embedded(column) {
            Some((shard, row)) => shard.has(column, row),
            None => self.text(column).is_some(),
        }
    }

    /// Names a picture that lies inside of the file by what it is: equal pictures have one name.
    pub(crate) fn picture_digest(&self, column: &str) -> Option<String> {
        let (shard, row) = self.embedded(column)?;
        shard.digest(column, row)
    }

    fn embedded(&self, column: &str) -> Option<(Arc<Shard>, usize)> {
        self.shard.clone().filter(|(shard, _)| shard.pictures().any(|name| name == column))
    }
}

/// A picture in a file of its own.
pub(crate) fn file(path: PathBuf) -> Picture {
    Picture::lazy(move || decode_file(&path, &Limits::default()))
}

/// A list as Python prints it, such as `['red', "it's"]`: MMMU's options. `None` for anything else.
fn python_list(written: &str) -> Option<Vec<String>> {
    let inside = written.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut rest = inside.trim_start();
    let mut items = Vec::new();
    while let Some(quote) = rest.chars().next() {
        let (item, behind) = if matches!(quote, '\'' | '"') {
            let mut text = String::new();
            let mut characters = rest.char_indices().skip(1);
            let end = loop {
                match characters.next()? {
                    (_, '\\') => match characters.next()?.1 {
                        'n' => text.push('\n'),
                        't' => text.push('\t'),
                        // Names of formulae begin with a backslash.
                        other if matches!(other, '\\' | '\'' | '"') => text.push(other),
                        other => text.extend(['\\', other]),
                    },
                    (at, character) if character == quote => break at,
                    (_, character) => text.push(character),
                }
            };
            (text, &rest[end + 1..])
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (rest[..end].trim().to_owned(), &rest[end..])
        };
        items.push(item);
        rest = match behind.trim_start() {
            "" => "",
            more => more.strip_prefix(',')?.trim_start(),
        };
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn every_format_gives_the_same_records() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            write(folder.path(), "a.json", r#"[{"id": 1, "q": "ü, \"x\""}, {"id": 2, "q": "b"}]"#),
            write(
                folder.path(),
                "b.jsonl",
                "{\"id\": 1, \"q\": \"ü, \\\"x\\\"\"}\n\n{\"id\": 2, \"q\": \"b\"}",
            ),
            write(folder.path(), "c.tsv", "id\tq\n1\t\"ü, \"\"x\"\"\"\n2\tb\n"),
            write(folder.path(), "d.csv", "id,q\r\n1,\"ü, \"\"x\"\"\"\r\n2,b\r\n"),
            write(
                folder.path(),
                "e.json",
                r#"{"info": {}, "data": [{"id": 1, "q": "ü, \"x\""}, {"id": 2, "q": "b"}]}"#,
            ),
        ];
        for file in files {
            let table = Table::open(&file, "", false).unwrap();
            assert_eq!(table.columns, ["id", "q"], "{}", file.display());
            let texts: Vec<_> =
                table.rows.iter().map(|row| (row.text("id").unwrap(), row.text("q").unwrap())).collect();
            assert_eq!(
                texts,
                [("1".into(), "ü, \"x\"".into()), ("2".into(), "b".into())],
                "{}",
                file.display()
            );
        }
    }

    #[test]
    fn a_missing_column_is_named_with_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "pope.jsonl", r#"{"question_id": 1, "text": "?", "image": "a.jpg"}"#);
        let error =
            Table::open(&path, "", false).unwrap().column(&["label", "answer"]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: no column label or answer; it has question_id, text, image", path.display())
        );
    }

    #[test]
    fn folders_are_read_by_split_and_questions_joined() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for (name, text) in [
            ("data/test-00000-of-00001.jsonl", "{\"a\": 1}"),
            ("data/validation-00000-of-00002.jsonl", "{\"a\": 2}"),
            ("data/validation-00001-of-00002.jsonl", "{\"a\": 3}"),
        ] {
            write(folder.path(), name, text);
        }
        let values = |split| -> Vec<String> {
            let table = Table::open(folder.path(), split, false).unwrap();
            table.rows.iter().map(|row| row.text("a").unwrap()).collect()
        };
        assert_eq!(values("validation"), ["2", "3"]);
        assert_eq!(values("00001-of"), ["3"]);
        assert_eq!(values("train"), ["1", "2", "3"]);

        let vqa = tempfile::tempdir().unwrap();
        write(vqa.path(), "a_train_questions.json", r#"{"questions": []}"#);
        write(
            vqa.path(),
            "v2_val_questions.json",
            r#"{"questions": [{"question_id": 7, "question": "why?"}]}"#,
        );
        write(
            vqa.path(),
            "v2_val_annotations.json",
            r#"{"annotations": [{"question_id": 7, "answers": [{"answer": "so"}]}]}"#,
        );
        let table = Table::open(vqa.path(), "val", false).unwrap();
        assert_eq!(table.rows[0].text("question").unwrap(), "why?");
        assert_eq!(table.rows[0].texts("answers").unwrap(), ["so"]);

        let empty = tempfile::tempdir().unwrap();
        let error = Table::open(empty.path(), "", false).err().unwrap().to_string();
        assert!(error.contains("holds no file that ends in parquet, jsonl"), "{error}");
        let other = write(empty.path(), "a.xml", "<a/>");
        assert!(Table::open(&other, "", false).err().unwrap().to_string().contains("ends in \"xml\""));
    }

    #[test]
    fn configurations_of_one_repository_are_not_mixed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["DocVQA", "InfographicVQA"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            write(folder.path(), &format!("{name}/validation-00000-of-00001.jsonl"), "{\"a\": 1}");
        }
        let error = Table::open(folder.path(), "val", false).err().unwrap().to_string();
        assert!(
            error.ends_with("several configurations, DocVQA, InfographicVQA: give the folder of one"),
            "{error}"
        );
        assert_eq!(Table::open(&folder.path().join("DocVQA"), "val", false).unwrap().rows.len(), 1);
        assert_eq!(Table::open(folder.path(), "val", true).unwrap().rows.len(), 2);
    }

    #[test]
    fn all_pieces_are_joined() {
        let folder = tempfile::tempdir().unwrap();
        for nth in 0..2 {
            let record =
                format!("{{\"question_id\": {nth}, \"question\": \"{nth}?\", \"answers\": [\"a\"]}}");
            write(folder.path(), &format!("val_questions-0000{nth}-of-00002.jsonl"), &record);
            write(folder.path(), &format!("val_annotations-0000{nth}-of-00002.jsonl"), &record);
        }
        write(folder.path(), "train_questions-00000-of-00002.jsonl", "{\"question_id\": 9}");
        let table = Table::open(folder.path(), "val", false).unwrap();
        let ids: Vec<_> = table.rows.iter().map(|row| row.text("question_id").unwrap()).collect();
        assert_eq!(ids, ["0", "1"]);
    }

    #[test]
    fn lists_that_python_wrote() {
        let read = |text| python_list(text);
        assert_eq!(read("['red', \"it's\", 3]").unwrap(), ["red", "it's", "3"]);
        assert_eq!(read(r"['$\\frac{1}{2}$', 'a\'b', 'a, b']").unwrap(), [r"$\frac{1}{2}$", "a'b", "a, b"]);
        assert_eq!(read("[]").unwrap(), Vec::<String>::new());
        assert_eq!(read("['open"), None);
        assert_eq!(read("plain"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_none(text in "\\PC{0,40}") {
            python_list(&format!("[{text}]"));
        }
    }
}
