//! Products, attention and the pool at the sizes of CLIP-L/14-336 and SmolLM2-135M, on the best path of this machine and
//! all its cores: `cargo bench -p foveate-kernels`. For shares of the machine's peak see the example `peak`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foveate_kernels::{Attention, Epilogue, Format, Mask, Matrix, Pool, Source, Strided};

fn pool() -> Pool {
    Pool::new(std::thread::available_parallelism().map_or(1, usize::from)).unwrap()
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i.wrapping_mul(2_654_435_761) >> 7) & 255) as f32 / 256.0 - 0.5).collect()
}

fn matrix(format: Format, n: usize, k: usize, pool: &Pool) -> Matrix {
    match format.block_length().zip(format.block_bytes()) {
        Some((length, bytes)) if !format.takes_floats() => {
            Matrix::pack(Source::Blocks(&vec![0x21; n * k / length * bytes]), format, n, k, pool).unwrap()
        }
        _ => Matrix::pack(Source::F32(&numbers(n * k)), format, n, k, pool).unwrap(),
    }
}

fn products(criterion: &mut Criterion) {
    let pool = pool();
    let shapes = [
        (577, 1024, 4096),
        (577, 4096, 1024),
        (51, 576, 1536),
        (626, 576, 1536),
        (1, 576, 1536),
        (1, 576, 49152),
    ];
    for (rows, k, n) in shapes {
        let mut group = criterion.benchmark_group(format!("{rows} x {k} to {n}"));
        group.throughput(Throughput::Elements((2 * rows * k * n) as u64));
        let (x, mut out) = (numbers(rows * k), vec![0.0; rows * n]);
        for format in [Format::F32, Format::Bf16, Format::Int8, Format::Q8_0, Format::Q4_1] {
            let matrix = matrix(format, n, k, &pool);
            group.bench_function(BenchmarkId::from_parameter(format), |bencher| {
                bencher.iter(|| {
                    matrix.multiply(&x, rows, black_box(&mut out), &Epilogue::default(), &pool).unwrap()
                });
            });
        }
    }
}

fn attention(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("attention");
    let clip = Attention { heads: 16, key_heads: 16, head_size: 64, scale: 0.125, mask: Mask::Full };
    let causal =
        |offset| Attention { heads: 9, key_heads: 3, mask: Mask::Causal { offset, window: None }, ..clip };
    for (name, layer, queries, keys) in [
        ("CLIP-L", clip, 577, 577),
        ("SmolLM2 prefill 626", causal(0), 626, 626),
        ("SmolLM2 decode at 128", causal(127), 1, 128),
    ] {
        let (q, k) = (numbers(queries * layer.heads * 64), numbers(keys * layer.key_heads * 64));
        let (q, k) = (Strided::dense(&q, layer.heads, 64), Strided::dense(&k, layer.key_heads, 64));
        let mut out = vec![0.0; queries * layer.heads * 64];
        group.bench_function(name, |bencher| {
            bencher.iter(|| layer.run(q, queries, k, k, keys, black_box(&mut out), &pool).unwrap());
        });
    }
}

fn gradients(criterion: &mut Criterion) {
    let pool = pool();
    let mut group = criterion.benchmark_group("attention backward");
    let heads = |heads, key_heads, mask| Attention { heads, key_heads, head_size: 64, scale: 0.125, mask };
    let causal = Mask::Causal { offset: 0, window: None };
    for (name, layer, rows) in [
        ("4 heads, 256", heads(4, 4, Mask::Full), 256),
        ("4 heads, 256, causal", heads(4, 4, causal), 256),
        ("SmolLM2 at 626", heads(9, 3, causal), 626),
    ] {
        let (q, k) = (numbers(rows * layer.heads * 64), numbers(rows * layer.key_heads * 64));
        let (q, k) = (Strided::dense(&q, layer.heads, 64), Strided::dense(&k, layer.key_heads, 64));
        let mut dq = vec![0.0; rows * layer.heads * 64];
        let mut dk = vec![0.0; rows * layer.key_heads * 64];
        let mut dv = dk.clone();
        // Five products of rows x keys x 64 a head, half of them under a causal mask.
        let operations = 10 * layer.heads * rows * rows * 64 / if layer.mask == causal { 2 } else { 1 };
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                layer.backward(q, rows, k, k, rows, q, &mut dq, &mut dk, black_box(&mut dv), &pool).unwrap()
            });
        });
    }
}

fn loops(criterion: &mut Criterion) {
    let pool = pool();
    criterion.bench_function("empty loop of 16 tasks", |bencher| {
        bencher.iter(|| pool.run(16, |i| assert!(black_box(i) < 16)));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(600));
    targets = products, attention, gradients, loops
}
criterion_main!(benches);
