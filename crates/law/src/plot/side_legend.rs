//! The column beside an error-cost figure: its series, what else is drawn, and what the sizes of the markers mean.

use super::canvas::{Anchor, Canvas, Point};
use super::colour::{AXIS, INK};
use super::error::PlotError;
use super::error_cost::ErrorCostFigure;
use super::legend::{Entry, HEADING, Key, ROW};
use super::page::NUMBER;
use crate::units::Unit;

const SMALLEST_MARKER: f64 = 3.0;
const LARGEST_MARKER: f64 = 8.0;
const LABEL_LIMIT: f64 = 200.0;
const SECTION_GAP: f64 = 14.0;
/// Beyond this many series, short labels stand in two columns.
const ONE_COLUMN: usize = 12;

/// The size of a marker for each number of visual tokens.
pub(super) struct MarkerSizes {
    /// Each number once, ascending.
    tokens: Vec<f64>,
}

impl MarkerSizes {
    pub(super) fn new(tokens: impl IntoIterator<Item = f64>) -> Self {
        let mut tokens: Vec<f64> = tokens.into_iter().collect();
        tokens.sort_by(f64::total_cmp);
        tokens.dedup();
        Self { tokens }
    }

    /// Grows with the logarithm of the tokens, as the ladders of tokens do.
    pub(super) fn radius(&self, tokens: f64) -> f64 {
        let logarithm = |tokens: f64| (1.0 + tokens.max(0.0)).ln();
        match (self.tokens.first(), self.tokens.last()) {
            (Some(&low), Some(&high)) if low < high => {
                let share = (logarithm(tokens) - logarithm(low)) / (logarithm(high) - logarithm(low));
                SMALLEST_MARKER + share * (LARGEST_MARKER - SMALLEST_MARKER)
            }
            _ => f64::midpoint(SMALLEST_MARKER, LARGEST_MARKER),
        }
    }

    /// At most four of the numbers, the extremes among them.
    fn examples(&self) -> Vec<f64> {
        let all = &self.tokens;
        let shown = all.len().min(4);
        (0..shown).map(|index| all[index * (all.len() - 1) / (shown - 1).max(1)]).collect()
    }
}

/// Token counts to the last one; what is larger or no whole number with three digits.
fn number(tokens: f64) -> String {
    if tokens.fract() == 0.0 && tokens < 1e6 { format!("{tokens:.0}") } else { Unit::Plain.format(tokens) }
}

/// The column beside the plot.
pub(super) struct SideLegend {
    series_heading: String,
    series: Vec<Entry>,
    columns: usize,
    column_width: f64,
    others: Vec<Entry>,
    marker_heading: String,
    markers: Vec<(f64, f64)>,
    marker_cell: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl SideLegend {
    pub(super) fn new(figure: &ErrorCostFigure) -> Result<Self, PlotError> {
        let words = &figure.words;
        let series: Vec<Entry> = figure
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| !series.label.is_empty())
            .map(|(index, series)| {
                let colour = figure.colour(index);
                let key = if series.points.is_empty() { Key::Line(colour) } else { Key::Series(colour) };
                Entry::new(key, &series.label)
            })
            .collect();
        let mut others = Vec::new();
        if figure.frontier.as_ref().is_some_and(|frontier| frontier.len() > 1) {
            others.push(Entry::new(Key::Dashed(INK), &words.frontier));
        }
        if figure.series.iter().any(|series| series.band.is_some()) {
            others.push(Entry::new(Key::Band(AXIS), &words.band));
        }
        let sizes = figure.sizes();
        let markers: Vec<(f64, f64)> =
            sizes.examples().into_iter().map(|tokens| (tokens, sizes.radius(tokens))).collect();

        let widest = |entries: &[Entry]| {
            entries.iter().try_fold(0.0, |widest: f64, entry| {
                Ok::<f64, PlotError>(widest.max(entry.width(LABEL_LIMIT)?))
            })
        };
        let column_width = widest(&series)? + 14.0;
        let columns = if series.len() > ONE_COLUMN && column_width < 125.0 { 2 } else { 1 };
        let marker_cell = markers.iter().try_fold(0.0, |widest: f64, (tokens, radius)| {
            Ok::<f64, PlotError>(widest.max(NUMBER.width(&number(*tokens))?).max(2.0 * radius))
        })? + 14.0;

        let mut legend = Self {
            series_heading: if series.is_empty() { String::new() } else { words.series.clone() },
            columns,
            column_width,
            marker_heading: if markers.is_empty() { String::new() } else { words.marker.clone() },
            marker_cell,
            width: 0.0,
            height: 0.0,
            series,
            others,
            markers,
        };
        legend.width = [
            HEADING.width(&legend.series_heading)?,
            HEADING.width(&legend.marker_heading)?,
            if legend.series.is_empty() { 0.0 } else { column_width * columns as f64 - 14.0 },
            widest(&legend.others)?,
            if legend.markers.is_empty() { 0.0 } else { marker_cell * legend.markers.len() as f64 },
        ]
        .into_iter()
        .fold(0.0, f64::max)
        .min(LABEL_LIMIT + 80.0);
        legend.height = legend.place(&mut |_, _| Ok(()))?;
        Ok(legend)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas<'_>, left: f64, top: f64) -> Result<(), PlotError> {
        self.place(&mut |part, (right, down)| {
            let at = (left + right, top + down);
            match part {
                Part::Heading(text) => {
                    let text = HEADING.fit(text, self.width)?;
                    canvas.text(&text, (at.0, at.1 + HEADING.drop()), Anchor::Start, HEADING)
                }
                Part::Entry(entry) => entry.draw(canvas, at.0, at.1, LABEL_LIMIT),
                Part::Marker(tokens, radius) => {
                    canvas.disc(at, radius, AXIS)?;
                    let below = (at.0, at.1 + LARGEST_MARKER + 16.0);
                    canvas.text(&number(tokens), below, Anchor::Middle, NUMBER)
                }
            }
        })?;
        Ok(())
    }

    /// Hands every part and its position to `visit` and returns the height of the whole.
    fn place(
        &self,
        visit: &mut dyn FnMut(Part<'_>, Point) -> Result<(), PlotError>,
    ) -> Result<f64, PlotError> {
        let mut down = ROW / 2.0;
        if !self.series_heading.is_empty() {
            visit(Part::Heading(&self.series_heading), (0.0, down))?;
            down += ROW;
        }
        let rows = self.series.len().div_ceil(self.columns);
        for (index, entry) in self.series.iter().enumerate() {
            let (column, row) = (index / rows, index % rows);
            let at = (self.column_width * column as f64, down + ROW * row as f64);
            visit(Part::Entry(entry), at)?;
        }
        down += ROW * rows as f64;
        if !self.others.is_empty() {
            down += SECTION_GAP;
        }
        for entry in &self.others {
            visit(Part::Entry(entry), (0.0, down))?;
            down += ROW;
        }
        if !self.markers.is_empty() {
            down += SECTION_GAP;
            visit(Part::Heading(&self.marker_heading), (0.0, down))?;
            down += ROW + 4.0;
            for (index, &(tokens, radius)) in self.markers.iter().enumerate() {
                let at = (self.marker_cell * (index as f64 + 0.5), down);
                visit(Part::Marker(tokens, radius), at)?;
            }
            down += LARGEST_MARKER + 20.0;
        }
        Ok(down)
    }
}

/// A part of the legend.
enum Part<'a> {
    Heading(&'a str),
    Entry(&'a Entry),
    Marker(f64, f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_grow_with_the_tokens_and_the_key_shows_the_extremes() {
        let sizes = MarkerSizes::new([1.0, 576.0, 4.0, 16.0, 36.0, 64.0, 144.0, 16.0]);
        assert_eq!(sizes.examples(), [1.0, 16.0, 64.0, 576.0]);
        let radii: Vec<f64> = sizes.tokens.iter().map(|&tokens| sizes.radius(tokens)).collect();
        assert!(radii.windows(2).all(|pair| pair[1] > pair[0]), "{radii:?}");
        assert_eq!((radii[0], radii[6]), (SMALLEST_MARKER, LARGEST_MARKER));
        let one = MarkerSizes::new([64.0]);
        assert_eq!(one.examples(), [64.0]);
        assert!(MarkerSizes::new([]).examples().is_empty());
    }

    #[test]
    fn numbers_of_other_tables_are_written_as_they_are() {
        let training = MarkerSizes::new([1e9, 1e10, 1e11]);
        assert_eq!(training.examples().into_iter().map(number).collect::<Vec<_>>(), ["10⁹", "10¹⁰", "10¹¹"]);
        assert_eq!([0.25, 576.0, 1024.0, 2880.0].map(number), ["0.25", "576", "1024", "2880"]);
        assert!(
            training.radius(1e9) < training.radius(1e10) && training.radius(1e10) < training.radius(1e11)
        );
    }
}
