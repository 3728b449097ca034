//! The vision tower of a recipe: a folder, an ONNX or weights file, or a seed.

use std::collections::HashMap;
use std::path::Path;

use foveate_model::vision::{Dinov2Config, ImageSize, VisionConfig, VisionTower};
use foveate_model::vlm::tower_weights;
use foveate_model::{Dtype, Weights};
use serde_json::Value;

use super::network::{Origin, Part};
use super::parts::{read_json, table_to_json};
use super::positions;
use crate::initialise::Start;
use crate::{Result, TrainError};

/// Opens a tower for pictures of `size` pixels. Its matrices are kept as `dtype` where they are frozen.
pub(super) fn open(word: &str, path: &Path, size: ImageSize, dtype: Dtype) -> Result<(VisionConfig, Part)> {
    let weights = tower_weights(path)?;
    let config = if path.is_dir() {
        VisionConfig::from_json(&read_json(&path.join("config.json"))?.to_string())?
    } else {
        VisionConfig::Dinov2(Dinov2Config::from_shapes(&weights)?)
    };
    // What loading a tower asks for is what belongs to it.
    VisionTower::load(config.clone(), &weights)?;
    let unused = weights.unused();
    let needed = weights.names().into_iter().filter(|name| !unused.contains(name));
    let mut shapes: Vec<(String, Vec<usize>)> =
        needed.filter_map(|name| weights.shape(&name).map(|shape| (name, shape.into_dims()))).collect();
    let (config, weights, changed) = positions::resize(config, size, weights, &mut shapes)?;
    let origin = Some(Origin { word: word.to_owned(), path: path.to_owned(), changed });
    Ok((config, Part { weights, shapes, origin, dtype }))
}

/// A tower for pictures of `size` pixels whose weights start from `seed`.
pub(super) fn fresh(table: &toml::Table, size: ImageSize, seed: u64) -> Result<(Value, Part)> {
    let json = table_to_json(table);
    let config = VisionConfig::from_json(&json.to_string())?;
    if config.image_size() != size {
        let allowed = format!("{}, as in `parts.tower.fresh.image_size`", config.image_size());
        return Err(TrainError::field("parts.image.side", size, allowed));
    }
    let (width, hidden, blocks, bias, class) = match &config {
        VisionConfig::Siglip(c) => (c.hidden_size, c.intermediate_size, c.num_hidden_layers, true, false),
        VisionConfig::Clip(c) => (c.hidden_size, c.intermediate_size, c.num_hidden_layers, false, true),
        _ => {
            let found = json.get("model_type").map(Value::to_string).unwrap_or_default();
            return Err(TrainError::field(
                "parts.tower.fresh.model_type",
                found,
                "siglip_vision_model or clip_vision_model",
            ));
        }
    };
    let patch = config.patch_size();
    let mut shapes = vec![
        ("embeddings.patch_embedding.weight".to_owned(), vec![width, 3, patch, patch]),
        (
            "embeddings.position_embedding.weight".to_owned(),
            vec![config.grid().patches() + usize::from(class), width],
        ),
    ];
    if bias {
        shapes.push(("embeddings.patch_embedding.bias".to_owned(), vec![width]));
    }
    let mut layer = |name: String, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
    };
    // The last block's output is state −1: LLaVA's −2 leaves it without a use, and without a gradient.
    for block in 0..blocks {
        let block = format!("encoder.layers.{block}");
        for norm in ["layer_norm1", "layer_norm2"] {
            layer(format!("{block}.{norm}"), &[width]);
        }
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            layer(format!("{block}.self_attn.{projection}"), &[width, width]);
        }
        layer(format!("{block}.mlp.fc1"), &[hidden, width]);
        layer(format!("{block}.mlp.fc2"), &[width, hidden]);
    }
    if class {
        layer("pre_layrnorm".to_owned(), &[width]);
        shapes.push(("embeddings.class_embedding".to_owned(), vec![width]));
    }
    let shapes: Vec<(String, Vec<usize>)> =
        shapes.into_iter().map(|(name, shape)| (format!("vision_model.{name}"), shape)).collect();
    let tensors = shapes.iter().map(|(name, shape)| {
        let tensor = Start::of(name, shape, blocks).tensor(seed, &format!("vision_tower.{name}"), shape)?;
        Ok((name.clone(), tensor))
    });
    let weights = Weights::from_tensors(tensors.collect::<Result<HashMap<_, _>>>()?);
    Ok((json, Part { weights, shapes, origin: None, dtype: Dtype::F32 }))
}
