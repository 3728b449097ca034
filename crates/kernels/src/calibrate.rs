//! What this machine can do at most: arithmetic from registers alone, and reads from memory.
//!
//! Measured in slices of about a millisecond, of which the best counts: on a machine with other work the mean says how
//! busy it was, the best what it can do.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Path;
use crate::buffer::Buffer;
use crate::error::Result;
use crate::pool::Pool;

/// The arithmetic of an inner loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Arithmetic {
    /// f32 multiplications and additions, as for weights in f32, f16 and mostly bf16.
    Float,
    /// Products of pairs of bf16 added up in f32, as for weights in bf16 on [`Path::Avx512Bf16`]; on the other paths, which
    /// multiply these as f32, the same as [`Arithmetic::Float`].
    Bf16,
    /// Byte products added up in 32 bits, as for the integer formats.
    Byte,
}

/// Operations per second (a multiplication and an addition are two) that all threads of `pool` together reach on `path`
/// with every operand in a register: the best of `slices` slices of about a millisecond.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) if this machine does not have the path.
pub fn peak(path: Path, arithmetic: Arithmetic, pool: &Pool, slices: usize) -> Result<f64> {
    path.check()?;
    let threads = pool.threads();
    let (mut together, mut apart) = (0.0_f64, 0.0_f64);
    for _ in 0..slices.max(1) {
        let mut speeds = vec![0.0_f64; threads];
        let (arrived, alone) = (AtomicUsize::new(0), AtomicBool::new(false));
        {
            let results = crate::chunks::Chunks::new(&mut speeds, 1);
            pool.run(threads, |i| {
                // All threads at once: cores that share units or a power budget slow each other down.
                arrived.fetch_add(1, Ordering::SeqCst);
                let start = Instant::now();
                while arrived.load(Ordering::SeqCst) < threads && !alone.load(Ordering::Relaxed) {
                    alone.fetch_or(start.elapsed() > Duration::from_millis(1), Ordering::Relaxed);
                }
                let start = Instant::now();
                let operations = slice(path, arithmetic, 20_000);
                if let [speed] = results.take(i) {
                    *speed = operations / start.elapsed().as_secs_f64();
                }
            });
        }
        let best = if alone.into_inner() { &mut apart } else { &mut together };
        *best = best.max(speeds.iter().sum());
    }
    // If the system never ran them together, what they did one by one is all there is to say.
    Ok(if together > 0.0 { together } else { apart })
}

/// Operations per second that all threads of `pool` together keep up for `time`, with every operand in a register.
///
/// Unlike [`peak`] a mean: on a machine with other work it is what a product of the same length could have got at most.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) if this machine does not have the path.
pub fn sustained(path: Path, arithmetic: Arithmetic, pool: &Pool, time: Duration) -> Result<f64> {
    path.check()?;
    let operations = std::sync::Mutex::new(0.0);
    let start = Instant::now();
    pool.run(pool.threads(), |_| {
        let mut own = 0.0;
        while start.elapsed() < time {
            own += slice(path, arithmetic, 500);
        }
        *operations.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += own;
    });
    let elapsed = start.elapsed().as_secs_f64();
    let total = *operations.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(total / elapsed)
}

/// `rounds` rounds of independent operations; returns how many operations that were.
fn slice(path: Path, arithmetic: Arithmetic, rounds: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        match (path, arithmetic) {
            (Path::Portable, _) => {}
            // SAFETY: the callers have checked that the processor has the path.
            (Path::Avx512Bf16, Arithmetic::Bf16) => return unsafe { x86::avx512_bf16(rounds) },
            // SAFETY: as above.
            (Path::Avx2, Arithmetic::Float | Arithmetic::Bf16) => return unsafe { x86::avx2_float(rounds) },
            // SAFETY: as above.
            (Path::Avx2 | Path::Avx512, Arithmetic::Byte) => return unsafe { x86::avx2_byte(rounds) },
            (_, Arithmetic::Float | Arithmetic::Bf16) => {
                // SAFETY: as above; these are the paths of AVX-512.
                return unsafe { x86::avx512_float(rounds) };
            }
            // SAFETY: as above; of these paths, the ones with VNNI.
            (_, Arithmetic::Byte) => return unsafe { x86::avx512_byte(rounds) },
        }
    }
    let _ = path;
    match arithmetic {
        Arithmetic::Float | Arithmetic::Bf16 => {
            let (a, b) = (black_box(0.5_f32), black_box(1.0_f32));
            let mut sums = [black_box(0.0_f32); 32];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = *sum * a + b;
                }
            }
            black_box(sums);
        }
        Arithmetic::Byte => {
            let (a, b) = (black_box([3_i16; 32]), black_box([-5_i16; 32]));
            let mut sums = [black_box(0_i32); 32];
            for _ in 0..rounds {
                let a = black_box(a);
                for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                    *sum = sum.wrapping_add(i32::from(a) * i32::from(b));
                }
            }
            black_box(sums);
        }
    }
    (rounds * 64) as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Independent sums: enough to hide the latency of any of the instructions, few enough for 16 registers.
    const CHAINS: usize = 12;

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2_float(rounds: usize) -> f64 {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [_mm256_set1_ps(black_box(0.0)); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (rounds * CHAINS * 8 * 2) as f64
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn avx2_byte(rounds: usize) -> f64 {
        let (a, ones) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi16(1));
        let mut sums = [_mm256_set1_epi32(black_box(0)); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                // The bytes come from the sum itself so that the products cannot be taken out of the loop.
                let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(a, *sum), ones);
                *sum = _mm256_add_epi32(*sum, pairs);
            }
        }
        black_box(sums);
        (rounds * CHAINS * 32 * 2) as f64
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512_float(rounds: usize) -> f64 {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
        let mut sums = [_mm512_set1_ps(black_box(0.0)); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (rounds * CHAINS * 16 * 2) as f64
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512_byte(rounds: usize) -> f64 {
        let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-5)));
        let mut sums = [_mm512_set1_epi32(black_box(0)); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        (rounds * CHAINS * 64 * 2) as f64
    }

    /// As many sums as the tile of twelve rows has: some processors take longer for each than for a sum of f32.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn avx512_bf16(rounds: usize) -> f64 {
        let pairs = |pair: i32| {
            // SAFETY: both are 512 bits, any of which are values.
            unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(black_box(pair))) }
        };
        // Pairs of 1/2 and of 1.
        let (a, b) = (pairs(0x3F00_3F00), pairs(0x3F80_3F80));
        let mut sums = [_mm512_set1_ps(black_box(0.0)); 2 * CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, b);
            }
        }
        black_box(sums);
        (rounds * 2 * CHAINS * 32 * 2) as f64
    }
}

/// Bytes per second that all threads of `pool` together read from memory, in order, best of the passes that fit into
/// `time` (at least two). Reads 256 MiB, more than caches hold.
#[must_use]
pub fn read_bandwidth(pool: &Pool, time: Duration) -> f64 {
    const BYTES: usize = 256 << 20;
    const PART: usize = 1 << 20;
    let mut buffer = Buffer::new(BYTES);
    // Every page must be there, and none the shared page of zeros.
    buffer.view_mut::<u32>().iter_mut().step_by(512).for_each(|word| *word = 1);
    let words = buffer.view::<u32>();
    let width = crate::tile::Width::of(Path::best());
    let start = Instant::now();
    let mut best = 0.0_f64;
    for pass in 0.. {
        if pass >= 2 && start.elapsed() >= time {
            break;
        }
        let start = Instant::now();
        pool.run(BYTES / PART, |part| {
            black_box(total(width, &words[part * PART / 4..(part + 1) * PART / 4]));
        });
        best = best.max(BYTES as f64 / start.elapsed().as_secs_f64());
    }
    best
}

crate::tile::by_width! {
    /// The sum of all words: cheap enough that reading is what takes time.
    fn total(words: &[u32]) -> u32 {
        let mut sums = [0_u32; 64];
        for part in words.chunks_exact(64) {
            for (sum, word) in sums.iter_mut().zip(part) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fast_paths_are_faster_and_every_figure_is_plausible() {
        let pool = Pool::new(1).unwrap();
        for arithmetic in [Arithmetic::Float, Arithmetic::Bf16, Arithmetic::Byte] {
            let peaks: Vec<f64> =
                Path::available().iter().map(|&path| peak(path, arithmetic, &pool, 20).unwrap()).collect();
            assert!(peaks.iter().all(|peak| (1e8..1e13).contains(peak)), "{peaks:?}");
            // The best path may tie with its predecessor, never with the portable one by more than noise.
            assert!(peaks.last() > peaks.first() || peaks.len() == 1, "{peaks:?}");
        }
    }
}
