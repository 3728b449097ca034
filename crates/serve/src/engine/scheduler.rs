//! The thread that owns the model: what it does next.
//!
//! Jobs get a place among those in progress in the order in which they came. From there one with images waits for the tower,
//! oldest first, one image at a time (questions about where tokens look wait with them); then its prompt is read and its answer written in the [`Batch`], whose steps serve all of
//! them at once. Neither starves the other: after an image the answers in progress get as much time as it took, and prompts
//! ride along with them in pieces.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use foveate_compress::Budget;
use foveate_law::cost::LlmDimensions;
use foveate_model::ModelError;
use foveate_model::generate::{AnswerId, Batch, Drawn, Finish, Part, Prompt, Writer};

use super::writing::{Account, Seen, Writing};
use super::{Event, Failed, Job, Look, Order, Picture, Shared};
use crate::backend::Backend;
use crate::options::Schedule;

/// Positions of prompts in a step when no answer waits for it.
const UNDISTURBED: usize = 512;

/// What waits, what is looked at and what is written.
pub(super) struct Scheduler<'a> {
    backend: &'a dyn Backend,
    schedule: Schedule,
    shared: &'a Shared,
    llm: LlmDimensions,
    batch: Batch,
    waiting: VecDeque<Job>,
    looking: VecDeque<Looking>,
    /// Looks that nobody answers: they need the tower and no place among the answers.
    looks: VecDeque<Look>,
    writing: HashMap<AnswerId, Writing<'a>>,
    /// Time that answers in progress get before the next image.
    owed: Duration,
}

/// A job that has a place among those in progress and images that were not looked at yet.
struct Looking {
    job: Job,
    taken: Instant,
    seen: Seen,
}

impl<'a> Scheduler<'a> {
    pub(super) fn new(backend: &'a dyn Backend, schedule: Schedule, shared: &'a Shared) -> Self {
        let decoder = backend.decoder();
        Self {
            llm: decoder.config().dimensions("language model"),
            batch: Batch::new(decoder.clone(), schedule.prefix_bytes),
            backend,
            schedule,
            shared,
            waiting: VecDeque::new(),
            looking: VecDeque::new(),
            looks: VecDeque::new(),
            writing: HashMap::new(),
            owed: Duration::ZERO,
        }
    }

    /// Works until nobody can send jobs any more and the last one has ended.
    pub(super) fn run(&mut self, inbox: &Receiver<Order>) {
        loop {
            if self.is_idle() {
                match inbox.recv() {
                    Ok(order) => self.accept(order),
                    Err(_) => return,
                }
            }
            while let Ok(order) = inbox.try_recv() {
                self.accept(order);
            }
            self.let_go();
            self.take_in();
            self.work();
            self.tell();
        }
    }

    fn accept(&mut self, order: Order) {
        match order {
            Order::Answer(job) => self.waiting.push_back(*job),
            Order::Look(look) => self.looks.push_back(*look),
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.looking.is_empty() && self.looks.is_empty() && self.batch.is_empty()
    }

    /// Ends what nobody waits for any more, or has no time left.
    fn let_go(&mut self) {
        let now = Instant::now();
        let cancelled = self.shared.is_cancelled();
        let ends = |closed: bool, deadline: Instant| match () {
            () if closed => Some(None),
            () if cancelled => Some(Some(Failed::Stopped)),
            () if now >= deadline => Some(Some(Failed::Deadline)),
            () => None,
        };
        let ended = |job: &Job| match ends(job.events.is_closed(), job.deadline) {
            None => false,
            Some(told) => {
                if let Some(failed) = told {
                    _ = job.events.send(Event::Failed(failed));
                }
                true
            }
        };
        self.waiting.retain(|job| !ended(job));
        self.looking.retain(|looking| !ended(&looking.job));
        for look in std::mem::take(&mut self.looks) {
            match ends(look.told.is_closed(), look.deadline) {
                None => self.looks.push_back(look),
                Some(None) => drop(look),
                Some(Some(failed)) => look.tell(Err(failed)),
            }
        }
        let over: Vec<AnswerId> =
            self.writing.iter().filter(|(_, writing)| ended(&writing.job)).map(|(id, _)| *id).collect();
        for id in over {
            self.batch.remove(id);
            self.writing.remove(&id);
        }
    }

    /// Gives waiting jobs the places that are free.
    fn take_in(&mut self) {
        while self.looking.len() + self.writing.len() < self.schedule.parallel.max(1) {
            let Some(job) = self.waiting.pop_front() else { return };
            let looking = Looking { job, taken: Instant::now(), seen: Seen::default() };
            if looking.job.pictures.is_empty() {
                self.begin(looking);
            } else {
                self.looking.push_back(looking);
            }
        }
    }

    /// One image, or one step of all answers.
    fn work(&mut self) {
        let started = Instant::now();
        let answering = !self.batch.is_empty();
        let pictures = !self.looking.is_empty() || !self.looks.is_empty();
        if pictures && (!answering || self.owed.is_zero()) {
            let of_answer = self.looking.front().map(|looking| looking.job.accepted);
            match self.looks.pop_front_if(|look| of_answer.is_none_or(|accepted| look.accepted < accepted)) {
                Some(look) => self.gaze(look),
                None => self.look(),
            }
            self.owed = if answering { started.elapsed() } else { Duration::ZERO };
        } else if answering {
            self.step();
            self.owed = self.owed.saturating_sub(started.elapsed());
        }
    }

    /// The next image of the oldest job that has one.
    fn look(&mut self) {
        let Some(mut looking) = self.looking.pop_front() else { return };
        let picture = &looking.job.pictures[looking.seen.rows.len()];
        match self.view(picture, looking.job.budget) {
            Ok(view) => looking.seen.add(view),
            Err(error) => {
                _ = looking.job.events.send(Event::Failed(failed(&error)));
                return;
            }
        }
        if looking.seen.rows.len() < looking.job.pictures.len() {
            self.looking.push_front(looking);
        } else {
            self.begin(looking);
        }
    }

    /// Where tokens look, for a client who asks for nothing else.
    fn gaze(&self, look: Look) {
        let Picture { pixels, question } = &look.picture;
        let gaze = match self.backend.viewer() {
            Some(viewer) => viewer.gaze(pixels, question.as_deref(), look.budget),
            // Refused at admission.
            None => Err(ModelError::ImageCount { places: 0, images: 1 }),
        };
        self.tell();
        look.tell(gaze.map_err(|error| failed(&error)));
    }

    fn view(
        &self,
        picture: &Picture,
        budget: Option<Budget>,
    ) -> Result<foveate_model::vlm::View, ModelError> {
        // Admission refuses images for a model without sight, and gives every other job a budget.
        let (Some(viewer), Some(budget)) = (self.backend.viewer(), budget) else {
            return Err(ModelError::ImageCount { places: 0, images: 1 });
        };
        viewer.view(&picture.pixels, picture.question.as_deref(), budget)
    }

    /// Starts to read a prompt.
    fn begin(&mut self, looking: Looking) {
        let Looking { mut job, taken, seen } = looking;
        job.pictures.clear();
        let prompt = with_images(std::mem::take(&mut job.prompt), &seen);
        let answering = &job.answering;
        let begun = Writer::new(self.backend.tokenizer(), answering.stop.clone()).and_then(|writer| {
            Ok((writer, self.batch.add(&prompt, answering.sampling, answering.alternatives)?))
        });
        match begun {
            Ok((writer, added)) => {
                self.writing.insert(added.id, Writing::new(job, writer, added, seen, taken));
            }
            Err(error) => _ = job.events.send(Event::Failed(failed(&error))),
        }
    }

    /// One pass over the language model.
    fn step(&mut self) {
        let started = Instant::now();
        let writing = self.batch.writing();
        let most = if writing == 0 { self.schedule.piece.max(UNDISTURBED) } else { self.schedule.piece };
        match self.batch.step(most) {
            Ok(drawn) => {
                if writing > 0 {
                    self.shared.meter().pass(started.elapsed());
                    self.shared.metrics.pass(started.elapsed(), writing);
                }
                for drawn in drawn {
                    self.take(drawn);
                }
            }
            Err(error) => {
                tracing::error!(%error, answers = self.writing.len(), "a pass failed");
                for (id, writing) in self.writing.drain() {
                    self.batch.remove(id);
                    writing.fail(Failed::Internal(error.to_string()));
                }
            }
        }
    }

    fn take(&mut self, drawn: Drawn) {
        let Drawn { id, token, scored, full } = drawn;
        let Some(writing) = self.writing.get_mut(&id) else { return };
        let ends = self.backend.end_tokens();
        let ended = match token.and_then(|token| writing.take(token, scored, full, ends)) {
            Ok(None) => return,
            Ok(Some(finish)) => Ok(finish),
            Err(error) => Err(error),
        };
        self.batch.remove(id);
        if let Some(writing) = self.writing.remove(&id) {
            match ended {
                Ok(finish) => self.finish(writing, finish),
                Err(error) => writing.fail(failed(&error)),
            }
        }
    }

    fn finish(&mut self, writing: Writing<'a>, finish: Finish) {
        let account = match writing.account(finish, &self.llm) {
            Ok(account) => account,
            Err(error) => return writing.fail(Failed::Internal(error.to_string())),
        };
        let Account { done, prefill_flops, prefill, busy, seen, times } = account;
        let mut meter = self.shared.meter();
        meter.tower(seen.tower, times.tower);
        meter
            .connect(seen.query + seen.compress + seen.project, times.query + times.compress + times.project);
        meter.prefill(prefill_flops, prefill);
        meter.finished(busy);
        drop(meter);
        // The server's own answer counts for nobody.
        if writing.job.place.is_some() {
            self.shared.metrics.answered(&done);
        }
        let Writing { job, .. } = writing;
        // The place is free, and the numbers say so, before the client hears of it: its next request finds one.
        let Job { events, place, .. } = job;
        drop(place);
        self.tell();
        _ = events.send(Event::Done(Box::new(done)));
    }

    fn tell(&self) {
        let metrics = &self.shared.metrics;
        metrics.queue(self.waiting.len(), self.looking.len() + self.looks.len(), self.writing.len());
        metrics.prefixes(self.batch.prefixes());
    }
}

/// The prompt with the images' rows in the place of their stand-ins.
fn with_images(prompt: Prompt, seen: &Seen) -> Prompt {
    let mut rows = seen.rows.iter();
    let parts = prompt.parts.into_iter().map(|part| match part {
        Part::Rows(stand_in) => Part::Rows(rows.next().cloned().unwrap_or(stand_in)),
        tokens => tokens,
    });
    Prompt { parts: parts.collect() }
}

fn failed(error: &ModelError) -> Failed {
    match error {
        ModelError::Tensor(_) | ModelError::Kernels(_) | ModelError::Scores { .. } => {
            Failed::Internal(error.to_string())
        }
        _ => Failed::Refused(error.to_string()),
    }
}
