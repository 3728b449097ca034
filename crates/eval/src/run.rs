//! A task, asked question by question.

use std::time::{Duration, Instant};

use foveate_data::Picture;
use foveate_data::image::Image;

use crate::journal::Journal;
use crate::metric::{Expected, Judgement};
use crate::sample::{Answered, Outcome, Sample};
use crate::task::Task;
use crate::{EvalError, Figures, Item};

/// The part of the questions that may fail before a task does.
const TOLERATED: f64 = 0.01;

/// What a system is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The pictures, in order.
    pub pictures: &'a [Image],
    /// The whole question, instructions included.
    pub text: &'a str,
    /// What a compressor that reads the question reads in its place: a control. Only the compressor reads it.
    pub looked_for: Option<&'a str>,
    /// Where the answer is to be the likeliest of some: these.
    pub candidates: Option<&'a [String]>,
    /// Longest generated answer, in tokens.
    pub max_new_tokens: usize,
}

/// What a system answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The answer, or the likeliest candidate.
    pub text: String,
    /// The number of that candidate; `None` for an answer that was generated.
    pub chosen: Option<usize>,
    /// Positions that stood for pictures.
    pub visual_tokens: usize,
    /// FLOPs from the pixels to the last token, as of a first question about a new picture.
    pub flops: f64,
    /// Milliseconds of the same.
    pub ms: f64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Trouble<E> {
    /// It lies with this question.
    Question(String),
    /// It ends the run.
    System(E),
}

/// Something that answers questions about pictures: a model with a compressor and a number of visual tokens.
pub trait System {
    /// What ends a run.
    type Error: From<EvalError>;

    /// Answers one question; equal questions get equal answers.
    ///
    /// # Errors
    /// [`Trouble`], one kind or the other.
    fn ask(&mut self, question: &Question<'_>) -> Result<Reply, Trouble<Self::Error>>;
}

/// How far a task is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Questions asked, those of earlier runs included.
    pub asked: usize,
    /// All of them.
    pub of: usize,
    /// What the rest will take, as the questions of this run did.
    pub left: Option<Duration>,
}

/// Asks all questions of a task that the journal does not hold yet.
///
/// # Errors
/// Those of the system and of the journal; more questions that fail than one in a hundred.
pub fn run<S: System>(
    task: &Task,
    system: &mut S,
    journal: &mut Journal,
    observe: &mut dyn FnMut(Progress),
) -> Result<(), S::Error> {
    let of = task.items.len();
    let earlier = journal.samples().len();
    let matches = journal.samples().iter().zip(&task.items).all(|(sample, item)| sample.id == item.id);
    if earlier > of || !matches {
        let reason =
            "the samples of an earlier run answer other questions; remove them, or choose another place";
        return Err(EvalError::format(format!("task {}", task.name), reason).into());
    }
    if tolerate(task, journal).is_err() {
        // What made questions fail may be mended by now.
        journal.forget_from_first_failure()?;
    }
    let earlier = journal.samples().len();
    let started = Instant::now();
    for (nth, item) in task.items.iter().enumerate().skip(earlier) {
        let question = task.prompt.ask(item);
        let looked_for = task.looked_for(nth);
        let outcome = match ask(task, item, &question, looked_for.as_deref(), system) {
            Ok(outcome) => outcome,
            Err(Trouble::Question(failure)) => Outcome::Failed { failure },
            Err(Trouble::System(error)) => return Err(error),
        };
        journal.add(&Sample { looked_for, ..Sample::new(item, question, outcome) })?;
        tolerate(task, journal)?;
        let (asked, own) = (nth + 1, nth + 1 - earlier);
        let left = started.elapsed().mul_f64((of - asked) as f64 / own as f64);
        observe(Progress { asked, of, left: Some(left) });
    }
    Ok(())
}

fn ask<S: System>(
    task: &Task,
    item: &Item,
    question: &str,
    looked_for: Option<&str>,
    system: &mut S,
) -> Result<Outcome, Trouble<S::Error>> {
    let pictures = item.pictures.iter().map(Picture::image).collect::<Result<Vec<_>, _>>();
    let pictures = pictures.map_err(|error| Trouble::Question(error.to_string()))?;
    let candidates = task.candidates(item);
    let reply = system.ask(&Question {
        pictures: &pictures,
        text: question,
        looked_for,
        candidates: candidates.as_deref(),
        max_new_tokens: task.max_new_tokens,
    })?;
    let judgement = match (reply.chosen, &item.expected) {
        // Candidates stand for the options in their order; no text has to be read.
        (Some(option), Expected::Option(right)) if option < item.options.len() => {
            Judgement::of_option(Some(option), *right)
        }
        _ => task.metric.judge(&reply.text, &item.options, &item.expected),
    };
    Ok(Outcome::Answered(Answered {
        answer: reply.text,
        read: judgement.read,
        score: judgement.score,
        visual_tokens: reply.visual_tokens,
        flops: reply.flops,
        ms: reply.ms,
    }))
}

fn tolerate(task: &Task, journal: &Journal) -> Result<(), EvalError> {
    let failures = journal.samples().iter().filter_map(|sample| match &sample.outcome {
        Outcome::Failed { failure } => Some(failure),
        Outcome::Answered(_) => None,
    });
    let (asked, failed) = (task.items.len(), failures.clone().count());
    match failures.clone().next() {
        Some(first) if failed > (TOLERATED * asked as f64) as usize => {
            Err(EvalError::Failed { task: task.name.clone(), failed, asked, first: first.clone() })
        }
        _ => Ok(()),
    }
}

/// The figures of a finished task.
///
/// # Errors
/// [`EvalError::Failed`] where nothing was answered.
pub fn figures(task: &Task, samples: &[Sample]) -> Result<Figures, EvalError> {
    Figures::new(task.metric, samples, SEED).ok_or_else(|| EvalError::Failed {
        task: task.name.clone(),
        failed: samples.len(),
        asked: samples.len(),
        first: "nothing was answered".to_owned(),
    })
}

/// Of the bootstrap of every figure.
pub(crate) const SEED: u64 = 0;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::Header;
    use crate::metric::Metric;
    use crate::task::{Answering, TaskSpec};

    /// Answers yes to everything; fails at the question of this number and ends the run at another one.
    struct Yes {
        asked: usize,
        fails: usize,
        ends: usize,
    }

    impl System for Yes {
        type Error = EvalError;

        fn ask(&mut self, question: &Question<'_>) -> Result<Reply, Trouble<EvalError>> {
            assert_eq!(question.pictures.len(), 1);
            self.asked += 1;
            if self.asked == self.ends {
                return Err(Trouble::System(EvalError::format("machine", "on fire")));
            }
            if self.asked == self.fails {
                return Err(Trouble::Question("too long".into()));
            }
            Ok(Reply { text: "Yes.".into(), chosen: None, visual_tokens: 4, flops: 1.0, ms: 1.0 })
        }
    }

    fn task(limit: usize) -> Task {
        let text = format!(
            "data = {{ kind = \"scenes\", split = \"validation\", seed = 1, length = 200, side = 16 }}\nlimit = {limit}"
        );
        TaskSpec::parse("test", &text).unwrap().open("scenes").unwrap()
    }

    fn header(task: &Task) -> Header {
        Header {
            task: task.name.clone(),
            metric: task.metric,
            family: task.family_name().into(),
            model: "yes".into(),
            compressor: "none".into(),
            visual_tokens: "4".into(),
            split: Some(task.split.clone()),
            run: task.digest.clone(),
        }
    }

    #[test]
    fn a_run_that_ended_goes_on_to_the_same_samples() {
        let folder = tempfile::tempdir().unwrap();
        let task = task(120);
        let open = |name: &str| Journal::open(&folder.path().join(name), &header(&task)).unwrap().unwrap();
        let run_to = |journal: &mut Journal, ends| {
            let mut seen = 0;
            let ended = run(&task, &mut Yes { asked: 0, fails: 0, ends }, journal, &mut |at| seen = at.asked);
            (ended, seen)
        };
        let mut whole = open("whole");
        assert_eq!(run_to(&mut whole, 0).1, 120);
        let mut cut = open("cut");
        assert_eq!(run_to(&mut cut, 31).0.unwrap_err().to_string(), "machine: on fire");
        drop(cut);
        let mut cut = open("cut");
        assert_eq!(cut.samples().len(), 30);
        assert_eq!(run_to(&mut cut, 0).1, 120);
        assert_eq!(cut.samples(), whole.samples());
        let figures = figures(&task, cut.samples()).unwrap();
        let yes = |sample: &&Sample| sample.expected == Expected::Texts(vec!["yes".into()]);
        let right = whole.samples().iter().filter(yes).count();
        assert!((figures.score - right as f64 / 120.0).abs() < 1e-12 && right > 0);
    }

    /// Answers what the compressor was told to look for.
    struct Echo(Vec<(String, String)>);

    impl System for Echo {
        type Error = EvalError;

        fn ask(&mut self, question: &Question<'_>) -> Result<Reply, Trouble<EvalError>> {
            let read = question.looked_for.unwrap_or(question.text).to_owned();
            self.0.push((question.text.to_owned(), read.clone()));
            Ok(Reply { text: read, chosen: None, visual_tokens: 4, flops: 1.0, ms: 1.0 })
        }
    }

    #[test]
    fn a_control_changes_what_the_compressor_reads_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let text = "data = { kind = \"scenes\", split = \"validation\", seed = 1, length = 200, side = 16 }\nlimit = 40\n";
        let open =
            |more: &str| TaskSpec::parse("test", &format!("{text}{more}")).unwrap().open("scenes").unwrap();
        let (plain, control) = (open(""), open("shuffle_questions = 3"));
        assert_eq!((plain.family_name(), control.family_name()), ("reasoning", "control"));
        assert_ne!(plain.digest, control.digest);
        let asked = |task: &Task, name: &str| {
            let mut journal = Journal::open(&folder.path().join(name), &header(task)).unwrap().unwrap();
            let mut echo = Echo(Vec::new());
            run(task, &mut echo, &mut journal, &mut |_| ()).unwrap();
            (echo.0, journal.samples().to_vec())
        };
        let ((plain_asked, plain_samples), (control_asked, samples)) =
            (asked(&plain, "plain"), asked(&control, "control"));
        let texts = |asked: &[(String, String)]| asked.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&plain_asked), texts(&control_asked), "the language model is asked the same");
        assert!(plain_asked.iter().all(|(text, read)| text == read));
        assert!(control_asked.iter().all(|(text, read)| text != read));
        // Samples say what was read, and that they are of a control.
        assert!(plain_samples.iter().all(|sample| sample.looked_for.is_none()));
        for (sample, (text, read)) in samples.iter().zip(&control_asked) {
            assert_eq!((&sample.question, sample.looked_for.as_ref()), (text, Some(read)));
        }
        let error = TaskSpec::parse("test", &text.replace("40", "1")).unwrap();
        let error = TaskSpec { shuffle_questions: Some(1), ..error }.open("one").unwrap_err().to_string();
        assert!(error.contains("`shuffle_questions`") && error.contains("another picture"), "{error}");
    }

    #[test]
    fn one_question_in_a_hundred_may_fail() {
        let folder = tempfile::tempdir().unwrap();
        for (limit, passes) in [(100, true), (99, false)] {
            let task = task(limit);
            let path = folder.path().join(limit.to_string());
            let mut journal = Journal::open(&path, &header(&task)).unwrap().unwrap();
            let ended = run(&task, &mut Yes { asked: 0, fails: 7, ends: 0 }, &mut journal, &mut |_| ());
            assert_eq!(ended.is_ok(), passes);
            if let Err(error) = ended {
                assert_eq!(
                    error.to_string(),
                    "task scenes: 1 of 99 questions could not be asked; the first: too long"
                );
                // Mended, it goes on from there.
                drop(journal);
                let mut journal = Journal::open(&path, &header(&task)).unwrap().unwrap();
                assert_eq!(journal.samples().len(), 7);
                let mut mended = Yes { asked: 0, fails: 0, ends: 0 };
                run(&task, &mut mended, &mut journal, &mut |_| ()).unwrap();
                assert_eq!((mended.asked, journal.samples().len()), (93, 99));
                drop(journal);
                let read = crate::journal::read(&path).unwrap().1;
                assert!(
                    read.len() == 99 && read.iter().all(|one| matches!(one.outcome, Outcome::Answered(_)))
                );
            }
        }
    }

    /// Takes the candidate of one number.
    struct Takes(usize);

    impl System for Takes {
        type Error = EvalError;

        fn ask(&mut self, question: &Question<'_>) -> Result<Reply, Trouble<EvalError>> {
            let text = question.candidates.unwrap()[self.0].clone();
            Ok(Reply { text, chosen: Some(self.0), visual_tokens: 4, flops: 1.0, ms: 1.0 })
        }
    }

    #[test]
    fn a_candidate_is_its_option_whatever_it_says() {
        let mut task = task(1);
        task.metric = Metric::Choice;
        let plain = task.items[0].clone();
        for (answering, options) in [
            (Answering::Letters, &["B", "A", "D"][..]),
            (Answering::Options, &["B", "A", "D"][..]),
            (Answering::Options, &["<", ">"][..]),
            (Answering::Options, &["-3", "3"][..]),
        ] {
            task.answering = answering;
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            let item = Item { options, expected: Expected::Option(1), ..plain.clone() };
            for (takes, score) in [(0, 0.0), (1, 1.0)] {
                let outcome = ask(&task, &item, "?", None, &mut Takes(takes)).unwrap();
                let Outcome::Answered(answered) = outcome else { panic!("{outcome:?}") };
                assert_eq!(answered.score, score, "{answering:?} {:?}", item.options);
            }
        }
    }
}
