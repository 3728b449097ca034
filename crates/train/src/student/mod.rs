//! The model in training: a [`Network`], and what turns texts and pictures into what it reads.

mod export;
mod language;
mod network;
mod parts;
mod positions;
mod start;
mod tower;

use std::collections::BTreeMap;
use std::path::PathBuf;

use foveate_compress::CompressorConfig;
use foveate_data::image::Preprocessor;
use foveate_data::prompt::ChatTemplate;
use foveate_model::vlm::{FrozenPart, Vlm};
use serde_json::Value;
use tokenizers::Tokenizer;

pub use export::{Scope, Storage};
pub use network::{Network, Origin, Parameter, Part, Trained};

use crate::recipe::{Group, Recipe, Tokens};
use crate::{Result, tokenizer};

/// Finds a part that a recipe names: MODEL as on the command line to a folder or file of this machine, or why not.
pub type Resolver<'a> = dyn Fn(&str) -> std::result::Result<PathBuf, String> + 'a;

/// Everything that is trained and everything around it.
pub struct Student {
    network: Network,
    json: Value,
    compressor: CompressorConfig,
    /// The weights that it went on from, where it did.
    start: Option<FrozenPart>,
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

    /// The tensors.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Every trainable tensor by name, sorted.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        self.network.parameters()
    }

    /// The weights that compressor, projector and adapters went on from, where they did not start fresh.
    pub fn start(&self) -> Option<&FrozenPart> {
        self.start.as_ref()
    }

    /// Numbers of elements: trainable, all.
    pub fn sizes(&self) -> (usize, usize) {
        self.network.sizes()
    }

    /// The model on the variables as they are and as they will be; gradients reach those of `groups`.
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn vlm(&self, groups: &[Group]) -> Result<Vlm> {
        self.network.vlm(groups)
    }
}
