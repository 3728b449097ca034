//! What all figures share: the title, the plot frame with its grid, axes and labels.

use super::axis::{Axis, Marks, Range, Scale, Tick, marks};
use super::canvas::{Anchor, Canvas, Frame, Point, Stroke, Type};
use super::colour::{AXIS, FAINT_GRID, GRID, INK, TEXT};
use super::error::PlotError;
use super::font::{self, Weight};
use super::legend::{Entry, ROW, row_label_limit, rows};
use crate::units::Unit;

/// The width of every figure in pixels.
pub(super) const WIDTH: u32 = 960;
/// The usual height of a figure in pixels.
pub(super) const HEIGHT: u32 = 600;
/// The space around everything.
pub(super) const MARGIN: f64 = 24.0;

const TITLE: Type = Type { em: 19.0, weight: Weight::SemiBold, colour: INK };
const TITLE_ROW: f64 = 26.0;
const TITLE_ROWS: usize = 3;
/// The type of axis labels.
pub(super) const LABEL: Type = Type { em: 14.5, weight: Weight::Regular, colour: TEXT };
/// The type of numbers at the marks.
pub(super) const NUMBER: Type = Type { em: 13.0, weight: Weight::Regular, colour: TEXT };

/// The usable width between the margins.
pub(super) fn inner_width() -> f64 {
    f64::from(WIDTH) - 2.0 * MARGIN
}

/// The title's lines and the height they take, without the margin above.
pub(super) struct Title {
    lines: Vec<String>,
}

impl Title {
    pub(super) fn new(text: &str) -> Result<Self, PlotError> {
        let lines = font::wrap(text, TITLE.em, TITLE.weight, inner_width(), TITLE_ROWS)?;
        Ok(Self { lines })
    }

    /// Where the space below the title begins.
    pub(super) fn bottom(&self) -> f64 {
        MARGIN + TITLE_ROW * self.lines.len() as f64
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        for (row, line) in self.lines.iter().enumerate() {
            let baseline = MARGIN + TITLE_ROW * row as f64 + 17.0;
            canvas.text(line, (MARGIN, baseline), Anchor::Start, TITLE)?;
        }
        Ok(())
    }
}

/// A legend in rows below the title.
pub(super) struct RowLegend<'a> {
    entries: &'a [Entry],
    places: Vec<(f64, usize)>,
    top: f64,
}

impl<'a> RowLegend<'a> {
    pub(super) fn new(entries: &'a [Entry], top: f64) -> Result<Self, PlotError> {
        Ok(Self { entries, places: rows(entries, inner_width())?, top })
    }

    pub(super) fn bottom(&self) -> f64 {
        self.top + self.places.last().map_or(0.0, |(_, row)| ROW * (row + 1) as f64)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>) -> Result<(), PlotError> {
        for (entry, (left, row)) in self.entries.iter().zip(&self.places) {
            let middle = self.top + ROW * (*row as f64 + 0.5);
            entry.draw(canvas, MARGIN + left, middle, row_label_limit(inner_width()))?;
        }
        Ok(())
    }
}

/// A plot frame whose two axes are laid out.
pub(super) struct Plot {
    pub(super) frame: Frame,
    x: Range,
    y: Range,
    x_marks: Marks,
    y_marks: Marks,
}

impl Plot {
    /// Lays out both axes inside `outer`, which also holds the numbers and labels beside them.
    pub(super) fn new(
        outer: Frame,
        (x_axis, x): (&Axis, Range),
        (y_axis, y): (&Axis, Range),
    ) -> Result<Self, PlotError> {
        let label_room = |axis: &Axis| if axis.label.is_empty() { 0.0 } else { 28.0 };
        let bottom = outer.bottom - label_room(x_axis) - 26.0;
        let height = bottom - outer.top;
        let y_marks = marks(&y, y_axis.unit, (height / 42.0) as usize, |_| Ok(true))?;
        let numbers = widest(&y_marks.major)?;
        let left = outer.left + label_room(y_axis) + numbers + 10.0;
        let frame = Frame { left, top: outer.top, right: outer.right, bottom };
        let x_marks = x_marks(frame, x_axis.unit, &x)?;
        Ok(Self { frame, x, y, x_marks, y_marks })
    }

    /// A frame for horizontal bars: numbers below, nothing but the axis line at the left.
    pub(super) fn of_bars(frame: Frame, axis: &Axis, x: Range) -> Result<Self, PlotError> {
        let x_marks = x_marks(frame, axis.unit, &x)?;
        Ok(Self { frame, x, y: x, x_marks, y_marks: Marks::default() })
    }

    pub(super) fn at(&self, (x, y): (f64, f64)) -> Point {
        (self.across(x), self.up(y))
    }

    pub(super) fn across(&self, x: f64) -> f64 {
        self.frame.left + self.x.share_of(x) * self.frame.width()
    }

    pub(super) fn up(&self, y: f64) -> f64 {
        self.frame.bottom - self.y.share_of(y) * self.frame.height()
    }

    /// Grid, axis lines, numbers and labels; to be drawn before the data.
    pub(super) fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        x_axis: &Axis,
        y_axis: &Axis,
    ) -> Result<(), PlotError> {
        let frame = self.frame;
        for (axis, marks, is_x) in [(x_axis, &self.x_marks, true), (y_axis, &self.y_marks, false)] {
            let grid_line = |value: f64| {
                if is_x {
                    let across = self.across(value);
                    [(across, frame.top), (across, frame.bottom)]
                } else {
                    let up = self.up(value);
                    [(frame.left, up), (frame.right, up)]
                }
            };
            if axis.scale == Scale::Log {
                for &value in &marks.minor {
                    canvas.line(&grid_line(value), Stroke::new(FAINT_GRID, 1.0))?;
                }
            }
            for tick in &marks.major {
                canvas.line(&grid_line(tick.value), Stroke::new(GRID, 1.0))?;
            }
        }
        self.draw_x_axis(canvas, x_axis)?;
        self.draw_y_axis(canvas, y_axis)
    }

    fn draw_x_axis(&self, canvas: &mut Canvas<'_>, axis: &Axis) -> Result<(), PlotError> {
        let frame = self.frame;
        let ink = Stroke::new(AXIS, 1.2);
        canvas.line(&[(frame.left, frame.bottom), (frame.right, frame.bottom)], ink)?;
        for &value in &self.x_marks.minor {
            let across = self.across(value);
            canvas.line(&[(across, frame.bottom), (across, frame.bottom + 3.5)], Stroke::new(AXIS, 0.9))?;
        }
        for tick in &self.x_marks.major {
            let across = self.across(tick.value);
            canvas.line(&[(across, frame.bottom), (across, frame.bottom + 6.0)], ink)?;
            canvas.text(&tick.label, (across, frame.bottom + 21.0), Anchor::Middle, NUMBER)?;
        }
        let label = LABEL.fit(&axis.label, frame.width())?;
        let middle = f64::midpoint(frame.left, frame.right);
        canvas.text(&label, (middle, frame.bottom + 47.0), Anchor::Middle, LABEL)
    }

    fn draw_y_axis(&self, canvas: &mut Canvas<'_>, axis: &Axis) -> Result<(), PlotError> {
        let frame = self.frame;
        let ink = Stroke::new(AXIS, 1.2);
        canvas.line(&[(frame.left, frame.top), (frame.left, frame.bottom)], ink)?;
        for &value in &self.y_marks.minor {
            let up = self.up(value);
            canvas.line(&[(frame.left - 3.5, up), (frame.left, up)], Stroke::new(AXIS, 0.9))?;
        }
        for tick in &self.y_marks.major {
            let up = self.up(tick.value);
            canvas.line(&[(frame.left - 6.0, up), (frame.left, up)], ink)?;
            canvas.text(&tick.label, (frame.left - 10.0, up + NUMBER.drop()), Anchor::End, NUMBER)?;
        }
        let label = LABEL.fit(&axis.label, frame.height())?;
        let numbers = widest(&self.y_marks.major)?;
        let middle = f64::midpoint(frame.top, frame.bottom);
        canvas.text_upwards(&label, (frame.left - numbers - 22.0, middle), LABEL)
    }
}

fn x_marks(frame: Frame, unit: Unit, range: &Range) -> Result<Marks, PlotError> {
    marks(range, unit, (frame.width() / 70.0) as usize, |ticks| {
        apart(ticks, |value| range.share_of(value) * frame.width())
    })
}

fn widest(ticks: &[Tick]) -> Result<f64, PlotError> {
    ticks.iter().try_fold(0.0, |widest: f64, tick| Ok(widest.max(NUMBER.width(&tick.label)?)))
}

/// Whether neighbouring labels along an axis keep a distance.
fn apart(ticks: &[Tick], position: impl Fn(f64) -> f64) -> Result<bool, PlotError> {
    let mut end = f64::NEG_INFINITY;
    for tick in ticks {
        let (middle, half) = (position(tick.value), NUMBER.width(&tick.label)? / 2.0);
        if middle - half < end + 14.0 {
            return Ok(false);
        }
        end = middle + half;
    }
    Ok(true)
}
