//! What is said to the model around a question.

use crate::item::Item;
use crate::metric::letter;
use crate::{EvalError, Result};

/// A text with `{question}` and, where there may be options, `{options}`: each on a line with its letter, and how to choose.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptTemplate(String);

const QUESTION: &str = "{question}";
const OPTIONS: &str = "{options}";

impl PromptTemplate {
    /// The question alone.
    pub fn plain() -> PromptTemplate {
        PromptTemplate(QUESTION.to_owned())
    }

    /// Reads a template; `place` and `field` name it in messages.
    ///
    /// # Errors
    /// A template without `{question}`, or with braces around anything else.
    pub fn new(text: &str, place: &str, field: &str) -> Result<PromptTemplate> {
        let rest = text.replace(QUESTION, "").replace(OPTIONS, "");
        if !text.contains(QUESTION) || rest.contains(['{', '}']) {
            let allowed = "a text with {question} and, where wanted, {options}, and no other braces";
            return Err(EvalError::field(place, field, format!("{text:?}"), allowed));
        }
        Ok(PromptTemplate(text.to_owned()))
    }

    /// What is asked.
    pub fn ask(&self, item: &Item) -> String {
        let options = if item.options.is_empty() {
            "Answer the question using a single word or phrase.".to_owned()
        } else {
            let lines = item.options.iter().enumerate();
            let lines: Vec<String> = lines.map(|(at, option)| format!("{}. {option}", letter(at))).collect();
            lines.join("\n") + "\nAnswer with the option's letter from the given choices directly."
        };
        // The question comes last: it may hold braces of its own.
        self.0.replace(OPTIONS, &options).replacen(QUESTION, &item.question, 1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metric::Expected;

    fn item(options: &[&str]) -> Item {
        Item {
            id: "1".into(),
            group: "1".into(),
            unit: "1".into(),
            pictures: Vec::new(),
            question: "Which {options}?".into(),
            options: options.iter().map(|option| (*option).into()).collect(),
            expected: Expected::Option(0),
            skill: String::new(),
            family: foveate_data::Family::Reasoning,
        }
    }

    #[test]
    fn options_get_letters_and_questions_keep_their_braces() {
        let prompt = PromptTemplate::new("{question}\n{options}", "plan.toml", "prompt").unwrap();
        assert_eq!(
            prompt.ask(&item(&["red", "blue"])),
            "Which {options}?\nA. red\nB. blue\nAnswer with the option's letter from the given choices directly."
        );
        assert!(prompt.ask(&item(&[])).ends_with("?\nAnswer the question using a single word or phrase."));
        assert_eq!(PromptTemplate::plain().ask(&item(&["red"])), "Which {options}?");
    }

    #[test]
    fn templates_without_a_question_are_refused() {
        for wrong in ["", "What?", "{question} {hint}", "{question"] {
            let error = PromptTemplate::new(wrong, "plan.toml", "tasks.a.prompt").unwrap_err().to_string();
            assert!(error.contains("`tasks.a.prompt`") && error.contains("{question}"), "{error}");
        }
    }
}
