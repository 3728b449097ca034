//! Resampling in Pillow's order and arithmetic (`src/libImaging/Resample.c`), so that pixels equal the reference bit for
//! bit: filter taps in f64, widened by the scale when shrinking (antialias), normalised, rounded to 22-bit fixed point; a
//! horizontal pass that rounds and clips to 8 bits, then a vertical pass that does so again. A pass whose side does not
//! change is left out.
//!
//! Only the window that a later crop keeps is computed. Each output pixel depends on nothing but its own taps, so the
//! window equals the crop of the whole, and an image of 1 x 65,535 cannot ask for a strip of terabytes.

use std::f64::consts::PI;

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
    fn new(input: u32, output: u32, first: u32, count: u32, filter: Filter) -> Taps {
        let scale = f64::from(input) / f64::from(output);
        let widening = scale.max(1.0);
        let support = filter.support() * widening;
        let step = 1.0 / widening;
        let mut taps = Taps { starts: Vec::with_capacity(count as usize + 1), fixed: Vec::new() };
        let mut weights = Vec::new();
        for index in first..first + count {
            let center = (f64::from(index) + 0.5) * scale;
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

/// The whole image at another size.
pub(super) fn resize(source: &Image, target: Size, filter: Filter) -> Image {
    resize_window(source, target, Window::all(target), filter)
}

/// The pixels in `window` of `source` resized to `target`. The window lies inside the target and holds a pixel.
pub(super) fn resize_window(source: &Image, target: Size, window: Window, filter: Filter) -> Image {
    let columns = window.left as usize..(window.left + window.size.width) as usize;
    let vertical = (target.height != source.height())
        .then(|| Taps::new(source.height(), target.height, window.top, window.size.height, filter));
    let (first, last) = match &vertical {
        None => (window.top as usize, (window.top + window.size.height) as usize),
        // Starts and ends of consecutive outputs never decrease.
        Some(taps) => {
            let (mut first, mut last) = (usize::MAX, 0);
            for (start, weights) in taps.iter() {
                first = first.min(start);
                last = last.max(start + weights.len());
            }
            (first, last)
        }
    };

    let stride = 3 * window.size.width as usize;
    let mut across = vec![0; (last - first) * stride];
    if target.width == source.width() {
        for (y, row) in across.chunks_exact_mut(stride).enumerate() {
            row.copy_from_slice(&source.row(first + y)[3 * columns.start..3 * columns.end]);
        }
    } else {
        let taps = Taps::new(source.width(), target.width, window.left, window.size.width, filter);
        for (y, row) in across.chunks_exact_mut(stride).enumerate() {
            horizontal(source.row(first + y), &taps, row);
        }
    }

    let data = match vertical {
        None => across,
        Some(taps) => {
            let mut data = vec![0; window.size.height as usize * stride];
            let mut sums = vec![0; stride];
            for ((start, weights), row) in taps.iter().zip(data.chunks_exact_mut(stride)) {
                let inputs = across[(start - first) * stride..].chunks_exact(stride);
                sums.fill(ROUND);
                for (&weight, input) in weights.iter().zip(inputs) {
                    for (sum, &sample) in sums.iter_mut().zip(input) {
                        *sum += weight * i32::from(sample);
                    }
                }
                for (out, &sum) in row.iter_mut().zip(&sums) {
                    *out = clip(sum);
                }
            }
            data
        }
    };
    Image { size: window.size, data }
}

fn horizontal(input: &[u8], taps: &Taps, output: &mut [u8]) {
    for ((start, weights), out) in taps.iter().zip(output.chunks_exact_mut(3)) {
        let mut sums = [ROUND; 3];
        for (&weight, pixel) in weights.iter().zip(input[3 * start..].chunks_exact(3)) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += weight * i32::from(sample);
            }
        }
        out.copy_from_slice(&sums.map(clip));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const FILTERS: [Filter; 4] = [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];

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
        let resized = |width, filter| levels(&resize(&row, Size::new(1, width), filter));
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
            let whole = resize(&source, target, FILTERS[filter]);
            let part = resize_window(&source, target, Window { top, left, size }, FILTERS[filter]);
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
            let resized = resize(&source, Size::new(1 + u32::from(to[0]), 1 + u32::from(to[1])), FILTERS[filter]);
            prop_assert!(resized.as_rgb().chunks_exact(3).all(|pixel| pixel == colour));
        }
    }
}
