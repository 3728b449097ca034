//! What the library makes of real and of hostile files, against the reference's values under `fixtures/`.
#![allow(clippy::unwrap_used)]

mod anyres;
#[cfg(feature = "datasets")]
mod datasets;
mod hostile;
mod images;
mod prompts;
#[cfg(feature = "synthetic")]
mod scene_checker;
#[cfg(feature = "synthetic")]
mod scenes;
#[cfg(feature = "synthetic")]
mod texts;

use std::path::PathBuf;

/// A file under `fixtures/`.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}
