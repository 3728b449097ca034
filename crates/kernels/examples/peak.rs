//! scratch
use foveate_kernels::*;
use std::time::Instant;
fn main() {
    let threads: usize = std::env::args().nth(1).map_or(1, |a| a.parse().unwrap());
    let pool = Pool::new(threads).unwrap();
    for (rows, k, n) in [(577,1024,1024),(577,1024,4096),(577,4096,1024),(626,576,1536),(51,576,1536),(1,576,1536),(1,576,49152)] {
        for format in Format::ALL {
            let w: Vec<f32> = (0..n*k).map(|i| ((i*2654435761usize)>>7 & 255) as f32/256.0-0.5).collect();
            let m = match format.block_bytes() { Some(b) if b!=34 => Matrix::pack(Source::Blocks(&vec![1u8; n*k/32*b]), format, n,k,&pool).unwrap(), _=>Matrix::pack(Source::F32(&w), format, n, k, &pool).unwrap()};
            let x: Vec<f32> = (0..rows*k).map(|i| ((i*40503)>>3 & 255) as f32/256.0-0.5).collect();
            let mut out = vec![0.0; rows*n];
            let mut best = f64::MAX; let mut all = vec![];
            let start = Instant::now();
            while start.elapsed().as_millis() < 150 {
                let t = Instant::now();
                m.multiply(&x, rows, &mut out, &Epilogue::default(), &pool).unwrap();
                let t = t.elapsed().as_secs_f64(); all.push(t);
                best = best.min(t);
            }
            all.sort_by(f64::total_cmp);
            let med = all[all.len()/2];
            let fl = 2.0*(rows*n*k) as f64;
            println!("{rows}x{k}->{n} {format}: best {:.1} GFLOP/s median {:.1}, {:.1} GB/s ({:.3} ms)", fl/best/1e9, fl/med/1e9, m.bytes() as f64/best/1e9, best*1e3);
        }
    }
}
