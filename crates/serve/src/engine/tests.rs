//! The engine with a tiny model: answers in company, and what becomes of jobs that end early.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use foveate_compress::Budget;
use foveate_data::image::{Frame, Image, Size};
use foveate_data::prompt::Message;
use foveate_model::Dtype;
use foveate_model::generate::{Draw, Finish, GenerateOptions, Part, Prompt, Sampling, Session};
use foveate_model::llm::Decoder;
use foveate_model::vlm::{Image as Pixels, Viewer, Vlm};
use tokenizers::Tokenizer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::backend::{Asked, Refusal};

/// A fixture's model; the engine asks for no prompts.
struct Tiny {
    viewer: Viewer,
    tokenizer: Tokenizer,
}

impl Backend for Tiny {
    fn decoder(&self) -> &Arc<Decoder> {
        self.viewer.vlm().decoder()
    }
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
    fn end_tokens(&self) -> &[u32] {
        &[]
    }
    fn image_token(&self) -> &str {
        "<image>"
    }
    fn viewer(&self) -> Option<&Viewer> {
        Some(&self.viewer)
    }
    fn prepare(&self, _: &Image) -> Result<Pixels, Refusal> {
        unreachable!("images come prepared")
    }
    fn frames(&self, _: Size) -> Vec<Frame> {
        unreachable!("nothing is drawn")
    }
    fn question(&self, _: &str) -> Result<Vec<u32>, Refusal> {
        unreachable!("no compressor asks")
    }
    fn prompt(&self, _: &[Message], _: &[Tensor]) -> Result<Asked, Refusal> {
        unreachable!("prompts come ready")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/llava-1.5")
}

fn tiny() -> Tiny {
    let vlm = Vlm::open(&folder(), None, Dtype::Bf16).unwrap();
    let tokenizer = Tokenizer::from_file(folder().join("tokenizer.json")).unwrap();
    Tiny { viewer: Viewer::new(vlm, Arc::default()), tokenizer }
}

fn start(schedule: Schedule) -> (Engine, JoinHandle<()>) {
    Engine::start(Arc::new(tiny()), schedule, Arc::new(Metrics::new(None))).unwrap()
}

/// A picture of the tower's size, different for each `seed`.
fn pixels(seed: usize) -> Tensor {
    let numbers = (0..3 * 28 * 28).map(|at| ((at * 31 + seed * 977) % 211) as f32 / 100.0 - 1.0);
    Tensor::from_iter(numbers, &Device::Cpu).unwrap().reshape((3, 28, 28)).unwrap()
}

/// The `nth` question: some about a picture, greedy and drawn, of several lengths.
fn asked(nth: usize) -> (Vec<Part>, Option<Tensor>, Sampling, usize) {
    let tokens = (0..6 + 9 * (nth % 4)).map(|at| 40 + ((at * 7 + nth) % 300) as u32).collect();
    let draw = Draw { seed: nth as u64, ..Draw::default() };
    let sampling = if nth.is_multiple_of(3) { Sampling::draw(draw) } else { Sampling::greedy() };
    let picture = nth.is_multiple_of(2).then(|| pixels(nth % 3));
    (vec![Part::Tokens(vec![1, 30]), Part::Tokens(tokens)], picture, sampling, 10 + 5 * (nth % 5))
}

fn job(nth: usize) -> (Job, UnboundedReceiver<Event>) {
    let (mut parts, picture, sampling, max_tokens) = asked(nth);
    let (events, inbox) = unbounded_channel();
    if picture.is_some() {
        parts.insert(1, Part::Rows(Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap()));
    }
    let now = Instant::now();
    let job = Job {
        prompt: Prompt { parts },
        pictures: picture
            .into_iter()
            .map(|pixels| Picture { pixels: Pixels::Single(pixels), question: None })
            .collect(),
        budget: Some(Budget::Tokens(16)),
        answering: Answering { sampling, max_tokens, stop: Vec::new(), alternatives: None },
        accepted: now,
        deadline: now + Duration::from_secs(600),
        decode_image: Duration::ZERO,
        text_tokens: 0,
        events,
        place: None,
    };
    (job, inbox)
}

/// What a job's client hears: the text and the end.
fn hear(mut inbox: UnboundedReceiver<Event>) -> Result<(String, Done), Failed> {
    let mut text = String::new();
    loop {
        match inbox.blocking_recv().expect("every job ends with a word") {
            Event::Started => {}
            Event::Piece(piece) => text += &piece.text,
            Event::Done(done) => return Ok((text, *done)),
            Event::Failed(failed) => return Err(failed),
        }
    }
}

fn alone(tiny: &Tiny, nth: usize) -> String {
    let (mut parts, picture, sampling, max_tokens) = asked(nth);
    if let Some(pixels) = picture {
        let rows = tiny.viewer.vlm().image_rows(&Pixels::Single(pixels)).unwrap();
        parts.insert(1, Part::Rows(rows));
    }
    let options =
        GenerateOptions { sampling, max_tokens, end_tokens: Some(Vec::new()), ..GenerateOptions::default() };
    let mut session = Session::new(tiny.decoder().clone());
    let quiet = |_: &str| std::ops::ControlFlow::Continue(());
    session.generate(&Prompt { parts }, &options, &tiny.tokenizer, quiet).unwrap().text
}

#[test]
fn answers_in_company_are_those_alone() {
    let tiny = tiny();
    for schedule in [
        Schedule::default(),
        Schedule { parallel: 3, prefix_bytes: 0, piece: 5, ..Schedule::default() },
        Schedule { parallel: 1, ..Schedule::default() },
    ] {
        let (engine, thread) = start(schedule);
        let inboxes: Vec<_> = (0..24)
            .map(|nth| {
                let (job, inbox) = job(nth);
                engine.submit(job).unwrap();
                inbox
            })
            .collect();
        for (nth, inbox) in inboxes.into_iter().enumerate() {
            let (text, done) = hear(inbox).unwrap();
            assert_eq!(text, alone(&tiny, nth), "{nth} with {schedule:?}");
            assert_eq!((done.finish, done.new_tokens), (Finish::MaxTokens, 10 + 5 * (nth % 5)));
            assert_eq!(done.image_tokens, if nth % 2 == 0 { 16 } else { 0 });
            assert!(done.flops > 0.0 && done.ms.total >= done.ms.first_token);
        }
        engine.stop(false);
        thread.join().unwrap();
        assert!(!engine.is_alive() && engine.submit(job(0).0).is_err());
    }
}

#[test]
fn a_picture_is_looked_at_once() {
    let tiny = tiny();
    let caches = tiny.viewer.caches().clone();
    let (engine, thread) =
        Engine::start(Arc::new(tiny), Schedule::default(), Arc::new(Metrics::new(None))).unwrap();
    // Pictures 0, 2, 1, 0, 2, 1.
    let inboxes: Vec<_> = [0, 2, 4, 6, 8, 10]
        .map(|nth| {
            let (job, inbox) = job(nth);
            engine.submit(job).unwrap();
            inbox
        })
        .into();
    for inbox in inboxes {
        hear(inbox).unwrap();
    }
    assert_eq!(caches.statistics().towers.misses, 3);
    engine.stop(false);
    thread.join().unwrap();
}

#[test]
fn a_client_that_went_away_costs_no_more() {
    let (engine, thread) = start(Schedule { parallel: 1, queue: 1, ..Schedule::default() });
    for nth in [0, 1] {
        let (mut job, inbox) = job(nth);
        job.answering.max_tokens = 400;
        job.place = Some(engine.place().unwrap());
        // Before it begins, and after the first piece.
        if nth == 0 {
            drop(inbox);
            engine.submit(job).unwrap();
        } else {
            engine.submit(job).unwrap();
            let mut inbox = inbox;
            while !matches!(inbox.blocking_recv().unwrap(), Event::Piece(_)) {}
        }
    }
    // Behind both in a queue of one place.
    let (last, inbox) = job(2);
    engine.submit(last).unwrap();
    hear(inbox).unwrap();
    assert_eq!(engine.accepted(), 0, "their places are free");
    let new = engine.shared().metrics.text().unwrap();
    assert!(!new.contains("kind=\"new\""), "neither was answered\n{new}");
    engine.stop(false);
    thread.join().unwrap();
}

#[test]
fn time_and_the_order_to_stop_end_jobs() {
    let (engine, thread) = start(Schedule::default());
    for nth in [0, 1] {
        let (mut late, inbox) = job(nth);
        late.deadline = Instant::now();
        engine.submit(late).unwrap();
        assert!(matches!(hear(inbox), Err(Failed::Deadline)));
    }
    let inboxes: Vec<_> = (0..4)
        .map(|nth| {
            let (mut long, inbox) = job(nth);
            long.answering.max_tokens = 450;
            engine.submit(long).unwrap();
            inbox
        })
        .collect();
    engine.stop(true);
    for inbox in inboxes {
        // One may have been quicker than the order.
        assert!(matches!(hear(inbox), Err(Failed::Stopped) | Ok(_)));
    }
    thread.join().unwrap();
    assert!(engine.shared.cancelled.load(Ordering::Relaxed));
}

#[test]
fn what_the_model_refuses_is_told_to_its_client_alone() {
    let (engine, thread) = start(Schedule::default());
    let (mut wrong, of_wrong) = job(1);
    wrong.prompt = Prompt::tokens(vec![9; 513]);
    let (mut odd, of_odd) = job(2);
    odd.budget = Some(Budget::Tokens(5));
    let (right, of_right) = job(3);
    for job in [wrong, odd, right] {
        engine.submit(job).unwrap();
    }
    let Err(Failed::Refused(told)) = hear(of_wrong) else { panic!("a prompt of 513 tokens was read") };
    assert!(told.contains("513") && told.contains("512"), "{told}");
    let Err(Failed::Refused(told)) = hear(of_odd) else { panic!("5 tokens were made") };
    assert!(told.contains("16"), "{told}");
    assert!(hear(of_right).is_ok());
    engine.stop(false);
    thread.join().unwrap();
}

#[test]
fn looks_ride_along_with_answers_and_end_as_they_do() {
    let tiny = tiny();
    let caches = tiny.viewer.caches().clone();
    let (engine, thread) = Engine::start(
        Arc::new(tiny),
        Schedule { parallel: 1, ..Schedule::default() },
        Arc::new(Metrics::new(None)),
    )
    .unwrap();
    let look = |seed: usize, tokens: usize, time: Duration| {
        let (told, reply) = tokio::sync::oneshot::channel();
        let picture = Picture { pixels: Pixels::Single(pixels(seed)), question: None };
        let (now, place) = (Instant::now(), Some(engine.place().unwrap()));
        let budget = Budget::Tokens(tokens);
        (Look { picture, budget, accepted: now, deadline: now + time, told, place }, reply)
    };
    let patience = Duration::from_secs(600);
    // Behind an answer that has the only place: looks need none.
    let (mut long, inbox) = job(0);
    long.answering.max_tokens = 400;
    engine.submit(long).unwrap();
    let (unheard, reply) = look(1, 16, patience);
    drop(reply);
    let (late, of_late) = look(2, 16, Duration::ZERO);
    let (odd, of_odd) = look(2, 5, patience);
    let (right, of_right) = look(2, 16, patience);
    for look in [unheard, late, odd, right] {
        engine.submit(look).unwrap();
    }
    let gaze = of_right.blocking_recv().unwrap().unwrap();
    // Identity: each token is its patch.
    let weights = gaze.weights[0].to_vec2::<f32>().unwrap();
    let is_own =
        |(token, row): (usize, &Vec<f32>)| row.iter().enumerate().all(|(at, w)| *w == f32::from(at == token));
    assert!(weights.len() == 16 && weights.iter().enumerate().all(is_own));
    assert!(matches!(of_late.blocking_recv().unwrap(), Err(Failed::Deadline)));
    let Err(Failed::Refused(told)) = of_odd.blocking_recv().unwrap() else { panic!("5 tokens looked") };
    assert!(told.contains("16"), "{told}");
    assert_eq!(hear(inbox).unwrap().1.new_tokens, 400, "they took nothing from the answer");
    assert_eq!(caches.statistics().towers.misses, 2, "nothing was looked at for a client that had gone");
    assert_eq!(engine.accepted(), 0);
    engine.stop(false);
    thread.join().unwrap();
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let (engine, thread) = start(Schedule { parallel: 1, queue: 1, ..Schedule::default() });
    let places = [engine.place().unwrap(), engine.place().unwrap()];
    let full = engine.place().unwrap_err();
    assert!(full.retry_after >= Duration::from_secs(1), "{full:?}");
    assert_eq!(engine.accepted(), 2);
    drop(places);
    assert!(engine.place().is_ok());
    engine.stop(false);
    thread.join().unwrap();
}
