//! Budgets: dotted lines at costs not to be exceeded, with their labels above the data.

use super::canvas::{Anchor, Canvas, Frame, Stroke, Type};
use super::colour::LIMIT;
use super::error::PlotError;
use super::legend::ENTRY;
use super::page::Plot;

const ROW: f64 = 19.0;
const GAP: f64 = 12.0;
/// Between a line and the label beside it.
const OFFSET: f64 = 6.0;
const WORDS: Type = Type { colour: LIMIT, ..ENTRY };

/// A cost not to be exceeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetLine {
    /// The cost.
    pub x: f64,
    /// The text above it, such as "budget 2 TFLOP".
    pub label: String,
}

/// A line whose label has its place: `at` is where the label is anchored, `row` counts upwards from the plot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    x: f64,
    label: String,
    at: f64,
    anchor: Anchor,
    row: usize,
}

/// The side of their lines on which all labels stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// Places the labels so that they hide neither each other nor a line: one alone is centred, several all stand on one
/// side of their lines, each above the lines that it reaches over.
pub(super) fn place(budgets: &[BudgetLine], plot: &Plot) -> Result<Vec<Placed>, PlotError> {
    let frame = plot.frame;
    if let [only] = budgets {
        let label = WORDS.fit(&only.label, frame.width())?;
        let half = WORDS.width(&label)? / 2.0;
        let at = plot.across(only.x).clamp(frame.left + half, (frame.right - half).max(frame.left + half));
        return Ok(vec![Placed { x: only.x, label, at, anchor: Anchor::Middle, row: 0 }]);
    }
    let side = roomier_side(budgets, plot)?;
    let mut ordered: Vec<&BudgetLine> = budgets.iter().collect();
    ordered.sort_by(|a, b| a.x.total_cmp(&b.x));
    if side == Side::Right {
        ordered.reverse();
    }
    // Each label starts at its line and runs towards the lines placed before it, so being in a higher row than
    // everything it reaches is enough.
    let mut taken: Vec<(f64, f64, usize)> = Vec::new();
    let mut placed = Vec::new();
    for budget in ordered {
        let across = plot.across(budget.x);
        let label = WORDS.fit(&budget.label, room(across, side, &frame).max(80.0))?;
        let width = WORDS.width(&label)? + OFFSET;
        let (left, right, anchor) = match side {
            Side::Right => (across, across + width, Anchor::Start),
            Side::Left => (across - width, across, Anchor::End),
        };
        let below = taken.iter().filter(|(from, to, _)| left < to + GAP && right + GAP > *from);
        let row = below.map(|(_, _, row)| row + 1).max().unwrap_or(0);
        taken.push((left, right, row));
        placed.push(Placed { x: budget.x, label, at: across, anchor, row });
    }
    Ok(placed)
}

/// The height the labels take above the plot.
pub(super) fn height(placed: &[Placed]) -> f64 {
    placed.iter().map(|place| ROW * (place.row + 1) as f64).fold(0.0, f64::max)
}

pub(super) fn draw(canvas: &mut Canvas<'_>, plot: &Plot, placed: &[Placed]) -> Result<(), PlotError> {
    for place in placed {
        let across = plot.across(place.x);
        let baseline = plot.frame.top - 6.0 - ROW * place.row as f64;
        // Beside its label a line rises along it; a centred label sits on top of its line.
        let (top, offset) = match place.anchor {
            Anchor::Middle => (plot.frame.top, 0.0),
            Anchor::Start => (baseline - 10.0, OFFSET),
            Anchor::End => (baseline - 10.0, -OFFSET),
        };
        let line = [(across, plot.frame.bottom), (across, top)];
        canvas.dashes(&line, 2.0, 3.0, Stroke::new(LIMIT, 1.6))?;
        canvas.text(&place.label, (place.at + offset, baseline), place.anchor, WORDS)?;
    }
    Ok(())
}

/// How wide a label may be on that side of a line at `across`.
fn room(across: f64, side: Side, frame: &Frame) -> f64 {
    match side {
        Side::Right => frame.right - across - OFFSET,
        Side::Left => across - frame.left - OFFSET,
    }
}

fn roomier_side(budgets: &[BudgetLine], plot: &Plot) -> Result<Side, PlotError> {
    let overflow = |side: Side| {
        budgets.iter().try_fold(0.0, |sum: f64, budget| {
            let lacking = WORDS.width(&budget.label)? - room(plot.across(budget.x), side, &plot.frame);
            Ok::<f64, PlotError>(sum + lacking.max(0.0))
        })
    };
    Ok(if overflow(Side::Left)? < overflow(Side::Right)? { Side::Left } else { Side::Right })
}
