//! Small squares, transposed in registers.

use crate::format::PANEL;

/// Four rows of equal length into columns `j` to `j + 3` of `[number][32]`.
pub(crate) fn transpose(rows: [&[f32]; 4], j: usize, to: &mut [f32]) {
    let fours = rows.map(|row| row.as_chunks::<4>().0);
    let (whole, length) = (fours[0].len(), rows[0].len());
    for i in 0..whole {
        let block = [fours[0][i], fours[1][i], fours[2][i], fours[3][i]];
        let to = &mut to[4 * i * PANEL..4 * (i + 1) * PANEL];
        for (n, column) in transpose_block(block).into_iter().enumerate() {
            to[n * PANEL + j..n * PANEL + j + 4].copy_from_slice(&column);
        }
    }
    for i in 4 * whole..length {
        for (n, row) in rows.iter().enumerate() {
            to[i * PANEL + j + n] = row[i];
        }
    }
}

/// A 4 × 4 matrix transposed; on x86-64 in eight shuffles, which every processor has.
#[inline(always)]
pub(crate) fn transpose_block(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and arrays of four floats are as large as its registers.
    unsafe {
        use std::arch::x86_64::{__m128, _MM_TRANSPOSE4_PS};
        let [mut a, mut b, mut c, mut d] = std::mem::transmute::<[[f32; 4]; 4], [__m128; 4]>(rows);
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        std::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([a, b, c, d])
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::array::from_fn(|i| std::array::from_fn(|j| rows[j][i]))
}
