//! Where the pictures that a tower sees lie on the image that was given: for whoever draws on the image what the tower found.

use super::Size;
use super::anyres::{fit_inside, select_best_resolution};
use super::crop::CentreCrop;
use super::preprocess::{Preprocessor, Target};

/// A rectangle on an image, in shares of the image's width and height: (0, 0, 1, 1) is the whole image, and what lies beyond
/// is padding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Where it begins, from the left.
    pub left: f64,
    /// Where it begins, from the top.
    pub top: f64,
    /// How wide it is.
    pub width: f64,
    /// How high it is.
    pub height: f64,
}

impl Frame {
    /// The whole image.
    pub const WHOLE: Frame = Frame { left: 0.0, top: 0.0, width: 1.0, height: 1.0 };

    /// A part of this frame, itself given in shares of it.
    fn part(self, part: Frame) -> Frame {
        Frame {
            left: self.left + part.left * self.width,
            top: self.top + part.top * self.height,
            width: part.width * self.width,
            height: part.height * self.height,
        }
    }
}

impl Preprocessor {
    /// The frame of each tile that [`apply`](Self::apply) makes of an image of size `original`, in the same order.
    ///
    /// ```
    /// use foveate_data::image::{Preprocessor, Size};
    /// // A wide image is padded to a square: the tower sees as much above and below it as beside it.
    /// let [frame] = Preprocessor::llava_1_5().frames(Size::new(100, 200))[..] else { panic!() };
    /// assert_eq!((frame.left, frame.width, frame.top, frame.height), (0.0, 1.0, -0.5, 2.0));
    /// ```
    pub fn frames(&self, original: Size) -> Vec<Frame> {
        let Some(pinpoints) = &self.tiling else {
            let square = Size::square(original.height.max(original.width));
            return match self.pad_to_square {
                true => vec![padded(original, square).part(self.cropped(square))],
                false => vec![self.cropped(original)],
            };
        };
        let side = match self.resize {
            Some(Target::ShortestEdge(edge)) => edge,
            Some(Target::Exact(size) | Target::Inside(size)) => size.height.min(size.width),
            None => 0,
        };
        let tile = self.crop.map_or(side, |crop| crop.height);
        let mut frames = vec![self.cropped(Size::square(side))];
        let Some(best) = select_best_resolution(original, pinpoints).filter(|_| tile > 0) else {
            return frames;
        };
        let canvas = padded(fit_inside(original, best), best);
        let share = |part: u32, whole: u32| f64::from(part) / f64::from(whole);
        for row in 0..best.height / tile {
            for column in 0..best.width / tile {
                let place = Frame {
                    left: share(column * tile, best.width),
                    top: share(row * tile, best.height),
                    width: share(tile, best.width),
                    height: share(tile, best.height),
                };
                frames.push(canvas.part(place).part(self.cropped(Size::square(tile))));
            }
        }
        frames
    }

    /// What resizing and cropping keep of a picture, in shares of it.
    fn cropped(&self, from: Size) -> Frame {
        let target = self.resize.map_or(from, |target| target.of(from));
        let crop = self.kept(target);
        if target.area() == 0 || crop.area() == 0 {
            return Frame::WHOLE;
        }
        let (top, left) = CentreCrop::new(target, crop).origin();
        Frame {
            left: left as f64 / f64::from(target.width),
            top: top as f64 / f64::from(target.height),
            width: f64::from(crop.width) / f64::from(target.width),
            height: f64::from(crop.height) / f64::from(target.height),
        }
    }
}

/// A canvas around a picture in its middle, in shares of the picture.
fn padded(picture: Size, canvas: Size) -> Frame {
    let along = |side: u32, canvas: u32| {
        let before = (canvas - side) / 2;
        (-f64::from(before) / f64::from(side), f64::from(canvas) / f64::from(side))
    };
    let (left, width) = along(picture.width, canvas.width);
    let (top, height) = along(picture.height, canvas.height);
    Frame { left, top, width, height }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::image::Image;

    /// An image whose red says how far right, and whose green how far down.
    fn ramp(size: Size) -> Image {
        let level = |at: u32, of: u32| ((f64::from(at) + 0.5) / f64::from(of) * 255.0).round() as u8;
        let rows = (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y)));
        let data = rows.flat_map(|(x, y)| [level(x, size.width), level(y, size.height), 255]);
        Image::from_rgb(size.width, size.height, data.collect()).unwrap()
    }

    #[test]
    fn frames_say_where_the_pixels_of_tiles_come_from() {
        let smaller = Preprocessor { resize: None, crop: Some(Size::new(90, 70)), ..Preprocessor::clip(64) };
        let tiled = Preprocessor {
            tiling: Some(vec![Size::new(64, 128), Size::square(128), Size::new(192, 64)]),
            ..Preprocessor::clip(64)
        };
        let padded = Preprocessor { pad_to_square: true, ..Preprocessor::clip(64) };
        let inside =
            Preprocessor { resize: Some(Target::Inside(Size::new(120, 240))), ..Preprocessor::siglip(1) };
        let all = [
            Preprocessor::clip(64),
            Preprocessor::siglip(64),
            Preprocessor::dinov2(),
            padded,
            inside,
            smaller,
            tiled,
        ];
        for plain in all.map(|of| Preprocessor { normalise: false, rescale: Some(1.0 / 255.0), ..of }) {
            for original in [Size::new(80, 80), Size::new(60, 131), Size::new(201, 75)] {
                let tiles = plain.apply(&ramp(original)).unwrap().tiles;
                let frames = plain.frames(original);
                assert_eq!(tiles.len(), frames.len(), "{original} {plain:?}");
                for (tile, frame) in tiles.iter().zip(&frames) {
                    let plane = tile.height * tile.width;
                    let mut compared = 0;
                    for at in 0..plane {
                        let share = |at: usize, of: usize| (at as f64 + 0.5) / of as f64;
                        let x = frame.left + share(at % tile.width, tile.width) * frame.width;
                        let y = frame.top + share(at / tile.width, tile.height) * frame.height;
                        // Edges are repeated by the filters, and padding has no place.
                        if [x, y].iter().all(|place| (0.06..0.94).contains(place)) {
                            let (red, green) = (f64::from(tile.data[at]), f64::from(tile.data[plane + at]));
                            let near = (red - x).abs() < 0.012 && (green - y).abs() < 0.012;
                            assert!(near, "{original} {frame:?}: {red} {green} at {x} {y} of {plain:?}");
                            compared += 1;
                        } else if [x, y].iter().any(|place| !(-0.02..1.02).contains(place)) {
                            assert!(
                                tile.data[2 * plane + at] < 0.9,
                                "{original} {frame:?}: no padding at {x} {y}"
                            );
                        }
                    }
                    assert!(compared > 200, "{original} {frame:?}");
                }
            }
        }
    }
}
