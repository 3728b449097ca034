//! How a page is painted: paper or board, ink that stands out, a rule above the total, specks and noise.

use tiny_skia::{PathBuilder, Rect, Transform};

use super::{Font, Layout, Page, Role};
use crate::image::Image;
use crate::random::Draw;
use crate::synthetic::canvas::{Canvas, Fill, MAX_SIDE, Rgb, contrast, jitter, mix};

const PAPERS: [Rgb; 6] =
    [[252, 252, 250], [243, 239, 228], [226, 230, 234], [250, 240, 205], [222, 236, 222], [212, 206, 198]];
const BOARDS: [Rgb; 6] =
    [[22, 92, 52], [20, 62, 132], [150, 28, 34], [250, 204, 30], [38, 40, 44], [240, 240, 238]];
const INKS: [Rgb; 7] = [
    [16, 16, 18],
    [40, 44, 90],
    [110, 20, 24],
    [24, 80, 40],
    [84, 40, 100],
    [250, 250, 246],
    [252, 232, 120],
];

/// Least [`contrast`] between ink and ground.
const LEGIBLE: f32 = 330.0;

/// Everything about a page that no question asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Style {
    ground: Rgb,
    second: Rgb,
    ink: Rgb,
    framed: bool,
    smooth: bool,
    noise: u8,
    seed: u32,
    /// Centre and radius.
    specks: Vec<[f32; 3]>,
}

impl Style {
    pub(super) fn draw(layout: Layout, draw: &mut Draw) -> Style {
        let board = layout == Layout::Sign || (layout != Layout::Receipt && draw.chance(0.3));
        let ground = jitter(*draw.pick(if board { &BOARDS } else { &PAPERS }), 4, draw);
        let clear: Vec<Rgb> = INKS.into_iter().filter(|ink| contrast(*ink, ground) > LEGIBLE).collect();
        let ink = if clear.is_empty() { INKS[5] } else { *draw.pick(&clear) };
        let towards = if draw.chance(0.5) { [0, 0, 0] } else { [255, 255, 255] };
        let specks = if draw.chance(0.4) { draw.between(4, 20) } else { 0 };
        let specks = (0..specks)
            .map(|_| [draw.uniform(0.0, 1.0), draw.uniform(0.0, 1.0), draw.uniform(0.003, 0.01)])
            .collect();
        Style {
            ground,
            second: mix(ground, towards, draw.uniform(0.0, 0.14)),
            ink,
            framed: layout == Layout::Sign || draw.chance(0.15),
            smooth: draw.chance(0.92),
            noise: if draw.chance(0.6) { draw.between(1, 14) as u8 } else { 0 },
            seed: draw.word(),
            specks,
        }
    }
}

pub(super) fn paint(page: &Page, side: u32) -> Image {
    let style = &page.style;
    let mut canvas = Canvas::new(side, side, style.ground, style.smooth);
    let length = side as f32;
    let unit = Transform::from_scale(length, length);
    if let Some(all) = Rect::from_xywh(0.0, 0.0, length, length) {
        let across = Fill::Across(style.ground, style.second, (0.0, 0.0), (length, length));
        canvas.fill(&PathBuilder::from_rect(all), across, Transform::identity());
    }
    for &[x, y, radius] in &style.specks {
        if let Some(speck) = PathBuilder::from_circle(x, y, radius) {
            canvas.fill(&speck, Fill::Even(mix(style.ground, style.ink, 0.3)), unit);
        }
    }
    let (cos, sin) = page.turn;
    let about_centre =
        Transform::from_row(cos, sin, -sin, cos, 0.5 * (1.0 - cos + sin), 0.5 * (1.0 - sin - cos))
            .post_scale(length, length);
    // Lines keep clear of a sign's frame; on other pages they may come nearer to the edge.
    let inset = if page.layout == Layout::Sign { 0.035 } else { 0.012 };
    let within = 1.0 - 2.0 * inset;
    if let (true, Some(frame)) = (style.framed, Rect::from_xywh(inset, inset, within, within)) {
        canvas.stroke(&PathBuilder::from_rect(frame), style.ink, 0.012, unit);
    }
    for line in &page.lines {
        if line.role == Role::TotalLabel {
            let mut rule = PathBuilder::new();
            rule.move_to(line.x, line.y - 0.92 * line.size);
            rule.line_to(0.9, line.y - 0.92 * line.size);
            if let Some(rule) = rule.finish() {
                canvas.stroke(&rule, style.ink, 0.006, about_centre);
            }
        }
        // Outlines are flattened for the size that they are drawn at: pixels first, turned after.
        if let Some(path) = line.font.path(&line.text, line.size * length) {
            let place = Transform::from_translate(line.x * length, line.y * length);
            let turn = about_centre.pre_scale(1.0 / length, 1.0 / length);
            canvas.fill_glyphs(&path, Fill::Even(style.ink), turn.pre_concat(place));
        }
    }
    canvas.finish(style.noise, style.seed)
}

/// Lines of text on white, for what people look at: captions of sheets and figures. Lines that are too long are
/// broken between words; what does not fit into the height is left out.
///
/// Width and height in pixels, taken as the nearest from 1 to 4096; `em` is the size of the letters, in pixels.
pub fn caption(lines: &[String], width: u32, height: u32, em: f32) -> Image {
    let (width, height, font) = (width.clamp(1, MAX_SIDE), height.clamp(1, MAX_SIDE), Font::Roboto);
    let mut canvas = Canvas::new(width, height, [255, 255, 255], true);
    let mut y = 0.0;
    let mut put = |text: &str| {
        y += 1.2 * em;
        if let (true, Some(path)) = (y + 0.3 * em <= height as f32, font.path(text, em)) {
            canvas.fill_glyphs(&path, Fill::Even([20, 20, 20]), Transform::from_translate(0.3 * em, y));
        }
    };
    for line in lines {
        let mut row = String::new();
        for word in line.split_whitespace() {
            if !row.is_empty() && em * (font.width(&row) + font.width(word) + 1.0) > width as f32 {
                put(&row);
                row.clear();
            }
            row += if row.is_empty() { "" } else { " " };
            row += word;
        }
        put(&row);
    }
    canvas.finish(0, 0)
}
