//! What both generators paint on: a pixmap with noise, in colours that stay apart.

use tiny_skia::{
    Color, FillRule, GradientStop, LinearGradient, Paint, Path, Pixmap, Point, Shader, SpreadMode, Stroke,
    Transform,
};

use crate::image::Image;
use crate::random::Draw;

/// Longest side that is painted, in pixels.
pub(super) const MAX_SIDE: u32 = 4096;

/// Red, green, blue.
pub(super) type Rgb = [u8; 3];

/// How far two colours look apart, roughly as the eye sees it: 0 to 765.
pub(super) fn contrast(a: Rgb, b: Rgb) -> f32 {
    let [red, green, blue] = [0, 1, 2].map(|i| f32::from(a[i]) - f32::from(b[i]));
    let mean = (f32::from(a[0]) + f32::from(b[0])) / 512.0;
    ((2.0 + mean) * red * red + 4.0 * green * green + (3.0 - mean) * blue * blue).sqrt()
}

/// `colour` moved towards `other` by this part.
pub(super) fn mix(colour: Rgb, other: Rgb, part: f32) -> Rgb {
    [0, 1, 2].map(|i| (f32::from(colour[i]) * (1.0 - part) + f32::from(other[i]) * part) as u8)
}

/// `colour` with each channel moved at random by up to `by`.
pub(super) fn jitter(colour: Rgb, by: usize, draw: &mut Draw) -> Rgb {
    colour.map(|channel| (usize::from(channel) + draw.below(2 * by + 1)).saturating_sub(by).min(255) as u8)
}

/// An even colour, or one that runs across the canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fill {
    Even(Rgb),
    /// From the first to the second colour, between two points in pixels.
    Across(Rgb, Rgb, (f32, f32), (f32, f32)),
}

/// Pixels being painted.
pub(super) struct Canvas {
    pixmap: Pixmap,
    smooth: bool,
}

impl Canvas {
    /// Filled with `colour`; edges are anti-aliased if `smooth`.
    pub(super) fn new(width: u32, height: u32, colour: Rgb, smooth: bool) -> Canvas {
        let mut pixmap = Pixmap::new(width, height).expect("the callers keep sides within 1 to MAX_SIDE");
        pixmap.fill(opaque(colour));
        Canvas { pixmap, smooth }
    }

    /// Fills a path (even-odd) under `transform`.
    pub(super) fn fill(&mut self, path: &Path, fill: Fill, transform: Transform) {
        let paint = self.paint(fill, 1.0);
        self.pixmap.fill_path(path, &paint, FillRule::EvenOdd, transform, None);
    }

    /// Fills glyphs, whose loops overlap (non-zero winding).
    pub(super) fn fill_glyphs(&mut self, path: &Path, fill: Fill, transform: Transform) {
        let paint = self.paint(fill, 1.0);
        self.pixmap.fill_path(path, &paint, FillRule::Winding, transform, None);
    }

    /// Darkens below a path, as its shadow would.
    pub(super) fn shade(&mut self, path: &Path, strength: f32, transform: Transform) {
        let paint = self.paint(Fill::Even([0, 0, 0]), strength);
        self.pixmap.fill_path(path, &paint, FillRule::EvenOdd, transform, None);
    }

    /// Draws along a path; `width` in the units of the path.
    pub(super) fn stroke(&mut self, path: &Path, colour: Rgb, width: f32, transform: Transform) {
        let paint = self.paint(Fill::Even(colour), 1.0);
        let stroke = Stroke { width, ..Stroke::default() };
        self.pixmap.stroke_path(path, &paint, &stroke, transform, None);
    }

    fn paint(&self, fill: Fill, opacity: f32) -> Paint<'static> {
        let even = |rgb: Rgb| {
            let mut colour = opaque(rgb);
            colour.apply_opacity(opacity);
            Shader::SolidColor(colour)
        };
        let shader = match fill {
            Fill::Even(colour) => even(colour),
            Fill::Across(from, to, start, end) => LinearGradient::new(
                Point::from(start),
                Point::from(end),
                vec![GradientStop::new(0.0, opaque(from)), GradientStop::new(1.0, opaque(to))],
                SpreadMode::Pad,
                Transform::identity(),
            )
            .unwrap_or_else(|| even(from)),
        };
        Paint { shader, anti_alias: self.smooth, ..Paint::default() }
    }

    /// The picture, with noise of up to `noise` levels on every channel.
    pub(super) fn finish(self, noise: u8, seed: u32) -> Image {
        let (width, height) = (self.pixmap.width(), self.pixmap.height());
        let mut data = vec![0; 3 * width as usize * height as usize];
        let mut state = u64::from(seed) << 1 | 1;
        let span = 2 * u32::from(noise) + 1;
        for (out, pixel) in data.chunks_exact_mut(3).zip(self.pixmap.data().chunks_exact(4)) {
            out.copy_from_slice(&pixel[..3]);
            if noise > 0 {
                // xorshift64: noise needs no quality, and this is what keeps it off the clock.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                for (channel, value) in out.iter_mut().enumerate() {
                    let random = (state >> (16 * channel)) as u32 & 0xffff;
                    let moved = i32::from(*value) + ((random * span) >> 16) as i32 - i32::from(noise);
                    *value = moved.clamp(0, 255) as u8;
                }
            }
        }
        Image::from_rgb(width, height, data).expect("three bytes a pixel")
    }
}

fn opaque([red, green, blue]: Rgb) -> Color {
    Color::from_rgba8(red, green, blue, 255)
}
