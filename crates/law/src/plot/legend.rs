//! Legends: keys with their words, in rows under the title or in columns beside the data.

use plotters::style::RGBColor;

use super::canvas::{Anchor, Canvas, Frame, Stroke, Type};
use super::colour::TEXT;
use super::error::PlotError;
use super::font::Weight;

/// The type of legend entries.
pub(super) const ENTRY: Type = Type { em: 13.0, weight: Weight::Regular, colour: TEXT };
/// The type of legend headings.
pub(super) const HEADING: Type = Type { em: 13.0, weight: Weight::SemiBold, colour: TEXT };
/// The distance between lines of a legend.
pub(super) const ROW: f64 = 21.0;

const LINE_WIDTH: f64 = 26.0;
const BOX_WIDTH: f64 = 15.0;
const KEY_GAP: f64 = 8.0;
const ENTRY_GAP: f64 = 22.0;

/// How an entry's key is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Key {
    /// A line with a marker on it.
    Series(RGBColor),
    Line(RGBColor),
    Dashed(RGBColor),
    Dotted(RGBColor),
    /// A translucent area.
    Band(RGBColor),
    /// A filled box.
    Box(RGBColor),
}

impl Key {
    fn width(self) -> f64 {
        if matches!(self, Self::Box(_)) { BOX_WIDTH } else { LINE_WIDTH }
    }
}

/// A key and its words.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) label: String,
}

impl Entry {
    pub(super) fn new(key: Key, label: &str) -> Self {
        Self { key, label: label.to_owned() }
    }

    /// Its width in pixels when its label is cut to `limit`.
    pub(super) fn width(&self, limit: f64) -> Result<f64, PlotError> {
        Ok(self.key.width() + KEY_GAP + ENTRY.width(&self.label)?.min(limit))
    }

    /// Draws it from `left`, centred on the height `middle`, with its label cut to `limit` pixels.
    pub(super) fn draw(
        &self,
        canvas: &mut Canvas<'_>,
        left: f64,
        middle: f64,
        limit: f64,
    ) -> Result<(), PlotError> {
        self.draw_key(canvas, left, middle)?;
        let label = ENTRY.fit(&self.label, limit)?;
        canvas.text(&label, (left + self.key.width() + KEY_GAP, middle + ENTRY.drop()), Anchor::Start, ENTRY)
    }

    fn draw_key(&self, canvas: &mut Canvas<'_>, left: f64, middle: f64) -> Result<(), PlotError> {
        let right = left + self.key.width();
        let across = [(left, middle), (right, middle)];
        let area = |half: f64| Frame { left, top: middle - half, right, bottom: middle + half };
        match self.key {
            Key::Series(colour) => {
                canvas.line(&across, Stroke::new(colour, 2.0))?;
                canvas.disc((left + LINE_WIDTH / 2.0, middle), 4.0, colour)
            }
            Key::Line(colour) => canvas.line(&across, Stroke::new(colour, 2.2)),
            Key::Dashed(colour) => canvas.dashes(&across, 7.0, 4.0, Stroke::new(colour, 2.0)),
            Key::Dotted(colour) => canvas.dashes(&across, 2.0, 3.0, Stroke::new(colour, 1.6)),
            Key::Band(colour) => canvas.rectangle(area(6.0), colour, 0.22),
            Key::Box(colour) => canvas.rectangle(area(BOX_WIDTH / 2.0), colour, 1.0),
        }
    }
}

/// Places `entries` in rows no wider than `width`: for each its offset from the left and its row.
pub(super) fn rows(entries: &[Entry], width: f64) -> Result<Vec<(f64, usize)>, PlotError> {
    let (mut left, mut row) = (0.0, 0);
    let mut places = Vec::with_capacity(entries.len());
    for entry in entries {
        let needed = entry.width(row_label_limit(width))?;
        if left > 0.0 && left + needed > width {
            (left, row) = (0.0, row + 1);
        }
        places.push((left, row));
        left += needed + ENTRY_GAP;
    }
    Ok(places)
}

/// The widest a label may be in a legend of rows.
pub(super) fn row_label_limit(width: f64) -> f64 {
    width - LINE_WIDTH - KEY_GAP
}
