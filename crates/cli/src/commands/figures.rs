//! Figures of fits and plans.

use foveate_law::plan::{Candidate, Plan, Resource};
use foveate_law::plot::{
    Axis, Bar, BreakdownFigure, BudgetLine, ErrorCostFigure, Estimate, Highlight, Interval, LegendWords,
    MeasuredPoint, ProfileCurve, ProfileFigure, Scale, Series, Threshold, Unit,
};
use foveate_law::{Assessment, Budget, Held, Table, Tokens, profile_curve};

use crate::failure::Failure;

/// Curves that are told apart by colour; tables with more sizes show this many of them.
const MOST_CURVES: usize = 12;
const STEPS: usize = 60;

/// Error against the paper's cost 2·N·T (or against x2, for other factors), a curve for each size.
pub(crate) fn law(table: &Table, of: &Assessment) -> ErrorCostFigure {
    let units = of.units;
    let flops = of.columns[0] == "params" && of.columns[1] == "visual_tokens";
    let cost = |x1: f64, x2: f64| {
        if flops { 2.0 * x1 * units.scale1 * x2 * units.scale2 } else { x2 * units.scale2 }
    };
    let [low, high] = of.ranges[1];
    let places: Vec<f64> =
        (0..=STEPS).map(|step| low * (high / low).powf(step as f64 / STEPS as f64)).collect();
    let (predict, interval) = (
        |x1: f64, x2: f64| of.fit.law.predict(x1, x2),
        |x1: f64, x2: f64| {
            let (_, bootstrap) = of.bootstrap.as_ref()?;
            let values: Vec<f64> = bootstrap.laws.iter().map(|law| law.predict(x1, x2)).collect();
            foveate_law::percentile_interval(&values, 0.95)
        },
    );
    let text_tokens = match units.tokens {
        Tokens::Total { text_tokens } => text_tokens,
        _ => 0.0,
    };
    let series: Vec<Series> = some_of(&table.levels()[0])
        .into_iter()
        .map(|x1| Series {
            label: size_name(x1 * units.scale1, flops),
            curve: places.iter().map(|&x2| (cost(x1, x2), predict(x1, x2))).collect(),
            band: places
                .iter()
                .map(|&x2| interval(x1, x2).map(|[low, high]| (cost(x1, x2), low, high)))
                .collect(),
            points: table
                .rows
                .iter()
                .filter(|row| row.x1 == x1)
                .map(|row| MeasuredPoint {
                    x: cost(row.x1, row.x2),
                    y: row.y,
                    visual_tokens: match row.x2 * units.scale2 - text_tokens {
                        // The detour over a scale or the text tokens leaves a rounding error.
                        tokens if flops => tokens.round(),
                        other => other,
                    },
                })
                .collect(),
        })
        .collect();
    let frontier =
        flops.then(|| lower_envelope(series.iter().flat_map(|series| series.curve.iter().copied())));
    let y_label = match of.columns[2].as_str() {
        "score" => "error (1 − score)",
        other => other,
    };
    let x_label = match (flops, units.tokens) {
        (true, Tokens::Visual) => "cost of an image, 2·N·V".to_owned(),
        (true, _) => "cost of a question, 2·N·(Q + V)".to_owned(),
        (false, _) => of.columns[1].clone(),
    };
    let marker = if flops { "Visual tokens V" } else { of.columns[1].as_str() };
    ErrorCostFigure {
        title: format!(
            "{}: {} law, {}",
            of.task.as_ref().unwrap_or(&of.origin),
            of.fit.law.form(),
            of.fit.law.form().formula()
        ),
        x: Axis { label: x_label, unit: if flops { Unit::Flops } else { Unit::Plain }, scale: Scale::Log },
        y: Axis { label: y_label.to_owned(), ..Axis::default() },
        series,
        frontier,
        words: LegendWords {
            series: if flops { "Model size N".into() } else { of.columns[0].clone() },
            marker: marker.into(),
            ..LegendWords::default()
        },
        ..ErrorCostFigure::default()
    }
}

/// At most [`MOST_CURVES`] of the levels, evenly spread and with both ends.
fn some_of(levels: &[f64]) -> Vec<f64> {
    if levels.len() <= MOST_CURVES {
        return levels.to_vec();
    }
    (0..MOST_CURVES).map(|place| levels[place * (levels.len() - 1) / (MOST_CURVES - 1)]).collect()
}

fn size_name(x1: f64, params: bool) -> String {
    if params { foveate_law::plan::count(x1) } else { Unit::Plain.format(x1) }
}

/// The least error at each cost.
fn lower_envelope(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = points.collect();
    points.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
    let mut least = f64::INFINITY;
    points.retain(|&(_, error)| {
        error < least && {
            least = error;
            true
        }
    });
    points
}

/// Which values of alpha fit as well.
pub(crate) fn profile(table: &Table, of: &Assessment) -> Result<ProfileFigure, Failure> {
    let profile = of.profile(Held::Alpha).ok_or_else(|| Failure::user("no profile of alpha"))?;
    let curves = profile_curve(table, of.fit.law.form(), &of.options, profile);
    let floor = of.fit.law.form().floor_name();
    let points = |curve: &[[f64; 2]]| curve.iter().map(|&[x, y]| (x, y)).collect();
    let mut drawn = vec![ProfileCurve {
        label: match curves.relaxed.is_empty() {
            true => format!("{floor} fixed"),
            false => format!("{floor} ≥ 0"),
        },
        points: points(&curves.curve),
    }];
    if !curves.relaxed.is_empty() {
        drawn.push(ProfileCurve { label: format!("{floor} of any sign"), points: points(&curves.relaxed) });
    }
    let widest = profile.widest();
    Ok(ProfileFigure {
        title: format!("{}: which α fit as well", of.task.as_ref().unwrap_or(&of.origin)),
        x: Axis { label: format!("α, the exponent of {}", of.columns[0]), ..Axis::default() },
        y: Axis { label: "objective / its least value".into(), ..Axis::default() },
        curves: drawn,
        threshold: Some(Threshold { y: profile.threshold, label: "95 % threshold".into() }),
        interval: Some(Interval {
            low: (!widest.open_below).then_some(widest.low),
            high: (!widest.open_above).then_some(widest.high),
            label: format!("fits as well, {:.3} to {:.3}", widest.low, widest.high),
        }),
        estimate: Some(Estimate { x: profile.estimate, label: format!("estimate {:.4}", profile.estimate) }),
    })
}

/// Predicted error against what a candidate spends, a curve for each language model.
pub(crate) fn candidates(
    title: &str,
    all: &[Candidate],
    frontier: &[Candidate],
    resource: Resource,
    best: Option<&Candidate>,
    budgets: &[Budget],
) -> ErrorCostFigure {
    let point = |candidate: &Candidate| (resource.needed(candidate), candidate.error);
    let mut models: Vec<(&str, f64)> = Vec::new();
    for candidate in all {
        if !models.iter().any(|(model, _)| *model == candidate.model) {
            models.push((&candidate.model, candidate.params));
        }
    }
    models.sort_by(|left, right| left.1.total_cmp(&right.1));
    let series = models
        .into_iter()
        .map(|(model, _)| {
            let mut own: Vec<&Candidate> = all.iter().filter(|candidate| candidate.model == model).collect();
            own.sort_by(|left, right| point(left).0.total_cmp(&point(right).0));
            Series {
                label: model.to_owned(),
                curve: own.iter().map(|candidate| point(candidate)).collect(),
                band: None,
                points: own
                    .iter()
                    .map(|candidate| MeasuredPoint {
                        x: point(candidate).0,
                        y: candidate.error,
                        visual_tokens: candidate.visual_tokens as f64,
                    })
                    .collect(),
            }
        })
        .collect();
    let (label, unit) = match resource {
        Resource::Seconds => ("time of a question", Unit::Seconds),
        Resource::Memory => ("memory held", Unit::Bytes),
        _ => ("cost of a question", Unit::Flops),
    };
    let limits = budgets.iter().filter_map(|budget| match (budget, resource) {
        (Budget::Flops(value), Resource::Flops)
        | (Budget::Seconds(value), Resource::Seconds)
        | (Budget::Bytes(value), Resource::Memory) => {
            Some(BudgetLine { x: *value, label: format!("budget {budget}") })
        }
        _ => None,
    });
    ErrorCostFigure {
        title: title.to_owned(),
        x: Axis { label: label.to_owned(), unit, scale: Scale::Log },
        y: Axis { label: "predicted error".to_owned(), ..Axis::default() },
        series,
        frontier: Some(frontier.iter().map(point).collect()),
        highlighted: best.map(|best| Highlight {
            x: point(best).0,
            y: best.error,
            label: format!("{}, V = {}", best.model, best.visual_tokens),
        }),
        budgets: limits.collect(),
        words: LegendWords { series: "Language model".into(), ..LegendWords::default() },
    }
}

/// What each rung of the ladder costs with the recommended language model, stage by stage.
pub(crate) fn breakdown(plan: &Plan, all: &[Candidate]) -> BreakdownFigure {
    let Some(best) = plan.ranked.first() else { return BreakdownFigure::default() };
    let seconds = best.cost.ms.is_some();
    let mut own: Vec<&Candidate> = all.iter().filter(|candidate| candidate.model == best.model).collect();
    own.sort_by_key(|candidate| candidate.visual_tokens);
    let mut stages = Vec::new();
    for stage in own.iter().flat_map(|candidate| &candidate.cost.stages) {
        if !stages.contains(&stage.stage) {
            stages.push(stage.stage);
        }
    }
    let part = |candidate: &Candidate, wanted| {
        let found = candidate.cost.stages.iter().find(|stage| stage.stage == wanted);
        found.map_or(0.0, |stage| stage.ms.map_or(stage.flops, |ms| ms / 1e3))
    };
    BreakdownFigure {
        title: format!("{} with {}, {}", plan.tower, best.model, plan.compressor),
        label: if seconds { "time of a question".into() } else { "cost of a question".into() },
        unit: if seconds { Unit::Seconds } else { Unit::Flops },
        part_names: stages.iter().map(|stage| format!("{stage:?}").to_lowercase()).collect(),
        bars: own
            .iter()
            .map(|candidate| Bar {
                label: format!("V = {}", candidate.visual_tokens),
                parts: stages.iter().map(|&stage| part(candidate, stage)).collect(),
            })
            .collect(),
        ..BreakdownFigure::default()
    }
}
