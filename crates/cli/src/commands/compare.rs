//! `foveate compare`: one question at several token budgets, side by side.

use std::time::Instant;

use clap::Args;
use foveate_compress::{Budget, Method};
use foveate_data::image::Image;
use foveate_law::cost::ImageSize;
use foveate_law::plot::Unit;
use foveate_model::generate::{GenerateOptions, Session};
use indicatif::ProgressBar;

use crate::Outcome;
use crate::answer::{Answer, Looked, generate};
use crate::failure::Failure;
use crate::generation::{Generation, Threads};
use crate::looking::{Images, budget, rungs};
use crate::model::{Model, Place, one_question};
use crate::output::{print, print_json};
use crate::text;

/// Characters of an answer in the table.
const MOST_SHOWN: usize = 60;

/// Ask one question at several token budgets and show answers, times and FLOPs side by side.
///
/// Each row runs everything from the pixels on, as a first question about a new image would: nothing is cached between
/// rows. The decoding of the file is left out.
#[derive(Args)]
#[command(allow_missing_positional = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The question.
    question: String,
    #[command(flatten)]
    images: Images,
    /// Budgets to compare, such as 1,4,16,36,144,576 [default: the compressor's ladder].
    #[arg(long, value_name = "N,…", value_parser = budget, value_delimiter = ',')]
    visual_tokens: Vec<Budget>,
    /// Compressors to compare; each is tried at the budgets that it offers [default: the checkpoint's own].
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    compressor: Vec<Method>,
    /// Sizes that images are down-scaled to, in pixels on a side: the baseline [default: what the tower was trained on].
    #[arg(long, value_name = "PIXELS,…", value_delimiter = ',')]
    image_size: Vec<usize>,
    #[command(flatten)]
    generation: Generation,
    #[command(flatten)]
    threads: Threads,
    /// Print a JSON list with what `ask --json` prints for each row.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let options = self.generation.options()?;
        self.place.check_question(&self.question)?;
        self.threads.apply()?;
        let (images, _) = self.images.decode()?;
        if images.is_empty() {
            return Err(Failure::user("--image: at least one is needed, whose tokens are to be compared"));
        }
        let model = self.place.open()?;
        let rows = self.rows(&model)?;
        let bar = ProgressBar::new(rows.len() as u64);
        let mut answers = Vec::with_capacity(rows.len());
        for (model, budget) in rows {
            answers.push(self.answer(&model.with_fresh_caches(), &images, budget, &options)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        if self.json { print_json(&answers) } else { print(&table(&answers)) }
    }

    /// What is tried, in the order of the flags.
    fn rows(&self, model: &Model) -> Result<Vec<(Model, Budget)>, Failure> {
        let own = model.seeing()?.vlm().compressor().method();
        let methods = if self.compressor.is_empty() { vec![own] } else { self.compressor.clone() };
        let sizes: Vec<Option<usize>> = match self.image_size.is_empty() {
            true => vec![None],
            false => self.image_size.iter().copied().map(Some).collect(),
        };
        let mut rows = Vec::new();
        let mut ladders = Vec::new();
        for (size, method) in sizes.iter().flat_map(|size| methods.iter().map(|method| (*size, *method))) {
            let mut model = model.clone();
            model.use_compressor(method)?;
            if let Some(size) = size {
                model = model.at_image_size(size)?;
            }
            let ladder = model.seeing()?.vlm().ladder();
            let wanted =
                if self.visual_tokens.is_empty() { rungs(&ladder) } else { self.visual_tokens.clone() };
            let offered = wanted.into_iter().filter(|budget| ladder.contains(*budget));
            rows.extend(offered.map(|budget| (model.clone(), budget)));
            ladders.push(format!("{method} offers {ladder}"));
        }
        // A budget that nobody offers is a mistake; one that some method lacks is what a comparison is about.
        match self.visual_tokens.iter().find(|budget| !rows.iter().any(|(_, offered)| offered == *budget)) {
            None => Ok(rows),
            Some(budget) => Err(Failure::user(format!("{budget} visual tokens: {}", ladders.join("; ")))),
        }
    }

    fn answer(
        &self,
        model: &Model,
        images: &[Image],
        budget: Budget,
        options: &GenerateOptions,
    ) -> Result<Answer, Failure> {
        let started = Instant::now();
        let seen = model.look(images, &self.question, Some(budget))?;
        let looked = Looked { seen, ..Looked::default() };
        let asked = model.prompt(&one_question(None, &self.question), &looked.rows())?;
        let mut session = Session::new(model.decoder.clone());
        let before = started.elapsed();
        let quiet = |_: &str| std::ops::ControlFlow::Continue(());
        generate(model, &mut session, &asked, &looked, options, before, quiet)
    }
}

/// The side of a square, else height and width.
fn pixels(size: ImageSize) -> String {
    size.side().map_or_else(|| size.to_string(), |side| side.to_string())
}

fn table(answers: &[Answer]) -> String {
    let milliseconds = |value: f64| if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let row = |answer: &Answer| {
        let ms = &answer.ms;
        let stages = [ms.tower, ms.query, ms.compress, ms.project, ms.prefill, ms.first_token];
        let size = answer.image_size.map_or_else(String::new, pixels);
        let mut cells = vec![answer.compressor.to_string(), size, answer.visual_tokens.to_string()];
        cells.extend(stages.map(milliseconds));
        cells.push(ms.decode_per_token.map_or_else(|| "–".to_owned(), milliseconds));
        cells.push(milliseconds(ms.total));
        cells.push(Unit::Flops.format(answer.flops));
        cells.push(shortened(answer.text()));
        cells
    };
    let header = [
        "compressor",
        "pixels",
        "tokens",
        "tower",
        "query",
        "compress",
        "project",
        "prefill",
        "first token",
        "per token",
        "total ms",
        "FLOPs",
        "answer",
    ];
    let rows: Vec<Vec<String>> = answers.iter().map(row).collect();
    text::aligned(&header, &rows, |column| column == 0 || column == header.len() - 1)
}

/// An answer on one line.
fn shortened(answer: &str) -> String {
    let line = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = text::without_controls(&line).into_owned();
    match line.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_one_short_line() {
        assert_eq!(shortened("two\n lines \u{1b}[31m"), "two lines \u{fffd}[31m");
        assert_eq!(shortened(&"é".repeat(100)).chars().count(), MOST_SHOWN + 1);
    }
}
