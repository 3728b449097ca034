//! What can be wrong with a request for a cost; every message names the object, the value and what is allowed.

use std::path::PathBuf;

/// Why a cost could not be computed or a catalogue not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// A name that is not in the catalogue, or an option that does not exist.
    #[error("unknown {kind} `{name}`{}; known: {known}", hint(.nearest))]
    Unknown {
        /// What was looked up: `tower`, `language model`, `compressor`, …
        kind: &'static str,
        /// The name as it was given.
        name: String,
        /// The closest known name, when one is close.
        nearest: Option<String>,
        /// All known names.
        known: String,
    },
    /// A dimension of a tower or language model that no model can have.
    #[error("`{name}`: {field} = {value} is not allowed; {allowed}")]
    Dimension {
        /// The tower or language model.
        name: String,
        /// The field as it is spelled in the catalogue file.
        field: &'static str,
        /// The offending value.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// Two entries of one catalogue file share a name.
    #[error("{kind} `{name}` is described twice in one catalogue; give each its own name")]
    Duplicate {
        /// `tower` or `language model`.
        kind: &'static str,
        /// The shared name.
        name: String,
    },
    /// A number of visual tokens that the compressor cannot produce.
    #[error("{compressor} on {tower} cannot produce {visual_tokens} visual tokens; it offers {offered}")]
    VisualTokens {
        /// The compressor.
        compressor: String,
        /// The tower.
        tower: String,
        /// The number asked for.
        visual_tokens: usize,
        /// The ladder or range it offers.
        offered: String,
    },
    /// The compressor ranks patches by the class token's attention and the tower has no class token.
    #[error("{compressor} ranks patches by the attention of the class token, and {tower} has none")]
    NeedsClassToken {
        /// The compressor.
        compressor: String,
        /// The tower.
        tower: String,
    },
    /// A quantity of the request itself.
    #[error("{field} = {value} is not allowed; {allowed}")]
    Request {
        /// The quantity.
        field: &'static str,
        /// The offending value.
        value: String,
        /// What would be accepted.
        allowed: String,
    },
    /// The catalogue file could not be read.
    #[error("cannot read the catalogue {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The catalogue file is too large to be one.
    #[error("the catalogue {} is larger than {limit} bytes, the most that is read", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The catalogue is not the TOML that is expected; the source names line, column and field.
    #[error("not a catalogue: {0}")]
    Toml(#[from] toml::de::Error),
    /// Any of these, found in a file.
    #[error("in {}: {source}", .path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<CostError>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// Refuses a dimension outside `allowed`.
pub(crate) fn within(
    name: &str,
    field: &'static str,
    value: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<(), CostError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err(CostError::Dimension {
        name: name.to_owned(),
        field,
        value: value.to_string(),
        allowed: format!("it must lie in {}..={}", allowed.start(), allowed.end()),
    })
}
