//! A student as a folder that [`foveate_model::vlm::Vlm::open`] and other programs read.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Tensor};
use foveate_data::image::Preprocessor;
use foveate_model::vlm::save_checkpoint;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokenizers::Tokenizer;

use super::Student;
use crate::recipe::{Group, ImageSteps};
use crate::tokenizer::IMAGE_TOKEN;
use crate::{Result, TrainError, atomic};

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 4 bytes.
    F32,
    /// 2 bytes, 11 bits of precision.
    F16,
    /// 2 bytes, 8 bits of precision, the range of f32.
    BF16,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The whole model, adapters merged.
    #[default]
    Whole,
    /// What the published files of frozen parts do not hold, and which files these are; adapters as `lora_A` and `lora_B`.
    /// [`Vlm::open_on`](foveate_model::vlm::Vlm::open_on) opens it.
    Trained,
}

impl Student {
    /// Writes the model to `folder`: `config.json`, `model.safetensors`, tokenizer and image processor.
    ///
    /// # Errors
    /// A folder or file that cannot be written; a frozen part that cannot be read any more.
    pub fn save(&self, folder: &Path, storage: Storage, scope: Scope) -> Result<()> {
        let (dtype, dtype_name) = match storage {
            Storage::F32 => (DType::F32, "float32"),
            Storage::F16 => (DType::F16, "float16"),
            Storage::BF16 => (DType::BF16, "bfloat16"),
        };
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
        let store = |name: String, tensor: Tensor| -> Result<()> {
            tensors.insert(name, tensor.to_dtype(dtype)?);
            Ok(())
        };
        match scope {
            Scope::Whole => self.network.each_tensor(store)?,
            Scope::Trained => self.network.each_trained(store)?,
        }
        let mut json = self.json.clone();
        json["torch_dtype"] = dtype_name.into();
        if scope == Scope::Trained {
            self.network.frozen_parts()?.write(&mut json, self.network.adapter_scale())?;
        }
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        for (name, content) in &self.files {
            atomic::replace_bytes(&folder.join(name), content)?;
        }
        save_checkpoint(folder, &json, Some(&self.compressor), &tensors)?;
        Ok(())
    }

    /// Numbers of elements of each group that is trained.
    pub fn trained_sizes(&self) -> BTreeMap<Group, usize> {
        let mut sizes = BTreeMap::new();
        for parameter in self.parameters().values() {
            *sizes.entry(parameter.group).or_default() += parameter.variable.elem_count();
        }
        sizes
    }
}

/// The files of the tokenizer of a language model from scratch, whose answers end with `end`.
pub(super) fn tokenizer_json(
    tokenizer: &Tokenizer,
    end: Option<&str>,
    template: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let text = tokenizer.to_string(true).map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    files.insert("tokenizer.json".to_owned(), text.into_bytes());
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": template,
        "clean_up_tokenization_spaces": false,
    });
    // A word that the tokenizer does not know would be added to it by whoever reads this.
    let known = tokenizer.token_to_id(IMAGE_TOKEN).map(|_| IMAGE_TOKEN);
    for (name, token) in [("eos_token", end), ("image_token", known)] {
        if let Some(token) = token {
            config[name] = token.into();
        }
    }
    files.insert("tokenizer_config.json".to_owned(), format!("{config:#}\n").into_bytes());
    Ok(())
}

/// `preprocessor_config.json` for the steps of a recipe.
pub(super) fn processor_json(steps: &ImageSteps, preprocessor: &Preprocessor) -> Vec<u8> {
    let size = steps.size();
    let exact = json!({"height": size.height, "width": size.width});
    let mut json = json!({
        "do_resize": true,
        "resample": 3,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preprocessor.mean,
        "image_std": preprocessor.std,
    });
    // No other program keeps an aspect inside of a rectangle.
    let (class, exactly) = match (preprocessor.crop, steps.pad, steps.side.side()) {
        (_, true, None) => ("FoveateImageProcessor", true),
        (None, false, _) => ("SiglipImageProcessor", true),
        // LLaVA's is CLIP's with the padding in front.
        (_, true, Some(_)) => ("LlavaImageProcessor", false),
        (Some(_), false, _) => ("CLIPImageProcessor", false),
    };
    json["image_processor_type"] = class.into();
    json["do_pad"] = steps.pad.into();
    if exactly {
        json["size"] = exact;
    } else {
        json["size"] = json!({"shortest_edge": size.height});
        json["do_center_crop"] = true.into();
        json["crop_size"] = exact;
    }
    format!("{json:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recipe::ImagePreset;
    use foveate_data::image::Image;
    use foveate_model::vision::ImageSize;

    #[test]
    fn image_steps_are_read_back_as_they_were() {
        let levels = (0..3 * 50 * 131).map(|at| (at * 37 % 251) as u8).collect();
        let picture = Image::from_rgb(131, 50, levels).unwrap();
        for preset in [ImagePreset::Siglip, ImagePreset::Clip, ImagePreset::Dinov2] {
            for (pad, squeeze) in [(false, false), (false, true), (true, false), (true, true)] {
                let rectangle = ImageSize::new(84, 336);
                for side in [168.into(), rectangle] {
                    let steps = ImageSteps { preset, side, pad, squeeze };
                    if side == rectangle && !pad && !steps.squeezes() {
                        continue;
                    }
                    let made = steps.preprocessor().unwrap();
                    let text = String::from_utf8(processor_json(&steps, &made)).unwrap();
                    let read = Preprocessor::from_json("preprocessor_config.json", &text).unwrap();
                    // It is the pixels that count: a square that was padded is squeezed and cropped alike.
                    assert_eq!(read.apply(&picture).unwrap(), made.apply(&picture).unwrap(), "{steps:?}");
                    let tile = &made.apply(&picture).unwrap().tiles[0];
                    assert_eq!((tile.height, tile.width), (side.height, side.width));
                }
            }
        }
    }
}
