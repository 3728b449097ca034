//! A compressor as a configuration: what a checkpoint says, and how it becomes a [`Compressor`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AveragePooling, CompressError, Compressor, Identity, M3, Method, Mqt, MqtConfig, Parameters, PruMerge,
    PruMergePlus, QueCC, QueCCConfig, Result, StateDepth, TokenPacker, TokenPackerConfig, VisionZip,
};

/// Any method with what it needs to be built. In JSON it is an object whose `method` names the variant:
///
/// ```
/// use foveate_compress::{CompressorConfig, Method, QueCCConfig};
/// let config: CompressorConfig = serde_json::from_str(r#"{"method": "average-pooling", "state": -2}"#)?;
/// assert_eq!(config.method(), Method::AveragePooling);
///
/// let config = CompressorConfig::QueCC(QueCCConfig::elastic(1024, 4096, &[2, 4, 24]));
/// let json = serde_json::to_value(&config)?;
/// assert_eq!(json["method"], "quecc");
/// assert_eq!(json["filters"]["elastic"][1], 4);
/// assert_eq!(serde_json::from_value::<CompressorConfig>(json)?, config);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CompressorConfig {
    /// See [`QueCC`].
    #[serde(rename = "quecc")]
    QueCC(QueCCConfig),
    /// See [`TokenPacker`].
    TokenPacker(TokenPackerConfig),
    /// See [`Mqt`].
    Mqt(MqtConfig),
    /// See [`M3`].
    M3(State),
    /// See [`PruMerge`].
    #[serde(rename = "prumerge")]
    PruMerge(State),
    /// See [`PruMergePlus`].
    #[serde(rename = "prumerge-plus")]
    PruMergePlus(State),
    /// See [`VisionZip`].
    #[serde(rename = "visionzip")]
    VisionZip(State),
    /// See [`AveragePooling`].
    AveragePooling(State),
    /// See [`Identity`].
    Identity(State),
}

/// The whole configuration of a method without weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The hidden state that tokens are made of.
    #[serde(default = "State::feature_state")]
    pub state: StateDepth,
}

impl State {
    fn feature_state() -> StateDepth {
        StateDepth::LLAVA
    }
}

impl CompressorConfig {
    /// A method without weights, on a hidden state.
    ///
    /// # Errors
    /// [`CompressError::NeedsWeights`] for the others.
    pub fn without_weights(method: Method, state: StateDepth) -> Result<Self> {
        let state = State { state };
        Ok(match method {
            Method::M3 => Self::M3(state),
            Method::PruMerge => Self::PruMerge(state),
            Method::PruMergePlus => Self::PruMergePlus(state),
            Method::VisionZip => Self::VisionZip(state),
            Method::AveragePooling => Self::AveragePooling(state),
            Method::Identity => Self::Identity(state),
            Method::QueCC | Method::TokenPacker | Method::Mqt => {
                return Err(CompressError::NeedsWeights(method));
            }
        })
    }

    /// The method.
    pub fn method(&self) -> Method {
        match self {
            Self::QueCC(_) => Method::QueCC,
            Self::TokenPacker(_) => Method::TokenPacker,
            Self::Mqt(_) => Method::Mqt,
            Self::M3(_) => Method::M3,
            Self::PruMerge(_) => Method::PruMerge,
            Self::PruMergePlus(_) => Method::PruMergePlus,
            Self::VisionZip(_) => Method::VisionZip,
            Self::AveragePooling(_) => Method::AveragePooling,
            Self::Identity(_) => Method::Identity,
        }
    }

    /// Builds the compressor; methods without weights take nothing from `from`.
    ///
    /// # Errors
    /// As the method's own `load`.
    pub fn load(&self, from: &Parameters<'_>) -> Result<Arc<dyn Compressor>> {
        Ok(match self {
            Self::QueCC(config) => Arc::new(QueCC::load(config, from)?),
            Self::TokenPacker(config) => Arc::new(TokenPacker::load(config, from)?),
            Self::Mqt(config) => Arc::new(Mqt::load(config, from)?),
            Self::M3(State { state }) => Arc::new(M3 { state: *state }),
            Self::PruMerge(State { state }) => Arc::new(PruMerge { state: *state }),
            Self::PruMergePlus(State { state }) => Arc::new(PruMergePlus { state: *state }),
            Self::VisionZip(State { state }) => Arc::new(VisionZip { state: *state, ..VisionZip::default() }),
            Self::AveragePooling(State { state }) => Arc::new(AveragePooling { state: *state }),
            Self::Identity(State { state }) => Arc::new(Identity { state: *state }),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::Fresh;

    #[test]
    fn every_method_is_built_as_itself() {
        let fresh = Fresh::new(1, Device::Cpu);
        for method in Method::ALL {
            let config = match method {
                Method::QueCC => CompressorConfig::QueCC(QueCCConfig::single(16, 12, 2)),
                Method::TokenPacker => CompressorConfig::TokenPacker(TokenPackerConfig::published(16, 12, 2)),
                Method::Mqt => CompressorConfig::Mqt(MqtConfig::published(16, 12)),
                other => CompressorConfig::without_weights(other, StateDepth::FromEnd(3)).unwrap(),
            };
            let json = serde_json::to_string(&config).unwrap();
            let config: CompressorConfig = serde_json::from_str(&json).unwrap();
            let built = config.load(&Parameters::new(&fresh, &method.to_string())).unwrap();
            assert_eq!((built.method(), config.method()), (method, method));
            assert_eq!(built.parameters() > 0, method.has_weights());
            assert_eq!(built.reads_question(), method.reads_question());
            if method.has_weights() {
                let error = CompressorConfig::without_weights(method, StateDepth::LLAVA).unwrap_err();
                assert!(error.to_string().starts_with(&method.to_string()), "{error}");
            } else {
                assert_eq!(built.needs().states, [StateDepth::FromEnd(3)]);
            }
        }
    }
}
