//! Records of a Parquet file: texts and numbers at once, pictures (`{bytes, path}`, as the hub's `Image` type stores them) one
//! row group at a time, when the first of it is looked at.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use foveate_data::image::{DecodeError, DecodeProblem, Image, Limits, decode_bytes};
use parquet::basic::{ConvertedType, Type as Physical};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Row;
use crate::{EvalError, Result};

/// A file whose pictures are read later.
pub(super) struct Shard {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    /// The columns that hold pictures: their names, and where their bytes are among the leaves of the schema.
    columns: Vec<(String, usize)>,
    /// The row group that was read last.
    group: Mutex<Option<Group>>,
}

struct Group {
    leaf: usize,
    first: usize,
    pictures: Vec<Option<ByteArray>>,
}

pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let wrong = |error: ParquetError| EvalError::format(path.display(), error);
    let file = File::open(path).map_err(EvalError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    let mut columns = Vec::new();
    let mut texts = Vec::new();
    for field in fields {
        match holds_pictures(field).then(|| leaf_of(&reader, field)).flatten() {
            Some(leaf) => columns.push((field.name().to_owned(), leaf)),
            None => texts.push(field.clone()),
        }
    }
    let projection = Type::group_type_builder(schema.root_schema().name()).with_fields(texts).build();
    let values = reader
        .get_row_iter(Some(projection.map_err(wrong)?))
        .map_err(wrong)?
        .map(|row| {
            let value = row.map_err(wrong)?.to_json_value();
            if let Value::Object(values) = value { Ok(values) } else { Ok(serde_json::Map::new()) }
        })
        .collect::<Result<Vec<_>>>()?;
    let shard = Arc::new(Shard { path: path.to_owned(), reader, columns, group: Mutex::new(None) });
    let row = |(number, values)| Row { values, shard: Some((shard.clone(), number)), encoded: false };
    Ok(values.into_iter().enumerate().map(row).collect())
}

/// Whether a field is the hub's `Image`, or bytes that are no text.
fn holds_pictures(field: &Type) -> bool {
    if field.is_primitive() {
        let text = field.get_basic_info().converted_type() == ConvertedType::UTF8
            || field.get_basic_info().logical_type_ref().is_some();
        return field.get_physical_type() == Physical::BYTE_ARRAY && !text;
    }
    field.get_fields().iter().any(|inner| inner.name() == "bytes" && inner.is_primitive())
}

/// The leaf with the bytes of a field.
fn leaf_of(reader: &SerializedFileReader<File>, field: &Type) -> Option<usize> {
    let schema = reader.metadata().file_metadata().schema_descr();
    (0..schema.num_columns()).find(|leaf| {
        let column = schema.column(*leaf);
        let parts = column.path().parts();
        parts.first().is_some_and(|root| root == field.name())
            && (parts.len() == 1 || (parts.len() == 2 && parts[1] == "bytes"))
            && column.max_rep_level() == 0
    })
}

impl Shard {
    /// The names of the columns that hold pictures.
    pub(super) fn pictures(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a record has a picture in that column, as far as can be known: one that cannot be read is there.
    pub(super) fn has(&self, column: &str, row: usize) -> bool {
        self.bytes(column, row).is_ok_and(|bytes| bytes.is_some())
    }

    /// Names a picture by its bytes.
    pub(super) fn digest(&self, column: &str, row: usize) -> Option<String> {
        let bytes = self.bytes(column, row).ok()??;
        Some(Sha256::digest(bytes.data())[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Decodes a picture.
    pub(super) fn picture(&self, column: &str, row: usize) -> std::result::Result<Image, DecodeError> {
        let place = format!("{} record {}, column {column}", self.path.display(), row + 1);
        let failed = |reason: String| DecodeError {
            file: place.clone(),
            problem: DecodeProblem::Read(std::io::Error::new(std::io::ErrorKind::InvalidData, reason)),
        };
        let bytes = self.bytes(column, row).map_err(|error| failed(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| failed("there is no picture".to_owned()))?;
        decode_bytes(&place, bytes.data(), &Limits::default())
    }

    fn bytes(&self, column: &str, row: usize) -> std::result::Result<Option<ByteArray>, ParquetError> {
        let Some((_, leaf)) = self.columns.iter().find(|(name, _)| name == column) else { return Ok(None) };
        let mut last = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |group: &Group| {
            group.leaf == *leaf && (group.first..group.first + group.pictures.len()).contains(&row)
        };
        if !last.as_ref().is_some_and(inside) {
            *last = self.read_group(*leaf, row)?;
        }
        Ok(last.as_ref().and_then(|group| group.pictures.get(row.checked_sub(group.first)?)?.clone()))
    }

    /// The pictures of the row group that holds `row`.
    fn read_group(&self, leaf: usize, row: usize) -> std::result::Result<Option<Group>, ParquetError> {
        let mut first = 0;
        for (index, about) in self.reader.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(about.num_rows()).unwrap_or(0);
            if row >= first + rows {
                first += rows;
                continue;
            }
            let most = self.reader.metadata().file_metadata().schema_descr().column(leaf).max_def_level();
            let ColumnReader::ByteArrayColumnReader(mut column) =
                self.reader.get_row_group(index)?.get_column_reader(leaf)?
            else {
                return Ok(None);
            };
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            while levels.len().max(values.len()) < rows {
                let (records, ..) = column.read_records(rows, Some(&mut levels), None, &mut values)?;
                if records == 0 {
                    break;
                }
            }
            // A column in which nothing may be absent has no levels.
            let pictures = if most == 0 {
                values.into_iter().map(Some).collect()
            } else {
                let mut values = values.into_iter();
                levels.iter().map(|level| if *level == most { values.next() } else { None }).collect()
            };
            return Ok(Some(Group { leaf, first, pictures }));
        }
        Ok(None)
    }
}
