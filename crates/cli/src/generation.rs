//! The flags that say how an answer is generated.

use clap::Args;
use foveate_model::generate::{Choice, Draw, GenerateOptions, Sampler, Sampling};

use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Generation {
    /// At most this many tokens of answer.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Draw tokens at this temperature; 0, as without any of these four flags, always takes the best one.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw from this many of the best tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest best tokens whose probabilities reach this sum.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Draw from tokens with at least this share of the best one's probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Above 1: make tokens that occurred before less likely.
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// Equal seeds draw equal answers.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End the answer before this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl Generation {
    /// What the flags mean, checked before any model is opened. `end_tokens` are left to the caller.
    pub(crate) fn options(&self) -> Result<GenerateOptions, Failure> {
        let draws = self.temperature.is_some()
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some();
        let choice = match self.temperature {
            Some(0.0) => Choice::Greedy,
            _ if !draws => Choice::Greedy,
            temperature => Choice::Draw(Draw {
                temperature: temperature.unwrap_or(1.0),
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                seed: self.seed,
            }),
        };
        let sampling = Sampling { choice, repetition_penalty: self.repetition_penalty };
        Sampler::new(sampling)?;
        if self.stop.iter().any(String::is_empty) {
            return Err(Failure::user("--stop \"\": a stop string has at least one character"));
        }
        let (max_tokens, stop) = (self.max_new_tokens as usize, self.stop.clone());
        Ok(GenerateOptions { sampling, max_tokens, stop, ..GenerateOptions::default() })
    }
}

/// The flag that bounds the threads of the calculation.
#[derive(Args)]
pub(crate) struct Threads {
    /// Threads to calculate with, 1 to 1024 [default: one for each core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Threads {
    /// Sets the number for the whole process; call it once, before the first calculation.
    pub(crate) fn apply(&self) -> Result<(), Failure> {
        let Some(threads) = self.threads else { return Ok(()) };
        foveate_model::threads::set(usize::from(threads))?;
        rayon::ThreadPoolBuilder::new()
            .num_threads(usize::from(threads))
            .build_global()
            .map_err(|error| Failure::Other(anyhow::anyhow!("--threads {threads}: {error}")))
    }
}
