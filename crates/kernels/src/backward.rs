//! The gradient of a product with frozen packed weights with respect to its input: dx = dy · W.
//!
//! It is a product like the forward one, over the output channels instead of k: the panels of W are read as they are
//! stored, and blocks of 32 channels × 32 k are turned into f32 the other way round, once for all rows of a task.

use crate::Path;
use crate::activations::{Activations, Cut, Kind};
use crate::driver::{Left, PANELS, Product};
use crate::epilogue::{Epilogue, Residual, Rows, finish};
use crate::error::{Result, check_length};
use crate::format::{Layout, PANEL};
use crate::matrix::{Matrix, WORDS};
use crate::pool::Pool;
use crate::tile::{Width, expand, expanded, tiles};

impl Matrix {
    /// dx = dy · W (+ `residual`): `dy` is `[rows, n]`, `dx` `[rows, k]`, both row-major. Works for every format, with the
    /// numbers that the stored weights stand for and `dy` in f32; a row depends on its own row of `dy` alone.
    ///
    /// # Errors
    /// [`Error::Length`](crate::Error::Length) if a slice has another length than its shape.
    pub fn multiply_transposed(
        &self,
        dy: &[f32],
        rows: usize,
        dx: &mut [f32],
        residual: Residual<'_>,
        pool: &Pool,
    ) -> Result<()> {
        self.multiply_transposed_on(Path::best(), dy, rows, dx, residual, pool)
    }

    /// [`Matrix::multiply_transposed`] on a path of the caller's choice.
    ///
    /// # Errors
    /// Also [`Error::Unavailable`](crate::Error::Unavailable) if this machine does not have the path.
    pub fn multiply_transposed_on(
        &self,
        path: Path,
        dy: &[f32],
        rows: usize,
        dx: &mut [f32],
        residual: Residual<'_>,
        pool: &Pool,
    ) -> Result<()> {
        path.check()?;
        let (n, k) = (self.n(), self.k());
        check_length("the gradient", dy.len(), rows.saturating_mul(n), || format!("[rows {rows}, n {n}]"))?;
        check_length("the input's gradient", dx.len(), rows.saturating_mul(k), || {
            format!("[rows {rows}, k {k}]")
        })?;
        let epilogue = Epilogue { residual, ..Epilogue::default() };
        epilogue.check(rows, k)?;
        if rows * k == 0 {
            return Ok(());
        }

        let width = Width::of(path);
        // A unit is a panel of W: 32 channels.
        let cut = Cut { units: n.div_ceil(PANEL), words: PANEL };
        let x = Activations::prepare(
            width,
            Kind::Float,
            dy,
            (rows, n),
            cut,
            WORDS.take().unwrap_or_default(),
            pool,
        );
        let weights = |panel: usize,
                       units: std::ops::Range<usize>,
                       slot: usize,
                       scratch: &mut crate::buffer::Buffer| {
            let size = cut.longest() * PANEL * PANEL;
            scratch.reserve(4 * PANELS * size);
            let blocks = &mut scratch.view_mut::<f32>()[slot * size..][..units.len() * PANEL * PANEL];
            for (unit, block) in units.zip(blocks.as_chunks_mut().0) {
                self.transpose(width, unit, panel, block);
            }
            blocks.as_ptr().cast()
        };
        // Too scattered to ask for ahead.
        let stored = |_: usize, _: std::ops::Range<usize>| (std::ptr::null(), 0);
        let out = Rows::new(dx, k);
        // The driver finishes each tile and panel once, on one thread.
        let finish = |row: usize, panel: usize, sums: &mut [[f32; PANEL]]| {
            finish(width, &epilogue, sums, row, panel, &out);
        };
        let product = Product {
            width,
            tiles: tiles(path, Layout::F32).by_rows,
            units_ratio: PANEL,
            x: Left::Prepared(&x),
            panels: k.div_ceil(PANEL),
            panel_bytes: 4 * PANEL * n,
            weights: &weights,
            stored: &stored,
            out: &out,
            finish: &finish,
        };
        // SAFETY: the path was checked, and `weights` writes 32 units of f32 for each unit of the cut.
        unsafe { product.run(pool) };
        WORDS.set(Some(x.into_buffer()));
        Ok(())
    }

    /// Block `block` of 32 k of panel `panel`, as `[channel][k]`; zeros past the end of k.
    fn transpose(&self, width: Width, panel: usize, block: usize, out: &mut [f32; PANEL * PANEL]) {
        let layout = self.format().layout();
        let bytes = layout.unit_bytes();
        let units = block * PANEL / layout.step()
            ..((block + 1) * PANEL / layout.step()).min(self.format().units(self.k()));
        let stored = &self.panel(panel)[units.start * bytes..units.end * bytes];
        match layout {
            Layout::F32 => floats(width, stored, out),
            Layout::Bf16 | Layout::F16 => {
                let mut unpacked = [0; 4 * PANEL * PANEL];
                expand(width, layout, stored, &mut unpacked);
                floats(width, &unpacked[..2 * stored.len()], out);
            }
            Layout::Int8 => {
                let scales = &self.scales()[panel * PANEL..(panel + 1) * PANEL];
                groups(width, stored, &std::array::from_fn(|channel| [scales[channel], 0.0]), out);
            }
            _ => {
                let mut unpacked = [0; 4 * PANEL + PANEL * PANEL];
                let (read, unit) = match expanded(layout) {
                    Some(wider) => {
                        let unit = &mut unpacked[..wider.unit_bytes()];
                        expand(width, layout, stored, unit);
                        (wider, &*unit)
                    }
                    None => (layout, stored),
                };
                let half = |at: usize, channel: usize| crate::tile::half_at(unit, at + 2 * channel);
                let lines = std::array::from_fn(|channel| {
                    let minimum = if read.has_minimum() { half(2 * PANEL, channel) } else { 0.0 };
                    [half(0, channel), minimum]
                });
                groups(width, &unit[read.quants_at()..], &lines, out);
            }
        }
    }
}

crate::tile::by_width! {
    /// `[k][channel]` to `[channel][k]`; there may be fewer than 32 k.
    fn floats(stored: &[u8], out: &mut [f32; PANEL * PANEL]) {
        if stored.len() < 4 * PANEL * PANEL {
            out.fill(0.0);
        }
        for (k, row) in stored.chunks_exact(4 * PANEL).enumerate() {
            for (channel, bytes) in row.as_chunks::<4>().0.iter().enumerate() {
                out[channel * PANEL + k] = f32::from_le_bytes(*bytes);
            }
        }
    }
}

crate::tile::by_width! {
    /// Groups of 32 channels × 4 bytes biased by 128 to `[channel][k]`, as scale · byte + minimum of `lines`; there may be
    /// fewer than 32 k.
    fn groups(stored: &[u8], lines: &[[f32; 2]; PANEL], out: &mut [f32; PANEL * PANEL]) {
        let given = stored.len() / PANEL;
        for (channel, ([scale, minimum], out)) in lines.iter().zip(out.as_chunks_mut::<PANEL>().0).enumerate() {
            let mut bytes = [0x80; PANEL];
            for (to, group) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(stored.as_chunks::<{ 4 * PANEL }>().0) {
                to.copy_from_slice(&group[4 * channel..4 * channel + 4]);
            }
            for (to, byte) in out.iter_mut().zip(bytes) {
                let product = scale * f32::from((byte ^ 0x80).cast_signed());
                *to = product + minimum;
            }
            if given < PANEL {
                out[given..].fill(0.0);
            }
        }
    }
}
