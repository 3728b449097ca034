//! Records of a table with a header: tabs or commas between columns, quoted where a text holds them.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{EvalError, Result};

pub(super) fn read(path: &Path, delimiter: u8) -> Result<Vec<Map<String, Value>>> {
    let wrong = |error: csv::Error| EvalError::format(path.display(), error);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_path(path).map_err(wrong)?;
    let header: Vec<String> = reader
        .headers()
        .map_err(wrong)?
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').to_owned())
        .collect();
    let record = |record: csv::Result<csv::StringRecord>| {
        let record = record.map_err(wrong)?;
        let cells = record.iter().map(|cell| Value::String(cell.to_owned()));
        Ok(header.iter().cloned().zip(cells).collect())
    };
    reader.records().map(record).collect()
}
