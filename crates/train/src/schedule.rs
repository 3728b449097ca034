//! The learning rate over the steps of a stage: a straight rise from 0, then half a cosine down to the floor.

/// A rise and a cosine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    steps: u64,
    rise: u64,
    floor: f64,
}

impl Schedule {
    /// Over `steps` steps, of which the part `warm_up` rises; `floor` is where it ends, as a part of the highest rate.
    pub fn new(steps: u64, warm_up: f64, floor: f64) -> Self {
        Self { steps, rise: (steps as f64 * warm_up).round() as u64, floor }
    }

    /// The part of the highest rate at `step`, counted from 0.
    ///
    /// ```
    /// use foveate_train::schedule::Schedule;
    /// let schedule = Schedule::new(110, 10.0 / 110.0, 0.1);
    /// assert_eq!(schedule.at(0), 0.1); // the first step learns: a tenth of the rise
    /// assert_eq!(schedule.at(9), 1.0);
    /// assert!((schedule.at(60) - 0.55).abs() < 1e-12); // half way down
    /// assert!((schedule.at(110) - 0.1).abs() < 1e-12);
    /// ```
    pub fn at(&self, step: u64) -> f64 {
        if step < self.rise {
            return (step + 1) as f64 / self.rise as f64;
        }
        let passed = (step - self.rise) as f64 / (self.steps - self.rise).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * passed.min(1.0)).cos());
        self.floor + (1.0 - self.floor) * cosine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_then_falls_and_stays_between_floor_and_one() {
        let schedule = Schedule::new(1000, 0.03, 0.05);
        let rates: Vec<f64> = (0..1000).map(|step| schedule.at(step)).collect();
        assert!(rates[..30].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(rates[30..].windows(2).all(|pair| pair[0] > pair[1]));
        assert!(rates[30..].iter().all(|rate| (0.05..=1.0).contains(rate)));
    }

    #[test]
    fn nothing_but_a_rise_is_possible() {
        let schedule = Schedule::new(4, 1.0, 0.0);
        assert_eq!([0, 1, 2, 3].map(|step| schedule.at(step)), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(schedule.at(4), 1.0);
    }
}
