//! Number formats of weights and of the KV cache, and the bytes a stored number takes in each.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    error::CostError,
    names::{Choice, choose, serde_as_string},
};

/// How numbers are stored. The block formats are GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// Brain float: the exponent of `f32`, 8 bits of significand.
    Bf16,
    /// IEEE half precision.
    F16,
    /// One byte a number; the scale of a whole row or channel is not counted.
    Int8,
    /// GGUF: 32 numbers of 8 bits and a half-precision scale.
    Q8_0,
    /// GGUF: super-blocks of 256 numbers of 6 bits.
    Q6K,
    /// GGUF: super-blocks of 256 numbers of 5 bits.
    Q5K,
    /// GGUF: 32 numbers of 5 bits, a scale and a minimum.
    Q5_1,
    /// GGUF: 32 numbers of 5 bits and a scale.
    Q5_0,
    /// GGUF: super-blocks of 256 numbers of 4 bits.
    Q4K,
    /// GGUF: 32 numbers of 4 bits, a scale and a minimum.
    Q4_1,
    /// GGUF: 32 numbers of 4 bits and a scale.
    Q4_0,
}

const CHOICES: &[Choice<Dtype>] = &[
    (Dtype::F32, "f32", &["float32"]),
    (Dtype::Bf16, "bf16", &["bfloat16"]),
    (Dtype::F16, "f16", &["float16", "half"]),
    (Dtype::Int8, "int8", &["i8"]),
    (Dtype::Q8_0, "q8_0", &[]),
    (Dtype::Q6K, "q6_k", &[]),
    (Dtype::Q5K, "q5_k", &[]),
    (Dtype::Q5_1, "q5_1", &[]),
    (Dtype::Q5_0, "q5_0", &[]),
    (Dtype::Q4K, "q4_k", &[]),
    (Dtype::Q4_1, "q4_1", &[]),
    (Dtype::Q4_0, "q4_0", &[]),
];

impl Dtype {
    /// Bytes that one stored number takes, block scales included.
    ///
    /// ```
    /// use foveate_law::cost::Dtype;
    /// assert_eq!(Dtype::Bf16.bytes(), 2.0);
    /// assert_eq!(Dtype::Q4_0.bytes() * 32.0, 18.0); // 16 bytes of nibbles and a 2-byte scale
    /// ```
    pub fn bytes(self) -> f64 {
        match self {
            Self::F32 => 4.0,
            Self::Bf16 | Self::F16 => 2.0,
            Self::Int8 => 1.0,
            Self::Q8_0 => 34.0 / 32.0,
            Self::Q6K => 210.0 / 256.0,
            Self::Q5K => 176.0 / 256.0,
            Self::Q5_1 => 24.0 / 32.0,
            Self::Q5_0 => 22.0 / 32.0,
            Self::Q4K => 144.0 / 256.0,
            Self::Q4_1 => 20.0 / 32.0,
            Self::Q4_0 => 18.0 / 32.0,
        }
    }

    /// Every format.
    pub fn all() -> impl Iterator<Item = Self> {
        CHOICES.iter().map(|(dtype, ..)| *dtype)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CHOICES.iter().find(|(dtype, ..)| dtype == self).map_or("", |(_, name, _)| name))
    }
}

impl FromStr for Dtype {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        choose("number format", text, CHOICES)
    }
}

serde_as_string!(Dtype);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip_and_case_does_not_matter() {
        for dtype in Dtype::all() {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
            assert_eq!(dtype.to_string().to_uppercase().parse::<Dtype>().unwrap(), dtype);
        }
        assert_eq!(Dtype::all().count(), 12);
        let message = "q3".parse::<Dtype>().unwrap_err().to_string();
        assert!(message.contains("`q3`") && message.contains("q4_k"), "{message}");
    }

    #[test]
    fn block_formats_have_the_bits_per_weight_that_llama_cpp_states() {
        for (dtype, bits) in [
            (Dtype::Q8_0, 8.5),
            (Dtype::Q6K, 6.5625),
            (Dtype::Q5K, 5.5),
            (Dtype::Q5_1, 6.0),
            (Dtype::Q5_0, 5.5),
            (Dtype::Q4K, 4.5),
            (Dtype::Q4_1, 5.0),
            (Dtype::Q4_0, 4.5),
        ] {
            assert_eq!(dtype.bytes() * 8.0, bits, "{dtype}");
        }
    }
}
