//! What is asked of the model: how much text, how long an answer, what is shared between questions, and which of
//! the two cost models counts it.

use std::{fmt, num::NonZeroU32, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    error::CostError,
    names::{Choice, choose, serde_as_string, unknown},
};

/// What consecutive questions share. Every cost is per question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Scenario {
    /// One question about one image, nothing shared.
    #[default]
    Single,
    /// The text stands in front of the image and its keys and values are kept, as a prefix cache does: the Q tokens
    /// are not prefilled again, but attention still reads them. Nothing else is kept, so a compressor that reads the
    /// question still runs its query pass.
    CachedText,
    /// This many questions about one image, the image in front of the text. The tower runs once. If the compressor
    /// does not read the question, compression, projection and the visual tokens' keys and values are shared as well
    /// (the first question's pass includes the visual tokens, the others reuse them); if it does, they are made anew
    /// for every question.
    QuestionsPerImage(NonZeroU32),
    /// The same question over ever new images. The query pass is shared by all of them and counts as nothing; the
    /// text stands in front of the image and its keys and values are kept. Everything else runs for every image.
    FixedQuestion,
}

const FORMS: [&str; 4] = ["single", "cached-text", "questions-per-image:K", "fixed-question"];

/// The share of each piece of work that one question bears.
pub(crate) struct Reuse {
    /// Of the tower.
    pub(crate) tower: f64,
    /// Of the query pass.
    pub(crate) query: f64,
    /// Of compression, projection and the prefill of the visual tokens.
    pub(crate) visual: f64,
    /// Of the prefill of the text tokens; zero when it lies cached in front of the image.
    pub(crate) text: f64,
}

impl Scenario {
    /// `count` questions about one image.
    ///
    /// # Errors
    /// When `count` is zero.
    pub fn questions_per_image(count: u32) -> Result<Self, CostError> {
        NonZeroU32::new(count).map(Self::QuestionsPerImage).ok_or_else(|| CostError::Request {
            field: "questions-per-image",
            value: count.to_string(),
            allowed: format!("it must be a whole number from 1 to {}", u32::MAX),
        })
    }

    pub(crate) fn reuse(self, reads_question: bool) -> Reuse {
        let alone = Reuse { tower: 1.0, query: 1.0, visual: 1.0, text: 1.0 };
        match self {
            Self::Single => alone,
            Self::CachedText => Reuse { text: 0.0, ..alone },
            Self::QuestionsPerImage(count) => {
                let share = 1.0 / f64::from(count.get());
                Reuse { tower: share, visual: if reads_question { 1.0 } else { share }, ..alone }
            }
            Self::FixedQuestion => Reuse { query: 0.0, text: 0.0, ..alone },
        }
    }

    /// The tokens that the `paper` cost charges to one question: Q + V for a single question, V when the text is
    /// cached, Q + V/k when k questions share visual tokens.
    pub fn paper_tokens(self, text_tokens: usize, visual_tokens: usize, reads_question: bool) -> f64 {
        let reuse = self.reuse(reads_question);
        reuse.text * text_tokens as f64 + reuse.visual * visual_tokens as f64
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single => f.write_str("single"),
            Self::CachedText => f.write_str("cached-text"),
            Self::QuestionsPerImage(count) => write!(f, "questions-per-image:{count}"),
            Self::FixedQuestion => f.write_str("fixed-question"),
        }
    }
}

impl FromStr for Scenario {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        let folded = text.trim().to_lowercase().replace('_', "-");
        match folded.split_once(':') {
            None => match folded.as_str() {
                "single" => Ok(Self::Single),
                "cached-text" => Ok(Self::CachedText),
                "fixed-question" => Ok(Self::FixedQuestion),
                _ => Err(unknown("scenario", text, FORMS.into_iter())),
            },
            Some(("questions-per-image", count)) => {
                let count: NonZeroU32 = count.parse().map_err(|_| CostError::Request {
                    field: "questions-per-image",
                    value: count.chars().take(40).collect(),
                    allowed: format!("it must be a whole number from 1 to {}", u32::MAX),
                })?;
                Ok(Self::QuestionsPerImage(count))
            }
            Some(_) => Err(unknown("scenario", text, FORMS.into_iter())),
        }
    }
}

serde_as_string!(Scenario);

/// The most tokens of text or answer that a request may have.
const MOST_TOKENS: usize = 1 << 26;

/// One question as the language model sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Q: text tokens of the prompt. All of them count as the question that a compressor reads.
    pub text_tokens: usize,
    /// A: tokens generated, the end token included. See [`Vlm::cost`](super::Vlm::cost) for the passes they take.
    pub answer_tokens: usize,
    /// What is shared between questions.
    #[serde(default)]
    pub scenario: Scenario,
}

impl Workload {
    /// A single question of `text_tokens` tokens answered in `answer_tokens` tokens.
    pub fn new(text_tokens: usize, answer_tokens: usize) -> Self {
        Self { text_tokens, answer_tokens, scenario: Scenario::Single }
    }

    /// The same question in another scenario.
    pub fn with_scenario(self, scenario: Scenario) -> Self {
        Self { scenario, ..self }
    }

    pub(crate) fn validate(&self) -> Result<(), CostError> {
        for (field, value) in [("text tokens", self.text_tokens), ("answer tokens", self.answer_tokens)] {
            if value > MOST_TOKENS {
                let allowed = format!("it must lie in 0..={MOST_TOKENS}");
                return Err(CostError::Request { field, value: value.to_string(), allowed });
            }
        }
        Ok(())
    }
}

/// Which of the two ways counts the cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum CostModel {
    /// The published one, 2·N·(Q+V): the language model's prefill and nothing else, without attention and bytes.
    Paper,
    /// Every stage, with attention, output head and bytes.
    #[default]
    Full,
}

const COST_MODELS: &[Choice<CostModel>] = &[(CostModel::Paper, "paper", &[]), (CostModel::Full, "full", &[])];

impl fmt::Display for CostModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paper => "paper",
            Self::Full => "full",
        })
    }
}

impl FromStr for CostModel {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        choose("cost model", text, COST_MODELS)
    }
}

serde_as_string!(CostModel);

/// FLOPs of the `paper` cost, 2·N·tokens, for any N: a true count, a nominal one, or a point between.
///
/// ```
/// use foveate_law::cost::paper_flops;
/// assert_eq!(paper_flops(0.5e9, 51.0), 51e9);
/// ```
pub fn paper_flops(parameters: f64, tokens: f64) -> f64 {
    2.0 * parameters * tokens
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scenarios_round_trip() {
        for text in ["single", "cached-text", "questions-per-image:7", "fixed-question"] {
            assert_eq!(text.parse::<Scenario>().unwrap().to_string(), text);
            let json = format!("\"{text}\"");
            let scenario: Scenario = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&scenario).unwrap(), json);
        }
        assert_eq!("Cached_Text".parse::<Scenario>().unwrap(), Scenario::CachedText);
        assert_eq!("paper".parse::<CostModel>().unwrap(), CostModel::Paper);
    }

    #[test]
    fn bad_scenarios_say_what_is_allowed() {
        for text in ["", "cached", "questions-per-image", "single:1", "::"] {
            let message = text.parse::<Scenario>().unwrap_err().to_string();
            assert!(
                message.contains("questions-per-image:K") && message.contains("fixed-question"),
                "{message}"
            );
        }
        for text in ["questions-per-image:0", "questions-per-image:-1", "questions-per-image:x"] {
            let message = text.parse::<Scenario>().unwrap_err().to_string();
            assert!(message.contains("whole number from 1"), "{message}");
        }
        assert!(Scenario::questions_per_image(0).is_err());
    }

    #[test]
    fn paper_tokens_follow_the_scenario() {
        let shared = Scenario::questions_per_image(4).unwrap();
        assert_eq!(Scenario::Single.paper_tokens(50, 36, true), 86.0);
        assert_eq!(Scenario::CachedText.paper_tokens(50, 36, true), 36.0);
        assert_eq!(Scenario::FixedQuestion.paper_tokens(50, 36, false), 36.0);
        assert_eq!(shared.paper_tokens(50, 36, false), 59.0);
        assert_eq!(shared.paper_tokens(50, 36, true), 86.0);
    }
}
