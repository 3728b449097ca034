//! The configuration of a CLIP image encoder with LLaVA's projector, from the metadata of a llama.cpp `--mmproj` file.

use super::super::WeightsError;
use super::file::File;
use super::language_config::{count, positive};

/// The activation of the encoder's feed-forward parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// x·sigmoid(1.702x), of CLIP.
    QuickGelu,
    /// GELU.
    Gelu,
    /// x·sigmoid(x).
    Silu,
}

/// The dimensions and constants of an image encoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImageEncoderConfig {
    /// Side of the square image, in pixels.
    pub image: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Width of the hidden state.
    pub width: usize,
    /// Width inside the feed-forward part.
    pub feed_forward: usize,
    /// Blocks in the file. Converters drop those after the hidden state that LLaVA reads: 23 of CLIP-L's 24.
    pub layers: usize,
    /// The blocks, counted from 1, whose outputs the projector reads, where the file says so. Without the key, as in the
    /// published LLaVA-1.5 files, it is the output of the last block in the file.
    pub feature_layers: Vec<usize>,
    /// Attention heads.
    pub heads: usize,
    /// Epsilon of the layer norms.
    pub norm_epsilon: f64,
    /// The activation.
    pub activation: Activation,
    /// Mean of each colour channel, of pixels in 0 to 1.
    pub mean: [f64; 3],
    /// Standard deviation of each colour channel.
    pub standard_deviation: [f64; 3],
}

impl ImageEncoderConfig {
    pub(super) fn read(file: &File) -> Result<Self, WeightsError> {
        const ARCHITECTURE: &str = "general.architecture";
        const PROJECTOR: &str = "clip.projector_type";
        let metadata = &file.metadata;
        let name: &str = metadata.require(ARCHITECTURE)?;
        if name != "clip" {
            return Err(metadata.unsupported(ARCHITECTURE, name, "`clip`"));
        }
        // The projector of LLaVA-1.5; files from before the key existed have no other.
        let projector = metadata.get::<&str>(PROJECTOR)?.unwrap_or("mlp");
        if projector != "mlp" {
            return Err(metadata.unsupported(PROJECTOR, projector, "`mlp`"));
        }
        let size = |rest: &str| {
            let key = format!("clip.vision.{rest}");
            count(metadata, &key)?
                .ok_or_else(|| metadata.invalid(&key, "is missing, expected a number above 0"))
        };
        let channels = |rest: &str| -> Result<[f64; 3], WeightsError> {
            let key = format!("clip.vision.{rest}");
            let values: Vec<f64> = metadata.require(&key)?;
            let length = values.len();
            values.try_into().map_err(|_| metadata.invalid(&key, format!("has {length} values, expected 3")))
        };
        const FEATURES: &str = "clip.vision.feature_layer";
        let layers = size("block_count")?;
        let feature_layers: Vec<i64> = metadata.get(FEATURES)?.unwrap_or_default();
        let in_file = |layer: &i64| usize::try_from(*layer).ok().filter(|layer| (1..=layers).contains(layer));
        let feature_layers = feature_layers.iter().map(in_file).collect::<Option<_>>().ok_or_else(|| {
            metadata.invalid(FEATURES, format!("is {feature_layers:?}, expected blocks 1 to {layers}"))
        })?;
        const EPSILON: &str = "clip.vision.attention.layer_norm_epsilon";
        Ok(Self {
            image: size("image_size")?,
            patch: size("patch_size")?,
            width: size("embedding_length")?,
            feed_forward: size("feed_forward_length")?,
            layers,
            feature_layers,
            heads: size("attention.head_count")?,
            norm_epsilon: positive(metadata, EPSILON)?
                .ok_or_else(|| metadata.invalid(EPSILON, "is missing, expected a number above 0"))?,
            activation: if metadata.get::<bool>("clip.use_gelu")?.unwrap_or(false) {
                Activation::Gelu
            } else if metadata.get::<bool>("clip.use_silu")?.unwrap_or(false) {
                Activation::Silu
            } else {
                Activation::QuickGelu
            },
            mean: channels("image_mean")?,
            standard_deviation: channels("image_std")?,
        })
    }
}

/// Whether `ffn_up` and `ffn_down` are exchanged, as older converters wrote them: the first layer of the feed-forward
/// part is the one that reads the hidden state's width.
pub(super) fn feed_forward_is_swapped(file: &File) -> bool {
    let Some(norm) = file.tensors.get("v.blk.0.ln1.weight") else { return false };
    let Some(up) = file.tensors.get("v.blk.0.ffn_up.weight") else { return false };
    // Rows first: [outputs, inputs].
    up.shape.last() != norm.shape.last() && up.shape.first() == norm.shape.first()
}
