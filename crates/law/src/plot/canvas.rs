//! A page to draw on: plotters' SVG backend in tenths of a pixel, with dashes, clipping and text by its baseline.
//!
//! plotters' backends take whole numbers, which would bend smooth curves at a page of 960 pixels. So the page is drawn
//! ten times as large, and its `viewBox` scales it back.

use plotters::prelude::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontFamily, FontTransform, RGBAColor, RGBColor, ShapeStyle};

use super::colour::WHITE;
use super::error::PlotError;
use super::font::{self, Weight};

/// Drawing units in a pixel.
const TENTHS: f64 = 10.0;
/// plotters' font size over the `font-size` it writes.
const PLOTTERS_OVER_SVG: f64 = 1.24;
/// How far below its position plotters sets the baseline of top-anchored text, in em.
const TOP_TO_BASELINE: f64 = 0.76;

/// A point on the page in pixels, y downwards.
pub(super) type Point = (f64, f64);

/// A box on the page in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Frame {
    pub(super) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(super) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(super) fn holds(&self, other: &Self) -> bool {
        other.left >= self.left
            && other.right <= self.right
            && other.top >= self.top
            && other.bottom <= self.bottom
    }

    pub(super) fn contains(&self, (x, y): Point) -> bool {
        x >= self.left && x <= self.right && y >= self.top && y <= self.bottom
    }

    pub(super) fn grown(&self, by: f64) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }
}

/// A line's colour, opacity and width in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stroke {
    pub(super) colour: RGBColor,
    pub(super) opacity: f64,
    pub(super) width: f64,
}

impl Stroke {
    pub(super) fn new(colour: RGBColor, width: f64) -> Self {
        Self { colour, opacity: 1.0, width }
    }

    fn style(self) -> ShapeStyle {
        let width = (self.width * TENTHS).round() as u32;
        ShapeStyle { color: self.colour.mix(self.opacity), filled: false, stroke_width: width }
    }
}

/// Where text sits relative to its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How text looks: size in pixels, weight, colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    pub(super) em: f64,
    pub(super) weight: Weight,
    pub(super) colour: RGBColor,
}

impl Type {
    pub(super) fn width(&self, text: &str) -> Result<f64, PlotError> {
        font::width(text, self.em, self.weight)
    }

    pub(super) fn fit(&self, text: &str, limit: f64) -> Result<String, PlotError> {
        font::fit(text, self.em, self.weight, limit)
    }

    /// How far below the middle of a line its baseline is.
    pub(super) fn drop(&self) -> f64 {
        0.36 * self.em
    }
}

/// The page while it is drawn.
pub(super) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

/// Draws a page of `width` × `height` pixels and returns it as an SVG document with `title` as its accessible name.
pub(super) fn document(
    (width, height): (u32, u32),
    title: &str,
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let (wide, high) = (width * TENTHS as u32, height * TENTHS as u32);
    let mut drawn = String::new();
    {
        let mut canvas = Canvas { backend: SVGBackend::with_string(&mut drawn, (wide, high)) };
        let page = Frame { left: 0.0, top: 0.0, right: f64::from(width), bottom: f64::from(height) };
        canvas.rectangle(page, WHITE, 1.0)?;
        draw(&mut canvas)?;
        canvas.backend.present().map_err(refused)?;
    }
    let body = drawn.split_once('\n').map_or("", |(_, body)| body);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {wide} {high}\" role=\"img\">\n<title>{}</title>\n{body}",
        escaped(title)
    ))
}

impl Canvas<'_> {
    pub(super) fn rectangle(
        &mut self,
        frame: Frame,
        colour: RGBColor,
        opacity: f64,
    ) -> Result<(), PlotError> {
        let (from, to) = (whole((frame.left, frame.top)), whole((frame.right, frame.bottom)));
        self.backend.draw_rect(from, to, &filled(colour, opacity), true).map_err(refused)
    }

    /// A connected line; fewer than two points draw nothing.
    pub(super) fn line(&mut self, points: &[Point], stroke: Stroke) -> Result<(), PlotError> {
        if points.len() < 2 {
            return Ok(());
        }
        self.backend.draw_path(points.iter().copied().map(whole), &stroke.style()).map_err(refused)
    }

    /// A connected line of dashes `on` pixels long with gaps of `off`.
    pub(super) fn dashes(
        &mut self,
        points: &[Point],
        on: f64,
        off: f64,
        stroke: Stroke,
    ) -> Result<(), PlotError> {
        for dash in dash_pieces(points, on, off) {
            self.line(&dash, stroke)?;
        }
        Ok(())
    }

    pub(super) fn polygon(
        &mut self,
        points: &[Point],
        colour: RGBColor,
        opacity: f64,
    ) -> Result<(), PlotError> {
        if points.len() < 3 {
            return Ok(());
        }
        let style = filled(colour, opacity);
        self.backend.fill_polygon(points.iter().copied().map(whole), &style).map_err(refused)
    }

    /// A filled circle with a thin white rim, so that touching circles stay apart.
    pub(super) fn disc(&mut self, centre: Point, radius: f64, colour: RGBColor) -> Result<(), PlotError> {
        for (grown, fill) in [(radius + 1.0, WHITE), (radius, colour)] {
            let radius = (grown * TENTHS).round() as u32;
            self.backend.draw_circle(whole(centre), radius, &filled(fill, 1.0), true).map_err(refused)?;
        }
        Ok(())
    }

    pub(super) fn ring(&mut self, centre: Point, radius: f64, stroke: Stroke) -> Result<(), PlotError> {
        let radius = (radius * TENTHS).round() as u32;
        self.backend.draw_circle(whole(centre), radius, &stroke.style(), false).map_err(refused)
    }

    /// One line of text with its baseline at `at`.
    pub(super) fn text(
        &mut self,
        text: &str,
        at: Point,
        anchor: Anchor,
        look: Type,
    ) -> Result<(), PlotError> {
        let at = (at.0, at.1 - TOP_TO_BASELINE * look.em);
        self.place_text(text, at, anchor, look, FontTransform::None)
    }

    /// One line of text that reads upwards with its baseline at `at`, centred there.
    pub(super) fn text_upwards(&mut self, text: &str, at: Point, look: Type) -> Result<(), PlotError> {
        let at = (at.0 - TOP_TO_BASELINE * look.em, at.1);
        self.place_text(text, at, Anchor::Middle, look, FontTransform::Rotate270)
    }

    fn place_text(
        &mut self,
        text: &str,
        at: Point,
        anchor: Anchor,
        look: Type,
        turn: FontTransform,
    ) -> Result<(), PlotError> {
        let across = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let size = look.em * TENTHS * PLOTTERS_OVER_SVG;
        let style = FontDesc::new(FontFamily::Name(font::FAMILY), size, look.weight.style())
            .transform(turn)
            .color(&look.colour)
            .pos(Pos::new(across, VPos::Top));
        self.backend.draw_text(&printable(text), &style, whole(at)).map_err(refused)
    }
}

/// The parts of a polyline inside `frame`.
pub(super) fn clipped(points: &[Point], frame: &Frame) -> Vec<Vec<Point>> {
    let mut pieces: Vec<Vec<Point>> = Vec::new();
    for pair in points.windows(2) {
        let Some((from, to)) = clip_segment(pair[0], pair[1], frame) else { continue };
        match pieces.last_mut() {
            Some(piece) if piece.last() == Some(&from) => piece.push(to),
            _ => pieces.push(vec![from, to]),
        }
    }
    pieces
}

/// Liang and Barsky's rule: the stretch of a segment that lies on the inner side of all four edges.
fn clip_segment(from: Point, to: Point, frame: &Frame) -> Option<(Point, Point)> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let edges = [
        (-dx, from.0 - frame.left),
        (dx, frame.right - from.0),
        (-dy, from.1 - frame.top),
        (dy, frame.bottom - from.1),
    ];
    let (mut enter, mut leave) = (0.0f64, 1.0f64);
    for (outwards, room) in edges {
        if outwards == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if outwards < 0.0 {
            enter = enter.max(room / outwards);
        } else {
            leave = leave.min(room / outwards);
        }
    }
    let at = |share: f64| (from.0 + share * dx, from.1 + share * dy);
    // An end inside the frame is kept bit for bit, so that neighbouring segments join into one piece.
    let first = if enter > 0.0 { at(enter) } else { from };
    let last = if leave < 1.0 { at(leave) } else { to };
    (enter <= leave).then_some((first, last))
}

fn dash_pieces(points: &[Point], on: f64, off: f64) -> Vec<Vec<Point>> {
    let mut pieces = Vec::new();
    let (mut drawing, mut left) = (true, on);
    let mut piece: Vec<Point> = points.first().copied().into_iter().collect();
    for pair in points.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > left {
            let share = left / length;
            from = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
            length -= left;
            if drawing {
                piece.push(from);
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![from];
            drawing = !drawing;
            left = if drawing { on } else { off };
        }
        left -= length;
        piece.push(to);
        if !drawing {
            piece = vec![to];
        }
    }
    if drawing {
        pieces.push(piece);
    }
    pieces
}

fn filled(colour: RGBColor, opacity: f64) -> RGBAColor {
    colour.mix(opacity)
}

fn whole((x, y): Point) -> (i32, i32) {
    ((x * TENTHS).round() as i32, (y * TENTHS).round() as i32)
}

/// XML knows no control characters; a label's line break becomes a space.
fn printable(text: &str) -> String {
    text.chars().map(|character| if allowed_in_xml(character) { character } else { ' ' }).collect()
}

fn allowed_in_xml(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{FFFE}' | '\u{FFFF}')
}

fn escaped(text: &str) -> String {
    printable(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn refused(error: impl std::fmt::Display) -> PlotError {
    PlotError::Drawing(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const FRAME: Frame = Frame { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };

    #[test]
    fn clipping_keeps_the_inside_and_splits_at_the_outside() {
        let points = [(-5.0, 5.0), (5.0, 5.0), (5.0, 15.0), (8.0, 15.0), (8.0, 2.0)];
        let pieces = clipped(&points, &FRAME);
        assert_eq!(pieces, [vec![(0.0, 5.0), (5.0, 5.0), (5.0, 10.0)], vec![(8.0, 10.0), (8.0, 2.0)]]);
        assert!(clipped(&[(11.0, 0.0), (12.0, 9.0)], &FRAME).is_empty());
    }

    #[test]
    fn dashes_cover_their_share_of_the_length_round_corners() {
        let points = [(0.0, 0.0), (30.0, 0.0), (30.0, 30.0)];
        let pieces = dash_pieces(&points, 7.0, 3.0);
        let length: f64 = pieces
            .iter()
            .flat_map(|piece| piece.windows(2))
            .map(|pair| (pair[1].0 - pair[0].0).hypot(pair[1].1 - pair[0].1))
            .sum();
        assert!((length - 42.0).abs() < 1e-9, "{length}");
        assert_eq!(pieces.len(), 6);
    }

    #[test]
    fn control_characters_and_markup_cannot_break_the_document() {
        let look = Type { em: 12.0, weight: Weight::Regular, colour: WHITE };
        let svg = document((100, 50), "a<b>&\u{0}", |canvas| {
            canvas.text("x < y\n& \u{1b}\"z\"", (10.0, 20.0), Anchor::Start, look)
        })
        .unwrap();
        let parsed = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
        let text = parsed.descendants().find(|node| node.has_tag_name("text")).unwrap();
        assert_eq!(text.text().unwrap().trim(), "x < y &  \"z\"");
    }
}
