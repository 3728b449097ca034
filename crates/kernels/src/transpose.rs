//! Small squares, transposed in registers.

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
