//! The loop: data, gradients, one step of the optimiser, a line in the log, now and then an evaluation and a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::Tensor;
use foveate_model::vlm::Vlm;

use crate::checkpoint::{Checkpoints, Material, State};
use crate::evaluate::{Score, Settings, evaluate, ready};
use crate::features::FeatureCache;
use crate::feed::{Feed, Part, Prepared};
use crate::ladder::Rungs;
use crate::lock::Lock;
use crate::log::{Event, Log, Observer, StepReport};
use crate::optimiser::{self, AdamW, Update};
use crate::questions::QuestionCache;
use crate::recipe::{Group, Recipe};
use crate::schedule::Schedule;
use crate::spike::{SpikeGuard, Verdict};
use crate::student::{Parameter, Student};
use crate::{Result, TrainError, batch::Batch, encode::Example, forward, parallel, patches, words};

/// Steps over which the remaining time is judged.
const RECENT: usize = 20;

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done; the scores of the last evaluation.
    Finished(Vec<Score>),
    /// It was asked to stop, and saved itself.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// A run in a folder.
pub struct Trainer {
    recipe: Arc<Recipe>,
    student: Student,
    optimiser: AdamW,
    state: State,
    /// The step of the last checkpoint.
    saved: u64,
    folder: PathBuf,
    checkpoints: Checkpoints,
    threads: usize,
    _lock: Lock,
}

/// What was computed before and is not computed again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept<'a> {
    /// Features of a frozen tower.
    pub features: Option<&'a FeatureCache>,
    /// Vectors of questions, where the language model has nothing to learn.
    pub questions: Option<&'a QuestionCache>,
}

/// The gradients of one step, by the name of the parameter.
pub type Gradients = BTreeMap<String, Tensor>;

/// What one step computed before anything is changed.
pub struct Computed {
    /// Mean of −log p over the answers' tokens; where patches are learnt, of the sum over their fields over the patches.
    pub loss: f64,
    /// Judged tokens or patches.
    pub targets: usize,
    /// Summed over the parts. Tensors that took no part have none.
    pub gradients: Gradients,
}

impl Trainer {
    /// A run in `folder`: a new one, or with `resume` the one that is there, from its last checkpoint on. `threads` work on
    /// the parts of a step at the same time; results do not depend on their number. As long as this lives no other run can have
    /// the folder.
    ///
    /// # Errors
    /// A folder with another run or, with `resume`, a checkpoint that cannot be used; a dataset that cannot be opened.
    pub fn new(
        recipe: Recipe,
        student: Student,
        folder: &Path,
        resume: bool,
        threads: usize,
    ) -> Result<Trainer> {
        let lock = Lock::of(folder)?;
        let checkpoints = Checkpoints::open(&folder.join("checkpoints"))?;
        if !resume && let Some(step) = checkpoints.steps()?.last() {
            let reason =
                format!("holds a run of {step} steps; go on with it (resume), or choose another folder");
            return Err(TrainError::checkpoint(folder, reason));
        }
        let material = Material::of(&recipe, &student)?;
        let resumed = if resume { checkpoints.resume(&student, &recipe, &material)? } else { None };
        let (mut state, optimiser) = resumed.unwrap_or_else(|| {
            let state = State {
                step: 0,
                feed: BTreeMap::new(),
                spikes: SpikeGuard::default(),
                updates: BTreeMap::new(),
                seconds: 0.0,
                questions: 0,
                recipe: recipe.clone(),
                material: None,
            };
            (state, AdamW::default())
        });
        state.material = Some(material);
        Ok(Trainer {
            recipe: Arc::new(recipe),
            student,
            optimiser,
            saved: state.step,
            state,
            folder: folder.to_owned(),
            checkpoints,
            threads,
            _lock: lock,
        })
    }

    /// The model.
    pub fn student(&self) -> &Student {
        &self.student
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.state.step
    }

    /// Seconds of training and questions so far, those before a resumption included.
    pub fn spent(&self) -> (f64, u64) {
        (self.state.seconds, self.state.questions)
    }

    /// Runs to the end, or until `interrupt` is set: then the step at hand is finished, or an evaluation given up, and the run
    /// is saved.
    ///
    /// # Errors
    /// Whatever stops it; the last checkpoint is then whole. Data that end a run, of training or of an evaluation, lose no
    /// step.
    pub fn run(&mut self, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<Outcome> {
        let recipe = self.recipe.clone();
        let end = recipe.steps();
        // Those of later stages too: what is wrong with them is told before the first step.
        let vlm = self.student.vlm(&[])?;
        let rungs = (0..recipe.stages.len())
            .map(|index| Rungs::of(&recipe, index, vlm.compressor(), vlm.grid()))
            .collect::<Result<Vec<_>>>()?;
        ready(&recipe, &vlm)?;
        let mut log = Log::open(&self.folder, self.state.step)?;
        let feed = Feed::new(recipe.clone(), &self.student, self.state.feed.clone())?;
        let mut data = feed.ahead(self.state.step, end)?;
        let mut current: Option<InStage> = None;
        let mut recent: Vec<f64> = Vec::new();
        // A run that was stopped while it evaluated: its last checkpoint is whole.
        if !self.evaluate(&mut log, observer, interrupt)? {
            return Ok(Outcome::Interrupted { step: self.state.step });
        }
        while let Some((index, within)) = recipe.stage_of(self.state.step) {
            let started = Instant::now();
            let stage = match current.take().filter(|stage| stage.index == index) {
                Some(stage) => stage,
                None => InStage::enter(&recipe, index, &self.student, &self.folder, &rungs[index])?,
            };
            let prepared = match data.next() {
                Some(Ok(prepared)) => prepared,
                ended => {
                    self.save(observer)?;
                    let early = || TrainError::DataThread("no step came".to_owned());
                    return Err(ended.and_then(Result::err).unwrap_or_else(early));
                }
            };
            let waited = started.elapsed().as_secs_f64();
            let mut report = self.take(&stage, within, &prepared)?;
            current = Some(stage);
            report.seconds = started.elapsed().as_secs_f64();
            report.waited = waited;
            recent.push(report.seconds);
            let last = &recent[recent.len().saturating_sub(RECENT)..];
            report.eta = (end - self.state.step) as f64 * last.iter().sum::<f64>() / last.len() as f64;
            self.state.seconds += report.seconds;
            log.step(&report)?;
            observer.on(Event::Step(&report));
            let step = self.state.step;
            let done = step == end;
            let interrupted = interrupt.load(Ordering::Relaxed);
            if done || interrupted || step.is_multiple_of(recipe.checkpoints.every) {
                self.save(observer)?;
            }
            if interrupted && !done {
                return Ok(Outcome::Interrupted { step });
            }
            if !self.evaluate(&mut log, observer, interrupt)? {
                return Ok(Outcome::Interrupted { step });
            }
        }
        debug_assert!(self.saved == self.state.step);
        let scores = log.scores_at(end, &Settings::of(&recipe)).unwrap_or_default().to_vec();
        Ok(Outcome::Finished(scores))
    }

    /// The scores that are due after the steps done. Whether the run may go on: where it may not, and where it cannot, the
    /// steps so far are saved.
    fn evaluate(
        &mut self,
        log: &mut Log,
        observer: &mut dyn Observer,
        interrupt: &AtomicBool,
    ) -> Result<bool> {
        let scored = self.score(log, observer, interrupt);
        if !matches!(scored, Ok(true)) {
            self.save(observer)?;
        }
        scored
    }

    /// The scores that are due, unless the log has them already; `false` where `interrupt` came before they were found.
    fn score(&self, log: &mut Log, observer: &mut dyn Observer, interrupt: &AtomicBool) -> Result<bool> {
        let (step, evaluation) = (self.state.step, &self.recipe.evaluation);
        let settings = Settings::of(&self.recipe);
        let every = evaluation.every > 0 && step.is_multiple_of(evaluation.every);
        let due = evaluation.questions > 0 && step > 0 && (step == self.recipe.steps() || every);
        if due && log.scores_at(step, &settings).is_none() {
            let found = evaluate(&self.recipe, &self.student, self.threads, interrupt)?;
            let Some(found) = found else { return Ok(false) };
            log.evaluation(step, &settings, &found)?;
            observer.on(Event::Evaluated { step, scores: &found.scores, broken: &found.broken });
        }
        Ok(true)
    }

    /// Saves the steps that no checkpoint has yet.
    fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let step = self.state.step;
        if step == self.saved {
            return Ok(());
        }
        let updates = self.optimiser.moments().iter().map(|(name, moments)| (name.clone(), moments.steps));
        self.state.updates = updates.collect();
        self.checkpoints.save(&self.student, &self.optimiser, &self.state, self.recipe.checkpoints.keep)?;
        self.saved = step;
        observer.on(Event::Saved { step });
        Ok(())
    }

    /// One step: computes, judges, changes the weights unless the guard says no.
    fn take(&mut self, stage: &InStage, within: u64, prepared: &Prepared) -> Result<StepReport> {
        let recipe = self.recipe.clone();
        let settings = &recipe.stages[stage.index];
        let visual: Vec<usize> =
            (0..prepared.parts.len()).map(|part| stage.rungs.draw(prepared.step, part)).collect();
        let parameters = self.student.parameters();
        let kept = Kept { features: stage.cache.as_ref(), questions: stage.questions.as_ref() };
        let computed = gradients(&stage.vlm, parameters, kept, &prepared.parts, &visual, self.threads)?;
        let norm = optimiser::norm(computed.gradients.values())?;
        let verdict =
            self.state.spikes.judge(&recipe.spikes, stage.index, prepared.step, computed.loss, norm)?;
        let factor = stage.schedule.at(within);
        let rates: BTreeMap<Group, f64> =
            settings.rates.iter().map(|(group, rate)| (*group, rate * factor)).collect();
        if verdict == Verdict::Take {
            let scale = optimiser::clip_scale(norm, settings.clip);
            update(&mut self.optimiser, parameters, &computed.gradients, |parameter| {
                Some(Update {
                    rate: *rates.get(&parameter.group)?,
                    decay: if parameter.decays() { settings.weight_decay } else { 0.0 },
                    betas: settings.betas,
                    epsilon: settings.epsilon,
                    scale,
                })
            })?;
        }
        let questions = prepared.parts.iter().map(|part| part.examples.len()).sum();
        self.state.step = prepared.step + 1;
        self.state.feed.clone_from(&prepared.after);
        self.state.questions += questions as u64;
        Ok(StepReport {
            step: self.state.step,
            of: recipe.steps(),
            stage: settings.name.clone(),
            loss: computed.loss,
            gradient_norm: norm,
            skipped: if let Verdict::Skip(reason) = verdict { Some(reason) } else { None },
            broken: prepared.broken.clone(),
            rates,
            visual_tokens: visual,
            questions,
            targets: computed.targets,
            seconds: 0.0,
            waited: 0.0,
            eta: 0.0,
        })
    }
}

/// What stays the same during a stage.
struct InStage {
    index: usize,
    vlm: Vlm,
    rungs: Rungs,
    schedule: Schedule,
    cache: Option<FeatureCache>,
    /// Where no gradient passes through the language model's pass over a question.
    questions: Option<QuestionCache>,
}

impl InStage {
    fn enter(
        recipe: &Recipe,
        index: usize,
        student: &Student,
        folder: &Path,
        rungs: &Rungs,
    ) -> Result<InStage> {
        let stage = &recipe.stages[index];
        let groups: Vec<Group> = stage.rates.keys().copied().collect();
        let vlm = student.vlm(&groups)?;
        let cache = match recipe.feature_cache_bytes {
            0 => None,
            most => {
                let own = folder.join("features");
                let place = recipe.feature_cache_folder.as_ref().unwrap_or(&own);
                Some(FeatureCache::open(place, most, student.network(), &vlm)?)
            }
        };
        let schedule = Schedule::new(stage.steps, stage.warm_up, stage.floor);
        let frozen = !groups.contains(&Group::Language) && !groups.contains(&Group::Adapters);
        let questions = frozen.then(QuestionCache::default);
        Ok(InStage { index, vlm, rungs: rungs.clone(), schedule, cache, questions })
    }
}

/// Changes each of `parameters` that has a gradient as `how` says; where it says nothing they stay as they are.
///
/// # Errors
/// As [`AdamW::update`].
pub fn update(
    optimiser: &mut AdamW,
    parameters: &BTreeMap<String, Parameter>,
    gradients: &Gradients,
    how: impl Fn(&Parameter) -> Option<Update>,
) -> Result<()> {
    for (name, parameter) in parameters {
        if let (Some(gradient), Some(update)) = (gradients.get(name), how(parameter)) {
            optimiser.update(name, &parameter.variable, gradient, &update)?;
        }
    }
    Ok(())
}

/// The mean loss over all answers' tokens of `parts`, and its gradients with respect to `parameters`. `visual` has the
/// number of visual tokens of each part. The result is the same for any number of `threads`, to the bit.
///
/// # Errors
/// Those of the model.
pub fn gradients(
    vlm: &Vlm,
    parameters: &BTreeMap<String, Parameter>,
    kept: Kept<'_>,
    parts: &[Part],
    visual: &[usize],
    threads: usize,
) -> Result<Computed> {
    let targets = parts.iter().map(targets).sum();
    let work: Vec<(&Part, usize)> = parts.iter().zip(visual.iter().copied()).collect();
    let results = parallel::map(&work, threads, |(part, visual)| {
        one_part(vlm, parameters, kept, part, *visual, targets)
    });
    let mut sum = Computed { loss: 0.0, targets, gradients: BTreeMap::new() };
    for result in results {
        let (loss, gradients) = result?;
        sum.loss += loss;
        for (name, gradient) in gradients {
            let total = match sum.gradients.remove(&name) {
                Some(total) => (total + gradient)?,
                None => gradient,
            };
            sum.gradients.insert(name, total);
        }
    }
    Ok(sum)
}

/// What the loss of a part is a sum over.
fn targets(part: &Part) -> usize {
    if part.words {
        return words::count(&part.examples);
    }
    part.examples.iter().map(Example::answers).sum::<usize>() + patches::count(&part.patches)
}

fn one_part(
    vlm: &Vlm,
    parameters: &BTreeMap<String, Parameter>,
    kept: Kept<'_>,
    part: &Part,
    visual: usize,
    targets: usize,
) -> Result<(f64, Gradients)> {
    let sum = match &part.pixels {
        Some(pixels) if !part.patches.is_empty() => patches::loss(vlm, parameters, pixels, &part.patches)?,
        _ => said(vlm, kept, part, visual)?,
    };
    let loss = (sum / targets.max(1) as f64)?;
    let mut store = loss.backward()?;
    let own = parameters.iter();
    let gradients =
        own.filter_map(|(name, parameter)| Some((name.clone(), store.remove(&parameter.variable)?)));
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients.collect()))
}

/// The sum of −log p over the answers' tokens of a part, or over their words.
fn said(vlm: &Vlm, kept: Kept<'_>, part: &Part, visual: usize) -> Result<Tensor> {
    let features = match (&part.pixels, kept.features) {
        (Some(pixels), Some(cache)) => cache.features(vlm, pixels)?,
        (Some(pixels), None) => forward::features(vlm, pixels)?,
        (None, _) => foveate_compress::Features::new(vlm.grid()),
    };
    let questions = forward::question_vectors(vlm, &part.examples, kept.questions)?;
    if part.words {
        return words::loss(vlm, &features, &part.examples, questions.as_ref(), visual);
    }
    let (batch, scores): (Batch, Tensor) =
        forward::scores_asked(vlm, &features, &part.examples, questions.as_ref(), visual)?;
    forward::loss(&batch, &scores)
}
