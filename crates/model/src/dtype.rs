//! How weights are kept in memory.

use std::fmt;
use std::str::FromStr;

use foveate_kernels::Format;

use crate::ModelError;
use crate::weights::gguf::Quantisation;

/// The numbers that the matrices of a model are kept as. Activations and everything else are f32 in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// Signed bytes. Vision towers: a scale for each output channel, and one for each row of activations. Everything
    /// else: a scale for each 32 weights and each 32 activations (GGUF's Q8_0), since the activations of language models
    /// have outliers.
    Int8,
    /// What the file holds: f32 and bf16 as they are, f16 as bf16, blocks of GGUF as blocks. Those that have no kernel
    /// (Q2_K, Q3_K, Q6_K) are kept as Q8_0.
    #[default]
    AsStored,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Int8, Self::AsStored];

    /// The name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::AsStored => "as-stored",
        }
    }

    /// How a matrix stored as `stored` is packed, with `k` numbers in a row; `by_row` where int8 has one scale for each
    /// row of activations.
    pub(crate) fn format(self, stored: Option<Quantisation>, k: usize, by_row: bool) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16 => Format::Bf16,
            Self::Int8 if by_row => Format::Int8,
            Self::Int8 => Format::Q8_0,
            Self::AsStored => match stored {
                None | Some(Quantisation::F32) => Format::F32,
                Some(Quantisation::F16 | Quantisation::BF16) => Format::Bf16,
                Some(blocks) => blocks_as(blocks, k).unwrap_or(Format::Q8_0),
            },
        }
    }
}

/// The format that holds blocks of `stored` as they are, if there is one for rows of `k` numbers.
pub(crate) fn blocks_as(stored: Quantisation, k: usize) -> Option<Format> {
    let format = match stored {
        Quantisation::Q4_0 => Format::Q4_0,
        Quantisation::Q4_1 => Format::Q4_1,
        Quantisation::Q5_0 => Format::Q5_0,
        Quantisation::Q5_1 => Format::Q5_1,
        Quantisation::Q8_0 => Format::Q8_0,
        Quantisation::Q4_K => Format::Q4K,
        Quantisation::Q5_K => Format::Q5K,
        _ => return None,
    };
    format.block_length().filter(|length| k.is_multiple_of(*length)).map(|_| format)
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        found.ok_or_else(|| ModelError::option("dtype", name, "allowed are f32, bf16, int8, as-stored"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_read_back() {
        for dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
        }
        let message = "fp16".parse::<Dtype>().unwrap_err().to_string();
        assert!(message.contains("fp16") && message.contains("bf16"), "{message}");
    }

    #[test]
    fn blocks_stay_blocks_where_there_is_a_kernel() {
        let stored = |format, k| Dtype::AsStored.format(Some(format), k, false);
        assert_eq!(stored(Quantisation::Q4_1, 576), Format::Q4_1);
        assert_eq!(stored(Quantisation::Q4_K, 512), Format::Q4K);
        // No rows of 256, no kernel: both are expanded.
        assert_eq!(stored(Quantisation::Q4_K, 576), Format::Q8_0);
        assert_eq!(stored(Quantisation::Q6_K, 512), Format::Q8_0);
        assert_eq!(stored(Quantisation::F16, 576), Format::Bf16);
        assert_eq!(Dtype::Int8.format(None, 64, true), Format::Int8);
        assert_eq!(Dtype::Int8.format(None, 64, false), Format::Q8_0);
    }
}
