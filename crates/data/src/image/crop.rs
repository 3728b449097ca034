//! Centre crop and padding, with the rounding of the Hugging Face processors.

use super::resize::Window;
use super::{Image, Size};

/// What the references put around an image that is smaller than its crop.
pub(super) const BLACK: [u8; 3] = [0; 3];

/// What a centre crop keeps along one side, and where it lands when the crop is the larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: u32,
    to: u32,
    length: u32,
}

impl Span {
    fn centred(side: u32, crop: u32) -> Span {
        if side >= crop {
            Span { from: (side - crop) / 2, to: 0, length: crop }
        } else {
            // The odd row of padding comes first: the reference takes ceil((crop - side) / 2).
            Span { from: 0, to: (crop - side).div_ceil(2), length: side }
        }
    }
}

/// A centre crop of an image of size `from` to `crop`: the window to compute, and its place in the result.
pub(super) struct CentreCrop {
    pub(super) window: Window,
    top: u32,
    left: u32,
    crop: Size,
}

impl CentreCrop {
    pub(super) fn new(from: Size, crop: Size) -> CentreCrop {
        let rows = Span::centred(from.height, crop.height);
        let columns = Span::centred(from.width, crop.width);
        CentreCrop {
            window: Window {
                top: rows.from,
                left: columns.from,
                size: Size::new(rows.length, columns.length),
            },
            top: rows.to,
            left: columns.to,
            crop,
        }
    }

    /// Row and column at which the crop begins, below zero where it begins with black.
    pub(super) fn origin(&self) -> (i64, i64) {
        let place = |from: u32, to: u32| i64::from(from) - i64::from(to);
        (place(self.window.top, self.top), place(self.window.left, self.left))
    }

    /// The cropped image, from its window; of one colour where the image was smaller than the crop.
    pub(super) fn finish(&self, window: Image, colour: [u8; 3]) -> Image {
        if window.size == self.crop { window } else { paste(&window, self.crop, self.top, self.left, colour) }
    }
}

/// `image` on a canvas of one colour, its first pixel at (`top`, `left`). It must fit.
pub(super) fn paste(image: &Image, canvas: Size, top: u32, left: u32, colour: [u8; 3]) -> Image {
    let mut out = Image::filled(canvas.width, canvas.height, colour);
    let stride = 3 * canvas.width as usize;
    for y in 0..image.size.height as usize {
        let start = (top as usize + y) * stride + 3 * left as usize;
        out.data[start..start + 3 * image.size.width as usize].copy_from_slice(image.row(y));
    }
    out
}

/// `image` in the middle of a canvas that is at least as large; the odd row or column of padding comes last.
pub(super) fn pad_centred(image: &Image, canvas: Size, colour: [u8; 3]) -> Image {
    let (top, left) = ((canvas.height - image.size.height) / 2, (canvas.width - image.size.width) / 2);
    if image.size == canvas { image.clone() } else { paste(image, canvas, top, left, colour) }
}

/// The part of `image` at (`top`, `left`). It must lie inside.
pub(super) fn cut(image: &Image, top: u32, left: u32, size: Size) -> Image {
    let rows = top as usize..(top + size.height) as usize;
    let columns = 3 * left as usize..3 * (left + size.width) as usize;
    Image { size, data: rows.flat_map(|y| &image.row(y)[columns.clone()]).copied().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_as_the_reference_does() {
        // transformers.image_transforms.center_crop of 5 columns to 2, of 2 to 5, of 3 to 4.
        assert_eq!(Span::centred(5, 2), Span { from: 1, to: 0, length: 2 });
        assert_eq!(Span::centred(2, 5), Span { from: 0, to: 2, length: 2 });
        assert_eq!(Span::centred(3, 4), Span { from: 0, to: 1, length: 3 });
    }

    #[test]
    fn padding_puts_the_odd_line_last() {
        let padded = pad_centred(&Image::filled(2, 1, [7; 3]), Size::square(2), [1, 2, 3]);
        assert_eq!(padded.as_rgb(), [7, 7, 7, 7, 7, 7, 1, 2, 3, 1, 2, 3]);
        assert_eq!(cut(&padded, 1, 1, Size::square(1)).as_rgb(), [1, 2, 3]);
    }
}
