//! The published law, and what it advises to buy for a budget.

use foveate_law::cost::{Catalogue, Compressor, CostModel, Dtype, Precision, Workload};
use foveate_law::plan::{Candidate, Plan, Request, plan};
use foveate_law::{
    Assessment, BootstrapOptions, Budget, FitOptions, Form, Law, PlannedLaw, Preset, Resample, Tokens, Units,
    assess,
};
use serde::Serialize;

use crate::commands::plan::candidate_table;
use crate::failure::Failure;
use crate::text::interval;

/// Refits for the intervals, as many as `foveate plan` takes.
const DRAWS: usize = 1000;
/// FLOPs of a question, as in the README.
const BUDGET: Budget = Budget::Flops(2e12);
/// Candidates that are shown.
const TOP: usize = 3;

pub(super) struct Advice {
    assessment: Assessment,
    plan: Plan,
}

/// The law in the last line.
#[derive(Serialize)]
pub(super) struct LawDocument {
    source: String,
    formula: &'static str,
    coefficients: Law,
    ratio: Option<f64>,
    ratio_ci95: Option<[f64; 2]>,
}

/// The plan in the last line.
#[derive(Serialize)]
pub(super) struct PlanDocument {
    budgets: Vec<Budget>,
    tower: String,
    compressor: Compressor,
    best: Vec<Best>,
}

#[derive(Serialize)]
struct Best {
    model: String,
    params: f64,
    visual_tokens: usize,
    error: f64,
    ci95: Option<[f64; 2]>,
    flops: f64,
}

impl Advice {
    /// Fits the published reasoning measurements and plans with all defaults of `foveate plan`.
    pub(super) fn new() -> Result<Advice, Failure> {
        let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
        let resampling = BootstrapOptions { resample: Resample::Cases, draws: DRAWS, seed: 0 };
        let table = Preset::Reasoning.table()?;
        let assessment =
            assess(&table, Some(Form::Product), &FitOptions::default(), units, Some(resampling))?;
        let catalogue = Catalogue::builtin();
        let request = Request {
            law: &PlannedLaw::new(&assessment),
            tower: catalogue.tower("clip-l-14-336")?,
            llms: catalogue.llms().iter().collect(),
            compressor: Compressor::TokenPacker,
            precision: Precision::uniform(Dtype::Bf16),
            workload: Workload::new(50, 16),
            cost: CostModel::Full,
            rates: None,
        };
        let plan = plan(&request, &[BUDGET])?;
        Ok(Advice { assessment, plan })
    }

    pub(super) fn told(&self) -> String {
        let law = &self.assessment.fit.law;
        let ratio = law.ratio().map_or("∞".to_owned(), |ratio| format!("{ratio:.2}"));
        let spread =
            self.assessment.ratio_ci95().map(|found| format!(" {}", interval(found, 2))).unwrap_or_default();
        format!(
            "The law of the published measurements (arXiv 2411.03312): {}\n  alpha {:.4} for the language model's size, \
             beta {:.4} for visual tokens; alpha/beta {ratio}{spread}\n\nWhat {BUDGET} a question should buy, with {}, {} \
             and {} text tokens:\n\n{}",
            law.form().formula(),
            law.alpha(),
            law.beta(),
            self.plan.tower,
            self.plan.compressor,
            self.plan.text_tokens,
            candidate_table(self.best()),
        )
    }

    fn best(&self) -> &[Candidate] {
        &self.plan.ranked[..TOP.min(self.plan.ranked.len())]
    }

    pub(super) fn documents(self) -> (LawDocument, PlanDocument) {
        let best = self.best().iter().map(|candidate| Best {
            model: candidate.model.clone(),
            params: candidate.params,
            visual_tokens: candidate.visual_tokens,
            error: candidate.error,
            ci95: candidate.ci95,
            flops: candidate.cost.flops,
        });
        let plan = PlanDocument {
            best: best.collect(),
            budgets: self.plan.budgets,
            tower: self.plan.tower,
            compressor: self.plan.compressor,
        };
        let law = LawDocument {
            source: self.assessment.origin.clone(),
            formula: self.assessment.fit.law.form().formula(),
            coefficients: self.assessment.fit.law,
            ratio: self.assessment.fit.law.ratio(),
            ratio_ci95: self.assessment.ratio_ci95(),
        };
        (law, plan)
    }
}
