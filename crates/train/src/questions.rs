//! Vectors of questions that a frozen language model has read, so that each question passes it once in a whole stage.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Tensor};
use foveate_model::vlm::Vlm;

use crate::Result;

/// Bytes that vectors may take; what comes after is read anew each time.
const MOST: usize = 256 << 20;

/// The vectors by the questions' tokens, for one model.
///
/// A question alone, among others and from here has the same vector to the bit, so that a run that was resumed, and begins
/// without any, ends with the same weights.
#[derive(Debug, Default)]
pub struct QuestionCache {
    vectors: Mutex<HashMap<Vec<u32>, Vec<f32>>>,
}

impl QuestionCache {
    /// What [`Vlm::question_vectors`] gives, `[questions, D]`, without a gradient.
    ///
    /// # Errors
    /// Those of the language model.
    pub fn vectors(&self, vlm: &Vlm, questions: &[&[u32]]) -> Result<Tensor> {
        let mut rows: Vec<Option<Vec<f32>>> = {
            let known = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
            questions.iter().map(|question| known.get(*question).cloned()).collect()
        };
        let missing: Vec<usize> = (0..rows.len()).filter(|at| rows[*at].is_none()).collect();
        if !missing.is_empty() {
            let asked: Vec<&[u32]> = missing.iter().map(|at| questions[*at]).collect();
            let read = vlm.question_vectors(&asked)?.to_vec2::<f32>()?;
            let mut known = self.vectors.lock().unwrap_or_else(PoisonError::into_inner);
            for (at, vector) in missing.into_iter().zip(read) {
                if known.len() * size_of_val(vector.as_slice()) < MOST {
                    known.insert(questions[at].to_vec(), vector.clone());
                }
                rows[at] = Some(vector);
            }
        }
        let values: Vec<f32> = rows.iter().flatten().flatten().copied().collect();
        Ok(Tensor::from_vec(values, (questions.len(), ()), &Device::Cpu)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use foveate_model::Dtype;

    use super::*;

    #[test]
    fn what_is_kept_is_what_is_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/compressed-elastic");
        let vlm = Vlm::open(&folder, None, Dtype::F32).unwrap();
        let cache = QuestionCache::default();
        let sets: [&[&[u32]]; 3] = [&[&[9, 7]], &[&[5, 6, 8], &[9, 7], &[4]], &[&[4], &[5, 6, 8]]];
        for (set, known) in sets.into_iter().zip([1, 3, 3]) {
            let found = cache.vectors(&vlm, set).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(found, vlm.question_vectors(set).unwrap().to_vec2::<f32>().unwrap());
            assert_eq!(cache.vectors.lock().unwrap().len(), known);
        }
    }
}
