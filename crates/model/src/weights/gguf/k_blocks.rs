//! "K-quant" blocks of 256 numbers, expanded to f32.
//!
//! A block has f16 scales for the whole and small integer scales for its 8 or 16 parts. The operations and their order
//! are those of the reference (gguf-py), so the results are equal to the bit. Byte layouts follow each name.

use super::blocks::scales;

/// Numbers in a block.
pub(super) const LENGTH: usize = 256;

/// `scales` 16 (low nibble scale, high nibble minimum), `q` 64 (two bits), `d`, `d_min`: q·scale·d − minimum·d_min.
pub(super) fn q2_k(block: &[u8; 84], out: &mut [f32; LENGTH]) {
    let (parts, quants) = (&block[..16], &block[16..80]);
    let [d, d_min] = scales(&block[80..]);
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(parts[part] & 15);
        let minimum = d_min * f32::from(parts[part] >> 4);
        let (start, shift) = two_bit_place(part);
        for (out, byte) in out.iter_mut().zip(&quants[start..]) {
            *out = scale * f32::from(byte >> shift & 3) - minimum;
        }
    }
}

/// `high` 32 (third bits), `q` 64 (two bits), `scales` 12 (sixteen of six bits, stored plus 32), `d`: q·scale·d, where a
/// third bit of 0 takes 4 off q.
pub(super) fn q3_k(block: &[u8; 110], out: &mut [f32; LENGTH]) {
    let (high, quants, parts) = (&block[..32], &block[32..96], &block[96..108]);
    let [d] = scales(&block[108..]);
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let low_bits = if part < 8 { parts[part] & 15 } else { parts[part - 8] >> 4 };
        let high_bits = parts[8 + part % 4] >> (2 * (part / 4)) & 3;
        let scale = d * (f32::from(low_bits | high_bits << 4) - 32.0);
        let (start, shift) = two_bit_place(part);
        for (i, out) in out.iter_mut().enumerate() {
            let third = high[part % 2 * 16 + i] >> (part / 2) & 1;
            let quant = f32::from(quants[start + i] >> shift & 3) - if third == 0 { 4.0 } else { 0.0 };
            *out = scale * quant;
        }
    }
}

/// `d`, `d_min`, `scales` 12 (see [`scale_and_minimum`]), `q` 128 (four bits): q·scale·d − minimum·d_min.
pub(super) fn q4_k(block: &[u8; 144], out: &mut [f32; LENGTH]) {
    let [d, d_min] = scales(block);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], part);
        let (scale, minimum) = (d * f32::from(scale), d_min * f32::from(minimum));
        let quants = &block[16 + part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        for (out, byte) in out.iter_mut().zip(quants) {
            *out = scale * f32::from(byte >> shift & 15) - minimum;
        }
    }
}

/// `d`, `d_min`, `scales` 12 (see [`scale_and_minimum`]), `high` 32 (fifth bits), `q` 128 (four bits): as [`q4_k`].
pub(super) fn q5_k(block: &[u8; 176], out: &mut [f32; LENGTH]) {
    let [d, d_min] = scales(block);
    let high = &block[16..48];
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(&block[4..16], part);
        let (scale, minimum) = (d * f32::from(scale), d_min * f32::from(minimum));
        let quants = &block[48 + part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        for ((out, byte), high) in out.iter_mut().zip(quants).zip(high) {
            *out = scale * f32::from(byte >> shift & 15 | (high >> part & 1) << 4) - minimum;
        }
    }
}

/// `low` 128 (four bits), `high` 64 (two bits), `scales` 16 (signed), `d`: (q − 32)·scale·d.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; LENGTH]) {
    let (low, high, parts) = (&block[..128], &block[128..192], &block[192..208]);
    let [d] = scales(&block[208..]);
    for (part, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(parts[part].cast_signed());
        // Each half of 128 numbers has four runs of 32: the low nibbles of 64 bytes, then their high nibbles, and two
        // bits each of the same 32 bytes.
        let (half, run, odd) = (part / 8, part % 8 / 2, part % 2);
        let low = &low[half * 64 + run % 2 * 32 + odd * 16..][..16];
        let high = &high[half * 32 + odd * 16..][..16];
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let quant = low >> (run / 2 * 4) & 15 | (high >> (run * 2) & 3) << 4;
            *out = scale * (f32::from(quant) - 32.0);
        }
    }
}

/// Where the two-bit numbers of part `part` (of 16) are: the first of its bytes, and the shift. Each half of 128 numbers
/// has 32 bytes, read four times with growing shifts.
fn two_bit_place(part: usize) -> (usize, usize) {
    (part / 8 * 32 + part % 2 * 16, part % 8 / 2 * 2)
}

/// The six-bit scale and minimum of part `part` (of 8). Parts 0 to 3 have a byte each; the top two bits of those bytes
/// are the top bits of parts 4 to 7, whose low nibbles share the last four bytes.
fn scale_and_minimum(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let scale = packed[part + 4] & 15 | packed[part - 4] >> 6 << 4;
    let minimum = packed[part + 4] >> 4 | packed[part] >> 6 << 4;
    (scale, minimum)
}
