//! What was measured, as a table and as the stable JSON document.

use std::fmt::Write;
use std::path::Path as File;
use std::time::Duration;

use foveate_kernels::calibrate::{Arithmetic, peak, read_bandwidth};
use foveate_kernels::{Path, Pool};
use foveate_model::Dtype;
use serde::Serialize;

use crate::failure::Failure;
use crate::text;

/// Slices of about a millisecond for each peak.
const SLICES: usize = 60;
const READING: Duration = Duration::from_millis(400);

/// What `bench` prints as JSON. Other programs read it: fields are added, never renamed.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    #[serde(flatten)]
    pub(super) machine: Machine,
    pub(super) rows: Vec<Row>,
}

/// The machine at its best.
#[derive(Serialize)]
pub(super) struct Machine {
    machine: Description,
    /// Operations per second with every operand in a register.
    peaks: Vec<Peak>,
    /// Bytes per second read from memory.
    bandwidth: Vec<Bandwidth>,
}

#[derive(Serialize)]
struct Description {
    processor: String,
    architecture: &'static str,
    cores: usize,
    /// The kernels that the processor has, best last.
    paths: Vec<String>,
}

#[derive(Serialize)]
struct Peak {
    path: String,
    arithmetic: &'static str,
    threads: usize,
    operations_per_second: f64,
}

#[derive(Serialize)]
struct Bandwidth {
    threads: usize,
    bytes_per_second: f64,
}

/// A stage at one setting.
#[derive(Serialize)]
pub(super) struct Row {
    pub(super) stage: &'static str,
    pub(super) visual_tokens: Option<usize>,
    pub(super) dtype: Dtype,
    pub(super) threads: usize,
    pub(super) ms_median: f64,
    pub(super) ms_min: f64,
    /// FLOPs by the cost model; `null` where it has none for the stage alone.
    pub(super) flops: Option<f64>,
    #[serde(skip)]
    pub(super) samples: Vec<f64>,
}

impl Machine {
    /// Calibrates in about a second for each number of threads.
    pub(super) fn measure(thread_counts: &[usize]) -> Result<Self, Failure> {
        let failed = |error: foveate_kernels::Error| Failure::Other(error.into());
        let (mut peaks, mut bandwidth) = (Vec::new(), Vec::new());
        for &threads in thread_counts {
            let pool = Pool::new(threads).map_err(failed)?;
            for path in Path::available() {
                let kinds =
                    [(Arithmetic::Float, "float"), (Arithmetic::Bf16, "bf16"), (Arithmetic::Byte, "byte")];
                for (arithmetic, name) in kinds {
                    // Everywhere else it is the same as that of floats.
                    if arithmetic == Arithmetic::Bf16 && path != Path::Avx512Bf16 {
                        continue;
                    }
                    let operations_per_second = peak(path, arithmetic, &pool, SLICES).map_err(failed)?;
                    peaks.push(Peak {
                        path: path.to_string(),
                        arithmetic: name,
                        threads,
                        operations_per_second,
                    });
                }
            }
            bandwidth.push(Bandwidth { threads, bytes_per_second: read_bandwidth(&pool, READING) });
        }
        let machine = Description {
            processor: processor(),
            architecture: std::env::consts::ARCH,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            paths: Path::available().iter().map(Path::to_string).collect(),
        };
        Ok(Self { machine, peaks, bandwidth })
    }

    /// Bytes per second that `threads` threads read.
    pub(super) fn bandwidth(&self, threads: usize) -> f64 {
        let found = self.bandwidth.iter().find(|measured| measured.threads == threads);
        found.map_or(0.0, |measured| measured.bytes_per_second)
    }

    /// The highest peak of an arithmetic; bf16 can always be multiplied as floats.
    fn peak(&self, arithmetic: &str, threads: usize) -> f64 {
        let of = |peak: &&Peak| {
            let serves = peak.arithmetic == arithmetic || (arithmetic, peak.arithmetic) == ("bf16", "float");
            serves && peak.threads == threads
        };
        self.peaks.iter().filter(of).map(|peak| peak.operations_per_second).fold(0.0, f64::max)
    }
}

/// The processor's own name, where the system tells it.
pub(crate) fn processor() -> String {
    let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

impl Row {
    pub(super) fn new(
        stage: &'static str,
        visual_tokens: Option<usize>,
        dtype: Dtype,
        threads: usize,
        flops: Option<f64>,
        first: f64,
    ) -> Self {
        let samples = vec![first];
        Self { stage, visual_tokens, dtype, threads, ms_median: 0.0, ms_min: 0.0, flops, samples }
    }

    pub(super) fn summarise(&mut self) {
        self.samples.sort_by(f64::total_cmp);
        let count = self.samples.len();
        let at = |index: usize| self.samples.get(index).copied().unwrap_or(0.0);
        self.ms_min = at(0);
        self.ms_median = (at((count.max(1) - 1) / 2) + at(count / 2)) / 2.0;
    }

    /// FLOP/s at the median.
    fn rate(&self) -> Option<f64> {
        self.flops.map(|flops| flops / (self.ms_median * 1e-3))
    }
}

impl Report {
    /// The row that did the most FLOPs a second with the arithmetic that `plan` reckons with, and how many: bf16 where it was
    /// measured, else f32, else what there is.
    pub(super) fn fastest(&self) -> Option<(&Row, f64)> {
        let rows = |dtype: Dtype| {
            let of = self.rows.iter().filter(move |row| row.dtype == dtype);
            of.filter_map(|row| Some((row, row.rate()?))).max_by(|a, b| a.1.total_cmp(&b.1))
        };
        [Dtype::Bf16, Dtype::F32, Dtype::AsStored, Dtype::Int8].into_iter().find_map(rows)
    }

    /// For people.
    pub(super) fn card(&self, profile: Option<&File>) -> String {
        let Machine { machine, peaks, bandwidth } = &self.machine;
        let mut card = format!(
            "{}, {} cores, {}; kernels: {}\n\n",
            machine.processor,
            machine.cores,
            machine.architecture,
            machine.paths.join(", ")
        );
        let giga = |value: f64| format!("{:.1}", value * 1e-9);
        let rows: Vec<Vec<String>> = peaks
            .iter()
            .map(|peak| {
                vec![
                    format!("{} {}", peak.path, peak.arithmetic),
                    peak.threads.to_string(),
                    giga(peak.operations_per_second),
                ]
            })
            .chain(bandwidth.iter().map(|read| {
                vec!["memory, GB/s".to_owned(), read.threads.to_string(), giga(read.bytes_per_second)]
            }))
            .collect();
        card += &text::table(&["at most", "threads", "GOP/s"], &rows, 1);
        card += &format!("\n\n{}, milliseconds:\n", self.model);
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| {
                // Stored weights may be of either kind.
                let arithmetic = match row.dtype {
                    Dtype::AsStored => None,
                    Dtype::Int8 => Some("byte"),
                    Dtype::Bf16 => Some("bf16"),
                    _ => Some("float"),
                };
                let peak = arithmetic.map(|arithmetic| self.machine.peak(arithmetic, row.threads));
                let share = row.rate().zip(peak).map(|(rate, peak)| 100.0 * rate / peak);
                let dash = || "–".to_owned();
                vec![
                    row.stage.replace('_', " "),
                    row.dtype.to_string(),
                    row.threads.to_string(),
                    row.visual_tokens.map_or_else(dash, |tokens| tokens.to_string()),
                    format!("{:.2}", row.ms_median),
                    format!("{:.2}", row.ms_min),
                    row.rate().map_or_else(dash, giga),
                    share.map_or_else(dash, |share| format!("{share:.0} %")),
                ]
            })
            .collect();
        let header = ["stage", "dtype", "threads", "visual tokens", "median", "least", "GFLOP/s", "of peak"];
        card += &text::table(&header, &rows, 2);
        if let Some(path) = profile {
            let _ = write!(card, "\n\nmachine profile for `foveate plan`: {}", path.display());
        }
        card
    }
}
