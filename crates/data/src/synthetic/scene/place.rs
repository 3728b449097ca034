//! Which objects a scene has, and where.
//!
//! Few colours and shapes a scene, so that things repeat and counting is worth the asking. No two objects touch, but
//! for at most one pair, of which the upper covers part of the lower, a large one: at least half of it is visible. An
//! object lies in the container or clear of it.

use super::{Colour, Container, Object, Scale, Shape, Vessel, home_of, outline};
use crate::random::Draw;
use crate::synthetic::Split;

/// Space between objects, and between an object and the edge of picture or container.
const GAP: f32 = 0.015;

/// Places a scene of three to `most` objects, or of one to `most` where that is less; tries until one fits.
pub(super) fn place(split: Split, most: usize, draw: &mut Draw) -> (Vec<Object>, Option<Container>) {
    let least = if most < 3 { 1 } else { 3 };
    let mut wanted = draw.between(least, most);
    loop {
        for _ in 0..4 {
            if let Some(found) = try_place(split, wanted, draw) {
                return found;
            }
        }
        // Eight large objects and a plate need not fit.
        wanted = (wanted - 1).max(least);
    }
}

fn try_place(split: Split, wanted: usize, draw: &mut Draw) -> Option<(Vec<Object>, Option<Container>)> {
    let kinds = kinds(split, wanted, draw);
    // One or two objects are there to be named, not to be found in something.
    let many = wanted >= 3;
    let container = (draw.chance(0.4) && many).then(|| container(draw));
    let inside = if container.is_some() { draw.between(1, 3.min(wanted - 1)) } else { 0 };
    let mut objects: Vec<Object> = Vec::with_capacity(wanted);
    for (index, (colour, shape)) in kinds.into_iter().enumerate() {
        let scale = *draw.pick(&Scale::ALL);
        let radius = match scale {
            Scale::Small => draw.uniform(0.066, 0.074),
            Scale::Large => draw.uniform(0.118, 0.132),
        };
        // Turns up to 12 degrees, from the tangent of half the angle.
        let t = draw.uniform(-0.105, 0.105);
        let turn = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let mut object = Object { shape, colour, scale, x: 0.0, y: 0.0, radius, turn };
        let fits = |object: &Object| {
            let clear =
                objects.iter().all(|other| distance(object, other) > object.radius + other.radius + GAP);
            clear
                && container.is_none_or(|container| {
                    if index < inside {
                        grown(container, -GAP).holds(object)
                    } else {
                        apart(&container, object)
                    }
                })
        };
        (0..60).find(|_| {
            (object.x, object.y) = match container {
                Some(container) if index < inside => (
                    container.x + container.half_width * draw.uniform(-1.0, 1.0),
                    container.y + container.half_height * draw.uniform(-1.0, 1.0),
                ),
                _ => (
                    draw.uniform(radius + GAP, 1.0 - radius - GAP),
                    draw.uniform(radius + GAP, 1.0 - radius - GAP),
                ),
            };
            fits(&object)
        })?;
        objects.push(object);
    }
    if draw.chance(0.4) && many {
        overlap(&mut objects, inside, container.as_ref(), draw);
    }
    Some((objects, container))
}

/// Colours and shapes: two to five of each, and in validation and test at least one pair that train lacks.
fn kinds(split: Split, wanted: usize, draw: &mut Draw) -> Vec<(Colour, Shape)> {
    let mut colours = Colour::ALL.to_vec();
    let mut shapes = Shape::ALL.to_vec();
    draw.shuffle(&mut colours);
    draw.shuffle(&mut shapes);
    colours.truncate(draw.between(2, 5));
    shapes.truncate(draw.between(2, 5));
    let held: Vec<(Colour, Shape)> = match split {
        Split::Train => Vec::new(),
        Split::Validation => super::VALIDATION_PAIRS.to_vec(),
        Split::Test => super::TEST_PAIRS.to_vec(),
    };
    let mut kinds = Vec::with_capacity(wanted);
    if !held.is_empty() {
        let pair = *draw.pick(&held);
        kinds.push(pair);
        // The pair's parts occur elsewhere in the scene too, or one of them would give it away.
        colours[0] = pair.0;
        shapes[0] = pair.1;
    }
    while kinds.len() < wanted {
        let pair = (*draw.pick(&colours), *draw.pick(&shapes));
        if split.may_show(home_of(pair.0, pair.1)) {
            kinds.push(pair);
        } else {
            // Two colours and two shapes may be held out but for one pair; a wider choice always ends.
            colours.push(*draw.pick(&Colour::ALL));
        }
    }
    draw.shuffle(&mut kinds);
    kinds
}

fn container(draw: &mut Draw) -> Container {
    let vessel = *draw.pick(&[Vessel::Box, Vessel::Plate]);
    let half_width = draw.uniform(0.22, 0.29);
    let half_height = if vessel == Vessel::Plate { half_width } else { draw.uniform(0.20, 0.27) };
    let x = draw.uniform(half_width + 0.01, 0.99 - half_width);
    let y = draw.uniform(half_height + 0.01, 0.99 - half_height);
    Container { vessel, x, y, half_width, half_height }
}

fn grown(container: Container, by: f32) -> Container {
    Container { half_width: container.half_width + by, half_height: container.half_height + by, ..container }
}

fn apart(container: &Container, object: &Object) -> bool {
    let (dx, dy) = ((object.x - container.x).abs(), (object.y - container.y).abs());
    let reach = object.radius + GAP;
    match container.vessel {
        Vessel::Box => {
            let (dx, dy) = ((dx - container.half_width).max(0.0), (dy - container.half_height).max(0.0));
            (dx * dx + dy * dy).sqrt() > reach
        }
        Vessel::Plate => (dx * dx + dy * dy).sqrt() > container.half_width + reach,
    }
}

fn distance(a: &Object, b: &Object) -> f32 {
    let (dx, dy) = (a.x - b.x, a.y - b.y);
    (dx * dx + dy * dy).sqrt()
}

/// Moves the last object over a large one of another colour, if that leaves enough of it and touches no third. Both
/// lie outside the container, whose objects are the first `inside`.
fn overlap(objects: &mut [Object], inside: usize, container: Option<&Container>, draw: &mut Draw) {
    let Some((top, below)) = objects.split_last_mut() else { return };
    for _ in 0..12 {
        let index = draw.below(below.len());
        let under = below[index];
        let mut moved = *top;
        let reach = draw.uniform(0.45, 0.8) * (under.radius + top.radius);
        let (x, y) = (draw.uniform(-1.0, 1.0), draw.uniform(-1.0, 1.0));
        let length = (x * x + y * y).sqrt().max(1e-3);
        (moved.x, moved.y) = (under.x + reach * x / length, under.y + reach * y / length);
        let margin = moved.radius + GAP;
        let in_picture = [moved.x, moved.y].iter().all(|at| (margin..1.0 - margin).contains(at));
        let mut others = below.iter().enumerate().filter(|(other, _)| *other != index);
        let clear = others.all(|(_, other)| distance(&moved, other) > margin + other.radius);
        let free = under.scale == Scale::Large && under.colour != top.colour;
        let outside = index >= inside && container.is_none_or(|container| apart(container, &moved));
        let shown = outline::visible(&[under, moved], 0);
        if free && in_picture && clear && outside && (0.5..0.88).contains(&shown) {
            *top = moved;
            return;
        }
    }
}
