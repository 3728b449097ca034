//! The records of a JSONL file or of one large JSON array: found once, parsed one by one.
//!
//! Finding them takes one pass that looks at brackets and strings only and keeps sixteen bytes a record, so that the
//! 665,000 conversations of LLaVA's mix (a gigabyte) cost 11 MB. A file inside a zip file is kept as text instead.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;

use super::DatasetError;
use super::files::Files;
use crate::stream::SampleError;

/// Longest record that is read, in bytes.
const MAX_RECORD: u32 = 16 << 20;

/// Where a record stands, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    length: u32,
}

enum Text {
    Disk(Mutex<File>),
    Memory(Vec<u8>),
}

/// How records follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Lines,
    Array,
}

/// The records of one file.
pub(super) struct Records {
    place: String,
    framing: Framing,
    text: Text,
    spans: Vec<Span>,
}

impl Records {
    /// Finds the records of `name`: elements if its first character is a bracket, else lines (blank ones left out).
    pub(super) fn open(files: &Arc<Files>, name: &str) -> Result<Records, DatasetError> {
        let path = files.path().join(name);
        let read = |error| DatasetError::Read { path: path.clone(), error };
        let (text, found) = match files.on_disk(name) {
            Some(on_disk) => {
                let mut file = File::open(on_disk).map_err(read)?;
                let found = find(BufReader::with_capacity(1 << 16, &file)).map_err(read)?;
                file.rewind().map_err(read)?;
                (Text::Disk(Mutex::new(file)), found)
            }
            None => {
                let bytes = files.read_text(name)?;
                let found = find(bytes.as_slice()).map_err(read)?;
                (Text::Memory(bytes), found)
            }
        };
        let (framing, spans) = found.map_err(|reason| DatasetError::Layout { path: path.clone(), reason })?;
        Ok(Records { place: files.place(name), framing, text, spans })
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// What messages call a record.
    pub(super) fn place(&self, index: usize) -> String {
        let kind = if self.framing == Framing::Lines { "record" } else { "element" };
        format!("{} {kind} {}", self.place, index + 1)
    }

    /// An error of this record.
    pub(super) fn wrong(&self, index: usize, reason: impl Into<String>) -> SampleError {
        SampleError::Record { place: self.place(index), reason: reason.into() }
    }

    /// Reads and parses a record.
    pub(super) fn get<T: DeserializeOwned>(&self, index: usize) -> Result<T, SampleError> {
        let Span { start, length } = self.spans[index];
        if length > MAX_RECORD {
            return Err(self.wrong(index, format!("has {length} bytes, at most {MAX_RECORD} are read")));
        }
        let parsed = match &self.text {
            Text::Memory(text) => {
                serde_json::from_slice(&text[start as usize..start as usize + length as usize])
            }
            Text::Disk(file) => {
                let mut bytes = vec![0; length as usize];
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|error| SampleError::Read { place: self.place(index), error })?;
                serde_json::from_slice(&bytes)
            }
        };
        parsed.map_err(|error| self.wrong(index, error.to_string()))
    }
}

type Found = Result<(Framing, Vec<Span>), String>;

fn find(mut text: impl BufRead) -> io::Result<Found> {
    let mut scan = Scan {
        framing: None,
        spans: Vec::new(),
        start: None,
        depth: 0,
        string: false,
        escaped: false,
        closed: false,
    };
    let mut at = 0;
    loop {
        let bytes = text.fill_buf()?;
        let length = bytes.len();
        if length == 0 {
            return Ok(scan.finish(at));
        }
        for &byte in bytes {
            // A byte order mark is no part of a record.
            let is_mark = scan.framing.is_none() && [0xef, 0xbb, 0xbf].get(at as usize) == Some(&byte);
            if !is_mark && let Err(reason) = scan.step(byte, at) {
                return Ok(Err(reason));
            }
            at += 1;
        }
        text.consume(length);
    }
}

struct Scan {
    framing: Option<Framing>,
    spans: Vec<Span>,
    /// Where the record that is being read began.
    start: Option<u64>,
    depth: u32,
    string: bool,
    escaped: bool,
    closed: bool,
}

impl Scan {
    fn step(&mut self, byte: u8, at: u64) -> Result<(), String> {
        match self.framing {
            None if byte.is_ascii_whitespace() => {}
            None if byte == b'[' => self.framing = Some(Framing::Array),
            None => {
                self.framing = Some(Framing::Lines);
                self.start = Some(at);
            }
            Some(Framing::Lines) if byte == b'\n' => self.end(at),
            Some(Framing::Lines) => self.start = self.start.or((!byte.is_ascii_whitespace()).then_some(at)),
            Some(Framing::Array) => self.element(byte, at)?,
        }
        Ok(())
    }

    fn element(&mut self, byte: u8, at: u64) -> Result<(), String> {
        if self.string {
            // Only an unescaped quote ends a string.
            (self.escaped, self.string) = (!self.escaped && byte == b'\\', self.escaped || byte != b'"');
            return Ok(());
        }
        if self.closed {
            return if byte.is_ascii_whitespace() {
                Ok(())
            } else {
                Err(format!("goes on after its array, at byte {at}"))
            };
        }
        match byte {
            b',' if self.depth == 0 => self.end(at),
            b']' if self.depth == 0 => {
                self.end(at);
                self.closed = true;
            }
            _ if byte.is_ascii_whitespace() => {}
            _ => {
                self.start = self.start.or(Some(at));
                match byte {
                    b'"' => self.string = true,
                    b'[' | b'{' => self.depth += 1,
                    b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, at: u64) {
        if let Some(start) = self.start.take() {
            self.spans.push(Span { start, length: u32::try_from(at - start).unwrap_or(u32::MAX) });
        }
    }

    fn finish(mut self, at: u64) -> Found {
        match self.framing {
            None => Err("is empty; expected JSON records, one a line or in one array".to_owned()),
            Some(Framing::Array) if !self.closed => Err(format!(
                "ends inside its array, after {} whole elements: is it cut off?",
                self.spans.len()
            )),
            Some(framing) => {
                self.end(at);
                Ok((framing, self.spans))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Result<Vec<&str>, String> {
        let (_, spans) = find(text.as_bytes()).unwrap()?;
        Ok(spans
            .iter()
            .map(|span| &text[span.start as usize..(span.start + u64::from(span.length)) as usize])
            .collect())
    }

    #[test]
    fn lines_and_elements_are_told_apart() {
        assert_eq!(found("{\"a\": 1}\n\n {\"a\": [2]}\r\n{").unwrap(), ["{\"a\": 1}", "{\"a\": [2]}\r", "{"]);
        assert_eq!(
            found(" [ {\"a\": \"]\\\"},\"}, [1, 2] ,3 ]\n").unwrap(),
            ["{\"a\": \"]\\\"},\"}", "[1, 2] ", "3 "]
        );
        assert_eq!(found("[]").unwrap(), Vec::<&str>::new());
        assert_eq!(found("\u{feff}{\"a\": 1}").unwrap(), ["{\"a\": 1}"]);
        assert!(found(" \n").unwrap_err().contains("is empty"));
        assert_eq!(
            found("[{\"a\": 1}, {\"a\"").unwrap_err(),
            "ends inside its array, after 1 whole elements: is it cut off?"
        );
        assert_eq!(found("[1] x").unwrap_err(), "goes on after its array, at byte 4");
    }

    proptest! {
        #[test]
        fn any_array_is_cut_as_a_parser_cuts_it(values in prop::collection::vec(
            prop_oneof![any::<String>().prop_map(serde_json::Value::from), any::<i64>().prop_map(serde_json::Value::from),
                prop::collection::vec(any::<String>(), 0..3).prop_map(|list| serde_json::json!({"list": list}))], 0..6,
        )) {
            let text = serde_json::to_string_pretty(&values).unwrap();
            let cut: Vec<serde_json::Value> = found(&text).unwrap().iter().map(|part| serde_json::from_str(part).unwrap()).collect();
            prop_assert_eq!(cut, values);
        }

        #[test]
        fn any_bytes_are_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((_, spans)) = find(bytes.as_slice()).unwrap() {
                prop_assert!(spans.iter().all(|span| span.start + u64::from(span.length) <= bytes.len() as u64));
            }
        }
    }
}
