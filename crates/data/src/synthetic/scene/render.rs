//! How a scene is painted: backgrounds, clutter, containers, shading, outlines, shadows and noise, all drawn at random
//! but for one rule: what is to be named stands out from what lies under it.

use tiny_skia::{Path, PathBuilder, Rect, Transform};

use super::outline;
use super::{Colour, Container, Object, Scene, Vessel};
use crate::image::Image;
use crate::random::Draw;
use crate::synthetic::canvas::{Canvas, Fill, Rgb, contrast, jitter, mix};

const BACKGROUNDS: [Rgb; 12] = [
    [244, 243, 238],
    [224, 231, 238],
    [236, 227, 210],
    [220, 235, 219],
    [238, 222, 230],
    [205, 205, 205],
    [168, 176, 186],
    [186, 172, 152],
    [128, 134, 140],
    [52, 58, 72],
    [38, 62, 58],
    [66, 50, 58],
];

const VESSELS: [Rgb; 6] =
    [[201, 170, 128], [160, 174, 188], [232, 226, 214], [120, 98, 78], [84, 92, 104], [196, 206, 190]];

/// Least [`contrast`] between an object and what it lies on.
const APART: f32 = 150.0;

fn typical(colour: Colour) -> Rgb {
    match colour {
        Colour::Red => [212, 32, 36],
        Colour::Orange => [244, 136, 20],
        Colour::Yellow => [250, 222, 40],
        Colour::Green => [36, 150, 62],
        Colour::Blue => [36, 84, 210],
        Colour::Purple => [126, 48, 168],
        Colour::Pink => [250, 142, 190],
        Colour::Black => [24, 24, 26],
        Colour::White => [252, 252, 252],
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Backdrop {
    Plain,
    Gradient,
    Stripes,
    Tiles,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Shading {
    Flat,
    Lit,
    Glossy,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Edge {
    None,
    Dark,
    Light,
}

/// Everything about a scene that no question asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Style {
    backdrop: Backdrop,
    ground: Rgb,
    second: Rgb,
    vessel: Rgb,
    shading: Shading,
    edge: Edge,
    shadow: bool,
    smooth: bool,
    noise: u8,
    seed: u32,
    /// One for each object.
    colours: Vec<Rgb>,
    /// Faint marks: two ends and a width.
    clutter: Vec<[f32; 5]>,
}

impl Style {
    pub(super) fn draw(objects: &[Object], contained: bool, draw: &mut Draw) -> Style {
        let colours: Vec<Rgb> =
            objects.iter().map(|object| jitter(typical(object.colour), 10, draw)).collect();
        let ground = clear_of(&BACKGROUNDS, &colours, draw);
        let mut below = colours.clone();
        below.push(ground);
        let vessel = if contained { clear_of(&VESSELS, &below, draw) } else { ground };
        let towards = *draw.pick(&[[255, 255, 255], [0, 0, 0], [120, 130, 150]]);
        let second = mix(ground, towards, draw.uniform(0.05, 0.12));
        let backdrop = *draw.pick(&[Backdrop::Plain, Backdrop::Gradient, Backdrop::Stripes, Backdrop::Tiles]);
        let marks = if draw.chance(0.5) { draw.between(3, 14) } else { 0 };
        let clutter = (0..marks).map(|_| {
            let (x, y) = (draw.uniform(0.0, 1.0), draw.uniform(0.0, 1.0));
            let (dx, dy) = (draw.uniform(-0.12, 0.12), draw.uniform(-0.12, 0.12));
            [x, y, x + dx, y + dy, draw.uniform(0.004, 0.012)]
        });
        let clutter = clutter.collect();
        Style {
            backdrop,
            ground,
            second,
            vessel,
            clutter,
            shading: *draw.pick(&[Shading::Flat, Shading::Lit, Shading::Glossy]),
            edge: match *draw.pick(&[Edge::None, Edge::Dark, Edge::Light]) {
                // On a bright ground a bright rim would make the object fade away.
                Edge::Light if ground.iter().map(|channel| u32::from(*channel)).sum::<u32>() > 570 => {
                    Edge::Dark
                }
                edge => edge,
            },
            shadow: draw.chance(0.4),
            smooth: draw.chance(0.85),
            noise: if draw.chance(0.6) { draw.between(1, 9) as u8 } else { 0 },
            seed: draw.word(),
            colours,
        }
    }
}

/// One of `choices` that stands out from all of `colours`; failing that, the one that does so most.
fn clear_of(choices: &[Rgb], colours: &[Rgb], draw: &mut Draw) -> Rgb {
    let least =
        |choice: &Rgb| colours.iter().map(|colour| contrast(*colour, *choice)).fold(f32::MAX, f32::min);
    let clear: Vec<Rgb> = choices.iter().copied().filter(|choice| least(choice) > APART).collect();
    if clear.is_empty() {
        choices.iter().copied().max_by(|a, b| least(a).total_cmp(&least(b))).unwrap_or(choices[0])
    } else {
        jitter(*draw.pick(&clear), 4, draw)
    }
}

pub(super) fn paint(scene: &Scene, side: u32) -> Image {
    let style = &scene.style;
    let mut canvas = Canvas::new(side, side, style.ground, style.smooth);
    let unit = Transform::from_scale(side as f32, side as f32);
    backdrop(style, &mut canvas, side as f32);
    for &[x, y, to_x, to_y, width] in &style.clutter {
        let mut line = PathBuilder::new();
        line.move_to(x, y);
        line.line_to(to_x, to_y);
        if let Some(line) = line.finish() {
            canvas.stroke(&line, style.second, width, unit);
        }
    }
    if let Some(container) = &scene.container {
        vessel(container, style, &mut canvas, unit);
    }
    for (object, colour) in scene.objects.iter().zip(&style.colours) {
        paint_object(object, *colour, style, &mut canvas, side as f32);
    }
    canvas.finish(style.noise, style.seed)
}

fn backdrop(style: &Style, canvas: &mut Canvas, side: f32) {
    let rect = |x, y, width, height| Rect::from_xywh(x, y, width, height).map(PathBuilder::from_rect);
    let mut fill = |path: Option<Path>, fill| {
        if let Some(path) = path {
            canvas.fill(&path, fill, Transform::identity());
        }
    };
    let step = side / 8.0;
    match style.backdrop {
        Backdrop::Plain => {}
        Backdrop::Gradient => {
            let across = Fill::Across(style.ground, style.second, (0.0, 0.0), (side, side));
            fill(rect(0.0, 0.0, side, side), across);
        }
        Backdrop::Stripes => {
            for stripe in 0..4 {
                fill(rect(2.0 * stripe as f32 * step, 0.0, step, side), Fill::Even(style.second));
            }
        }
        Backdrop::Tiles => {
            for (row, column) in (0..4).flat_map(|row| (0..4).map(move |column| (row, column))) {
                if (row + column) % 2 == 0 {
                    let (x, y) = (2.0 * column as f32 * step, 2.0 * row as f32 * step);
                    fill(rect(x, y, 2.0 * step, 2.0 * step), Fill::Even(style.second));
                }
            }
        }
    }
}

fn vessel(container: &Container, style: &Style, canvas: &mut Canvas, unit: Transform) {
    let at = |shrink: f32| {
        let (width, height) = (container.half_width - shrink, container.half_height - shrink);
        let around = Rect::from_xywh(container.x - width, container.y - height, 2.0 * width, 2.0 * height)?;
        match container.vessel {
            Vessel::Box => Some(PathBuilder::from_rect(around)),
            Vessel::Plate => PathBuilder::from_oval(around),
        }
    };
    let rim = mix(style.vessel, [0, 0, 0], 0.45);
    if let (Some(outer), Some(inner)) =
        (at(0.0), at(if container.vessel == Vessel::Box { 0.008 } else { 0.006 }))
    {
        canvas.fill(&outer, Fill::Even(rim), unit);
        canvas.fill(&inner, Fill::Even(style.vessel), unit);
        if let (Vessel::Plate, Some(well)) = (container.vessel, at(0.035)) {
            canvas.stroke(&well, mix(style.vessel, rim, 0.4), 0.006, unit);
        }
    }
}

fn paint_object(object: &Object, colour: Rgb, style: &Style, canvas: &mut Canvas, side: f32) {
    let mut builder = PathBuilder::new();
    for points in outline::loops(object.shape) {
        for (index, &(x, y)) in points.iter().enumerate() {
            if index == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
        }
        builder.close();
    }
    let Some(path) = builder.finish() else { return };
    let ((cos, sin), radius) = (object.turn, object.radius * side);
    let placed = |dx: f32, dy: f32| {
        let (x, y) = (object.x * side + dx, object.y * side + dy);
        Transform::from_row(radius * cos, radius * sin, -radius * sin, radius * cos, x, y)
    };
    if style.shadow {
        let away = (0.02 * side).max(1.0);
        canvas.shade(&path, 0.22, placed(away, away));
    }
    // Shades stay near the colour: a pink that runs to white would be asking for trouble.
    let fill = match style.shading {
        Shading::Flat => Fill::Even(colour),
        Shading::Lit => {
            Fill::Across(mix(colour, [255; 3], 0.14), mix(colour, [0; 3], 0.16), (-0.6, -0.8), (0.6, 0.8))
        }
        Shading::Glossy => Fill::Across(mix(colour, [255; 3], 0.22), colour, (0.0, -0.9), (0.0, 0.3)),
    };
    canvas.fill(&path, fill, placed(0.0, 0.0));
    let edge = match style.edge {
        Edge::None => return,
        Edge::Dark => mix(colour, [0; 3], 0.55),
        Edge::Light => mix(colour, [255; 3], 0.6),
    };
    canvas.stroke(&path, edge, 0.012 / object.radius, placed(0.0, 0.0));
}
