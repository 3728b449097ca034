//! What a vision-language model reads, made from what a user has: image files become normalised pixels, messages become
//! the prompt the model was trained on. And what it learns from: datasets on disk, generated scenes and texts.
//!
//! The library holds no tensor: pixels leave it as plain `f32` buffers in channel, row, column order, prompts as pieces
//! of text with the places where image tokens go.
//!
//! ```
//! use foveate_data::image::{Image, Preprocessor};
//! use foveate_data::prompt::{ChatTemplate, Message, Segment};
//!
//! let grey = Image::filled(640, 480, [128, 128, 128]);
//! let processed = Preprocessor::llava_1_5().apply(&grey)?;
//! assert_eq!((processed.tiles.len(), processed.tiles[0].height, processed.tiles[0].width), (1, 336, 336));
//!
//! let prompt = ChatTemplate::vicuna_v1().render(&[Message::user("What is this?").with_images(1)], 1)?;
//! assert!(matches!(prompt.segments[1], Segment::Image(0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | feature (both on by default) | brings |
//! |---|---|
//! | `datasets` | importers that stream from folders and zip files |
//! | `synthetic` | generated scenes and texts with questions; 220 KB of fonts |

pub mod baseline;
#[cfg(feature = "datasets")]
pub mod dataset;
pub mod image;
mod patches;
pub mod prompt;
#[cfg(any(feature = "datasets", feature = "synthetic"))]
mod random;
mod sample;
#[cfg(any(feature = "datasets", feature = "synthetic"))]
mod stream;
#[cfg(feature = "synthetic")]
pub mod synthetic;

pub use patches::{PatchField, PatchLabels};
pub use sample::{Family, Picture, Question, Sample, Skill, UnknownName};
#[cfg(any(feature = "datasets", feature = "synthetic"))]
pub use stream::{Decoded, Order, SampleError, Skipped, Source, Stream, Tolerance, TooManyBroken};
