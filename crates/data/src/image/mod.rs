//! Images: from the bytes of a file to the pixels a vision tower reads.
//!
//! [`decode_file`] gives 8-bit RGB, upright: what transformers' `load_image` makes of a file, which applies the EXIF
//! orientation and then `convert("RGB")`. (A Pillow image handed straight to one of its processors is not turned.)
//! A [`Preprocessor`] resizes, crops, pads or tiles it and normalises, as the "slow" processors of Hugging Face do.

mod anyres;
mod crop;
mod decode;
mod error;
mod frame;
mod gif;
mod jpeg;
mod preprocess;
mod processor_config;
mod resize;

pub use anyres::{AnyResolution, fit_inside, select_best_resolution};
pub use decode::{Format, Limits, decode_bytes, decode_bytes_over, decode_file};
pub use error::{DecodeError, DecodeProblem, PreprocessError};
pub use frame::Frame;
pub use preprocess::{Layout, MAX_INTERMEDIATE_PIXELS, Preprocessor, Processed, Target};
pub use resize::{Filter, PassOrder};

/// Height and width in pixels, in the order in which the processors write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Size {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

impl Size {
    /// `height` rows of `width` pixels.
    pub const fn new(height: u32, width: u32) -> Size {
        Size { height, width }
    }

    /// A square of this side.
    pub const fn square(side: u32) -> Size {
        Size { height: side, width: side }
    }

    /// The number of pixels.
    pub const fn area(self) -> u64 {
        self.height as u64 * self.width as u64
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// An 8-bit RGB image, rows from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    size: Size,
    data: Vec<u8>,
}

impl Image {
    /// Takes `data` of exactly `3 * width * height` bytes; `None` for any other length or an empty side.
    pub fn from_rgb(width: u32, height: u32, data: Vec<u8>) -> Option<Image> {
        let size = Size { height, width };
        (size.area() > 0 && size.area().checked_mul(3)? == data.len() as u64).then_some(Image { size, data })
    }

    /// An image of one colour.
    ///
    /// # Panics
    /// If a side is zero.
    pub fn filled(width: u32, height: u32, colour: [u8; 3]) -> Image {
        assert!(width > 0 && height > 0, "an image needs at least one pixel, not {width} x {height}");
        let size = Size { height, width };
        Image { size, data: colour.repeat(size.area() as usize) }
    }

    /// Height and width.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Pixels in a row.
    pub fn width(&self) -> u32 {
        self.size.width
    }

    /// Rows.
    pub fn height(&self) -> u32 {
        self.size.height
    }

    /// The bytes: red, green, blue of each pixel, row by row.
    pub fn as_rgb(&self) -> &[u8] {
        &self.data
    }

    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let stride = 3 * self.size.width as usize;
        &self.data[y * stride..(y + 1) * stride]
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.size)
    }
}

/// Normalised pixels in channel, row, column order: `data[(c * height + y) * width + x]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    /// `channels * height * width` values.
    pub data: Vec<f32>,
    /// Colour channels, three here.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}
