//! Questions about a scene, by skill, with answers from the scene.
//!
//! Answers are balanced where they are drawn: a yes-or-no question is asked only of a scene that has a case for either
//! answer, and a coin decides; of counts, each number that the scene has is as likely. References are unique, spatial
//! ones keep a margin, and no question contains its answer.

use super::language::{Attribute, Phrase, Words};
use super::templates::{self as form, Form};
use super::{Container, Object, Scene, Vessel};
use crate::baseline::normalise;
use crate::random::Draw;
use crate::sample::{Question, Skill};
use crate::synthetic::Split;

const SKILLS: [Skill; 8] = [
    Skill::Exist,
    Skill::Count,
    Skill::CompareCounts,
    Skill::Attribute,
    Skill::Relation,
    Skill::Superlative,
    Skill::SameDifferent,
    Skill::Logic,
];

/// Up to `wanted` different questions, of different skills as long as the scene has a case for them.
pub(super) fn questions(scene: &Scene, split: Split, wanted: usize, draw: &mut Draw) -> Vec<Question> {
    let mut found: Vec<Question> = Vec::new();
    let mut asker = Asker { scene, split, draw };
    let mut skills = SKILLS;
    // Six rounds of all skills are enough for a dozen questions about any scene; a bound keeps `wanted` harmless.
    for _ in 0..6 {
        asker.draw.shuffle(&mut skills);
        for skill in skills {
            if found.len() == wanted {
                return found;
            }
            let question = (0..4).find_map(|_| asker.ask(skill));
            found.extend(question.filter(|question| found.iter().all(|other| other.text != question.text)));
        }
    }
    found
}

/// All objects from left to right, such as "small red heart, large blue ring in the box": many words that only the picture
/// can give, where other answers are one.
pub(super) fn caption(scene: &Scene, draw: &mut Draw) -> Question {
    let mut objects: Vec<&Object> = scene.objects.iter().collect();
    objects.sort_by(|a, b| a.x.total_cmp(&b.x));
    let described = objects.into_iter().map(|object| {
        let words = Attribute::ALL.map(|attribute| attribute.of(object)).join(" ");
        match scene.container.filter(|container| container.holds(object)) {
            Some(Container { vessel: Vessel::Box, .. }) => format!("{words} in the box"),
            Some(Container { vessel: Vessel::Plate, .. }) => format!("{words} on the plate"),
            None => words,
        }
    });
    let answer = described.collect::<Vec<_>>().join(", ");
    let text = Words::new(None, draw).fill(form::CAPTION.texts, draw);
    Question { form: form::CAPTION.name, ..Question::new(text, answer, form::CAPTION.skill) }
}

pub(super) struct Asker<'a> {
    pub(super) scene: &'a Scene,
    pub(super) split: Split,
    pub(super) draw: &'a mut Draw,
}

impl Asker<'_> {
    /// A question of this skill, or `None` if the case drawn does not occur in the scene.
    fn ask(&mut self, skill: Skill) -> Option<Question> {
        let inside = self.scene.container.is_some();
        match skill {
            Skill::Exist => self.exist(),
            Skill::Count if inside && self.draw.chance(0.4) => self.count_inside(),
            Skill::Count => self.count(),
            Skill::CompareCounts => match self.draw.below(4) {
                0 => self.compare(&form::MORE, |a, b| a > b),
                1 => self.compare(&form::FEWER, |a, b| a < b),
                2 => self.compare(&form::AS_MANY, |a, b| a == b),
                _ => self.difference(),
            },
            Skill::Attribute => self.attribute(),
            Skill::Relation => match self.draw.below(5) {
                0 | 1 if inside => self.inside(),
                2 | 3 => self.overlap().or_else(|| self.side()),
                4 => (0..6).find_map(|_| self.what_side()),
                _ => self.side(),
            },
            Skill::Superlative => match self.draw.below(3) {
                0 => self.nearest(),
                _ => self.extreme(),
            },
            Skill::SameDifferent => match self.draw.below(3) {
                0 => self.all_same(),
                1 => self.agree(&form::SAME, true),
                _ => self.agree(&form::DIFFERENT, false),
            },
            Skill::Logic => match self.draw.below(5) {
                0 => self.both_or_either(&form::BOTH, 2),
                1 => self.both_or_either(&form::EITHER, 1),
                2 => self.but_not(),
                3 => self.count_not(),
                _ => self.count_or(),
            },
            _ => None,
        }
    }

    pub(super) fn finish(&mut self, form: &Form, words: &Words, answer: &str) -> Option<Question> {
        let text = words.fill(form.texts, self.draw);
        let asked = normalise(&text);
        let leaks = asked.split(' ').any(|word| word == answer);
        let question = Question { form: form.name, ..Question::new(text, answer, form.skill) };
        (!leaks).then_some(question)
    }

    /// A case for the answer that a coin decides on, if there are cases for both.
    pub(super) fn toss<T: Clone>(&mut self, yes: Vec<T>, no: Vec<T>) -> Option<(T, &'static str)> {
        if yes.is_empty() || no.is_empty() {
            return None;
        }
        Some(if self.draw.chance(0.5) {
            (self.draw.pick(&yes).clone(), "yes")
        } else {
            (self.draw.pick(&no).clone(), "no")
        })
    }

    /// One of the numbers that occur among the cases, each as likely, and a case for it.
    pub(super) fn even<T: Clone>(&mut self, cases: Vec<(T, usize)>) -> Option<(T, String)> {
        let mut numbers: Vec<usize> = cases.iter().map(|case| case.1).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.is_empty() {
            return None;
        }
        let number = *self.draw.pick(&numbers);
        let fitting: Vec<T> = cases.into_iter().filter(|case| case.1 == number).map(|case| case.0).collect();
        Some((self.draw.pick(&fitting).clone(), number.to_string()))
    }

    /// All descriptions of one kind: by colour, by shape, by size and colour …
    pub(super) fn kind(&mut self) -> Vec<Phrase> {
        use Attribute::{Colour, Scale, Shape};
        let kinds: [&[Attribute]; 6] = [
            &[Colour],
            &[Shape],
            &[Colour, Shape],
            &[Scale, Colour],
            &[Scale, Shape],
            &[Scale, Colour, Shape],
        ];
        Phrase::all(kinds[self.draw.below(kinds.len())], self.split)
    }

    /// All descriptions by colour, or by shape.
    pub(super) fn simple_kind(&mut self) -> Vec<Phrase> {
        Phrase::all(&[*self.draw.pick(&[Attribute::Colour, Attribute::Shape])], self.split)
    }

    /// A description of object `index` alone that does not give `hidden`.
    pub(super) fn refer(&mut self, index: usize, hidden: Option<Attribute>) -> Option<Phrase> {
        let objects = &self.scene.objects;
        let free: Vec<Attribute> =
            Attribute::ALL.into_iter().filter(|attribute| Some(*attribute) != hidden).collect();
        let subsets = (1..1_usize << free.len()).map(|mask| {
            (0..free.len()).filter(|bit| mask >> bit & 1 == 1).map(|bit| free[bit]).collect::<Vec<_>>()
        });
        let phrases = subsets.map(|subset| Phrase::of(&objects[index], &subset));
        let unique: Vec<Phrase> =
            phrases.filter(|phrase| phrase.count(objects) == 1 && phrase.allowed(self.split)).collect();
        (!unique.is_empty()).then(|| *self.draw.pick(&unique))
    }

    /// Two objects that can be told apart without `hidden`.
    pub(super) fn two(&mut self, hidden: Option<Attribute>) -> Option<[(usize, Phrase); 2]> {
        let mut order: Vec<usize> = (0..self.scene.objects.len()).collect();
        self.draw.shuffle(&mut order);
        let mut found = order.into_iter().filter_map(|index| Some((index, self.refer(index, hidden)?)));
        Some([found.next()?, found.next()?])
    }

    /// Colour or shape, whichever is asked for.
    pub(super) fn asked(&mut self) -> Attribute {
        *self.draw.pick(&[Attribute::Colour, Attribute::Shape])
    }
}
