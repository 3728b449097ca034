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
    let side = steps.side;
    let square = json!({"height": side, "width": side});
    let mut json = json!({
        "do_resize": true,
        "resample": 3,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": preprocessor.mean,
        "image_std": preprocessor.std,
    });
    match (preprocessor.crop, steps.pad_to_square) {
        (None, false) => {
            json["image_processor_type"] = "SiglipImageProcessor".into();
            json["size"] = square;
        }
        (_, pad) => {
            // LLaVA's is CLIP's with the padding in front.
            let class = if pad { "LlavaImageProcessor" } else { "CLIPImageProcessor" };
            json["image_processor_type"] = class.into();
            json["do_pad"] = pad.into();
            json["size"] = json!({"shortest_edge": side});
            json["do_center_crop"] = true.into();
            json["crop_size"] = square;
        }
    }
    format!("{json:#}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recipe::ImagePreset;

    #[test]
    fn image_steps_are_read_back_as_they_were() {
        for preset in [ImagePreset::Siglip, ImagePreset::Clip, ImagePreset::Dinov2] {
            for (pad_to_square, squeeze) in [(false, false), (false, true), (true, false), (true, true)] {
                let steps = ImageSteps { preset, side: 168, pad_to_square, squeeze };
                let made = steps.preprocessor().unwrap();
                let text = String::from_utf8(processor_json(&steps, &made)).unwrap();
                let read = Preprocessor::from_json("preprocessor_config.json", &text).unwrap();
                // A square that was padded is squeezed and cropped alike.
                if pad_to_square && made.crop.is_none() {
                    assert_eq!((read.mean, read.std, read.pad_to_square), (made.mean, made.std, true));
                } else {
                    assert_eq!(read, made, "{steps:?}");
                }
                assert_eq!(made.crop.is_none(), squeeze || preset == ImagePreset::Siglip);
            }
        }
    }
}
