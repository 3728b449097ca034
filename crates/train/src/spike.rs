//! The guard against loss spikes: a step whose loss or gradient is far out of what was seen lately is not taken.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::recipe::Spikes;
use crate::{Result, TrainError};

/// What the guard has seen. It is part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpikeGuard {
    /// The stage that it watches.
    stage: usize,
    #[serde(with = "bits")]
    losses: VecDeque<f64>,
    #[serde(with = "bits")]
    norms: VecDeque<f64>,
    /// Steps that were skipped.
    pub skipped: u64,
    /// Of them, those since the last step that was taken.
    in_a_row: u64,
}

/// Numbers as their bits: what is read back is what was written, and judges alike.
mod bits {
    use std::collections::VecDeque;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(values: &VecDeque<f64>, to: S) -> Result<S::Ok, S::Error> {
        values.iter().map(|value| value.to_bits()).collect::<Vec<u64>>().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<VecDeque<f64>, D::Error> {
        Ok(Vec::<u64>::deserialize(from)?.into_iter().map(f64::from_bits).collect())
    }
}

/// Whether a step may be taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It may.
    Take,
    /// It may not, because of this.
    Skip(String),
}

impl SpikeGuard {
    /// Judges a step of stage number `stage` by its loss and the norm of its gradient before clipping, and remembers both
    /// if it is taken. What another stage did says nothing about this one: other data, other parts that are trained.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] after too many steps in a row that may not be taken.
    pub fn judge(
        &mut self,
        settings: &Spikes,
        stage: usize,
        step: u64,
        loss: f64,
        norm: f64,
    ) -> Result<Verdict> {
        if stage != self.stage {
            *self = SpikeGuard { stage, skipped: self.skipped, ..SpikeGuard::default() };
        }
        let found = unusable("loss", loss, &self.losses, settings)
            .or_else(|| unusable("gradient norm", norm, &self.norms, settings));
        let Some(reason) = found else {
            self.in_a_row = 0;
            for (seen, value) in [(&mut self.losses, loss), (&mut self.norms, norm)] {
                seen.push_back(value);
                while seen.len() > settings.window {
                    seen.pop_front();
                }
            }
            return Ok(Verdict::Take);
        };
        self.skipped += 1;
        self.in_a_row += 1;
        if self.in_a_row > settings.in_a_row {
            return Err(TrainError::Diverged { step, count: self.in_a_row, reason });
        }
        Ok(Verdict::Skip(reason))
    }
}

fn unusable(what: &str, value: f64, seen: &VecDeque<f64>, settings: &Spikes) -> Option<String> {
    if !value.is_finite() {
        return Some(format!("its {what} is {value}"));
    }
    // A distribution of a few steps says nothing; the first are the wildest.
    if seen.len() < settings.window {
        return None;
    }
    let count = seen.len() as f64;
    let mean = seen.iter().sum::<f64>() / count;
    let variance = seen.iter().map(|seen| (seen - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let limit = (mean + settings.deviations * variance.sqrt()).max(settings.factor * mean);
    (value > limit)
        .then(|| format!("its {what} is {value:.4}, more than {limit:.4} after {mean:.4} on average"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SETTINGS: Spikes = Spikes { window: 10, deviations: 6.0, factor: 2.0, in_a_row: 2 };

    fn trained() -> SpikeGuard {
        let mut guard = SpikeGuard::default();
        for step in 0..10 {
            let loss = 2.0 + 0.1 * (step % 2) as f64;
            assert_eq!(guard.judge(&SETTINGS, 0, step, loss, 1.0).unwrap(), Verdict::Take);
        }
        guard
    }

    #[test]
    fn it_is_read_back_to_the_bit() {
        let mut guard = SpikeGuard::default();
        let mut draw = crate::random::Draw::new(7, "spikes", 0);
        for step in 0..10 {
            guard.judge(&SETTINGS, 0, step, draw.normal().abs(), draw.normal().abs() * 1e-3).unwrap();
        }
        let text = serde_json::to_string(&guard).unwrap();
        assert_eq!(serde_json::from_str::<SpikeGuard>(&text).unwrap(), guard);
    }

    #[test]
    fn spikes_are_skipped_and_leave_the_distribution_alone() {
        let mut guard = trained();
        let before = guard.clone();
        assert!(
            matches!(guard.judge(&SETTINGS, 0, 10, 9.0, 1.0).unwrap(), Verdict::Skip(reason) if reason.contains("9.0000"))
        );
        assert!(
            matches!(guard.judge(&SETTINGS, 0, 11, 2.0, 50.0).unwrap(), Verdict::Skip(reason) if reason.contains("gradient"))
        );
        assert_eq!((guard.skipped, &guard.losses, &guard.norms), (2, &before.losses, &before.norms));
        // Below twice the mean nothing is a spike, however narrow the distribution.
        assert_eq!(guard.judge(&SETTINGS, 0, 12, 4.0, 2.0).unwrap(), Verdict::Take);
    }

    #[test]
    fn numbers_that_are_none_are_skipped_from_the_first_step_on() {
        let mut guard = SpikeGuard::default();
        assert!(matches!(guard.judge(&SETTINGS, 0, 0, f64::NAN, 1.0).unwrap(), Verdict::Skip(_)));
        assert!(matches!(guard.judge(&SETTINGS, 0, 1, 1.0, f64::INFINITY).unwrap(), Verdict::Skip(_)));
        assert_eq!(guard.judge(&SETTINGS, 0, 2, 1e9, 1.0).unwrap(), Verdict::Take);
    }

    #[test]
    fn a_stage_is_judged_by_itself() {
        let mut guard = trained();
        assert!(matches!(guard.judge(&SETTINGS, 0, 10, 9.0, 1.0).unwrap(), Verdict::Skip(_)));
        for step in 11..30 {
            assert_eq!(guard.judge(&SETTINGS, 1, step, 9.0, 30.0).unwrap(), Verdict::Take);
        }
        assert!(matches!(guard.judge(&SETTINGS, 1, 30, 90.0, 30.0).unwrap(), Verdict::Skip(_)));
        assert_eq!(guard.skipped, 2);
    }

    #[test]
    fn too_many_in_a_row_end_the_run() {
        let mut guard = trained();
        for step in [10, 11] {
            guard.judge(&SETTINGS, 0, step, f64::NAN, 1.0).unwrap();
        }
        let error = guard.judge(&SETTINGS, 0, 12, f64::NAN, 1.0).unwrap_err().to_string();
        assert!(error.contains("step 12: 3 steps in a row") && error.contains("NaN"), "{error}");
    }
}
