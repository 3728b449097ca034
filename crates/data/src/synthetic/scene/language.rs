//! Descriptions of objects ("large red star") and how sentences are filled with them.

use super::{Colour, Object, Scale, Shape, home_of};
use crate::random::Draw;
use crate::synthetic::Split;

/// What a question may ask about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    Scale,
    Colour,
    Shape,
}

impl Attribute {
    pub(super) const ALL: [Attribute; 3] = [Attribute::Scale, Attribute::Colour, Attribute::Shape];

    pub(super) fn word(self) -> &'static str {
        ["size", "colour", "shape"][self as usize]
    }

    pub(super) fn of(self, object: &Object) -> &'static str {
        match self {
            Attribute::Scale => object.scale.name(),
            Attribute::Colour => object.colour.name(),
            Attribute::Shape => object.shape.name(),
        }
    }
}

/// A description: of everything when nothing is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Phrase {
    pub(super) scale: Option<Scale>,
    pub(super) colour: Option<Colour>,
    pub(super) shape: Option<Shape>,
}

impl Phrase {
    pub(super) fn matches(&self, object: &Object) -> bool {
        self.scale.is_none_or(|scale| scale == object.scale)
            && self.colour.is_none_or(|colour| colour == object.colour)
            && self.shape.is_none_or(|shape| shape == object.shape)
    }

    pub(super) fn count(&self, objects: &[Object]) -> usize {
        objects.iter().filter(|object| self.matches(object)).count()
    }

    /// Whether this split may put it into words.
    pub(super) fn allowed(&self, split: Split) -> bool {
        match (self.colour, self.shape) {
            (Some(colour), Some(shape)) => split.may_show(home_of(colour, shape)),
            _ => true,
        }
    }

    pub(super) fn gives(&self, attribute: Attribute) -> bool {
        match attribute {
            Attribute::Scale => self.scale.is_some(),
            Attribute::Colour => self.colour.is_some(),
            Attribute::Shape => self.shape.is_some(),
        }
    }

    /// The description of `object` by these attributes.
    pub(super) fn of(object: &Object, attributes: &[Attribute]) -> Phrase {
        let has = |attribute| attributes.contains(&attribute);
        Phrase {
            scale: has(Attribute::Scale).then_some(object.scale),
            colour: has(Attribute::Colour).then_some(object.colour),
            shape: has(Attribute::Shape).then_some(object.shape),
        }
    }

    /// Every description that gives exactly these attributes.
    pub(super) fn all(attributes: &[Attribute], split: Split) -> Vec<Phrase> {
        fn options<T: Copy>(wanted: bool, all: &[T]) -> Vec<Option<T>> {
            if wanted { all.iter().copied().map(Some).collect() } else { vec![None] }
        }
        let has = |attribute| attributes.contains(&attribute);
        let mut phrases = Vec::new();
        for scale in options(has(Attribute::Scale), &Scale::ALL) {
            for colour in options(has(Attribute::Colour), &Colour::ALL) {
                for shape in options(has(Attribute::Shape), &Shape::ALL) {
                    phrases.push(Phrase { scale, colour, shape });
                }
            }
        }
        phrases.retain(|phrase| phrase.allowed(split));
        phrases
    }

    /// In words; `noun` where the shape is not given.
    fn words(&self, noun: &str, plural: bool) -> String {
        let mut words = Vec::new();
        words.extend(self.scale.map(|scale| scale.name().to_owned()));
        words.extend(self.colour.map(|colour| colour.name().to_owned()));
        words.push(match (self.shape.map_or(noun, |shape| shape.name()), plural) {
            (word, false) => word.to_owned(),
            (word, true) => plural_of(word),
        });
        words.join(" ")
    }
}

pub(super) fn plural_of(word: &str) -> String {
    format!("{word}{}", if word.ends_with('s') { "es" } else { "s" })
}

fn with_article(words: &str) -> String {
    format!("{} {words}", if words.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" })
}

/// Words for the places of a sentence.
pub(super) struct Words {
    /// For an object whose shape is not given.
    pub(super) noun: &'static str,
    pairs: Vec<(String, String)>,
}

impl Words {
    /// With a noun drawn at random; "shape" only where shape is not what is asked for.
    pub(super) fn new(asked: Option<Attribute>, draw: &mut Draw) -> Words {
        let nouns = ["object", "thing", "shape"];
        let noun = nouns[draw.below(if asked == Some(Attribute::Shape) { 2 } else { 3 })];
        let words = Words { noun, pairs: Vec::new() };
        words.with("noun", noun).with("nouns", &plural_of(noun))
    }

    /// `{name}` becomes `word`.
    pub(super) fn with(mut self, name: &str, word: &str) -> Words {
        self.pairs.push((format!("{{{name}}}"), word.to_owned()));
        self
    }

    /// `{name}` becomes "red star", `{a name}` "a red star", `{name s}` "red stars".
    pub(super) fn phrase(self, name: &str, phrase: &Phrase) -> Words {
        let (single, plural) = (phrase.words(self.noun, false), phrase.words(self.noun, true));
        let article = with_article(&single);
        self.with(name, &single).with(&format!("a {name}"), &article).with(&format!("{name} s"), &plural)
    }

    /// One of the wordings (" | " between them), filled in. Half of them spell as Americans do.
    pub(super) fn fill(&self, texts: &str, draw: &mut Draw) -> String {
        let texts: Vec<&str> = texts.split(" | ").collect();
        let text = (*draw.pick(&texts)).to_owned();
        let text = self.pairs.iter().fold(text, |text, (place, word)| text.replace(place, word));
        if draw.chance(0.5) { text.replace("colour", "color") } else { text }
    }
}
