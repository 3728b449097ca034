//! One example to learn from or to be asked: a picture that is decoded when it is looked at, and questions with answers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::image::{DecodeError, Image};
use crate::patches::PatchLabels;
use crate::random::{Draw, hash};

/// The two families of tasks that the scaling laws tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Answered from what is seen: few visual tokens serve it well.
    Reasoning,
    /// Answered by reading: it lives on visual tokens.
    Text,
}

impl Family {
    /// As written in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Family::Reasoning => "reasoning",
            Family::Text => "text",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Family, UnknownName> {
        let all = [Family::Reasoning, Family::Text];
        let known = all.iter().map(|family| family.name());
        all.into_iter()
            .find(|family| family.name() == name)
            .ok_or_else(|| UnknownName::new("family", name, known))
    }
}

/// What a question asks its reader to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Skill {
    /// Is there such a thing?
    Exist,
    /// How many?
    Count,
    /// More, fewer or as many of one kind as of another?
    CompareCounts,
    /// Colour, shape or size of one thing.
    Attribute,
    /// Where one thing lies beside another.
    Relation,
    /// The leftmost, the highest, the nearest.
    Superlative,
    /// Do things agree in an attribute?
    SameDifferent,
    /// And, or, not.
    Logic,
    /// All that is there, in words.
    Describe,
    /// Is this sentence true of the picture?
    Statement,
    /// What is shown?
    Name,
    /// A free question or conversation.
    Open,
    /// What is written?
    Read,
    /// The entry that belongs to a label: the total, the price of the milk.
    Find,
    /// Which word is left of, above, first?
    Place,
    /// How many words, how many items?
    Tally,
    /// The dearest item, the largest number.
    Extreme,
}

impl Skill {
    /// All skills, in the order of reports.
    pub const ALL: [Skill; 17] = [
        Skill::Exist,
        Skill::Count,
        Skill::CompareCounts,
        Skill::Attribute,
        Skill::Relation,
        Skill::Superlative,
        Skill::SameDifferent,
        Skill::Logic,
        Skill::Describe,
        Skill::Statement,
        Skill::Name,
        Skill::Open,
        Skill::Read,
        Skill::Find,
        Skill::Place,
        Skill::Tally,
        Skill::Extreme,
    ];

    /// As written in records and reports.
    pub fn name(self) -> &'static str {
        match self {
            Skill::Exist => "exist",
            Skill::Count => "count",
            Skill::CompareCounts => "compare-counts",
            Skill::Attribute => "attribute",
            Skill::Relation => "relation",
            Skill::Superlative => "superlative",
            Skill::SameDifferent => "same-different",
            Skill::Logic => "logic",
            Skill::Describe => "describe",
            Skill::Statement => "statement",
            Skill::Name => "name",
            Skill::Open => "open",
            Skill::Read => "read",
            Skill::Find => "find",
            Skill::Place => "place",
            Skill::Tally => "tally",
            Skill::Extreme => "extreme",
        }
    }

    /// The family it belongs to unless a record says otherwise.
    pub fn family(self) -> Family {
        match self {
            Skill::Read | Skill::Find | Skill::Place | Skill::Tally | Skill::Extreme => Family::Text,
            _ => Family::Reasoning,
        }
    }
}

impl fmt::Display for Skill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Skill {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Skill, UnknownName> {
        let known = Skill::ALL.iter().map(|skill| skill.name());
        Skill::ALL
            .into_iter()
            .find(|skill| skill.name() == name)
            .ok_or_else(|| UnknownName::new("skill", name, known))
    }
}

/// A name in a record that stands for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {found:?} is unknown; known are {known}")]
pub struct UnknownName {
    field: &'static str,
    found: String,
    known: String,
}

impl UnknownName {
    fn new<'a>(field: &'static str, found: &str, known: impl Iterator<Item = &'a str>) -> UnknownName {
        UnknownName { field, found: found.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
    }
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// As a user would type it.
    pub text: String,
    /// The expected answer.
    pub answer: String,
    /// The family under which it is scored.
    pub family: Family,
    /// What it asks for.
    pub skill: Skill,
    /// The template that it was made from, for balance and the question-only baseline; the skill's name where there
    /// is none.
    pub form: &'static str,
}

impl Question {
    /// A question of this skill and of the skill's family.
    pub fn new(text: impl Into<String>, answer: impl Into<String>, skill: Skill) -> Question {
        let (text, answer) = (text.into(), answer.into());
        Question { text, answer, family: skill.family(), skill, form: skill.name() }
    }
}

/// What can be drawn or decoded when somebody looks at it.
pub(crate) trait Draws: Send + Sync {
    fn draw(&self) -> Result<Image, DecodeError>;

    fn patches(&self, _side: usize) -> Option<PatchLabels> {
        None
    }
}

/// An image that costs nothing until it is looked at.
#[derive(Clone)]
pub struct Picture(Arc<dyn Draws>);

impl Picture {
    #[cfg(any(feature = "datasets", feature = "synthetic"))]
    pub(crate) fn new(source: impl Draws + 'static) -> Picture {
        Picture(Arc::new(source))
    }

    /// A picture that `draw` reads, decodes or draws whenever it is looked at.
    pub fn lazy(draw: impl Fn() -> Result<Image, DecodeError> + Send + Sync + 'static) -> Picture {
        struct Lazy<F>(F);
        impl<F: Fn() -> Result<Image, DecodeError> + Send + Sync> Draws for Lazy<F> {
            fn draw(&self) -> Result<Image, DecodeError> {
                self.0()
            }
        }
        Picture(Arc::new(Lazy(draw)))
    }

    /// Reads, decodes or draws it; each call does so anew.
    pub fn image(&self) -> Result<Image, DecodeError> {
        self.0.draw()
    }

    /// What its `side` x `side` patches show; `None` where nobody knows, which is everywhere but in generated pictures.
    pub fn patches(&self, side: usize) -> Option<PatchLabels> {
        self.0.patches(side)
    }
}

impl From<Image> for Picture {
    fn from(image: Image) -> Picture {
        struct Ready(Image);
        impl Draws for Ready {
            fn draw(&self) -> Result<Image, DecodeError> {
                Ok(self.0.clone())
            }
        }
        Picture(Arc::new(Ready(image)))
    }
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Picture")
    }
}

/// A picture and what is asked about it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Names it in messages and caches: unique within its dataset.
    pub name: String,
    /// Samples of one group belong on one side of a split: the sentence, the receipt, the image.
    pub group: String,
    /// The picture; conversations in text alone have none.
    pub picture: Option<Picture>,
    /// At least one question.
    pub questions: Vec<Question>,
    /// Whether each question follows on the ones before it, as in a conversation; otherwise they are independent.
    pub conversation: bool,
}

impl Sample {
    /// At most `most` of the questions with their numbers, in their order. Of a conversation the first ones: each follows on those
    /// before. Otherwise from the whole list, by `seed` and the group: easy-VQA stores an image's questions by kind.
    pub fn some_questions(&self, most: usize, seed: u64) -> Vec<(usize, &Question)> {
        let mut chosen: Vec<(usize, &Question)> = self.questions.iter().enumerate().collect();
        if chosen.len() > most && !self.conversation {
            Draw::new(seed, "some questions", hash(self.group.as_bytes())).shuffle(&mut chosen);
            chosen.truncate(most);
            chosen.sort_unstable_by_key(|(number, _)| *number);
        }
        chosen.truncate(most);
        chosen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_few_questions_are_of_all_kinds() {
        // Of each picture two of one kind, then eight of another.
        let sample = |group: usize, conversation| {
            let kind = |nth: usize| if nth < 2 { "what" } else { "is it" };
            let questions = (0..10).map(|nth| Question::new(kind(nth), "yes", Skill::Open)).collect();
            let group = group.to_string();
            Sample { name: group.clone(), group, picture: None, questions, conversation }
        };
        let samples: Vec<Sample> = (0..200).map(|group| sample(group, false)).collect();
        let chosen: Vec<_> = samples.iter().map(|sample| sample.some_questions(4, 7)).collect();
        let numbers = |chosen: &[(usize, &Question)]| chosen.iter().map(|one| one.0).collect::<Vec<_>>();
        assert!(chosen.iter().all(|four| four.len() == 4 && numbers(four).is_sorted()));
        let second = chosen.iter().flatten().filter(|(_, question)| question.text == "is it").count();
        assert!((600..680).contains(&second), "{second} of 800, where 640 are expected");
        let again: Vec<_> = samples.iter().map(|sample| sample.some_questions(4, 7)).collect();
        assert!(
            chosen == again
                && chosen != samples.iter().map(|sample| sample.some_questions(4, 8)).collect::<Vec<_>>()
        );
        // All of few are asked, and of a conversation what it begins with.
        assert_eq!(numbers(&samples[0].some_questions(10, 7)), (0..10).collect::<Vec<_>>());
        assert_eq!(numbers(&sample(3, true).some_questions(3, 7)), [0, 1, 2]);
    }

    #[test]
    fn names_are_read_back() {
        for skill in Skill::ALL {
            assert_eq!(skill.name().parse::<Skill>().unwrap(), skill);
        }
        let error = "ocr".parse::<Family>().unwrap_err().to_string();
        assert_eq!(error, "family \"ocr\" is unknown; known are reasoning, text");
    }
}
