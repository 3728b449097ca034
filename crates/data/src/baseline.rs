//! What can be answered without looking: the question-only baseline that every score has to beat.
//!
//! Fitted on the questions of train, it answers with the most frequent answer: of the skill; of the template; or of the
//! very text (normalised), falling back to the template and the skill for texts that train does not have. The baseline
//! of a mix is the best of the three.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::sample::{Question, Skill};

/// Case, punctuation and spacing taken away: what counts as the same question, or the same answer.
pub fn normalise(text: &str) -> String {
    let kept: String = text.chars().map(|c| if c.is_alphanumeric() || c == '.' { c } else { ' ' }).collect();
    let words = kept.split_whitespace().map(|word| word.trim_matches('.').to_lowercase());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// By what a question is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cue {
    /// Its skill.
    Skill,
    /// Its template.
    Form,
    /// Its normalised text.
    Text,
}

type Counts = HashMap<String, u32>;

/// The most frequent answers of train.
#[derive(Debug, Clone, Default)]
pub struct QuestionOnly {
    by_skill: HashMap<Skill, String>,
    by_form: HashMap<&'static str, String>,
    by_text: HashMap<String, String>,
}

impl QuestionOnly {
    /// Learns from the questions of train.
    pub fn fit<'a>(questions: impl IntoIterator<Item = &'a Question>) -> QuestionOnly {
        let mut skills: HashMap<Skill, Counts> = HashMap::new();
        let mut forms: HashMap<&'static str, Counts> = HashMap::new();
        let mut texts: HashMap<String, Counts> = HashMap::new();
        for question in questions {
            let answer = normalise(&question.answer);
            *skills.entry(question.skill).or_default().entry(answer.clone()).or_default() += 1;
            *forms.entry(question.form).or_default().entry(answer.clone()).or_default() += 1;
            *texts.entry(normalise(&question.text)).or_default().entry(answer).or_default() += 1;
        }
        QuestionOnly { by_skill: best(skills), by_form: best(forms), by_text: best(texts) }
    }

    /// Its normalised answer, by this cue or the next coarser one that train knows; `None` if it knows none.
    pub fn answer(&self, question: &Question, cue: Cue) -> Option<&str> {
        let text = (cue == Cue::Text).then(|| self.by_text.get(&normalise(&question.text))).flatten();
        let form = || (cue >= Cue::Form).then(|| self.by_form.get(question.form)).flatten();
        text.or_else(form).or_else(|| self.by_skill.get(&question.skill)).map(String::as_str)
    }

    /// Scores it on other questions.
    pub fn measure<'a>(&self, questions: impl IntoIterator<Item = &'a Question>) -> Report {
        let mut report = Report::default();
        for question in questions {
            let truth = normalise(&question.answer);
            let right = [Cue::Skill, Cue::Form, Cue::Text]
                .map(|cue| self.answer(question, cue) == Some(truth.as_str()));
            for score in [&mut report.overall, report.by_skill.entry(question.skill).or_default()] {
                score.questions += 1;
                for (sum, right) in score.right.iter_mut().zip(right) {
                    *sum += usize::from(right);
                }
            }
        }
        report
    }
}

fn best<K: std::hash::Hash + Eq>(counts: HashMap<K, Counts>) -> HashMap<K, String> {
    let most = |counts: Counts| {
        // Ties go to the first in the alphabet, or the result would hang on the order of a hash map.
        counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0))).map(|(answer, _)| answer)
    };
    counts.into_iter().filter_map(|(key, counts)| Some((key, most(counts)?))).collect()
}

/// Right answers of some questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Questions asked.
    pub questions: usize,
    /// Answered rightly by skill, by template, by text.
    right: [usize; 3],
}

impl Score {
    /// Part of the questions answered rightly by this cue; zero for no question.
    pub fn accuracy(&self, cue: Cue) -> f64 {
        self.right[cue as usize] as f64 / self.questions.max(1) as f64
    }

    /// The best of the three cues.
    pub fn best(&self) -> f64 {
        [Cue::Skill, Cue::Form, Cue::Text].map(|cue| self.accuracy(cue)).into_iter().fold(0.0, f64::max)
    }
}

/// The baseline on a set of questions; prints as a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Over all of them.
    pub overall: Score,
    /// Each skill by itself.
    pub by_skill: BTreeMap<Skill, Score>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16} {:>9} {:>9} {:>9} {:>9}",
            "question only", "questions", "by skill", "by form", "by text"
        )?;
        let rows = self.by_skill.iter().map(|(skill, score)| (skill.name(), score));
        for (name, score) in rows.chain([("all", &self.overall)]) {
            let [skill, form, text] =
                [Cue::Skill, Cue::Form, Cue::Text].map(|cue| 100.0 * score.accuracy(cue));
            writeln!(f, "{name:<16} {:>9} {skill:>8.1}% {form:>8.1}% {text:>8.1}%", score.questions)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_cue_that_train_knows_decides() {
        let ask =
            |text: &str, answer: &str, form| Question { form, ..Question::new(text, answer, Skill::Count) };
        let train = [
            ask("How many stars?", "2", "plain"),
            ask("How many stars?", "2", "plain"),
            ask("How many hearts?", "1", "plain"),
            ask("How many rings are red?", "0", "filtered"),
            ask("How many crosses are red?", "0", "filtered"),
            ask("How many hearts are blue?", "0", "filtered"),
        ];
        let baseline = QuestionOnly::fit(&train);
        let seen = ask("how many HEARTS", "1", "plain");
        assert_eq!(baseline.answer(&seen, Cue::Text), Some("1"));
        assert_eq!(baseline.answer(&seen, Cue::Form), Some("2"));
        assert_eq!(baseline.answer(&seen, Cue::Skill), Some("0"));
        let unseen = ask("How many moons?", "5", "plain");
        assert_eq!(baseline.answer(&unseen, Cue::Text), Some("2"));
        let report = baseline.measure([&seen, &unseen]);
        assert_eq!(report.overall.accuracy(Cue::Text), 0.5);
        assert_eq!(report.overall.best(), 0.5);
        assert!(
            report.to_string().contains("count                    2      0.0%      0.0%     50.0%"),
            "{report}"
        );
    }

    #[test]
    fn normalising_keeps_numbers_whole() {
        assert_eq!(normalise("  The total, is $12.50. "), "the total is 12.50");
        assert_eq!(normalise("...?!"), "");
    }
}
