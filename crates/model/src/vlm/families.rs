//! A guess of what family a question is of, by a linear layer on the vector that QueCC makes of it anyway.
//!
//! `families.json` beside the weights: names, one row of weights and one bias each. Fitted by `foveate_train::families`, read with
//! the model, used by `--visual-tokens auto`.

use std::path::Path;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{ModelError, Result};

/// The file in a model's folder.
pub const FAMILIES_FILE: &str = "families.json";

/// Multinomial logistic regression on question vectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyHead {
    /// Names, such as `reasoning` and `text`.
    pub families: Vec<String>,
    /// A row for each family, as wide as the language model.
    pub weights: Vec<Vec<f64>>,
    /// One number for each family.
    pub bias: Vec<f64>,
    /// How it was made.
    pub fitted: FittedHead,
}

/// How a head was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FittedHead {
    /// Questions that it was fitted to.
    pub questions: usize,
    /// The ridge on weights of standardised vectors.
    pub ridge: f64,
    /// Questions that were not fitted to: how many it got right, and how many there were.
    pub validation: Option<[usize; 2]>,
}

impl FamilyHead {
    /// Reads the text of a head; `file` is what errors call it.
    ///
    /// # Errors
    /// Anything but a head of two families or more, with a row of the same width for each.
    pub fn from_json(file: &'static str, text: &str) -> Result<Self> {
        let head: Self = serde_json::from_str(text).map_err(|error| ModelError::json(file, &error))?;
        let count = head.families.len();
        let width = head.width();
        let finite = head.weights.iter().flatten().chain(&head.bias).all(|value| value.is_finite());
        let rows = head.weights.len() == count && head.weights.iter().all(|row| row.len() == width);
        if count < 2 || width == 0 || !rows || head.bias.len() != count || !finite {
            let reason = format!(
                "{count} families with {} rows of weights and {} biases; two families or more with a row of one width and a \
                 bias each are needed, all of them finite",
                head.weights.len(),
                head.bias.len()
            );
            return Err(ModelError::Json { file, reason });
        }
        Ok(head)
    }

    /// The head of a model's folder; `None` where it has none.
    ///
    /// # Errors
    /// A file that cannot be read or is no head.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FAMILIES_FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::from_json(FAMILIES_FILE, &text).map(Some),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ModelError::Io { path, source }),
        }
    }

    /// Writes `families.json` into a model's folder, in one piece.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FAMILIES_FILE);
        let text = serde_json::to_string(self).map_err(|error| ModelError::json(FAMILIES_FILE, &error))?;
        crate::atomic::replace(&path, |path| std::fs::write(path, text + "\n"))
            .map_err(|source| ModelError::Io { path, source })
    }

    /// The width of the vectors that it reads.
    pub fn width(&self) -> usize {
        self.weights.first().map_or(0, Vec::len)
    }

    /// Each family with its probability, in the order of [`FamilyHead::families`]: softmax(W · t + b) of the vector t, `[1, D]`.
    ///
    /// # Errors
    /// A vector of another shape.
    pub fn guess(&self, vector: &Tensor) -> Result<Vec<(String, f64)>> {
        if vector.dims() != [1, self.width()] {
            return Err(ModelError::shape("question vector", &[1, self.width()], vector.dims()));
        }
        let vector: Vec<f64> = vector.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        let score = |(weights, bias): (&Vec<f64>, &f64)| -> f64 {
            bias + weights.iter().zip(&vector).map(|(weight, value)| weight * value).sum::<f64>()
        };
        let scores: Vec<f64> = self.weights.iter().zip(&self.bias).map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let parts: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let sum: f64 = parts.iter().sum();
        Ok(self.families.iter().cloned().zip(parts.into_iter().map(|part| part / sum)).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    fn head() -> FamilyHead {
        FamilyHead {
            families: vec!["reasoning".into(), "text".into(), "other".into()],
            weights: vec![vec![0.0, 0.0], vec![1.0, -2.0], vec![0.5, 0.5]],
            bias: vec![0.0, 0.25, -1.0],
            fitted: FittedHead { questions: 10, ridge: 1e-3, validation: Some([9, 10]) },
        }
    }

    #[test]
    fn probabilities_are_those_of_the_softmax() {
        let guess = |values: [f32; 2]| head().guess(&Tensor::new(&[values], &Device::Cpu).unwrap()).unwrap();
        let found = guess([2.0, 0.5]);
        let scores: [f64; 3] = [0.0, 2.0 - 1.0 + 0.25, 1.0 + 0.25 - 1.0];
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        for ((name, found), (wanted, score)) in found.iter().zip(head().families.iter().zip(scores)) {
            assert!(name == wanted && (found - score.exp() / sum).abs() < 1e-12, "{name} {found}");
        }
        // Scores beyond what an exponential can hold.
        let far = guess([0.0, -1e6]);
        assert!((far[1].1 - 1.0).abs() < 1e-12 && far.iter().all(|(_, part)| part.is_finite()), "{far:?}");
        let other = Tensor::zeros((1, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(head().guess(&other).unwrap_err().to_string().contains("[1, 2]"));
    }

    #[test]
    fn a_head_is_read_back_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(FamilyHead::read(folder.path()).unwrap(), None);
        head().save(folder.path()).unwrap();
        assert_eq!(FamilyHead::read(folder.path()).unwrap(), Some(head()));
        for wrong in [
            FamilyHead { families: vec!["text".into()], ..head() },
            FamilyHead { weights: vec![vec![0.0], vec![1.0, 2.0], vec![0.0, 0.0]], ..head() },
            FamilyHead { bias: vec![0.0], ..head() },
        ] {
            wrong.save(folder.path()).unwrap();
            let error = FamilyHead::read(folder.path()).unwrap_err().to_string();
            assert!(error.starts_with("families.json") && error.contains("a row of one width"), "{error}");
        }
    }
}
