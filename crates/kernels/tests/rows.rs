//! Rows of packed weights against the numbers the stored weights stand for.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gaussian, weights};
use foveate_kernels::{Error, Format, Matrix, Pool, Source};

#[test]
fn rows_are_the_stored_numbers_in_the_order_asked_for() {
    let pool = Pool::single();
    for format in Format::ALL {
        // Ragged: the last panel is not full, and floats end inside a unit.
        let weights = weights(format, 50, 75, 259, &pool);
        let (indices, k) = ([74_u32, 0, 31, 32, 0, 63], weights.k);
        let mut out = vec![f32::NAN; indices.len() * k];
        weights.matrix.rows(&indices, &mut out).unwrap();
        for (&row, out) in indices.iter().zip(out.chunks_exact(k)) {
            for (i, (&value, exact)) in out.iter().zip(&weights.values[row as usize * k..]).enumerate() {
                // One product and one sum in f32; blocks of 256 have scale · q (0.88 at most here) and minimum (0.19)
                // rounded to f16.
                let bound = match format.block_length() {
                    Some(256) => 1.07 / 2048.0,
                    _ => 3e-7,
                };
                assert!(
                    (f64::from(value) - exact).abs() <= bound,
                    "{format} [{row}, {i}]: {value} not {exact}"
                );
            }
        }
    }
}

/// Floats that are packed without rounding come back to the bit.
#[test]
fn floats_come_back_to_the_bit() {
    let numbers = gaussian(51, 40 * 7);
    let matrix = Matrix::pack(Source::F32(&numbers), Format::F32, 40, 7, &Pool::single()).unwrap();
    let mut out = vec![0.0; 40 * 7];
    matrix.rows(&(0..40).collect::<Vec<u32>>(), &mut out).unwrap();
    assert_eq!(out, numbers);
}

#[test]
fn indices_past_the_end_and_wrong_lengths_are_errors() {
    let matrix = Matrix::pack(Source::F32(&[0.0; 6]), Format::F32, 3, 2, &Pool::single()).unwrap();
    let error = matrix.rows(&[0, 3], &mut [0.0; 4]).unwrap_err();
    assert_eq!(error, Error::Index { what: "a row's index", found: 3, length: 3 });
    assert_eq!(error.to_string(), "a row's index is 3, allowed: less than 3");
    assert!(matrix.rows(&[u32::MAX], &mut [0.0; 2]).is_err());
    assert_eq!(
        matrix.rows(&[0], &mut [0.0; 3]).unwrap_err().to_string(),
        "the rows: 3 numbers where [indices 1, k 2] needs 2"
    );
    assert_eq!(matrix.rows(&[], &mut []), Ok(()));
}
