//! Says in words what the numbers mean, so that nobody has to know which of them to distrust.

use super::holdout::MOST_LEFT_OUT;
use super::{Assessment, Held, Status};
use crate::fit::Floor;
use crate::form::{Form, Law};
use crate::table::Table;
use crate::tokens::{Tokens, names_visual_tokens};
use crate::units::exact;

pub(super) fn findings(of: &Assessment, table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(freedom(of));
    said.extend(height(of, table));
    said.extend(identification(of));
    said.extend(bounds(of, table));
    said.extend(direction(of, table));
    said.extend(forms(of));
    said.extend(prediction(of));
    said.extend(resampling(of));
    said.extend(coverage(of, table));
    said.extend(match of.units.tokens {
        Tokens::Visual if !names_visual_tokens(&of.columns[1]) => None,
        Tokens::Visual => {
            Some("tokens: T = V, the visual ones alone; text tokens enter only the cost".into())
        }
        Tokens::Total { text_tokens } => {
            Some(format!("tokens: T = Q + V with Q = {text_tokens} text tokens in every row"))
        }
    });
    said.extend(table.remarks(&of.units));
    said
}

/// As many coefficients as rows pass through every one of them: the residuals are zero whatever was measured.
fn freedom(of: &Assessment) -> Option<String> {
    let coefficients = of.comparison.of(of.fit.law.form())?.parameters;
    (of.fit.n <= coefficients).then(|| {
        format!(
            "{} rows for {coefficients} coefficients: nothing is left to judge the fit by; the intervals mean nothing",
            of.fit.n
        )
    })
}

/// The largest y, where a floor that was held lies at or above it: then no power of x1 or x2 is left to fit.
fn under_floor(of: &Assessment, table: &Table) -> Option<(f64, f64)> {
    let Floor::Fixed(floor) = of.options.floor else { return None };
    let largest = table.rows.iter().map(|row| row.y).max_by(f64::total_cmp)?;
    (floor >= largest).then_some((floor, largest))
}

fn height(of: &Assessment, table: &Table) -> Option<String> {
    let (floor, largest) = under_floor(of, table)?;
    Some(format!(
        "floor {floor} lies above all rows, whose largest {} is {}: the law is the floor alone",
        of.columns[2],
        exact(largest)
    ))
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

fn bounds(of: &Assessment, table: &Table) -> Vec<String> {
    let mut said = Vec::new();
    if under_floor(of, table).is_some() {
        return said;
    }
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

/// What the ratio means for the budget.
fn direction(of: &Assessment, table: &Table) -> Option<String> {
    let law = &of.fit.law;
    if !names_visual_tokens(&of.columns[1]) || under_floor(of, table).is_some() {
        return None;
    }
    // Errors that are all the same leave exponents of rounding, or a scale of zero: what counts is what they do.
    let [least, most] = predicted_range(law, table);
    if most - least <= 1e-9 * most {
        return Some("neither factor matters: the law is the same at every size and number of tokens".into());
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
        // With T = Q + V the error at fixed N·T goes as T^(alpha - beta): there is no best V between the ends.
        Some(ratio) if ratio > 1.0 => {
            let best = match of.units.tokens {
                Tokens::Visual => "the best V is Q/(alpha/beta - 1)",
                Tokens::Total { .. } => "the fewest tokens are best",
            };
            format!(
                "alpha/beta = {ratio:.2} > 1: at fixed cost N·(Q + V) spend on the language model first; {best}{doubt}"
            )
        }
        Some(_) => match of.units.tokens {
            Tokens::Visual => format!(
                "alpha/beta = 1: at fixed cost N·(Q + V) the most visual tokens are best; without text all are as good{doubt}"
            ),
            Tokens::Total { .. } => {
                format!("alpha/beta = 1: at fixed cost N·(Q + V) every number of tokens is as good{doubt}")
            }
        },
        None => "beta is 0: at fixed cost spend on the language model".into(),
    })
}

/// The smallest and largest prediction in the rows.
fn predicted_range(law: &Law, table: &Table) -> [f64; 2] {
    table
        .rows
        .iter()
        .map(|row| law.predict(row.x1, row.x2))
        .fold([f64::INFINITY, 0.0], |[least, most], error| [error.min(least), error.max(most)])
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
        let column = &of.columns[0];
        let (first, second) = (format!("{one:.4}"), format!("{two:.4}"));
        text += &match one <= two {
            // Nobody can see a difference behind the digits that are printed.
            _ if first == second => format!(" and predicts the largest {column} as well (rmse {first} both)"),
            true => format!(" and predicts the largest {column} better (rmse {first} against {second})"),
            false => format!(" but predicts the largest {column} worse (rmse {first} against {second})"),
        };
    }
    if let (Some(one), Some(two)) = (best.leave_out_rmse, rest.leave_out_rmse) {
        let (first, second) = (format!("{one:.4}"), format!("{two:.4}"));
        text += &match one <= two {
            _ if first == second => format!("; over levels left out in turn it errs as much ({first} both)"),
            true => format!("; over levels left out in turn it errs less ({first} against {second})"),
            false => format!("; over levels left out in turn it errs more ({first} against {second})"),
        };
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
        exact(held.level * of.units.scale1),
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
        if levels.len() > MOST_LEFT_OUT {
            said.push(format!(
                "{column} has {} levels: {MOST_LEFT_OUT} of them, evenly spread, were left out in turn",
                levels.len()
            ));
        }
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

    /// A law of sizes and visual tokens on a grid, with the convention of `units` applied by the caller.
    fn images(law: &Law, sizes: &[f64], tokens: &[f64], noise: f64) -> Table {
        let mut points = Vec::new();
        for &x1 in sizes {
            for &x2 in tokens {
                points.push((x1, x2, law.predict(x1, x2) + noise * (x1 * 31.0 + x2).sin()));
            }
        }
        let columns = ["params", "visual_tokens", "error"].map(String::from);
        Table { columns, ..Table::from_points(&points) }
    }

    const SIZES: [f64; 4] = [0.5, 1.0, 4.0, 8.0];
    const TOKENS: [f64; 4] = [1.0, 4.0, 16.0, 64.0];

    #[test]
    fn the_formula_for_the_best_v_is_of_visual_tokens_only() {
        let mut table = Preset::Reasoning.table().unwrap();
        let (text, _) = said(&table, Form::Product, &FitOptions::default());
        assert!(text.contains("the best V is Q/(alpha/beta - 1)"), "{text}");
        let units = Units { tokens: Tokens::Total { text_tokens: 5.0 }, ..UNITS };
        units.tokens.apply(&mut table, 1.0);
        let form = Some(Form::Product);
        let text = assess(&table, form, &FitOptions::default(), units, None).unwrap().findings.join("\n");
        assert!(text.contains("> 1") && text.contains("the fewest tokens are best"), "{text}");
        assert!(!text.contains("the best V"), "{text}");
    }

    #[test]
    fn equal_exponents_have_no_best_v() {
        let law = Law::Product { a: 0.5, alpha: 0.25, beta: 0.25, d: 0.0 };
        let table = images(&law, &SIZES, &TOKENS, 0.0);
        let mut assessment =
            assess(&table, Some(Form::Product), &FitOptions::default(), UNITS, None).unwrap();
        // The fit comes within rounding of the law; the finding is asked about the law itself.
        assessment.fit.law = law;
        let text = super::findings(&assessment, &table).join("\n");
        assert!(text.contains("alpha/beta = 1:") && !text.contains("the best V is"), "{text}");
        assessment.units.tokens = Tokens::Total { text_tokens: 0.0 };
        let text = super::findings(&assessment, &table).join("\n");
        assert!(text.contains("every number of tokens is as good"), "{text}");
    }

    #[test]
    fn constant_errors_are_no_advice_and_a_floor_above_them_is_named() {
        let flat = Law::Product { a: 0.0, alpha: 0.0, beta: 0.0, d: 0.4 };
        let table = images(&flat, &SIZES, &TOKENS, 0.0);
        for form in [Form::Product, Form::Sum] {
            let (text, _) = said(&table, form, &FitOptions::default());
            assert!(text.contains("neither factor matters"), "{form}: {text}");
            assert!(!text.contains("spend on"), "{form}: {text}");
        }
        let falling = images(&Law::Product { a: 0.3, alpha: 0.3, beta: 0.2, d: 0.1 }, &SIZES, &TOKENS, 0.0);
        let above = FitOptions { floor: Floor::Fixed(0.9), ..Default::default() };
        let (text, _) = said(&falling, Form::Product, &above);
        assert!(text.contains("floor 0.9 lies above all rows, whose largest error is 0.46"), "{text}");
        assert!(!text.contains("does not fall") && !text.contains("spend on"), "{text}");
        let (text, _) = said(&falling, Form::Product, &FitOptions::default());
        assert!(!text.contains("lies above"), "{text}");
    }

    #[test]
    fn as_many_coefficients_as_rows_are_no_fit() {
        let law = Law::Product { a: 0.5, alpha: 0.5, beta: 0.3, d: 0.1 };
        let four = images(&law, &[1.0, 4.0], &[1.0, 16.0], 0.02);
        let (text, _) = said(&four, Form::Product, &FitOptions::default());
        assert!(text.starts_with("4 rows for 4 coefficients: nothing is left to judge the fit by"), "{text}");
        // A held floor is no coefficient of the fit.
        let held = FitOptions { floor: Floor::Fixed(0.1), ..Default::default() };
        let (text, _) = said(&four, Form::Product, &held);
        assert!(!text.contains("nothing is left"), "{text}");
    }

    #[test]
    fn equal_digits_are_not_better() {
        let law = Law::Product { a: 0.5, alpha: 0.5, beta: 0.3, d: 0.1 };
        let table = images(&law, &[0.5, 1.0, 2.0, 4.0, 8.0], &TOKENS, 1e-7);
        let (_, mut assessment) = said(&table, Form::Product, &FitOptions::default());
        let comparison = &mut assessment.comparison;
        comparison.product.holdout_rmse = Some(0.00123);
        comparison.product.leave_out_rmse = Some(0.00121);
        let sum = comparison.sum.as_mut().unwrap();
        (sum.holdout_rmse, sum.leave_out_rmse) = (Some(0.00124), Some(0.00124));
        let text = super::forms(&assessment).unwrap();
        assert!(text.contains("predicts the largest params as well (rmse 0.0012 both)"), "{text}");
        assert!(text.contains("it errs as much (0.0012 both)"), "{text}");
    }
}
