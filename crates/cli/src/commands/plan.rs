//! `foveate plan`: a budget in, a ranked list of language models and visual tokens out.

use std::path::PathBuf;

use clap::Args;
use foveate_law::plan::{Candidate, Plan, Resource, candidates, plan};
use foveate_law::{Budget, Unit};

use super::figures;
use super::law_source::LawSource;
use super::system::System;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Outputs, check_figure, print, print_json};
use crate::text;

/// Turn a budget into the best language model and number of visual tokens.
///
/// The law comes from --law (written by `foveate fit --out`) or from published measurements. Every language model of the
/// catalogue is tried at every rung of the tower's ladder.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What a question may cost: FLOPs (2TFLOP), time (800ms) or memory (6GiB); may be repeated, then all hold.
    #[arg(long, value_name = "BUDGET", required = true, allow_hyphen_values = true)]
    budget: Vec<Budget>,
    #[command(flatten)]
    law: LawSource,
    #[command(flatten)]
    system: System,
    /// How many candidates to print.
    #[arg(long, value_name = "N", default_value_t = 10, allow_negative_numbers = true)]
    top: usize,
    /// Draw predicted error against cost, with the frontier and the budget.
    #[arg(long, value_name = "FILE.svg|png")]
    plot: Option<PathBuf>,
    /// Draw what the recommended model costs at each number of visual tokens, stage by stage.
    #[arg(long, value_name = "FILE.svg|png")]
    plot_breakdown: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        check_figure(self.plot.as_deref())?;
        check_figure(self.plot_breakdown.as_deref())?;
        let times = self.budget.iter().any(|budget| matches!(budget, Budget::Seconds(_)));
        let loaded = self.system.load(self.law.load()?, times)?;
        let request = self.system.request(&loaded)?;
        let plan = plan(&request, &self.budget).map_err(|error| {
            let from = loaded.rates_from().map(|from| format!("; the machine's rates are {from}"));
            Failure::from(error).reworded(|told| told + &from.unwrap_or_default())
        })?;
        let mut outputs = Outputs::default();
        if self.plot.is_some() || self.plot_breakdown.is_some() {
            let all = candidates(&request)?;
            if let Some(path) = &self.plot {
                let limits: Vec<String> = plan.budgets.iter().map(ToString::to_string).collect();
                let title = format!("What {} buys ({} cost)", limits.join(" and "), plan.cost_model);
                let resource = match plan.budgets[0] {
                    Budget::Seconds(_) => Resource::Seconds,
                    Budget::Bytes(_) => Resource::Memory,
                    _ => Resource::Flops,
                };
                let best = plan.ranked.first();
                let figure = figures::candidates(&title, &all, &plan.frontier, resource, best, &plan.budgets);
                outputs.stage_figure(path, &figure)?;
            }
            if let Some(path) = &self.plot_breakdown {
                outputs.stage_figure(path, &figures::breakdown(&plan, &all))?;
            }
        }
        outputs.commit()?;
        if self.json { print_json(&plan) } else { print(&self.card(&plan, loaded.rates_from())) }
    }

    fn card(&self, plan: &Plan, rates_from: Option<&str>) -> String {
        let budgets: Vec<String> = plan.budgets.iter().map(ToString::to_string).collect();
        let mut text = format!(
            "budget {}, {} cost, {} text and {} answer tokens, {}\n{} with {}",
            budgets.join(" and "),
            plan.cost_model,
            plan.text_tokens,
            plan.answer_tokens,
            plan.scenario,
            plan.tower,
            plan.compressor,
        );
        if let Some(rates) = plan.rates {
            let (compute, read) = (rates.flops_per_second, rates.bytes_per_second);
            let from = rates_from.map(|from| format!(" ({from})")).unwrap_or_default();
            text += &format!("; {}/s, {:.1} GB/s{from}", Unit::Flops.format(compute), read / 1e9);
        }
        text += "\n\n";
        text += &candidate_table(&plan.ranked[..self.top.min(plan.ranked.len())]);
        let more = plan.ranked.len().saturating_sub(self.top);
        if more > 0 {
            text += &format!("\n  … and {more} more within the budget (--top)");
        }
        text + "\n\n" + &text::list("findings", &plan.findings)
    }
}

/// Candidates with their error, interval and cost. A star marks a prediction beyond the measurements.
pub(crate) fn candidate_table(candidates: &[Candidate]) -> String {
    let times = candidates.iter().any(|candidate| candidate.cost.ms.is_some());
    let draws = candidates.iter().any(|candidate| candidate.ci95.is_some());
    let wins = candidates.iter().any(|candidate| candidate.wins.is_some());
    let tower = candidates.iter().any(|candidate| candidate.cost.tower_share > 0.0);
    let mut header = vec!["model", "N", "V", "error"];
    header.extend(draws.then_some("95 % interval"));
    header.extend(wins.then_some("best"));
    header.push("FLOPs");
    header.extend(tower.then_some("tower"));
    header.extend(times.then_some("time"));
    header.push("memory");
    let rows: Vec<Vec<String>> = candidates
        .iter()
        .map(|candidate| {
            let star = if candidate.extrapolates.is_empty() { "" } else { " *" };
            let mut row = vec![
                format!("{}{star}", candidate.model),
                foveate_law::plan::count(candidate.params),
                candidate.visual_tokens.to_string(),
                format!("{:.4}", candidate.error),
            ];
            if draws {
                row.push(candidate.ci95.map_or(String::new(), |interval| text::interval(interval, 4)));
            }
            if wins {
                row.push(candidate.wins.map_or(String::new(), |wins| format!("{:.0} %", 100.0 * wins)));
            }
            row.push(Unit::Flops.format(candidate.cost.flops));
            if tower {
                row.push(format!("{:.0} %", 100.0 * candidate.cost.tower_share));
            }
            if times {
                row.push(candidate.cost.ms.map_or(String::new(), |ms| Unit::Seconds.format(ms / 1e3)));
            }
            row.push(Unit::Bytes.format(candidate.cost.memory_bytes));
            row
        })
        .collect();
    let mut text = text::table(&header, &rows, 1);
    if candidates.iter().any(|candidate| !candidate.extrapolates.is_empty()) {
        text += "\n  * beyond the measurements";
    }
    text
}
