//! `foveate batch`: many questions from a file, answered into another that can be continued.

mod journal;
mod rows;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use foveate_compress::Budget;
use foveate_data::image::{Limits, decode_file};
use foveate_model::generate::{GenerateOptions, Session};
use foveate_model::vlm::CachesStatistics;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::Outcome;
use crate::answer::{Answer, generate};
use crate::auto::{Ask, Auto, AutoFlags, look};
use crate::failure::Failure;
use crate::generation::{Generation, Threads};
use crate::looking::Compression;
use crate::model::{Model, Place, one_question};
use crate::output::{check_place, print, print_json};
use journal::{Journal, Line};

/// Answer the questions of a JSONL file, one JSON line each.
///
/// A row of IN is {"question": …, "image": FILE} or {"question": …, "images": [FILE, …]}, and may have an "id"; paths are
/// seen from the folder of IN, or from --image-folder. OUT gets a line for each, in order: what `ask --json` prints, with
/// `row`, `id` and `question`. An interrupted run continues where it ended when it is started again. Images and questions
/// that come again are not computed again. A row that cannot be answered gets a line with `error`; when such rows are
/// more than --skip-fraction of all, the run ends with an error. Such a row is not tried again; take its line and all behind
/// it out of OUT for that.
#[derive(Args)]
// The word in front is MODEL, never left out. Positions are named: `mut_arg` moves what it changes to the end.
#[command(mut_arg("model", |model| model.index(1).default_value(None::<&str>).required(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The questions.
    #[arg(index = 2, value_name = "IN.jsonl")]
    input: PathBuf,
    /// The answers; a file that holds the first of them is continued.
    #[arg(index = 3, value_name = "OUT.jsonl")]
    output: PathBuf,
    /// Where the rows' images are [default: the folder of IN].
    #[arg(long, value_name = "FOLDER")]
    image_folder: Option<PathBuf>,
    /// The share of rows that may fail, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = share)]
    skip_fraction: f64,
    #[command(flatten)]
    compression: Compression,
    #[command(flatten)]
    auto: AutoFlags,
    /// Instructions in front of every question.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document at the end.
    #[arg(long)]
    json: bool,
}

/// A budget for all rows, or what chooses one for each.
type Tokens = (Option<Budget>, Option<Auto>);

/// What `batch --json` prints.
#[derive(Serialize)]
struct Summary {
    rows: usize,
    answered: usize,
    failed: usize,
    /// Rows that OUT held before.
    continued: usize,
    /// `null` for a model without sight.
    caches: Option<CachesStatistics>,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a number from 0 to 1".to_owned())
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let options = self.generation.options()?;
        self.threads.apply()?;
        let count = rows::count(&self.input)?;
        check_place(&self.output)?;
        if let (Ok(input), Ok(output)) = (self.input.canonicalize(), self.output.canonicalize())
            && input == output
        {
            return Err(Failure::user(format!(
                "{}: OUT must be another file than IN",
                self.output.display()
            )));
        }
        let mut model = self.place.open()?;
        let tokens = self.auto.resolve(self.compression, &mut model)?;
        let mut journal = Journal::open(&self.output, &self.settings(&model, &tokens))?;
        let continued = journal.rows();
        self.judge(&journal, count)?;
        if continued > count {
            let (out, input) = (self.output.display(), self.input.display());
            return Err(Failure::user(format!(
                "{out} has {continued} rows, {input} only {count}; give another file"
            )));
        }
        let bar = ProgressBar::new(count as u64);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} rows, {eta} left") {
            bar.set_style(style);
        }
        bar.set_position(continued as u64);
        let mut session = Session::new(model.decoder.clone());
        for row in rows::read(&self.input)? {
            let row = row?;
            if row.number < continued {
                journal.check(&row, &self.input)?;
                continue;
            }
            let answered = match &row.content {
                Ok(asked) => self.answer(&model, &mut session, asked, &tokens, &options),
                Err(reason) => Err(Failure::user(reason)),
            };
            // What is wrong with a row is told in its place; what is wrong with the machine ends the run.
            let answered = match answered {
                Ok(answer) => Ok(answer),
                Err(Failure::User(error)) => Err(error.to_string()),
                Err(other) => return Err(other),
            };
            if let Err(reason) = &answered {
                bar.println(format!("row {}: {reason}", row.number + 1));
            }
            journal.write(&Line::new(&row, answered))?;
            self.judge(&journal, count)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.judge(&journal, count)?;
        let (rows, failed) = (journal.rows(), journal.failed());
        let caches = model.viewer().map(|viewer| viewer.caches().statistics());
        let summary = Summary { rows, answered: rows - failed, failed, continued, caches };
        if self.json { print_json(&summary) } else { print(&summary.text(&self.output)) }
    }

    /// All that the answers depend on besides the rows: a file of other answers must not be continued.
    fn settings(&self, model: &Model, (budget, auto): &Tokens) -> String {
        let compressor = model.viewer().map(|viewer| viewer.vlm().compressor().method());
        let Arguments { system, generation, image_folder, .. } = self;
        let (Place { tower, language, mmproj, dtype, .. }, size) = (&self.place, self.compression.image_size);
        let auto = auto.as_ref().map_or(String::new(), Auto::settings);
        format!(
            "{} {tower:?} {language:?} {mmproj:?} {dtype} {compressor:?} {budget:?} {size:?} {system:?} {generation:?} {image_folder:?}{auto}",
            model.name
        )
    }

    fn answer(
        &self,
        model: &Model,
        session: &mut Session,
        row: &rows::Asked,
        (budget, auto): &Tokens,
        options: &GenerateOptions,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let beside = self.input.parent().unwrap_or(Path::new(""));
        let folder = self.image_folder.as_deref().unwrap_or(beside);
        let limits = Limits::default();
        let decode = |name: &String| decode_file(&folder.join(name), &limits);
        let images = row.images.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        let decode = started.elapsed();
        let messages = one_question(self.system.as_deref(), &row.question);
        let (question, new_tokens) = (row.question.as_str(), options.max_tokens);
        let ask = Ask { images: &images, question, messages: &messages, new_tokens, decode };
        let looked = look(model, &ask, *budget, auto.as_ref())?;
        let asked = model.prompt(&messages, &looked.rows())?;
        let quiet = |_: &str| ControlFlow::Continue(());
        generate(model, session, &asked, &looked, options, started.elapsed(), quiet)
    }

    /// Ends the run when more rows failed than may.
    fn judge(&self, journal: &Journal, count: usize) -> Outcome {
        let failed = journal.failed();
        if failed as f64 <= self.skip_fraction * count as f64 {
            return Ok(());
        }
        Err(Failure::user(format!(
            "{}: {failed} of {count} rows cannot be answered, more than --skip-fraction {} allows; {} says why of each",
            self.input.display(),
            self.skip_fraction,
            self.output.display()
        )))
    }
}

impl Summary {
    fn text(&self, output: &Path) -> String {
        let mut text = format!("{}: {} rows answered", output.display(), self.answered);
        if self.failed > 0 {
            text += &format!(", {} failed", self.failed);
        }
        if self.continued > 0 {
            text += &format!(", {} of them in an earlier run", self.continued);
        }
        if let Some(caches) = &self.caches {
            let parts = [
                ("images", caches.towers),
                ("visual tokens", caches.tokens),
                ("questions", caches.questions),
            ];
            for (name, cache) in parts {
                let asked = cache.hits + cache.misses;
                if asked > 0 {
                    text += &format!(
                        "\n  {name}: {} of {asked} from the cache, {} bytes held",
                        cache.hits, cache.bytes
                    );
                }
            }
        }
        text
    }
}
