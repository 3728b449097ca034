//! The cost of one question, stage by stage, and how long it takes on a machine.

use serde::{Deserialize, Serialize};

use super::{
    compressor::Compressor,
    dimensions::TowerDimensions,
    dtype::Dtype,
    error::{CostError, within},
    llm::LlmDimensions,
    work::Work,
    workload::{CostModel, Workload, paper_flops},
};

/// A stage of inference, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// The vision tower.
    Tower,
    /// The language model reads the question for a compressor that needs it.
    Query,
    /// The compressor.
    Compress,
    /// The stock projector.
    Project,
    /// The language model reads the prompt, up to the first token of the answer.
    Prefill,
    /// The language model generates the other tokens of the answer.
    Decode,
}

/// What one stage costs one question; fractions of shared work make these real numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// 2 × multiply-adds of products and attention.
    pub flops: f64,
    /// Bytes moved between memory and processor.
    pub bytes: f64,
}

/// Bytes held while the model serves one question at a time, without activations and buffers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Weights of the language model.
    pub llm: f64,
    /// Weights of the tower, all blocks.
    pub tower: f64,
    /// Weights of the compressor and the projector.
    pub connector: f64,
    /// KV cache at the full context, Q + V + A tokens, or a sliding window of it.
    pub kv_cache: f64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.llm + self.tower + self.connector + self.kv_cache
    }
}

/// What a machine sustains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Floating-point operations a second.
    pub flops_per_second: f64,
    /// Bytes a second between memory and processor.
    pub bytes_per_second: f64,
}

impl Rates {
    /// Both rates, checked.
    ///
    /// # Errors
    /// When one of them is not a positive finite number.
    pub fn new(flops_per_second: f64, bytes_per_second: f64) -> Result<Self, CostError> {
        let positive = [("FLOPs per second", flops_per_second), ("bytes per second", bytes_per_second)];
        for (field, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                let allowed = "it must be a positive number".to_owned();
                return Err(CostError::Request { field, value: value.to_string(), allowed });
            }
        }
        Ok(Self { flops_per_second, bytes_per_second })
    }
}

impl StageCost {
    /// Seconds by the roofline: the slower of computing and moving.
    pub fn seconds(&self, rates: &Rates) -> f64 {
        (self.flops / rates.flops_per_second).max(self.bytes / rates.bytes_per_second)
    }
}

/// The cost of one question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// The stages that run, in order.
    pub stages: Vec<StageCost>,
    /// What must fit into memory.
    pub memory: Memory,
}

impl Cost {
    /// FLOPs of all stages.
    pub fn flops(&self) -> f64 {
        self.stages.iter().map(|stage| stage.flops).sum()
    }

    /// Bytes of all stages.
    pub fn bytes(&self) -> f64 {
        self.stages.iter().map(|stage| stage.bytes).sum()
    }

    /// Seconds of all stages, one after the other.
    pub fn seconds(&self, rates: &Rates) -> f64 {
        self.stages.iter().map(|stage| stage.seconds(rates)).sum()
    }

    /// One stage; without FLOPs and bytes if it does not run.
    pub fn stage(&self, stage: Stage) -> StageCost {
        let absent = StageCost { stage, flops: 0.0, bytes: 0.0 };
        self.stages.iter().find(|cost| cost.stage == stage).copied().unwrap_or(absent)
    }

    /// The fraction of all FLOPs that one stage takes.
    pub fn share(&self, stage: Stage) -> f64 {
        let total = self.flops();
        if total > 0.0 { self.stage(stage).flops / total } else { 0.0 }
    }
}

/// How the parts are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Precision {
    /// Weights of the language model.
    pub llm: Dtype,
    /// Weights of the tower.
    pub tower: Dtype,
    /// Weights of the compressor and the projector.
    pub connector: Dtype,
    /// Keys and values.
    pub kv_cache: Dtype,
}

impl Precision {
    /// Everything in one format.
    pub fn uniform(dtype: Dtype) -> Self {
        Self { llm: dtype, tower: dtype, connector: dtype, kv_cache: dtype }
    }
}

impl Default for Precision {
    fn default() -> Self {
        Self::uniform(Dtype::Bf16)
    }
}

/// A vision-language model: a tower, a compressor and a language model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vlm<'a> {
    /// The vision tower.
    pub tower: &'a TowerDimensions,
    /// The language model.
    pub llm: &'a LlmDimensions,
    /// The compressor between them.
    pub compressor: Compressor,
    /// Number formats; bf16 throughout unless set.
    pub precision: Precision,
    /// Blocks of the tower that run; all but the last unless set, as hidden state −2 is the deepest that is read.
    pub tower_blocks: usize,
}

impl<'a> Vlm<'a> {
    /// The three parts in bf16, with the tower run up to hidden state −2.
    pub fn new(tower: &'a TowerDimensions, llm: &'a LlmDimensions, compressor: Compressor) -> Self {
        let tower_blocks = tower.feature_blocks();
        Self { tower, llm, compressor, precision: Precision::default(), tower_blocks }
    }

    /// The same model stored otherwise.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Parameters of tower, compressor, projector and language model for `visual_tokens`.
    ///
    /// # Errors
    /// As [`Vlm::cost`].
    pub fn parameters(&self, visual_tokens: usize) -> Result<u64, CostError> {
        let connector = self.connector_parameters(visual_tokens)?;
        Ok(self.tower.parameters().saturating_add(self.llm.parameters()).saturating_add(connector))
    }

    /// The cost of one question answered with `visual_tokens` visual tokens.
    ///
    /// A tokens of answer take one prefill, which ends with the output head on the last prompt token and so yields
    /// the first of them, and A − 1 decode passes: pass i feeds token i and its output head yields token i + 1. The
    /// last token is never fed. The head thus runs A times; a request for no answer still ends with the head (the
    /// distribution over the first token) and costs as much as one for a single token.
    ///
    /// With [`CostModel::Paper`] the only stage is the prefill, 2·N·tokens with N = [`LlmDimensions::parameters`] and
    /// the tokens of [`Scenario::paper_tokens`](super::Scenario::paper_tokens); it moves no bytes. Memory is the same
    /// under both models.
    ///
    /// # Errors
    /// Dimensions that no model can have, a number of visual tokens that the compressor does not offer, a tower
    /// without the class token it needs, or an absurd workload.
    pub fn cost(
        &self,
        visual_tokens: usize,
        workload: &Workload,
        model: CostModel,
    ) -> Result<Cost, CostError> {
        self.tower.validate()?;
        self.llm.validate()?;
        workload.validate()?;
        within(&self.tower.name, "blocks to run", self.tower_blocks, 0..=self.tower.layers)?;
        let connector_parameters = self.connector_parameters(visual_tokens)?;
        let context = (workload.text_tokens + visual_tokens + workload.answer_tokens) as f64;
        let kept = self.llm.sliding_window.map_or(context, |window| context.min(window as f64));
        let memory = Memory {
            llm: self.llm.parameters() as f64 * self.precision.llm.bytes(),
            tower: self.tower.parameters() as f64 * self.precision.tower.bytes(),
            connector: connector_parameters as f64 * self.precision.connector.bytes(),
            kv_cache: kept * self.llm.kv_bytes_per_token(self.precision.kv_cache),
        };
        let stages = match model {
            CostModel::Paper => {
                let tokens = workload.scenario.paper_tokens(
                    workload.text_tokens,
                    visual_tokens,
                    self.compressor.reads_question(),
                );
                let flops = paper_flops(self.llm.parameters() as f64, tokens);
                vec![StageCost { stage: Stage::Prefill, flops, bytes: 0.0 }]
            }
            CostModel::Full => self.stages(visual_tokens, workload),
        };
        Ok(Cost { stages, memory })
    }

    fn stages(&self, visual_tokens: usize, workload: &Workload) -> Vec<StageCost> {
        let reuse = workload.scenario.reuse(self.compressor.reads_question());
        let (text, visual) = (workload.text_tokens as f64, visual_tokens as f64);
        let precision = &self.precision;
        let mut stages = Vec::with_capacity(6);
        let mut push = |stage, work: Work, dtype: Dtype, more_bytes: f64| {
            let bytes = work.bytes(dtype.bytes()) + more_bytes;
            if work.flops > 0.0 || bytes > 0.0 {
                stages.push(StageCost { stage, flops: work.flops, bytes });
            }
        };

        push(Stage::Tower, self.tower.work(self.tower_blocks).times(reuse.tower), precision.tower, 0.0);

        if self.compressor.reads_question() {
            let work = self.llm.pass(text, self.llm.pairs(0.0, text)).times(reuse.query);
            push(Stage::Query, work, precision.llm, reuse.query * self.kv_traffic(text, text));
        }

        let compress = self.compressor.work(self.tower, self.llm, visual_tokens).times(reuse.visual);
        // The training-free methods bring no weights: what they multiply by is a part of the tower.
        let dtype = if self.compressor.needs_class_token() { precision.tower } else { precision.connector };
        push(Stage::Compress, compress, dtype, 0.0);
        push(Stage::Project, self.projector(visual).times(reuse.visual), precision.connector, 0.0);

        let prompt = text + visual;
        let fresh = reuse.text * text + reuse.visual * visual;
        // Text that lies cached is in front of the image, otherwise the image comes first.
        let pairs = if reuse.text == 0.0 {
            self.llm.pairs(text, visual)
        } else {
            reuse.visual * self.llm.pairs(0.0, visual) + self.llm.pairs(visual, text)
        };
        let mut prefill = self.llm.pass(fresh, pairs);
        prefill.add(self.llm.head());
        push(Stage::Prefill, prefill, precision.llm, self.kv_traffic(fresh, prompt));

        let passes = workload.answer_tokens.saturating_sub(1) as f64;
        if passes > 0.0 {
            let pairs = self.llm.pairs(prompt, passes);
            let mut decode = self.llm.pass(1.0, pairs / passes);
            decode.add(self.llm.head());
            // Each pass reads the whole cache: as many tokens as it has pairs.
            push(Stage::Decode, decode.times(passes), precision.llm, self.kv_traffic(passes, pairs));
        }
        stages
    }

    /// Bytes of keys and values when `written` tokens are added and `read` tokens are read.
    fn kv_traffic(&self, written: f64, read: f64) -> f64 {
        (written + read) * self.llm.kv_bytes_per_token(self.precision.kv_cache)
    }

    /// Linear, GELU, Linear on the tokens that reach it: M3 pools after the projector, the others before.
    fn projector(&self, visual: f64) -> Work {
        let mut work = Work::default();
        if self.compressor.uses_projector() {
            let pooled_later = self.compressor == Compressor::M3;
            let tokens = if pooled_later { self.tower.patches() as f64 } else { visual };
            work.product(tokens, self.tower.hidden as f64, self.llm.hidden as f64);
            work.product(tokens, self.llm.hidden as f64, self.llm.hidden as f64);
        }
        work
    }

    fn connector_parameters(&self, visual_tokens: usize) -> Result<u64, CostError> {
        let compressor = self.compressor.parameters(self.tower, self.llm, visual_tokens)?;
        let (d, width) = (self.tower.hidden as f64, self.llm.hidden as f64);
        let projector = if self.compressor.uses_projector() { (d + width + 2.0) * width } else { 0.0 };
        Ok(compressor.saturating_add(projector as u64))
    }
}
