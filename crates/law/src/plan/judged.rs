//! Candidates: a language model at a number of visual tokens, with what it costs and what error the law predicts.

use serde::Serialize;

use crate::cost::{Cost, Memory, Rates, Stage};
use crate::document::PlannedLaw;
use crate::judge::percentile_interval;
use crate::tokens::Tokens;

/// The cost of one question as printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostDocument {
    /// FLOPs of all stages.
    pub flops: f64,
    /// Bytes moved; zero under the paper's cost.
    pub bytes: f64,
    /// Milliseconds at the machine's rates, if they are known and the full cost is counted.
    pub ms: Option<f64>,
    /// Bytes held.
    pub memory_bytes: f64,
    /// What holds them.
    pub memory: Memory,
    /// The tower's share of the FLOPs; zero under the paper's cost.
    pub tower_share: f64,
    /// Stage by stage.
    pub stages: Vec<StageDocument>,
}

/// The cost of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StageDocument {
    /// Which stage.
    pub stage: Stage,
    /// FLOPs.
    pub flops: f64,
    /// Bytes moved.
    pub bytes: f64,
    /// Milliseconds.
    pub ms: Option<f64>,
}

impl CostDocument {
    pub(crate) fn new(cost: &Cost, rates: Option<&Rates>) -> CostDocument {
        let ms = |seconds: f64| 1e3 * seconds;
        CostDocument {
            flops: cost.flops(),
            bytes: cost.bytes(),
            ms: rates.map(|rates| ms(cost.seconds(rates))),
            memory_bytes: cost.memory.total(),
            memory: cost.memory,
            tower_share: cost.share(Stage::Tower),
            stages: cost
                .stages
                .iter()
                .map(|stage| StageDocument {
                    stage: stage.stage,
                    flops: stage.flops,
                    bytes: stage.bytes,
                    ms: rates.map(|rates| ms(stage.seconds(rates))),
                })
                .collect(),
        }
    }
}

/// A language model at a number of visual tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Name in the catalogue.
    pub model: String,
    /// All parameters of the language model, tied embeddings once.
    pub params: f64,
    /// Visual tokens that it reads.
    pub visual_tokens: usize,
    /// Predicted error.
    pub error: f64,
    /// 95 % interval of the prediction over the bootstrap.
    pub ci95: Option<[f64; 2]>,
    /// Share of the bootstrap's laws under which this candidate is the best within the budget; `null` outside it.
    pub wins: Option<f64>,
    /// Why the prediction reaches beyond the measurements; empty where it does not.
    pub extrapolates: Vec<String>,
    /// What a question costs.
    pub cost: CostDocument,
}

/// How far outside the measured range a size still counts as measured: published sizes are nominal (a "7B" model has
/// 6.7 to 7.7 billion parameters).
pub(crate) const TOLERANCE: f64 = 1.15;

/// What lies beyond the measurements, in words.
pub(crate) fn extrapolation(
    law: &PlannedLaw,
    params: f64,
    visual_tokens: f64,
    text_tokens: f64,
) -> Vec<String> {
    let [least, most] = law.measured.x1;
    let mut said = Vec::new();
    if params < least / TOLERANCE || params > most * TOLERANCE {
        said.push(format!("N = {} outside {} to {}", count(params), count(least), count(most)));
    }
    // A law of all tokens was measured at T = Q + V, and that is what its range holds.
    let (name, tokens) = match law.units.tokens {
        Tokens::Visual => ("V", visual_tokens),
        Tokens::Total { .. } => ("T", visual_tokens + text_tokens),
    };
    let [least, most] = law.measured.x2;
    if tokens < least || tokens > most {
        said.push(format!("{name} = {tokens} outside {least} to {most}"));
    }
    said
}

/// Parameters for people: `7.7B`, `135M`.
pub fn count(params: f64) -> String {
    match params {
        params if params >= 99.95e9 => format!("{:.0}B", params / 1e9),
        params if params >= 0.9995e9 => format!("{:.1}B", params / 1e9),
        params if params >= 0.9995e6 => format!("{:.0}M", params / 1e6),
        params => format!("{params:.0}"),
    }
}

/// The 95 % percentile interval; `None` without values.
pub(crate) fn quantiles(values: Vec<f64>) -> Option<[f64; 2]> {
    percentile_interval(&values, 0.95)
}
