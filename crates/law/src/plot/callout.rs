//! A label beside a point, put where it hides as little as possible.

use super::canvas::{Anchor, Canvas, Frame, Point, Stroke, Type};
use super::colour::{INK, WHITE};
use super::error::PlotError;
use super::font::{self, Weight};

const WORDS: Type = Type { em: 13.0, weight: Weight::SemiBold, colour: INK };
const LINE: f64 = 18.0;
const WIDEST: f64 = 240.0;
const MOST_LINES: usize = 3;
const PADDING: f64 = 4.0;
const RING: f64 = 10.5;

/// Rings the point `at` and writes `label` near it, inside `within` and off the `obstacles`.
pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    at: Point,
    label: &str,
    within: &Frame,
    obstacles: &[Point],
) -> Result<(), PlotError> {
    canvas.ring(at, RING, Stroke::new(INK, 2.0))?;
    let lines = font::wrap(label, WORDS.em, WORDS.weight, WIDEST, MOST_LINES)?;
    if lines.is_empty() {
        return Ok(());
    }
    let width = lines
        .iter()
        .try_fold(0.0, |widest: f64, line| Ok::<f64, PlotError>(widest.max(WORDS.width(line)?)))?;
    let size = (width + 2.0 * PADDING, LINE * lines.len() as f64 + 2.0 * PADDING);
    let place = best_place(at, size, within, obstacles);

    let near = (at.0.clamp(place.left, place.right), at.1.clamp(place.top, place.bottom));
    let distance = (near.0 - at.0).hypot(near.1 - at.1);
    if distance > RING + 4.0 {
        let share = RING / distance;
        let rim = (at.0 + share * (near.0 - at.0), at.1 + share * (near.1 - at.1));
        canvas.line(&[rim, near], Stroke::new(INK, 1.2))?;
    }
    canvas.rectangle(place, WHITE, 0.85)?;
    for (row, line) in lines.iter().enumerate() {
        let baseline = place.top + PADDING + LINE * row as f64 + 13.0;
        canvas.text(line, (place.left + PADDING, baseline), Anchor::Start, WORDS)?;
    }
    Ok(())
}

/// The box of `size` near `at` that covers the fewest obstacles; nearer wins among equals.
fn best_place(at: Point, (width, height): (f64, f64), within: &Frame, obstacles: &[Point]) -> Frame {
    let mut best: Option<(f64, Frame)> = None;
    for ring in 0..9 {
        let distance = RING + 6.0 + 16.0 * f64::from(ring);
        for direction in 0..16 {
            let angle = f64::from(direction) * std::f64::consts::TAU / 16.0;
            let middle = (
                at.0 + angle.cos() * (distance + width / 2.0),
                at.1 - angle.sin() * (distance + height / 2.0),
            );
            let place = Frame {
                left: middle.0 - width / 2.0,
                top: middle.1 - height / 2.0,
                right: middle.0 + width / 2.0,
                bottom: middle.1 + height / 2.0,
            };
            if !within.holds(&place.grown(2.0)) {
                continue;
            }
            let reach = place.grown(5.0);
            let hidden = obstacles.iter().filter(|obstacle| reach.contains(**obstacle)).count();
            let cost = hidden as f64 + distance / 40.0;
            if best.is_none_or(|(lowest, _)| cost < lowest) {
                best = Some((cost, place));
            }
        }
    }
    best.map_or(
        Frame { left: within.left, top: within.top, right: within.left + width, bottom: within.top + height },
        |(_, place)| place,
    )
}

/// Points along a line at most `step` apart, for use as obstacles.
pub(super) fn along(points: &[Point], step: f64) -> Vec<Point> {
    let mut dense = Vec::new();
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let pieces = ((to.0 - from.0).hypot(to.1 - from.1) / step).ceil().max(1.0) as usize;
        dense.extend((0..pieces).map(|index| {
            let share = index as f64 / pieces as f64;
            (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
        }));
    }
    dense.extend(points.last());
    dense
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Frame = Frame { left: 0.0, top: 0.0, right: 400.0, bottom: 300.0 };

    #[test]
    fn the_label_avoids_a_crowd_and_stays_on_the_page() {
        let crowd = along(&[(0.0, 140.0), (400.0, 140.0)], 4.0);
        let place = best_place((200.0, 150.0), (100.0, 25.0), &PAGE, &crowd);
        assert!(PAGE.holds(&place));
        assert!(place.bottom < 140.0 || place.top > 140.0, "{place:?} covers the line");
        for corner in [(0.0, 0.0), (400.0, 300.0), (0.0, 300.0)] {
            assert!(PAGE.holds(&best_place(corner, (100.0, 25.0), &PAGE, &[])));
        }
    }
}
