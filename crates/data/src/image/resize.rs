//! Resampling in Pillow's order and arithmetic (`src/libImaging/Resample.c`), so that pixels equal the reference bit for
//! bit: filter taps in f64, widened by the scale when shrinking (antialias), normalised, rounded to 22-bit fixed point; a
//! horizontal pass that rounds and clips to 8 bits, then a vertical pass that does so again ([`PassOrder`] has the one
//! exception). A pass whose side does not change is left out.
//!
//! Only the window that a later crop keeps is computed. Each output pixel depends on nothing but its own taps, so the
//! window equals the crop of the whole, and an image of 1 x 65,535 cannot ask for a strip of terabytes.

use std::f64::consts::PI;
use std::ops::Range;

use super::crop::cut;
use super::{Image, Size};

/// A resampling filter by Pillow's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// Mean of the covered pixels; Pillow's number 4.
    Box,
    /// Triangle, support 1; Pillow's number 2.
    Bilinear,
    /// Cubic convolution with a = -0.5, support 2; Pillow's number 3.
    Bicubic,
    /// Windowed sinc, support 3; Pillow's number 1.
    Lanczos,
}

impl Filter {
    /// The filter that `resample` in a `preprocessor_config.json` means, if it is one we have.
    pub fn from_pillow(number: i64) -> Option<Filter> {
        match number {
            1 => Some(Filter::Lanczos),
            2 => Some(Filter::Bilinear),
            3 => Some(Filter::Bicubic),
            4 => Some(Filter::Box),
            _ => None,
        }
    }

    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The kernel at distance `x` from its centre. The order of operations is part of the result.
    fn at(self, x: f64) -> f64 {
        let distance = x.abs();
        match self {
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - distance).max(0.0),
            Filter::Bicubic if distance < 1.0 => {
                ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
            }
            Filter::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A,
            Filter::Bicubic => 0.0,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// Sharpness of the cubic; OpenCV and PyTorch use -0.75, Pillow this.
const A: f64 = -0.5;

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Fixed-point bits of a tap: 32 minus 8 for the sample and 2 for sign and overshoot.
const PRECISION_BITS: u32 = 32 - 8 - 2;
const ROUND: i32 = 1 << (PRECISION_BITS - 1);

/// A rectangle of output pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) top: u32,
    pub(super) left: u32,
    pub(super) size: Size,
}

impl Window {
    pub(super) fn all(size: Size) -> Window {
        Window { top: 0, left: 0, size }
    }
}

/// The taps of consecutive outputs along one side.
struct Taps {
    /// For each output: its first input, and where its taps start in `fixed`.
    starts: Vec<(usize, usize)>,
    fixed: Vec<i32>,
}

impl Taps {
    fn new(input: u32, output: u32, kept: Range<usize>, filter: Filter) -> Taps {
        let scale = f64::from(input) / f64::from(output);
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let step = 1.0 / widening;
        let mut taps = Taps { starts: Vec::with_capacity(kept.len() + 1), fixed: Vec::new() };
        let mut weights = Vec::new();
        for index in kept {
            let center = (index as f64 + 0.5) * scale;
            // Casts truncate and saturate at 0, as the reference's clamp does.
            let low = (center - support + 0.5) as usize;
            let high = ((center + support + 0.5) as usize).min(input as usize);
            weights.clear();
            weights.extend((low..high).map(|x| filter.at((x as f64 - center + 0.5) * step)));
            let sum: f64 = weights.iter().sum();
            taps.starts.push((low, taps.fixed.len()));
            taps.fixed
                .extend(weights.iter().map(|&weight| fixed(if sum == 0.0 { weight } else { weight / sum })));
        }
        taps.starts.push((0, taps.fixed.len()));
        taps
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The inputs that any output needs; from now on they are counted from the first of these.
    fn take_origin(&mut self) -> Range<usize> {
        let first = self.iter().map(|(start, _)| start).min().unwrap_or(0);
        let end = self.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
        for (start, _) in &mut self.starts {
            *start -= first.min(*start);
        }
        first..end
    }

    /// First input and taps of each output.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.starts.windows(2).map(|pair| (pair[0].0, &self.fixed[pair[0].1..pair[1].1]))
    }
}

/// Half away from zero, then cut.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1u32 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Which side is resampled first. Rounding to 8 bits between the passes makes it visible, by a level here and there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PassOrder {
    /// Pillow 13: horizontal first, unless the height loses more than twice the pixels that the width does. With the
    /// aspect kept that means images more than twice as tall as wide.
    #[default]
    Pillow13,
    /// Pillow 12 and before, with which the published models were trained: always horizontal first.
    HorizontalFirst,
}

impl PassOrder {
    fn vertical_first(self, from: Size, to: Size) -> bool {
        let loss = |from: u32, to: u32| i64::from(from) - i64::from(to);
        let (height, width) = (loss(from.height, to.height), loss(from.width, to.width));
        self == PassOrder::Pillow13 && height > 0 && height > 2 * width
    }
}

/// How to resample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resampler {
    pub(super) filter: Filter,
    pub(super) order: PassOrder,
}

impl Resampler {
    /// The whole image at another size.
    pub(super) fn resize(self, source: &Image, target: Size) -> Image {
        self.resize_window(source, target, Window::all(target))
    }

    /// The pixels in `window` of `source` resized to `target`. The window lies inside the target and holds a pixel.
    pub(super) fn resize_window(self, source: &Image, target: Size, window: Window) -> Image {
        let columns = window.left as usize..(window.left + window.size.width) as usize;
        let rows = window.top as usize..(window.top + window.size.height) as usize;
        let taps = |from: u32, to: u32, kept: &Range<usize>| {
            (from != to).then(|| Taps::new(from, to, kept.clone(), self.filter))
        };
        let across = taps(source.width(), target.width, &columns);
        let down = taps(source.height(), target.height, &rows);
        match (across, down) {
            (None, None) => cut(source, window.top, window.left, window.size),
            (Some(across), None) => pass_across(source, rows, &across),
            (None, Some(down)) => pass_down(source, columns, &down),
            (Some(mut across), Some(mut down)) => {
                if self.order.vertical_first(source.size(), target) {
                    let strip = pass_down(source, across.take_origin(), &down);
                    pass_across(&strip, 0..rows.len(), &across)
                } else {
                    let strip = pass_across(source, down.take_origin(), &across);
                    pass_down(&strip, 0..columns.len(), &down)
                }
            }
        }
    }
}

/// The `rows` of `source`, resampled along each.
fn pass_across(source: &Image, rows: Range<usize>, taps: &Taps) -> Image {
    let size = Size { height: rows.len() as u32, width: taps.len() as u32 };
    let mut data = Vec::with_capacity(3 * rows.len() * taps.len());
    for y in rows {
        let row = source.row(y);
        data.extend(taps.iter().flat_map(|(start, weights)| {
            let mut sums = [ROUND; 3];
            for (&weight, pixel) in weights.iter().zip(row[3 * start..].chunks_exact(3)) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(sample);
                }
            }
            sums.map(clip)
        }));
    }
    Image { size, data }
}

/// The `columns` of `source`, resampled along each.
fn pass_down(source: &Image, columns: Range<usize>, taps: &Taps) -> Image {
    let size = Size { height: taps.len() as u32, width: columns.len() as u32 };
    let mut data = Vec::with_capacity(3 * columns.len() * taps.len());
    let mut sums = vec![0; 3 * columns.len()];
    for (start, weights) in taps.iter() {
        sums.fill(ROUND);
        for (y, &weight) in (start..).zip(weights) {
            let samples = &source.row(y)[3 * columns.start..3 * columns.end];
            for (sum, &sample) in sums.iter_mut().zip(samples) {
                *sum += weight * i32::from(sample);
            }
        }
        data.extend(sums.iter().map(|&sum| clip(sum)));
    }
    Image { size, data }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const FILTERS: [Filter; 4] = [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

    fn resampler(filter: Filter) -> Resampler {
        Resampler { filter, order: PassOrder::default() }
    }

    fn grey_row(levels: &[u8]) -> Image {
        let data = levels.iter().flat_map(|&level| [level; 3]).collect();
        Image::from_rgb(levels.len() as u32, 1, data).unwrap()
    }

    fn levels(image: &Image) -> Vec<u8> {
        image.as_rgb().iter().step_by(3).copied().collect()
    }

    /// Pillow 13: `Image.fromarray(np.array([[0, 255, 0, 0, 90, 200, 10]], "u1")).resize((n, 1), filter)`.
    #[test]
    fn a_row_equals_pillow() {
        let row = grey_row(&[0, 255, 0, 0, 90, 200, 10]);
        let resized = |width, filter| levels(&resampler(filter).resize(&row, Size::new(1, width)));
        assert_eq!(resized(3, Filter::Bilinear), [109, 48, 109]);
        assert_eq!(resized(3, Filter::Bicubic), [108, 45, 110]);
        assert_eq!(resized(3, Filter::Lanczos), [103, 52, 109]);
        assert_eq!(resized(3, Filter::Box), [128, 30, 105]);
        assert_eq!(resized(11, Filter::Bicubic), [0, 119, 250, 65, 0, 0, 52, 127, 201, 95, 0]);
        assert_eq!(resized(11, Filter::Lanczos), [0, 126, 255, 80, 0, 0, 45, 139, 207, 94, 0]);
    }

    fn image(sides: impl Strategy<Value = u32> + Clone) -> impl Strategy<Value = Image> {
        (sides.clone(), sides).prop_flat_map(|(width, height)| {
            prop::collection::vec(any::<u8>(), 3 * (width * height) as usize)
                .prop_map(move |data| Image::from_rgb(width, height, data).unwrap())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_window_is_the_crop_of_the_whole(
            source in image(1u32..24), height in 1u32..40, width in 1u32..40, cut in any::<[u16; 4]>(), filter in 0usize..4,
        ) {
            let target = Size { height, width };
            let (top, left) = (u32::from(cut[0]) % height, u32::from(cut[1]) % width);
            let size = Size::new(1 + u32::from(cut[2]) % (height - top), 1 + u32::from(cut[3]) % (width - left));
            let resampler = resampler(FILTERS[filter]);
            let whole = resampler.resize(&source, target);
            let part = resampler.resize_window(&source, target, Window { top, left, size });
            for y in 0..size.height as usize {
                let row = &whole.row(y + top as usize)[3 * left as usize..][..3 * size.width as usize];
                prop_assert_eq!(part.row(y), row);
            }
        }

        #[test]
        fn one_colour_stays_one_colour(
            colour in any::<[u8; 3]>(), from in any::<[u8; 2]>(), to in any::<[u8; 2]>(), filter in 0usize..4,
        ) {
            let source = Image::filled(1 + u32::from(from[0]), 1 + u32::from(from[1]), colour);
            let target = Size::new(1 + u32::from(to[0]), 1 + u32::from(to[1]));
            let resized = resampler(FILTERS[filter]).resize(&source, target);
            prop_assert!(resized.as_rgb().chunks_exact(3).all(|pixel| pixel == colour));
        }
    }
}
