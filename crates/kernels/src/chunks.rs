//! Slices that the tasks of a loop write in parts.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pool::Pool;

impl Pool {
    /// Calls `body(i, part)` for every part of `size` elements of `data`, the last one shorter, each once, in any order and
    /// on any thread, and returns when all are done: `chunks_mut` on the pool's threads. A size of 0 counts as 1.
    ///
    /// A part should be worth some microseconds of work, since threads fetch one after the other.
    ///
    /// ```
    /// let (pool, mut rows) = (foveate_kernels::Pool::new(2)?, [3.0, 1.0, 8.0, 0.0, 5.0]);
    /// pool.chunks(&mut rows, 2, |i, row| row.iter_mut().for_each(|x| *x += 100.0 * i as f32));
    /// assert_eq!(rows, [3.0, 1.0, 108.0, 100.0, 205.0]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Panics
    /// With the panic of `body`, after every thread has left the loop.
    pub fn chunks<T: Send>(&self, data: &mut [T], size: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        let chunks = Chunks::new(data, size);
        self.run(chunks.len(), |i| body(i, chunks.take(i)));
    }

    /// [`Pool::chunks`] over two slices at once: part i of the one, of `sizes.0` elements, goes with part i of the other,
    /// of `sizes.1`. Where one slice has fewer parts, `body` gets empty ones for it.
    ///
    /// # Panics
    /// With the panic of `body`, after every thread has left the loop.
    pub fn chunk_pairs<T: Send, U: Send>(
        &self,
        first: &mut [T],
        second: &mut [U],
        sizes: (usize, usize),
        body: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let (first, second) = (Chunks::new(first, sizes.0), Chunks::new(second, sizes.1));
        self.run(first.len().max(second.len()), |i| body(i, first.take(i), second.take(i)));
    }
}

/// A slice that the tasks of a loop write in parts.
///
/// `take` hands out part `i`; the tasks of [`Pool::run`] are each called once, so handing part `i` to task `i` alone
/// gives every part one owner. A part taken twice is caught: that would be two owners.
pub(crate) struct Chunks<'a, T> {
    start: *mut T,
    length: usize,
    size: usize,
    taken: Vec<AtomicBool>,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: threads only get parts that do not overlap (`take`), as with `chunks_mut` and scoped threads.
unsafe impl<T: Send> Sync for Chunks<'_, T> {}

impl<'a, T> Chunks<'a, T> {
    /// Parts of `size` elements, the last one shorter.
    pub(crate) fn new(slice: &'a mut [T], size: usize) -> Self {
        let size = size.max(1);
        let taken = (0..slice.len().div_ceil(size)).map(|_| AtomicBool::new(false)).collect();
        Self { start: slice.as_mut_ptr(), length: slice.len(), size, taken, owner: PhantomData }
    }

    /// How many parts there are.
    pub(crate) fn len(&self) -> usize {
        self.taken.len()
    }

    /// Part `i`; empty past the end and the second time.
    pub(crate) fn take(&self, i: usize) -> &'a mut [T] {
        match self.taken.get(i) {
            Some(taken) if !taken.swap(true, Ordering::Relaxed) => {}
            _ => return &mut [],
        }
        let length = self.size.min(self.length - i * self.size);
        // SAFETY: the part lies inside the slice borrowed for `'a`, and the flag above gives it out once.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(i * self.size), length) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn parts_of_a_slice_have_one_owner_each() {
        let mut numbers = [0; 10];
        let chunks = Chunks::new(&mut numbers, 4);
        let lengths = [0, 1, 2, 3, 0].map(|i| chunks.take(i).len());
        assert_eq!(lengths, [4, 4, 2, 0, 0]);
        let chunks = Chunks::new(&mut numbers, 1);
        Pool::new(3).unwrap().run(10, |i| chunks.take(i)[0] = i);
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn every_part_of_every_slice_is_visited_once() {
        for threads in [1, 3] {
            let pool = Pool::new(threads).unwrap();
            for (length, size) in [(0, 4), (1, 4), (1000, 7), (5, 0), (3, 100)] {
                let mut numbers = vec![0; length];
                pool.chunks(&mut numbers, size, |i, part| part.iter_mut().for_each(|x| *x += i + 1));
                let expected: Vec<usize> = (0..length).map(|at| at / size.max(1) + 1).collect();
                assert_eq!(numbers, expected);
            }
        }
    }

    #[test]
    fn pairs_go_together_and_the_longer_slice_is_finished() {
        let pool = Pool::new(2).unwrap();
        let (mut rows, mut sums) = ([1, 2, 3, 4, 5, 6, 7], [0_i64; 2]);
        pool.chunk_pairs(&mut rows, &mut sums, (3, 1), |i, row, sum| {
            for sum in sum {
                *sum = row.iter().sum();
            }
            row.fill(i as i64);
        });
        assert_eq!(rows, [0, 0, 0, 1, 1, 1, 2]);
        assert_eq!(sums, [6, 15]);
    }
}
