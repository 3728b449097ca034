//! Checkpoints written again with smaller numbers: bfloat16, or signed bytes with scales.
//!
//! | | a folder | a GGUF file |
//! |---|---|---|
//! | [`Target::Bf16`] | every float as bf16 | matrices as BF16 |
//! | [`Target::Int8`] | matrices of linear layers as signed bytes with a scale for each row | has no such type |
//! | [`Target::Q8_0`] | the same with a scale for each 32 numbers of a row | matrices as Q8_0 |
//!
//! Folders become safetensors in the layout of the compressed-tensors library (see [`super::Weights::open`]). What is no
//! matrix of a linear layer stays in bf16 there: norms, biases, convolutions, embeddings, and, as usual in that
//! ecosystem, the output head `lm_head`; so do matrices whose rows are no multiple of 32 for [`Target::Q8_0`], or whose
//! numbers are no multiple of 4. In GGUF files everything but matrices, and matrices of positions, stay as they are.
//!
//! Tensors pass one by one, so memory is bounded by a few copies of the largest. Everything is written beside its place,
//! hashed on the way, flushed, read back, compared, and moved there in the end: under the final name there is the whole
//! result or what was there before.

mod error;
mod folder;
mod gguf_file;
mod output;
mod place;
mod round;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::ConvertError;

use super::gguf::Quantisation;

/// What matrices become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// Signed bytes with an f32 scale for each row; folders only.
    Int8,
    /// Signed bytes with a scale for each 32 numbers of a row, rounded to f16 as in GGUF (in folders stored as f32).
    Q8_0,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bf16, Self::Int8, Self::Q8_0];

    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Q8_0 => "q8_0",
        }
    }
}

/// How to convert.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What matrices become.
    pub target: Target,
    /// Whether a result that is there already may be replaced; a folder only if it holds a model.
    pub replace: bool,
    /// Whether weights that are rounded to fewer than 16 bits already may be rounded once more.
    pub requantise: bool,
    /// Bytes of a safetensors file beyond which the next is begun.
    pub shard_bytes: u64,
}

impl Options {
    /// Nothing is replaced or rounded twice; files of 4 GB.
    pub fn new(target: Target) -> Self {
        Self { target, replace: false, requantise: false, shard_bytes: 4_000_000_000 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Converted {
    /// The weight files.
    pub files: Vec<WeightFile>,
    /// Weights read.
    pub tensors: usize,
    /// Weights that are stored in another format than before.
    pub converted: usize,
    /// Bytes of the weights that were read, without headers.
    pub bytes_before: u64,
    /// Bytes of the weights that were written, scales included.
    pub bytes_after: u64,
    /// The weight that lost most; `None` if none was converted.
    pub worst: Option<Loss>,
    /// Files of the folder that were not copied: tensors that are no part of the model, and what is long.
    pub left_out: Vec<PathBuf>,
}

impl Converted {
    fn empty() -> Self {
        Self {
            files: Vec::new(),
            tensors: 0,
            converted: 0,
            bytes_before: 0,
            bytes_after: 0,
            worst: None,
            left_out: Vec::new(),
        }
    }

    fn count(&mut self, name: &str, loss: Option<f64>) {
        self.tensors += 1;
        let Some(error) = loss else { return };
        self.converted += 1;
        if self.worst.as_ref().is_none_or(|worst| error > worst.error) {
            self.worst = Some(Loss { tensor: name.to_owned(), error });
        }
    }
}

/// A file with weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFile {
    /// Where it is in the end.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its contents, in hexadecimal: of what was meant, and of what was read back.
    pub sha256: String,
}

/// What a weight lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// Its stored name.
    pub tensor: String,
    /// ‖written − read‖ / ‖read‖ in the Frobenius norm.
    pub error: f64,
}

/// How far a conversion is, in bytes of the weights read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are written again.
    pub done: u64,
    /// All of them.
    pub total: u64,
}

/// Converts the folder or GGUF file `input` to `output`; `progress` is called after each weight.
///
/// # Errors
/// [`ConvertError`]: an input that cannot be read, is quantised already or has numbers that do not fit the target, and an
/// output that is there, lies inside the input or cannot be written. Nothing is left under the name of the output then.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    mut progress: impl FnMut(Progress),
) -> Result<Converted, ConvertError> {
    if input.is_dir() {
        folder::convert(input, output, options, &mut progress)
    } else {
        gguf_file::convert(input, output, options, &mut progress)
    }
}

/// Whether numbers of a format are rounded so much that rounding them again is an accident.
fn is_quantised(format: Quantisation) -> bool {
    !matches!(format, Quantisation::F32 | Quantisation::F16 | Quantisation::BF16)
}
