//! Data for the tests: seeded gaussian numbers, stored blocks, and what they stand for in f64.
#![allow(dead_code, clippy::print_stdout, clippy::unwrap_used)]

pub(crate) mod attention;

use foveate_kernels::{Epilogue, Format, Matrix, Path, Pool, Source};
use half::{bf16, f16};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers of a standard normal distribution (Box–Muller).
pub(crate) fn gaussian(seed: u64, count: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || f64::from(random.random::<f32>()).max(1e-12);
    (0..count)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}

/// Weights in some format and the numbers they stand for.
pub(crate) struct Weights {
    pub(crate) format: Format,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) matrix: Matrix,
    /// The stored numbers, after rounding to the format.
    pub(crate) values: Vec<f64>,
    /// The numbers before rounding; the same for stored blocks.
    pub(crate) exact: Vec<f64>,
}

/// Random stored blocks: any bits, small scales.
pub(crate) fn random_blocks(format: Format, seed: u64, numbers: usize) -> Vec<u8> {
    let size = format.block_bytes().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0; numbers / format.block_length().unwrap() * size];
    random.fill(&mut bytes[..]);
    for block in bytes.chunks_exact_mut(size) {
        let mut put = |at: usize, number: f32| {
            let number = f16::from_f32(number * (0.5 + random.random::<f32>()));
            block[at..at + 2].copy_from_slice(&number.to_le_bytes());
        };
        match format {
            Format::Q4_1 | Format::Q5_1 => [(0, 0.01), (2, -0.08)].map(|(at, number)| put(at, number)),
            Format::Q4K | Format::Q5K => [(0, 3e-4), (2, 2e-3)].map(|(at, number)| put(at, number)),
            _ => [(0, 0.01); 2].map(|(at, number)| put(at, number)),
        };
    }
    bytes
}

/// The numbers that stored blocks stand for (layouts of GGUF).
pub(crate) fn dequantise(format: Format, bytes: &[u8]) -> Vec<f64> {
    let mut out = Vec::new();
    for block in bytes.chunks_exact(format.block_bytes().unwrap()) {
        let half = |i: usize| f16::from_le_bytes([block[i], block[i + 1]]).to_f64();
        let fifth = |at: usize, i: usize| i32::from(block[at + i / 8] >> (i % 8) & 1) << 4;
        let nibble = |at: usize, i: usize| i32::from(block[at + i % 16] >> (4 * (i / 16)) & 15);
        // Of a block of 256: the nibble, fifth bit, scale and minimum of number i.
        let wide =
            |at: usize, i: usize| i32::from(block[at + i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15);
        let top = |i: usize| i32::from(block[16 + i % 32] >> (i / 32) & 1) << 4;
        let six = |minimum: usize, i: usize| match i / 32 {
            part @ 0..4 => f64::from(block[4 + 4 * minimum + part] & 63),
            part => {
                let low = block[4 + 4 + part] >> (4 * minimum) & 15;
                f64::from(low | block[4 + 4 * minimum + part - 4] >> 6 << 4)
            }
        };
        out.extend((0..format.block_length().unwrap()).map(|i| match format {
            Format::Q8_0 => half(0) * f64::from(block[2 + i].cast_signed()),
            Format::Q4_0 => half(0) * f64::from(nibble(2, i) - 8),
            Format::Q4_1 => half(0) * f64::from(nibble(4, i)) + half(2),
            Format::Q5_0 => half(0) * f64::from((nibble(6, i) | fifth(2, i)) - 16),
            Format::Q5_1 => half(0) * f64::from(nibble(8, i) | fifth(4, i)) + half(2),
            Format::Q4K => half(0) * six(0, i) * f64::from(wide(16, i)) - half(2) * six(1, i),
            Format::Q5K => half(0) * six(0, i) * f64::from(wide(48, i) | top(i)) - half(2) * six(1, i),
            other => panic!("{other} has no blocks"),
        }));
    }
    out
}

/// Weights of any format: gaussian for those packed from floats, random blocks for the others (k is rounded down).
pub(crate) fn weights(format: Format, seed: u64, n: usize, k: usize, pool: &Pool) -> Weights {
    if !format.takes_floats() {
        let length = format.block_length().unwrap();
        let k = (k / length).max(1) * length;
        let bytes = random_blocks(format, seed, n * k);
        let matrix = Matrix::pack(Source::Blocks(&bytes), format, n, k, pool).unwrap();
        let values = dequantise(format, &bytes);
        return Weights { format, n, k, matrix, exact: values.clone(), values };
    }
    let numbers: Vec<f32> = gaussian(seed, n * k).iter().map(|v| v * 0.05).collect();
    let matrix = Matrix::pack(Source::F32(&numbers), format, n, k, pool).unwrap();
    // Integers are taken as they were packed, each checked to be the nearest, or one of two at the same distance: which of
    // these it is depends on the last bit of a quotient. A number beyond 127 steps is held at 127: the step was rounded
    // to f16, for small numbers by a lot.
    let near = |values: &[f32], step: f32, of: &[f32]| -> Vec<f64> {
        for (value, exact) in values.iter().zip(of) {
            let bound = 0.5001 * step + (exact.abs() - 127.0 * step).max(0.0);
            assert!((value - exact).abs() <= bound, "{format}: {value} for {exact}, steps of {step}");
        }
        values.iter().map(|&v| f64::from(v)).collect()
    };
    let largest = |part: &[f32]| part.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let mut packed = vec![0.0; n * k];
    matrix.rows(&(0..n as u32).collect::<Vec<_>>(), &mut packed).unwrap();
    let values: Vec<f64> = match format {
        Format::Bf16 => numbers.iter().map(|&v| bf16::from_f32(v).to_f64()).collect(),
        Format::F16 => numbers.iter().map(|&v| f16::from_f32(v).to_f64()).collect(),
        Format::Int8 => packed
            .chunks(k)
            .zip(numbers.chunks(k))
            .flat_map(|(row, of)| near(row, largest(of) / 127.0, of))
            .collect(),
        Format::Q8_0 => packed
            .chunks(k)
            .zip(numbers.chunks(k))
            .flat_map(|(row, of)| row.chunks(32).zip(of.chunks(32)))
            .flat_map(|(part, of)| near(part, f16::from_f32(largest(of) / 127.0).to_f32(), of))
            .collect(),
        _ => numbers.iter().map(|&v| f64::from(v)).collect(),
    };
    Weights { format, n, k, matrix, values, exact: numbers.iter().map(|&v| f64::from(v)).collect() }
}

/// x · Wᵀ in f64, and the sum of the magnitudes of its terms.
pub(crate) fn reference(x: &[f32], values: &[f64], rows: usize, n: usize, k: usize) -> Vec<(f64, f64)> {
    let mut out = Vec::with_capacity(rows * n);
    for row in 0..rows {
        for column in 0..n {
            let terms = (0..k).map(|i| f64::from(x[row * k + i]) * values[column * k + i]);
            out.push(terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs())));
        }
    }
    out
}

/// The activations that a path multiplies weights of this format with: rounded to bf16 where the instruction asks for it.
/// Blocks and bytes have bounds of their own for what is rounded there.
pub(crate) fn taken(format: Format, path: Path, x: &[f32]) -> Vec<f32> {
    if (format, path) == (Format::Bf16, Path::Avx512Bf16) {
        x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect()
    } else {
        x.to_vec()
    }
}

/// The product on a path.
pub(crate) fn product(
    weights: &Weights,
    path: Path,
    x: &[f32],
    rows: usize,
    epilogue: &Epilogue<'_>,
    pool: &Pool,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows * weights.n];
    weights.matrix.multiply_on(path, x, rows, &mut out, epilogue, pool).unwrap();
    out
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn relative_error(a: &[f32], b: impl Iterator<Item = f64>) -> f64 {
    let (error, size) =
        a.iter().zip(b).fold((0.0, 0.0), |(e, s), (&a, b)| (e + (f64::from(a) - b).powi(2), s + b * b));
    (error / size).sqrt()
}

/// Says on the test's output which paths this machine lacks; returns those it has.
pub(crate) fn paths() -> Vec<Path> {
    for path in Path::ALL {
        if !path.is_available() {
            println!("skipped on this machine: {path}");
        }
    }
    Path::available()
}
