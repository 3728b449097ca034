//! Error against what a question really takes, the tower included: every run as a point, a line through the means of each
//! size of language model.

use std::collections::BTreeMap;

use foveate_law::plan::count;
use foveate_law::plot::{Axis, ErrorCostFigure, Figure, MeasuredPoint, Scale, Series, Unit};

use crate::Result;

/// A training run at a number of visual tokens: means over the tasks of a family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Parameters of the language model, without those of words.
    pub params: u64,
    /// Visual tokens of a picture.
    pub visual_tokens: f64,
    /// 1 − score.
    pub error: f64,
    /// FLOPs of a question.
    pub flops: f64,
    /// Milliseconds of a question.
    pub ms: f64,
}

/// What a question takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    Flops,
    Time,
}

impl Cost {
    /// The end of a file's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Cost::Flops => "flops",
            Cost::Time => "time",
        }
    }

    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Cost::Flops => "FLOPs of a question, tower included",
            Cost::Time => "time of a question, tower included",
        }
    }

    /// Its unit in tables, and how large that is.
    pub(super) fn shown(self) -> (&'static str, f64) {
        match self {
            Cost::Flops => ("GFLOP", 1e9),
            Cost::Time => ("ms", 1e-3),
        }
    }

    /// In FLOPs or in seconds.
    pub(super) fn of(self, point: &Point) -> f64 {
        match self {
            Cost::Flops => point.flops,
            Cost::Time => point.ms / 1e3,
        }
    }
}

/// The figure as an SVG document.
pub(super) fn figure(points: &[Point], family: &str, cost: Cost) -> Result<String> {
    let mut sizes: BTreeMap<u64, Vec<&Point>> = BTreeMap::new();
    for point in points {
        sizes.entry(point.params).or_default().push(point);
    }
    let series = sizes.iter().map(|(params, points)| Series {
        label: count(*params as f64),
        curve: means(points, cost),
        band: None,
        points: points
            .iter()
            .map(|point| MeasuredPoint {
                x: cost.of(point),
                y: point.error,
                visual_tokens: point.visual_tokens,
            })
            .collect(),
    });
    let unit = if cost == Cost::Flops { Unit::Flops } else { Unit::Seconds };
    let figure = ErrorCostFigure {
        title: format!("{family}: error against {}", cost.words()),
        x: Axis { label: cost.words().to_owned(), unit, scale: Scale::Log },
        y: Axis { label: "error".to_owned(), ..Axis::default() },
        series: series.collect(),
        ..ErrorCostFigure::default()
    };
    Ok(figure.svg()?)
}

/// Mean cost and error at each number of tokens, ordered by cost.
fn means(points: &[&Point], cost: Cost) -> Vec<(f64, f64)> {
    let mut rungs: BTreeMap<u64, Vec<&Point>> = BTreeMap::new();
    for point in points {
        rungs.entry(point.visual_tokens.to_bits()).or_default().push(point);
    }
    let mean = |points: &Vec<&Point>| {
        let count = points.len() as f64;
        let sum = |of: &dyn Fn(&Point) -> f64| points.iter().map(|point| of(point)).sum::<f64>() / count;
        (sum(&|point| cost.of(point)), sum(&|point| point.error))
    };
    let mut curve: Vec<(f64, f64)> = rungs.values().map(mean).collect();
    curve.sort_by(|one, other| one.0.total_cmp(&other.0));
    curve
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn point(params: u64, visual_tokens: f64, error: f64, ms: f64) -> Point {
        Point { params, visual_tokens, error, flops: 2.0 * params as f64 * visual_tokens, ms }
    }

    #[test]
    fn seeds_are_points_and_their_means_a_line() {
        let points = [
            point(1_000_000, 1.0, 0.5, 2.0),
            point(1_000_000, 1.0, 0.7, 4.0),
            point(1_000_000, 4.0, 0.4, 1.0),
        ];
        let all: Vec<&Point> = points.iter().collect();
        assert_eq!(means(&all, Cost::Time), [(1e-3, 0.4), (3e-3, 0.6)]);
        assert_eq!(means(&all, Cost::Flops), [(2e6, 0.6), (8e6, 0.4)]);
        let svg = figure(&points, "reasoning", Cost::Time).unwrap();
        assert!(svg.contains("reasoning: error against time of a question") && svg.contains(" ms"), "{svg}");
    }
}
