//! How packed weights lie in memory.
//!
//! Every format is cut into *panels* of 32 output channels, and a panel into *units* of neighbouring k. A panel is read
//! from its first byte to its last, so a product of one row reads each weight byte once and in order; inside a unit the
//! bytes lie as the inner loops load them:
//!
//! | format | k in a unit | bytes of a unit, for 32 channels |
//! |---|---|---|
//! | `F32` | 1 | 32 f32 |
//! | `Bf16` | 2 | 32 pairs of bf16 (k, k + 1) |
//! | `Int8` | 4 | 32 × 4 bytes, biased by 128; one f32 scale per channel beside the panels |
//! | `Q8_0` | 32 | 32 f16 scales, then 8 groups of 32 × 4 bytes, biased by 128 |
//! | `Q4_0` | 32 | 32 f16 scales, then 4 groups of 32 × 4 bytes: group g in the low nibbles, g + 4 in the high ones |
//! | `Q4_1` | 32 | as `Q4_0`, with 32 f16 minima after the scales |
//! | `Q5_0`, `Q5_1` | 32 | as `Q4_0`, `Q4_1`, with 8 × 128 fifth bits before the nibbles |
//!
//! Integer weights are stored without sign because the byte instructions multiply an unsigned by a signed number; the
//! activations carry the sign, and what the bias adds is taken off in exact integers.

use std::fmt;

use crate::activations::BLOCK_WORDS;
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
    /// bfloat16, rounded to nearest even; activations stay f32 and so do all sums.
    Bf16,
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
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::Bf16, Self::Int8, Self::Q8_0, Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1];

    /// Bytes of one stored block of 32 numbers in a GGUF file; `None` for the formats that have no blocks.
    #[must_use]
    pub fn block_bytes(self) -> Option<usize> {
        match self {
            Self::F32 | Self::Bf16 | Self::Int8 => None,
            Self::Q8_0 => Some(34),
            Self::Q4_0 => Some(18),
            Self::Q4_1 => Some(20),
            Self::Q5_0 => Some(22),
            Self::Q5_1 => Some(24),
        }
    }

    /// How units of the format lie in memory.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout::F32,
            Self::Bf16 => Layout::Bf16,
            Self::Int8 => Layout::Int8,
            Self::Q8_0 => Layout::Bytes,
            Self::Q4_0 => Layout::Nibbles,
            Self::Q4_1 => Layout::NibblesMinimum,
            Self::Q5_0 => Layout::Fives,
            Self::Q5_1 => Layout::FivesMinimum,
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
        if self.block_bytes().is_some() && !k.is_multiple_of(BLOCK) && self != Self::Q8_0 {
            return Err(Error::Size {
                what: "k",
                found: k,
                allowed: "multiples of 32 for formats with blocks",
            });
        }
        // 255 · 127 · 65,536 is just below 2³¹.
        if self == Self::Int8 && k > 65_536 {
            return Err(Error::Size { what: "k", found: k, allowed: "at most 65,536 for Int8" });
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
    const ALL: [Self; 9] = [
        Self::F32,
        Self::Bf16,
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
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
            _ => BLOCK,
        }
    }

    /// Words of prepared activations that go with a unit.
    pub(crate) const fn words(self) -> usize {
        match self {
            Self::F32 | Self::Int8 => 1,
            Self::Bf16 => 2,
            _ => BLOCK_WORDS,
        }
    }

    /// Bytes of a unit of a panel.
    pub(crate) const fn unit_bytes(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::Int8 => 4 * PANEL,
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
            Self::Int8 => "int8",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
        })
    }
}
