//! Sources of samples, and streams over them: shuffled by seed, resumed by position, broken samples counted.
//!
//! A [`Source`] finds any sample by its index and holds no pixels. A [`Stream`] shuffles the *indices* (four bytes a
//! sample), so that its order depends on the seed alone, and skips what is broken, up to a stated part of the source.

use std::sync::Arc;

use crate::image::{DecodeError, Image};
use crate::random::Draw;
use crate::sample::Sample;

/// Samples by index.
pub trait Source: Send + Sync {
    /// Names the source in messages.
    fn name(&self) -> &str;

    /// The number of samples, broken ones included; at most `u32::MAX`.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, its picture not decoded yet.
    ///
    /// # Panics
    /// May panic if `index` is not below [`Source::len`].
    fn sample(&self, index: usize) -> Result<Sample, SampleError>;
}

/// A sample that cannot be used: where it stands, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The record is not what its dataset's layout says.
    #[error("{place}: {reason}")]
    Record {
        /// File and record.
        place: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// The record could not be read.
    #[error("{place}: cannot be read: {error}")]
    Read {
        /// File and record.
        place: String,
        /// From the operating system or the archive.
        error: std::io::Error,
    },
    /// The record's image is broken or missing.
    #[error(transparent)]
    Image(#[from] DecodeError),
}

/// The samples in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the source has them.
    Stored,
    /// One of all orders with equal chance; the same for equal numbers, on every platform.
    Shuffled {
        /// The recipe's seed.
        seed: u64,
        /// Another order each time round.
        epoch: u64,
    },
}

/// How much of a source may be broken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Part of the source's samples, from 0 (none) to 1.
    pub fraction: f64,
}

impl Default for Tolerance {
    /// One sample in a hundred.
    fn default() -> Tolerance {
        Tolerance { fraction: 0.01 }
    }
}

/// More of a source is broken than was said to be tolerable.
#[derive(Debug, thiserror::Error)]
#[error(
    "{source_name}: {} of its {length} samples are broken, tolerated are {allowed} ({fraction} of them); the first: {}",
    .skipped.count, .skipped.examples.join("; ")
)]
pub struct TooManyBroken {
    /// The source.
    pub source_name: String,
    /// Its samples.
    pub length: usize,
    /// Samples that may be broken.
    pub allowed: usize,
    /// [`Tolerance::fraction`].
    pub fraction: f64,
    /// Those that are.
    pub skipped: Skipped,
}

/// What a stream left out so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Samples.
    pub count: usize,
    /// The messages of the first [`Skipped::EXAMPLES`] of them.
    pub examples: Vec<String>,
}

impl Skipped {
    /// Messages that are kept.
    pub const EXAMPLES: usize = 5;
}

/// Goes through a source once.
pub struct Stream {
    source: Arc<dyn Source>,
    order: Option<Vec<u32>>,
    position: usize,
    tolerance: Tolerance,
    skipped: Skipped,
    failed: bool,
}

impl Stream {
    /// From the first sample of `order` on.
    pub fn new(source: Arc<dyn Source>, order: Order, tolerance: Tolerance) -> Stream {
        let order = match order {
            Order::Stored => None,
            Order::Shuffled { seed, epoch } => {
                let mut indices: Vec<u32> = (0..source.len() as u32).collect();
                Draw::new(seed, "shuffle", epoch).shuffle(&mut indices);
                Some(indices)
            }
        };
        Stream { source, order, position: 0, tolerance, skipped: Skipped::default(), failed: false }
    }

    /// Goes on at a [`Stream::position`] noted earlier, before which `skipped` samples were left out: they count, so that
    /// stopping and going on does not make a source less broken.
    pub fn resume_at(mut self, position: usize, skipped: usize) -> Stream {
        self.position = position.min(self.source.len());
        self.skipped.count = skipped;
        self
    }

    /// Places of the order that were passed, broken samples included.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The next sample, or why it cannot be used, which is not counted yet: for whoever names every broken sample, and then
    /// hands it to [`Stream::report_broken`].
    pub fn read(&mut self) -> Option<Result<Sample, SampleError>> {
        if self.failed || self.position >= self.source.len() {
            return None;
        }
        let index = self.order.as_ref().map_or(self.position, |order| order[self.position] as usize);
        self.position += 1;
        Some(self.source.sample(index))
    }

    /// What was left out so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Counts a sample that turned out to be broken after it left the stream, such as one whose image does not
    /// decode; an error once there are more of them than tolerated.
    pub fn report_broken(&mut self, error: &SampleError) -> Result<(), TooManyBroken> {
        self.skipped.count += 1;
        if self.skipped.examples.len() < Skipped::EXAMPLES {
            self.skipped.examples.push(error.to_string());
        }
        let length = self.source.len();
        let allowed = (self.tolerance.fraction * length as f64) as usize;
        if self.skipped.count <= allowed {
            return Ok(());
        }
        self.failed = true;
        Err(TooManyBroken {
            source_name: self.source.name().to_owned(),
            length,
            allowed,
            fraction: self.tolerance.fraction,
            skipped: self.skipped.clone(),
        })
    }

    /// Decodes each sample's image (`None` for conversations in text alone) and skips samples whose image is broken.
    pub fn decoded(self) -> Decoded {
        Decoded { stream: self }
    }
}

impl Iterator for Stream {
    type Item = Result<Sample, TooManyBroken>;

    fn next(&mut self) -> Option<Result<Sample, TooManyBroken>> {
        while let Some(read) = self.read() {
            match read {
                Ok(sample) => return Some(Ok(sample)),
                Err(error) => {
                    if let Err(too_many) = self.report_broken(&error) {
                        return Some(Err(too_many));
                    }
                }
            }
        }
        None
    }
}

/// A [`Stream`] with its images; see [`Stream::decoded`].
pub struct Decoded {
    stream: Stream,
}

impl Decoded {
    /// The stream below: its position, what it skipped.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl Iterator for Decoded {
    type Item = Result<(Sample, Option<Image>), TooManyBroken>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let sample = match self.stream.next()? {
                Ok(sample) => sample,
                Err(error) => return Some(Err(error)),
            };
            match sample.picture.as_ref().map(|picture| picture.image()).transpose() {
                Ok(image) => return Some(Ok((sample, image))),
                Err(error) => {
                    if let Err(too_many) = self.stream.report_broken(&error.into()) {
                        return Some(Err(too_many));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::{Question, Skill};

    /// A hundred samples, those whose index is in the list broken.
    struct Hundred(Vec<usize>);

    impl Source for Hundred {
        fn name(&self) -> &str {
            "hundred"
        }

        fn len(&self) -> usize {
            100
        }

        fn sample(&self, index: usize) -> Result<Sample, SampleError> {
            if self.0.contains(&index) {
                return Err(SampleError::Record { place: format!("line {index}"), reason: "torn".into() });
            }
            let questions = vec![Question::new("Which?", index.to_string(), Skill::Open)];
            let name = index.to_string();
            Ok(Sample { group: name.clone(), name, picture: None, questions, conversation: false })
        }
    }

    fn names(stream: Stream) -> Vec<String> {
        stream.map(|sample| sample.unwrap().name).collect()
    }

    #[test]
    fn shuffling_depends_on_seed_and_epoch_alone() {
        let source: Arc<dyn Source> = Arc::new(Hundred(vec![]));
        let run = |order| names(Stream::new(source.clone(), order, Tolerance::default()));
        let first = run(Order::Shuffled { seed: 1, epoch: 0 });
        assert_eq!(first, run(Order::Shuffled { seed: 1, epoch: 0 }));
        assert_ne!(first, run(Order::Shuffled { seed: 1, epoch: 1 }));
        assert_ne!(first, run(Order::Shuffled { seed: 2, epoch: 0 }));
        let mut sorted = first.clone();
        sorted.sort_by_key(|name| name.parse::<usize>().unwrap());
        assert_eq!(sorted, run(Order::Stored));
        let resumed =
            Stream::new(source.clone(), Order::Shuffled { seed: 1, epoch: 0 }, Tolerance::default());
        assert_eq!(names(resumed.resume_at(60, 0)), first[60..]);
    }

    #[test]
    fn what_was_left_out_before_a_stop_counts() {
        let source: Arc<dyn Source> = Arc::new(Hundred(vec![3, 50, 51]));
        let stream = || Stream::new(source.clone(), Order::Stored, Tolerance { fraction: 0.02 });
        assert_eq!(stream().resume_at(40, 0).filter(Result::is_err).count(), 0);
        assert_eq!(stream().resume_at(40, 1).filter(Result::is_err).count(), 1);
    }

    #[test]
    fn broken_samples_are_counted_up_to_the_tolerance() {
        let source = Arc::new(Hundred(vec![3, 50, 51]));
        let mut stream = Stream::new(source.clone(), Order::Stored, Tolerance { fraction: 0.03 });
        assert_eq!(stream.by_ref().filter(|sample| sample.is_ok()).count(), 97);
        assert_eq!(stream.skipped().count, 3);
        assert_eq!(stream.skipped().examples[0], "line 3: torn");

        // One at a time, each can be named before it is counted.
        let mut stream = Stream::new(source.clone(), Order::Stored, Tolerance { fraction: 0.0 });
        let broken = std::iter::from_fn(|| stream.read()).filter_map(Result::err);
        let broken: Vec<String> = broken.map(|error| error.to_string()).collect();
        assert_eq!(broken, ["line 3: torn", "line 50: torn", "line 51: torn"]);
        assert_eq!((stream.position(), stream.skipped().count), (100, 0));

        let mut stream = Stream::new(source, Order::Stored, Tolerance { fraction: 0.029 });
        let error = stream.by_ref().find_map(Result::err).unwrap();
        assert_eq!(
            error.to_string(),
            "hundred: 3 of its 100 samples are broken, tolerated are 2 (0.029 of them); the first: line 3: torn; \
             line 50: torn; line 51: torn"
        );
        assert!(stream.next().is_none(), "a failed stream stays at its end");
    }
}
