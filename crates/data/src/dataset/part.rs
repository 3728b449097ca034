//! A part of a source, cut by group: the sentences, receipts or images of one part never occur in the other.

use std::sync::Arc;

use crate::random::hash;
use crate::sample::Sample;
use crate::stream::{SampleError, Source};

/// One side of a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The groups that remain to train on.
    Kept,
    /// The groups that are held out to tune on.
    HeldOut,
}

/// The samples of a source whose group falls on one side.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<u32>,
    name: String,
}

impl Subset {
    /// Holds out the groups (see [`Sample::group`]) whose hash under `seed` falls below `fraction`, and gives one part.
    /// Both parts together are the source; the same fraction and seed always cut alike, whatever the order of the
    /// samples. Reads each record once. Records that cannot be read stay in [`Part::Kept`], to be counted there.
    pub fn cut(source: Arc<dyn Source>, fraction: f64, seed: u64, part: Part) -> Subset {
        let held = |group: &str| {
            let mut key = seed.to_le_bytes().to_vec();
            key.extend(group.as_bytes());
            // The upper bits of FNV mix poorly for short keys; one multiplication spreads them.
            let spread = hash(&key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11;
            (spread as f64 / (1_u64 << 53) as f64) < fraction
        };
        let belongs = |index: &u32| {
            let held = source.sample(*index as usize).is_ok_and(|sample| held(&sample.group));
            held == (part == Part::HeldOut)
        };
        let indices = (0..source.len() as u32).filter(belongs).collect();
        let name = format!("{} ({})", source.name(), if part == Part::Kept { "kept" } else { "held out" });
        Subset { source, indices, name }
    }
}

impl Source for Subset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        self.source.sample(self.indices[index] as usize)
    }
}
