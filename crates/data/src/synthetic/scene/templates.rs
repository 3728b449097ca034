//! The sentences: each form is one meaning in several wordings. `{a}` and `{b}` stand for descriptions, `{a a}` has an
//! article, `{a s}` is plural.

use crate::sample::Skill;

/// One meaning.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) skill: Skill,
    /// Wordings, with " | " between them.
    pub(super) texts: &'static str,
}

const fn form(name: &'static str, skill: Skill, texts: &'static str) -> Form {
    Form { name, skill, texts }
}

pub(super) const CAPTION: Form = form(
    "caption",
    Skill::Describe,
    "Describe the picture. | List the objects from left to right. | What is in the picture? | What can you see?",
);

pub(super) const EXIST: Form = form(
    "exist",
    Skill::Exist,
    "Is there {a a}? | Can you see {a a}? | Does the picture show {a a}? | Are there any {a s}? | \
    Is {a a} anywhere in the image?",
);

pub(super) const COUNT: Form = form(
    "count",
    Skill::Count,
    "How many {a s} are there? | How many {a s} can you see? | Count the {a s}. | \
    What is the number of {a s}?",
);
pub(super) const COUNT_INSIDE: Form = form(
    "count-inside",
    Skill::Count,
    "How many {a s} are {in} the {vessel}? | Count the {a s} {in} the {vessel}. | \
    What is the number of {a s} {in} the {vessel}?",
);

pub(super) const MORE: Form = form(
    "more",
    Skill::CompareCounts,
    "Are there more {a s} than {b s}? | Is the number of {a s} greater than the number of {b s}? | \
    Do the {a s} outnumber the {b s}?",
);
pub(super) const FEWER: Form = form(
    "fewer",
    Skill::CompareCounts,
    "Are there fewer {a s} than {b s}? | Is the number of {a s} smaller than the number of {b s}? | \
    Are the {a s} outnumbered by the {b s}?",
);
pub(super) const AS_MANY: Form = form(
    "as-many",
    Skill::CompareCounts,
    "Are there as many {a s} as {b s}? | Is the number of {a s} equal to the number of {b s}? | \
    Are there equally many {a s} and {b s}?",
);
pub(super) const DIFFERENCE: Form = form(
    "difference",
    Skill::CompareCounts,
    "How many more {a s} than {b s} are there? | By how much do the {a s} outnumber the {b s}?",
);

pub(super) const COLOUR_OF: Form = form(
    "colour-of",
    Skill::Attribute,
    "What colour is the {a}? | What is the colour of the {a}? | Which colour does the {a} have? | \
    Tell me the colour of the {a}.",
);
pub(super) const SHAPE_OF: Form = form(
    "shape-of",
    Skill::Attribute,
    "What shape is the {a}? | What is the shape of the {a}? | Which shape does the {a} have? | \
    Tell me the shape of the {a}.",
);
pub(super) const SIZE_OF: Form = form(
    "size-of",
    Skill::Attribute,
    "What size is the {a}? | How big is the {a}? | What is the size of the {a}?",
);

pub(super) const SIDE: Form = form(
    "side",
    Skill::Relation,
    "Is the {a} {side} the {b}? | Does the {a} lie {side} the {b}? | \
    Would you say that the {a} is {side} the {b}?",
);
pub(super) const WHAT_SIDE: Form = form(
    "what-side",
    Skill::Relation,
    "What {asked} is the {noun} {side} the {b}? | What is the {asked} of the {noun} {side} the {b}? | \
    Which {asked} does the {noun} {side} the {b} have?",
);
pub(super) const INSIDE: Form = form(
    "inside",
    Skill::Relation,
    "Is the {a} {in} the {vessel}? | Does the {a} lie {in} the {vessel}? | \
    Can the {a} be found {in} the {vessel}?",
);
pub(super) const IN_FRONT: Form = form(
    "in-front",
    Skill::Relation,
    "Is the {a} in front of the {b}? | Does the {a} cover part of the {b}? | \
    Is the {b} partly hidden by the {a}?",
);
pub(super) const BEHIND: Form = form(
    "behind",
    Skill::Relation,
    "What {asked} is the {noun} behind the {a}? | \
    What is the {asked} of the {noun} that the {a} partly covers?",
);

pub(super) const EXTREME: Form = form(
    "extreme",
    Skill::Superlative,
    "What {asked} is the {extreme} {a}? | What is the {asked} of the {extreme} {a}? | \
    Which {asked} does the {extreme} {a} have?",
);
pub(super) const FARTHEST: Form = form(
    "farthest",
    Skill::Superlative,
    "What {asked} is the {a} farthest {towards}? | \
    Of all {a s}, what is the {asked} of the one farthest {towards}?",
);
pub(super) const NEAREST: Form = form(
    "nearest",
    Skill::Superlative,
    "What {asked} is the {noun} nearest to the {b}? | \
    What is the {asked} of the {noun} closest to the {b}? | \
    Which {asked} does the nearest neighbour of the {b} have?",
);

pub(super) const SAME: Form = form(
    "same",
    Skill::SameDifferent,
    "Do the {a} and the {b} have the same {asked}? | \
    Is the {asked} of the {a} the same as that of the {b}? | Do the {a} and the {b} agree in {asked}?",
);
pub(super) const DIFFERENT: Form = form(
    "different",
    Skill::SameDifferent,
    "Do the {a} and the {b} differ in {asked}? | \
    Is the {asked} of the {a} different from that of the {b}?",
);
pub(super) const ALL_SAME: Form = form(
    "all-same",
    Skill::SameDifferent,
    "Do all {a s} have the same {asked}? | Are all {a s} of one {asked}? | \
    Do the {a s} all share one {asked}?",
);

pub(super) const BOTH: Form = form(
    "both",
    Skill::Logic,
    "Is there {a a} and {a b}? | Are there both {a a} and {a b}? | \
    Does the picture show {a a} as well as {a b}?",
);
pub(super) const EITHER: Form = form(
    "either",
    Skill::Logic,
    "Is there {a a} or {a b}? | Does the picture show {a a} or {a b}? | Can you see {a a} or {a b}?",
);
pub(super) const BUT_NOT: Form = form(
    "but-not",
    Skill::Logic,
    "Is there {a a} that is not {a b}? | Can you see {a a} other than {a b}? | Is any {a} not {a b}?",
);
pub(super) const COUNT_NOT: Form = form(
    "count-not",
    Skill::Logic,
    "How many {nouns} are not {what}? | Count the {nouns} that are not {what}.",
);
pub(super) const COUNT_OR: Form = form(
    "count-or",
    Skill::Logic,
    "How many {nouns} are {what} or {other}? | Count the {nouns} that are either {what} or {other}.",
);
