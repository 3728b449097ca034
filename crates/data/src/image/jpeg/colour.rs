//! From planes of samples to RGB: chroma enlarged by libjpeg's triangle filter (`jdsample.c`), then converted with its
//! 16-bit tables (`jdcolor.c`).

use image::RgbImage;

use super::{Component, Frame, State, idct};

/// How three components are to be understood.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
}

impl Colours {
    /// libjpeg's rules: JFIF means YCbCr, an Adobe segment says which, otherwise the names of the components do.
    pub(super) fn of(frame: &Frame, state: &State) -> Colours {
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        match (ids.len(), state.jfif, state.adobe_transform) {
            (1, ..) => Colours::Grey,
            (_, true, _) => Colours::YCbCr,
            (_, false, Some(0)) => Colours::Rgb,
            (_, false, None) if ids == *b"RGB" => Colours::Rgb,
            _ => Colours::YCbCr,
        }
    }

    pub(super) fn render(self, frame: Frame) -> Option<RgbImage> {
        let Frame { size, max_horizontal, max_vertical, components, .. } = frame;
        let (height, width) = (size.height as usize, size.width as usize);
        let planes: Vec<Plane> = components
            .into_iter()
            .map(|component| Plane::new(component, max_horizontal, max_vertical))
            .collect();
        let mut rows = vec![Vec::new(); planes.len()];
        let mut data = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            for (plane, row) in planes.iter().zip(&mut rows) {
                plane.enlarged_row(y, row);
            }
            match (self, rows.as_slice()) {
                (Colours::Grey, [grey]) => data.extend(grey[..width].iter().flat_map(|&level| [level; 3])),
                (Colours::Rgb, [red, green, blue]) => {
                    let pixels = red.iter().zip(green).zip(blue).take(width);
                    data.extend(pixels.flat_map(|((&red, &green), &blue)| [red, green, blue]));
                }
                (_, [luma, blue, red]) => {
                    let pixels = luma.iter().zip(blue).zip(red).take(width);
                    data.extend(pixels.flat_map(|((&luma, &blue), &red)| to_rgb(luma, blue, red)));
                }
                _ => return None,
            }
        }
        RgbImage::from_raw(size.width, size.height, data)
    }
}

fn to_rgb(luma: u8, blue: u8, red: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    // 1.402, 0.34414, 0.71414 and 1.772 times 65536.
    [
        luma + ((91_881 * red + HALF) >> 16),
        luma + ((-22_554 * blue - 46_802 * red + HALF) >> 16),
        luma + ((116_130 * blue + HALF) >> 16),
    ]
    .map(|level| level.clamp(0, 255) as u8)
}

/// How a component becomes as large as the image.
#[derive(Clone, Copy)]
enum Enlarge {
    /// Twice as wide, weights 3/4 and 1/4.
    Across,
    /// Twice as high.
    Down,
    /// Both.
    Both,
    /// Each sample repeated: for other factors, and for planes of up to two columns.
    Repeat { across: usize, down: usize },
}

struct Plane {
    width: usize,
    height: usize,
    stride: usize,
    samples: Vec<u8>,
    enlarge: Enlarge,
}

impl Plane {
    fn new(component: Component, max_horizontal: usize, max_vertical: usize) -> Plane {
        let Component { width, height, blocks_across, blocks_down, coefficients, .. } = component;
        // A component that no scan mentioned stays grey.
        let divisors = component.divisors.unwrap_or([1; 64]);
        let stride = 8 * blocks_across;
        let mut samples = vec![0; stride * 8 * blocks_down];
        for (at, block) in coefficients.iter().enumerate() {
            let corner = at / blocks_across * 8 * stride + at % blocks_across * 8;
            for (y, row) in idct::inverse(block, &divisors).chunks_exact(8).enumerate() {
                samples[corner + y * stride..][..8].copy_from_slice(row);
            }
        }
        let (across, down) = (max_horizontal / component.horizontal, max_vertical / component.vertical);
        let enlarge = match (across, down) {
            (2, 1) if width > 2 => Enlarge::Across,
            (2, 2) if width > 2 => Enlarge::Both,
            (1, 2) => Enlarge::Down,
            _ => Enlarge::Repeat { across, down },
        };
        Plane { width, height, stride, samples, enlarge }
    }

    /// The row, the first or the last one where there is none.
    fn row(&self, y: usize) -> &[u8] {
        &self.samples[y.min(self.height - 1) * self.stride..][..self.width]
    }

    /// Row `y` of the image. The biases alternate, so that rounding favours neither side.
    fn enlarged_row(&self, y: usize, out: &mut Vec<u8>) {
        out.clear();
        // Of two output rows the first leans to the input row above, the second to the one below.
        let leaning =
            |y: usize| self.row(if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { y / 2 + 1 });
        match self.enlarge {
            Enlarge::Repeat { across, down } => {
                out.extend(self.row(y / down).iter().flat_map(|&sample| std::iter::repeat_n(sample, across)));
            }
            Enlarge::Down => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                let pairs = self.row(y / 2).iter().zip(leaning(y));
                out.extend(
                    pairs.map(|(&near, &far)| ((3 * u16::from(near) + u16::from(far) + bias) >> 2) as u8),
                );
            }
            Enlarge::Across => {
                let row = self.row(y);
                let wide = |sample: u8| 4 * i32::from(sample);
                enlarge_across(
                    row.len(),
                    |x| i32::from(row[x]),
                    wide(row[0]),
                    wide(row[row.len() - 1]),
                    2,
                    [1, 2],
                    out,
                );
            }
            Enlarge::Both => {
                let (near, far) = (self.row(y / 2), leaning(y));
                let sum = |x: usize| 3 * i32::from(near[x]) + i32::from(far[x]);
                let last = near.len() - 1;
                enlarge_across(near.len(), sum, 4 * sum(0) + 8, 4 * sum(last) + 7, 4, [8, 7], out);
            }
        }
    }
}

/// Doubles a row of `length` sums: each gives one sample that leans left and one that leans right; the outermost two are
/// `first` and `last`, already scaled and rounded up.
fn enlarge_across(
    length: usize,
    sum: impl Fn(usize) -> i32,
    first: i32,
    last: i32,
    shift: u32,
    [left, right]: [i32; 2],
    out: &mut Vec<u8>,
) {
    out.push((first >> shift) as u8);
    for x in 1..length {
        let (before, after) = (sum(x - 1), sum(x));
        out.push(((3 * before + after + right) >> shift) as u8);
        out.push(((3 * after + before + left) >> shift) as u8);
    }
    out.push((last >> shift) as u8);
}
