//! Published benchmarks, read from their own files and from those on the Hugging Face hub.
//!
//! What a benchmark is made of (columns, metric, instructions to the model) is data: [`Layout`]. Files are given by the user;
//! nothing is fetched. A record without a reference answer is left out and counted; a file with none at all is refused, and
//! so is one without a column that is needed.

mod layout;
mod mme;
mod read;

use std::path::Path;
use std::str::FromStr;

use foveate_data::Family;

pub use layout::{Answers, Layout};

use crate::item::Item;
use crate::metric::Metric;
use crate::{EvalError, Result};

/// A published benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is known by its name")]
pub enum Benchmark {
    VqaV2,
    Gqa,
    TextVqa,
    VizWiz,
    Pope,
    Mme,
    MmBench,
    ScienceQa,
    Ai2d,
    Mmmu,
    MathVista,
    ChartQa,
    DocVqa,
}

/// The questions of a benchmark, and how many records had no reference answer.
pub struct Questions {
    /// Those that can be asked.
    pub items: Vec<Item>,
    /// Records left out.
    pub without_reference: usize,
}

impl Benchmark {
    /// All of them.
    pub const ALL: [Benchmark; 13] = [
        Benchmark::VqaV2,
        Benchmark::Gqa,
        Benchmark::TextVqa,
        Benchmark::VizWiz,
        Benchmark::Pope,
        Benchmark::Mme,
        Benchmark::MmBench,
        Benchmark::ScienceQa,
        Benchmark::Ai2d,
        Benchmark::Mmmu,
        Benchmark::MathVista,
        Benchmark::ChartQa,
        Benchmark::DocVqa,
    ];

    /// As written on the command line and in plans.
    pub fn name(self) -> &'static str {
        match self {
            Benchmark::VqaV2 => "vqav2",
            Benchmark::Gqa => "gqa",
            Benchmark::TextVqa => "textvqa",
            Benchmark::VizWiz => "vizwiz",
            Benchmark::Pope => "pope",
            Benchmark::Mme => "mme",
            Benchmark::MmBench => "mmbench",
            Benchmark::ScienceQa => "scienceqa",
            Benchmark::Ai2d => "ai2d",
            Benchmark::Mmmu => "mmmu",
            Benchmark::MathVista => "mathvista",
            Benchmark::ChartQa => "chartqa",
            Benchmark::DocVqa => "docvqa",
        }
    }

    /// Its own measure.
    pub fn metric(self) -> Metric {
        match self {
            Benchmark::VqaV2 | Benchmark::TextVqa | Benchmark::VizWiz => Metric::VqaAccuracy,
            Benchmark::Gqa => Metric::ExactMatch,
            Benchmark::Pope => Metric::Pope,
            Benchmark::Mme => Metric::Mme,
            Benchmark::MmBench => Metric::CircularChoice,
            Benchmark::ScienceQa | Benchmark::Ai2d => Metric::Choice,
            Benchmark::Mmmu => Metric::Mmmu,
            Benchmark::MathVista => Metric::MathVista,
            Benchmark::ChartQa => Metric::RelaxedAccuracy,
            Benchmark::DocVqa => Metric::Anls,
        }
    }

    /// Whether it is answered by reasoning about what is seen or by reading.
    pub fn family(self) -> Family {
        match self {
            Benchmark::TextVqa | Benchmark::ChartQa | Benchmark::DocVqa => Family::Text,
            _ => Family::Reasoning,
        }
    }

    /// The split whose answers are public.
    pub fn split(self) -> &'static str {
        match self {
            Benchmark::VqaV2
            | Benchmark::TextVqa
            | Benchmark::VizWiz
            | Benchmark::DocVqa
            | Benchmark::Mmmu => "val",
            Benchmark::MmBench => "dev",
            Benchmark::MathVista => "testmini",
            _ => "test",
        }
    }

    /// Instructions around the question, as LLaVA-1.5 was trained and measured with.
    pub fn prompt(self) -> &'static str {
        match self {
            Benchmark::VizWiz => {
                "{question}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\nAnswer the \
                 question using a single word or phrase."
            }
            Benchmark::MmBench
            | Benchmark::ScienceQa
            | Benchmark::Ai2d
            | Benchmark::Mmmu
            | Benchmark::MathVista => "{question}\n{options}",
            _ => "{question}\nAnswer the question using a single word or phrase.",
        }
    }

    /// Its columns.
    pub fn layout(self) -> Layout {
        layout::of(self)
    }

    /// Its questions from `path`, a file or a folder of files of which those of `split` are read; pictures that lie apart are
    /// in `images`.
    ///
    /// # Errors
    /// Files that cannot be read; [`EvalError::NoColumn`]; no record with a reference answer.
    pub fn read(self, path: &Path, images: &Path, split: &str) -> Result<Questions> {
        read::read(self, path, images, split)
    }
}

impl FromStr for Benchmark {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Benchmark> {
        let found = Benchmark::ALL.into_iter().find(|benchmark| benchmark.name() == name);
        found.ok_or_else(|| EvalError::unknown("benchmark", name, Benchmark::ALL.map(Benchmark::name)))
    }
}
