//! Weights stored as signed bytes, with their scales in a tensor of their own.
//!
//! The layout is that of the compressed-tensors library, format `int-quantized`: `NAME.weight` holds signed bytes `[n, k]`
//! and `NAME.weight_scale` the scales, one for each row (`[n, 1]`, strategy `channel`), for each run of k/g numbers of a
//! row (`[n, g]`, `group`) or for all (`[1]`, `tensor`). A weight is byte · scale: only symmetric ranges, without
//! zero points, are read. `quantization_config` in `config.json` says how; a file alone is believed when both tensors are
//! there. Activations that the configuration wants rounded stay floats: a reader may be more exact than the writer asked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::WeightsError;
use super::bytes::Bytes;
use super::gguf::{Quantisation, shorten};
use super::shards::{Dtype, Entry, Shards, TensorFile, numbers};

/// Whether weights are known to be scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// The configuration says so: bytes without scales are an error.
    Scaled {
        /// Whether it speaks of scales for parts of rows, which rows of one part cannot show.
        groups: bool,
    },
    /// Nothing says so.
    Unknown,
}

/// The part of `quantization_config` that the layout depends on.
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    quant_method: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    config_groups: BTreeMap<String, Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    weights: Option<Arguments>,
}

#[derive(Deserialize)]
struct Arguments {
    num_bits: Option<u64>,
    #[serde(rename = "type")]
    kind: Option<String>,
    symmetric: Option<bool>,
    strategy: Option<String>,
    actorder: Option<Value>,
}

impl Scheme {
    /// What `config.json` of a folder says; a folder without one says nothing.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, WeightsError> {
        let path = folder.join("config.json");
        if !path.is_file() {
            return Ok(Self::Unknown);
        }
        let bytes = Bytes::map(&path)?;
        // A file that is no JSON is the business of whoever needs it.
        let Ok(config) = serde_json::from_slice::<Value>(&bytes) else { return Ok(Self::Unknown) };
        // As the library and transformers write it, at the top or with the language model's configuration; the second
        // name is older.
        let places = [Some(&config), config.get("text_config")];
        let mut found = places.into_iter().flatten().flat_map(|place| {
            ["quantization_config", "compression_config"].map(|field| Some((field, place.get(field)?)))
        });
        match found.find_map(|found| found.filter(|(_, value)| !value.is_null())) {
            None => Ok(Self::Unknown),
            Some((field, value)) => Self::checked(&bytes, field, value),
        }
    }

    fn checked(file: &Bytes, name: &str, value: &Value) -> Result<Self, WeightsError> {
        let configuration = Configuration::deserialize(value)
            .map_err(|error| file.malformed(name, format!("cannot be understood: {error}")))?;
        let require = |field: &str, found: Option<&str>, supported: &[&str]| {
            if found.is_some_and(|found| supported.contains(&found)) {
                return Ok(());
            }
            Err(WeightsError::Unsupported {
                file: file.file.clone(),
                field: format!("{name}: {field}"),
                value: found.map_or_else(|| "none given".to_owned(), |found| format!("`{}`", shorten(found))),
                supported: supported.join(", "),
            })
        };
        require("quant_method", configuration.quant_method.as_deref(), &["compressed-tensors"])?;
        const FORMATS: [&str; 1] = ["int-quantized"];
        require("format", configuration.format.as_deref(), &FORMATS)?;
        let mut groups = false;
        for (group, Group { format, weights }) in &configuration.config_groups {
            let field = |part: &str| format!("config_groups: {group}: {part}");
            if format.is_some() {
                require(&field("format"), format.as_deref(), &FORMATS)?;
            }
            let Some(weights) = weights else { continue };
            let field = |part: &str| field(&format!("weights: {part}"));
            let bits = weights.num_bits.map(|bits| bits.to_string());
            require(&field("num_bits"), bits.as_deref(), &["8"])?;
            require(&field("type"), weights.kind.as_deref(), &["int"])?;
            let symmetric = weights.symmetric.map(|symmetric| symmetric.to_string());
            require(&field("symmetric"), symmetric.as_deref(), &["true"])?;
            require(&field("strategy"), weights.strategy.as_deref(), &["channel", "group", "tensor"])?;
            groups |= weights.strategy.as_deref() == Some("group");
            if let Some(order) = weights.actorder.as_ref().filter(|order| !order.is_null()) {
                require(&field("actorder"), Some(&order.to_string()), &["null"])?;
            }
        }
        Ok(Self::Scaled { groups })
    }
}

/// The scales of a weight.
#[derive(Debug)]
pub(super) struct Scales {
    /// The tensor that holds them.
    pub(super) name: String,
    /// Its file, one of the shards.
    pub(super) file: usize,
    /// Bytes that they take in the file.
    bytes: usize,
    /// Weights that share a scale; they follow each other, rows first.
    run: usize,
    /// Whether a run is a part of a row, as far as the configuration tells: of one part there may be no telling.
    grouped: bool,
}

impl Scales {
    /// The scales of all weights that have them.
    pub(super) fn of(shards: &Shards, scheme: Scheme) -> Result<BTreeMap<String, Self>, WeightsError> {
        use super::Source;
        let mut all = BTreeMap::new();
        for name in shards.names() {
            let Some((file, entry)) = shards.entry(&name) else { continue };
            if entry.dtype != Dtype::I8 || !name.ends_with(".weight") {
                continue;
            }
            match shards.place(&format!("{name}_scale")) {
                Some(place) => {
                    for unread in ["zero_point", "g_idx"] {
                        if shards.entry(&format!("{name}_{unread}")).is_some() {
                            return Err(WeightsError::Unsupported {
                                file: file.bytes.file.clone(),
                                field: format!("tensor `{name}`"),
                                value: format!("`{name}_{unread}` beside it"),
                                supported: "bytes with a scale alone".to_owned(),
                            });
                        }
                    }
                    let scales = Self::read(&name, entry, shards, place, scheme)?;
                    all.insert(name, scales);
                }
                None if scheme != Scheme::Unknown => {
                    return Err(WeightsError::missing(&shards.origin(), &format!("{name}_scale")));
                }
                None => {}
            }
        }
        Ok(all)
    }

    fn read(
        weight: &str,
        entry: &Entry,
        shards: &Shards,
        (place, scales): (usize, &Entry),
        scheme: Scheme,
    ) -> Result<Self, WeightsError> {
        let (name, file) = (format!("{weight}_scale"), &shards.file(place).bytes);
        let malformed = |reason: String| Err(file.malformed(format!("tensor `{name}`"), reason));
        let [n, k] = entry.shape[..] else {
            return malformed(format!(
                "scales `{weight}` of shape {:?}, expected rows and columns",
                entry.shape
            ));
        };
        let (run, grouped) = match scales.shape[..] {
            [] | [1] | [1, 1] => (n * k, false),
            [rows] if rows == n => (k, false),
            [rows, 1] if rows == n => (k, scheme == Scheme::Scaled { groups: true }),
            [rows, groups] if rows == n && groups > 0 && k.is_multiple_of(groups) => (k / groups, true),
            _ => {
                return malformed(format!(
                    "has shape {:?}; for `{weight}` of shape {:?} it must be [{n}, 1], [{n}, G] with G a divisor of {k}, \
                     or [1]",
                    scales.shape, entry.shape
                ));
            }
        };
        if !matches!(scales.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return malformed(format!("has dtype {}, expected F32, F16 or BF16", scales.dtype.name()));
        }
        let bytes = scales.shape.iter().product::<usize>() * scales.dtype.width();
        Ok(Self { name, file: place, bytes, run: run.max(1), grouped })
    }

    /// How the weight and its scales are stored together: with a scale for each 32 numbers as in GGUF's `Q8_0`, or as
    /// bytes.
    pub(super) fn format(&self) -> Quantisation {
        if self.grouped && self.run == 32 { Quantisation::Q8_0 } else { Quantisation::Int8 }
    }

    /// Bytes of the scales in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// The numbers that the weight stands for, rows first.
    ///
    /// # Errors
    /// Scales that are not finite.
    pub(super) fn apply(
        &self,
        weight: &Entry,
        bytes: &Bytes,
        scales_file: &TensorFile,
    ) -> Result<Vec<f32>, WeightsError> {
        let missing = || WeightsError::missing(&scales_file.bytes.file, &self.name);
        let entry = scales_file.tensors.get(&self.name).ok_or_else(missing)?;
        let scales = entry.floats(&scales_file.bytes).ok_or_else(missing)?;
        if let Some(found) = scales.iter().find(|scale| !scale.is_finite()) {
            let field = format!("tensor `{}`", self.name);
            return Err(scales_file
                .bytes
                .malformed(field, format!("holds {found}, expected finite numbers")));
        }
        let bytes = bytes[weight.at.clone()].as_chunks().0;
        let mut values = numbers(weight, bytes, |[byte]| f32::from(byte.cast_signed()));
        for (run, scale) in values.chunks_mut(self.run).zip(&scales) {
            run.iter_mut().for_each(|value| *value *= scale);
        }
        Ok(values)
    }
}
