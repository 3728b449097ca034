//! The instruction sets a product can run on, found at run time.

use std::fmt;
use std::sync::OnceLock;

use crate::error::{Error, Result};

/// A set of instructions that the inner loops are written for, in rising order of speed.
///
/// # The open seam
/// A new path is a new variant here, its test in [`Path::is_available`], and a row in `tile::tiles`. One is foreseen.
/// *aarch64*: NEON's `fmla` and `sdot` take the same panels, with the bias of 128 removed from the integer weights. It is
/// not written, because no machine to run it was at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Path {
    /// Plain Rust for any processor; the others are tested against it.
    Portable,
    /// x86-64 with AVX2, FMA and F16C: 8 numbers at a time, integers by `vpmaddubsw`.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL: 16 numbers at a time; integers as on [`Path::Avx2`].
    Avx512,
    /// [`Path::Avx512`] with VNNI: integers by `vpdpbusd`.
    Avx512Vnni,
    /// [`Path::Avx512Vnni`] with BF16: weights kept as [`Format::Bf16`](crate::Format::Bf16) by `vdpbf16ps`, two products
    /// a lane. Everything else, gradients through bf16 weights too, is as on [`Path::Avx512Vnni`].
    ///
    /// # What is rounded
    /// The instruction multiplies bf16 with bf16, so activations are rounded to nearest even as well, by 2⁻⁸ of
    /// themselves at most; those beyond bf16's largest number, 3.39e38, become infinite. Products are exact and are
    /// added one by one (of a pair the second first), each sum rounded to nearest even in f32. Subnormal numbers, as
    /// operands and as sums, count as zero; the processor's rounding mode does not matter.
    ///
    /// So a result lies within k · 2⁻²⁴ · Σ|x·w| of the exact product of the *rounded* activations with the stored
    /// weights, as on the other paths for activations as they are. Rounding x adds 2⁻⁸ · Σ|x·w| at most; over a layer of
    /// numbers that are not special, weights and activations together are off by 2.4e-3 of the output's Frobenius norm,
    /// where the weights alone make 1.7e-3.
    Avx512Bf16,
}

impl Path {
    /// All paths, slowest first.
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vnni, Self::Avx512Bf16];

    /// Whether this processor (and its operating system) can run the path.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            };
            let avx512 = || {
                avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            };
            let vnni = || avx512() && is_x86_feature_detected!("avx512vnni");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2(),
                Self::Avx512 => avx512(),
                Self::Avx512Vnni => vnni(),
                Self::Avx512Bf16 => vnni() && is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// The paths of this machine, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|path| path.is_available()).collect()
    }

    /// The fastest path of this machine; asked of the processor once.
    ///
    /// [`Path::Avx512Bf16`] is so on AMD's processors alone. A Xeon of 2023 (with AMX, which has instructions of its own for
    /// bf16) did 160 GFLOP/s with it on two cores where plain f32 did 320
    /// (`bench/results/2026-11-23-avx512-bf16.md`). A rule and no trial run: which path is taken decides the last bits of
    /// every answer, and must not change from one start to the next.
    #[must_use]
    pub fn best() -> Self {
        static BEST: OnceLock<Path> = OnceLock::new();
        *BEST.get_or_init(|| {
            let worth = |path: &Path| *path != Self::Avx512Bf16 || doubles_bf16();
            Self::available().into_iter().filter(worth).max().unwrap_or(Self::Portable)
        })
    }

    /// # Errors
    /// [`Error::Unavailable`] if this machine does not have the path.
    pub(crate) fn check(self) -> Result<()> {
        if self == Self::best() || self.is_available() {
            return Ok(());
        }
        let names: Vec<String> = Self::available().iter().map(ToString::to_string).collect();
        Err(Error::Unavailable { path: self, available: names.join(", ") })
    }
}

/// Whether the processor is of a maker whose `vdpbf16ps` takes as long as a multiply-add of f32, for twice the products.
fn doubles_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let maker = std::arch::x86_64::__cpuid(0);
        let name = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
        name.as_flattened() == b"AuthenticAMD"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
            Self::Avx512Vnni => "AVX-512 VNNI",
            Self::Avx512Bf16 => "AVX-512 BF16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_path_is_available_and_the_portable_one_always() {
        let available = Path::available();
        assert!(available.contains(&Path::Portable));
        let passed_over = available.iter().filter(|path| **path > Path::best());
        assert!(available.contains(&Path::best()));
        assert!(passed_over.into_iter().all(|path| *path == Path::Avx512Bf16), "{available:?}");
        for path in Path::ALL {
            assert_eq!(path.check().is_ok(), available.contains(&path), "{path}");
        }
    }
}
