//! `foveate convert`: a model's weights written again with smaller numbers.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use foveate_law::Unit;
use foveate_model::weights::convert::{Converted, Options, Progress, Target, convert};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::model::{Family, is_gguf, read_config};
use crate::output::{print, print_json};
use crate::text;

/// Write a model's weights again as bf16 or as signed bytes.
///
/// IN is a folder that `foveate inspect` knows, or FILE.gguf; OUT becomes the same. In a folder int8 keeps the matrices of
/// linear layers as bytes with a scale for each row, q8_0 with a scale for each 32 numbers, in the layout of the
/// compressed-tensors library; norms, biases, embeddings, convolutions, the output head and layers that do not fit stay
/// bf16, and everything else in the folder is copied. In a GGUF file matrices become BF16 or Q8_0. OUT appears when it is
/// whole, written, read back and compared: an interrupted run leaves what was there before.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The model's folder or FILE.gguf, or where it comes from.
    #[arg(value_name = "IN")]
    input: String,
    /// The new folder or FILE.gguf.
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// What matrices become.
    #[arg(long, value_enum)]
    dtype: Dtype,
    /// Replace OUT; a folder only if it holds a model.
    #[arg(long)]
    force: bool,
    /// Round weights again that are rounded to fewer than 16 bits already, and lose twice.
    #[arg(long)]
    requantise: bool,
    #[command(flatten)]
    fetch: Fetch,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    Bf16,
    Int8,
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<Dtype> for Target {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bf16 => Self::Bf16,
            Dtype::Int8 => Self::Int8,
            Dtype::Q8_0 => Self::Q8_0,
        }
    }
}

/// What `convert --json` prints.
#[derive(Serialize)]
struct Report<'a> {
    input: String,
    output: String,
    dtype: &'static str,
    tensors: usize,
    converted: usize,
    bytes_before: u64,
    bytes_after: u64,
    largest_error: Option<Largest<'a>>,
    files: Vec<File<'a>>,
    left_out: Vec<String>,
}

#[derive(Serialize)]
struct Largest<'a> {
    tensor: &'a str,
    error: f64,
}

#[derive(Serialize)]
struct File<'a> {
    path: String,
    bytes: u64,
    sha256: &'a str,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let input = self.fetch.path(&self.input)?;
        if input.is_dir() {
            // Refuses what is no model before any of it is read.
            Family::of(&read_config(&input)?, &input)?;
        } else if !is_gguf(&input) {
            return Err(Failure::user(format!(
                "{}: what can be converted is a model's folder or FILE.gguf",
                input.display()
            )));
        }
        let mut options = Options::new(self.dtype.into());
        options.replace = self.force;
        options.requantise = self.requantise;
        let bar = Bar::default();
        let converted = convert(&input, &self.output, &options, |progress| bar.advance(progress));
        bar.0.finish_and_clear();
        let converted = converted?;
        let report = Report::new(&input, &self.output, options.target, &converted);
        if self.json { print_json(&report) } else { print(&report.card()) }
    }
}

impl<'a> Report<'a> {
    fn new(input: &Path, output: &Path, target: Target, converted: &'a Converted) -> Self {
        let files = converted.files.iter().map(|file| File {
            path: file.path.display().to_string(),
            bytes: file.bytes,
            sha256: &file.sha256,
        });
        Self {
            input: input.display().to_string(),
            output: output.display().to_string(),
            dtype: target.name(),
            tensors: converted.tensors,
            converted: converted.converted,
            bytes_before: converted.bytes_before,
            bytes_after: converted.bytes_after,
            largest_error: converted.worst.as_ref().map(|of| Largest { tensor: &of.tensor, error: of.error }),
            files: files.collect(),
            left_out: converted.left_out.iter().map(|path| path.display().to_string()).collect(),
        }
    }

    fn card(&self) -> String {
        let size = |bytes: u64| Unit::Bytes.format(bytes as f64);
        let mut rows = vec![
            vec!["weights before".to_owned(), size(self.bytes_before)],
            vec![format!("as {}", self.dtype), size(self.bytes_after)],
            vec!["tensors".to_owned(), format!("{}, of which {} converted", self.tensors, self.converted)],
        ];
        if let Some(Largest { tensor, error }) = &self.largest_error {
            rows.push(vec!["largest relative error".to_owned(), format!("{error:.1e} ({tensor})")]);
        }
        let mut sections = vec![self.output.clone(), text::table(&[], &rows, 2)];
        let files = self.files.iter();
        let files: Vec<Vec<String>> =
            files.map(|file| vec![file.path.clone(), size(file.bytes), file.sha256.to_owned()]).collect();
        sections.push(text::aligned(&["file", "size", "SHA-256"], &files, |column| column != 1));
        if !self.left_out.is_empty() {
            sections.push(text::list(
                "not copied, since they are large or tensors beside the model",
                &self.left_out,
            ));
        }
        sections.join("\n\n")
    }
}

/// A bar of bytes on a terminal's standard error.
struct Bar(ProgressBar);

impl Default for Bar {
    fn default() -> Self {
        let bar = ProgressBar::new(0);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        // The template is a constant; one that indicatif refused would leave its default.
        if let Ok(style) =
            ProgressStyle::with_template("{wide_bar} {binary_bytes}/{binary_total_bytes} {eta}")
        {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Bar {
    fn advance(&self, Progress { done, total }: Progress) {
        self.0.set_length(total);
        self.0.set_position(done);
    }
}
