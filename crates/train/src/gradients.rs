//! The check that nothing is trained in name only: every trainable tensor of a recipe gets a finite, non-zero gradient.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::Tensor;

use crate::feed::{Feed, FeedState};
use crate::recipe::{Group, Learns, Recipe};
use crate::student::Student;
use crate::trainer::{Kept, gradients};
use crate::{Result, TrainError};

/// Biases that add the same to every key of a query: softmax does not see that, so that their gradient is zero in exact
/// arithmetic, and noise here.
const SHIFTS_EVERY_KEY: [&str; 4] = ["k_proj.3.bias", "ln_k_1.bias", "ln_k.bias", "self_attn.k_proj.bias"];

/// Runs the first step of each stage, once for each rung of its ladder, and looks at the gradients' norms.
///
/// B of an adapter starts at zero, which cuts the gradient of A: for the check each B is nudged, and put back.
///
/// # Errors
/// [`TrainError::Gradients`] naming the tensors without one; whatever stops the step.
pub fn check(recipe: &Recipe, student: &Student) -> Result<BTreeMap<String, f64>> {
    let second = |name: &str| name.ends_with("lora_B.weight");
    let adapters =
        student.parameters().iter().filter(|(name, one)| one.group == Group::Adapters && second(name));
    let mut started = Vec::new();
    for (_, parameter) in adapters {
        started.push((&parameter.variable, parameter.variable.as_detached_tensor().copy()?));
        parameter.variable.set(&(parameter.variable.as_detached_tensor() + 1e-3)?)?;
    }
    let found = measured(recipe, student);
    for (variable, value) in started {
        variable.set(&value)?;
    }
    found
}

fn measured(recipe: &Recipe, student: &Student) -> Result<BTreeMap<String, f64>> {
    let mut largest: BTreeMap<String, f64> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut step = 0;
    for stage in &recipe.stages {
        let groups: Vec<Group> = stage.rates.keys().copied().collect();
        let vlm = student.vlm(&groups)?;
        let mut feed = Feed::new(Arc::new(recipe.clone()), student, FeedState::new())?;
        let prepared = feed.prepare(step)?;
        let rungs: Vec<usize> = match stage.learns {
            Learns::Answers | Learns::Words => stage.ladder.iter().map(|(tokens, _)| *tokens).collect(),
            Learns::Patches => vec![0],
        };
        for tokens in rungs {
            let visual = vec![tokens; prepared.parts.len()];
            let computed =
                gradients(&vlm, student.parameters(), Kept::default(), &prepared.parts, &visual, 1)?;
            for (name, gradient) in &computed.gradients {
                let norm = norm(gradient)?;
                if !norm.is_finite() {
                    wrong.push(format!("{name} ({norm} with {tokens} visual tokens)"));
                }
                let seen = largest.entry(name.clone()).or_default();
                *seen = seen.max(norm);
            }
        }
        step += stage.steps;
    }
    for name in student.parameters().keys() {
        let norm = largest.get(name).copied().unwrap_or(0.0);
        if norm == 0.0 && !SHIFTS_EVERY_KEY.iter().any(|bias| name.ends_with(bias)) {
            wrong.push(format!("{name} (none)"));
        }
    }
    if wrong.is_empty() { Ok(largest) } else { Err(TrainError::Gradients { tensors: wrong }) }
}

fn norm(gradient: &Tensor) -> Result<f64> {
    crate::optimiser::norm([gradient])
}
