//! The model in training: frozen tensors, variables, and the [`Vlm`] that is built on both.
//!
//! A [`Vlm`] does not know that it is trained: it is loaded from tensors, some of which belong to candle variables and so
//! pass gradients. Variables change in place; the model sees it, because it holds views of the same memory. Adapters are
//! the exception: the matrices that they change are computed, so the model is built anew for each step.

mod export;
mod parts;
mod positions;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use candle_core::{Device, Tensor, Var};
use foveate_compress::CompressorConfig;
use foveate_data::image::Preprocessor;
use foveate_data::prompt::ChatTemplate;
use foveate_model::Weights;
use foveate_model::vlm::{Vlm, VlmConfig};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::Tokenizer;

pub use export::{Scope, Storage};

use crate::recipe::{Group, Recipe, Tokens};
use crate::{Result, TrainError, tokenizer};

/// Finds a part that a recipe names: MODEL as on the command line to a folder or file of this machine, or why not.
pub type Resolver<'a> = dyn Fn(&str) -> std::result::Result<PathBuf, String> + 'a;

/// A trainable tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its values.
    pub variable: Var,
    /// Whose learning rate it has.
    pub group: Group,
}

impl Parameter {
    /// Whether weight decay applies: to matrices, not to biases and norms.
    pub fn decays(&self) -> bool {
        self.variable.rank() >= 2
    }
}

/// A low-rank change of a frozen matrix.
#[derive(Clone, Debug)]
struct Adapter {
    /// The matrix.
    target: String,
    /// Names of A `[rank, in]` and B `[out, rank]` among the parameters.
    a: String,
    b: String,
    scale: f64,
}

/// Everything that is trained and everything around it.
pub struct Student {
    config: VlmConfig,
    json: Value,
    compressor: CompressorConfig,
    frozen: BTreeMap<String, Tensor>,
    parameters: BTreeMap<String, Parameter>,
    adapters: Vec<Adapter>,
    /// Text to tokens.
    pub tokenizer: Tokenizer,
    /// Questions to prompts.
    pub template: ChatTemplate,
    /// Pictures to pixels.
    pub preprocessor: Preprocessor,
    /// What ends an answer.
    pub end_token: u32,
    /// What belongs beside the weights: names and contents.
    files: BTreeMap<String, Vec<u8>>,
}

impl Student {
    /// Builds the model that a recipe describes: parts are fetched by `resolve`, the rest starts from the seed.
    ///
    /// # Errors
    /// A part that cannot be had, a configuration that no model can have, a tokenizer without an end of answer.
    pub fn new(recipe: &Recipe, resolve: &Resolver<'_>) -> Result<Student> {
        let words = match &recipe.parts.tokenizer {
            Some(Tokens::Trained(shape)) => Some(tokenizer::train(recipe, *shape)?),
            _ => None,
        };
        parts::build(recipe, resolve, words)
    }

    /// The model's configuration.
    pub fn config(&self) -> &VlmConfig {
        &self.config
    }

    /// Every trainable tensor by name, sorted.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// Whether the model must be built anew when variables changed.
    pub fn is_recomputed(&self) -> bool {
        !self.adapters.is_empty()
    }

    /// Whether any tensor of the tower is trained.
    pub fn trains_tower(&self) -> bool {
        self.parameters.values().any(|parameter| parameter.group == Group::Tower)
    }

    /// A hash of the tower's configuration and tensors: what its features depend on besides the pixels.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn tower_identity(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new().chain_update(self.json["vision_config"].to_string());
        for (name, tensor) in self.frozen.iter().filter(|(name, _)| name.starts_with("vision_tower.")) {
            hash.update(name);
            for value in tensor.flatten_all()?.to_vec1::<f32>()? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(hash.finalize().into())
    }

    /// Numbers of elements: trainable, all.
    pub fn sizes(&self) -> (usize, usize) {
        let trained = self.parameters.values().map(|parameter| parameter.variable.elem_count()).sum();
        let frozen: usize = self.frozen.values().map(Tensor::elem_count).sum();
        (trained, trained + frozen)
    }

    /// The model on the variables as they are; gradients reach those of `groups`. It sees later changes of the variables
    /// unless it [is recomputed](Self::is_recomputed).
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn vlm(&self, groups: &[Group]) -> Result<Vlm> {
        let weights = Weights::from_tensors(self.tensors(groups)?);
        Ok(Vlm::load(self.config.clone(), &weights)?)
    }

    /// All tensors by their published names, adapters merged into what they change.
    fn tensors(&self, groups: &[Group]) -> Result<HashMap<String, Tensor>> {
        let value = |parameter: &Parameter| match groups.contains(&parameter.group) {
            true => parameter.variable.as_tensor().clone(),
            // The same memory, without a gradient.
            false => parameter.variable.as_detached_tensor(),
        };
        let mut tensors: HashMap<String, Tensor> =
            self.frozen.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        let belongs = |group| group != Group::Adapters;
        for (name, parameter) in self.parameters.iter().filter(|(_, parameter)| belongs(parameter.group)) {
            tensors.insert(name.clone(), value(parameter));
        }
        for adapter in &self.adapters {
            let part = |name: &str| value(&self.parameters[name]);
            let change = (part(&adapter.b).matmul(&part(&adapter.a))? * adapter.scale)?; // [out, in]
            if let Some(tensor) = tensors.get_mut(&adapter.target) {
                *tensor = (&*tensor + change)?;
            }
        }
        Ok(tensors)
    }

    /// Takes values for the trainable tensors, all of them.
    ///
    /// # Errors
    /// [`TrainError::Field`] naming a tensor that is missing or has another shape.
    pub fn restore(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (name, parameter) in &self.parameters {
            let shape = parameter.variable.dims();
            let stored = tensors.get(name).filter(|stored| stored.dims() == shape).ok_or_else(|| {
                let found =
                    tensors.get(name).map_or("missing".to_owned(), |stored| format!("{:?}", stored.dims()));
                TrainError::field(name, found, format!("a tensor of shape {shape:?}"))
            })?;
            parameter.variable.set(&stored.to_device(&Device::Cpu)?)?;
        }
        Ok(())
    }
}
