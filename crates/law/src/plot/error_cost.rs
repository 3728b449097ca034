//! Error against cost: a curve per model size with its measured points, and the frontier that a budget buys from.

use plotters::style::RGBColor;

use super::Figure;
use super::axis::{Axis, Range, Scale, check};
use super::budget::{self, BudgetLine};
use super::callout;
use super::canvas::{Canvas, Frame, Point, Stroke, clipped, document};
use super::colour::{INK, ordered};
use super::error::PlotError;
use super::page::{HEIGHT, MARGIN, Plot, Title, WIDTH};
use super::side_legend::{MarkerSizes, SideLegend};

const MOST_SERIES: usize = 60;
const MOST_BUDGETS: usize = 6;
/// How far beyond the curves a band may stretch the figure, in heights of the curves.
const BAND_OVERHANG: f64 = 0.35;
const LEGEND_GAP: f64 = 28.0;
/// Beyond this many series the curves are drawn thinner.
const FEW_SERIES: usize = 12;

/// Error (or any outcome) against cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorCostFigure {
    /// The title.
    pub title: String,
    /// The cost; usually logarithmic.
    pub x: Axis,
    /// The error.
    pub y: Axis,
    /// One entry per model size, in the order of size: their colours run from dark to light.
    pub series: Vec<Series>,
    /// The lowest error for each cost, ordered by cost.
    pub frontier: Option<Vec<(f64, f64)>>,
    /// A point to point at, such as the recommended choice.
    pub highlighted: Option<Highlight>,
    /// Vertical lines at costs that may not be exceeded.
    pub budgets: Vec<BudgetLine>,
    /// What the legend calls things.
    pub words: LegendWords,
}

/// The curve and the measurements of one model size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The text in the legend, such as "1.8 B".
    pub label: String,
    /// Cost and predicted error, ordered by cost.
    pub curve: Vec<(f64, f64)>,
    /// Cost, lower and upper end of the prediction's interval, ordered by cost.
    pub band: Option<Vec<(f64, f64, f64)>>,
    /// The measurements.
    pub points: Vec<MeasuredPoint>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeasuredPoint {
    /// Cost.
    pub x: f64,
    /// Error.
    pub y: f64,
    /// Visual tokens, or what the second factor of another table counts; shown by the marker's size. Zero or more.
    pub visual_tokens: f64,
}

/// A ringed point with a label.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Highlight {
    /// Cost.
    pub x: f64,
    /// Error.
    pub y: f64,
    /// A few words beside it.
    pub label: String,
}

/// What the legend calls things.
#[derive(Clone, Debug, PartialEq)]
pub struct LegendWords {
    /// The heading above the series.
    pub series: String,
    /// The heading above the sizes of the markers.
    pub marker: String,
    /// The frontier.
    pub frontier: String,
    /// The interval bands.
    pub band: String,
}

impl Default for LegendWords {
    fn default() -> Self {
        Self {
            series: "Model size N".to_owned(),
            marker: "Visual tokens V".to_owned(),
            frontier: "best for the cost".to_owned(),
            band: "95 % interval".to_owned(),
        }
    }
}

impl Figure for ErrorCostFigure {
    fn svg(&self) -> Result<String, PlotError> {
        self.check()?;
        let title = Title::new(&self.title)?;
        let legend = SideLegend::new(self)?;
        let top = title.bottom() + 8.0;
        let bottom = (f64::from(HEIGHT) - MARGIN / 2.0).max(top + legend.height + MARGIN);
        let legend_left = f64::from(WIDTH) - MARGIN - legend.width;
        let right = if legend.width > 0.0 { legend_left - LEGEND_GAP } else { legend_left };
        let outer = |top: f64| Frame { left: MARGIN, top, right, bottom };
        let layout = |top: f64| Plot::new(outer(top), (&self.x, self.x_range()?), (&self.y, self.y_range()?));
        // The rows of budget labels depend on the plot's width, and the plot's height on the rows.
        let budgets = budget::place(&self.budgets, &layout(top)?)?;
        let plot = layout(top + budget::height(&budgets))?;

        document((WIDTH, (bottom + MARGIN / 2.0).ceil() as u32), &self.title, |canvas| {
            title.draw(canvas)?;
            plot.draw(canvas, &self.x, &self.y)?;
            self.draw_bands(canvas, &plot)?;
            budget::draw(canvas, &plot, &budgets)?;
            self.draw_curves(canvas, &plot)?;
            self.draw_points(canvas, &plot)?;
            if let Some(highlight) = &self.highlighted {
                let at = plot.at((highlight.x, highlight.y));
                callout::draw(canvas, at, &highlight.label, &plot.frame, &self.obstacles(&plot))?;
            }
            legend.draw(canvas, legend_left, top)
        })
    }
}

impl ErrorCostFigure {
    fn check(&self) -> Result<(), PlotError> {
        for (what, found, allowed) in
            [("series", self.series.len(), MOST_SERIES), ("budget lines", self.budgets.len(), MOST_BUDGETS)]
        {
            if found > allowed {
                return Err(PlotError::TooMany { what, found, allowed });
            }
        }
        let check_x = |value, place: &dyn Fn() -> String| check(value, self.x.scale, || place() + ", x");
        let check_y = |value, place: &dyn Fn() -> String| check(value, self.y.scale, || place() + ", y");
        for series in &self.series {
            for (index, &(x, y)) in series.curve.iter().enumerate() {
                let place = || format!("series {:?}, curve point {}", series.label, index + 1);
                check_x(x, &place)?;
                check_y(y, &place)?;
            }
            for (index, &(x, low, high)) in series.band.iter().flatten().enumerate() {
                let place = || format!("series {:?}, band point {}", series.label, index + 1);
                check_x(x, &place)?;
                check_y(low, &place)?;
                check_y(high, &place)?;
            }
            for (index, point) in series.points.iter().enumerate() {
                let place = || format!("series {:?}, measurement {}", series.label, index + 1);
                check_x(point.x, &place)?;
                check_y(point.y, &place)?;
                check(point.visual_tokens, Scale::Linear, || place() + ", marker")?;
            }
        }
        for (index, &(x, y)) in self.frontier.iter().flatten().enumerate() {
            let place = || format!("frontier point {}", index + 1);
            check_x(x, &place)?;
            check_y(y, &place)?;
        }
        if let Some(highlight) = &self.highlighted {
            let place = || format!("highlight {:?}", highlight.label);
            check_x(highlight.x, &place)?;
            check_y(highlight.y, &place)?;
        }
        for budget in &self.budgets {
            check_x(budget.x, &|| format!("budget line {:?}", budget.label))?;
        }
        if self.drawn().next().is_none() {
            return Err(PlotError::Empty { what: "curves or points" });
        }
        Ok(())
    }

    /// All points that must be inside the frame.
    fn drawn(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let of_series = |series: &'_ Series| {
            let measured: Vec<(f64, f64)> = series.points.iter().map(|point| (point.x, point.y)).collect();
            series.curve.clone().into_iter().chain(measured)
        };
        self.series
            .iter()
            .flat_map(of_series)
            .chain(self.frontier.iter().flatten().copied())
            .chain(self.highlighted.iter().map(|highlight| (highlight.x, highlight.y)))
    }

    fn x_range(&self) -> Result<Range, PlotError> {
        let budgets = self.budgets.iter().map(|budget| budget.x);
        let values = self.drawn().map(|point| point.0).chain(budgets);
        let range = Range::of(values, self.x.scale).ok_or(PlotError::Empty { what: "points" })?;
        Ok(range.padded(0.035))
    }

    fn y_range(&self) -> Result<Range, PlotError> {
        let scale = self.y.scale;
        let range =
            Range::of(self.drawn().map(|point| point.1), scale).ok_or(PlotError::Empty { what: "points" })?;
        let ends = self.series.iter().flat_map(|series| series.band.iter().flatten());
        let limit =
            |value: f64| range.value_at(range.share_of(value).clamp(-BAND_OVERHANG, 1.0 + BAND_OVERHANG));
        let bands = ends.flat_map(|&(_, low, high)| [limit(low), limit(high)]);
        let range = Range::of([range.low, range.high].into_iter().chain(bands), scale).unwrap_or(range);
        Ok(range.padded(0.05))
    }

    pub(super) fn colour(&self, index: usize) -> RGBColor {
        ordered(index, self.series.len())
    }

    fn draw_bands(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        let opacity = (0.6 / self.series.len() as f64).clamp(0.05, 0.16);
        let inside = |(x, y): Point| {
            (x.clamp(plot.frame.left, plot.frame.right), y.clamp(plot.frame.top, plot.frame.bottom))
        };
        for (index, series) in self.series.iter().enumerate() {
            let Some(band) = &series.band else { continue };
            let upper = band.iter().map(|&(x, _, high)| inside(plot.at((x, high))));
            let lower = band.iter().rev().map(|&(x, low, _)| inside(plot.at((x, low))));
            let outline: Vec<Point> = upper.chain(lower).collect();
            canvas.polygon(&outline, self.colour(index), opacity)?;
        }
        Ok(())
    }

    fn draw_curves(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        let width = if self.series.len() > FEW_SERIES { 1.6 } else { 2.2 };
        for (index, series) in self.series.iter().enumerate() {
            let points: Vec<Point> = series.curve.iter().map(|&point| plot.at(point)).collect();
            for piece in clipped(&points, &plot.frame) {
                canvas.line(&piece, Stroke::new(self.colour(index), width))?;
            }
        }
        let frontier: Vec<Point> = self.frontier.iter().flatten().map(|&point| plot.at(point)).collect();
        canvas.dashes(&frontier, 7.0, 4.0, Stroke::new(INK, 2.0))
    }

    fn draw_points(&self, canvas: &mut Canvas<'_>, plot: &Plot) -> Result<(), PlotError> {
        let sizes = self.sizes();
        let mut markers: Vec<(usize, &MeasuredPoint)> = self
            .series
            .iter()
            .enumerate()
            .flat_map(|(index, series)| series.points.iter().map(move |point| (index, point)))
            .collect();
        // Small markers on top of large ones, so that neither hides the other.
        markers.sort_by(|(_, left), (_, right)| right.visual_tokens.total_cmp(&left.visual_tokens));
        for (index, point) in markers {
            let radius = sizes.radius(point.visual_tokens);
            canvas.disc(plot.at((point.x, point.y)), radius, self.colour(index))?;
        }
        Ok(())
    }

    /// What a callout should not cover.
    fn obstacles(&self, plot: &Plot) -> Vec<Point> {
        let on_page = |points: &[(f64, f64)]| -> Vec<Point> {
            let points: Vec<Point> = points.iter().map(|&point| plot.at(point)).collect();
            callout::along(&points, 6.0)
        };
        let mut obstacles = Vec::new();
        for series in &self.series {
            obstacles.extend(on_page(&series.curve));
            // A marker weighs more than a stretch of its curve.
            for point in &series.points {
                obstacles.extend([plot.at((point.x, point.y)); 3]);
            }
        }
        obstacles.extend(on_page(self.frontier.as_deref().unwrap_or_default()));
        for budget in &self.budgets {
            let across = plot.across(budget.x);
            let line = [(across, plot.frame.top), (across, plot.frame.bottom)];
            obstacles.extend(callout::along(&line, 6.0));
        }
        obstacles
    }

    pub(super) fn sizes(&self) -> MarkerSizes {
        let tokens = self.series.iter().flat_map(|series| &series.points).map(|point| point.visual_tokens);
        MarkerSizes::new(tokens)
    }
}
