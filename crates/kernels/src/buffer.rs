//! Memory for packed weights and scratch: zeroed, aligned to cache lines, in huge pages where the system grants them.

use std::fmt;

/// Bytes from here on are asked of the operating system in huge pages: a panel walk then misses the address cache
/// 512 times less often.
const HUGE: usize = 4 << 20;

/// A cache line, the unit small buffers are made of.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

enum Storage {
    Lines(Vec<Line>),
    Map(memmap2::MmapMut),
}

/// Zeroed bytes at an address that is a multiple of 64.
pub(crate) struct Buffer {
    storage: Storage,
    length: usize,
}

/// Types of which every pattern of bits is a value, so that bytes may be seen as them.
///
/// # Safety
/// Only for types without padding and without invalid values, of alignment 64 at most.
pub(crate) unsafe trait Plain: Copy + 'static {
    /// Words seen as numbers of this type, of 4 bytes or fewer.
    fn view_mut(words: &mut [u32]) -> &mut [Self] {
        const { assert!(size_of::<Self>() <= 4 && align_of::<Self>() <= 4) };
        let length = size_of_val(words) / size_of::<Self>();
        // SAFETY: the same bytes, aligned for words and so for `Self`; both types take any bits, and the exclusive
        // borrow passes on.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), length) }
    }
}
// SAFETY: plain numbers have neither padding nor invalid values.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

impl Buffer {
    /// `length` zeroed bytes.
    pub(crate) fn new(length: usize) -> Self {
        if length >= HUGE
            && let Ok(map) = memmap2::MmapMut::map_anon(length)
        {
            // Advice only: a kernel without huge pages answers with an error and gives small ones.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Self { storage: Storage::Map(map), length };
        }
        Self { storage: Storage::Lines(vec![Line([0; 64]); length.div_ceil(64)]), length }
    }

    /// The contents as numbers of type `T`; bytes that do not fill one are left out.
    pub(crate) fn view<T: Plain>(&self) -> &[T] {
        let start = match &self.storage {
            Storage::Lines(lines) => lines.as_ptr().cast(),
            Storage::Map(map) => map.as_ptr().cast(),
        };
        // SAFETY: the storage holds at least `length` initialised bytes and is borrowed as long as the slice; it starts
        // at a multiple of 64 (lines by their type, maps at a page), so `T` is aligned; `Plain` takes any bits.
        unsafe { std::slice::from_raw_parts(start, self.length / size_of::<T>()) }
    }

    /// The contents as numbers of type `T`, to write.
    pub(crate) fn view_mut<T: Plain>(&mut self) -> &mut [T] {
        let start = match &mut self.storage {
            Storage::Lines(lines) => lines.as_mut_ptr().cast(),
            Storage::Map(map) => map.as_mut_ptr().cast(),
        };
        // SAFETY: as in `view`, and the exclusive borrow of `self` makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(start, self.length / size_of::<T>()) }
    }

    /// At least `length` bytes, their contents unspecified: grows by replacing the buffer.
    pub(crate) fn reserve(&mut self, length: usize) {
        if self.length < length {
            *self = Self::new(length);
        }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::new(0)
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_huge_buffers_are_zeroed_and_aligned() {
        for length in [0, 1, 63, 64, 1000, HUGE + 3] {
            let mut buffer = Buffer::new(length);
            assert_eq!(buffer.view::<u8>().len(), length);
            assert!(buffer.view::<u8>().iter().all(|&byte| byte == 0));
            assert_eq!(buffer.view::<u8>().as_ptr() as usize % 64, 0);
            buffer.view_mut::<f32>().fill(1.0);
            assert!(buffer.view::<u32>().iter().all(|&bits| bits == 0x3F80_0000));
        }
    }
}
