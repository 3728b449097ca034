//! The rows of IN, read one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::failure::Failure;

/// The longest line that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;

/// A line of IN that is not blank.
pub(super) struct Row {
    /// Counted from 0.
    pub(super) number: usize,
    pub(super) id: Option<Value>,
    /// What is asked, or why nothing can be.
    pub(super) content: Result<Asked, String>,
}

/// A question and the names of its images.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) question: String,
    pub(super) images: Vec<String>,
}

/// How many rows there are.
pub(super) fn count(path: &Path) -> Result<usize, Failure> {
    let mut count = 0;
    for row in read(path)? {
        row?;
        count += 1;
    }
    if count == 0 {
        return Err(Failure::user(format!("{}: no rows; each line is one question as JSON", path.display())));
    }
    Ok(count)
}

/// The rows in order; an error only where the file itself cannot be read.
pub(super) fn read(path: &Path) -> Result<impl Iterator<Item = Result<Row, Failure>>, Failure> {
    let failed = {
        let path = path.to_path_buf();
        move |error: std::io::Error| Failure::user(format!("{}: {error}", path.display()))
    };
    let mut input = BufReader::new(File::open(path).map_err(&failed)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            match input.by_ref().take(MOST_BYTES).read_until(b'\n', &mut line) {
                Err(error) => return Some(Err(failed(error))),
                Ok(0) => return None,
                Ok(_) => {}
            }
            let whole = line.ends_with(b"\n") || (line.len() as u64) < MOST_BYTES;
            if !whole {
                // The rest of the line is passed over without being kept.
                if let Err(error) = input.skip_until(b'\n') {
                    return Some(Err(failed(error)));
                }
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (id, content) = match whole {
                true => parse(&line),
                false => (None, Err(format!("the line has more than {MOST_BYTES} bytes"))),
            };
            number += 1;
            return Some(Ok(Row { number: number - 1, id, content }));
        }
    }))
}

fn parse(line: &[u8]) -> (Option<Value>, Result<Asked, String>) {
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) => return (None, Err(format!("no JSON: {error}"))),
    };
    let id = value.get("id").cloned();
    (id, asked(&value))
}

fn asked(value: &Value) -> Result<Asked, String> {
    let found = |field: &str| value.get(field).map_or("missing".to_owned(), Value::to_string);
    let Some(question) = value.get("question").and_then(Value::as_str) else {
        return Err(format!("`question` is {}, a text is needed", found("question")));
    };
    let there = |field: &str| value.get(field).filter(|value| !value.is_null());
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let images = match (there("image"), there("images")) {
        (None, None) => Some(Vec::new()),
        (Some(one), None) => name(one).map(|name| vec![name]),
        (None, Some(list)) => list.as_array().and_then(|list| list.iter().map(name).collect()),
        (Some(_), Some(_)) => {
            return Err("`image` and `images` are both there, one of them is needed".to_owned());
        }
    };
    let images = images.ok_or_else(|| {
        format!(
            "`image` is {}, `images` is {}: a file name or a list of them is needed",
            found("image"),
            found("images")
        )
    })?;
    Ok(Asked { question: question.to_owned(), images })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_have_one_image_several_or_none() {
        let parsed = |line: &str| parse(line.as_bytes()).1;
        let of = |question: &str, images: &[&str]| {
            Ok(Asked {
                question: question.into(),
                images: images.iter().map(|name| (*name).into()).collect(),
            })
        };
        assert_eq!(parsed(r#"{"question": "a?", "image": "x.png"}"#), of("a?", &["x.png"]));
        assert_eq!(parsed(r#"{"question": "b?", "images": ["x", "y"], "more": 1}"#), of("b?", &["x", "y"]));
        assert_eq!(parsed(r#"{"question": "c?"}"#), of("c?", &[]));
        assert_eq!(parsed(r#"{"question": "c?", "image": null}"#), of("c?", &[]));
        for (line, wanted) in [
            ("{", "no JSON"),
            ("[]", "`question` is missing"),
            (r#"{"question": 3}"#, "`question` is 3"),
            (r#"{"question": "d?", "image": 4}"#, "`image` is 4"),
            (r#"{"question": "d?", "images": ["a", 1]}"#, r#"`images` is ["a",1]"#),
            (r#"{"question": "d?", "image": "a", "images": []}"#, "both"),
        ] {
            let reason = parsed(line).unwrap_err();
            assert!(reason.contains(wanted), "{line}: {reason}");
        }
    }

    #[test]
    fn blank_and_endless_lines_do_not_hurt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        let long = "x".repeat(3 << 20);
        std::fs::write(
            &path,
            format!("{{\"question\": \"a\"}}\n\n  \n{long}\n{{\"question\": \"b\", \"id\": 7}}"),
        )
        .unwrap();
        let rows: Vec<Row> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(rows[0].content.is_ok() && rows[2].content.is_ok());
        assert!(rows[1].content.as_ref().unwrap_err().contains("1048576"));
        assert_eq!(rows[2].id, Some(Value::from(7)));
        assert_eq!(count(&path).unwrap(), 3);
    }
}
