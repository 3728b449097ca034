//! The bytes of a checkpoint file: mapped from disk, or in memory (an embedded model, a test).

use std::borrow::Cow;
use std::ops::Deref;
use std::path::Path;

use foveate_kernels::Map;

use super::WeightsError;

/// Read-only bytes with the name that errors call them by.
pub(crate) struct Bytes {
    pub(crate) file: String,
    content: Content,
}

enum Content {
    Mapped(Map),
    Held(Cow<'static, [u8]>),
}

impl Bytes {
    pub(crate) fn map(path: &Path) -> Result<Self, WeightsError> {
        let map = Map::open(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        Ok(Self { file: path.display().to_string(), content: Content::Mapped(map) })
    }

    pub(crate) fn held(file: impl Into<String>, content: impl Into<Cow<'static, [u8]>>) -> Self {
        Self { file: file.into(), content: Content::Held(content.into()) }
    }

    /// Lets the system have the memory of bytes that were copied, where they are mapped.
    pub(crate) fn release(&self, range: std::ops::Range<usize>) {
        if let Content::Mapped(map) = &self.content {
            map.release(range);
        }
    }

    /// [`WeightsError::Malformed`] for this file.
    pub(crate) fn malformed(&self, field: impl Into<String>, reason: impl Into<String>) -> WeightsError {
        WeightsError::malformed(&self.file, field, reason)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.content {
            Content::Mapped(map) => map,
            Content::Held(held) => held,
        }
    }
}
