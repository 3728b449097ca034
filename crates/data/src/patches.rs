//! What each patch of a generated picture shows, as classes: what a vision tower can learn from before a language model
//! looks through it.

use std::fmt;

/// One thing that can be said of a patch. Class 0 of every field is "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum PatchField {
    /// The shape of the object that covers most of it.
    Shape,
    /// That object's colour.
    Colour,
    /// That object's size.
    Scale,
    /// Whether the centre of an object that can be seen lies in it.
    Centre,
    /// The first character whose middle lies in it, from the left.
    First,
    /// The second.
    Second,
    /// The third.
    Third,
}

impl PatchField {
    /// All seven.
    pub const ALL: [PatchField; 7] = [
        PatchField::Shape,
        PatchField::Colour,
        PatchField::Scale,
        PatchField::Centre,
        PatchField::First,
        PatchField::Second,
        PatchField::Third,
    ];

    /// The number of its classes, "none" included: eight shapes, nine colours, two sizes, one kind of centre, printable
    /// ASCII with pound and euro.
    pub fn classes(self) -> usize {
        match self {
            PatchField::Shape => 9,
            PatchField::Colour => 10,
            PatchField::Scale => 3,
            PatchField::Centre => 2,
            PatchField::First | PatchField::Second | PatchField::Third => 98,
        }
    }

    /// As written in logs.
    pub fn name(self) -> &'static str {
        match self {
            PatchField::Shape => "shape",
            PatchField::Colour => "colour",
            PatchField::Scale => "scale",
            PatchField::Centre => "centre",
            PatchField::First => "first character",
            PatchField::Second => "second character",
            PatchField::Third => "third character",
        }
    }
}

impl fmt::Display for PatchField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The classes of all patches of a picture that is cut into `side` x `side` equal squares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatchLabels {
    side: usize,
    classes: Vec<u8>,
}

impl PatchLabels {
    pub(crate) fn none(side: usize) -> PatchLabels {
        PatchLabels { side, classes: vec![0; side * side * PatchField::ALL.len()] }
    }

    /// Patches in a row.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The class of a patch, counted row by row.
    ///
    /// # Panics
    /// If `patch` is not below `side` squared.
    pub fn class(&self, patch: usize, field: PatchField) -> u8 {
        self.classes[patch * PatchField::ALL.len() + field as usize]
    }

    pub(crate) fn set(&mut self, patch: usize, field: PatchField, class: u8) {
        self.classes[patch * PatchField::ALL.len() + field as usize] = class;
    }

    /// The patch that holds a point, in parts of the picture's side; `None` outside.
    pub(crate) fn patch_at(&self, x: f32, y: f32) -> Option<usize> {
        let at = |part: f32| {
            (0.0..1.0).contains(&part).then(|| ((part * self.side as f32) as usize).min(self.side - 1))
        };
        Some(at(y)? * self.side + at(x)?)
    }
}
