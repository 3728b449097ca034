//! Weights unpacked once for many rows: what a tile would do to every weight it reads is done once per task instead.

use super::{Width, half_at};
use crate::format::{Layout, PANEL};

/// What weights are unpacked to when there are many rows, if at all: bf16 and f16 to f32, nibbles to bytes. The numbers
/// are the same and so are the sums.
pub(crate) fn expanded(layout: Layout) -> Option<Layout> {
    match layout {
        Layout::Bf16 | Layout::F16 => Some(Layout::F32),
        Layout::Nibbles | Layout::Fives => Some(Layout::Bytes),
        Layout::NibblesMinimum | Layout::FivesMinimum => Some(Layout::BytesMinimum),
        Layout::F32 | Layout::Int8 | Layout::Bytes | Layout::BytesMinimum => None,
    }
}

/// Unpacks units of a panel of `layout` to [`expanded`]`(layout)`.
pub(crate) fn expand(width: Width, layout: Layout, units: &[u8], out: &mut [u8]) {
    if layout == Layout::F16 { halves(width, units, out) } else { others(width, layout, units, out) }
}

/// f16 to f32. By hand, because the library asks for the instruction at every number, and the compiler then makes no
/// vectors.
fn halves(width: Width, halves: &[u8], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if width != Width::Base {
        // SAFETY: a `Width` is made only from a path whose instructions were found on this processor; both wider ones
        // come with F16C.
        return unsafe { halves_f16c(halves, out) };
    }
    let _ = width;
    for (half, out) in halves.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<4>().0) {
        *out = half_at(half, 0).to_le_bytes();
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx,f16c")]
fn halves_f16c(halves: &[u8], out: &mut [u8]) {
    use std::arch::x86_64::*;
    for (halves, out) in halves.as_chunks::<16>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        // SAFETY: eight numbers of two bytes and of four.
        unsafe {
            let floats = _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast()));
            _mm256_storeu_ps(out.as_mut_ptr().cast(), floats);
        }
    }
}

super::by_width! {
    fn others(layout: Layout, units: &[u8], out: &mut [u8]) {
        let Some(wider) = expanded(layout) else { return };
        // Units of bf16 become two of f32.
        let ratio = layout.step() / wider.step();
        let pairs = units.chunks_exact(layout.unit_bytes()).zip(out.chunks_exact_mut(ratio * wider.unit_bytes()));
        for (unit, out) in pairs {
            if layout == Layout::Bf16 {
                let (even, odd) = out.split_at_mut(4 * PANEL);
                for ((pair, even), odd) in
                    unit.chunks_exact(4).zip(even.chunks_exact_mut(4)).zip(odd.chunks_exact_mut(4))
                {
                    let pair = u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]);
                    even.copy_from_slice(&(pair << 16).to_le_bytes());
                    odd.copy_from_slice(&(pair & 0xFFFF_0000).to_le_bytes());
                }
                continue;
            }
            let head = layout.fifth_at();
            out[..head].copy_from_slice(&unit[..head]);
            let (low, high) = out[head..].split_at_mut(16 * PANEL);
            let bias = 128 - layout.bias() as u8;
            for ((byte, low), high) in unit[layout.quants_at()..].iter().zip(&mut *low).zip(&mut *high) {
                *low = (byte & 15) + bias;
                *high = (byte >> 4) + bias;
            }
            if layout.has_fifth_bit() {
                let fifths = &unit[head..layout.quants_at()];
                for (eight, bits) in out[head..].chunks_exact_mut(8).zip(fifths) {
                    for (i, byte) in eight.iter_mut().enumerate() {
                        *byte += (bits >> i & 1) << 4;
                    }
                }
            }
        }
    }
}
