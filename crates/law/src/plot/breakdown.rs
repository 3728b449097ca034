//! What a cost is made of: one horizontal stacked bar per choice, its parts in colours, its total at the end.

use super::Figure;
use super::axis::{Axis, Range, Scale, check};
use super::canvas::{Anchor, Canvas, Frame, Stroke, Type, document};
use super::colour::{INK, WHITE, kind, readable_on};
use super::error::PlotError;
use super::font::{self, Weight};
use super::legend::{Entry, Key};
use super::page::{MARGIN, NUMBER, Plot, RowLegend, Title, WIDTH};
use crate::units::Unit;

/// More bars than this make a table, not a figure.
const MOST_BARS: usize = 200;
/// More parts than this have no colours that can be told apart.
const MOST_PARTS: usize = 16;

const TOTAL: Type = Type { em: 13.0, weight: Weight::SemiBold, colour: INK };
const TOTAL_GAP: f64 = 8.0;
const BAR_LABEL_LIMIT: f64 = 300.0;
const BAR_LABEL_ROW: f64 = 18.0;
/// The room for the axis below the bars.
const AXIS_ROOM: f64 = 54.0;

/// What the length of a bar means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum BarLength {
    /// The total: bars compare what choices cost.
    #[default]
    Total,
    /// Always the whole: bars compare what costs are made of, however small their total.
    Share,
}

/// Stacked bars.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BreakdownFigure {
    /// The title.
    pub title: String,
    /// The text below the axis, such as "cost of one answer".
    pub label: String,
    /// Whether bars are as long as their totals or all alike.
    pub length: BarLength,
    /// What the parts are counted in.
    pub unit: Unit,
    /// The names of the parts, in the order of [`Bar::parts`].
    pub part_names: Vec<String>,
    /// The bars from top to bottom.
    pub bars: Vec<Bar>,
}

/// One stacked bar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bar {
    /// The text at its left.
    pub label: String,
    /// The value of each part, 0 or more, in the figure's unit.
    pub parts: Vec<f64>,
}

impl Bar {
    fn total(&self) -> f64 {
        self.parts.iter().sum()
    }

    /// A share in percent; of nothing, 0.
    fn share(&self, part: f64) -> f64 {
        if self.total() > 0.0 { 100.0 * part / self.total() } else { 0.0 }
    }
}

impl Figure for BreakdownFigure {
    fn svg(&self) -> Result<String, PlotError> {
        self.check()?;
        let title = Title::new(&self.title)?;
        let legend: Vec<Entry> = self
            .part_names
            .iter()
            .enumerate()
            .map(|(index, name)| Entry::new(Key::Box(kind(index, self.part_names.len())), name))
            .collect();
        let legend = RowLegend::new(&legend, title.bottom() + 4.0)?;

        let pitch = (420.0 / self.bars.len() as f64).clamp(28.0, 48.0);
        let labels = self.bar_labels(pitch)?;
        let label_width = labels
            .iter()
            .flatten()
            .try_fold(0.0, |widest: f64, line| Ok::<f64, PlotError>(widest.max(NUMBER.width(line)?)))?;
        let top = legend.bottom() + 14.0;
        let bottom = top + pitch * self.bars.len() as f64 + 8.0;
        let right = f64::from(WIDTH) - MARGIN - self.total_room()?;
        let frame = Frame { left: MARGIN + label_width + 12.0, top, right, bottom };
        let (unit, longest) = match self.length {
            BarLength::Total => (self.unit, self.bars.iter().map(Bar::total).fold(0.0, f64::max)),
            BarLength::Share => (Unit::Percent, 100.0),
        };
        let axis = Axis { label: self.label.clone(), unit, scale: Scale::Linear };
        let range = Range::of([0.0, longest], Scale::Linear).ok_or(PlotError::Empty { what: "bars" })?;
        let plot = Plot::of_bars(frame, &axis, range)?;

        let height = (bottom + AXIS_ROOM + MARGIN / 2.0).ceil() as u32;
        document((WIDTH, height), &self.title, |canvas| {
            title.draw(canvas)?;
            legend.draw(canvas)?;
            plot.draw(canvas, &axis, &Axis::default())?;
            for (row, (bar, lines)) in self.bars.iter().zip(&labels).enumerate() {
                let middle = top + 4.0 + pitch * (row as f64 + 0.5);
                draw_label(canvas, lines, frame.left - 12.0, middle)?;
                self.draw_bar(canvas, &plot, bar, middle, 0.7 * pitch)?;
            }
            Ok(())
        })
    }
}

impl BreakdownFigure {
    fn check(&self) -> Result<(), PlotError> {
        for (what, found, allowed) in
            [("bars", self.bars.len(), MOST_BARS), ("parts", self.part_names.len(), MOST_PARTS)]
        {
            if found == 0 {
                return Err(PlotError::Empty { what });
            }
            if found > allowed {
                return Err(PlotError::TooMany { what, found, allowed });
            }
        }
        for bar in &self.bars {
            if bar.parts.len() != self.part_names.len() {
                let (found, expected) = (bar.parts.len(), self.part_names.len());
                return Err(PlotError::PartCount { bar: bar.label.clone(), found, expected });
            }
            for (&value, name) in bar.parts.iter().zip(&self.part_names) {
                let place = || format!("bar {:?}, part {name:?}", bar.label);
                check(value, Scale::Linear, place)?;
                if value < 0.0 {
                    return Err(PlotError::NegativePart { place: place(), value });
                }
            }
        }
        if self.bars.iter().all(|bar| bar.total() == 0.0) {
            return Err(PlotError::Empty { what: "bars longer than zero" });
        }
        Ok(())
    }

    fn bar_labels(&self, pitch: f64) -> Result<Vec<Vec<String>>, PlotError> {
        let rows = ((pitch / BAR_LABEL_ROW) as usize).clamp(1, 2);
        let wrap = |bar: &Bar| font::wrap(&bar.label, NUMBER.em, NUMBER.weight, BAR_LABEL_LIMIT, rows);
        self.bars.iter().map(wrap).collect()
    }

    /// The room that the totals behind the bars need.
    fn total_room(&self) -> Result<f64, PlotError> {
        self.bars.iter().try_fold(0.0, |widest: f64, bar| {
            Ok(widest.max(TOTAL.width(&self.unit.format(bar.total()))? + TOTAL_GAP))
        })
    }

    /// How far along the axis `part` of `bar` reaches.
    fn length_of(&self, bar: &Bar, part: f64) -> f64 {
        match self.length {
            BarLength::Total => part,
            BarLength::Share => bar.share(part),
        }
    }

    fn draw_bar(
        &self,
        canvas: &mut Canvas<'_>,
        plot: &Plot,
        bar: &Bar,
        middle: f64,
        thickness: f64,
    ) -> Result<(), PlotError> {
        let (top, bottom) = (middle - thickness / 2.0, middle + thickness / 2.0);
        let total = bar.total();
        let mut stacked = 0.0;
        for (index, &part) in bar.parts.iter().enumerate().filter(|(_, part)| **part > 0.0) {
            let colour = kind(index, self.part_names.len());
            let reach = |part| plot.across(self.length_of(bar, part));
            let (left, right) = (reach(stacked), reach(stacked + part));
            stacked += part;
            canvas.rectangle(Frame { left, top, right, bottom }, colour, 1.0)?;
            // A hairline keeps neighbours apart in grey print too.
            if right - left > 3.0 {
                canvas.line(&[(right, top), (right, bottom)], Stroke::new(WHITE, 1.0))?;
            }
            let share = format!("{:.0} %", bar.share(part));
            let look = Type { em: 12.0, weight: Weight::Regular, colour: readable_on(colour) };
            if right - left > look.width(&share)? + 10.0 {
                let at = (f64::midpoint(left, right), middle + look.drop());
                canvas.text(&share, at, Anchor::Middle, look)?;
            }
        }
        let text = self.unit.format(total);
        let left = plot.across(self.length_of(bar, total)) + TOTAL_GAP;
        // Grid lines end at the words.
        let ground = Frame { left: left - 3.0, top, right: left + TOTAL.width(&text)? + 3.0, bottom };
        canvas.rectangle(ground, WHITE, 1.0)?;
        canvas.text(&text, (left, middle + TOTAL.drop()), Anchor::Start, TOTAL)
    }
}

fn draw_label(canvas: &mut Canvas<'_>, lines: &[String], right: f64, middle: f64) -> Result<(), PlotError> {
    let first = middle - BAR_LABEL_ROW * (lines.len() as f64 - 1.0) / 2.0 + NUMBER.drop();
    for (row, line) in lines.iter().enumerate() {
        let baseline = first + BAR_LABEL_ROW * row as f64;
        canvas.text(line, (right, baseline), Anchor::End, NUMBER)?;
    }
    Ok(())
}
