//! `foveate chat`: a conversation, about images or without any.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use clap::Args;
use foveate_compress::Budget;
use foveate_data::image::Image;
use foveate_data::prompt::{Message, Role};
use foveate_model::generate::{GenerateOptions, Session};

use super::ask::Stream;
use crate::Outcome;
use crate::answer::{Answer, Looked, generate};
use crate::failure::Failure;
use crate::generation::{Generation, Threads};
use crate::looking::{Compression, Images};
use crate::model::{Asked, Model, Place};
use crate::output::print;

/// The longest message that is read, in bytes: more than any context holds.
const MOST_BYTES: u64 = 16 << 20;

/// Talk with a model, about images or without any.
///
/// At a terminal each line is a message, and Ctrl-D ends the conversation. What was said stays in memory, so that a turn
/// costs only what it adds; when the context is full, the oldest turns are forgotten. From a pipe or a file the whole of
/// standard input is one message: `foveate chat MODEL < question.txt`. Images stand in front of the first message. What a
/// compressor makes of them for that question stays for the whole conversation, which keeps later turns cheap, unless
/// --recompress has it look again with each question.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    compression: Compression,
    /// Compress the images again for the question of each turn; what was read of them before is read anew.
    #[arg(long)]
    recompress: bool,
    /// Instructions for the whole conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    threads: Threads,
    /// Print a JSON document on one line for each answer, and no stream.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let options = self.generation.options()?;
        self.threads.apply()?;
        let input = std::io::stdin();
        if input.is_terminal() {
            return self.converse(&options);
        }
        // Before the model is opened, which takes longer.
        let message = read_whole(input.lock())?;
        let mut conversation = Conversation::open(&self, &options)?;
        conversation.turn(&message, self.json)
    }

    fn converse(&self, options: &GenerateOptions) -> Outcome {
        let mut conversation = Conversation::open(self, options)?;
        loop {
            write!(anstream::stderr(), "> ")?;
            let message = match read_line(std::io::stdin().lock())? {
                Line::Message(message) => message,
                Line::Empty => continue,
                Line::Unreadable(reason) => {
                    writeln!(anstream::stderr(), "{reason}")?;
                    continue;
                }
                Line::End => {
                    // Ctrl-D leaves the cursor behind the prompt.
                    writeln!(anstream::stderr())?;
                    return Ok(());
                }
            };
            match conversation.turn(&message, self.json) {
                // What is wrong with one message is no reason to lose the others.
                Err(error @ Failure::User(_)) => _ = error.report(),
                turned => turned?,
            }
        }
    }
}

/// What was said and shown, and the language model that has read it.
struct Conversation<'a> {
    model: Model,
    session: Session,
    messages: Vec<Message>,
    images: Vec<Image>,
    /// The time that reading the images took, until it is counted in the first answer.
    decode: Duration,
    budget: Option<Budget>,
    recompress: bool,
    /// What the images became for the question that looked at them last.
    rows: Vec<Tensor>,
    options: &'a GenerateOptions,
}

impl<'a> Conversation<'a> {
    fn open(arguments: &Arguments, options: &'a GenerateOptions) -> Result<Self, Failure> {
        let (images, decode) = arguments.images.decode()?;
        let mut model = arguments.place.open()?;
        model.require_template()?;
        let budget = arguments.compression.apply(&mut model)?;
        let messages = arguments.system.iter().map(Message::system).collect();
        let (session, recompress) = (Session::new(model.decoder.clone()), arguments.recompress);
        Ok(Self { session, model, messages, images, decode, budget, recompress, rows: Vec::new(), options })
    }

    /// Answers a message on standard output and remembers both, or neither if it fails.
    fn turn(&mut self, message: &str, json: bool) -> Outcome {
        let mut stream = Stream::new(!json);
        let answer = self.answer(message, |text| stream.show(text))?;
        if json {
            return print(&serde_json::to_string(&answer)?);
        }
        stream.finish()
    }

    fn answer(
        &mut self,
        message: &str,
        show: impl FnMut(&str) -> std::ops::ControlFlow<()>,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let mut looked = Looked::default();
        let mut rows = self.rows.clone();
        if self.recompress || rows.is_empty() {
            looked.seen = self.model.look(&self.images, message, self.budget)?;
            looked.decode = self.decode;
            rows = looked.rows();
        }
        let mut messages = self.messages.clone();
        messages.push(Message::user(message));
        let asked = self.fitting(&mut messages, &rows)?;
        let before = looked.decode + started.elapsed();
        let answer = generate(&self.model, &mut self.session, &asked, &looked, self.options, before, show)?;
        messages.push(Message::assistant(answer.text()));
        self.messages = messages;
        self.rows = rows;
        self.decode = Duration::ZERO;
        Ok(answer)
    }

    /// The prompt of `messages`, of which the oldest turns go until an answer has room in the context. The last question
    /// stays: whether that one fits is for the model to say.
    fn fitting(&self, messages: &mut Vec<Message>, rows: &[Tensor]) -> Result<Asked, Failure> {
        let context = self.model.decoder.config().context;
        let mut forgotten = 0;
        loop {
            let asked = self.model.prompt(messages, rows)?;
            let needed = asked.text_tokens + asked.visual_tokens + self.options.max_tokens;
            let oldest = messages.iter().position(|message| message.role == Role::User);
            match oldest {
                Some(oldest) if needed > context && oldest + 2 < messages.len() => {
                    messages.drain(oldest..oldest + 2);
                    forgotten += 1;
                }
                _ => {
                    if forgotten > 0 {
                        let (s, of) = (if forgotten == 1 { "" } else { "s" }, context);
                        writeln!(
                            anstream::stderr(),
                            "(context of {of} full: {forgotten} oldest turn{s} forgotten)"
                        )?;
                    }
                    return Ok(asked);
                }
            }
        }
    }
}

/// What a person typed.
#[derive(Debug, PartialEq)]
enum Line {
    Message(String),
    Empty,
    Unreadable(&'static str),
    End,
}

fn read_line(input: impl BufRead) -> Result<Line, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(MOST_BYTES).read_until(b'\n', &mut bytes);
    if read.map_err(|error| Failure::user(format!("standard input: {error}")))? == 0 {
        return Ok(Line::End);
    }
    let Ok(line) = String::from_utf8(bytes) else {
        return Ok(Line::Unreadable("(that line is no UTF-8 text; type it again)"));
    };
    let message = line.trim_end_matches(['\n', '\r']);
    Ok(if message.trim().is_empty() { Line::Empty } else { Line::Message(message.to_owned()) })
}

/// All of `input` as one message, without the line break at its end.
fn read_whole(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::user(format!("standard input: {error}")))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(Failure::user(format!("standard input: more than {MOST_BYTES} bytes for one message")));
    }
    let message = text.trim_end_matches(['\n', '\r']);
    if message.trim().is_empty() {
        return Err(Failure::user("standard input: no message; text is needed, or a terminal to talk at"));
    }
    Ok(message.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ops::ControlFlow;
    use std::path::Path;

    use foveate_model::Dtype;

    use super::*;
    use crate::fetch::Fetch;

    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/llama-untied");

    impl Conversation<'_> {
        /// With a session of the model that it has now.
        fn renewed(mut self) -> Self {
            self.session = Session::new(self.model.decoder.clone());
            self
        }
    }

    fn conversation(options: &GenerateOptions) -> Conversation<'_> {
        let place = Place {
            model: MODEL.to_owned(),
            mmproj: None,
            tower: None,
            language: None,
            dtype: Dtype::F32,
            fetch: Fetch::default(),
        };
        let model = place.open().unwrap();
        Conversation {
            session: Session::new(model.decoder.clone()),
            model,
            messages: Vec::new(),
            images: Vec::new(),
            decode: Duration::ZERO,
            budget: None,
            recompress: false,
            rows: Vec::new(),
            options,
        }
    }

    #[test]
    fn a_second_turn_is_answered_as_if_all_had_been_read_anew() {
        let options = GenerateOptions { max_tokens: 8, ..GenerateOptions::default() };
        let mut talk = conversation(&options);
        let ignore = |_: &str| ControlFlow::Continue(());
        talk.answer("What colour is the small square?", ignore).unwrap();
        let kept = talk.session.len();
        let second = talk.answer("And the large one?", ignore).unwrap();
        assert!(talk.session.len() > kept);

        let mut fresh = conversation(&options);
        fresh.messages = talk.messages[..2].to_vec();
        let alone = fresh.answer("And the large one?", ignore).unwrap();
        assert_eq!(second.text(), alone.text());
        // What was read in the first turn is not counted again.
        let flops = |answer: &Answer| serde_json::to_value(answer).unwrap()["flops"].as_f64().unwrap();
        assert!(flops(&second) < 0.8 * flops(&alone), "{} {}", flops(&second), flops(&alone));
    }

    #[test]
    fn a_full_context_forgets_the_oldest_turns_and_keeps_the_instructions() {
        let options = GenerateOptions { max_tokens: 40, ..GenerateOptions::default() };
        let mut talk = conversation(&options);
        talk.messages.push(Message::system("Be brief."));
        let ignore = |_: &str| ControlFlow::Continue(());
        // The context is 512 tokens of about a character each.
        let long = "word ".repeat(30);
        for _ in 0..4 {
            talk.answer(&long, ignore).unwrap();
        }
        assert_eq!(talk.messages[0].role, Role::System);
        assert_eq!(talk.messages[1].role, Role::User);
        assert!(talk.messages.len() < 9, "{}", talk.messages.len());
        // A question that never fits is refused, and the conversation goes on without it.
        let before = talk.messages.clone();
        let failure = talk.answer(&"word ".repeat(3000), ignore).err().unwrap();
        assert!(matches!(&failure, Failure::User(error) if error.to_string().contains("512")), "{failure:?}");
        assert_eq!(talk.messages, before);
        talk.answer("And now?", ignore).unwrap();
    }

    /// A conversation about the cat with an elastic QueCC, four tokens.
    fn seeing(options: &GenerateOptions, recompress: bool) -> Conversation<'_> {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");
        let model = format!("{fixtures}/models/compressed-elastic");
        let place = Place {
            model,
            mmproj: None,
            tower: None,
            language: None,
            dtype: Dtype::F32,
            fetch: Fetch::default(),
        };
        let cat = Path::new(fixtures).join("images/cat.png");
        let image = foveate_data::image::decode_file(&cat, &foveate_data::image::Limits::default()).unwrap();
        let (model, budget) = (place.open().unwrap(), Some(Budget::Tokens(4)));
        Conversation { model, images: vec![image], budget, recompress, ..conversation(options) }.renewed()
    }

    fn values(rows: &[Tensor]) -> Vec<Vec<f32>> {
        rows[0].to_vec2().unwrap()
    }

    #[test]
    fn the_first_question_decides_what_is_seen_unless_told_to_look_again() {
        let options = GenerateOptions { max_tokens: 4, ..GenerateOptions::default() };
        let ignore = |_: &str| ControlFlow::Continue(());
        let query = |answer: &Answer| answer.ms.query;
        let mut kept = seeing(&options, false);
        assert!(query(&kept.answer("What colour is it?", ignore).unwrap()) > 0.0);
        let first = values(&kept.rows);
        assert_eq!(query(&kept.answer("How many?", ignore).unwrap()), 0.0);
        assert_eq!(values(&kept.rows), first);

        let mut again = seeing(&options, true);
        again.answer("What colour is it?", ignore).unwrap();
        assert_eq!(values(&again.rows), first);
        assert!(query(&again.answer("How many?", ignore).unwrap()) > 0.0);
        assert_ne!(values(&again.rows), first);
    }

    #[test]
    fn a_question_that_is_refused_decides_nothing() {
        let options = GenerateOptions { max_tokens: 4, ..GenerateOptions::default() };
        let ignore = |_: &str| ControlFlow::Continue(());
        let mut talk = seeing(&options, false);
        // It fits into the context of 512 alone, and not with image and template.
        let length = |question: &String| talk.model.question_tokens(question).unwrap().len();
        let long = (1..).map(|times| "z ".repeat(times)).find(|question| length(question) > 500).unwrap();
        assert!(length(&long) <= 512);
        assert!(talk.answer(&long, ignore).is_err());
        assert!(talk.rows.is_empty());
        talk.answer("What colour is it?", ignore).unwrap();
        let mut fresh = seeing(&options, false);
        fresh.answer("What colour is it?", ignore).unwrap();
        assert_eq!(values(&talk.rows), values(&fresh.rows));
    }

    #[test]
    fn lines_are_messages_until_the_end() {
        let mut input = &b"one two\r\n\n  \n\xc3\nlast"[..];
        let mut next = || read_line(&mut input).unwrap();
        assert_eq!(next(), Line::Message("one two".into()));
        assert_eq!((next(), next()), (Line::Empty, Line::Empty));
        assert!(matches!(next(), Line::Unreadable(_)));
        assert_eq!((next(), next()), (Line::Message("last".into()), Line::End));
    }

    #[test]
    fn one_message_keeps_its_lines() {
        assert_eq!(read_whole(&b"one\n\n two\r\n"[..]).unwrap(), "one\n\n two");
        assert!(read_whole(&b" \n"[..]).is_err());
        assert!(read_whole(&b"\xff"[..]).is_err());
    }
}
