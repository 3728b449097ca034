//! The methods by name, as users type them and configurations store them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::CompressError;

/// The methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Query-based convolutional cross-attention.
    #[serde(rename = "quecc")]
    QueCC,
    /// Interpolated queries that attend inside their window.
    TokenPacker,
    /// Matryoshka query transformer.
    Mqt,
    /// Nested average pooling of projected tokens.
    M3,
    /// Outlying patches, the others merged into them.
    #[serde(rename = "prumerge")]
    PruMerge,
    /// The same with evenly spaced patches kept as well.
    #[serde(rename = "prumerge-plus")]
    PruMergePlus,
    /// Dominant patches and merged contextual ones.
    #[serde(rename = "visionzip")]
    VisionZip,
    /// The mean of each window.
    AveragePooling,
    /// All patches.
    Identity,
}

impl Method {
    /// Every method, those with weights first.
    pub const ALL: [Self; 9] = [
        Self::QueCC,
        Self::TokenPacker,
        Self::Mqt,
        Self::M3,
        Self::PruMerge,
        Self::PruMergePlus,
        Self::VisionZip,
        Self::AveragePooling,
        Self::Identity,
    ];

    /// Whether it has weights of its own, so that only a checkpoint that carries them can use it.
    pub fn has_weights(self) -> bool {
        matches!(self, Self::QueCC | Self::TokenPacker | Self::Mqt)
    }

    /// Whether its tokens depend on the question.
    pub fn reads_question(self) -> bool {
        matches!(self, Self::QueCC)
    }

    fn name(self) -> &'static str {
        match self {
            Self::QueCC => "quecc",
            Self::TokenPacker => "token-packer",
            Self::Mqt => "mqt",
            Self::M3 => "m3",
            Self::PruMerge => "prumerge",
            Self::PruMergePlus => "prumerge-plus",
            Self::VisionZip => "visionzip",
            Self::AveragePooling => "average-pooling",
            Self::Identity => "identity",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Upper case, spaces, hyphens and underscores do not matter; `prumerge+` is `prumerge-plus`.
///
/// ```
/// use foveate_compress::Method;
/// assert_eq!("PruMerge+".parse::<Method>()?, Method::PruMergePlus);
/// assert_eq!("token_packer".parse::<Method>()?, Method::TokenPacker);
/// let error = "pooling2".parse::<Method>().unwrap_err().to_string();
/// assert!(error.contains("`pooling2`") && error.contains("average-pooling"));
/// # Ok::<(), foveate_compress::CompressError>(())
/// ```
impl FromStr for Method {
    type Err = CompressError;

    fn from_str(text: &str) -> Result<Self, CompressError> {
        let fold = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "").replace('+', "plus");
        let found = Self::ALL.into_iter().find(|method| fold(method.name()) == fold(text));
        found.ok_or_else(|| CompressError::UnknownMethod {
            name: text.chars().take(60).collect(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_is_written_in_one_way_and_read_back() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
            assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
        }
        for wrong in ["", "-", "+", "prumerge++", "pooling"] {
            assert!(wrong.parse::<Method>().is_err(), "{wrong}");
        }
    }
}
