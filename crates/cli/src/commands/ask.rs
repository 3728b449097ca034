//! `foveate ask`: a question about images in, an answer out.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::Instant;

use clap::Args;
use foveate_model::generate::Session;

use crate::Outcome;
use crate::answer::generate;
use crate::auto::{Ask, AutoFlags, look};
use crate::generation::{Generation, Threads};
use crate::looking::{Compression, Images};
use crate::model::{Place, one_question};
use crate::output::print_json;
use crate::text::without_controls;

/// Answer a question, about images or without any.
///
/// The answer streams to standard output as it is made. Images come in front of the question, in the order given; where
/// the question holds `<image>`, each takes the place of one instead. A model without a chat template continues the
/// question's text. Without MODEL the one answers that is a part of this program.
#[derive(Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The question.
    question: String,
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    compression: Compression,
    #[command(flatten)]
    auto: AutoFlags,
    /// Instructions for the whole conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document with token counts and milliseconds per stage, and no stream.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let options = self.generation.options()?;
        self.place.check_question(&self.question)?;
        self.threads.apply()?;
        let (images, decode) = self.images.decode()?;
        let mut model = self.place.open()?;
        let (budget, auto) = self.auto.resolve(self.compression, &mut model)?;
        let started = Instant::now();
        let messages = one_question(self.system.as_deref(), &self.question);
        let (question, new_tokens) = (self.question.as_str(), options.max_tokens);
        let ask = Ask { images: &images, question, messages: &messages, new_tokens, decode };
        let looked = look(&model, &ask, budget, auto.as_ref())?;
        let asked = model.prompt(&messages, &looked.rows())?;
        let mut session = Session::new(model.decoder.clone());
        let before = decode + started.elapsed();
        let mut stream = Stream::new(!self.json);
        let answer =
            generate(&model, &mut session, &asked, &looked, &options, before, |text| stream.show(text))?;
        stream.finish()?;
        if self.json { print_json(&answer) } else { Ok(()) }
    }
}

/// Standard output, piece by piece; what goes wrong there ends the answer and is told at the end.
pub(crate) struct Stream {
    shows: bool,
    /// A terminal obeys control characters, and a text in an image may tell a model to write them.
    terminal: bool,
    failed: Option<std::io::Error>,
}

impl Stream {
    pub(crate) fn new(shows: bool) -> Stream {
        Stream { shows, terminal: std::io::stdout().is_terminal(), failed: None }
    }

    pub(crate) fn show(&mut self, text: &str) -> ControlFlow<()> {
        if !self.shows {
            return ControlFlow::Continue(());
        }
        let shown = if self.terminal { without_controls(text) } else { text.into() };
        let mut out = std::io::stdout().lock();
        match out.write_all(shown.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// Ends the line.
    pub(crate) fn finish(mut self) -> Outcome {
        if self.failed.is_none() {
            _ = self.show("\n");
        }
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
