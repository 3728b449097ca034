//! Blocks of 256 into panels.

use std::ops::Range;

use half::f16;

use crate::format::{BLOCK, Format, PANEL};

/// Six-bit scale and minimum of part `part`: the first four lie in the low six bits of bytes 0–3 and 4–7; of the others
/// four bits lie in the nibbles of bytes 8–11 and two on top of the first ones'.
fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    let (i, low) = (part % 4, part < 4);
    if low {
        return (packed[i] & 63, packed[i + 4] & 63);
    }
    (packed[i + 8] & 15 | packed[i] >> 6 << 4, packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4)
}

/// Blocks of `Q4_K` and `Q5_K`: f16 scale and scale of the minima, 12 bytes of [`scale_and_minimum`], 32 bytes of fifth
/// bits (`Q5_K`: bit p for part p), 128 bytes of nibbles (two parts of 32 share 32 bytes). A number is
/// d · scale · q − d_min · minimum; both products are rounded to f16 here.
pub(crate) fn k_blocks(bytes: &[u8], format: Format, k: usize, channels: Range<usize>, out: &mut [u8]) {
    let (Some((length, size)), layout) = (format.block(), format.layout()) else { return };
    let row_bytes = k / length * size;
    for (c, channel) in channels.enumerate() {
        let row = &bytes[channel * row_bytes..(channel + 1) * row_bytes];
        let units = out.chunks_exact_mut((length / BLOCK) * layout.unit_bytes());
        for (block, units) in row.chunks_exact(size).zip(units) {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            let (d, d_min) = (half(0), half(2));
            let (fifths, nibbles) = block[16..].split_at(size - 16 - length / 2);
            for (part, unit) in units.chunks_exact_mut(layout.unit_bytes()).enumerate() {
                let (scale, minimum) = scale_and_minimum(&block[4..16], part);
                let scale = f16::from_f32(d * f32::from(scale));
                let minimum = f16::from_f32(-(d_min * f32::from(minimum)));
                unit[2 * c..2 * c + 2].copy_from_slice(&scale.to_le_bytes());
                unit[2 * (PANEL + c)..2 * (PANEL + c) + 2].copy_from_slice(&minimum.to_le_bytes());
                let nibble = |i: usize| nibbles[part / 2 * BLOCK + i] >> (part % 2 * 4) & 15;
                for i in 0..BLOCK / 2 {
                    let at = layout.quants_at() + 4 * (i / 4 * PANEL + c) + i % 4;
                    unit[at] = nibble(i) | nibble(i + 16) << 4;
                }
                if layout.has_fifth_bit() {
                    for g in 0..BLOCK / 4 {
                        let four = (0..4).fold(0, |bits, j| bits | (fifths[4 * g + j] >> part & 1) << j);
                        unit[layout.fifth_at() + 16 * g + c / 2] |= four << (4 * (c % 2));
                    }
                }
            }
        }
    }
}
