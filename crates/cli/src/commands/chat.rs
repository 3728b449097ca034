//! `foveate chat`: a conversation with a language model.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::Instant;

use clap::Args;
use foveate_data::prompt::Message;
use foveate_model::generate::{GenerateOptions, Session};

use super::ask::Stream;
use crate::Outcome;
use crate::answer::{Answer, Looked, generate};
use crate::failure::Failure;
use crate::generation::{Generation, Threads};
use crate::model::{Model, Place};
use crate::output::print;

/// The longest message that is read, in bytes: more than any context holds.
const MOST_BYTES: u64 = 16 << 20;

/// Talk with a language model.
///
/// At a terminal each line is a message, and Ctrl-D ends the conversation. What was said stays in memory, so that a turn
/// costs only what it adds. From a pipe or a file the whole of standard input is one message:
///
///     foveate chat MODEL < question.txt
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
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
        let mut line = String::new();
        loop {
            write!(anstream::stderr(), "> ")?;
            line.clear();
            let read = std::io::stdin().lock().take(MOST_BYTES).read_line(&mut line);
            if read.map_err(|error| Failure::user(format!("standard input: {error}")))? == 0 {
                // Ctrl-D leaves the cursor behind the prompt.
                writeln!(anstream::stderr())?;
                return Ok(());
            }
            if !line.trim().is_empty() {
                conversation.turn(line.trim_end_matches(['\n', '\r']), self.json)?;
            }
        }
    }
}

/// What was said, and the language model that has read it.
struct Conversation<'a> {
    model: Model,
    session: Session,
    messages: Vec<Message>,
    options: &'a GenerateOptions,
}

impl<'a> Conversation<'a> {
    fn open(arguments: &Arguments, options: &'a GenerateOptions) -> Result<Self, Failure> {
        let model = arguments.place.open()?;
        model.require_template()?;
        let messages = arguments.system.iter().map(Message::system).collect();
        Ok(Self { session: Session::new(model.decoder.clone()), model, messages, options })
    }

    /// Answers a message on standard output and remembers both.
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
        self.messages.push(Message::user(message));
        let asked = self.model.prompt(&self.messages, &[])?;
        let before = started.elapsed();
        let looked = Looked::default();
        let answer = generate(&self.model, &mut self.session, &asked, &looked, self.options, before, show)?;
        self.messages.push(Message::assistant(answer.text()));
        Ok(answer)
    }
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

    use super::*;
    use crate::fetch::Fetch;

    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/llama-untied");

    fn conversation(options: &GenerateOptions) -> Conversation<'_> {
        let place = Place { model: MODEL.to_owned(), mmproj: None, tower: None, fetch: Fetch::default() };
        let model = place.open().unwrap();
        Conversation { session: Session::new(model.decoder.clone()), model, messages: Vec::new(), options }
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
    fn one_message_keeps_its_lines() {
        assert_eq!(read_whole(&b"one\n\n two\r\n"[..]).unwrap(), "one\n\n two");
        assert!(read_whole(&b" \n"[..]).is_err());
        assert!(read_whole(&b"\xff"[..]).is_err());
    }
}
