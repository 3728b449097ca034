//! What `plan` and `frontier` choose from and count: tower, compressor, language models, workload, cost.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use foveate_law::cost::{
    Catalogue, Compressor, CostModel, Dtype, Precision, Rates, Scenario, TowerDimensions, Workload,
};
use foveate_law::plan::Request;
use foveate_law::{Budget, PlannedLaw};

use crate::failure::Failure;
use crate::machine;

#[derive(Args)]
pub(crate) struct System {
    /// Text tokens of a question.
    #[arg(long, value_name = "Q", default_value_t = 50, allow_negative_numbers = true)]
    text_tokens: usize,
    /// Tokens of an answer.
    #[arg(long, value_name = "A", default_value_t = 16, allow_negative_numbers = true)]
    answer_tokens: usize,
    /// What is counted: the paper's 2·N·(Q+V), or every stage.
    #[arg(long, value_enum, default_value_t = CostName::Full)]
    cost: CostName,
    /// The vision tower.
    #[arg(long, value_name = "NAME", default_value = "clip-l-14-336")]
    tower: String,
    /// Pixels along a side of the image, if not the tower's own.
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    image_size: Option<usize>,
    /// The compressor (the published laws were measured with token-packer).
    #[arg(long, value_name = "NAME", default_value = "token-packer")]
    compressor: Compressor,
    /// Only this language model of the catalogue; may be repeated.
    #[arg(long, value_name = "NAME")]
    llm: Vec<String>,
    /// Only language models of this family, for example Qwen1.5.
    #[arg(long, value_name = "NAME", conflicts_with = "llm")]
    family: Option<String>,
    /// What questions share: single, cached-text, questions-per-image:K or fixed-question.
    #[arg(long, default_value = "single")]
    scenario: Scenario,
    /// More towers and language models, TOML; entries of the same name replace the built-in ones.
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    /// How weights are stored.
    #[arg(long, default_value = "bf16")]
    dtype: Dtype,
    /// How keys and values are stored [default: bf16].
    #[arg(long)]
    kv_dtype: Option<Dtype>,
    /// Rates of the machine, for times: JSON {flops_per_second, bytes_per_second, …} as `foveate bench` writes it
    /// [default: its last profile, else measured now].
    #[arg(long, value_name = "FILE")]
    machine: Option<PathBuf>,
    /// FLOP/s that the machine sustains, for example 500GFLOP.
    #[arg(
        long,
        value_name = "RATE",
        requires = "bandwidth",
        conflicts_with = "machine",
        allow_hyphen_values = true
    )]
    flop_rate: Option<String>,
    /// Bytes/s between memory and processor, for example 39GB.
    #[arg(long, value_name = "RATE", requires = "flop_rate", allow_hyphen_values = true)]
    bandwidth: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum CostName {
    /// 2·N·(Q+V), as in the paper
    Paper,
    /// Tower, query, compressor, projector, prefill and decode
    Full,
}

/// Everything a request borrows.
pub(crate) struct Loaded {
    law: PlannedLaw,
    catalogue: Catalogue,
    tower: TowerDimensions,
    rates: Option<Rates>,
}

impl System {
    /// Reads the catalogue and finds the machine's rates: if `times` are asked for and none are given, those that
    /// `foveate bench` wrote, else measured now.
    pub(crate) fn load(&self, law: PlannedLaw, times: bool) -> Result<Loaded, Failure> {
        let mut catalogue = Catalogue::builtin();
        if let Some(path) = &self.catalogue {
            catalogue.extend(Catalogue::read(path)?);
        }
        let mut tower = catalogue.tower(&self.tower)?.clone();
        if let Some(pixels) = self.image_size {
            tower = tower.with_image_size(pixels)?;
        }
        let given = match (&self.machine, &self.flop_rate, &self.bandwidth) {
            (Some(path), _, _) => Some(machine::read(path)?),
            (None, Some(flops), Some(bytes)) => Some(Rates::new(flop_rate(flops)?, byte_rate(bytes)?)?),
            _ => None,
        };
        let rates = match given {
            None if times && self.cost == CostName::Full => Some(machine::rates()?),
            given => given,
        };
        Ok(Loaded { law, catalogue, tower, rates })
    }

    /// The request that the options describe.
    pub(crate) fn request<'a>(&self, loaded: &'a Loaded) -> Result<Request<'a>, Failure> {
        let llms = loaded.catalogue.llms();
        let chosen = match (&self.family, self.llm.is_empty()) {
            (Some(family), _) => {
                let same = |name: &str| name.eq_ignore_ascii_case(family);
                let found: Vec<_> = llms.iter().filter(|llm| same(&llm.family)).collect();
                if found.is_empty() {
                    let mut families: Vec<&str> = llms.iter().map(|llm| llm.family.as_str()).collect();
                    families.dedup();
                    return Err(Failure::user(format!(
                        "unknown family {family:?}; the catalogue has {}",
                        families.join(", ")
                    )));
                }
                found
            }
            (None, true) => llms.iter().collect(),
            (None, false) => {
                self.llm.iter().map(|name| loaded.catalogue.llm(name)).collect::<Result<Vec<_>, _>>()?
            }
        };
        let weights = Precision::uniform(self.dtype);
        Ok(Request {
            law: &loaded.law,
            tower: &loaded.tower,
            llms: chosen,
            compressor: self.compressor,
            precision: Precision { kv_cache: self.kv_dtype.unwrap_or(Dtype::Bf16), ..weights },
            workload: Workload::new(self.text_tokens, self.answer_tokens).with_scenario(self.scenario),
            cost: match self.cost {
                CostName::Paper => CostModel::Paper,
                CostName::Full => CostModel::Full,
            },
            rates: loaded.rates,
        })
    }
}

fn flop_rate(text: &str) -> Result<f64, Failure> {
    match text.trim_end_matches("/s").parse() {
        Ok(Budget::Flops(value)) => Ok(value),
        _ => Err(Failure::user(format!("--flop-rate {text:?}: FLOP/s are needed, for example 500GFLOP"))),
    }
}

fn byte_rate(text: &str) -> Result<f64, Failure> {
    match text.trim_end_matches("/s").parse() {
        Ok(Budget::Bytes(value)) => Ok(value),
        _ => Err(Failure::user(format!("--bandwidth {text:?}: bytes/s are needed, for example 39GB"))),
    }
}
