//! `--visual-tokens auto`: for each question the number of visual tokens that its kind and the budget call for.
//!
//! The vector that QueCC makes of the question says how likely it is of each family, `laws.json` what error each number of tokens
//! has there; what each costs is counted, or predicted from what this machine takes for a grey picture.

mod cost;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use foveate_compress::Budget;
use foveate_data::image::Image;
use foveate_data::prompt::Message;
use foveate_law::auto::{ErrorTable, Limits, Rung, choose};
use foveate_law::{Budget as Cost, Unit};
use foveate_serve::{AutoOptions, Meter};
use serde::Serialize;

use crate::answer::Looked;
use crate::failure::Failure;
use crate::looking::{Compression, VisualTokens};
use crate::model::{Model, Prepared};

/// How far the predicted error may lie above the least one, where nothing else is said.
pub(crate) const TOLERANCE: f64 = 0.02;

/// What `auto` chooses by.
#[derive(Args, Clone, Default)]
pub(crate) struct AutoFlags {
    /// For `--visual-tokens auto`: the errors by kind of question, as `foveate calibrate` or `foveate fit --task family --out`
    /// writes them [default: laws.json in MODEL].
    #[arg(long, value_name = "FILE")]
    laws: Option<PathBuf>,
    /// For auto: the longest that an answer of --max-new-tokens may take, in milliseconds, as this machine is measured at the
    /// start.
    #[arg(long, value_name = "MS", value_parser = milliseconds, conflicts_with = "budget")]
    max_latency: Option<f64>,
    /// For auto: the most that an answer of --max-new-tokens may cost, such as 2GFLOP.
    #[arg(long, value_name = "FLOPS", value_parser = flops)]
    budget: Option<f64>,
    /// For auto: how far the predicted error may lie above the least one, where that is cheaper [default: 0.02, or 0 with
    /// --max-latency or --budget].
    #[arg(long, value_name = "ERROR", value_parser = tolerance)]
    tolerance: Option<f64>,
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|ms: &f64| ms.is_finite() && *ms > 0.0);
    number.ok_or_else(|| "milliseconds are needed, a number above 0".to_owned())
}

fn flops(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(Cost::Flops(flops)) => Ok(flops),
        _ => Err("FLOPs are needed, for example 2GFLOP".to_owned()),
    }
}

/// Reads a difference of errors.
pub(crate) fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    number.ok_or_else(|| "a difference of errors from 0 to 1".to_owned())
}

impl AutoFlags {
    /// Gives the model its compressor; a budget, or what chooses one for each question.
    pub(crate) fn resolve(
        &self,
        compression: Compression,
        model: &mut Model,
    ) -> Result<(Option<Budget>, Option<Auto>), Failure> {
        if compression.visual_tokens != Some(VisualTokens::Auto) {
            self.refuse()?;
            return Ok((compression.apply(model)?, None));
        }
        Compression { visual_tokens: None, ..compression }.apply(model)?;
        Ok((None, Some(self.open(model)?)))
    }

    /// Refuses flags that only `auto` reads.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("--laws", self.laws.is_some()),
            ("--max-latency", self.max_latency.is_some()),
            ("--budget", self.budget.is_some()),
            ("--tolerance", self.tolerance.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Failure::user(format!("{flag} goes with --visual-tokens auto"))),
            None => Ok(()),
        }
    }

    /// What chooses for this model.
    pub(crate) fn open(&self, model: &Model) -> Result<Auto, Failure> {
        let (origin, text) = source(model, self.laws.as_deref())?;
        let table = table(model, &origin, text.as_deref())?;
        let (limit, default) = match (self.max_latency, self.budget) {
            (Some(ms), _) => (Limit::Time(ms, Box::new(cost::measured(model)?)), 0.0),
            (None, Some(flops)) => (Limit::Flops(Some(flops)), 0.0),
            (None, None) => (Limit::Flops(None), TOLERANCE),
        };
        Ok(Auto { table, origin, limit, tolerance: self.tolerance.unwrap_or(default) })
    }
}

/// The errors by family in a model's folder.
pub(crate) const LAWS_FILE: &str = "laws.json";

/// Reads errors by family for a model that can use them; says what is missing of one that cannot.
pub(crate) fn table(model: &Model, origin: &str, text: Option<&str>) -> Result<ErrorTable, Failure> {
    let refuse = |told: String| Err(Failure::user(format!("--visual-tokens auto: {told}")));
    let (name, vlm) = (&model.name, model.seeing()?.vlm());
    let method = vlm.compressor().method();
    if !vlm.compressor().reads_question() {
        return refuse(format!(
            "{method} of {name} does not read the question, from which a number is chosen (quecc does); give a number, it \
             offers {}",
            vlm.ladder()
        ));
    }
    let Some(head) = vlm.families() else {
        let file = foveate_model::vlm::FAMILIES_FILE;
        return refuse(format!(
            "{name} has no {file}, which guesses what a question is about; `foveate calibrate FOLDER` fits one to a model's folder"
        ));
    };
    let Some(text) = text else {
        return refuse(format!(
            "{name} has no {LAWS_FILE} with its error at each number; `foveate calibrate FOLDER --results RESULTS` makes one of \
             what `foveate eval --samples RESULTS` measured, or --laws FILE says where one is"
        ));
    };
    let table = ErrorTable::from_json(origin, text)?;
    if let Some(other) = table.compressor.as_ref().filter(|other| **other != method.to_string()) {
        return refuse(format!("{origin} has the errors of {other}, and {name} uses {method}"));
    }
    let all: Vec<(String, f64)> = head.families.iter().map(|family| (family.clone(), 1.0)).collect();
    let ladder = vlm.ladder().values();
    let known = table.expected(&all, cost::params(model), 1.0, &ladder);
    let known = known.map_err(|error| Failure::user(format!("{origin}: {error}")))?;
    if known.is_empty() {
        return refuse(format!("{origin} has errors of none of the numbers on offer, {}", vlm.ladder()));
    }
    Ok(table)
}

/// What a server chooses by; `None` for a model that cannot tell questions apart, unless it was asked to with `--laws`.
pub(crate) fn served(
    model: &Model,
    laws: Option<&Path>,
    tolerance: f64,
) -> Result<Option<AutoOptions>, Failure> {
    let able = model.viewer().is_some_and(|viewer| viewer.vlm().families().is_some()) && model.laws.is_some();
    if laws.is_none() && !able {
        return Ok(None);
    }
    let (origin, text) = source(model, laws)?;
    Ok(Some(AutoOptions { errors: table(model, &origin, text.as_deref())?, tolerance }))
}

/// The text of errors by family and what errors call it: of this file, else of the model's own.
fn source(model: &Model, laws: Option<&Path>) -> Result<(String, Option<Arc<str>>), Failure> {
    let Some(path) = laws else { return Ok((format!("{}/{LAWS_FILE}", model.name), model.laws.clone())) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Failure::user(format!("{}: {error}", path.display())))?;
    Ok((path.display().to_string(), Some(text.into())))
}

/// Chooses a number of visual tokens for each question.
pub(crate) struct Auto {
    table: ErrorTable,
    origin: String,
    limit: Limit,
    tolerance: f64,
}

enum Limit {
    /// At most so many FLOPs.
    Flops(Option<f64>),
    /// At most so many milliseconds, at this pace.
    Time(f64, Box<Meter>),
}

/// What was chosen for a question, and why: the field `auto` of an answer.
#[derive(Clone, Serialize)]
pub(crate) struct Chosen {
    /// How likely the question is of each family.
    families: BTreeMap<String, f64>,
    /// Tokens that the language model reads for each image.
    pub(crate) visual_tokens: usize,
    /// The error to expect, from 0 to 1.
    error: f64,
    why: String,
    /// Of the costs of `rungs`: `flops` or `ms`.
    cost: &'static str,
    /// What there was to choose from, as the ladder has it.
    rungs: Vec<Rung>,
    /// Time and FLOPs of the pass over the question.
    #[serde(skip)]
    pub(crate) query: (Duration, f64),
}

/// A question and how it is to be answered.
pub(crate) struct Ask<'a> {
    pub(crate) images: &'a [Image],
    /// What a compressor reads.
    pub(crate) question: &'a str,
    /// What the language model reads.
    pub(crate) messages: &'a [Message],
    /// The longest answer.
    pub(crate) new_tokens: usize,
    /// What decoding the images took.
    pub(crate) decode: Duration,
}

impl Auto {
    /// All that a choice depends on besides the model and the question.
    pub(crate) fn settings(&self) -> String {
        let limit = match &self.limit {
            Limit::Flops(flops) => format!("{flops:?} flops"),
            Limit::Time(ms, _) => format!("{ms} ms"),
        };
        format!("{:?} {limit} {}", self.table, self.tolerance)
    }

    fn choose(
        &self,
        model: &Model,
        prepared: &Prepared,
        ask: &Ask<'_>,
        started: Instant,
    ) -> Result<Chosen, Failure> {
        let viewer = model.seeing()?;
        let vlm = viewer.vlm();
        // Both are there, or this would not be.
        let (Some(head), Some(question)) = (vlm.families(), &prepared.question) else {
            return Err(Failure::Other(anyhow::anyhow!("no family is guessed")));
        };
        let asked = viewer.question(question)?;
        let families = head.guess(&asked.vector)?;
        let text_tokens = model.text_tokens(ask.messages, ask.images.len())?;
        let cost = cost::Counted::new(model, prepared, text_tokens, ask.new_tokens)?;
        let ladder: Vec<usize> = vlm
            .ladder()
            .values()
            .into_iter()
            .filter(|tokens| vlm.check_budget(Budget::Tokens(*tokens)).is_ok() && cost.fits(*tokens))
            .collect();
        let expected = self.table.expected(&families, cost::params(model), text_tokens as f64, &ladder)?;
        let mut rungs = Vec::new();
        for (visual_tokens, error) in expected {
            let cost = match &self.limit {
                Limit::Flops(_) => cost.flops(visual_tokens)?,
                Limit::Time(_, meter) => {
                    let spent = ask.decode + started.elapsed();
                    cost.milliseconds(visual_tokens, meter)? + 1e3 * spent.as_secs_f64()
                }
            };
            rungs.push(Rung { visual_tokens, error, cost });
        }
        let (budget, unit) = match self.limit {
            Limit::Flops(flops) => (flops, "flops"),
            Limit::Time(ms, _) => (Some(ms), "ms"),
        };
        let told = |cost: f64| match unit {
            "ms" => format!("{cost:.1} ms"),
            _ => Unit::Flops.format(cost),
        };
        let choice = choose(&rungs, Limits { budget, tolerance: self.tolerance });
        let choice = choice.map_err(|nothing| match (nothing.cheapest, budget) {
            (Some(rung), Some(budget)) => Failure::user(format!(
                "--visual-tokens auto: {} may be spent, and the cheapest answer, with {} visual tokens, takes {}",
                told(budget),
                rung.visual_tokens,
                told(rung.cost)
            )),
            _ => Failure::user(format!(
                "--visual-tokens auto: {} has errors of no number that fits into the context",
                self.origin
            )),
        })?;
        let within = budget.map(|budget| {
            format!("of the {} of {} numbers within {} ", choice.affordable, rungs.len(), told(budget))
        });
        let why = match (within, self.tolerance > 0.0) {
            (None, _) => format!(
                "of {} numbers the cheapest whose predicted error is within {} of the least, {:.3}",
                rungs.len(),
                self.tolerance,
                choice.least_error
            ),
            (Some(within), true) => format!(
                "{within}the cheapest whose predicted error is within {} of the least, {:.3}",
                self.tolerance, choice.least_error
            ),
            (Some(within), false) => format!("{within}the one with the least predicted error"),
        };
        Ok(Chosen {
            families: families.into_iter().collect(),
            visual_tokens: choice.rung.visual_tokens,
            error: choice.rung.error,
            why,
            cost: unit,
            rungs,
            query: (asked.time, asked.flops),
        })
    }
}

/// What the language model will read for the images of a question: at a budget, or at what `auto` chooses.
pub(crate) fn look(
    model: &Model,
    ask: &Ask<'_>,
    budget: Option<Budget>,
    auto: Option<&Auto>,
) -> Result<Looked, Failure> {
    let started = Instant::now();
    let decode = ask.decode;
    let Some(auto) = auto.filter(|_| !ask.images.is_empty()) else {
        return Ok(Looked { seen: model.look(ask.images, ask.question, budget)?, decode, chosen: None });
    };
    let prepared = model.prepare(ask.images, ask.question)?;
    let chosen = auto.choose(model, &prepared, ask, started)?;
    let seen = model.view(&prepared, Budget::Tokens(chosen.visual_tokens))?;
    Ok(Looked { seen, decode, chosen: Some(chosen) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_units_and_ranges() {
        assert_eq!((flops("2GFLOP"), milliseconds("80.5"), tolerance("0.02")), (Ok(2e9), Ok(80.5), Ok(0.02)));
        for wrong in ["", "2", "2GB", "-1GFLOP"] {
            assert!(flops(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-3", "inf", "5ms"] {
            assert!(milliseconds(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "-0.1", "1.1", "nan"] {
            assert!(tolerance(wrong).is_err(), "{wrong}");
        }
    }
}
