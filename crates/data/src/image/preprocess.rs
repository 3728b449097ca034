//! The steps of the Hugging Face image processors, in their order: pad to square or tile, resize, centre crop, rescale,
//! normalise.
//!
//! This follows the slow processors, which resize with Pillow; the "fast" ones resample tensors and differ by a level.

use super::anyres::{AnyResolution, fit_inside, select_best_resolution};
use super::crop::{BLACK, CentreCrop, cut, pad_centred};
use super::error::PreprocessError;
use super::resize::{Filter, PassOrder, Resampler};
use super::{Image, Pixels, Size};

/// Most pixels that a padded or resized image may have (384 MiB of RGB). An 11,000-pixel panorama can still be padded to
/// a square; a strip of 1 x 65,535 cannot.
pub const MAX_INTERMEDIATE_PIXELS: u64 = 1 << 27;

/// Mean and deviation of CLIP's training images.
pub(super) const CLIP_MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
pub(super) const CLIP_STD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];
/// Mean and deviation of ImageNet, as DINOv2 uses them.
const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// What an image is resized to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The shorter side gets this length, the other follows and rounds down.
    ShortestEdge(u32),
    /// This size, whatever the aspect.
    Exact(Size),
    /// As large as fits into this size with its aspect; what is left of it on both sides gets the mean colour.
    Inside(Size),
}

impl Target {
    /// The size an image of size `from` gets; sides beyond `u32` saturate.
    pub fn of(self, from: Size) -> Size {
        match self {
            Target::Exact(size) => size,
            Target::Inside(size) => fit_inside(from, size),
            Target::ShortestEdge(edge) => {
                let (short, long) = (from.height.min(from.width), from.height.max(from.width));
                let long = u64::from(edge) * u64::from(long) / u64::from(short);
                let long = u32::try_from(long).unwrap_or(u32::MAX);
                if from.width <= from.height { Size::new(long, edge) } else { Size::new(edge, long) }
            }
        }
    }
}

/// An image processor: which steps it takes. Public fields, so that one step can be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Pads to a square with the mean colour before anything else (LLaVA-1.5).
    pub pad_to_square: bool,
    /// Resizes to this.
    pub resize: Option<Target>,
    /// The filter of every resize.
    pub filter: Filter,
    /// Which side every resize does first.
    pub order: PassOrder,
    /// Cuts this size from the centre; a smaller image gets black borders.
    pub crop: Option<Size>,
    /// Multiplies samples by this.
    pub rescale: Option<f64>,
    /// Subtracts `mean` and divides by `std`.
    pub normalise: bool,
    /// Mean of each channel, 0 to 1.
    pub mean: [f64; 3],
    /// Deviation of each channel.
    pub std: [f64; 3],
    /// Resolutions to choose from when the image is tiled (LLaVA-NeXT); tiles have the height of `crop`.
    pub tiling: Option<Vec<Size>>,
}

/// How the tiles of a processed image belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One tile: the image.
    Single,
    /// The whole image, then its tiles row by row.
    AnyResolution(AnyResolution),
}

/// The pixels of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Processed {
    /// One or more images of the same size for the vision tower.
    pub tiles: Vec<Pixels>,
    /// Size of the image as it was given.
    pub original: Size,
    /// How the tiles lie.
    pub layout: Layout,
}

impl Preprocessor {
    /// CLIP (`CLIPImageProcessor`) for a tower of `side` x `side` pixels: 224 or 336 for the published ones.
    pub fn clip(side: u32) -> Preprocessor {
        Preprocessor {
            pad_to_square: false,
            resize: Some(Target::ShortestEdge(side)),
            filter: Filter::Bicubic,
            order: PassOrder::Pillow13,
            crop: Some(Size::square(side)),
            rescale: Some(1.0 / 255.0),
            normalise: true,
            mean: CLIP_MEAN,
            std: CLIP_STD,
            tiling: None,
        }
    }

    /// SigLIP (`SiglipImageProcessor`): squeezed to a square whatever the aspect.
    pub fn siglip(side: u32) -> Preprocessor {
        Preprocessor {
            resize: Some(Target::Exact(Size::square(side))),
            crop: None,
            mean: [0.5; 3],
            std: [0.5; 3],
            ..Preprocessor::clip(side)
        }
    }

    /// The same steps towards squares of `side` pixels, whatever share of the image a centre crop keeps: down-scaling, the
    /// plainest way to fewer patches. `None` where the steps do not end in a square.
    ///
    /// ```
    /// use foveate_data::image::{Preprocessor, Size, Target};
    /// let small = Preprocessor::clip(336).with_side(168).unwrap();
    /// assert_eq!(small, Preprocessor::clip(168));
    /// let dinov2 = Preprocessor::dinov2().with_side(112).unwrap();
    /// assert_eq!((dinov2.resize, dinov2.crop), (Some(Target::ShortestEdge(128)), Some(Size::square(112))));
    /// ```
    pub fn with_side(mut self, side: u32) -> Option<Preprocessor> {
        let exact = match self.resize {
            Some(Target::Exact(size) | Target::Inside(size)) => Some(size),
            _ => None,
        };
        let now = self.crop.or(exact).filter(|size| size.height == size.width && self.tiling.is_none())?;
        let scaled = |length: u32| {
            let exact = u64::from(length) * u64::from(side);
            u32::try_from((exact + u64::from(now.height) / 2) / u64::from(now.height.max(1))).ok()
        };
        let both = |size: Size| Some(Size::new(scaled(size.height)?, scaled(size.width)?));
        self.resize = match self.resize {
            Some(Target::ShortestEdge(edge)) => Some(Target::ShortestEdge(scaled(edge)?)),
            Some(Target::Exact(size)) => Some(Target::Exact(both(size)?)),
            Some(Target::Inside(size)) => Some(Target::Inside(both(size)?)),
            None => return None,
        };
        self.crop = self.crop.map(|_| Size::square(side));
        Some(self)
    }

    /// DINOv2 (`BitImageProcessor`): shorter side 256, centre 224.
    pub fn dinov2() -> Preprocessor {
        Preprocessor {
            resize: Some(Target::ShortestEdge(256)),
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            ..Preprocessor::clip(224)
        }
    }

    /// LLaVA-1.5: padded to a square with CLIP's mean colour, then CLIP at 336.
    pub fn llava_1_5() -> Preprocessor {
        Preprocessor { pad_to_square: true, ..Preprocessor::clip(336) }
    }

    /// LLaVA-NeXT (1.6): CLIP at 336 over the image and over the tiles of its best resolution.
    pub fn llava_next() -> Preprocessor {
        let pinpoints = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)];
        let tiling = pinpoints.map(|(height, width)| Size::new(height, width)).to_vec();
        Preprocessor { tiling: Some(tiling), ..Preprocessor::clip(336) }
    }

    /// Carries out the steps.
    pub fn apply(&self, image: &Image) -> Result<Processed, PreprocessError> {
        let original = image.size();
        let tables = self.tables();
        let Some(pinpoints) = &self.tiling else {
            let tile = if self.pad_to_square && original.height != original.width {
                let square = Size::square(original.height.max(original.width));
                bounded("padding to a square", square, original)?;
                self.tile(&pad_centred(image, square, self.mean_colour()), &tables)?
            } else {
                self.tile(image, &tables)?
            };
            return Ok(Processed { tiles: vec![tile], original, layout: Layout::Single });
        };
        let (tiles, layout) = self.tiles(image, pinpoints, &tables)?;
        Ok(Processed { tiles, original, layout: Layout::AnyResolution(layout) })
    }

    /// The whole image squeezed to a square, then the tiles of the best resolution.
    fn tiles(
        &self,
        image: &Image,
        pinpoints: &[Size],
        tables: &Tables,
    ) -> Result<(Vec<Pixels>, AnyResolution), PreprocessError> {
        let original = image.size();
        let field = |field, found: String, allowed: &str| PreprocessError::Field {
            file: "image processor".to_owned(),
            field,
            found,
            allowed: allowed.to_owned(),
        };
        let best = select_best_resolution(original, pinpoints).ok_or_else(|| {
            field("image_grid_pinpoints", "empty".to_owned(), "one or more [height, width]")
        })?;
        let side = match self.resize {
            Some(Target::ShortestEdge(edge)) => edge,
            Some(Target::Exact(size) | Target::Inside(size)) => size.height.min(size.width),
            None => return Err(field("do_resize", "false".to_owned(), "true when images are tiled")),
        };
        let tile_side = self.crop.map_or(side, |crop| crop.height);
        if tile_side == 0 || !best.height.is_multiple_of(tile_side) || !best.width.is_multiple_of(tile_side) {
            let allowed = format!("multiples of the tile side {tile_side}");
            return Err(field(
                "image_grid_pinpoints",
                format!("[{}, {}]", best.height, best.width),
                &allowed,
            ));
        }
        bounded("tiling", best, original)?;
        bounded("resizing", Size::square(side), original)?;

        let whole = self.resampler().resize(image, Size::square(side));
        let fitted = self.resampler().resize(image, fit_inside(original, best));
        let padded = pad_centred(&fitted, best, [0; 3]);
        let layout =
            AnyResolution { original, rows: best.height / tile_side, columns: best.width / tile_side };
        let mut tiles = vec![self.tile(&whole, tables)?];
        for row in 0..layout.rows {
            for column in 0..layout.columns {
                let tile = cut(&padded, row * tile_side, column * tile_side, Size::square(tile_side));
                tiles.push(self.tile(&tile, tables)?);
            }
        }
        Ok((tiles, layout))
    }

    /// Resize, centre crop, rescale and normalise one image.
    fn tile(&self, image: &Image, tables: &Tables) -> Result<Pixels, PreprocessError> {
        let original = image.size();
        let target = self.resize.map_or(original, |target| target.of(original));
        let crop = self.kept(target);
        if target.area() == 0 || crop.area() == 0 {
            let size = if crop.area() == 0 { crop } else { target };
            return Err(PreprocessError::EmptyTarget {
                step: "resizing",
                size,
                original,
                filter: self.filter,
            });
        }
        bounded("resizing", crop, original)?;
        let colour = if matches!(self.resize, Some(Target::Inside(_))) { self.mean_colour() } else { BLACK };
        let crop = CentreCrop::new(target, crop);
        let window = self.resampler().resize_window(image, target, crop.window);
        Ok(tables.apply(&crop.finish(window, colour)))
    }

    /// What is kept of an image that was resized to `target`, in its middle: the canvas around it where that is larger.
    pub(super) fn kept(&self, target: Size) -> Size {
        match (self.crop, self.resize) {
            (Some(crop), _) => crop,
            (None, Some(Target::Inside(canvas))) => canvas,
            (None, _) => target,
        }
    }

    /// `int(mean * 255)` of the reference: cut, not rounded.
    fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0) as u8)
    }

    fn resampler(&self) -> Resampler {
        Resampler { filter: self.filter, order: self.order }
    }

    /// Rescaling and normalising map each of 256 levels to one value: f64 product cut to f32, then f32 arithmetic.
    fn tables(&self) -> Tables {
        let value = |channel: usize, level: u8| {
            let scaled = self.rescale.map_or(f32::from(level), |scale| (f64::from(level) * scale) as f32);
            if self.normalise {
                (scaled - self.mean[channel] as f32) / self.std[channel] as f32
            } else {
                scaled
            }
        };
        Tables([0, 1, 2].map(|channel| std::array::from_fn(|level| value(channel, level as u8))))
    }
}

struct Tables([[f32; 256]; 3]);

impl Tables {
    fn apply(&self, image: &Image) -> Pixels {
        let (height, width) = (image.size().height as usize, image.size().width as usize);
        let mut data = Vec::with_capacity(3 * height * width);
        for (channel, table) in self.0.iter().enumerate() {
            data.extend(
                image.as_rgb().iter().skip(channel).step_by(3).map(|&level| table[usize::from(level)]),
            );
        }
        Pixels { data, channels: 3, height, width }
    }
}

fn bounded(step: &'static str, size: Size, original: Size) -> Result<(), PreprocessError> {
    if size.area() > MAX_INTERMEDIATE_PIXELS {
        return Err(PreprocessError::Intermediate { step, size, original, allowed: MAX_INTERMEDIATE_PIXELS });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_shorter_edge_rounds_the_longer_down() {
        // transformers: get_resize_output_image_size((480, 641), 224, default_to_square=False) == (224, 299)
        assert_eq!(Target::ShortestEdge(224).of(Size::new(480, 641)), Size::new(224, 299));
        assert_eq!(Target::ShortestEdge(224).of(Size::new(641, 480)), Size::new(299, 224));
    }

    #[test]
    fn the_padding_is_normalised_mean_colour() {
        let wide = Image::filled(672, 336, [255; 3]);
        let processed = Preprocessor::llava_1_5().apply(&wide).unwrap();
        let pixels = &processed.tiles[0];
        let normal = |level: u8, channel: usize| {
            ((f64::from(level) / 255.0) as f32 - CLIP_MEAN[channel] as f32) / CLIP_STD[channel] as f32
        };
        for (channel, level) in [(0, 122), (1, 116), (2, 104)] {
            let plane = &pixels.data[channel * 336 * 336..][..336 * 336];
            assert!((plane[0] - normal(level, channel)).abs() < 1e-6);
            assert!((plane[168 * 336 + 168] - normal(255, channel)).abs() < 1e-6);
        }
    }

    #[test]
    fn an_aspect_is_kept_inside_of_a_rectangle() {
        let inside = |size: Size| Target::Inside(size);
        let wide = Preprocessor { resize: Some(inside(Size::new(84, 336))), ..Preprocessor::siglip(1) };
        // By hand: a line of 32 x 64 becomes 84 x 168, in the middle of 336; a longer one fills the width.
        for (from, fitted, first) in [
            (Size::new(32, 64), Size::new(84, 168), (0, 84)),
            (Size::new(32, 256), Size::new(42, 336), (21, 0)),
        ] {
            assert_eq!(wide.resize.unwrap().of(from), fitted);
            let pixels = &wide.apply(&Image::filled(from.width, from.height, [255; 3])).unwrap().tiles[0];
            assert_eq!((pixels.height, pixels.width), (84, 336));
            // White is 1, and the mean colour, 127 of 255, nearly 0.
            let row = |y: usize| &pixels.data[y * 336..(y + 1) * 336];
            let white = row(first.0).iter().filter(|value| **value == 1.0).count();
            assert_eq!((white, row(first.0)[first.1]), (fitted.width as usize, 1.0));
            let (above, beside) = (first.0.checked_sub(1).map(|y| row(y)[200]), first.1.checked_sub(1));
            let grey = above.or(beside.map(|x| row(first.0)[x])).unwrap();
            assert!((grey - (2.0 * 127.0 / 255.0 - 1.0)).abs() < 1e-6, "{grey}");
        }
        // However large or long a picture is, nothing larger than the result is made of it.
        let tall = Image::filled(1, 65_535, [9; 3]);
        assert_eq!(wide.apply(&tall).unwrap().tiles[0].width, 336);
        let smaller = Preprocessor { resize: Some(inside(Size::square(84))), ..wide.clone() };
        assert_eq!(smaller.with_side(42).unwrap().resize, Some(inside(Size::square(42))));
        assert!(wide.with_side(42).is_none());
    }

    #[test]
    fn a_strip_cannot_ask_for_gigabytes() {
        let strip = Image::filled(65_535, 1, [1, 2, 3]);
        // Only the window that the crop keeps is computed.
        assert_eq!(Preprocessor::clip(336).apply(&strip).unwrap().tiles[0].width, 336);
        assert_eq!(Preprocessor::llava_next().apply(&strip).unwrap().tiles.len(), 3);
        let error = Preprocessor::llava_1_5().apply(&strip).unwrap_err();
        assert_eq!(
            error.to_string(),
            "padding to a square makes 65535 x 65535 = 4294836225 pixels of an image of 65535 x 1, at most 134217728 \
             are allowed"
        );
        let whole = Preprocessor { crop: None, ..Preprocessor::clip(336) };
        assert!(matches!(whole.apply(&strip), Err(PreprocessError::Intermediate { step: "resizing", .. })));
    }

    #[test]
    fn tiles_must_fill_their_grid() {
        let odd = Preprocessor { tiling: Some(vec![Size::new(336, 500)]), ..Preprocessor::llava_next() };
        let error = odd.apply(&Image::filled(10, 10, [0; 3])).unwrap_err();
        assert!(error.to_string().contains("[336, 500]") && error.to_string().contains("336"), "{error}");
    }
}
