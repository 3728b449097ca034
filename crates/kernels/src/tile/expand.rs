//! Weights unpacked once for many rows: what a tile would do to every weight it reads is done once per task instead.

use crate::format::{Layout, PANEL};

/// What weights are unpacked to when there are many rows, if at all: bf16 to f32, nibbles to bytes. The numbers are the
/// same and so are the sums.
pub(crate) fn expanded(layout: Layout) -> Option<Layout> {
    match layout {
        Layout::Bf16 => Some(Layout::F32),
        Layout::Nibbles | Layout::Fives => Some(Layout::Bytes),
        Layout::NibblesMinimum | Layout::FivesMinimum => Some(Layout::BytesMinimum),
        Layout::F32 | Layout::Int8 | Layout::Bytes | Layout::BytesMinimum => None,
    }
}

super::by_width! {
    /// Unpacks units of a panel of `layout` to [`expanded`]`(layout)`.
    pub(crate) fn expand(layout: Layout, units: &[u8], out: &mut [u8]) {
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
