//! Generated pictures whose questions answer themselves: [`Scenes`] of coloured shapes, [`Texts`] to read.
//!
//! Item `i` depends on the seed, the split and `i` alone, so any item can be made at any time, on any thread. What is
//! in a picture, its questions and its answers are computed without trigonometry or other functions that platforms
//! round differently: they are the same everywhere. Pixels may differ in the last bit between processors.
//!
//! What a split holds out never occurs in train, neither in a picture nor in a question:
//!
//! | | validation | test |
//! |---|---|---|
//! | scenes | 6 pairs of colour and shape; each scene shows at least one | 6 others |
//! | texts | 2 fonts, half of all lines; an eighth of the words, all words of the split | others |
//!
//! ```
//! use foveate_data::Source;
//! use foveate_data::synthetic::{SceneSettings, Scenes, Split};
//!
//! let scenes = Scenes::new(SceneSettings::default(), Split::Train, 7, 1_000_000);
//! let sample = scenes.sample(123_456)?;
//! assert_eq!(sample.picture.unwrap().image()?.width(), 168);
//! assert_eq!(sample.questions.len(), 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod canvas;
pub mod scene;
pub mod text;

pub use scene::{SceneSettings, Scenes};
pub use text::{TextSettings, Texts};

/// The part of the generated world that a sample comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Split {
    /// To learn from.
    Train,
    /// To look at while models are made.
    Validation,
    /// To look at once.
    Test,
}

impl Split {
    /// All three.
    pub const ALL: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    /// As written in reports and sample names.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// Whether items of this split may show what `home` alone owns: everything shared belongs to train.
    pub(crate) fn may_show(self, home: Split) -> bool {
        home == Split::Train || home == self
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
