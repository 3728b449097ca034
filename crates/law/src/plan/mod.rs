//! Turns a law, a cost model and a budget into a ranked list of (language model, visual tokens).

mod budget;
mod findings;
mod judged;
mod optimum;

pub use budget::Budget;
pub use judged::{Candidate, CostDocument, StageDocument, count};
pub use optimum::{Optimum, OptimumKind};

use serde::Serialize;

use crate::cost::{
    Compressor, CostError, CostModel, LlmDimensions, Precision, Rates, TowerDimensions, Vlm, Workload,
};
use crate::document::PlannedLaw;
use crate::units::Unit;
use judged::{extrapolation, quantiles};

/// What to plan for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The law, with its uncertainty.
    pub law: &'a PlannedLaw,
    /// The vision tower.
    pub tower: &'a TowerDimensions,
    /// The language models to choose from.
    pub llms: Vec<&'a LlmDimensions>,
    /// The compressor.
    pub compressor: Compressor,
    /// How weights and cache are stored.
    pub precision: Precision,
    /// Text, answer and what is shared between questions.
    pub workload: Workload,
    /// Which cost is counted.
    pub cost: CostModel,
    /// What the machine sustains; needed for a time budget.
    pub rates: Option<Rates>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A cost could not be computed.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// No budget.
    #[error("no budget: give FLOPs, time or memory, for example 2TFLOP, 800ms or 6GiB")]
    NoBudget,
    /// A time budget without rates.
    #[error("a budget of {budget} needs the machine's rates: FLOP/s and bytes/s")]
    NoRates {
        /// The budget.
        budget: Budget,
    },
    /// A time budget under a cost that counts no bytes.
    #[error("a budget of {budget} needs the full cost: the paper's counts no memory traffic and no tower")]
    PaperTime {
        /// The budget.
        budget: Budget,
    },
    /// No language model or no number of tokens to choose from.
    #[error("nothing to choose from: {message}")]
    NoCandidates {
        /// What is missing.
        message: String,
    },
    /// Nothing fits the budget.
    #[error("nothing fits {budget}: the least is {least}, for {model} with V = {visual_tokens}{part}")]
    NothingFits {
        /// The budget that nothing fits.
        budget: Budget,
        /// The least that any candidate needs of it.
        least: Budget,
        /// That candidate's model.
        model: String,
        /// Its visual tokens.
        visual_tokens: usize,
        /// What takes most of it.
        part: String,
    },
}

/// What the budget buys.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The limits, all of which hold.
    pub budgets: Vec<Budget>,
    /// `paper` or `full`.
    pub cost_model: CostModel,
    /// The tower's name.
    pub tower: String,
    /// The compressor.
    pub compressor: Compressor,
    /// Text tokens of a question.
    pub text_tokens: usize,
    /// Tokens of an answer.
    pub answer_tokens: usize,
    /// What is shared between questions.
    pub scenario: String,
    /// The rates used for milliseconds.
    pub rates: Option<Rates>,
    /// Everything within the budget, least predicted error first; equal errors, least FLOPs first.
    pub ranked: Vec<Candidate>,
    /// The best of continuous (N, V); only for a FLOP budget under the paper's cost.
    pub optimum: Option<Optimum>,
    /// The best error at every cost, budget or not.
    pub frontier: Vec<Candidate>,
    /// The best within half of every budget.
    pub half: Option<Candidate>,
    /// The best within twice every budget.
    pub twice: Option<Candidate>,
    /// What to know before acting on this.
    pub findings: Vec<String>,
}

/// Every candidate on the ladder that the compressor offers on this tower, unranked.
///
/// # Errors
/// Impossible dimensions, or nothing to choose from.
pub fn candidates(request: &Request<'_>) -> Result<Vec<Candidate>, PlanError> {
    let offered = request.compressor.ladder(request.tower);
    let mut ladder = request.tower.ladder();
    ladder.retain(|&visual_tokens| offered.contains(visual_tokens));
    if ladder.is_empty() {
        // A compressor of one fixed number of tokens that is no rung of the square ladder.
        ladder = offered.values();
    }
    if ladder.is_empty() || request.llms.is_empty() {
        let message = match request.llms.is_empty() {
            true => "no language model".into(),
            false => format!("{} offers no tokens on {}", request.compressor, request.tower.name),
        };
        return Err(PlanError::NoCandidates { message });
    }
    let mut found = Vec::new();
    for llm in &request.llms {
        let params = llm.parameters() as f64;
        let vlm = Vlm::new(request.tower, llm, request.compressor).with_precision(request.precision);
        for &visual_tokens in &ladder {
            let cost = vlm.cost(visual_tokens, &request.workload, request.cost)?;
            let rates = request.rates.as_ref().filter(|_| request.cost == CostModel::Full);
            found.push(Candidate {
                model: llm.name.clone(),
                params,
                visual_tokens,
                error: request.predict(params, visual_tokens),
                ci95: request.interval(params, visual_tokens),
                wins: None,
                extrapolates: extrapolation(
                    request.law,
                    params,
                    visual_tokens as f64,
                    request.workload.text_tokens as f64,
                ),
                cost: CostDocument::new(&cost, rates),
            });
        }
    }
    Ok(found)
}

impl Request<'_> {
    fn predict(&self, params: f64, visual_tokens: usize) -> f64 {
        self.law.predict(params, visual_tokens as f64, self.workload.text_tokens as f64)
    }

    /// The prediction of every law of the bootstrap.
    fn draws(&self, params: f64, visual_tokens: usize) -> impl Iterator<Item = f64> {
        let text = self.workload.text_tokens as f64;
        let units = self.law.units;
        self.law.draws.iter().map(move |law| units.predict(law, params, visual_tokens as f64, text))
    }

    fn interval(&self, params: f64, visual_tokens: usize) -> Option<[f64; 2]> {
        quantiles(self.draws(params, visual_tokens).collect())
    }
}

/// Ranks what fits the budgets.
///
/// # Errors
/// As [`candidates`]; no budget, a time budget without rates or under the paper's cost, and a budget that nothing fits
/// (with the least that would).
pub fn plan(request: &Request<'_>, budgets: &[Budget]) -> Result<Plan, PlanError> {
    if budgets.is_empty() {
        return Err(PlanError::NoBudget);
    }
    if let Some(&budget) = budgets.iter().find(|budget| matches!(budget, Budget::Seconds(_))) {
        if request.cost == CostModel::Paper {
            return Err(PlanError::PaperTime { budget });
        }
        if request.rates.is_none() {
            return Err(PlanError::NoRates { budget });
        }
    }
    let all = candidates(request)?;
    let mut ranked = within(&all, budgets, 1.0);
    if ranked.is_empty() {
        return Err(nothing_fits(&all, budgets));
    }
    count_wins(request, &mut ranked);
    let resource = Resource::of(budgets[0]);
    let mut plan = Plan {
        budgets: budgets.to_vec(),
        cost_model: request.cost,
        tower: request.tower.name.clone(),
        compressor: request.compressor,
        text_tokens: request.workload.text_tokens,
        answer_tokens: request.workload.answer_tokens,
        scenario: request.workload.scenario.to_string(),
        rates: request.rates,
        optimum: continuous(request, budgets),
        frontier: frontier(&all, resource),
        half: within(&all, budgets, 0.5).into_iter().next(),
        twice: within(&all, budgets, 2.0).into_iter().next(),
        ranked,
        findings: Vec::new(),
    };
    plan.findings = findings::findings(request, &plan);
    Ok(plan)
}

/// What a candidate spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Resource {
    /// FLOPs.
    Flops,
    /// Seconds at the machine's rates.
    Seconds,
    /// Bytes held.
    Memory,
}

impl Resource {
    fn of(budget: Budget) -> Resource {
        match budget {
            Budget::Flops(_) => Resource::Flops,
            Budget::Seconds(_) => Resource::Seconds,
            Budget::Bytes(_) => Resource::Memory,
        }
    }

    /// How much of it a candidate needs; infinite where it is not known.
    pub fn needed(self, candidate: &Candidate) -> f64 {
        match self {
            Resource::Flops => candidate.cost.flops,
            Resource::Seconds => candidate.cost.ms.map_or(f64::INFINITY, |ms| ms / 1e3),
            Resource::Memory => candidate.cost.memory_bytes,
        }
    }
}

/// The candidates that no other one beats in both error and cost, cheapest first.
pub fn frontier(candidates: &[Candidate], resource: Resource) -> Vec<Candidate> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by(|left, right| {
        let needed = resource.needed(left).total_cmp(&resource.needed(right));
        needed.then(left.error.total_cmp(&right.error))
    });
    let mut found: Vec<Candidate> = Vec::new();
    for candidate in sorted {
        if found.last().is_none_or(|last| candidate.error < last.error) {
            found.push(candidate.clone());
        }
    }
    found
}

fn within(candidates: &[Candidate], budgets: &[Budget], factor: f64) -> Vec<Candidate> {
    let fits = |candidate: &&Candidate| {
        budgets.iter().all(|&budget| Resource::of(budget).needed(candidate) <= budget.scaled(factor).value())
    };
    let mut found: Vec<Candidate> = candidates.iter().filter(fits).cloned().collect();
    found.sort_by(|left, right| {
        left.error.total_cmp(&right.error).then(left.cost.flops.total_cmp(&right.cost.flops))
    });
    found
}

fn nothing_fits(all: &[Candidate], budgets: &[Budget]) -> PlanError {
    // Of several budgets, the one that is missed by most explains best.
    let least = |budget: Budget| {
        let resource = Resource::of(budget);
        let needed = |candidate: &&Candidate| resource.needed(candidate);
        all.iter().min_by(|left, right| needed(left).total_cmp(&needed(right))).map(|least| (budget, least))
    };
    let missed = |budget: Budget, least: &Candidate| Resource::of(budget).needed(least) / budget.value();
    let worst = budgets
        .iter()
        .filter_map(|&budget| least(budget))
        .max_by(|left, right| missed(left.0, left.1).total_cmp(&missed(right.0, right.1)));
    let Some((budget, least)) = worst else {
        return PlanError::NoCandidates { message: "an empty catalogue".into() };
    };
    let needed = Resource::of(budget).needed(least);
    let part = match budget {
        _ if needed <= budget.value() => "; each budget can be met alone, but not together".into(),
        Budget::Bytes(_) => {
            format!(", {} of it weights of the language model", Unit::Bytes.format(least.cost.memory.llm))
        }
        _ if least.cost.tower_share > 0.5 => {
            format!(", {:.0} % of its FLOPs in the vision tower", 100.0 * least.cost.tower_share)
        }
        _ => String::new(),
    };
    PlanError::NothingFits {
        budget,
        least: budget.scaled(needed / budget.value()),
        model: least.model.clone(),
        visual_tokens: least.visual_tokens,
        part,
    }
}

/// How often each candidate is the best under the bootstrap's laws. A tie goes to the earlier one.
fn count_wins(request: &Request<'_>, ranked: &mut [Candidate]) {
    let draws = request.law.draws.len();
    if draws == 0 {
        return;
    }
    let mut best = vec![(f64::INFINITY, 0_usize); draws];
    for (place, candidate) in ranked.iter().enumerate() {
        let errors = request.draws(candidate.params, candidate.visual_tokens);
        for (best, error) in best.iter_mut().zip(errors) {
            if error < best.0 {
                *best = (error, place);
            }
        }
    }
    let mut wins = vec![0_u32; ranked.len()];
    best.iter().for_each(|&(_, place)| wins[place] += 1);
    for (candidate, wins) in ranked.iter_mut().zip(wins) {
        candidate.wins = Some(f64::from(wins) / draws as f64);
    }
}

/// The continuous optimum of the tightest FLOP budget under the paper's cost.
fn continuous(request: &Request<'_>, budgets: &[Budget]) -> Option<Optimum> {
    let flops = budgets.iter().filter_map(|budget| match *budget {
        Budget::Flops(value) => Some(value),
        _ => None,
    });
    let flops = flops.min_by(f64::total_cmp)?;
    if request.cost != CostModel::Paper {
        return None;
    }
    let reads = request.compressor.reads_question();
    let text_tokens = request.workload.text_tokens;
    let tokens = |visual| request.workload.scenario.paper_tokens(text_tokens, visual, reads);
    let ladder = request.tower.ladder();
    let ends = [*ladder.last()? as f64, *ladder.first()? as f64];
    let exchange = optimum::Exchange {
        product: flops / 2.0,
        text: tokens(0),
        share: tokens(1) - tokens(0),
        read: text_tokens as f64,
    };
    Some(optimum::optimum(request.law, exchange, ends))
}

#[cfg(test)]
mod tests;
