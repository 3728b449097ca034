//! What this machine sustains: read from a file, or measured in about a second.
//!
//! The measurement runs the single-precision products of `ndarray` on every core, and reads memory once through. An
//! engine with better kernels is faster; give its rates with `--flop-rate` and `--bandwidth`.

use std::path::Path;
use std::time::{Duration, Instant};

use foveate_law::cost::Rates;
use ndarray::Array2;

use crate::failure::Failure;

const MAX_BYTES: u64 = 1 << 20;
/// Rows and columns of the products: three such matrices fit into a core's second-level cache.
const SIDE: usize = 256;
/// Numbers read for the bandwidth, 256 MiB: more than any cache holds.
const NUMBERS: usize = 64 << 20;
const PATIENCE: Duration = Duration::from_millis(300);

/// Reads {flops_per_second, bytes_per_second}.
pub(crate) fn read(path: &Path) -> Result<Rates, Failure> {
    let failed = |message: String| Failure::user(format!("{}: {message}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(failed(format!("{size} bytes; a machine file has at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let rates: Rates = serde_json::from_str(&text).map_err(|error| {
        failed(format!("{error}; {{\"flops_per_second\": …, \"bytes_per_second\": …}} is needed"))
    })?;
    Ok(Rates::new(rates.flops_per_second, rates.bytes_per_second)?)
}

/// Measures the rates on all cores.
pub(crate) fn measure() -> Result<Rates, Failure> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Rates::new(on_all(threads, products), reading(threads))?)
}

/// The sum of what `work` reaches on each of `threads` cores at once.
fn on_all(threads: usize, work: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(&work)).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).sum()
    })
}

/// FLOP/s of one core.
fn products() -> f64 {
    let left = Array2::<f32>::from_shape_fn((SIDE, SIDE), |(row, column)| (row * 7 + column) as f32 * 1e-5);
    let right = left.t().to_owned();
    let mut best = 0.0_f64;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let from = Instant::now();
        std::hint::black_box(left.dot(&right));
        best = best.max(2.0 * (SIDE as f64).powi(3) / from.elapsed().as_secs_f64());
    }
    best
}

/// Bytes a second that all cores read together: the best of several passes.
fn reading(threads: usize) -> f64 {
    let numbers = vec![1.0_f32; NUMBERS];
    let mut best = 0.0_f64;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let from = Instant::now();
        std::thread::scope(|scope| {
            for part in numbers.chunks(NUMBERS.div_ceil(threads)) {
                scope.spawn(|| std::hint::black_box(sum(part)));
            }
        });
        best = best.max(size_of_val(numbers.as_slice()) as f64 / from.elapsed().as_secs_f64());
    }
    best
}

/// Many independent sums, so that reading and not adding is the limit.
fn sum(numbers: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 64];
    for chunk in numbers.chunks_exact(64) {
        for (sum, number) in sums.iter_mut().zip(chunk) {
            *sum += number;
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rates_are_of_a_computer() {
        let rates = measure().unwrap();
        assert!((1e8..1e15).contains(&rates.flops_per_second), "{rates:?}");
        assert!((1e8..1e13).contains(&rates.bytes_per_second), "{rates:?}");
    }
}
