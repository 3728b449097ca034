//! Figures worth putting in a paper, as SVG and PNG.
//!
//! Three figures on plain numbers: [`ErrorCostFigure`] (error against cost, a curve per model size, the frontier),
//! [`ProfileFigure`] (how sharply the data determine an exponent) and [`BreakdownFigure`] (what a cost is made of). They
//! know nothing of fits, tables or plans. Each is drawn once, as SVG; a PNG is that SVG at twice the size. The same
//! input gives the same bytes on every machine: the font is compiled in.
//!
//! ```
//! use foveate_law::plot::{Axis, ErrorCostFigure, Figure, MeasuredPoint, Scale, Series, Unit};
//!
//! let figure = ErrorCostFigure {
//!     title: "Error against cost".to_owned(),
//!     x: Axis { label: "cost per image".to_owned(), unit: Unit::Flops, scale: Scale::Log },
//!     y: Axis { label: "error".to_owned(), ..Axis::default() },
//!     series: vec![Series {
//!         label: "0.5 B".to_owned(),
//!         curve: vec![(1e9, 0.61), (576e9, 0.57)],
//!         points: vec![MeasuredPoint { x: 1e9, y: 0.6145, visual_tokens: 1.0 }],
//!         ..Series::default()
//!     }],
//!     ..ErrorCostFigure::default()
//! };
//! let svg = figure.svg()?;
//! assert!(svg.contains("10 GFLOP") && svg.contains("0.5 B"));
//! # Ok::<(), foveate_law::plot::PlotError>(())
//! ```

mod axis;
mod breakdown;
mod budget;
mod callout;
mod canvas;
mod colour;
mod error;
mod error_cost;
mod font;
mod legend;
mod output;
mod page;
mod profile;
mod side_legend;

pub use crate::units::Unit;
pub use axis::{Axis, Scale};
pub use breakdown::{Bar, BarLength, BreakdownFigure};
pub use budget::BudgetLine;
pub use error::PlotError;
pub use error_cost::{ErrorCostFigure, Highlight, LegendWords, MeasuredPoint, Series};
pub use output::render;
pub use profile::{Estimate, Interval, ProfileCurve, ProfileFigure, Threshold};

/// Something that can be drawn.
pub trait Figure {
    /// The figure as an SVG document.
    ///
    /// # Errors
    ///
    /// Names the value and its place when there is nothing to draw, too much, or a number that its axis cannot show.
    fn svg(&self) -> Result<String, PlotError>;

    /// The figure as a PNG at twice the SVG's size.
    ///
    /// # Errors
    ///
    /// Those of [`Figure::svg`], and [`PlotError::Raster`] where memory for the pixels is lacking.
    fn png(&self) -> Result<Vec<u8>, PlotError> {
        output::rasterise(&self.svg()?)
    }
}
