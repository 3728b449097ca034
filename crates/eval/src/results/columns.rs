//! Rows as columns of a Parquet file, and the columns of any flat one as CSV.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use super::Row;
use crate::{EvalError, Result};

/// A column of rows.
enum Column {
    Text(fn(&Row) -> &str),
    Whole(fn(&Row) -> u64),
    Number(fn(&Row) -> f64),
}

/// In the order of the CSV.
const COLUMNS: [(&str, Column); 20] = [
    ("model", Column::Text(|row| &row.model)),
    ("params", Column::Whole(|row| row.params)),
    ("visual_tokens", Column::Number(|row| row.visual_tokens)),
    ("compressor", Column::Text(|row| &row.compressor)),
    ("task", Column::Text(|row| &row.task)),
    ("family", Column::Text(|row| &row.family)),
    ("seed", Column::Whole(|row| row.seed)),
    ("n", Column::Whole(|row| row.n as u64)),
    ("score", Column::Number(|row| row.score)),
    ("error", Column::Number(|row| row.error)),
    ("error_se", Column::Number(|row| row.error_se)),
    ("flops", Column::Number(|row| row.flops)),
    ("ms", Column::Number(|row| row.ms)),
    ("score_low", Column::Number(|row| row.score_low)),
    ("score_high", Column::Number(|row| row.score_high)),
    ("body_params", Column::Whole(|row| row.body_params)),
    ("series", Column::Text(|row| &row.series)),
    ("run", Column::Text(|row| &row.run)),
    ("cell", Column::Text(|row| &row.cell)),
    ("settings", Column::Text(|row| &row.settings)),
];

pub(super) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let wrong = |error: ParquetError| EvalError::format(path.display(), error);
    let file = File::create(path).map_err(EvalError::io(path))?;
    let fields = COLUMNS.iter().map(|(name, column)| {
        let (physical, converted) = match column {
            Column::Text(_) => (Physical::BYTE_ARRAY, ConvertedType::UTF8),
            Column::Whole(_) => (Physical::INT64, ConvertedType::NONE),
            Column::Number(_) => (Physical::DOUBLE, ConvertedType::NONE),
        };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        field.with_converted_type(converted).build().map(Arc::new)
    });
    let fields = fields.collect::<std::result::Result<Vec<_>, _>>().map_err(wrong)?;
    let schema = Type::group_type_builder("results").with_fields(fields).build().map_err(wrong)?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer =
        SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(wrong)?;
    let mut group = writer.next_row_group().map_err(wrong)?;
    for (_, column) in &COLUMNS {
        match column {
            Column::Text(of) => {
                add::<ByteArrayType>(&mut group, rows.iter().map(|row| ByteArray::from(of(row))))
            }
            Column::Whole(of) => add::<Int64Type>(&mut group, rows.iter().map(|row| of(row) as i64)),
            Column::Number(of) => add::<DoubleType>(&mut group, rows.iter().map(of)),
        }
        .map_err(wrong)?;
    }
    group.close().map_err(wrong)?;
    writer.close().map_err(wrong)?;
    Ok(())
}

fn add<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: impl Iterator<Item = T::T>,
) -> std::result::Result<(), ParquetError> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    column.typed::<T>().write_batch(&values.collect::<Vec<_>>(), None, None)?;
    column.close()
}

/// Any Parquet file of texts and numbers, written as CSV: a table for everything that reads those.
///
/// # Errors
/// A file that is no Parquet, or whose columns are lists or records.
pub fn csv_of_parquet(path: &Path) -> Result<String> {
    let wrong = |error: ParquetError| EvalError::format(path.display(), error);
    let file = File::open(path).map_err(EvalError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(wrong)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| EvalError::format(path.display(), error);
    writer.write_record(&names).map_err(failed)?;
    for row in reader.get_row_iter(None).map_err(wrong)? {
        let values = row.map_err(wrong)?.to_json_value();
        let cell = |name: &String| match &values[name.as_str()] {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            _ => Err(EvalError::format(
                path.display(),
                format!("column {name} holds neither text nor numbers"),
            )),
        };
        writer.write_record(names.iter().map(cell).collect::<Result<Vec<_>>>()?).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| EvalError::format(path.display(), error))?;
    String::from_utf8(bytes).map_err(|error| EvalError::format(path.display(), error))
}
