//! Fits a law and judges it: what the data identify, what they leave open, and how far to trust a prediction.

mod bootstrap;
mod compare;
mod findings;
mod holdout;
mod profile;

pub use bootstrap::{
    Bootstrap, BootstrapOptions, MAX_DRAWS, Replicate, Resample, bootstrap, percentile_interval, refits,
};
pub use compare::{Comparison, FormScore};
pub use holdout::LeftOut;
pub use profile::{Held, Profile, ProfileCurve, ProfileInterval, profile_curve};

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::LawError;
use crate::fit::{Fit, FitOptions, Floor, check};
use crate::form::{Form, Law};
use crate::table::Table;
use crate::tokens::Units;

/// Where a fitted coefficient stands.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Status {
    /// Inside its range and bounded by the data.
    Interior,
    /// At its lower bound, this value.
    AtLower(f64),
    /// At its upper bound, this value.
    AtUpper(f64),
    /// Other values, with the other coefficients moved along, fit as well.
    Ridge,
    /// Not fitted.
    Fixed,
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Status::Interior => out.pad("interior"),
            Status::AtLower(bound) => out.pad(&format!("at lower bound {bound}")),
            Status::AtUpper(bound) => out.pad(&format!("at upper bound {bound}")),
            Status::Ridge => out.pad("on a ridge"),
            Status::Fixed => out.pad("fixed"),
        }
    }
}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A law with everything that says how far to trust it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Assessment {
    /// The task of the table, if it has several.
    pub task: Option<String>,
    /// File or preset.
    pub origin: String,
    /// Column names of x1, x2 and y.
    pub columns: [String; 3],
    /// The fit.
    pub fit: Fit,
    /// How it was made.
    pub options: FitOptions,
    /// The law's units.
    pub units: Units,
    /// Smallest and largest x1 and x2 measured, in the table's units.
    pub ranges: [[f64; 2]; 2],
    /// Status by coefficient name.
    pub status: BTreeMap<&'static str, Status>,
    /// Refitted laws, if a bootstrap was asked for.
    pub bootstrap: Option<(BootstrapOptions, Bootstrap)>,
    /// Profiles of α, β and α/β.
    pub profiles: Vec<Profile>,
    /// The largest x1 held out.
    pub holdout: Option<LeftOut>,
    /// Every level of both factors left out once.
    pub leave_out: Vec<LeftOut>,
    /// Product against sum.
    pub comparison: Comparison,
    /// Plain-language findings.
    pub findings: Vec<String>,
}

/// Fits and judges. `form` is `None` for the form that AICc prefers.
///
/// # Errors
/// As [`crate::fit()`] and [`bootstrap()`].
pub fn assess(
    table: &Table,
    form: Option<Form>,
    options: &FitOptions,
    units: Units,
    resampling: Option<BootstrapOptions>,
) -> Result<Assessment, LawError> {
    judged(table, form, options, units, |form| match resampling {
        Some(resampling) => Ok(Some((resampling, bootstrap(table, form, options, &resampling)?))),
        None => Ok(None),
    })
}

/// The same with intervals over tables that the caller drew.
///
/// # Errors
/// As [`crate::fit()`] and [`refits()`].
pub fn assess_replicates(
    table: &Table,
    form: Option<Form>,
    options: &FitOptions,
    units: Units,
    replicates: &[Replicate],
) -> Result<Assessment, LawError> {
    let about = BootstrapOptions { resample: Resample::Replicates, draws: replicates.len(), seed: 0 };
    judged(table, form, options, units, |form| Ok(Some((about, refits(table, form, options, replicates)?))))
}

fn judged(
    table: &Table,
    form: Option<Form>,
    options: &FitOptions,
    units: Units,
    resampled: impl FnOnce(Form) -> Result<Option<(BootstrapOptions, Bootstrap)>, LawError>,
) -> Result<Assessment, LawError> {
    // Says what is wrong with the form that was asked for, before the comparison needs only the product.
    check(table, form.unwrap_or(Form::Product), options)?;
    let comparison = compare::compare(table, options)?;
    let form = form.unwrap_or(comparison.preferred);
    let Some(score) = comparison.of(form) else {
        return Err(LawError::TooLittle {
            origin: table.place(),
            message: format!("too few rows for the {form} law"),
        });
    };
    let fitted = Fit { law: score.coefficients, value: score.objective, n: table.rows.len() };
    let bootstrap = resampled(form)?;
    let profiles = [Held::Alpha, Held::Beta, Held::Ratio]
        .map(|held| profile::profile(table, form, options, held))
        .into();
    let mut assessment = Assessment {
        task: table.task.clone(),
        origin: table.origin.clone(),
        columns: table.columns.clone(),
        holdout: score.holdout.clone(),
        leave_out: score.leave_out.clone(),
        fit: fitted,
        options: *options,
        units,
        ranges: table.ranges(),
        status: BTreeMap::new(),
        bootstrap,
        profiles,
        comparison,
        findings: Vec::new(),
    };
    assessment.status = assessment.statuses();
    assessment.findings = findings::findings(&assessment, table);
    Ok(assessment)
}

impl Assessment {
    /// The profile of a quantity.
    pub fn profile(&self, held: Held) -> Option<&Profile> {
        self.profiles.iter().find(|profile| profile.held == held)
    }

    /// 95 % percentile intervals of the coefficients over the bootstrap.
    pub fn ci95(&self) -> Option<BTreeMap<&'static str, [f64; 2]>> {
        let (_, bootstrap) = self.bootstrap.as_ref()?;
        let mut values: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for (name, value) in bootstrap.laws.iter().flat_map(Law::named) {
            values.entry(name).or_default().push(value);
        }
        values.into_iter().map(|(name, values)| Some((name, percentile_interval(&values, 0.95)?))).collect()
    }

    /// 95 % percentile interval of α/β over the bootstrap; an infinite end where β reached zero.
    pub fn ratio_ci95(&self) -> Option<[f64; 2]> {
        let (_, bootstrap) = self.bootstrap.as_ref()?;
        let ratios: Vec<f64> =
            bootstrap.laws.iter().map(|law| law.ratio().unwrap_or(f64::INFINITY)).collect();
        percentile_interval(&ratios, 0.95)
    }

    /// 95 % percentile interval of the prediction at (params, visual tokens, text tokens).
    pub fn predict_ci95(&self, params: f64, visual_tokens: f64, text_tokens: f64) -> Option<[f64; 2]> {
        let (_, bootstrap) = self.bootstrap.as_ref()?;
        let predict = |law| self.units.predict(law, params, visual_tokens, text_tokens);
        percentile_interval(&bootstrap.laws.iter().map(predict).collect::<Vec<_>>(), 0.95)
    }

    fn statuses(&self) -> BTreeMap<&'static str, Status> {
        let range = self.options.range;
        let exponent = |held: Held, value: f64| {
            if value <= range.low {
                Status::AtLower(range.low)
            } else if value >= range.high {
                Status::AtUpper(range.high)
            } else if self.profile(held).is_some_and(|profile| !profile.identified()) {
                Status::Ridge
            } else {
                Status::Interior
            }
        };
        let alpha = exponent(Held::Alpha, self.fit.law.alpha());
        let beta = exponent(Held::Beta, self.fit.law.beta());
        let ridge = alpha == Status::Ridge || beta == Status::Ridge;
        let scale = |value: f64| match value {
            0.0 => Status::AtLower(0.0),
            _ if ridge => Status::Ridge,
            _ => Status::Interior,
        };
        let named = self.fit.law.named().into_iter();
        named
            .map(|(name, value)| {
                let status = match name {
                    "alpha" => alpha,
                    "beta" => beta,
                    "D" | "E" if matches!(self.options.floor, Floor::Fixed(_)) => Status::Fixed,
                    _ => scale(value),
                };
                (name, status)
            })
            .collect()
    }
}
