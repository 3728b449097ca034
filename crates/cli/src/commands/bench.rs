//! `foveate bench`: what this machine can do at most, and what each stage of an answer takes on it.

mod card;
mod stages;
mod subject;
mod training;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use foveate_compress::{Budget, Method};
use foveate_data::image::{Limits, Preprocessor, decode_bytes};
use foveate_model::{Dtype, threads};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::looking::budget;
use crate::machine::profile_path;
use crate::model::dtypes;
use crate::output::{Outputs, check_place, print};
pub(crate) use card::processor;
use card::{Machine, Report, Row};
use stages::Text;
use subject::Subject;

/// What is measured unless the user says otherwise: LLaVA's tower before a small language model.
const DEFAULT_MODEL: &str = "shape:clip-vit-l-14-336+smollm2-135m";

/// Measure this machine and the stages of an answer on it.
///
/// First the most that registers and memory allow, then every stage: decoding an image, vision tower, question pass,
/// compression, projection, prefill, each decoded token. For each dtype, rounds take turns between all other settings, so
/// that a slow moment of the machine hits all of them. The result is a table and one line of JSON; the default model, and
/// any other with --profile, also leaves a machine profile that `foveate plan` reads for budgets of time.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to measure: a model as in `foveate ask`, a vision tower, or `shape:TOWER+LLM`, `shape:TOWER`, `shape:LLM` with
    /// names of the catalogue and made-up weights.
    #[arg(value_name = "MODEL", default_value = DEFAULT_MODEL)]
    model: String,
    /// Visual tokens to measure [default: four of the compressor's ladder].
    #[arg(long, value_name = "N,…", value_parser = budget, value_delimiter = ',')]
    visual_tokens: Vec<Budget>,
    /// What weights are kept as [default: bf16,int8 for shapes, as-stored for checkpoints].
    #[arg(long, value_name = "DTYPE,…", value_parser = dtypes(), value_delimiter = ',')]
    dtype: Vec<Dtype>,
    /// Numbers of threads [default: one for each core].
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// What makes visual tokens fewer [default: the model's own; QueCC for shapes].
    #[arg(long, value_name = "NAME")]
    compressor: Option<Method>,
    /// Text tokens of the question.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    text_tokens: u32,
    /// Tokens decoded for the time of one.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    new_tokens: u32,
    /// Rounds; medians and minima are taken over them.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Where the machine profile goes [default: machine.json in foveate's cache folder, for the default model only].
    #[arg(long, value_name = "FILE", conflicts_with = "no_profile")]
    profile: Option<PathBuf>,
    /// Write no machine profile.
    #[arg(long)]
    no_profile: bool,
    /// Print the line of JSON alone.
    #[arg(long)]
    json: bool,
    /// Answer cases on standard input, one JSON object a line, with {"ms": …}; for scripts that compare engines.
    #[arg(long, conflicts_with_all = ["profile", "no_profile", "json"])]
    worker: bool,
    #[command(flatten)]
    fetch: Fetch,
}

/// What `plan` reads, and where it comes from.
#[derive(Serialize)]
struct Profile<'a> {
    /// Of the largest stage that was measured.
    flops_per_second: f64,
    bytes_per_second: f64,
    model: &'a str,
    dtype: Dtype,
    threads: usize,
    machine: &'a Machine,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        if self.worker {
            return worker::run(&self.fetch);
        }
        let mut outputs = Outputs::default();
        // What a toy or a model of another size reaches says nothing about those that are planned.
        let own = self.model == DEFAULT_MODEL && self.threads.is_empty() && !self.no_profile;
        let profile = self.profile.clone().or_else(|| profile_path().filter(|_| own));
        match (&self.profile, &profile) {
            (Some(path), _) => _ = check_place(path)?,
            (None, Some(path)) => {
                let folder = path.parent().unwrap_or(path);
                std::fs::create_dir_all(folder)
                    .map_err(|error| Failure::user(format!("{}: {error}", folder.display())))?;
            }
            (None, None) => {}
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut threads: Vec<usize> = match self.threads.is_empty() {
            true => vec![cores],
            false => self.threads.iter().map(|threads| usize::from(*threads)).collect(),
        };
        threads.sort_unstable();
        threads.dedup();
        let machine = Machine::measure(&threads)?;
        let rows = self.rows(&threads)?;
        let report = Report { model: self.model.clone(), machine, rows };
        if let (Some(path), Some((row, flops_per_second))) = (&profile, report.fastest()) {
            let bytes_per_second = report.machine.bandwidth(row.threads);
            let (dtype, threads, machine) = (row.dtype, row.threads, &report.machine);
            let profile =
                Profile { flops_per_second, bytes_per_second, model: &self.model, dtype, threads, machine };
            outputs.stage_json(path, &profile)?;
        }
        outputs.commit()?;
        if self.json {
            return print_json_line(&report);
        }
        print(&report.card(profile.as_deref()))?;
        print_json_line(&report)
    }

    fn dtypes(&self) -> Vec<Dtype> {
        let mut asked = self.dtype.clone();
        asked.dedup();
        match (asked.is_empty(), self.model.starts_with("shape:")) {
            (false, _) => asked,
            (true, true) => vec![Dtype::Bf16, Dtype::Int8],
            (true, false) => vec![Dtype::AsStored],
        }
    }

    fn rows(&self, thread_counts: &[usize]) -> Result<Vec<Row>, Failure> {
        let (dtypes, mut rows) = (self.dtypes(), Vec::new());
        let bar = ProgressBar::new((dtypes.len() * (self.rounds as usize + 1)) as u64);
        for dtype in dtypes {
            threads::set(thread_counts.iter().copied().max().unwrap_or(1))?;
            let subject = Subject::open(&self.model, dtype, self.compressor, &self.fetch)?;
            self.check_lengths(&subject)?;
            let budgets = self.budgets(&subject)?;
            let mut samples = Samples { dtype, rows: Vec::new() };
            // The first round warms up and does not count.
            for round in 0..=self.rounds {
                for &count in thread_counts {
                    threads::set(count)?;
                    self.round(&subject, &budgets, count, &mut samples)?;
                }
                if round == 0 {
                    samples.rows.iter_mut().for_each(|row| row.samples.clear());
                }
                bar.inc(1);
            }
            rows.extend(samples.rows);
        }
        bar.finish_and_clear();
        rows.iter_mut().for_each(Row::summarise);
        Ok(rows)
    }

    /// Refuses what the model's context cannot hold, and a compressor for a model that sees nothing.
    fn check_lengths(&self, subject: &Subject) -> Result<(), Failure> {
        if let (Some(method), None) = (self.compressor, &subject.viewer) {
            return Err(Failure::user(format!(
                "--compressor {method}: {} has no tower before a language model",
                self.model
            )));
        }
        let Some(decoder) = &subject.decoder else { return Ok(()) };
        let (needed, context) = ((self.text_tokens + self.new_tokens) as usize, decoder.config().context);
        if needed <= context {
            return Ok(());
        }
        Err(Failure::user(format!(
            "--text-tokens {} and --new-tokens {}: the context holds {context} tokens",
            self.text_tokens, self.new_tokens
        )))
    }

    /// What was asked for, or four rungs spread over the ladder; zero visual tokens for a language model alone.
    fn budgets(&self, subject: &Subject) -> Result<Vec<Option<Budget>>, Failure> {
        let Some(viewer) = &subject.viewer else {
            if let Some(budget) = self.visual_tokens.first() {
                return Err(Failure::user(format!(
                    "--visual-tokens {budget}: {} has no tower before a language model",
                    self.model
                )));
            }
            return Ok(vec![None]);
        };
        if !self.visual_tokens.is_empty() {
            let ladder = viewer.vlm().ladder();
            return match self.visual_tokens.iter().find(|budget| !ladder.contains(**budget)) {
                Some(budget) => Err(Failure::user(format!(
                    "--visual-tokens {budget}: {} offers {ladder}",
                    viewer.vlm().compressor().method()
                ))),
                None => Ok(self.visual_tokens.iter().copied().map(Some).collect()),
            };
        }
        let rungs = subject.ladder();
        let last = rungs.len().saturating_sub(1);
        let mut chosen: Vec<Option<Budget>> =
            (0..4).filter_map(|i| rungs.get(last * i / 3)).copied().map(Some).collect();
        chosen.dedup();
        Ok(chosen)
    }

    /// Every stage once.
    fn round(
        &self,
        subject: &Subject,
        budgets: &[Option<Budget>],
        threads: usize,
        samples: &mut Samples,
    ) -> Result<(), Failure> {
        let text = Text { tokens: self.text_tokens as usize, new_tokens: self.new_tokens as usize };
        let mut add = |stage, visual, time: Duration, flops| samples.add(stage, visual, threads, time, flops);
        if let Some(time) = stages::tower(subject)? {
            add("tower", None, time, subject.tower_flops());
        }
        for budget in budgets {
            if let Some(budget) = budget {
                let Some(first) = stages::first_token(subject, *budget, text)? else { continue };
                let visual = Some(first.visual_tokens);
                add("query", visual, first.view.query, None);
                add("compress", visual, first.view.compress, None);
                add("project", visual, first.view.project, None);
                add(
                    "prefill",
                    visual,
                    first.prefill,
                    subject.prefill_flops(first.visual_tokens + text.tokens),
                );
                add("first_token", visual, first.total, None);
            } else if let Some(decoder) = &subject.decoder {
                add(
                    "prefill",
                    None,
                    stages::prefill(decoder, 0, text.tokens)?,
                    subject.prefill_flops(text.tokens),
                );
            }
        }
        if let Some(decoder) = &subject.decoder {
            add("decode", None, stages::decode(decoder, text.tokens, text.new_tokens)?, None);
        }
        if subject.tower.is_some() {
            add("decode_image", None, decode_image(subject)?, None);
        }
        Ok(())
    }
}

/// Time to decode a photo-sized JPEG and to make the tower's pixels of it.
fn decode_image(subject: &Subject) -> Result<Duration, Failure> {
    let failed = |error: image::ImageError| Failure::Other(error.into());
    let picture = image::RgbImage::from_fn(640, 480, |x, y| {
        image::Rgb([(x * 255 / 639) as u8, (y * 255 / 479) as u8, ((x ^ y) & 255) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Jpeg).map_err(failed)?;
    let side = subject.tower.as_ref().map_or(224, |tower| tower.config().image_size().height);
    let preprocessor = Preprocessor::clip(u32::try_from(side).unwrap_or(u32::MAX));
    let started = std::time::Instant::now();
    let image = decode_bytes("a made-up photo", bytes.get_ref(), &Limits::default())?;
    preprocessor.apply(&image)?;
    Ok(started.elapsed())
}

/// The rows of one dtype as they fill.
struct Samples {
    dtype: Dtype,
    rows: Vec<Row>,
}

impl Samples {
    fn add(
        &mut self,
        stage: &'static str,
        visual_tokens: Option<usize>,
        threads: usize,
        time: Duration,
        flops: Option<f64>,
    ) {
        let ms = time.as_secs_f64() * 1e3;
        let same =
            |row: &&mut Row| (row.stage, row.visual_tokens, row.threads) == (stage, visual_tokens, threads);
        match self.rows.iter_mut().find(same) {
            Some(row) => row.samples.push(ms),
            None => self.rows.push(Row::new(stage, visual_tokens, self.dtype, threads, flops, ms)),
        }
    }
}

/// One line, so that scripts can take the last one.
fn print_json_line(report: &Report) -> Outcome {
    let line = serde_json::to_string(report).map_err(|error| Failure::Other(error.into()))?;
    print(&line)
}
