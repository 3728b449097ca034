//! Records of a JSON document or of lines of JSON.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::{EvalError, Result};

/// Longest document that is read, in bytes.
const MOST_BYTES: u64 = 2 << 30;

type Record = Map<String, Value>;

/// A list of records; one under `data`, `questions` or `annotations`; or records by name, which become their `id`. Lines of
/// records are read as well: POPE's release calls them `coco_pope_random.json`.
pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let file = std::fs::File::open(path).map_err(EvalError::io(path))?;
    let document = match serde_json::from_reader(BufReader::new(file.take(MOST_BYTES))) {
        Ok(document) => document,
        Err(error) => {
            let lines = read_lines(path).ok().filter(|records| !records.is_empty());
            return lines.ok_or_else(|| EvalError::format(path.display(), format!("no JSON: {error}")));
        }
    };
    let wrong = || {
        let reason = "is JSON, but neither a list of records, nor an object with `data`, `questions` or `annotations`, \
                      nor an object of records";
        EvalError::format(path.display(), reason)
    };
    let records = |list: Vec<Value>| -> Option<Vec<Record>> {
        list.into_iter()
            .map(|value| if let Value::Object(record) = value { Some(record) } else { None })
            .collect()
    };
    match document {
        Value::Array(list) => records(list).ok_or_else(wrong),
        Value::Object(mut object) => {
            for name in ["data", "questions", "annotations"] {
                if let Some(Value::Array(list)) = object.get_mut(name) {
                    return records(std::mem::take(list)).ok_or_else(wrong);
                }
            }
            let named = |(name, value)| {
                let Value::Object(mut record) = value else { return None };
                record.entry("id").or_insert(Value::String(name));
                Some(record)
            };
            object.into_iter().map(named).collect::<Option<Vec<_>>>().ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

/// One record a line; blank lines are passed over.
pub(super) fn read_lines(path: &Path) -> Result<Vec<Record>> {
    let file = std::fs::File::open(path).map_err(EvalError::io(path))?;
    let mut records = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(EvalError::io(path))?;
        let line = line.trim_start_matches('\u{feff}');
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(line)
            .map_err(|error| EvalError::format(format!("{} line {}", path.display(), number + 1), error))?;
        records.push(record);
    }
    Ok(records)
}
