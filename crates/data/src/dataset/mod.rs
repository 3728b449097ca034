//! Importers: datasets on disk as [`Source`](crate::Source)s, from folders or zip files read in place.
//!
//! Opening reads and checks the index of a dataset (which records, which images), never its pixels; a record is parsed
//! and an image decoded when it is asked for. A record or image that is broken is an error of that sample alone.
//!
//! | importer | source | family, skill |
//! |---|---|---|
//! | [`Llava`] | conversation JSON or JSONL with an image folder | reasoning, open |
//! | [`EasyVqa`] | the PyPI package: its folder or its wheel | reasoning, exist or attribute |
//! | [`Nlvr`] | the public repository, or a zip of `SPLIT.jsonl` and `images/` | reasoning, statement |
//! | [`TextLines`] | `SPLIT.jsonl` of `image`, `text`, `receipt` | text, read |
//! | [`Emoji`] | the npm packages `emoji-datasource-google`, `-twitter`, … | reasoning, name |
//! | [`Folder`] | images with a `metadata.jsonl` | as the records say |
//!
//! ```no_run
//! use std::sync::Arc;
//! use foveate_data::{Order, Stream, Tolerance};
//! use foveate_data::dataset::{EasyVqa, EasyVqaSplit};
//!
//! let source = Arc::new(EasyVqa::open("easy_vqa-1.0-py3-none-any.whl".as_ref(), EasyVqaSplit::Train)?);
//! for item in Stream::new(source, Order::Shuffled { seed: 7, epoch: 0 }, Tolerance::default()).decoded() {
//!     let (sample, image) = item?;
//!     println!("{} {:?} {}", sample.name, image, sample.questions[0].text);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod easy_vqa;
mod emoji;
mod files;
mod folder;
mod llava;
#[cfg(feature = "synthetic")]
mod named;
mod nlvr;
mod part;
mod records;
mod text_lines;

use std::path::PathBuf;

pub use easy_vqa::{EasyVqa, EasyVqaSplit};
pub use emoji::{Emoji, EmojiImages, EmojiSet, SheetSide};
pub use folder::Folder;
pub use llava::Llava;
#[cfg(feature = "synthetic")]
pub use named::{Cut, DataSource, EmojiName, Kind, ShownPart, SplitName};
pub use nlvr::{Nlvr, NlvrSplit};
pub use part::{Part, Subset};
pub use text_lines::{TextLines, TextLinesSplit};

/// A dataset that cannot be opened at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// A file or folder is missing or may not be read.
    #[error("{}: cannot be read: {error}", .path.display())]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// From the operating system.
        error: std::io::Error,
    },
    /// It is there, but not as this dataset is laid out.
    #[error("{}: {reason}", .path.display())]
    Layout {
        /// What was looked at.
        path: PathBuf,
        /// What was found, and what is expected.
        reason: String,
    },
}
