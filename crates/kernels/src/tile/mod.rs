//! The inner loops: a few rows of activations times a piece of one panel of weights.
//!
//! All have the shape [`Tile`]; the rest of the crate only decides which piece goes where. Each sum is taken over k from
//! front to back in one accumulator, whatever the number of rows: that is why a row's result does not depend on the
//! rows beside it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod expand;
#[cfg(test)]
pub(crate) mod model;
mod portable;

pub(crate) use expand::{expand, expanded};
pub(crate) use portable::{half_at, quants};

use crate::Path;
use crate::activations::Kind;
use crate::format::Layout;

/// Adds to `c[rows][32]` the products of `rows` rows of prepared activations (at
/// [`STRIDE`](crate::activations::STRIDE)) with `units` units of a panel. `c` holds f32, or i32 for [`Layout::Int8`].
///
/// Meanwhile about [`WINDOW`] bytes from `ahead` on are asked into the second-level cache, spread over the loop so that
/// they do not hold up its own loads; `ahead` may point anywhere.
///
/// # Safety
/// The processor has the instructions of the path the function was got for; `x` is readable for `rows` rows of `units`
/// units, `panel` for `units` units and `c` readable and writable for `rows` · 32 numbers.
pub(crate) type Tile =
    unsafe fn(x: *const u32, panel: *const u8, units: usize, c: *mut f32, ahead: *const u8);

/// A [`Tile`] of f32 weights for activations that nobody prepared and that lie by columns: number i of row r is
/// `x[i * step + r]`, as in the transpose of a row-major matrix.
///
/// # Safety
/// As for [`Tile`], with `x` readable where those numbers are.
pub(crate) type ColumnTile =
    unsafe fn(x: *const f32, step: usize, panel: *const u8, units: usize, c: *mut f32, ahead: *const u8);

/// The loops over columns of `path`, as many as [`tiles`] has for f32.
pub(crate) fn by_columns(path: Path) -> &'static [ColumnTile] {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => avx2::columns(),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 | Path::Avx512Vnni | Path::Avx512Bf16 => avx512::columns(),
        _ => portable::columns(),
    }
}

/// What a tile with a full chunk of activations asks for ahead of time: 16 bytes for each word.
pub(crate) const WINDOW: usize = 4096;

/// The loops for one format on one path.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    /// `by_rows[rows - 1]` takes `rows` rows.
    pub(crate) by_rows: &'static [Tile],
    /// The activations that they read. What the stored integers have to be lowered by through these is
    /// [`Layout::bias`], or 0 where the loop makes them signed itself.
    pub(crate) kind: Kind,
}

/// The loops of `path` for weights that lie as in `layout`.
pub(crate) fn tiles(path: Path, layout: Layout) -> Tiles {
    let kind = Kind::of(layout, layout.bias());
    #[cfg(target_arch = "x86_64")]
    {
        // Without VNNI the integer loops are those of AVX2, whose byte product needs signed weights of 7 bits.
        let bytes_bias = if layout.has_bytes() { 0 } else { layout.bias() };
        match path {
            Path::Portable => {}
            Path::Avx512Bf16 if layout == Layout::Bf16 => {
                return Tiles { by_rows: avx512::pairs_of_bf16(), kind: Kind::Pairs };
            }
            Path::Avx512Vnni | Path::Avx512Bf16 => return Tiles { by_rows: avx512::tiles(layout), kind },
            Path::Avx512 if kind == Kind::Float => return Tiles { by_rows: avx512::tiles(layout), kind },
            Path::Avx512 | Path::Avx2 => {
                return Tiles { by_rows: avx2::tiles(layout), kind: Kind::of(layout, bytes_bias) };
            }
        }
    }
    let _ = path;
    Tiles { by_rows: portable::tiles(layout), kind }
}

/// Asks for the cache line at `address`, which may be anywhere.
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing; every x86-64 processor has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// How wide the compiler may make the plain loops: the part of a [`Path`] that matters outside the tiles.
///
/// Got from a path that was checked to be available, and only so; [`by_width!`] relies on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// What every processor of the target has.
    Base,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Width {
    /// The width of a path of this machine.
    pub(crate) fn of(path: Path) -> Self {
        match path {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Self::Avx2,
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 | Path::Avx512Vnni | Path::Avx512Bf16 => Self::Avx512,
            _ => Self::Base,
        }
    }
}

/// Makes a function of plain Rust that is compiled once for each [`Width`] and takes one as its first argument. Its
/// body may use the constant `FUSED`: whether multiplication and addition are one instruction.
macro_rules! by_width {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $visibility fn $name(width: $crate::tile::Width, $($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain<const FUSED: bool>($($argument: $type),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                plain::<true>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                plain::<true>($($argument),*)
            }
            match width {
                $crate::tile::Width::Base => plain::<false>($($argument),*),
                // SAFETY: a `Width` is made only from a path whose instructions were found on this processor.
                #[cfg(target_arch = "x86_64")]
                $crate::tile::Width::Avx2 => unsafe { avx2($($argument),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::tile::Width::Avx512 => unsafe { avx512($($argument),*) },
            }
        }
    };
}
pub(crate) use by_width;

/// `[function::<1>, function::<2>, …]`, the table by rows that [`Tiles`] holds.  The layout, where the
/// function has it as a constant, comes after the rows.
macro_rules! table {
    ($function:ident, [$($rows:literal)*]) => {
        &[$($function::<$rows> as crate::tile::Tile),*]
    };
    ($function:ident, [$($rows:literal)*], ColumnTile) => {
        &[$($function::<$rows, 1> as crate::tile::ColumnTile),*]
    };
    ($function:ident, [$($rows:literal)*], $layout:ident) => {
        &[$($function::<$rows, { crate::format::Layout::$layout as u8 }> as crate::tile::Tile),*]
    };
}
pub(crate) use table;
