//! The profile of one exponent: how much worse the best fit becomes when the exponent is held at a value.

use super::Figure;
use super::axis::{Axis, Range, check};
use super::canvas::{Anchor, Canvas, Frame, Point, Stroke, Type, clipped, document};
use super::colour::{INK, LIMIT, kind};
use super::error::PlotError;
use super::font::Weight;
use super::legend::{Entry, Key};
use super::page::{HEIGHT, MARGIN, Plot, RowLegend, Title, WIDTH};

const MOST_CURVES: usize = 8;

/// How far above its lowest point the figure looks, in multiples of the threshold's height: a profile may rise a
/// thousandfold, but what it says about the interval happens close to the threshold.
const THRESHOLDS_SHOWN: f64 = 3.5;

/// A profile with its threshold, interval and estimate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileFigure {
    /// The title.
    pub title: String,
    /// The exponent, such as "α (exponent of model size N)".
    pub x: Axis,
    /// The objective, such as its ratio to the minimum or the drop in log-likelihood.
    pub y: Axis,
    /// The profile, and further ones to compare with, such as one with the floor free in sign.
    pub curves: Vec<ProfileCurve>,
    /// Values of the exponent whose curve stays below it are in the interval.
    pub threshold: Option<Threshold>,
    /// The interval, open where the profile never crosses the threshold.
    pub interval: Option<Interval>,
    /// The best value.
    pub estimate: Option<Estimate>,
}

/// One curve of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileCurve {
    /// The text in the legend.
    pub label: String,
    /// Exponent and objective, ordered by exponent.
    pub points: Vec<(f64, f64)>,
}

/// A horizontal limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Threshold {
    /// Its height.
    pub y: f64,
    /// The text in the legend, such as "95 % threshold".
    pub label: String,
}

/// A range of the exponent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// The lower end; `None` where every lower value examined is still inside.
    pub low: Option<f64>,
    /// The upper end; `None` where every higher value examined is still inside.
    pub high: Option<f64>,
    /// The text in the legend, such as "95 % interval 0.05–0.09".
    pub label: String,
}

/// The best value of the exponent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Its value.
    pub x: f64,
    /// The text in the legend, such as "estimate 0.0709".
    pub label: String,
}

impl Figure for ProfileFigure {
    fn svg(&self) -> Result<String, PlotError> {
        self.check()?;
        let title = Title::new(&self.title)?;
        let entries = self.entries();
        let legend = RowLegend::new(&entries, title.bottom() + 4.0)?;
        let outer = Frame {
            left: MARGIN,
            top: legend.bottom() + 16.0,
            right: f64::from(WIDTH) - MARGIN,
            bottom: f64::from(HEIGHT) - MARGIN / 2.0,
        };
        let plot = Plot::new(outer, (&self.x, self.x_range()?), (&self.y, self.y_range()?))?;
        document((WIDTH, HEIGHT), &self.title, |canvas| {
            title.draw(canvas)?;
            legend.draw(canvas)?;
            plot.draw(canvas, &self.x, &self.y)?;
            self.draw_interval(canvas, &plot)?;
            self.draw_limits(canvas, &plot)?;
            self.draw_curves(canvas, &plot)
        })
    }
}

impl ProfileFigure {
    fn check(&self) -> Result<(), PlotError> {
        if self.curves.iter().all(|curve| curve.points.is_empty()) {
            return Err(PlotError::Empty { what: "curves with points" });
        }
        if self.curves.len() > MOST_CURVES {
            let found = self.curves.len();
            return Err(PlotError::TooMany { what: "curves", found, allowed: MOST_CURVES });
        }
        for curve in &self.curves {
            for (index, &(x, y)) in curve.points.iter().enumerate() {
                let place = |axis| format!("curve {:?}, point {}, {axis}", curve.label, index + 1);
                check(x, self.x.scale, || place("x"))?;
                check(y, self.y.scale, || place("y"))?;
            }
        }
        if let Some(threshold) = &self.threshold {
            check(threshold.y, self.y.scale, || "the threshold".to_owned())?;
        }
        if let Some(estimate) = &self.estimate {
            check(estimate.x, self.x.scale, || "the estimate".to_owned())?;
        }
        for end in self.interval.iter().flat_map(|interval| [interval.low, interval.high]).flatten() {
            check(end, self.x.scale, || "an end of the interval".to_owned())?;
        }
        Ok(())
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .curves
            .iter()
            .enumerate()
            .map(|(index, curve)| Entry::new(curve_key(index), &curve.label))
            .collect();
        if let Some(estimate) = &self.estimate {
            entries.push(Entry::new(Key::Dotted(INK), &estimate.label));
        }
        if let Some(interval) = &self.interval {
            entries.push(Entry::new(Key::Band(kind(0, 1)), &interval.label));
        }
        if let Some(threshold) = &self.threshold {
            entries.push(Entry::new(Key::Dashed(LIMIT), &threshold.label));
        }
        entries.retain(|entry| !entry.label.is_empty());
        entries
    }

    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        self.curves.iter().flat_map(|curve| &curve.points)
    }

    fn x_range(&self) -> Result<Range, PlotError> {
        let ends = self.interval.iter().flat_map(|interval| [interval.low, interval.high]).flatten();
        let estimate = self.estimate.iter().map(|estimate| estimate.x);
        let values = self.points().map(|point| point.0).chain(ends).chain(estimate);
        let range = Range::of(values, self.x.scale).ok_or(PlotError::Empty { what: "points" })?;
        Ok(range.padded(0.02))
    }

    fn y_range(&self) -> Result<Range, PlotError> {
        let heights = || self.points().map(|point| point.1);
        let threshold = self.threshold.as_ref().map(|threshold| threshold.y);
        let lowest = heights().fold(f64::INFINITY, f64::min);
        let shown = threshold.filter(|threshold| *threshold > lowest);
        let ceiling =
            shown.map_or(f64::INFINITY, |threshold| lowest + THRESHOLDS_SHOWN * (threshold - lowest));
        let values = heights().map(|height| height.min(ceiling)).chain(threshold);
        let range = Range::of(values, self.y.scale).ok_or(PlotError::Empty { what: "points" })?;
        Ok(range.padded(0.05))
    }

    fn draw_interval(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        let Some(interval) = &self.interval else { return Ok(()) };
        let frame = plot.frame;
        let left = interval.low.map_or(frame.left, |low| plot.across(low));
        let right = interval.high.map_or(frame.right, |high| plot.across(high));
        let colour = kind(0, 1);
        let area = Frame { left: left.min(right), right: left.max(right), ..frame };
        canvas.rectangle(area, colour, 0.10)?;
        for (end, across) in [(interval.low, left), (interval.high, right)] {
            if end.is_some() {
                let edge = [(across, frame.top), (across, frame.bottom)];
                canvas.line(&edge, Stroke { colour, opacity: 0.45, width: 1.2 })?;
            }
        }
        // An arrow says that the interval goes on beyond what was examined.
        let arrow = Type { em: 20.0, weight: Weight::SemiBold, colour };
        if interval.low.is_none() {
            canvas.text("←", (frame.left + 8.0, frame.top + 22.0), Anchor::Start, arrow)?;
        }
        if interval.high.is_none() {
            canvas.text("→", (frame.right - 8.0, frame.top + 22.0), Anchor::End, arrow)?;
        }
        Ok(())
    }

    fn draw_limits(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        let frame = plot.frame;
        if let Some(threshold) = &self.threshold {
            let up = plot.up(threshold.y);
            let line = [(frame.left, up), (frame.right, up)];
            canvas.dashes(&line, 7.0, 4.0, Stroke::new(LIMIT, 1.8))?;
        }
        if let Some(estimate) = &self.estimate {
            let across = plot.across(estimate.x);
            let line = [(across, frame.top), (across, frame.bottom)];
            canvas.dashes(&line, 2.0, 3.0, Stroke::new(INK, 1.6))?;
        }
        Ok(())
    }

    fn draw_curves(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        // The first curve is the one the figure is about: it is drawn last, on top.
        for (index, curve) in self.curves.iter().enumerate().rev() {
            let points: Vec<Point> = curve.points.iter().map(|&point| plot.at(point)).collect();
            let colour = kind(index, MOST_CURVES);
            for piece in clipped(&points, &plot.frame) {
                if index == 0 {
                    canvas.line(&piece, Stroke::new(colour, 2.8))?;
                } else {
                    canvas.dashes(&piece, 9.0, 4.0, Stroke::new(colour, 2.2))?;
                }
            }
            if let [only] = points[..] {
                canvas.disc(only, 4.5, colour)?;
            }
        }
        Ok(())
    }
}

fn curve_key(index: usize) -> Key {
    let colour = kind(index, MOST_CURVES);
    if index == 0 { Key::Line(colour) } else { Key::Dashed(colour) }
}
