//! How near the products come to what the machine can do: operations per second of every path, format and shape as a
//! share of a loop on registers alone, and for one row the bytes of weights read per second beside the memory's.
//!
//! `cargo run --release -p foveate-kernels --example peak -- [THREADS] [MILLISECONDS A ROW] [FORMATS] [PATHS]`
//!
//! Each product is followed by a register loop of the same length, and the share is the median of their ratios: other
//! work on the machine then spoils both alike. The best product is shown beside it. With one thread the time is that of
//! the processor and not of the clock on the wall.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use foveate_kernels::calibrate::{Arithmetic, peak, read_bandwidth, sustained};
use foveate_kernels::{Epilogue, Format, Matrix, Path, Pool, Source};

/// Rows, k, n: CLIP-L/14-336 on one image, then SmolLM2-135M on 626, 86, 51 tokens and on one.
const SHAPES: [(usize, usize, usize); 14] = [
    (577, 1024, 1024),
    (577, 1024, 4096),
    (577, 4096, 1024),
    (626, 576, 576),
    (626, 576, 1536),
    (626, 1536, 576),
    (86, 576, 1536),
    (51, 576, 576),
    (51, 576, 1536),
    (51, 1536, 576),
    (1, 576, 576),
    (1, 576, 1536),
    (1, 1536, 576),
    (1, 576, 49152),
];

fn pseudo_random(count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) & 255) as f32 / 256.0 - 0.5)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let time = Duration::from_millis(arguments.next().map_or(Ok(200), |text| text.parse())?);
    let mut list =
        || arguments.next().map_or_else(Vec::new, |list| list.split(',').map(String::from).collect());
    let (formats, paths): (Vec<String>, Vec<String>) = (list(), list());
    let pool = Pool::new(threads)?;
    let bandwidth = read_bandwidth(&pool, 5 * time);
    println!("{threads} threads; memory read at {:.1} GB/s", bandwidth * 1e-9);
    println!(
        "path | format | rows x k -> n | best ms | G/s | of the peak's | median share of the loop beside it | weights GB/s | share of reads"
    );
    for (rows, k, n) in SHAPES {
        let x: Vec<f32> = pseudo_random(rows * k).collect();
        let weights: Vec<f32> = pseudo_random(n * k).collect();
        let mut out = vec![0.0; rows * n];
        for format in Format::ALL {
            if !formats.is_empty() && !formats.contains(&format.to_string()) {
                continue;
            }
            if format.block_length().is_some_and(|length| k % length != 0) {
                continue;
            }
            let source = match format.block_length().zip(format.block_bytes()) {
                Some((length, bytes)) if !format.takes_floats() => {
                    Source::Blocks(&vec![0x21; n * k / length * bytes])
                }
                _ => Source::F32(&weights),
            };
            let matrix = Matrix::pack(source, format, n, k, &pool)?;
            let arithmetic = match format {
                Format::F32 | Format::F16 => Arithmetic::Float,
                Format::Bf16 => Arithmetic::Bf16,
                _ => Arithmetic::Byte,
            };
            for path in Path::available() {
                // The portable path takes too long on the big ones, and its numbers are known to be poor.
                if !paths.is_empty() && !paths.contains(&path.to_string())
                    || path == Path::Portable && rows * n * k > 100_000_000
                {
                    continue;
                }
                let register = peak(path, arithmetic, &pool, 20)?;
                let operations = 2.0 * (rows * n * k) as f64;
                let (start, mut best, mut shares) = (Instant::now(), f64::MAX, Vec::new());
                while start.elapsed() < time || shares.len() < 3 {
                    // Long enough that reading the clock does not count.
                    let repeats = (2_000_000 / (rows * n * k)).max(1);
                    let (wall, processor) = (Instant::now(), ThreadTime::now());
                    for _ in 0..repeats {
                        matrix.multiply_on(path, &x, rows, &mut out, &Epilogue::default(), &pool)?;
                    }
                    let spent = if threads == 1 { processor.elapsed() } else { wall.elapsed() };
                    best = best.min(spent.as_secs_f64() / repeats as f64);
                    let (beside, processor) = (wall.elapsed(), ThreadTime::now());
                    let mut loops = sustained(path, arithmetic, &pool, beside)?;
                    if threads == 1 {
                        loops *= beside.as_secs_f64() / processor.elapsed().as_secs_f64();
                    }
                    shares.push(operations * repeats as f64 / spent.as_secs_f64() / loops);
                }
                shares.sort_by(f64::total_cmp);
                let speed = operations / best;
                let read = matrix.bytes() as f64 / best;
                println!(
                    "{path} | {format} | {rows} x {k} -> {n} | {:.3} | {:.0} | {:.0} % of {:.0} | {:.0} % | {:.1} | {:.0} %",
                    best * 1e3,
                    speed * 1e-9,
                    100.0 * speed / register,
                    register * 1e-9,
                    100.0 * shares[shares.len() / 2],
                    read * 1e-9,
                    100.0 * read / bandwidth
                );
            }
        }
    }
    Ok(())
}
