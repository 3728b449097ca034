//! How packed weights lie in memory.
//!
//! Every format is cut into *panels* of 32 output channels, and a panel into *units* of neighbouring k. A panel is read
//! from its first byte to its last, so a product of one row reads each weight byte once and in order; inside a unit the
//! bytes lie as the inner loops load them:
//!
//! | format | k in a unit | bytes of a unit, for 32 channels |
//! |---|---|---|
//! | `F32` | 1 | 32 f32 |
//! | `Bf16` | 2 | 32 pairs of bf16 (k, k + 1), the first in the lower half of 32 bits: what `vdpbf16ps` reads |
//! | `F16` | 1 | 32 f16 |
//! | `Int8` | 4 | 32 × 4 bytes, biased by 128; one f32 scale per channel beside the panels |
//! | `Q8_0` | 32 | 32 f16 scales, then 8 groups of 32 × 4 bytes, biased by 128 |
//! | `Q4_0` | 32 | 32 f16 scales, then 4 groups of 32 × 4 bytes: group g in the low nibbles, g + 4 in the high ones |
//! | `Q4_1` | 32 | as `Q4_0`, with 32 f16 minima after the scales |
//! | `Q5_0`, `Q5_1` | 32 | as `Q4_0`, `Q4_1`, with 8 × 128 fifth bits before the nibbles |
//! | `Q4_K`, `Q5_K` | 32 | as `Q4_1`, `Q5_1` |
//!
//! Integer weights are stored without sign because the byte instructions multiply an unsigned by a signed number; the
//! activations carry the sign, and what the bias adds is taken off in exact integers.

use std::fmt;

use crate::error::{Error, Result};

/// Output channels in a panel.
pub(crate) const PANEL: usize = 32;

/// Numbers in a block of the formats that have blocks.
pub(crate) const BLOCK: usize = 32;

/// How the weights of a [`Matrix`](crate::Matrix) are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// bfloat16, rounded to nearest even; activations stay f32 and so do all sums. But on
    /// [`Path::Avx512Bf16`](crate::Path::Avx512Bf16), where a product rounds the activations to bf16 as well.
    Bf16,
    /// IEEE half precision, kept as it is where the weights come so, else rounded to nearest even (past 65,504, f16's
    /// largest number, to infinity from 65,520 on); activations stay f32 and so do all sums. As many bytes as bf16, with
    /// 3 bits more of each number and a smaller range.
    F16,
    /// Signed bytes with one f32 scale per output channel; activations are rounded to signed bytes with one scale per
    /// row. For activations without outliers, as in vision towers. k at most 65,536.
    Int8,
    /// Blocks of 32 signed bytes with an f16 scale (GGUF `Q8_0`); activations are rounded to signed bytes with a scale
    /// per row and block. For language models, whose activations have outliers.
    Q8_0,
    /// Blocks of 32 four-bit numbers with an f16 scale (GGUF `Q4_0`); activations as for [`Format::Q8_0`].
    Q4_0,
    /// Blocks of 32 four-bit numbers with an f16 scale and minimum (GGUF `Q4_1`).
    Q4_1,
    /// Blocks of 32 five-bit numbers with an f16 scale (GGUF `Q5_0`).
    Q5_0,
    /// Blocks of 32 five-bit numbers with an f16 scale and minimum (GGUF `Q5_1`).
    Q5_1,
    /// Blocks of 256 four-bit numbers (GGUF `Q4_K`), k a multiple of 256. Kept as blocks of 32 whose scale and minimum,
    /// in the file a product of an f16 number and a small integer, are rounded to f16.
    Q4K,
    /// Blocks of 256 five-bit numbers (GGUF `Q5_K`), kept as [`Format::Q4K`] is.
    Q5K,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::Bf16,
        Self::F16,
        Self::Int8,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4K,
        Self::Q5K,
    ];

    /// Numbers in one stored block of a GGUF file; `None` for the formats that have no blocks.
    #[must_use]
    pub fn block_length(self) -> Option<usize> {
        self.block().map(|(length, _)| length)
    }

    /// Bytes of one stored block of a GGUF file; `None` for the formats that have no blocks.
    #[must_use]
    pub fn block_bytes(self) -> Option<usize> {
        self.block().map(|(_, bytes)| bytes)
    }

    /// Numbers and bytes of one stored block.
    pub(crate) fn block(self) -> Option<(usize, usize)> {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 | Self::Int8 => None,
            Self::Q8_0 => Some((32, 34)),
            Self::Q4_0 => Some((32, 18)),
            Self::Q4_1 => Some((32, 20)),
            Self::Q5_0 => Some((32, 22)),
            Self::Q5_1 => Some((32, 24)),
            Self::Q4K => Some((256, 144)),
            Self::Q5K => Some((256, 176)),
        }
    }

    /// Whether weights that come as floats can be packed in this format.
    #[must_use]
    pub fn takes_floats(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16 | Self::F16 | Self::Int8 | Self::Q8_0)
    }

    /// How units of the format lie in memory.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::F32,
            Self::Bf16 => Layout::Bf16,
            Self::F16 => Layout::F16,
            Self::Int8 => Layout::Int8,
            Self::Q8_0 => Layout::Bytes,
            Self::Q4_0 => Layout::Nibbles,
            Self::Q4_1 | Self::Q4K => Layout::NibblesMinimum,
            Self::Q5_0 => Layout::Fives,
            Self::Q5_1 | Self::Q5K => Layout::FivesMinimum,
        }
    }

    /// Units of a panel whose rows have `k` numbers.
    pub(crate) fn units(self, k: usize) -> usize {
        k.div_ceil(self.layout().step())
    }

    /// Bytes of a unit of a panel.
    pub(crate) fn unit_bytes(self) -> usize {
        self.layout().unit_bytes()
    }

    /// # Errors
    /// [`Error::Size`] if rows of `k` numbers do not fit the format.
    pub(crate) fn check_k(self, k: usize) -> Result<()> {
        let size = |allowed| Err(Error::Size { what: "k", found: k, allowed });
        match self.block() {
            // Floats packed as Q8_0 may end with half a block.
            Some((32, _)) if self != Self::Q8_0 && !k.is_multiple_of(32) => {
                return size("multiples of 32 for formats with blocks");
            }
            Some((256, _)) if !k.is_multiple_of(256) => {
                return size("multiples of 256 for formats with blocks of 256");
            }
            _ => {}
        }
        // 255 · 127 · 65,536 is just below 2³¹.
        if self == Self::Int8 && k > 65_536 {
            return size("at most 65,536 for Int8");
        }
        Ok(())
    }
}

/// What lies in a unit. Several formats may share a layout, and one only exists in scratch memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Layout {
    F32,
    Bf16,
    F16,
    Int8,
    /// f16 scales, bytes biased by 128.
    Bytes,
    /// f16 scales and minima, bytes biased by 128: what the formats with minima are unpacked to.
    BytesMinimum,
    Nibbles,
    NibblesMinimum,
    Fives,
    FivesMinimum,
}

impl Layout {
    const ALL: [Self; 10] = [
        Self::F32,
        Self::Bf16,
        Self::F16,
        Self::Int8,
        Self::Bytes,
        Self::BytesMinimum,
        Self::Nibbles,
        Self::NibblesMinimum,
        Self::Fives,
        Self::FivesMinimum,
    ];

    /// The layout with this discriminant, for loops that have it as a constant parameter.
    pub(crate) const fn of(code: u8) -> Self {
        Self::ALL[code as usize]
    }

    /// Neighbouring k in a unit.
    pub(crate) const fn step(self) -> usize {
        match self {
            Self::F32 | Self::F16 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
            _ => BLOCK,
        }
    }

    /// Bytes of a unit of a panel.
    pub(crate) const fn unit_bytes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::Int8 => 4 * PANEL,
            Self::F16 => 2 * PANEL,
            _ => self.quants_at() + if self.has_bytes() { PANEL * BLOCK } else { PANEL * BLOCK / 2 },
        }
    }

    /// Whether numbers take a byte each.
    pub(crate) const fn has_bytes(self) -> bool {
        matches!(self, Self::Int8 | Self::Bytes | Self::BytesMinimum)
    }

    /// Whether blocks have a minimum beside their scale.
    pub(crate) const fn has_minimum(self) -> bool {
        matches!(self, Self::BytesMinimum | Self::NibblesMinimum | Self::FivesMinimum)
    }

    /// Whether blocks have a fifth bit.
    pub(crate) const fn has_fifth_bit(self) -> bool {
        matches!(self, Self::Fives | Self::FivesMinimum)
    }

    /// Where the fifth bits of a unit begin.
    pub(crate) const fn fifth_at(self) -> usize {
        2 * PANEL * if self.has_minimum() { 2 } else { 1 }
    }

    /// Where the nibbles or bytes of a unit begin.
    pub(crate) const fn quants_at(self) -> usize {
        self.fifth_at() + if self.has_fifth_bit() { PANEL * BLOCK / 8 } else { 0 }
    }

    /// What a stored integer is above the number it stands for.
    pub(crate) const fn bias(self) -> i32 {
        match self {
            Self::Int8 | Self::Bytes | Self::BytesMinimum => 128,
            Self::Nibbles => 8,
            Self::Fives => 16,
            _ => 0,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
        })
    }
}
