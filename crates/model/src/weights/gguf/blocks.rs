//! Blocks of 32 quantised numbers, expanded to f32.
//!
//! Each block has one scale `d` in f16 and, in the `_1` kinds, an offset `m`: q·d, or q·d + m. The first half of a
//! block lies in the low nibbles and the second half in the high ones. The operations and their order are those of the
//! reference (gguf-py), so the results are equal to the bit.

use half::f16;

/// Numbers in a block.
pub(super) const LENGTH: usize = 32;

/// f16 scale at the start, 16 bytes of nibbles q, which stand for q − 8.
pub(super) fn q4_0(block: &[u8; 18], out: &mut [f32; LENGTH]) {
    let [d] = scales(block);
    for (i, byte) in block[2..].iter().enumerate() {
        out[i] = d * (f32::from(byte & 15) - 8.0);
        out[i + 16] = d * (f32::from(byte >> 4) - 8.0);
    }
}

/// Scale, offset, 16 bytes of nibbles.
pub(super) fn q4_1(block: &[u8; 20], out: &mut [f32; LENGTH]) {
    let [d, m] = scales(block);
    for (i, byte) in block[4..].iter().enumerate() {
        out[i] = d * f32::from(byte & 15) + m;
        out[i + 16] = d * f32::from(byte >> 4) + m;
    }
}

/// Scale, 32 fifth bits, 16 bytes of nibbles; q stands for q − 16.
pub(super) fn q5_0(block: &[u8; 22], out: &mut [f32; LENGTH]) {
    let [d] = scales(block);
    let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (i, byte) in block[6..].iter().enumerate() {
        out[i] = d * (f32::from(byte & 15 | fifth_bit(fifth, i)) - 16.0);
        out[i + 16] = d * (f32::from(byte >> 4 | fifth_bit(fifth, i + 16)) - 16.0);
    }
}

/// Scale, offset, 32 fifth bits, 16 bytes of nibbles.
pub(super) fn q5_1(block: &[u8; 24], out: &mut [f32; LENGTH]) {
    let [d, m] = scales(block);
    let fifth = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (i, byte) in block[8..].iter().enumerate() {
        out[i] = d * f32::from(byte & 15 | fifth_bit(fifth, i)) + m;
        out[i + 16] = d * f32::from(byte >> 4 | fifth_bit(fifth, i + 16)) + m;
    }
}

/// Scale, 32 signed bytes.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; LENGTH]) {
    let [d] = scales(block);
    for (out, byte) in out.iter_mut().zip(&block[2..]) {
        *out = d * f32::from(byte.cast_signed());
    }
}

/// The `N` f16 numbers at the start of a block.
pub(super) fn scales<const N: usize>(block: &[u8]) -> [f32; N] {
    std::array::from_fn(|i| f16::from_le_bytes([block[2 * i], block[2 * i + 1]]).to_f32())
}

/// Bit `i` of `bits`, in the place of the fifth bit.
fn fifth_bit(bits: u32, i: usize) -> u8 {
    ((bits >> i & 1) << 4) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nibbles i and 15 − i in byte i, after `head`.
    fn block<const N: usize>(head: &[u8]) -> [u8; N] {
        let nibbles = (0..16u8).map(|i| i | (15 - i) << 4);
        let mut bytes = head.iter().copied().chain(nibbles);
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }

    // f16: 0.5 is 0x3800, -2 is 0xC000.
    const HALF: [u8; 2] = [0x00, 0x38];
    const MINUS_TWO: [u8; 2] = [0x00, 0xC0];

    #[test]
    fn four_bit_blocks_by_hand() {
        let mut out = [0.0; LENGTH];
        q4_0(&block(&HALF), &mut out);
        assert_eq!([out[0], out[1], out[15], out[16], out[31]], [-4.0, -3.5, 3.5, 3.5, -4.0]);
        q4_1(&block(&[HALF, MINUS_TWO].concat()), &mut out);
        assert_eq!([out[0], out[1], out[15], out[16], out[31]], [-2.0, -1.5, 5.5, 5.5, -2.0]);
    }

    #[test]
    fn the_fifth_bit_adds_sixteen_to_its_own_number() {
        let mut out = [0.0; LENGTH];
        // Bits 1 and 31.
        let fifth = [0b10, 0, 0, 0x80];
        q5_0(&block(&[&HALF[..], &fifth].concat()), &mut out);
        assert_eq!([out[0], out[1], out[2], out[16], out[31]], [-8.0, 0.5, -7.0, -0.5, 0.0]);
        q5_1(&block(&[&HALF[..], &MINUS_TWO, &fifth].concat()), &mut out);
        assert_eq!([out[0], out[1], out[2], out[16], out[31]], [-2.0, 6.5, -1.0, 5.5, 6.0]);
    }

    #[test]
    fn eight_bit_numbers_are_signed() {
        let mut bytes = [0; 34];
        bytes[..2].copy_from_slice(&HALF);
        bytes[2] = 0x80;
        bytes[33] = 0x7F;
        let mut out = [1.0; LENGTH];
        q8_0(&bytes, &mut out);
        assert_eq!([out[0], out[1], out[31]], [-64.0, 0.0, 63.5]);
    }
}
