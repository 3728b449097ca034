//! What can be wrong with a table, a fit or a plan. Every message names the object and the value.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LawError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than a table of measurements can be.
    #[error("{}: more than {limit} bytes; a table of measurements has at most that many", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file is not a table.
    #[error("{origin}: line {line}: {message}")]
    Malformed {
        /// The file or preset.
        origin: String,
        /// Line number, counted from 1.
        line: u64,
        /// What is wrong.
        message: String,
    },
    /// A column is missing.
    #[error("{origin}: no column {wanted:?} for {role}; the columns are {}", quoted(have))]
    NoColumn {
        /// The file or preset.
        origin: String,
        /// What the column is for.
        role: &'static str,
        /// The name looked for.
        wanted: String,
        /// The names in the header.
        have: Vec<String>,
    },
    /// One column is to be two things.
    #[error(
        "{origin}: column {column:?} is given for both {first} and {second}; each needs a column of its own"
    )]
    SameColumn {
        /// The file or preset.
        origin: String,
        /// The column.
        column: String,
        /// What it is for.
        first: &'static str,
        /// What it is for as well.
        second: &'static str,
    },
    /// A cell holds a value that cannot be used.
    #[error("{origin}: line {line}, column {column:?}: {value:?} {problem}")]
    BadValue {
        /// The file or preset.
        origin: String,
        /// Line number, counted from 1.
        line: u64,
        /// Column name.
        column: String,
        /// The text of the cell.
        value: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// Rows of different kinds in one fit.
    #[error("{origin}: one fit would mix rows whose {column} is {}; --only {column}=VALUE takes those of one", .values.join(", "))]
    Mixed {
        /// The file or preset.
        origin: String,
        /// The column that tells them apart.
        column: String,
        /// What stands there.
        values: Vec<String>,
    },
    /// The table holds too little to fit a law.
    #[error("{origin}: {message}")]
    TooLittle {
        /// The file or preset.
        origin: String,
        /// What is missing.
        message: String,
    },
    /// A document that is no table of errors.
    #[error("{origin}: {message}")]
    Unreadable {
        /// The file.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// A family of questions without errors.
    #[error("there are no errors of the family {family:?}; known are {}", known.join(", "))]
    NoFamily {
        /// The family.
        family: String,
        /// Those that have some.
        known: Vec<String>,
    },
    /// An option has a value that is not allowed.
    #[error("{option} = {value}: {allowed}")]
    BadOption {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
