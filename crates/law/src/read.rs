//! Reads a table from CSV (or TSV): columns by name, every refused cell with its line, column and value.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::LawError;
use crate::table::{Row, Table};

/// Largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// What the y column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum YKind {
    /// A score in 0…1, higher is better; the law is fitted to 1 − score.
    Score,
    /// An error in 0…1, lower is better.
    Error,
    /// A loss, zero or more, lower is better.
    Loss,
}

impl YKind {
    /// The name on the command line, in JSON, and of the column looked for first.
    pub fn name(self) -> &'static str {
        match self {
            YKind::Score => "score",
            YKind::Error => "error",
            YKind::Loss => "loss",
        }
    }
}

/// Which columns mean what.
///
/// Columns left at `None` are looked for under their usual names; weights, runs, tasks and notes are optional.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOptions {
    /// Column of x1. Usual name: `params`.
    pub x1: Option<String>,
    /// Column of x2. Usual name: `visual_tokens`.
    pub x2: Option<String>,
    /// Column of y. Usual names: `error`, `score`, `loss`, in this order.
    pub y: Option<String>,
    /// What the y column holds; by default what its name says, else an error.
    pub y_kind: Option<YKind>,
    /// Column of weights (usual name `weight`).
    pub weight: Option<String>,
    /// Column of standard errors of y (usual names `se`, `error_se`); weights become 1/se².
    pub standard_error: Option<String>,
    /// Column of clusters for the bootstrap (usual name `run`).
    pub run: Option<String>,
    /// Column that splits the table, one fit each (usual name `task`).
    pub task: Option<String>,
    /// Columns and the value that a row has to have there; other rows are left out.
    pub only: Vec<(String, String)>,
    /// x1 is divided by this.
    pub scale1: f64,
    /// x2 is divided by this.
    pub scale2: f64,
}

/// Columns that tell apart what one law is not about: `foveate sweep` writes them.
const APART: [&str; 2] = ["series", "compressor"];

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            x1: None,
            x2: None,
            y: None,
            y_kind: None,
            weight: None,
            standard_error: None,
            run: None,
            task: None,
            only: Vec::new(),
            scale1: 1.0,
            scale2: 1.0,
        }
    }
}

/// Reads the file at `path`; one table per task, in order of first appearance.
///
/// # Errors
/// An unreadable or too large file, a missing column, a row of another length, every value that is not a finite number in its
/// range, and rows of one task that differ in `series` or `compressor`.
pub fn read_file(path: &Path, options: &ReadOptions) -> Result<Vec<Table>, LawError> {
    let failed = |source| LawError::Read { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(LawError::TooLarge { path: path.into(), limit: MAX_BYTES });
    }
    let tabs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tsv"));
    parse(&bytes, if tabs { b'\t' } else { b',' }, &path.display().to_string(), options)
}

/// Reads CSV text; `origin` names it in messages.
///
/// # Errors
/// As [`read_file`].
pub fn read_str(text: &str, origin: &str, options: &ReadOptions) -> Result<Vec<Table>, LawError> {
    parse(text.as_bytes(), b',', origin, options)
}

fn parse(bytes: &[u8], delimiter: u8, origin: &str, options: &ReadOptions) -> Result<Vec<Table>, LawError> {
    for (option, scale) in [("scale1", options.scale1), ("scale2", options.scale2)] {
        if !(scale.is_finite() && scale > 0.0) {
            return Err(LawError::BadOption {
                option,
                value: scale.to_string(),
                allowed: "a finite number above 0".into(),
            });
        }
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(bytes);
    let header: Vec<String> =
        reader.headers().map_err(|error| malformed(origin, &error))?.iter().map(String::from).collect();
    let too_little = |message: &str| LawError::TooLittle { origin: origin.into(), message: message.into() };
    if header.is_empty() {
        return Err(too_little("empty; a table has a header line and one line per measurement"));
    }
    let columns = Columns::find(&header, origin, options)?;
    let mut mixed = Mixed::default();
    let mut order: Vec<Option<String>> = Vec::new();
    let mut tables: BTreeMap<Option<String>, Vec<Row>> = BTreeMap::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| malformed(origin, &error))? {
        let line = record.position().map_or(0, csv::Position::line);
        if !columns.only.iter().all(|(index, value)| record[*index] == **value) {
            continue;
        }
        let (task, row) = columns.row(&record, line, origin, options)?;
        if !tables.contains_key(&task) {
            order.push(task.clone());
        }
        mixed.see(&columns, task.as_deref(), &record);
        tables.entry(task).or_default().push(row);
    }
    mixed.check(origin)?;
    if tables.is_empty() && !options.only.is_empty() {
        let wanted: Vec<String> =
            options.only.iter().map(|(column, value)| format!("{column}={value}")).collect();
        return Err(too_little(&format!("no rows with {}", wanted.join(" and "))));
    }
    if tables.is_empty() {
        return Err(too_little("no rows; a table has a header line and one line per measurement"));
    }
    let names = [columns.x1, columns.x2, columns.y].map(|index| header[index].clone());
    Ok(order
        .into_iter()
        .map(|task| {
            let rows = tables.remove(&task).unwrap_or_default();
            Table { origin: origin.into(), task, columns: names.clone(), rows }
        })
        .collect())
}

fn malformed(origin: &str, error: &csv::Error) -> LawError {
    let line = error.position().map_or(1, csv::Position::line);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, but the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "not UTF-8 text".into(),
        _ => error.to_string(),
    };
    LawError::Malformed { origin: origin.into(), line, message }
}

/// What stands in the columns that tell laws apart, by task and column.
#[derive(Default)]
struct Mixed {
    values: BTreeMap<(Option<String>, String), BTreeSet<String>>,
}

impl Mixed {
    fn see(&mut self, columns: &Columns, task: Option<&str>, record: &csv::StringRecord) {
        for index in &columns.apart {
            let key = (task.map(str::to_owned), columns.names[*index].clone());
            self.values.entry(key).or_default().insert(record[*index].to_owned());
        }
    }

    fn check(self, origin: &str) -> Result<(), LawError> {
        match self.values.into_iter().find(|(_, values)| values.len() > 1) {
            Some(((_, column), values)) => {
                Err(LawError::Mixed { origin: origin.into(), column, values: values.into_iter().collect() })
            }
            None => Ok(()),
        }
    }
}

/// Indices into the header.
struct Columns {
    names: Vec<String>,
    x1: usize,
    x2: usize,
    y: usize,
    kind: YKind,
    weight: Option<usize>,
    standard_error: Option<usize>,
    run: Option<usize>,
    task: Option<usize>,
    note: Option<usize>,
    only: Vec<(usize, String)>,
    apart: Vec<usize>,
}

impl Columns {
    fn find(header: &[String], origin: &str, options: &ReadOptions) -> Result<Columns, LawError> {
        let position = |name: &str| header.iter().position(|have| have == name);
        let missing = |role, wanted: &str| LawError::NoColumn {
            origin: origin.into(),
            role,
            wanted: wanted.into(),
            have: header.to_vec(),
        };
        let optional = |role, given: &Option<String>, usual: &[&str]| match given {
            Some(name) => position(name).map(Some).ok_or_else(|| missing(role, name)),
            None => Ok(usual.iter().find_map(|name| position(name))),
        };
        let required = |role, given: &Option<String>, usual: &[&str]| {
            optional(role, given, usual)?.ok_or_else(|| missing(role, usual[0]))
        };
        let usual_y = match options.y_kind {
            Some(kind) => vec![kind.name()],
            None => vec!["error", "score", "loss"],
        };
        let y = required("y", &options.y, &usual_y)?;
        let kind = options.y_kind.unwrap_or(match header[y].as_str() {
            "score" => YKind::Score,
            "loss" => YKind::Loss,
            _ => YKind::Error,
        });
        let x1 = required("x1", &options.x1, &["params"])?;
        let x2 = required("x2", &options.x2, &["visual_tokens"])?;
        for ((first, one), (second, other)) in
            [(("x1", x1), ("x2", x2)), (("x1", x1), ("y", y)), (("x2", x2), ("y", y))]
        {
            if one == other {
                let (origin, column) = (origin.into(), header[one].clone());
                return Err(LawError::SameColumn { origin, column, first, second });
            }
        }
        let weight = optional("the weight", &options.weight, &["weight"])?;
        let standard_error = match weight {
            // A weight column wins over a standard error that merely has a usual name.
            Some(_) if options.standard_error.is_none() => None,
            _ => optional("the standard error", &options.standard_error, &["se", "error_se"])?,
        };
        Ok(Columns {
            names: header.to_vec(),
            x1,
            x2,
            y,
            kind,
            weight,
            standard_error,
            run: optional("the run", &options.run, &["run"])?,
            task: optional("the task", &options.task, &["task"])?,
            note: position("note"),
            only: options
                .only
                .iter()
                .map(|(name, value)| {
                    Ok((position(name).ok_or_else(|| missing("what is left", name))?, value.clone()))
                })
                .collect::<Result<_, LawError>>()?,
            apart: APART
                .iter()
                .filter_map(|name| position(name))
                .filter(|index| ![Some(x1), Some(x2)].contains(&Some(*index)))
                .collect(),
        })
    }

    fn row(
        &self,
        record: &csv::StringRecord,
        line: u64,
        origin: &str,
        options: &ReadOptions,
    ) -> Result<(Option<String>, Row), LawError> {
        let bad = |index: usize, problem: String| LawError::BadValue {
            origin: origin.into(),
            line,
            column: self.names[index].clone(),
            value: record[index].into(),
            problem,
        };
        let number = |index: usize| match record[index].parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            Ok(_) => Err(bad(index, "is not finite; a finite number is needed".into())),
            Err(_) => Err(bad(index, "is not a number".into())),
        };
        let positive = |index: usize| match number(index)? {
            value if value > 0.0 => Ok(value),
            _ => Err(bad(index, "must be above 0".into())),
        };
        let factor = |index: usize, scale: f64| match positive(index)? / scale {
            value if value.is_finite() && value >= f64::MIN_POSITIVE => Ok(value),
            _ => Err(bad(index, format!("divided by {scale} is out of range"))),
        };
        let text = |index: Option<usize>| {
            index.map(|index| &record[index]).filter(|text| !text.is_empty()).map(String::from)
        };
        let y = number(self.y)?;
        let y = match self.kind {
            YKind::Loss if y < 0.0 => return Err(bad(self.y, "is negative; a loss is 0 or more".into())),
            YKind::Loss => y,
            kind if !(0.0..=1.0).contains(&y) => {
                let hint = if (1.0..=100.0).contains(&y) { " (in percent? divide by 100)" } else { "" };
                return Err(bad(self.y, format!("is not in 0…1, as every {} is{hint}", kind.name())));
            }
            YKind::Score => 1.0 - y,
            YKind::Error => y,
        };
        let mut weight = 1.0;
        if let Some(index) = self.weight {
            weight *= positive(index)?;
        }
        if let Some(index) = self.standard_error {
            weight *= positive(index)?.powi(-2);
        }
        if !(weight.is_finite() && weight > 0.0) {
            let index = self.standard_error.or(self.weight).unwrap_or(self.y);
            return Err(bad(index, "gives a weight that is out of range".into()));
        }
        let row = Row {
            x1: factor(self.x1, options.scale1)?,
            x2: factor(self.x2, options.scale2)?,
            y,
            weight,
            run: text(self.run),
            note: text(self.note),
            line,
        };
        Ok((text(self.task), row))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn message(text: &str) -> String {
        read_str(text, "data.csv", &ReadOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn score_becomes_error_and_notes_are_kept() {
        let text = "\u{feff}params,visual_tokens,score,note\n1e9, 4 ,0.25,odd\n2e9,16,0.5,\n";
        let options = ReadOptions { scale1: 1e9, ..Default::default() };
        let tables = read_str(text, "data.csv", &options).unwrap();
        let rows = &tables[0].rows;
        assert_eq!((rows[0].x1, rows[0].x2, rows[0].y, rows[0].line), (1.0, 4.0, 0.75, 2));
        assert_eq!(rows[0].note.as_deref(), Some("odd"));
        assert_eq!(rows[1].note, None);
    }

    #[test]
    fn what_one_law_is_not_about_is_told_apart() {
        let text = "params,visual_tokens,error,compressor,series,task\n\
                    1,1,0.5,quecc,grid,a\n2,1,0.4,mqt,grid,a\n1,1,0.3,quecc,grid,b\n";
        let read = |only: &[(&str, &str)]| {
            let only = only.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            read_str(text, "results.csv", &ReadOptions { only, ..Default::default() })
        };
        assert_eq!(
            read(&[]).unwrap_err().to_string(),
            "results.csv: one fit would mix rows whose compressor is mqt, quecc; --only compressor=VALUE takes those of one"
        );
        let tables = read(&[("compressor", "quecc")]).unwrap();
        assert_eq!(tables.iter().map(|table| table.rows.len()).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(read(&[("compressor", "mqt"), ("series", "grid")]).unwrap()[0].rows[0].y, 0.4);
        let none = read(&[("compressor", "m3"), ("series", "grid")]).unwrap_err().to_string();
        assert_eq!(none, "results.csv: no rows with compressor=m3 and series=grid");
        assert!(read(&[("kind", "x")]).unwrap_err().to_string().contains("kind"));
    }

    #[test]
    fn tasks_come_apart_and_standard_errors_weigh() {
        let text = "task,params,visual_tokens,error,error_se\nb,1,1,0.5,0.5\na,1,1,0.4,0.1\nb,2,1,0.3,0.25\n";
        let tables = read_str(text, "data.csv", &ReadOptions::default()).unwrap();
        assert_eq!(tables.iter().map(|t| t.task.as_deref().unwrap()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(tables[0].rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [4.0, 16.0]);
    }

    #[test]
    fn refusals_name_line_column_and_value() {
        let head = "params,visual_tokens,score\n1,1,0.5\n";
        for (row, wanted) in [
            ("2,1,NaN", "data.csv: line 3, column \"score\": \"NaN\" is not finite"),
            (
                "2,1,54.2",
                "column \"score\": \"54.2\" is not in 0…1, as every score is (in percent? divide by 100)",
            ),
            ("2,1,-0.1", "\"-0.1\" is not in 0…1"),
            ("2,0,0.5", "column \"visual_tokens\": \"0\" must be above 0"),
            ("-2,1,0.5", "column \"params\": \"-2\" must be above 0"),
            ("big,1,0.5", "column \"params\": \"big\" is not a number"),
            ("2,1", "line 3: 2 columns, but the header has 3"),
        ] {
            let message = message(&format!("{head}{row}\n"));
            assert!(message.contains(wanted), "{message:?} lacks {wanted:?}");
        }
        assert!(message("").contains("data.csv: empty; a table has a header line"));
        assert!(message("params,visual_tokens,score\n").contains("no rows"));
        let message = message("n,visual_tokens,score\n1,1,1\n");
        assert!(message.contains("no column \"params\" for x1; the columns are \"n\", \"visual_tokens\""));
    }

    #[test]
    fn a_column_is_one_thing() {
        let text = "params,visual_tokens,score\n1,1,0.5\n";
        let named = |name: &str| Some(name.to_owned());
        let refused = |options: ReadOptions| read_str(text, "data.csv", &options).unwrap_err().to_string();
        let both = refused(ReadOptions { x2: named("params"), ..Default::default() });
        assert!(both.contains("data.csv: column \"params\" is given for both x1 and x2"), "{both}");
        let both = refused(ReadOptions { y: named("visual_tokens"), ..Default::default() });
        assert!(both.contains("column \"visual_tokens\" is given for both x2 and y"), "{both}");
        let both = refused(ReadOptions { x1: named("score"), ..Default::default() });
        assert!(both.contains("column \"score\" is given for both x1 and y"), "{both}");
    }

    #[test]
    fn errors_of_a_task_name_it() {
        let text = "task,params,visual_tokens,error\nocr,1,1,0.5\nocr,2,1,0.4\n";
        let tables = read_str(text, "data.csv", &ReadOptions::default()).unwrap();
        let error = crate::fit(&tables[0], crate::Form::Product, &crate::FitOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("data.csv, task ocr: column \"visual_tokens\""), "{error}");
    }

    #[test]
    fn not_text_is_refused() {
        let bytes = b"params,visual_tokens,score\n1,1,\xff\xfe\n";
        let error = parse(bytes, b',', "data.csv", &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("line 2: not UTF-8 text"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_table_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes, b',', "data.csv", &ReadOptions::default());
        }

        #[test]
        fn any_cells_give_positive_finite_rows(
            cells in proptest::collection::vec("[-+0-9.eEinfNaN ]{0,12}", 9)
        ) {
            let lines: Vec<String> = cells.chunks(3).map(|row| row.join(",")).collect();
            let text = format!("params,visual_tokens,loss\n{}\n", lines.join("\n"));
            if let Ok(tables) = read_str(&text, "data.csv", &ReadOptions::default()) {
                for row in &tables[0].rows {
                    prop_assert!(row.x1 > 0.0 && row.x1.is_finite());
                    prop_assert!(row.x2 > 0.0 && row.x2.is_finite());
                    prop_assert!(row.y >= 0.0 && row.y.is_finite());
                }
            }
        }
    }
}
