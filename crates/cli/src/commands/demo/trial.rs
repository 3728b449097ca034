//! foveate-nano's answers at several numbers of visual tokens, beside the answers that are known.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use foveate_compress::Budget;
use foveate_data::Question;
use foveate_data::baseline::normalise;
use foveate_model::generate::{GenerateOptions, Session};
use serde::Serialize;

use super::exhibits::Exhibit;
use crate::answer::{Looked, generate};
use crate::failure::Failure;
use crate::model::{Model, one_question};
use crate::text::{aligned, without_controls};

/// Numbers of visual tokens that are tried besides the most.
const TRIED: [usize; 3] = [1, 4, 16];
/// Longest answer, in tokens.
const MOST_TOKENS: usize = 24;
/// Characters of a line of a question in the table.
const LINE: usize = 44;
/// Characters of an answer in the table.
const MOST_SHOWN: usize = 16;

/// All answers.
pub(super) struct Trial {
    /// Numbers of visual tokens, ascending.
    budgets: Vec<usize>,
    pub(super) answers: Vec<Answered>,
}

/// What was answered to one question; maps are by the number of visual tokens.
#[derive(Serialize)]
pub(super) struct Answered {
    image: String,
    skill: &'static str,
    question: String,
    expected: String,
    answers: BTreeMap<usize, String>,
    /// Whether the answer is the expected one, case and punctuation apart.
    right: BTreeMap<usize, bool>,
    /// From the picture's pixels to the last token, nothing cached.
    ms: BTreeMap<usize, f64>,
}

impl Trial {
    pub(super) fn new(model: &Model, exhibits: &[Exhibit]) -> Result<Trial, Failure> {
        let ladder = model.seeing()?.vlm().ladder();
        let offered = |tokens: &usize| ladder.contains(Budget::Tokens(*tokens));
        let mut budgets: Vec<usize> = TRIED.into_iter().filter(offered).chain(ladder.values()).collect();
        let most = budgets.iter().copied().max().unwrap_or(1);
        budgets.retain(|tokens| TRIED.contains(tokens) || *tokens == most);
        budgets.sort_unstable();
        budgets.dedup();
        // The first answer finds cold memory; it is not timed.
        ask(model, &exhibits[0], &exhibits[0].questions[0], most)?;
        let mut answers = Vec::new();
        for exhibit in exhibits {
            for question in &exhibit.questions {
                answers.push(answered(model, exhibit, question, &budgets)?);
            }
        }
        Ok(Trial { budgets, answers })
    }

    /// The table for people.
    pub(super) fn told(&self) -> String {
        let columns = self.budgets.iter().map(|tokens| format!("V = {tokens}"));
        let header: Vec<String> =
            ["picture", "question", "expected"].map(str::to_owned).into_iter().chain(columns).collect();
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut rows: Vec<Vec<String>> = Vec::new();
        for answered in &self.answers {
            let mut row =
                vec![answered.image.clone(), wrapped(&answered.question), answered.expected.clone()];
            row.extend(self.budgets.iter().map(|tokens| answered.shown(*tokens)));
            rows.push(row);
        }
        let summary = |name: &str, cell: &dyn Fn(usize) -> String| {
            let cells = self.budgets.iter().map(|tokens| cell(*tokens));
            [String::new(), String::new(), name.to_owned()].into_iter().chain(cells).collect::<Vec<String>>()
        };
        rows.push(summary("right", &|tokens| format!("{} of {}", self.right(tokens), self.answers.len())));
        rows.push(summary("median ms", &|tokens| format!("{:.1}", self.median(tokens))));
        aligned(&header, &rows, |_| true)
    }

    fn right(&self, tokens: usize) -> usize {
        self.answers.iter().filter(|answered| answered.right.get(&tokens) == Some(&true)).count()
    }

    fn median(&self, tokens: usize) -> f64 {
        let mut times: Vec<f64> =
            self.answers.iter().filter_map(|answered| answered.ms.get(&tokens).copied()).collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Answered {
    /// The answer, and whether it is right.
    fn shown(&self, tokens: usize) -> String {
        let answer = self.answers.get(&tokens).map(|answer| without_controls(answer)).unwrap_or_default();
        let answer = answer.replace(['\n', '\t'], " ");
        let mark = if self.right.get(&tokens) == Some(&true) { '✓' } else { '✗' };
        match answer.chars().count() > MOST_SHOWN {
            true => format!("{mark} {}…", answer.chars().take(MOST_SHOWN - 1).collect::<String>()),
            false => format!("{mark} {answer}"),
        }
    }
}

fn answered(
    model: &Model,
    exhibit: &Exhibit,
    question: &Question,
    budgets: &[usize],
) -> Result<Answered, Failure> {
    let mut answered = Answered {
        image: exhibit.file.clone(),
        skill: question.skill.name(),
        question: question.text.clone(),
        expected: question.answer.clone(),
        answers: BTreeMap::new(),
        right: BTreeMap::new(),
        ms: BTreeMap::new(),
    };
    for &tokens in budgets {
        let (text, ms) = ask(model, exhibit, question, tokens)?;
        answered.right.insert(tokens, is_right(&text, &question.answer));
        answered.answers.insert(tokens, text);
        answered.ms.insert(tokens, ms);
    }
    Ok(answered)
}

/// Words in lines of at most [`LINE`] characters.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= LINE) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn is_right(answer: &str, expected: &str) -> bool {
    normalise(answer) == normalise(expected)
}

/// The answer and the milliseconds it took from the pixels on.
fn ask(
    model: &Model,
    exhibit: &Exhibit,
    question: &Question,
    tokens: usize,
) -> Result<(String, f64), Failure> {
    let model = model.clone().with_fresh_caches();
    let started = Instant::now();
    let seen =
        model.look(std::slice::from_ref(&exhibit.image), &question.text, Some(Budget::Tokens(tokens)))?;
    let looked = Looked { seen, ..Looked::default() };
    let asked = model.prompt(&one_question(None, &question.text), &looked.rows())?;
    let mut session = Session::new(model.decoder.clone());
    let options = GenerateOptions { max_tokens: MOST_TOKENS, ..GenerateOptions::default() };
    let ignore = |_: &str| ControlFlow::Continue(());
    let answer = generate(&model, &mut session, &asked, &looked, &options, started.elapsed(), ignore)?;
    Ok((answer.text().trim().to_owned(), answer.ms.total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_is_the_expected_answer_case_and_punctuation_apart() {
        for (answer, expected, right) in [
            ("Two.", "two", true),
            ("$ 3.50", "$3.50", true),
            ("3.5", "3.50", false),
            ("two stars", "two", false),
            ("", "no", false),
        ] {
            assert_eq!(is_right(answer, expected), right, "{answer:?} for {expected:?}");
        }
    }

    #[test]
    fn long_questions_are_wrapped_between_words() {
        let text = "Would you say that the large purple object is lower than the small black object?";
        let wrapped = wrapped(text);
        assert_eq!(wrapped.replace('\n', " "), text);
        assert_eq!(wrapped.lines().count(), 2);
        assert!(wrapped.lines().all(|line| line.len() <= LINE), "{wrapped}");
    }

    #[test]
    fn answers_are_shown_in_a_line_with_their_mark() {
        let mut answered = Answered {
            image: String::new(),
            skill: "count",
            question: String::new(),
            expected: String::new(),
            answers: [(1, "a\nb\u{1b}".to_owned()), (4, "x".repeat(40))].into(),
            right: [(1, true), (4, false)].into(),
            ms: BTreeMap::new(),
        };
        assert_eq!(answered.shown(1), "✓ a b\u{fffd}");
        assert_eq!(answered.shown(4), format!("✗ {}…", "x".repeat(MOST_SHOWN - 1)));
        answered.right.clear();
        assert!(answered.shown(1).starts_with('✗'));
    }
}
