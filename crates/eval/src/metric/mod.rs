//! How answers are scored: one sample at a time here, many of them in [`Figures`](crate::Figures).
//!
//! | metric | a sample scores | behaviour at the edges |
//! |---|---|---|
//! | `exact-match` | 1 where answer and a reference agree, case and punctuation apart | |
//! | `vqa-accuracy` | mean over the ten people of min(others who agree / 3, 1) | numbers in words and articles are normalised |
//! | `relaxed-accuracy` | 1 within 5 % of a number, else for the same text | `1,000` is text, as in the official scorer |
//! | `anls` | similarity to the closest reference, 0 below one half | |
//! | `character-error` | 1 − edits / length of the closest reference | |
//! | `pope` | 1 for the right yes or no; summed up as F1 and the part of *yes*, too | no *no* is a *yes*, as official; nothing at all is wrong |
//! | `mme` | 1 for the right yes or no; summed up per subtask, pairs too | neither *yes* nor *no* in front is wrong |
//! | `choice` | 1 for the right option | an answer in doubt is wrong, never drawn |
//! | `circular-choice` | as `choice`; summed up over all turns of the options | |
//! | `math-vista` | 1 for the right option, number (as precise as asked) or text | numbers are found in sentences |
//! | `mmmu` | 1 for the right option; open: a reference occurs, numbers to two digits | |
//!
//! An empty answer is wrong everywhere (unless the reference is empty), a list is a text like any other, and every script is
//! read. An item without a reference is no item: readers refuse it.

mod answer;
mod choice;
mod text;

use std::fmt;
use std::str::FromStr;

use foveate_data::baseline::normalise;
use serde::{Deserialize, Serialize};

pub use answer::normalise_answer;
pub use choice::{chosen, letter};
pub use text::{anls, character_error, edit_distance, numbers, relaxed_match};

use crate::EvalError;

/// What the right answer is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Any of these; for VQA accuracy one for each person asked.
    Texts(Vec<String>),
    /// The option of this index.
    Option(usize),
    /// Yes or no.
    YesNo(bool),
    /// A number, to so many digits behind the point.
    Number {
        /// The number.
        value: f64,
        /// Digits that count.
        digits: u32,
    },
}

/// A published measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the table of the module says what each is")]
pub enum Metric {
    ExactMatch,
    VqaAccuracy,
    RelaxedAccuracy,
    Anls,
    CharacterError,
    Pope,
    Mme,
    Choice,
    CircularChoice,
    MathVista,
    Mmmu,
}

/// How an answer was read, and what it is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// From 0 (wrong) to 1 (right).
    pub score: f64,
    /// What was read in the answer, where that is one of a few things: `yes`, `no`, the letter of an option.
    pub read: Option<String>,
}

impl Judgement {
    /// Of an option that was chosen, or of none.
    pub(crate) fn of_option(chosen: Option<usize>, right: usize) -> Judgement {
        let read = chosen.map(|option| letter(option).to_string());
        Judgement { score: f64::from(chosen == Some(right)), read }
    }
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 11] = [
        Metric::ExactMatch,
        Metric::VqaAccuracy,
        Metric::RelaxedAccuracy,
        Metric::Anls,
        Metric::CharacterError,
        Metric::Pope,
        Metric::Mme,
        Metric::Choice,
        Metric::CircularChoice,
        Metric::MathVista,
        Metric::Mmmu,
    ];

    /// As written in files of tasks.
    pub fn name(self) -> &'static str {
        match self {
            Metric::ExactMatch => "exact-match",
            Metric::VqaAccuracy => "vqa-accuracy",
            Metric::RelaxedAccuracy => "relaxed-accuracy",
            Metric::Anls => "anls",
            Metric::CharacterError => "character-error",
            Metric::Pope => "pope",
            Metric::Mme => "mme",
            Metric::Choice => "choice",
            Metric::CircularChoice => "circular-choice",
            Metric::MathVista => "math-vista",
            Metric::Mmmu => "mmmu",
        }
    }

    /// Whether it can judge answers to what is expected: a dataset of texts has no options to choose from.
    pub fn fits(self, expected: &Expected) -> bool {
        match self {
            Metric::ExactMatch
            | Metric::VqaAccuracy
            | Metric::RelaxedAccuracy
            | Metric::Anls
            | Metric::CharacterError => matches!(expected, Expected::Texts(_)),
            Metric::Pope | Metric::Mme => matches!(expected, Expected::YesNo(_)),
            Metric::Choice | Metric::CircularChoice => matches!(expected, Expected::Option(_)),
            Metric::Mmmu => matches!(expected, Expected::Option(_) | Expected::Texts(_)),
            Metric::MathVista => !matches!(expected, Expected::YesNo(_)),
        }
    }

    /// Scores an answer. What does not [fit](Self::fits) scores 0.
    ///
    /// ```
    /// use foveate_eval::metric::{Expected, Metric};
    /// let ten = |two: usize| Expected::Texts((0..10).map(|person| if person < two { "2" } else { "3" }.into()).collect());
    /// let score = |agree| Metric::VqaAccuracy.judge("two", &[], &ten(agree)).score;
    /// // Two people who agree: each of them leaves one other, the remaining eight leave two.
    /// assert!((score(2) - (2.0 * 1.0 / 3.0 + 8.0 * 2.0 / 3.0) / 10.0).abs() < 1e-12);
    /// assert!((score(3) - 0.9).abs() < 1e-12 && score(4) == 1.0 && score(0) == 0.0);
    /// ```
    pub fn judge(self, answer: &str, options: &[String], expected: &Expected) -> Judgement {
        if !self.fits(expected) {
            return Judgement { score: 0.0, read: None };
        }
        match expected {
            Expected::YesNo(truth) => {
                let read = if self == Metric::Pope { pope_reading(answer) } else { mme_reading(answer) };
                let word = read.map(|yes| if yes { "yes" } else { "no" }.to_owned());
                Judgement { score: f64::from(read == Some(*truth)), read: word }
            }
            Expected::Option(right) => Judgement::of_option(chosen(answer, options), *right),
            Expected::Number { value, digits } => {
                let scale = 10_f64.powi(*digits as i32);
                let near = |number: &f64| (number * scale).round() == (value * scale).round();
                Judgement { score: f64::from(numbers(answer).last().is_some_and(near)), read: None }
            }
            Expected::Texts(references) => {
                Judgement { score: self.text_score(answer, references), read: None }
            }
        }
    }

    fn text_score(self, answer: &str, references: &[String]) -> f64 {
        let any = |same: &dyn Fn(&String) -> bool| f64::from(references.iter().any(same));
        match self {
            Metric::VqaAccuracy => consensus(answer, references),
            Metric::RelaxedAccuracy => any(&|reference| relaxed_match(answer, reference)),
            Metric::Anls => anls(answer, references),
            Metric::CharacterError => 1.0 - character_error(answer, references),
            Metric::Mmmu => any(&|reference| occurs(answer, reference)),
            _ => any(&|reference| agree(answer, reference)),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = EvalError;

    fn from_str(name: &str) -> Result<Metric, EvalError> {
        let found = Metric::ALL.into_iter().find(|metric| metric.name() == name);
        found.ok_or_else(|| EvalError::unknown("metric", name, Metric::ALL.map(Metric::name)))
    }
}

/// Whether two texts agree, case and punctuation apart; of texts that are nothing else, every mark counts.
fn agree(answer: &str, reference: &str) -> bool {
    match (normalise(answer), normalise(reference)) {
        (answer, reference) if !answer.is_empty() && !reference.is_empty() => answer == reference,
        _ => answer.trim() == reference.trim(),
    }
}

/// VQA accuracy (`vqaEval.py`): each person is left out once; of the others three who agree make an answer right.
fn consensus(answer: &str, references: &[String]) -> f64 {
    const ENOUGH: f64 = 3.0;
    let answer = normalise_answer(answer);
    let agree: Vec<bool> = references.iter().map(|reference| normalise_answer(reference) == answer).collect();
    let all = agree.iter().filter(|agrees| **agrees).count();
    let without = |agrees: &bool| ((all - usize::from(*agrees)) as f64 / ENOUGH).min(1.0);
    // One reference alone has nobody to agree with.
    if references.len() == 1 {
        return f64::from(agree[0]);
    }
    agree.iter().map(without).sum::<f64>() / references.len().max(1) as f64
}

/// POPE's reading (arXiv 2305.10355): *no* or *not* as a word of the first sentence, else *yes*; of nothing, neither.
fn pope_reading(answer: &str) -> Option<bool> {
    let sentence = answer.split('.').next().unwrap_or_default().replace(',', "");
    if answer.trim().is_empty() {
        return None;
    }
    Some(!sentence.split_whitespace().any(|word| matches!(word, "No" | "no" | "not")))
}

/// MME's reading (arXiv 2306.13394): *yes*, else *no*, within the first four letters.
fn mme_reading(answer: &str) -> Option<bool> {
    let front: String = answer.trim().to_lowercase().chars().take(4).collect();
    match (front.contains("yes"), front.contains("no")) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

/// Whether a reference occurs in an open answer: as a number to two digits, else as words.
fn occurs(answer: &str, reference: &str) -> bool {
    let rounded = |value: f64| (value * 100.0).round();
    if let (&[number], true) = (numbers(reference).as_slice(), is_number(reference)) {
        return numbers(answer).iter().any(|said| rounded(*said) == rounded(number));
    }
    let (answer, reference) = (normalise(answer), normalise(reference));
    !reference.is_empty() && format!(" {answer} ").contains(&format!(" {reference} "))
}

fn is_number(text: &str) -> bool {
    text.trim().trim_start_matches(['$', '€', '£']).replace(',', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn score(metric: Metric, answer: &str, references: &[&str]) -> f64 {
        let expected = Expected::Texts(references.iter().map(|text| (*text).to_owned()).collect());
        metric.judge(answer, &[], &expected).score
    }

    fn read(metric: Metric, answer: &str) -> Option<String> {
        metric.judge(answer, &[], &Expected::YesNo(true)).read
    }

    #[test]
    fn names_are_read_back_and_unknown_ones_listed() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse::<Metric>().unwrap(), metric);
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
        let error = "bleu".parse::<Metric>().unwrap_err().to_string();
        assert!(
            error.starts_with("metric \"bleu\" is unknown; known are exact-match, vqa-accuracy"),
            "{error}"
        );
    }

    /// Answers of ten people: four say yes, six no.
    #[test]
    fn vqa_accuracy_leaves_each_person_out() {
        let people = ["yes", "Yes.", "yes", "yes", "no", "no", "no", "no", "no", "no"];
        assert_eq!(score(Metric::VqaAccuracy, "no", &people), 1.0);
        assert_eq!(score(Metric::VqaAccuracy, "YES", &people), 1.0);
        assert_eq!(score(Metric::VqaAccuracy, "maybe", &people), 0.0);
        let one = ["2", "3", "3", "3", "3", "3", "3", "3", "3", "3"];
        // Whoever said it is left out once: nine times a third.
        assert!((score(Metric::VqaAccuracy, "two", &one) - 0.3).abs() < 1e-12);
        assert_eq!(score(Metric::VqaAccuracy, "", &one), 0.0);
        assert_eq!(score(Metric::VqaAccuracy, "x", &[]), 0.0);
        assert_eq!(score(Metric::VqaAccuracy, "the Cat", &["cat"]), 1.0);
        assert_eq!(score(Metric::VqaAccuracy, "東京", &["東京", "東京", "東京", "東京"]), 1.0);
    }

    #[test]
    fn pope_reads_the_first_sentence() {
        for (answer, yes) in [
            ("Yes, there is.", Some("yes")),
            ("No, there is no dog.", Some("no")),
            ("There is not a dog", Some("no")),
            ("A dog. No cat", Some("yes")),
            ("I see nothing", Some("yes")),
            ("NO", Some("yes")),
            ("", None),
            ("  ", None),
        ] {
            assert_eq!(read(Metric::Pope, answer).as_deref(), yes, "{answer:?}");
        }
    }

    #[test]
    fn mme_reads_the_front() {
        for (answer, yes) in [
            ("Yes", Some("yes")),
            ("no.", Some("no")),
            ("Not at all", Some("no")),
            ("It is, yes", None),
            ("\"Yes\"", Some("yes")),
            ("", None),
            ("是", None),
        ] {
            assert_eq!(read(Metric::Mme, answer).as_deref(), yes, "{answer:?}");
        }
    }

    #[test]
    fn exact_matches_and_open_answers() {
        assert_eq!(score(Metric::ExactMatch, "Two.", &["one", "two"]), 1.0);
        assert_eq!(score(Metric::ExactMatch, "2", &["two"]), 0.0);
        assert_eq!(score(Metric::ExactMatch, "", &["two"]), 0.0);
        assert_eq!(score(Metric::ExactMatch, "['a', 'b']", &["a b"]), 1.0);
        assert_eq!(score(Metric::Mmmu, "so x is about 3.142", &["3.14"]), 1.0);
        assert_eq!(score(Metric::Mmmu, "It is the Trevi fountain.", &["trevi fountain"]), 1.0);
        assert_eq!(score(Metric::Mmmu, "thirteen", &["3"]), 0.0);
    }

    #[test]
    fn math_vista_rounds_as_asked() {
        let number = |answer: &str, value, digits| {
            Metric::MathVista.judge(answer, &[], &Expected::Number { value, digits }).score
        };
        assert_eq!(number("The answer is 1.24", 1.2, 1), 1.0);
        assert_eq!(number("1.26", 1.2, 1), 0.0);
        assert_eq!(number("3 + 4 = 7", 7.0, 0), 1.0);
        assert_eq!(number("seven", 7.0, 0), 0.0);
        assert_eq!(number("", 0.0, 0), 0.0);
        let options = ["2/11".to_owned(), "8/11".to_owned()];
        let choice = |answer: &str| Metric::MathVista.judge(answer, &options, &Expected::Option(1)).score;
        assert_eq!((choice("B"), choice("8/11"), choice("2/11")), (1.0, 1.0, 0.0));
        assert_eq!(score(Metric::MathVista, "[0, 2]", &["[0, 2]"]), 1.0);
    }

    proptest! {
        #[test]
        fn any_answer_scores_between_nothing_and_all(
            answer in "\\PC{0,30}", references in prop::collection::vec("\\PC{0,12}", 0..11), nth in 0..Metric::ALL.len(),
        ) {
            let texts = Expected::Texts(references.clone());
            for expected in [texts, Expected::Option(1), Expected::YesNo(false), Expected::Number { value: 1.5, digits: 1 }] {
                let score = Metric::ALL[nth].judge(&answer, &references, &expected).score;
                prop_assert!((0.0..=1.0).contains(&score), "{score}");
            }
        }

        #[test]
        fn saying_the_reference_is_right(reference in "[a-z]{3,9}( [a-z]{3,9}){0,2}", nth in 0..5_usize) {
            prop_assert_eq!(score(Metric::ALL[nth], &reference, &[&reference]), 1.0);
        }
    }
}
