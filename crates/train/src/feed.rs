//! The data of each step: which pictures, which questions, in which order.
//!
//! Everything is a function of the seed and of how far each dataset was read, which [`FeedState`] says. Steps are prepared
//! one ahead on a thread of their own; each brings the state behind it, so that a checkpoint knows where to go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use candle_core::{Device, Tensor};
use foveate_data::image::{Pixels, Preprocessor};
use foveate_data::prompt::ChatTemplate;
use foveate_data::{Order, PatchLabels, Question, Sample, SampleError, Source, Stream, Tolerance};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::encode::{Encoder, Example, Slot};
use crate::random::Draw;
use crate::recipe::{Learns, Recipe};
use crate::student::Student;
use crate::{Result, TrainError};

/// How far a dataset was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Times round.
    pub epoch: u64,
    /// Places of the shuffled order that were passed.
    pub position: usize,
    /// Samples of this epoch that were left out because they were broken.
    pub skipped: usize,
}

/// How far each dataset was read.
pub type FeedState = BTreeMap<String, Place>;

/// Pictures and examples that run together.
#[derive(Clone, Debug)]
pub struct Part {
    /// `[pictures, 3, side, side]`; `None` for text alone.
    pub pixels: Option<Tensor>,
    /// Their questions; none where patches are learnt.
    pub examples: Vec<Example>,
    /// What their patches show, where that is learnt: one for each picture.
    pub patches: Vec<PatchLabels>,
    /// Whether the words of the answers alone are learnt.
    pub words: bool,
}

/// The data of one step.
#[derive(Debug)]
pub struct Prepared {
    /// The step, counted from 0.
    pub step: u64,
    /// As many as the stage's accumulation.
    pub parts: Vec<Part>,
    /// Where the datasets stand behind it.
    pub after: FeedState,
    /// Why samples were left out on the way to it.
    pub broken: Vec<String>,
}

/// What a sample gives to a step.
struct Usable {
    pixels: Option<Pixels>,
    examples: Vec<Example>,
    patches: Option<PatchLabels>,
}

/// The datasets of a recipe and what makes examples of them.
pub struct Feed {
    recipe: Arc<Recipe>,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    end_token: u32,
    preprocessor: Preprocessor,
    /// Tokens that an example may have besides its visual ones.
    most_tokens: usize,
    /// Patches along a side of a picture.
    grid: usize,
    sources: BTreeMap<String, Arc<dyn Source>>,
    streams: BTreeMap<String, Stream>,
    state: FeedState,
    broken: Vec<String>,
}

impl Feed {
    /// Opens the datasets that the stages mix, to be read from `state` on.
    ///
    /// # Errors
    /// A dataset that cannot be opened.
    pub fn new(recipe: Arc<Recipe>, student: &Student, state: FeedState) -> Result<Feed> {
        let names: Vec<&String> = recipe.data.keys().filter(|name| recipe.trains_on(name)).collect();
        let open = |name: &String| Ok((name.clone(), recipe.data[name].open(recipe.questions)?));
        let sources = names.into_iter().map(open).collect::<Result<BTreeMap<_, _>>>()?;
        let visual = recipe.stages.iter().flat_map(|stage| &stage.ladder).map(|(tokens, _)| *tokens).max();
        Ok(Feed {
            most_tokens: room(student, visual.unwrap_or(0)),
            grid: student.network().config().vision.as_ref().map_or(0, |vision| vision.grid().rows),
            broken: Vec::new(),
            tokenizer: student.tokenizer.clone(),
            template: student.template.clone(),
            end_token: student.end_token,
            preprocessor: student.preprocessor.clone(),
            sources,
            streams: BTreeMap::new(),
            state,
            recipe,
        })
    }

    /// Prepares `step`; steps are to be asked for in order.
    ///
    /// # Errors
    /// [`TrainError::Broken`] when more of a dataset is broken than the recipe tolerates.
    pub fn prepare(&mut self, step: u64) -> Result<Prepared> {
        let recipe = self.recipe.clone();
        let Some((stage, _)) = recipe.stage_of(step) else {
            return Ok(Prepared { step, parts: Vec::new(), after: self.state.clone(), broken: Vec::new() });
        };
        let stage = &recipe.stages[stage];
        let (names, weights): (Vec<&String>, Vec<f64>) = stage.mix.iter().unzip();
        let mut draw = Draw::new(recipe.seed, "mix", step);
        let each = stage.batch / stage.accumulation;
        let mut parts = Vec::with_capacity(stage.accumulation);
        for part in 0..stage.accumulation {
            let (mut pixels, mut examples, mut patches) = (Vec::new(), Vec::new(), Vec::new());
            for slot in 0..each {
                let name = names[draw.weighted(&weights)];
                let number = step * stage.batch as u64 + (part * each + slot) as u64;
                let new = self.next(name, number, pixels.len(), stage.learns)?;
                pixels.extend(new.pixels);
                examples.extend(new.examples);
                patches.extend(new.patches);
            }
            let words = stage.learns == Learns::Words;
            parts.push(Part { pixels: stack(&pixels)?, examples, patches, words });
        }
        let broken = std::mem::take(&mut self.broken);
        Ok(Prepared { step, parts, after: self.state.clone(), broken })
    }

    /// The next usable sample of a dataset, which becomes picture `picture`.
    fn next(&mut self, name: &str, number: u64, picture: usize, learns: Learns) -> Result<Usable> {
        let began = self.state.get(name).map_or(0, |place| place.epoch);
        loop {
            let sample = self.sample(name)?;
            let made = match learns {
                Learns::Answers | Learns::Words => self.examples(&sample, number, picture),
                Learns::Patches => self.patches(&sample),
            };
            let broken = match made {
                Ok(made) => return Ok(made),
                Err(broken) => broken,
            };
            self.broken.push(broken.to_string());
            let (Some(stream), Some(place)) = (self.streams.get_mut(name), self.state.get_mut(name)) else {
                continue;
            };
            stream.report_broken(&broken)?;
            place.skipped = stream.skipped().count;
            if place.epoch > began + 1 {
                let allowed = "a dataset with a usable sample";
                return Err(TrainError::field(format!("data.{name}"), broken, allowed));
            }
        }
    }

    fn sample(&mut self, name: &str) -> Result<Sample> {
        let mut began = 0;
        loop {
            let place = self.state.entry(name.to_owned()).or_default();
            if !self.streams.contains_key(name) {
                let order = Order::Shuffled { seed: self.recipe.seed, epoch: place.epoch };
                let tolerance = Tolerance { fraction: self.recipe.tolerance };
                let stream = Stream::new(self.sources[name].clone(), order, tolerance);
                self.streams.insert(name.to_owned(), stream.resume_at(place.position, place.skipped));
                began += 1;
            }
            let Some(stream) = self.streams.get_mut(name) else { continue };
            let read = stream.read();
            place.position = Stream::position(stream);
            match read {
                Some(Ok(sample)) => return Ok(sample),
                Some(Err(broken)) => {
                    self.broken.push(broken.to_string());
                    stream.report_broken(&broken)?;
                    place.skipped = stream.skipped().count;
                }
                None if began > 1 => {
                    return Err(TrainError::field(format!("data.{name}"), "empty", "a dataset with samples"));
                }
                None => {
                    self.streams.remove(name);
                    *place = Place { epoch: place.epoch + 1, ..Place::default() };
                }
            }
        }
    }

    fn examples(
        &self,
        sample: &Sample,
        number: u64,
        picture: usize,
    ) -> std::result::Result<Usable, SampleError> {
        let pixels = see(&self.preprocessor, sample)?;
        let mut chosen: Vec<&Question> = sample.questions.iter().collect();
        let mut draw = Draw::new(self.recipe.seed, "questions", number);
        while chosen.len() > self.recipe.questions {
            chosen.swap_remove(draw.below(chosen.len()));
        }
        let encoder =
            Encoder { tokenizer: &self.tokenizer, template: &self.template, end_token: self.end_token };
        let examples = encoder.examples(sample, &chosen, pixels.as_ref().map(|_| picture));
        let examples = examples.map_err(|error| unusable(sample, error))?;
        fits(sample, &examples, self.most_tokens)?;
        Ok(Usable { pixels, examples, patches: None })
    }

    fn patches(&self, sample: &Sample) -> std::result::Result<Usable, SampleError> {
        let patches = sample.picture.as_ref().and_then(|picture| picture.patches(self.grid));
        let patches = patches.ok_or_else(|| unusable(sample, "nothing is known of its patches"))?;
        Ok(Usable { pixels: see(&self.preprocessor, sample)?, examples: Vec::new(), patches: Some(patches) })
    }

    /// Prepares the steps from `first` to before `end`, one ahead of where they are taken, on a thread.
    ///
    /// # Errors
    /// A thread that the system refuses.
    pub fn ahead(mut self, first: u64, end: u64) -> Result<Ahead> {
        let (send, receive) = sync_channel(1);
        let work = move || {
            for step in first..end {
                let prepared = self.prepare(step);
                let failed = prepared.is_err();
                // Nobody waits any more: the run was stopped.
                if send.send(prepared).is_err() || failed {
                    return;
                }
            }
        };
        let thread = Builder::new()
            .name("data".to_owned())
            .spawn(work)
            .map_err(TrainError::io("data thread".as_ref()))?;
        Ok(Ahead { receive: Some(receive), thread: Some(thread) })
    }
}

/// Why a sample cannot be used.
pub(crate) fn unusable(sample: &Sample, reason: impl ToString) -> SampleError {
    SampleError::Record { place: sample.name.clone(), reason: reason.to_string() }
}

/// Tokens that an example may have besides `visual` visual ones.
pub(crate) fn room(student: &Student, visual: usize) -> usize {
    student.network().config().text.context.saturating_sub(visual)
}

/// Refuses a sample that became an example of more than `most` tokens of text.
pub(crate) fn fits(
    sample: &Sample,
    examples: &[Example],
    most: usize,
) -> std::result::Result<(), SampleError> {
    let tokens = |example: &Example| example.slots.iter().filter(|slot| **slot != Slot::Image).count();
    let longest = examples.iter().map(tokens).max().unwrap_or(0);
    if longest > most {
        let reason = format!("{longest} tokens of text; beside the visual ones there is room for {most}");
        return Err(unusable(sample, reason));
    }
    Ok(())
}

/// The pixels of a sample's picture, where it has one.
pub(crate) fn see(
    preprocessor: &Preprocessor,
    sample: &Sample,
) -> std::result::Result<Option<Pixels>, SampleError> {
    let Some(picture) = &sample.picture else { return Ok(None) };
    let seen = preprocessor.apply(&picture.image()?).map_err(|error| unusable(sample, error))?;
    Ok(seen.tiles.into_iter().next())
}

/// Pixels of several pictures, `[pictures, 3, side, side]`.
pub(crate) fn stack(pixels: &[Pixels]) -> Result<Option<Tensor>> {
    let Some(first) = pixels.first() else { return Ok(None) };
    let shape = (pixels.len(), first.channels, first.height, first.width);
    let values: Vec<f32> = pixels.iter().flat_map(|pixels| &pixels.data).copied().collect();
    Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
}

/// Steps that are prepared on another thread, which ends with this. It ends behind the last step, or behind an error.
pub struct Ahead {
    receive: Option<Receiver<Result<Prepared>>>,
    thread: Option<JoinHandle<()>>,
}

impl Iterator for Ahead {
    type Item = Result<Prepared>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(prepared) = self.receive.as_ref()?.recv() {
            return Some(prepared);
        }
        let panic = self.thread.take()?.join().err()?;
        let told = panic.downcast_ref::<&str>().map(|told| (*told).to_owned());
        let told = told.or_else(|| panic.downcast_ref::<String>().cloned());
        Some(Err(TrainError::DataThread(told.unwrap_or_else(|| "it does not say why".to_owned()))))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.receive = None;
        if let Some(thread) = self.thread.take() {
            // Nobody waits for its data any more; a panic there changes nothing.
            _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_thread_that_dies_is_not_the_users_fault() {
        let (send, receive) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            drop(send);
            panic!("torn")
        });
        let mut ahead = Ahead { receive: Some(receive), thread: Some(thread) };
        let error = ahead.next().unwrap().unwrap_err();
        assert!(!error.is_users() && error.to_string().contains("torn"), "{error}");
        assert!(ahead.next().is_none());
    }
}
