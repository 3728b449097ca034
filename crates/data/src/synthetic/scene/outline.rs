//! The outlines of the shapes, as polygons: the same for painting and for measuring what is visible.

use std::sync::OnceLock;

use super::{Object, Shape};

/// A closed polygon in the circle of radius one, y downwards.
pub(super) type Loop = Vec<(f32, f32)>;

/// The loops of a shape; a point in an odd number of them is inside.
pub(super) fn loops(shape: Shape) -> &'static [Loop] {
    static ALL: OnceLock<Vec<Vec<Loop>>> = OnceLock::new();
    &ALL.get_or_init(|| Shape::ALL.iter().map(|shape| build(*shape)).collect())[shape as usize]
}

fn build(shape: Shape) -> Vec<Loop> {
    match shape {
        Shape::Circle => vec![circle(0.92)],
        Shape::Square => vec![vec![(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]],
        Shape::Triangle => vec![vec![(0.0, -0.95), (0.9, 0.72), (-0.9, 0.72)]],
        // Taller than wide: a square on its tip would be no less a square.
        Shape::Diamond => vec![vec![(0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)]],
        Shape::Star => vec![star()],
        Shape::Cross => {
            let (out, arm) = (0.95, 0.3);
            let corner = [(-arm, -out), (arm, -out), (arm, -arm), (out, -arm), (out, arm), (arm, arm)];
            let back = corner.map(|(x, y)| (-x, -y));
            vec![corner.into_iter().chain(back).collect()]
        }
        Shape::Heart => vec![heart()],
        Shape::Ring => vec![circle(0.97), circle(0.55)],
    }
}

/// Cosines and sines of `8 * quarter` equal-ish steps round the circle, by the rational parametrisation: exact
/// arithmetic, so the same on every platform.
fn directions(quarter: usize) -> Vec<(f32, f32)> {
    let eighth = |step: usize| {
        // From the tangent of half the angle, up to tan(45 / 2 degrees).
        let t = 0.414_213_56 * step as f32 / quarter as f32;
        ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t))
    };
    let mut first: Vec<(f32, f32)> = (0..quarter).map(eighth).collect();
    first.extend((0..quarter).map(|step| eighth(quarter - step)).map(|(cos, sin)| (sin, cos)));
    let turned = |quarters: usize| {
        first.clone().into_iter().map(move |(x, y)| match quarters {
            0 => (x, y),
            1 => (-y, x),
            2 => (-x, -y),
            _ => (y, -x),
        })
    };
    (0..4).flat_map(turned).collect()
}

fn circle(radius: f32) -> Loop {
    directions(5).into_iter().map(|(x, y)| (radius * x, radius * y)).collect()
}

fn star() -> Loop {
    // Cosine and sine of 72 degrees, and of half of it.
    let (c, s) = (0.309_017, 0.951_056_5);
    let (half_c, half_s) = (0.809_017, 0.587_785_3);
    let (mut outer, mut inner) = ((0.0, -1.0), (0.42 * half_s, -0.42 * half_c));
    let turn = |(x, y): (f32, f32)| (c * x - s * y, s * x + c * y);
    let mut points = Vec::new();
    for _ in 0..5 {
        points.extend([outer, inner]);
        (outer, inner) = (turn(outer), turn(inner));
    }
    points
}

/// The usual heart curve: 16 sin^3 across, 13 cos - 5 cos 2t - 2 cos 3t - cos 4t up.
fn heart() -> Loop {
    let point = |(cos, sin): (f32, f32)| {
        let double = 2.0 * cos * cos - 1.0;
        let triple = cos * (2.0 * double - 1.0);
        let fourfold = 2.0 * double * double - 1.0;
        let up = 13.0 * cos - 5.0 * double - 2.0 * triple - fourfold;
        (16.0 * sin * sin * sin / 16.6, -(up + 2.6) / 16.6)
    };
    directions(5).into_iter().map(point).collect()
}

/// Whether the point (in parts of the side) lies in the object.
pub(super) fn covers(object: &Object, x: f32, y: f32) -> bool {
    let (dx, dy) = ((x - object.x) / object.radius, (y - object.y) / object.radius);
    if dx * dx + dy * dy > 1.1 {
        return false;
    }
    let (cos, sin) = object.turn;
    let (x, y) = (cos * dx + sin * dy, cos * dy - sin * dx);
    let mut inside = false;
    for points in loops(object.shape) {
        let mut previous = points[points.len() - 1];
        for &point in points {
            if (point.1 > y) != (previous.1 > y) {
                let slope = (previous.0 - point.0) / (previous.1 - point.1);
                inside ^= x < point.0 + slope * (y - point.1);
            }
            previous = point;
        }
    }
    inside
}

/// The part of object `index` that those painted after it leave visible, from a grid of 24 x 24 points.
pub(super) fn visible(objects: &[Object], index: usize) -> f32 {
    const STEPS: usize = 24;
    let object = &objects[index];
    let near = |other: &&Object| {
        let (dx, dy) = (object.x - other.x, object.y - other.y);
        let reach = 1.05 * (object.radius + other.radius);
        dx * dx + dy * dy < reach * reach
    };
    let later: Vec<&Object> = objects[index + 1..].iter().filter(near).collect();
    if later.is_empty() {
        return 1.0;
    }
    let at = |step: usize| 1.05 * object.radius * ((2 * step + 1) as f32 / STEPS as f32 - 1.0);
    let (mut area, mut free) = (0, 0);
    for (row, column) in (0..STEPS).flat_map(|row| (0..STEPS).map(move |column| (row, column))) {
        let (x, y) = (object.x + at(column), object.y + at(row));
        if covers(object, x, y) {
            area += 1;
            free += usize::from(!later.iter().any(|other| covers(other, x, y)));
        }
    }
    free as f32 / area.max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::scene::{Colour, Scale};

    fn object(shape: Shape, x: f32) -> Object {
        let turn = (1.0, 0.0);
        Object { shape, colour: Colour::Red, scale: Scale::Large, x, y: 0.5, radius: 0.2, turn }
    }

    #[test]
    fn outlines_fit_their_circle_and_fill_it_fairly() {
        for shape in Shape::ALL {
            let farthest = loops(shape).iter().flatten().map(|(x, y)| x * x + y * y).fold(0.0, f32::max);
            assert!((0.7..1.35).contains(&farthest), "{shape:?}: {farthest}");
            let whole = object(shape, 0.5);
            let points = (0..10_000).filter(|i| {
                let (x, y) = (0.3 + 0.4 * (i % 100) as f32 / 99.0, 0.3 + 0.4 * (i / 100) as f32 / 99.0);
                covers(&whole, x, y)
            });
            let area = points.count() as f32 / 10_000.0;
            assert!((0.25..0.75).contains(&area), "{shape:?} fills {area} of its square");
        }
        // Five steps of an eighth: the area of the polygon is that of the circle, nearly.
        let area: f32 = circle(1.0)
            .iter()
            .zip(circle(1.0).iter().cycle().skip(1))
            .map(|(a, b)| a.0 * b.1 - a.1 * b.0)
            .sum();
        assert!((area / 2.0 - std::f32::consts::PI).abs() < 0.02, "{area}");
    }

    #[test]
    fn a_square_half_under_another_is_half_visible() {
        let objects = [object(Shape::Square, 0.4), object(Shape::Square, 0.4 + 0.78 * 0.2)];
        assert!((visible(&objects, 0) - 0.5).abs() < 0.06, "{}", visible(&objects, 0));
        assert_eq!(visible(&objects, 1), 1.0);
        // What lies in the hole of a ring shows.
        let mut small = object(Shape::Circle, 0.5);
        small.radius = 0.08;
        assert_eq!(visible(&[small, object(Shape::Ring, 0.5)], 0), 1.0);
    }
}
