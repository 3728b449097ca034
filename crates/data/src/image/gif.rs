//! The first frame of a GIF as Pillow shows it: palette colours with transparency dropped, on a canvas that grows when
//! the frame reaches beyond it. The general decoder would blank transparent pixels, so frames are read by their indices.

use super::decode::{Format, Limits};
use super::error::DecodeProblem;
use super::{Image, Size};

pub(super) fn first_frame(bytes: &[u8], limits: &Limits) -> Result<Image, DecodeProblem> {
    let header = |reason: String| DecodeProblem::Header { format: Format::Gif, reason };
    let body = |reason: String| DecodeProblem::Body { format: Format::Gif, reason };

    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    // Sizes are checked here, below; a limit of the decoder's own would report them without their values.
    options.set_memory_limit(gif::MemoryLimit::Unlimited);
    let mut decoder = options.read_info(bytes).map_err(|error| header(error.to_string()))?;
    let screen = Size { height: decoder.height().into(), width: decoder.width().into() };
    limits.check(screen)?;
    let background_palette = decoder.global_palette().map(<[u8]>::to_vec);

    let frame = decoder.next_frame_info().map_err(|error| header(error.to_string()))?;
    let frame = frame.ok_or_else(|| header("it holds no frame".to_owned()))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let transparent = frame.transparent;
    let palette = frame.palette.clone().or(background_palette);
    let canvas = Size {
        height: screen.height.max((top + height) as u32),
        width: screen.width.max((left + width) as u32),
    };
    limits.check(canvas)?;
    limits.check(Size { height: height as u32, width: width as u32 })?;

    let mut indices = vec![0; width * height];
    decoder.read_into_buffer(&mut indices).map_err(|error| body(error.to_string()))?;

    let colour = |index: u8| match &palette {
        // No palette at all: the index is a level of grey.
        None => [index; 3],
        Some(palette) => {
            let at = 3 * usize::from(index);
            palette.get(at..at + 3).and_then(|rgb| rgb.try_into().ok()).unwrap_or([0; 3])
        }
    };
    let mut image = Image::filled(canvas.width, canvas.height, colour(transparent.unwrap_or(0)));
    let stride = 3 * canvas.width as usize;
    for (y, row) in indices.chunks_exact(width).enumerate() {
        let start = (top + y) * stride + 3 * left;
        for (pixel, &index) in image.data[start..start + 3 * width].chunks_exact_mut(3).zip(row) {
            pixel.copy_from_slice(&colour(index));
        }
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A 3 x 2 screen with a frame of `width` x 1 at (1, 1); colour 1 is transparent.
    fn sample(width: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = gif::Encoder::new(&mut bytes, 3, 2, &[9, 9, 9, 40, 50, 60, 70, 80, 90]).unwrap();
        let frame = gif::Frame {
            left: 1,
            top: 1,
            width,
            height: 1,
            transparent: Some(1),
            buffer: (0..width).map(|x| (2 - x % 2) as u8).collect::<Vec<u8>>().into(),
            ..gif::Frame::default()
        };
        encoder.write_frame(&frame).unwrap();
        drop(encoder);
        bytes
    }

    #[test]
    fn transparent_pixels_show_their_palette_colour() {
        let image = first_frame(&sample(2), &Limits::default()).unwrap();
        assert_eq!(image.size(), Size::new(2, 3));
        assert_eq!(image.row(0), [40, 50, 60].repeat(3));
        assert_eq!(image.row(1), [40, 50, 60, 70, 80, 90, 40, 50, 60]);
    }

    #[test]
    fn a_frame_that_overhangs_widens_the_canvas() {
        assert_eq!(first_frame(&sample(5), &Limits::default()).unwrap().size(), Size::new(2, 6));
        let tight = Limits { max_side: 5, ..Limits::default() };
        let error = first_frame(&sample(5), &tight).unwrap_err();
        assert_eq!(error.to_string(), "width in the header is 6, allowed are 1 to 5");
    }
}
