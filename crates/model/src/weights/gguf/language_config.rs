//! The configuration of a Llama-family language model, from a GGUF file's metadata.

use super::super::WeightsError;
use super::file::File;
use super::metadata::Metadata;

/// Architectures of GGUF language models that are read here. Mistral, TinyLlama, Vicuna and SmolLM2 are `llama`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// `llama`.
    Llama,
    /// `qwen2`: q, k and v have a bias.
    Qwen2,
    /// `phi3`: q, k, v are one projection, and so are gate and up.
    Phi3,
}

impl Architecture {
    const SUPPORTED: &'static str = "`llama`, `qwen2`, `phi3`";

    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "llama" => Some(Self::Llama),
            "qwen2" => Some(Self::Qwen2),
            "phi3" => Some(Self::Phi3),
            _ => None,
        }
    }
}

/// The dimensions and constants of a decoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LanguageModelConfig {
    /// The architecture.
    pub architecture: Architecture,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Width of the hidden state.
    pub width: usize,
    /// Width inside the feed-forward part.
    pub feed_forward: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub key_value_heads: usize,
    /// Channels of a head.
    pub head_width: usize,
    /// Channels of a head that are rotated, from the first.
    pub rotary_width: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Epsilon of the RMS norms.
    pub norm_epsilon: f64,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Change of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Positions that a query sees, itself included, if not all before it.
    pub sliding_window: Option<usize>,
    /// Whether the output head is the token embedding.
    pub tied_embeddings: bool,
    /// Whether q, k and v have a bias.
    pub attention_bias: bool,
}

/// How rotary frequencies differ from base^(−2i / rotary width).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Frequency i divided by divisor i; llama.cpp's converter precomputes the Llama-3 rule as these numbers.
    Divisors(Vec<f32>),
    /// Phi-3 "longrope": one set of divisors up to the original context, another beyond it.
    Long {
        /// Divisors for sequences up to `original_context`.
        short: Vec<f32>,
        /// Divisors for longer sequences.
        long: Vec<f32>,
        /// The context before extension.
        original_context: usize,
        /// Factor on cosine and sine, if the file gives one.
        attention_factor: Option<f64>,
    },
}

impl LanguageModelConfig {
    pub(super) fn read(file: &File) -> Result<Self, WeightsError> {
        const ARCHITECTURE: &str = "general.architecture";
        let metadata = &file.metadata;
        let name: &str = metadata.require(ARCHITECTURE)?;
        let architecture = Architecture::named(name)
            .ok_or_else(|| metadata.unsupported(ARCHITECTURE, name, Architecture::SUPPORTED))?;
        let key = |rest: &str| format!("{name}.{rest}");
        let required = |rest: &str| count(metadata, &key(rest))?.ok_or_else(|| missing(metadata, &key(rest)));

        let width = required("embedding_length")?;
        let heads = required("attention.head_count")?;
        let key_value_heads = count(metadata, &key("attention.head_count_kv"))?.unwrap_or(heads);
        if heads % key_value_heads != 0 {
            let reason = format!("is {key_value_heads}, expected a divisor of the {heads} heads");
            return Err(metadata.invalid(&key("attention.head_count_kv"), reason));
        }
        let head_width = match count(metadata, &key("attention.key_length"))? {
            Some(head_width) => head_width,
            None if width % heads == 0 => width / heads,
            None => {
                let reason = format!("is {heads}, expected a divisor of the width {width}");
                return Err(metadata.invalid(&key("attention.head_count"), reason));
            }
        };
        let rotary_width = count(metadata, &key("rope.dimension_count"))?.unwrap_or(head_width);
        if rotary_width % 2 != 0 || rotary_width > head_width || head_width % 2 != 0 {
            let reason =
                format!("is {rotary_width}, expected an even number up to the head's width {head_width}");
            return Err(metadata.invalid(&key("rope.dimension_count"), reason));
        }
        let embedding = file.tensors.get("token_embd.weight").map(|entry| entry.shape[0]);
        let vocabulary = match embedding {
            Some(rows) => rows,
            None => required("vocab_size")?,
        };
        Ok(Self {
            architecture,
            vocabulary,
            width,
            feed_forward: required("feed_forward_length")?,
            layers: required("block_count")?,
            heads,
            key_value_heads,
            head_width,
            rotary_width,
            context: required("context_length")?,
            norm_epsilon: positive(metadata, &key("attention.layer_norm_rms_epsilon"))?
                .ok_or_else(|| missing(metadata, &key("attention.layer_norm_rms_epsilon")))?,
            rope_base: positive(metadata, &key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: rope_scaling(file, name, rotary_width)?,
            sliding_window: window(metadata, &key("attention.sliding_window"))?,
            tied_embeddings: !file.tensors.contains_key("output.weight"),
            attention_bias: file.tensors.keys().any(|name| {
                name.starts_with("blk.")
                    && (name.ends_with(".attn_q.bias") || name.ends_with(".attn_qkv.bias"))
            }),
        })
    }
}

fn rope_scaling(file: &File, architecture: &str, rotary_width: usize) -> Result<RopeScaling, WeightsError> {
    let metadata = &file.metadata;
    let key = |rest: &str| format!("{architecture}.rope.scaling.{rest}");
    let divisors = |name: &str| -> Result<Option<Vec<f32>>, WeightsError> {
        let Some(entry) = file.tensors.get(name) else { return Ok(None) };
        if entry.shape != [rotary_width / 2] {
            return Err(WeightsError::WrongShape {
                file: file.bytes.file.clone(),
                name: name.to_owned(),
                found: entry.shape.clone().into(),
                expected: (rotary_width / 2).into(),
            });
        }
        let values = file
            .tensor(name, |row| row)?
            .to_vec1::<f32>()
            .map_err(WeightsError::tensor(&file.bytes.file, name))?;
        Ok(Some(values))
    };
    if let (Some(short), Some(long)) =
        (divisors("rope_factors_short.weight")?, divisors("rope_factors_long.weight")?)
    {
        let original = key("original_context_length");
        return Ok(RopeScaling::Long {
            short,
            long,
            original_context: count(metadata, &original)?.ok_or_else(|| missing(metadata, &original))?,
            attention_factor: positive(metadata, &key("attn_factor"))?,
        });
    }
    if let Some(divisors) = divisors("rope_freqs.weight")? {
        return Ok(RopeScaling::Divisors(divisors));
    }
    match metadata.get::<&str>(&key("type"))? {
        None | Some("none") => Ok(RopeScaling::None),
        Some("linear") => {
            let factor = key("factor");
            let factor = positive(metadata, &factor)?.ok_or_else(|| missing(metadata, &factor))?;
            Ok(RopeScaling::Linear { factor })
        }
        Some(other) => {
            Err(metadata.unsupported(&key("type"), other, "`none`, `linear`, and tensors of divisors"))
        }
    }
}

fn missing(metadata: &Metadata, key: &str) -> WeightsError {
    metadata.invalid(key, "is missing, expected a number above 0")
}

/// A size: whole, above 0, and small enough that products of a few stay far from overflow.
pub(super) fn count(metadata: &Metadata, key: &str) -> Result<Option<usize>, WeightsError> {
    const MOST: u64 = 1 << 31;
    match metadata.get::<u64>(key)? {
        None => Ok(None),
        Some(value @ 1..=MOST) => Ok(Some(value as usize)),
        Some(value) => Err(metadata.invalid(key, format!("is {value}, expected 1 to {MOST}"))),
    }
}

/// A window of 0 means none, as converters write it.
fn window(metadata: &Metadata, key: &str) -> Result<Option<usize>, WeightsError> {
    if metadata.get::<u64>(key)? == Some(0) { Ok(None) } else { count(metadata, key) }
}

/// A finite number above 0.
pub(super) fn positive(metadata: &Metadata, key: &str) -> Result<Option<f64>, WeightsError> {
    match metadata.get::<f64>(key)? {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(metadata.invalid(key, format!("is {value:?}, expected a finite number above 0")))
        }
        value => Ok(value),
    }
}
