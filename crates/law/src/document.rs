//! The fit as a JSON document: what `foveate fit --json` prints and, with the bootstrap's laws, what `--out` writes and
//! a plan reads back. The fields are documented in `docs/json.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fit::{FitOptions, Floor, Objective};
use crate::form::{Form, Law};
use crate::judge::{Assessment, Comparison, Held, LeftOut, ProfileInterval, Status};
use crate::tokens::Units;

/// Everything a fit says. Values that are infinite or undefined are `null` in JSON.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FitDocument {
    /// Task, where the table has several.
    pub task: Option<String>,
    /// File or preset.
    pub source: String,
    /// Column names of x1, x2 and y.
    pub columns: Columns,
    /// `product` or `sum`.
    pub law: Form,
    /// The form in the field's notation.
    pub formula: &'static str,
    /// {A, alpha, beta, D} or {A, alpha, B, beta, E}; alpha belongs to x1, beta to x2.
    pub coefficients: Law,
    /// Status by coefficient: `interior`, `at lower bound 0`, `at upper bound 4`, `on a ridge`, `fixed`.
    pub status: BTreeMap<&'static str, Status>,
    /// What was minimised.
    pub objective: ObjectiveDocument,
    /// `free`, or the value the floor was held at.
    pub floor: Option<f64>,
    /// α/β.
    pub ratio: Ratio,
    /// 95 % percentile intervals by coefficient; `null` without a bootstrap.
    pub ci95: Option<BTreeMap<&'static str, [f64; 2]>>,
    /// How the intervals were made.
    pub bootstrap: Option<BootstrapDocument>,
    /// What fits as well, by `alpha`, `beta` and `ratio`.
    pub profile: BTreeMap<&'static str, ProfileDocument>,
    /// The largest x1 held out; `null` with fewer than three levels of x1.
    pub holdout: Option<LeftOut>,
    /// Each level of x1 and of x2 left out once.
    pub leave_out: Vec<LeftOut>,
    /// Product against sum.
    pub comparison: Comparison,
    /// Units of x1 and x2 and what counts as tokens.
    pub units: Units,
    /// Smallest and largest x1 and x2 measured, before scaling.
    pub measured: Measured,
    /// What the numbers mean, in words.
    pub findings: Vec<String>,
    /// The bootstrap's laws, in files only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Law>,
}

/// Column names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// First factor.
    pub x1: String,
    /// Second factor.
    pub x2: String,
    /// Score, error or loss.
    pub y: String,
}

/// The objective and its least value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObjectiveDocument {
    /// `squared` or `huber-log`.
    pub kind: &'static str,
    /// Huber's δ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// The plain weighted sum, no half, no mean.
    pub value: f64,
    /// Rows.
    pub n: usize,
}

/// α/β.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// At the fit; `null` when β is zero.
    pub value: Option<f64>,
    /// 95 % percentile interval over the bootstrap.
    pub ci95: Option<[f64; 2]>,
}

/// How the bootstrap was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BootstrapDocument {
    /// `cases`, `clusters` or `residuals`.
    pub resample: &'static str,
    /// Number of refits.
    pub draws: usize,
    /// Seed.
    pub seed: u64,
    /// Resamples that could not carry the law and were drawn again.
    pub redrawn: usize,
}

/// What fits as well.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProfileDocument {
    /// Whether the data, and not a bound, hold the quantity.
    pub identified: bool,
    /// 95 % profile interval with the floor as fitted.
    pub interval: ProfileInterval,
    /// What fits as well when the floor may have any sign.
    pub any_floor: Option<ProfileInterval>,
}

/// Where measurements lie, in the units of the source.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Smallest and largest x1.
    pub x1: [f64; 2],
    /// Smallest and largest x2: of all tokens, T = Q + V, where the law counts these.
    pub x2: [f64; 2],
}

impl FitDocument {
    /// The document of an assessment, without the bootstrap's laws.
    pub fn new(of: &Assessment) -> FitDocument {
        let [x1, x2, y] = of.columns.clone();
        let FitOptions { objective, floor, .. } = of.options;
        let profiles = [("alpha", Held::Alpha), ("beta", Held::Beta), ("ratio", Held::Ratio)];
        let profile = |held| {
            let found = of.profile(held)?;
            let (identified, interval, any_floor) = (found.identified(), found.interval, found.relaxed);
            Some(ProfileDocument { identified, interval, any_floor })
        };
        let unscale = |[low, high]: [f64; 2], scale: f64| [low * scale, high * scale];
        FitDocument {
            task: of.task.clone(),
            source: of.origin.clone(),
            columns: Columns { x1, x2, y },
            law: of.fit.law.form(),
            formula: of.fit.law.form().formula(),
            coefficients: of.fit.law,
            status: of.status.clone(),
            objective: ObjectiveDocument {
                kind: objective.name(),
                delta: match objective {
                    Objective::HuberLog { delta } => Some(delta),
                    Objective::Squared => None,
                },
                value: of.fit.value,
                n: of.fit.n,
            },
            floor: match floor {
                Floor::Fixed(value) => Some(value),
                _ => None,
            },
            ratio: Ratio { value: of.fit.law.ratio(), ci95: of.ratio_ci95() },
            ci95: of.ci95(),
            bootstrap: of.bootstrap.as_ref().map(|(options, found)| BootstrapDocument {
                resample: options.resample.name(),
                draws: options.draws,
                seed: options.seed,
                redrawn: found.redrawn,
            }),
            profile: profiles.into_iter().filter_map(|(name, held)| Some((name, profile(held)?))).collect(),
            holdout: of.holdout.clone(),
            leave_out: of.leave_out.clone(),
            comparison: of.comparison.clone(),
            units: of.units,
            measured: Measured {
                x1: unscale(of.ranges[0], of.units.scale1),
                x2: unscale(of.ranges[1], of.units.scale2),
            },
            findings: of.findings.clone(),
            draws: Vec::new(),
        }
    }

    /// The same with the bootstrap's laws, for a file that a plan reads.
    pub fn with_draws(of: &Assessment) -> FitDocument {
        let draws = of.bootstrap.as_ref().map(|(_, found)| found.laws.clone()).unwrap_or_default();
        FitDocument { draws, ..FitDocument::new(of) }
    }
}

/// A law as a plan needs it: read back from a document, or taken from an assessment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedLaw {
    /// Task, where the document holds several.
    pub task: Option<String>,
    /// Where the measurements came from.
    pub source: String,
    /// What was fitted, where the document says so.
    #[serde(default)]
    pub columns: Option<Columns>,
    /// The law.
    pub coefficients: Law,
    /// Its units.
    pub units: Units,
    /// Where it was measured.
    pub measured: Measured,
    /// Refitted laws, for intervals; may be empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draws: Vec<Law>,
}

impl PlannedLaw {
    /// The law of an assessment, with its bootstrap.
    pub fn new(of: &Assessment) -> PlannedLaw {
        let document = FitDocument::with_draws(of);
        PlannedLaw {
            task: document.task,
            source: document.source,
            columns: Some(document.columns),
            coefficients: document.coefficients,
            units: document.units,
            measured: document.measured,
            draws: document.draws,
        }
    }

    /// Whether every number is one that a fit can have written.
    pub fn is_sound(&self) -> bool {
        let sound = |law: &Law| law.named().iter().all(|(_, value)| value.is_finite() && *value >= 0.0);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let form = self.coefficients.form();
        sound(&self.coefficients)
            && self.draws.iter().all(|law| sound(law) && law.form() == form)
            && [self.units.scale1, self.units.scale2].into_iter().all(positive)
            && self.measured.x1.into_iter().chain(self.measured.x2).all(positive)
    }

    /// The predicted error.
    pub fn predict(&self, params: f64, visual_tokens: f64, text_tokens: f64) -> f64 {
        self.units.predict(&self.coefficients, params, visual_tokens, text_tokens)
    }
}
