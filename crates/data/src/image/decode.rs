//! From file bytes to upright 8-bit RGB: the format by its signature, limits from the header before any pixel is decoded.
//!
//! Colours follow Pillow's `convert("RGB")`, which *drops* transparency: the colour stored under a transparent pixel
//! shows. 16-bit samples keep their high byte. (Pillow does so for 16-bit RGB; for 16-bit greyscale it cuts off at 255
//! instead, which leaves a white page. That one is not followed.) Orientation is applied as `ImageOps.exif_transpose`
//! does; colour profiles are ignored, as there.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::{bmp::BmpDecoder, jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder};

use super::error::{DecodeError, DecodeProblem};
use super::{Image, Size};

/// What an image file may ask of this machine. Everything is checked before pixels are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Width times height. Decoding takes at most about 16 bytes a pixel.
    pub max_pixels: u64,
    /// Width, and height.
    pub max_side: u32,
}

impl Default for Limits {
    /// 64 MiB, 64 megapixels (8192 x 8192), sides of 65,535.
    fn default() -> Limits {
        Limits { max_bytes: 64 << 20, max_pixels: 1 << 26, max_side: 65_535 }
    }
}

impl Limits {
    pub(super) fn check(&self, size: Size) -> Result<(), DecodeProblem> {
        for (field, found) in [("width", size.width), ("height", size.height)] {
            if found == 0 || found > self.max_side {
                return Err(DecodeProblem::Side { field, found, allowed: self.max_side });
            }
        }
        if size.area() > self.max_pixels {
            return Err(DecodeProblem::TooManyPixels { size, allowed: self.max_pixels });
        }
        Ok(())
    }
}

/// The file formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Portable Network Graphics, any bit depth.
    Png,
    /// JPEG, baseline and progressive.
    Jpeg,
    /// WebP, lossy and lossless.
    WebP,
    /// GIF, its first frame.
    Gif,
    /// Windows bitmap.
    Bmp,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::WebP => "WebP",
            Format::Gif => "GIF",
            Format::Bmp => "BMP",
        })
    }
}

impl Format {
    /// The format by its signature; a file name does not count.
    pub fn of(bytes: &[u8]) -> Option<Format> {
        match bytes {
            [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(Format::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Format::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Format::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Format::Gif),
            [b'B', b'M', ..] => Some(Format::Bmp),
            _ => None,
        }
    }
}

/// Decodes the image in the file at `path`.
pub fn decode_file(path: &Path, limits: &Limits) -> Result<Image, DecodeError> {
    let read = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > limits.max_bytes {
            return Err(DecodeProblem::TooManyBytes { found: length, allowed: limits.max_bytes });
        }
        // A device or a growing file may hold more than its length says.
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(limits.max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        decode(&bytes, limits)
    };
    read().map_err(|problem| DecodeError { file: path.display().to_string(), problem })
}

/// Decodes an image held in memory; `name` is what errors call it.
pub fn decode_bytes(name: &str, bytes: &[u8], limits: &Limits) -> Result<Image, DecodeError> {
    decode(bytes, limits).map_err(|problem| DecodeError { file: name.to_owned(), problem })
}

/// As [`decode_bytes`], but what is transparent in a PNG or WebP is painted over `background` instead of dropped. For
/// drawings such as emoji and logos, whose invisible pixels have no colour worth seeing.
pub fn decode_bytes_over(
    name: &str,
    bytes: &[u8],
    limits: &Limits,
    background: [u8; 3],
) -> Result<Image, DecodeError> {
    decode_with(bytes, limits, Some(background))
        .map_err(|problem| DecodeError { file: name.to_owned(), problem })
}

fn decode(bytes: &[u8], limits: &Limits) -> Result<Image, DecodeProblem> {
    decode_with(bytes, limits, None)
}

fn decode_with(bytes: &[u8], limits: &Limits, over: Option<[u8; 3]>) -> Result<Image, DecodeProblem> {
    if bytes.len() as u64 > limits.max_bytes {
        return Err(DecodeProblem::TooManyBytes { found: bytes.len() as u64, allowed: limits.max_bytes });
    }
    let Some(format) = Format::of(bytes) else {
        return Err(DecodeProblem::UnknownFormat { found: signature(bytes) });
    };
    let header = |error: image::ImageError| DecodeProblem::Header { format, reason: error.to_string() };
    let input = Cursor::new(bytes);
    match format {
        Format::Gif => super::gif::first_frame(bytes, limits),
        Format::Png => {
            check_png_header(bytes, limits)?;
            // Bounds what compressed metadata may unfold to; pixels are bounded by `limits`.
            let mut metadata = image::Limits::no_limits();
            metadata.max_alloc = Some(64 << 20);
            finish(PngDecoder::with_limits(input, metadata).map_err(header)?, format, limits, over)
        }
        Format::Jpeg => match super::jpeg::decode(bytes, limits)? {
            None => finish(JpegDecoder::new(input).map_err(header)?, format, limits, over),
            Some(pixels) => {
                let orientation = JpegDecoder::new(input).and_then(|mut decoder| decoder.orientation());
                upright(DynamicImage::ImageRgb8(pixels), orientation, format, over)
            }
        },
        Format::WebP => finish(WebPDecoder::new(input).map_err(header)?, format, limits, over),
        Format::Bmp => finish(BmpDecoder::new(input).map_err(header)?, format, limits, over),
    }
}

fn finish<D: ImageDecoder>(
    mut decoder: D,
    format: Format,
    limits: &Limits,
    over: Option<[u8; 3]>,
) -> Result<Image, DecodeProblem> {
    let body = |error: image::ImageError| DecodeProblem::Body { format, reason: error.to_string() };
    let (width, height) = decoder.dimensions();
    let size = Size { height, width };
    limits.check(size)?;
    let mut memory = image::Limits::no_limits();
    memory.max_alloc = Some(16 * size.area() + (64 << 20));
    decoder.set_limits(memory).map_err(body)?;
    let orientation = decoder.orientation();
    let decoded = DynamicImage::from_decoder(decoder).map_err(body)?;
    upright(decoded, orientation, format, over)
}

/// RGB, turned as the EXIF block says. A broken block must not cost the user the picture.
fn upright(
    mut decoded: DynamicImage,
    orientation: image::ImageResult<Orientation>,
    format: Format,
    over: Option<[u8; 3]>,
) -> Result<Image, DecodeProblem> {
    decoded.apply_orientation(orientation.unwrap_or(Orientation::NoTransforms));
    let (width, height) = (decoded.width(), decoded.height());
    let data = match over {
        Some(background) if decoded.color().has_alpha() => paint_over(decoded, background),
        _ => to_rgb(decoded),
    };
    Image::from_rgb(width, height, data).ok_or_else(|| DecodeProblem::Body {
        format,
        reason: format!("the decoder returned another number of bytes than {width} x {height} takes"),
    })
}

fn paint_over(decoded: DynamicImage, background: [u8; 3]) -> Vec<u8> {
    let pixels = decoded.into_rgba8().into_raw();
    let blend = |pixel: &[u8]| {
        let opacity = u32::from(pixel[3]);
        let mix = |value: u8, below: u8| {
            (u32::from(value) * opacity + u32::from(below) * (255 - opacity) + 127) / 255
        };
        [0, 1, 2].map(|channel| mix(pixel[channel], background[channel]) as u8)
    };
    pixels.chunks_exact(4).flat_map(blend).collect()
}

fn to_rgb(decoded: DynamicImage) -> Vec<u8> {
    fn pick<T: Copy>(samples: &[T], channels: usize, byte: impl Fn(T) -> u8) -> Vec<u8> {
        let green = if channels < 3 { 0 } else { 1 };
        let pixels = samples.chunks_exact(channels);
        pixels.flat_map(|pixel| [pixel[0], pixel[green], pixel[2 * green]].map(&byte)).collect()
    }
    let high = |sample: u16| (sample >> 8) as u8;
    match decoded {
        DynamicImage::ImageRgb8(pixels) => pixels.into_raw(),
        DynamicImage::ImageLuma8(pixels) => pick(pixels.as_raw(), 1, |sample| sample),
        DynamicImage::ImageLumaA8(pixels) => pick(pixels.as_raw(), 2, |sample| sample),
        DynamicImage::ImageRgba8(pixels) => pick(pixels.as_raw(), 4, |sample| sample),
        DynamicImage::ImageLuma16(pixels) => pick(pixels.as_raw(), 1, high),
        DynamicImage::ImageLumaA16(pixels) => pick(pixels.as_raw(), 2, high),
        DynamicImage::ImageRgb16(pixels) => pick(pixels.as_raw(), 3, high),
        DynamicImage::ImageRgba16(pixels) => pick(pixels.as_raw(), 4, high),
        other => other.into_rgb8().into_raw(),
    }
}

/// IHDR is the first chunk of every PNG: its size is checked before the decoder sees a byte.
fn check_png_header(bytes: &[u8], limits: &Limits) -> Result<(), DecodeProblem> {
    let field = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    match (bytes.get(12..16), field(16), field(20)) {
        (Some(b"IHDR"), Some(width), Some(height)) => limits.check(Size { height, width }),
        _ => Err(DecodeProblem::Header {
            format: Format::Png,
            reason: "the first chunk is no IHDR of width and height".to_owned(),
        }),
    }
}

fn signature(bytes: &[u8]) -> String {
    match bytes {
        [] => "no byte at all".to_owned(),
        _ => bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_unknown_signature_is_shown() {
        let error = decode_bytes("notes.jpg", b"PK\x03\x04rest", &Limits::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "image notes.jpg: starts with 50 4b 03 04 72 65 73 74, which is the signature of none of PNG, JPEG, WebP, \
             GIF and BMP"
        );
        let error = decode_bytes("empty", b"", &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("no byte at all"));
    }

    #[test]
    fn transparency_is_dropped_and_16_bits_keep_the_high_byte() {
        let mut rgba = image::RgbaImage::new(1, 1);
        rgba.put_pixel(0, 0, image::Rgba([10, 20, 30, 0]));
        assert_eq!(to_rgb(DynamicImage::ImageRgba8(rgba)), [10, 20, 30]);
        let half = image::RgbaImage::from_raw(2, 1, vec![10, 20, 30, 0, 200, 100, 0, 128]).unwrap();
        assert_eq!(paint_over(DynamicImage::ImageRgba8(half), [255; 3]), [255, 255, 255, 227, 177, 127]);
        let grey = image::ImageBuffer::from_raw(2, 1, vec![0x80ff_u16, 0x0100]).unwrap();
        assert_eq!(to_rgb(DynamicImage::ImageLuma16(grey)), [128, 128, 128, 1, 1, 1]);
        let grey = image::ImageBuffer::from_raw(1, 1, vec![7_u8, 99]).unwrap();
        assert_eq!(to_rgb(DynamicImage::ImageLumaA8(grey)), [7, 7, 7]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = decode_file(Path::new("nowhere/cat.png"), &Limits::default()).unwrap_err();
        assert!(error.to_string().starts_with("image nowhere/cat.png: cannot be read:"), "{error}");
    }
}
