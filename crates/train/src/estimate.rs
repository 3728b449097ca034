//! What a run will cost, before it starts: FLOPs by the cost formulae, hours and memory from a few steps that are taken and
//! thrown away.
//!
//! A backward pass counts as one forward pass for the gradient of the input and one for that of the weights. Parts that are
//! frozen and stand before everything that is trained have none of the two; a frozen language model hands the gradient
//! on to the visual tokens and has the first. Adapters are products beside its own, of the weights' number of elements. The
//! pass over a question that a compressor reads has both where the language model is trained, the first where adapters
//! are, and runs forward alone where nothing in it is; each different question of a part makes it once, and those that a run would
//! have kept are counted, too.
//!
//! Hours are FLOPs over the rate of the steps that were tried, which is told beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use foveate_law::cost::{Dtype, Stage as CostStage, Workload};
use foveate_model::vlm::Vlm;
use serde::Serialize;

use crate::evaluate::ready;
use crate::feed::{Feed, FeedState, Prepared};
use crate::forward;
use crate::ladder::Rungs;
use crate::recipe::{Group, Recipe, Stage};
use crate::student::{Parameter, Student};
use crate::trainer::{Kept, gradients};
use crate::{Result, TrainError};

/// Steps that are taken in each stage; the first warms up and is not counted.
const TRIED: u64 = 3;

/// The cost of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Trainable elements.
    pub trained_parameters: usize,
    /// All elements.
    pub parameters: usize,
    /// Stage by stage.
    pub stages: Vec<StageEstimate>,
    /// FLOPs of all steps.
    pub flops: f64,
    /// Hours of all steps at the rate of those that were tried, without evaluations and checkpoints.
    pub hours: f64,
    /// Threads that they were tried with.
    pub threads: usize,
    /// Bytes of weights, gradients and both moments.
    pub state_bytes: u64,
    /// The most that this process held while it tried, activations included; `None` where the system does not say.
    pub peak_bytes: Option<u64>,
}

/// The cost of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageEstimate {
    /// Its name.
    pub name: String,
    /// Its steps.
    pub steps: u64,
    /// FLOPs of one step, on average over the ladder.
    pub flops_per_step: f64,
    /// Seconds of one step, on average over the ladder.
    pub seconds_per_step: f64,
    /// What the steps that were tried did in a second.
    pub flops_per_second: f64,
    /// Questions of one step, as tried.
    pub questions_per_step: f64,
}

/// Estimates a recipe with its student. Nothing of the student is changed.
///
/// # Errors
/// Whatever would stop the run at its first steps or at an evaluation.
pub fn estimate(recipe: &Recipe, student: &Student, threads: usize) -> Result<Estimate> {
    ready(recipe, &student.vlm(&[])?)?;
    let mut stages = Vec::new();
    let mut first = 0;
    for (index, stage) in recipe.stages.iter().enumerate() {
        stages.push(one_stage(recipe, student, index, stage, first, threads)?);
        first += stage.steps;
    }
    let (trained_parameters, parameters) = student.sizes();
    Ok(Estimate {
        trained_parameters,
        parameters,
        flops: stages.iter().map(|stage| stage.flops_per_step * stage.steps as f64).sum(),
        hours: stages.iter().map(|stage| stage.seconds_per_step * stage.steps as f64).sum::<f64>() / 3600.0,
        state_bytes: student.network().bytes() + 12 * trained_parameters as u64,
        peak_bytes: peak_bytes(),
        threads,
        stages,
    })
}

fn one_stage(
    recipe: &Recipe,
    student: &Student,
    index: usize,
    stage: &Stage,
    first: u64,
    threads: usize,
) -> Result<StageEstimate> {
    let groups: Vec<Group> = stage.rates.keys().copied().collect();
    let vlm = student.vlm(&groups)?;
    let rungs = Rungs::of(recipe, index, vlm.compressor(), vlm.grid())?;
    let mut feed = Feed::new(Arc::new(recipe.clone()), student, FeedState::new())?;
    let flops_of = |prepared: &Prepared, visual: &[usize]| {
        step_flops(&vlm, student.parameters(), &groups, prepared, visual)
    };
    let weight: f64 = stage.ladder.iter().map(|(_, weight)| weight).sum();
    let (mut tried_flops, mut tried_seconds, mut expected, mut questions) = (0.0, 0.0, 0.0, 0);
    for step in first..first + TRIED.min(stage.steps) {
        let prepared = feed.prepare(step)?;
        let visual: Vec<usize> = (0..prepared.parts.len()).map(|part| rungs.draw(step, part)).collect();
        let started = Instant::now();
        gradients(&vlm, student.parameters(), Kept::default(), &prepared.parts, &visual, threads)?;
        let seconds = started.elapsed().as_secs_f64();
        let counted = step > first || stage.steps == 1;
        if counted {
            tried_seconds += seconds;
            tried_flops += flops_of(&prepared, &visual)?;
        }
        if stage.ladder.is_empty() {
            expected += flops_of(&prepared, &visual)?;
        }
        for (tokens, share) in &stage.ladder {
            let visual = vec![*tokens; prepared.parts.len()];
            expected += share / weight * flops_of(&prepared, &visual)?;
        }
        questions += prepared.parts.iter().map(|part| part.examples.len()).sum::<usize>();
    }
    let tried = TRIED.min(stage.steps) as f64;
    let (flops_per_step, flops_per_second) = (expected / tried, tried_flops / tried_seconds);
    Ok(StageEstimate {
        name: stage.name.clone(),
        steps: stage.steps,
        flops_per_step,
        seconds_per_step: flops_per_step / flops_per_second,
        flops_per_second,
        questions_per_step: questions as f64 / tried,
    })
}

/// FLOPs of one step on this data, forward and backward, where `groups` of the model's `parameters` are trained.
///
/// # Errors
/// A number of visual tokens that is not offered; sizes that nothing can be counted for.
pub fn step_flops(
    vlm: &Vlm,
    parameters: &BTreeMap<String, Parameter>,
    groups: &[Group],
    prepared: &Prepared,
    visual: &[usize],
) -> Result<f64> {
    let cost = vlm.cost();
    let llm = vlm.config().text.dimensions("language model");
    let trains = |group| groups.contains(&group);
    let tower_passes = if trains(Group::Tower) { 3.0 } else { 1.0 };
    let language_passes = if trains(Group::Language) { 3.0 } else { 2.0 };
    let connector_passes = if trains(Group::Compressor) || trains(Group::Projector) { 3.0 } else { 1.0 };
    let adapter_passes = if trains(Group::Adapters) { 3.0 } else { 2.0 };
    // Of the pass over a question and of the adapters in it: nothing stands before it that would need a gradient.
    let (question_passes, question_adapter_passes) = match (trains(Group::Language), trains(Group::Adapters))
    {
        (true, _) => (3.0, 1.0),
        (false, true) => (2.0, 3.0),
        (false, false) => (1.0, 1.0),
    };
    let adapters = parameters.values().filter(|parameter| parameter.group == Group::Adapters);
    // Of one token, forward.
    let adapter_flops = 2.0 * adapters.map(|parameter| parameter.variable.elem_count()).sum::<usize>() as f64;
    let blocks = cost.blocks_needed()?;
    let mut flops = 0.0;
    for (part, visual) in prepared.parts.iter().zip(visual) {
        let pictures = part.pixels.as_ref().map_or(0, |pixels| pixels.dims()[0]);
        flops += tower_passes * cost.tower_flops(pictures, blocks);
        if vlm.compressor().reads_question() {
            for question in forward::different_questions(&part.examples) {
                flops += question_passes * cost.question_flops(question.len())?;
                flops += question_adapter_passes * adapter_flops * question.len() as f64;
            }
        }
        for example in &part.examples {
            if example.picture.is_some() {
                flops += connector_passes * (cost.compressor_flops(*visual)? + cost.projector_flops(*visual));
            }
            if part.words {
                continue;
            }
            let visual = if example.picture.is_some() { *visual } else { 0 };
            let text = example.slots.len() - usize::from(example.picture.is_some());
            let stages = llm.stages(&Workload::new(text + visual, 1), 0, Dtype::F32);
            let stages = stages
                .map_err(|error| TrainError::field("parts.language", "its sizes", error.to_string()))?;
            let prefill = stages.iter().filter(|stage| stage.stage == CostStage::Prefill);
            // The prefill counts the head once; here it reads every answer's token.
            let heads = (example.answers() as f64 - 1.0) * 2.0 * (llm.hidden * llm.vocab) as f64;
            flops += adapter_passes * adapter_flops * (text + visual) as f64;
            flops += language_passes * (prefill.map(|stage| stage.flops).sum::<f64>() + heads);
        }
    }
    Ok(flops)
}

/// The most memory that this process has held, where the system says it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
