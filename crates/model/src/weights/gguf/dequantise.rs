//! The tensor types of GGUF that are read here, and their expansion to f32.

use half::{bf16, f16};
use rayon::prelude::*;

use super::{blocks, k_blocks};

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names of the format")]
#[expect(non_camel_case_types, reason = "the names of the format")]
pub enum Quantisation {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    /// Signed bytes whose scales are stored elsewhere: in folders only, no type of GGUF.
    Int8,
}

impl Quantisation {
    /// All of them, for errors.
    pub(super) const SUPPORTED: &'static str =
        "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

    /// The types of a file and their numbers there.
    const NUMBERS: [(u32, Self); 13] = [
        (0, Self::F32),
        (1, Self::F16),
        (2, Self::Q4_0),
        (3, Self::Q4_1),
        (6, Self::Q5_0),
        (7, Self::Q5_1),
        (8, Self::Q8_0),
        (10, Self::Q2_K),
        (11, Self::Q3_K),
        (12, Self::Q4_K),
        (13, Self::Q5_K),
        (14, Self::Q6_K),
        (30, Self::BF16),
    ];

    /// The type numbered `number` in a file.
    pub(super) fn numbered(number: u32) -> Option<Self> {
        Self::NUMBERS.iter().find(|(known, _)| *known == number).map(|(_, format)| *format)
    }

    /// Its number in a file; [`Quantisation::Int8`] has none.
    pub(in super::super) fn number(self) -> Option<u32> {
        Self::NUMBERS.iter().find(|(_, known)| *known == self).map(|(number, _)| *number)
    }

    /// Numbers in a block, and the block's bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Int8 => (1, 1),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2_K => (256, 84),
            Self::Q3_K => (256, 110),
            Self::Q4_K => (256, 144),
            Self::Q5_K => (256, 176),
            Self::Q6_K => (256, 210),
        }
    }

    /// Expands rows of `row_length` numbers from `bytes`; row r of the result is row `source_row(r)` of the file.
    ///
    /// The caller has checked that rows are whole blocks and that `bytes` holds `rows` of them.
    pub(super) fn expand_rows(
        self,
        bytes: &[u8],
        rows: usize,
        row_length: usize,
        source_row: impl Fn(usize) -> usize + Sync,
    ) -> Vec<f32> {
        let (block_length, block_bytes) = self.block();
        let row_bytes = row_length / block_length * block_bytes;
        let mut out = vec![0.0; rows * row_length];
        // Enough work in each task that splitting costs nothing; bias vectors stay on this thread.
        let rows_per_task = (1 << 16) / row_length.max(1) + 1;
        out.par_chunks_mut(row_length.max(1)).enumerate().with_min_len(rows_per_task).for_each(
            |(row, out)| {
                let start = source_row(row) * row_bytes;
                self.expand(&bytes[start..start + row_bytes], out);
            },
        );
        out
    }

    /// Expands whole blocks.
    fn expand(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => each(bytes, out, |bytes: &[u8; 4], [out]| *out = f32::from_le_bytes(*bytes)),
            Self::F16 => {
                each(bytes, out, |bytes: &[u8; 2], [out]| *out = f16::from_le_bytes(*bytes).to_f32())
            }
            Self::BF16 => {
                each(bytes, out, |bytes: &[u8; 2], [out]| *out = bf16::from_le_bytes(*bytes).to_f32())
            }
            Self::Int8 => each(bytes, out, |[byte]: &[u8; 1], [out]| *out = f32::from(byte.cast_signed())),
            Self::Q4_0 => each(bytes, out, blocks::q4_0),
            Self::Q4_1 => each(bytes, out, blocks::q4_1),
            Self::Q5_0 => each(bytes, out, blocks::q5_0),
            Self::Q5_1 => each(bytes, out, blocks::q5_1),
            Self::Q8_0 => each(bytes, out, blocks::q8_0),
            Self::Q2_K => each(bytes, out, k_blocks::q2_k),
            Self::Q3_K => each(bytes, out, k_blocks::q3_k),
            Self::Q4_K => each(bytes, out, k_blocks::q4_k),
            Self::Q5_K => each(bytes, out, k_blocks::q5_k),
            Self::Q6_K => each(bytes, out, k_blocks::q6_k),
        }
    }
}

/// Applies `expand` to each pair of blocks.
fn each<const BYTES: usize, const LENGTH: usize>(
    bytes: &[u8],
    out: &mut [f32],
    expand: impl Fn(&[u8; BYTES], &mut [f32; LENGTH]),
) {
    let (blocks, _) = bytes.as_chunks();
    let (outs, _) = out.as_chunks_mut();
    for (block, out) in blocks.iter().zip(outs) {
        expand(block, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_taken_from_where_they_are_asked_for() {
        let bytes: Vec<u8> = (0u8..6).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let out = Quantisation::F32.expand_rows(&bytes, 3, 2, |row| 2 - row);
        assert_eq!(out, [4.0, 5.0, 2.0, 3.0, 0.0, 1.0]);
    }

    #[test]
    fn sixteen_bit_floats_expand_exactly() {
        // 1.5 and the smallest subnormal, as f16; -1.5 and the largest, as bf16.
        let out = Quantisation::F16.expand_rows(&[0x00, 0x3E, 0x01, 0x00], 1, 2, |row| row);
        assert_eq!(out, [1.5, 2f32.powi(-24)]);
        let out = Quantisation::BF16.expand_rows(&[0xC0, 0xBF, 0x7F, 0x7F], 1, 2, |row| row);
        assert_eq!(out, [-1.5, f32::from_bits(0x7F7F_0000)]);
    }
}
