//! Says in words what the numbers mean, so that nobody has to know which of them to distrust.

use super::{Assessment, Held, Status};
use crate::fit::Floor;
use crate::form::Form;
use crate::table::Table;
use crate::tokens::Tokens;

pub(super) fn findings(of: &Assessment, table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(identification(of));
    said.extend(bounds(of));
    said.extend(direction(of));
    said.extend(forms(of));
    said.extend(prediction(of));
    said.extend(resampling(of));
    said.extend(coverage(of, table));
    said.extend(match of.units.tokens {
        Tokens::Visual if !reads_images(of) => None,
        Tokens::Visual => {
            Some("tokens: T = V, the visual ones alone; text tokens enter only the cost".into())
        }
        Tokens::Total { text_tokens } => {
            Some(format!("tokens: T = Q + V with Q = {text_tokens} text tokens in every row"))
        }
    });
    said.extend(table.remarks());
    said
}

fn identification(of: &Assessment) -> Vec<String> {
    let floor = of.fit.law.form().floor_name();
    let mut said = Vec::new();
    let mut ridge = false;
    for (name, held) in [("alpha", Held::Alpha), ("beta", Held::Beta)] {
        let Some(profile) = of.profile(held).filter(|_| of.status.get(name) == Some(&Status::Ridge)) else {
            continue;
        };
        ridge = true;
        let widest = profile.widest();
        let (low, high) = (figure(widest.low), figure(widest.high));
        let because = match &profile.relaxed {
            Some(relaxed) if profile.interval.is_closed() && !relaxed.is_closed() => {
                format!("; only the bound {floor} >= 0 holds it at {}", figure(profile.estimate))
            }
            _ => String::new(),
        };
        let end = if widest.open_above { " or more" } else { "" };
        said.push(format!(
            "{name} is not identified: any value from {low} to {high}{end} fits as well{because}"
        ));
    }
    if let Some(ratio) = of.profile(Held::Ratio).filter(|_| ridge) {
        let widest = ratio.widest();
        let text = if widest.is_closed() {
            format!(
                "the ratio alpha/beta is identified: {:.2}, and {:.2} to {:.2} fits as well",
                ratio.estimate, widest.low, widest.high
            )
        } else {
            "nor is the ratio alpha/beta identified: the table has too few or too noisy levels".into()
        };
        said.push(text);
    }
    said
}

fn bounds(of: &Assessment) -> Vec<String> {
    let mut said = Vec::new();
    for (name, status) in &of.status {
        match (*name, status) {
            ("D" | "E", Status::AtLower(_)) => said.push(format!(
                "{name} is at its bound 0: the data show no floor; a negative one would fit at least as well but \
                 has no meaning"
            )),
            ("alpha" | "beta", Status::AtLower(bound)) => {
                let column = &of.columns[usize::from(*name == "beta")];
                said.push(format!("{name} is at its lower bound {bound}: the error does not fall with {column}"));
            }
            ("alpha" | "beta", Status::AtUpper(bound)) => said.push(format!(
                "{name} is at the upper end {bound} of the search: the range is too narrow, or one level stands apart"
            )),
            (_, Status::AtLower(_)) => said.push(format!("{name} is at its bound 0: its term does not contribute")),
            _ => {}
        }
    }
    said
}

/// Whether the table is one of visual tokens: other two-factor tables have other costs.
fn reads_images(of: &Assessment) -> bool {
    ["visual_tokens", "v"].contains(&of.columns[1].to_ascii_lowercase().as_str())
}

/// What the ratio means for the budget.
fn direction(of: &Assessment) -> Option<String> {
    let law = &of.fit.law;
    if !reads_images(of) {
        return None;
    }
    if law.form() == Form::Sum {
        return Some("sum law: what to spend on depends on the budget; see `foveate plan`".into());
    }
    let interval = of.ratio_ci95();
    let sure = interval.is_some_and(|[low, high]| low > 1.0 || high < 1.0);
    let doubt = match interval {
        Some([low, high]) if !sure => format!(" (but the interval {low:.2} to {high:.2} holds 1)"),
        _ => String::new(),
    };
    Some(match law.ratio() {
        Some(ratio) if ratio < 1.0 => {
            format!("alpha/beta = {ratio:.2} < 1: at fixed cost N·(Q + V) spend on tokens first{doubt}")
        }
        Some(ratio) => format!(
            "alpha/beta = {ratio:.2} > 1: at fixed cost N·(Q + V) spend on the language model first; \
             the best V is Q/(alpha/beta - 1){doubt}"
        ),
        None => "beta is 0: at fixed cost spend on the language model".into(),
    })
}

fn forms(of: &Assessment) -> Option<String> {
    let comparison = &of.comparison;
    let delta = comparison.delta_aicc?;
    let preferred = comparison.preferred;
    let other = if preferred == Form::Product { Form::Sum } else { Form::Product };
    let (best, rest) = (comparison.of(preferred)?, comparison.of(other)?);
    let strength = match delta {
        delta if delta < 2.0 => "slightly better",
        delta if delta < 10.0 => "better",
        _ => "far better",
    };
    let mut text =
        format!("the {preferred} form fits {strength} than the {other} form (AICc lower by {delta:.1}");
    text += if delta < 2.0 { ", less than 2: no evidence)" } else { ")" };
    if let (Some(one), Some(two)) = (best.holdout_rmse, rest.holdout_rmse) {
        let agrees = if one <= two { "and predicts" } else { "but predicts" };
        let how = if one <= two { "better" } else { "worse" };
        text += &format!(" {agrees} the largest {} {how} (rmse {one:.4} against {two:.4})", of.columns[0]);
    }
    if let (Some(one), Some(two)) = (best.leave_out_rmse, rest.leave_out_rmse) {
        let how = if one <= two { "less" } else { "more" };
        text += &format!("; over all levels left out in turn it errs {how} ({one:.4} against {two:.4})");
    }
    Some(text)
}

fn prediction(of: &Assessment) -> Vec<String> {
    let Some(held) = &of.holdout else {
        return vec![format!("too few levels of {} to hold the largest out", of.columns[0])];
    };
    let inside = (of.fit.value / of.fit.n as f64).sqrt();
    let mut said = vec![format!(
        "held out {} = {}: predicted with rmse {:.4}, bias {:+.4}",
        held.column,
        held.level * of.units.scale1,
        held.rmse,
        held.bias
    )];
    let squared = matches!(of.options.objective, crate::fit::Objective::Squared);
    if squared && held.rmse > 3.0 * inside {
        said.push(format!(
            "that is {:.1} times the residual within the table: trust extrapolation to larger models accordingly",
            held.rmse / inside
        ));
    }
    said
}

fn resampling(of: &Assessment) -> Vec<String> {
    let Some((options, bootstrap)) = &of.bootstrap else { return Vec::new() };
    let mut said = Vec::new();
    if bootstrap.redrawn > 0 {
        said.push(format!(
            "{} of {} resamples held too few rows or one level of a factor and were drawn again",
            bootstrap.redrawn,
            bootstrap.redrawn + options.draws
        ));
    }
    if options.draws < 200 {
        said.push(format!("{} bootstrap draws are few for a 95 % interval; 1000 are usual", options.draws));
    }
    said
}

fn coverage(of: &Assessment, table: &Table) -> Vec<String> {
    let levels = table.levels();
    let mut said = Vec::new();
    for (levels, column) in levels.iter().zip(&of.columns) {
        if levels.len() < 3 && of.options.floor == Floor::Free {
            said.push(format!(
                "{} levels of {column} cannot tell an exponent from a floor; measure three or more",
                levels.len()
            ));
        }
    }
    said
}

/// Three significant digits, no exponent for usual sizes.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-4..1e5).contains(&size) => {
            let digits = (2 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::fit::{FitOptions, Floor, SearchRange};
    use crate::judge::{Status, assess};
    use crate::preset::Preset;
    use crate::tokens::{Tokens, Units};
    use crate::{Form, Law, Table};

    const UNITS: Units = Units { scale1: 1.0, scale2: 1.0, tokens: Tokens::Visual };

    fn said(table: &Table, form: Form, options: &FitOptions) -> (String, crate::Assessment) {
        let assessment = assess(table, Some(form), options, UNITS, None).unwrap();
        (assessment.findings.join("\n"), assessment)
    }

    #[test]
    fn published_table_has_a_ridge_a_bound_and_a_ratio() {
        let table = Preset::Reasoning.table().unwrap();
        let (text, assessment) = said(&table, Form::Product, &FitOptions::default());
        assert!(text.contains("alpha is not identified: any value from 0 to 0.0"), "{text}");
        assert!(text.contains("the ratio alpha/beta is identified: 4.70"), "{text}");
        assert!(text.contains("D is at its bound 0"), "{text}");
        assert!(
            text.contains("the sum form fits slightly better than the product form (AICc lower by 1.8"),
            "{text}"
        );
        assert_eq!(assessment.status["D"], Status::AtLower(0.0));
        assert_eq!(assessment.status["alpha"], Status::Ridge);
        let fixed = FitOptions { floor: Floor::Fixed(0.1), ..Default::default() };
        let (text, assessment) = said(&table, Form::Product, &fixed);
        assert!(!text.contains("not identified"), "{text}");
        assert_eq!(assessment.status["D"], Status::Fixed);
        assert_eq!(assessment.status["alpha"], Status::Interior);
    }

    #[test]
    fn narrow_range_and_flat_factor_are_said() {
        let table = Preset::Reasoning.table().unwrap();
        let narrow = FitOptions { range: SearchRange { low: 0.0, high: 0.05 }, ..Default::default() };
        let (text, _) = said(&table, Form::Product, &narrow);
        assert!(text.contains("alpha is at the upper end 0.05 of the search"), "{text}");
        let mut rising = Vec::new();
        for x1 in [1.0, 2.0, 4.0] {
            for x2 in [1.0, 2.0, 4.0] {
                rising.push((x1, x2, 0.4 / x1 + 0.01 * x2));
            }
        }
        let (text, _) = said(&Table::from_points(&rising), Form::Product, &FitOptions::default());
        assert!(text.contains("beta is at its lower bound 0: the error does not fall with x2"), "{text}");
    }

    #[test]
    fn a_clear_law_is_interior() {
        let law = Law::Product { a: 0.5, alpha: 0.5, beta: 0.3, d: 0.1 };
        let mut points = Vec::new();
        for x1 in [0.5, 1.0, 2.0, 4.0, 8.0] {
            for x2 in [1.0, 4.0, 16.0, 64.0] {
                points.push((x1, x2, law.predict(x1, x2) + 1e-4 * (x1 * 31.0 + x2).sin()));
            }
        }
        let (text, assessment) = said(&Table::from_points(&points), Form::Product, &FitOptions::default());
        assert!(assessment.status.values().all(|status| *status == Status::Interior), "{text}");
    }
}
