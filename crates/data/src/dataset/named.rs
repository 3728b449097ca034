//! Datasets as recipes of training and plans of evaluation name them, and how they are opened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    DatasetError, EasyVqa, EasyVqaSplit, Emoji, EmojiImages, EmojiSet, Folder, Llava, Nlvr, NlvrSplit, Part,
    SheetSide, Subset, TextLines, TextLinesSplit,
};
use crate::stream::Source;
use crate::synthetic::{SceneSettings, Scenes, Split, TextSettings, Texts};

/// A dataset, and the part of it that is used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSource {
    /// Which dataset.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its part, cut by group, for datasets whose own splits are not enough.
    pub cut: Option<Cut>,
    /// That it is there to measure on, where nothing else says so: a folder of validation, the drawings of another maker.
    #[serde(default)]
    pub held_out: bool,
}

/// The datasets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// Generated scenes.
    Scenes {
        /// The part of the generated world.
        split: SplitName,
        /// Of the generator.
        seed: u64,
        /// Pictures.
        length: usize,
        /// Side in pixels.
        side: u32,
        /// The most objects of a scene, 1 to 8.
        #[serde(default = "most_objects")]
        most_objects: usize,
        /// Whether each scene is to be described as well.
        #[serde(default)]
        captions: bool,
        /// Questions about each besides, where not as many as the recipe says.
        questions: Option<usize>,
    },
    /// Generated pictures of text.
    Texts {
        /// The part of the generated world.
        split: SplitName,
        /// Of the generator.
        seed: u64,
        /// Pictures.
        length: usize,
        /// Side in pixels.
        side: u32,
        /// Whether each shows one number of up to three digits and nothing else.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        numbers: bool,
    },
    /// LLaVA's conversations.
    Llava {
        /// The JSON file.
        json: PathBuf,
        /// The folder of images.
        images: PathBuf,
    },
    /// easy-VQA; `validation` is the tenth of train that is left out of `train`.
    EasyVqa {
        /// Folder or wheel.
        path: PathBuf,
        /// The split.
        split: SplitName,
    },
    /// NLVR v1; `validation` is its dev split.
    Nlvr {
        /// Folder or zip.
        path: PathBuf,
        /// The split.
        split: SplitName,
    },
    /// Lines of text; `validation` is the dev split.
    TextLines {
        /// Folder or zip.
        path: PathBuf,
        /// The split.
        split: SplitName,
    },
    /// Emoji and their names.
    Emoji {
        /// The npm package's folder.
        path: PathBuf,
        /// Whose drawings.
        set: EmojiName,
        /// Categories that are left out, such as `Flags`.
        #[serde(default)]
        without: Vec<String>,
    },
    /// Images with a `metadata.jsonl`.
    Folder {
        /// The folder.
        path: PathBuf,
    },
}

fn most_objects() -> usize {
    SceneSettings::default().most_objects
}

/// Splits by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// To learn from.
    Train,
    /// To look at while models are made.
    Validation,
    /// To look at once.
    Test,
}

/// Whose drawings of emoji.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each says itself")]
pub enum EmojiName {
    Google,
    Twitter,
}

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The part of the groups that is held out.
    pub fraction: f64,
    /// Decides which.
    pub seed: u64,
    /// Which side is used here.
    pub part: ShownPart,
}

/// One side of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShownPart {
    /// The groups that remain.
    Kept,
    /// The groups that are held out.
    HeldOut,
}

impl Kind {
    /// Whether a sample may be in both: the same files, or pictures of one seed, however many there are and whatever is asked.
    fn shares_samples(&self, other: &Kind) -> bool {
        match (self, other) {
            (
                Kind::Scenes { split, seed, most_objects, .. },
                Kind::Scenes { split: other_split, seed: other_seed, most_objects: other_most, .. },
            ) => (split, seed, most_objects) == (other_split, other_seed, other_most),
            (
                Kind::Texts { split, seed, numbers, .. },
                Kind::Texts { split: other_split, seed: other_seed, numbers: other_numbers, .. },
            ) => (split, seed, numbers) == (other_split, other_seed, other_numbers),
            (Kind::Llava { json, .. }, Kind::Llava { json: other, .. }) => same_file(json, other),
            (Kind::EasyVqa { path, split }, Kind::EasyVqa { path: other, split: other_split })
            | (Kind::Nlvr { path, split }, Kind::Nlvr { path: other, split: other_split })
            | (Kind::TextLines { path, split }, Kind::TextLines { path: other, split: other_split }) => {
                split == other_split && same_file(path, other)
            }
            (Kind::Emoji { path, set, .. }, Kind::Emoji { path: other, set: other_set, .. }) => {
                set == other_set && same_file(path, other)
            }
            (Kind::Folder { path }, Kind::Folder { path: other }) => same_file(path, other),
            _ => false,
        }
    }
}

/// Whether two paths lead to one place, as far as the disk can tell.
fn same_file(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.components().collect());
    place(one) == place(other)
}

impl DataSource {
    /// Whether it is there to measure on, not to learn from.
    pub fn held_out(&self) -> bool {
        let split = match &self.kind {
            Kind::Scenes { split, .. }
            | Kind::Texts { split, .. }
            | Kind::EasyVqa { split, .. }
            | Kind::Nlvr { split, .. }
            | Kind::TextLines { split, .. } => *split,
            Kind::Llava { .. } | Kind::Emoji { .. } | Kind::Folder { .. } => SplitName::Train,
        };
        self.held_out
            || split != SplitName::Train
            || self.cut.is_some_and(|cut| cut.part == ShownPart::HeldOut)
    }

    /// Whether a sample may be in both: one dataset, unless they are the two sides of one cut.
    pub fn shares_samples(&self, other: &DataSource) -> bool {
        let sides = self.cut.zip(other.cut);
        let apart = sides.is_some_and(|(one, other)| {
            one.fraction == other.fraction && one.seed == other.seed && one.part != other.part
        });
        self.kind.shares_samples(&other.kind) && !apart
    }

    /// Opens it. `questions` are asked about each generated picture.
    ///
    /// # Errors
    /// A dataset that is not there or not laid out as it should be.
    pub fn open(&self, questions: usize) -> Result<Arc<dyn Source>, DatasetError> {
        let world = |split| match split {
            SplitName::Train => Split::Train,
            SplitName::Validation => Split::Validation,
            SplitName::Test => Split::Test,
        };
        let source: Arc<dyn Source> = match &self.kind {
            Kind::Scenes { split, seed, length, side, most_objects, captions, questions: own } => {
                let (most_objects, captions) = (*most_objects, *captions);
                let settings = SceneSettings {
                    side: *side,
                    questions: own.unwrap_or(questions),
                    most_objects,
                    captions,
                };
                Arc::new(Scenes::new(settings, world(*split), *seed, *length))
            }
            Kind::Texts { split, seed, length, side, numbers } => {
                let settings = TextSettings { side: *side, questions, numbers: *numbers };
                Arc::new(Texts::new(settings, world(*split), *seed, *length))
            }
            Kind::Llava { json, images } => Arc::new(Llava::open(json, images)?),
            Kind::EasyVqa { path, split } => {
                let split = match split {
                    SplitName::Train => EasyVqaSplit::Train,
                    SplitName::Validation => EasyVqaSplit::Dev,
                    SplitName::Test => EasyVqaSplit::Test,
                };
                Arc::new(EasyVqa::open(path, split)?)
            }
            Kind::Nlvr { path, split } => {
                let split = match split {
                    SplitName::Train => NlvrSplit::Train,
                    SplitName::Validation => NlvrSplit::Dev,
                    SplitName::Test => NlvrSplit::Test,
                };
                Arc::new(Nlvr::open(path, split)?)
            }
            Kind::TextLines { path, split } => {
                let split = match split {
                    SplitName::Train => TextLinesSplit::Train,
                    SplitName::Validation => TextLinesSplit::Dev,
                    SplitName::Test => TextLinesSplit::Test,
                };
                Arc::new(TextLines::open(path, split)?)
            }
            Kind::Emoji { path, set, without } => {
                let set = match set {
                    EmojiName::Google => EmojiSet::Google,
                    EmojiName::Twitter => EmojiSet::Twitter,
                };
                let without: Vec<&str> = without.iter().map(String::as_str).collect();
                Arc::new(Emoji::open(path, set, EmojiImages::Sheet(SheetSide::Pixels64), &without)?)
            }
            Kind::Folder { path } => Arc::new(Folder::open(path)?),
        };
        Ok(match self.cut {
            None => source,
            Some(Cut { fraction, seed, part }) => {
                let part = if part == ShownPart::Kept { Part::Kept } else { Part::HeldOut };
                Arc::new(Subset::cut(source, fraction, seed, part))
            }
        })
    }
}
