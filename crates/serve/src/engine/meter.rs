//! How fast this process is, learned from what it did: for requests that want an answer in time.
//!
//! A stage's time is its FLOPs over the rate that the stage has shown, an average that forgets; a decoding pass takes what
//! passes took, in the company they had. The first numbers come from the answer that the server gives itself before it is ready;
//! `foveate ask` and `batch` predict times in the same way.

use std::time::Duration;

/// The share of a new observation in an average.
const FRESH: f64 = 0.2;

/// An average that forgets.
#[derive(Clone, Copy, Debug, Default)]
struct Average(Option<f64>);

impl Average {
    fn observe(&mut self, value: f64) {
        if value.is_finite() && value > 0.0 {
            self.0 = Some(self.0.map_or(value, |old| old + FRESH * (value - old)));
        }
    }

    fn get(self) -> Option<f64> {
        self.0
    }
}

/// FLOPs of the stages of an answer, and its passes after the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// The tower.
    pub tower: f64,
    /// Query, compressor and projector.
    pub connect: f64,
    /// The prompt.
    pub prefill: f64,
    /// Passes after the first.
    pub passes: usize,
}

/// What was learned: seconds per FLOP of each stage, seconds of a pass and of an answer.
#[derive(Debug, Default)]
pub struct Meter {
    tower: Average,
    connect: Average,
    prefill: Average,
    pass: Average,
    answer: Average,
}

impl Meter {
    /// So many FLOPs of the tower took this time.
    pub fn tower(&mut self, flops: f64, time: Duration) {
        self.tower.observe(time.as_secs_f64() / flops);
    }

    /// So many FLOPs of query, compressor and projector took this time.
    pub fn connect(&mut self, flops: f64, time: Duration) {
        self.connect.observe(time.as_secs_f64() / flops);
    }

    /// So many FLOPs of the prompt took this time.
    pub fn prefill(&mut self, flops: f64, time: Duration) {
        self.prefill.observe(time.as_secs_f64() / flops);
    }

    /// A pass after the first took this time.
    pub fn pass(&mut self, time: Duration) {
        self.pass.observe(time.as_secs_f64());
    }

    /// From a place among those in progress to the end.
    pub(crate) fn finished(&mut self, time: Duration) {
        self.answer.observe(time.as_secs_f64());
    }

    /// What an answer takes on average.
    pub(crate) fn answer(&self) -> Duration {
        Duration::from_secs_f64(self.answer.get().unwrap_or(1.0).min(3600.0))
    }

    /// The milliseconds that `work` takes; `None` before anything of the kind was done.
    pub fn forecast(&self, work: &Work) -> Option<f64> {
        let of = |average: Average, flops: f64| match flops {
            0.0 => Some(0.0),
            flops => average.get().map(|seconds| seconds * flops),
        };
        let seconds = of(self.tower, work.tower)?
            + of(self.connect, work.connect)?
            + of(self.prefill, work.prefill)?
            + of(self.pass, work.passes as f64)?;
        Some(1e3 * seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_forecast_needs_every_stage_that_it_counts() {
        let mut meter = Meter::default();
        let work = Work { tower: 4e9, connect: 0.0, prefill: 1e9, passes: 3 };
        assert_eq!(meter.forecast(&work), None);
        meter.tower(2e9, Duration::from_millis(100));
        meter.prefill(1e9, Duration::from_millis(10));
        assert_eq!(meter.forecast(&work), None, "no pass was seen");
        meter.pass(Duration::from_millis(5));
        let ms = meter.forecast(&work).unwrap();
        assert!((ms - (200.0 + 10.0 + 15.0)).abs() < 1e-6, "{ms}");
        assert_eq!(meter.forecast(&Work::default()).unwrap(), 0.0);
    }

    #[test]
    fn averages_follow_what_comes_and_take_no_nonsense() {
        let mut average = Average::default();
        for value in [f64::NAN, f64::INFINITY, 0.0, 2.0] {
            average.observe(value);
        }
        assert_eq!(average.get(), Some(2.0));
        for _ in 0..40 {
            average.observe(1.0);
        }
        assert!((average.get().unwrap() - 1.0).abs() < 1e-3);
    }
}
