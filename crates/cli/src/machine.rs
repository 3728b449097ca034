//! What this machine sustains: written by `foveate bench`, or measured in about a second.
//!
//! The quick measurement runs products of the kernels that models run on, on every core, and reads memory once through.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foveate_kernels::{Epilogue, Format, Matrix, Pool, Source, calibrate};
use foveate_law::cost::Rates;
use serde::Deserialize;

use crate::failure::Failure;

const MAX_BYTES: u64 = 1 << 20;
/// The shape of the measured product: rows, outputs, inputs, as a layer of a vision tower has them.
const SHAPE: [usize; 3] = [256, 1024, 1024];
const PATIENCE: Duration = Duration::from_millis(400);

/// What is read of a machine file; `foveate bench` writes more.
#[derive(Deserialize)]
struct Stored {
    flops_per_second: f64,
    bytes_per_second: f64,
}

/// Reads {flops_per_second, bytes_per_second, …}.
pub(crate) fn read(path: &Path) -> Result<Rates, Failure> {
    let failed = |message: String| Failure::user(format!("{}: {message}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(failed(format!("{size} bytes; a machine file has at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let stored: Stored = serde_json::from_str(&text).map_err(|error| {
        failed(format!("{error}; {{\"flops_per_second\": …, \"bytes_per_second\": …}} is needed"))
    })?;
    Rates::new(stored.flops_per_second, stored.bytes_per_second).map_err(|error| failed(error.to_string()))
}

/// Where `foveate bench` writes its profile unless told otherwise, and `foveate plan` looks for it:
/// `$XDG_CACHE_HOME/foveate/machine.json`, in `~/.cache` where the variable is not set. `None` without a home.
pub(crate) fn profile_path() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("foveate").join("machine.json"))
}

/// The rates of the profile, where there is one; else measured now.
pub(crate) fn rates() -> Result<Rates, Failure> {
    match profile_path().filter(|path| path.exists()) {
        Some(path) => read(&path),
        None => measure(),
    }
}

/// Measures the rates on all cores.
pub(crate) fn measure() -> Result<Rates, Failure> {
    let failed = |error: foveate_kernels::Error| Failure::Other(error.into());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = Pool::new(threads).map_err(failed)?;
    let [rows, n, k] = SHAPE;
    let numbers = |count: usize| (0..count).map(|i| (i % 97) as f32 * 1e-2 - 0.5).collect::<Vec<f32>>();
    let (weights, x, mut out) = (numbers(n * k), numbers(rows * k), vec![0.0; rows * n]);
    let matrix = Matrix::pack(Source::F32(&weights), Format::Bf16, n, k, &pool).map_err(failed)?;
    let mut best = 0.0_f64;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let from = Instant::now();
        matrix.multiply(&x, rows, &mut out, &Epilogue::default(), &pool).map_err(failed)?;
        best = best.max(2.0 * (rows * n * k) as f64 / from.elapsed().as_secs_f64());
    }
    Ok(Rates::new(best, calibrate::read_bandwidth(&pool, PATIENCE))?)
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

    #[test]
    fn a_profile_may_say_more_and_not_less() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.json");
        std::fs::write(&path, r#"{"flops_per_second": 5e11, "bytes_per_second": 2e10, "model": "x"}"#)
            .unwrap();
        assert_eq!(read(&path).unwrap(), Rates::new(5e11, 2e10).unwrap());
        for text in [r#"{"flops_per_second": 5e11}"#, r#"{"flops_per_second": 0, "bytes_per_second": 1}"#] {
            std::fs::write(&path, text).unwrap();
            let Err(Failure::User(error)) = read(&path) else { panic!("{text} was read") };
            assert!(error.to_string().contains("machine.json"), "{error}");
        }
    }
}
