//! foveate-nano, the model inside of the program: its files as they lie in `assets/foveate-nano`, opened where they are in
//! memory. No disk, no home directory, no network.

use std::path::Path;
use std::sync::Arc;

use foveate_data::image::Preprocessor;
use foveate_data::prompt::ChatTemplate;
use foveate_hub::Source;
use foveate_model::Weights;
use foveate_model::vlm::{FAMILIES_FILE, FamilyHead, Viewer, Vlm, VlmConfig, published_names};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::files::{as_it_is, end_token, fitted, in_config};
use super::{Model, Place, Sight};
use crate::failure::Failure;

/// MODEL's word for it, and the folder that errors name.
pub(crate) const NANO: &str = "foveate-nano";

/// A file of the model.
macro_rules! file {
    ($include:ident, $name:literal) => {
        $include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/foveate-nano/", $name))
    };
}

const CONFIG: &str = file!(include_str, "config.json");
const TOKENIZER: &str = file!(include_str, "tokenizer.json");
const TOKENIZER_CONFIG: &str = file!(include_str, "tokenizer_config.json");
const PREPROCESSOR: &str = file!(include_str, "preprocessor_config.json");
const WEIGHTS: &[u8] = file!(include_bytes, "model.safetensors");
/// `FAMILIES` and `LAWS`: what `--visual-tokens auto` reads, where the model has it.
mod optional {
    include!(concat!(env!("OUT_DIR"), "/optional.rs"));
}
use optional::FAMILIES;
pub(crate) use optional::LAWS;
/// What it is, for people.
pub(crate) const CARD: &str = file!(include_str, "README.md");

/// Whether MODEL means it.
pub(crate) fn is_embedded(word: &str) -> bool {
    matches!(word.parse(), Ok(Source::Embedded))
}

/// Its dimensions.
pub(crate) fn config() -> Result<VlmConfig, Failure> {
    VlmConfig::from_json(CONFIG).map_err(|error| in_config(Path::new(NANO), error))
}

/// Its guess of a question's family, where it has one.
pub(crate) fn families() -> foveate_model::Result<Option<FamilyHead>> {
    FAMILIES.map(|text| FamilyHead::from_json(FAMILIES_FILE, text)).transpose()
}

/// Its tensors.
pub(crate) fn weights() -> Result<Weights, Failure> {
    Ok(published_names(Weights::from_safetensors(&named("model.safetensors"), WEIGHTS)?))
}

impl Place {
    pub(super) fn open_embedded(&self) -> Result<Model, Failure> {
        let flags = [
            ("--mmproj", self.mmproj.is_some()),
            ("--tower", self.tower.is_some()),
            ("--language", self.language.is_some()),
        ];
        for (flag, given) in flags {
            if given {
                return Err(Failure::user(format!("{flag}: {NANO} is whole and takes no other part")));
            }
        }
        let vlm = Vlm::load(config()?, &weights()?.packed(self.dtype));
        let vlm = vlm.and_then(|vlm| vlm.with_families(families()?));
        let vlm = vlm.map_err(|error| in_config(Path::new(NANO), error))?;
        let decoder = vlm.decoder().clone();

        let failed = |error| Failure::user(format!("{}: {error}", named("tokenizer.json")));
        let tokenizer = as_it_is(Tokenizer::from_bytes(TOKENIZER).map_err(failed)?).map_err(failed)?;
        let file = named("tokenizer_config.json");
        let template = ChatTemplate::from_tokenizer_config(&file, TOKENIZER_CONFIG)?;
        let words: Value = serde_json::from_str(TOKENIZER_CONFIG)?;
        let mut end_tokens = decoder.config().end_tokens.clone();
        end_tokens.extend(end_token(&words, &tokenizer));
        end_tokens.sort_unstable();
        end_tokens.dedup();

        let preprocessor = Preprocessor::from_json(&named("preprocessor_config.json"), PREPROCESSOR)?;
        let preprocessor = fitted(preprocessor, vlm.config());
        let sight = Some(Sight { viewer: Viewer::new(vlm, Arc::default()), preprocessor });
        let laws = LAWS.map(Arc::from);
        Ok(Model { name: self.model.clone(), decoder, tokenizer, template, end_tokens, laws, sight })
    }
}

fn named(file: &str) -> String {
    format!("{NANO}/{file}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_data::image::Image;
    use foveate_model::Dtype;

    use super::*;
    use crate::fetch::Fetch;
    use crate::model::one_question;

    /// What may lie in every copy of the program.
    const MOST_BYTES: u64 = 12 << 20;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets");

    fn open(word: &str) -> Model {
        let place = Place {
            model: word.to_owned(),
            mmproj: None,
            tower: None,
            language: None,
            dtype: Dtype::AsStored,
            fetch: Fetch::default(),
        };
        place.open().unwrap()
    }

    #[test]
    fn it_is_what_its_folder_is() {
        let (inside, outside) = (open(NANO), open(&format!("{FOLDER}/{NANO}")));
        assert_eq!(inside.end_tokens, outside.end_tokens);
        let question = "How many stars are there?";
        assert_eq!(inside.question_tokens(question).unwrap(), outside.question_tokens(question).unwrap());
        // A slope of colours, wider than high, so that resizing and padding show.
        let pixels = (0..90 * 60 * 3_u32).map(|at| (at % 251) as u8).collect();
        let image = Image::from_rgb(90, 60, pixels).unwrap();
        let rows = |model: &Model| {
            let seen = model.look(std::slice::from_ref(&image), question, None).unwrap();
            let rows = vec![seen[0].view.rows.clone()];
            let asked = model.prompt(&one_question(None, question), &rows).unwrap();
            (rows[0].to_vec2::<f32>().unwrap(), asked.text_tokens, asked.visual_tokens)
        };
        assert_eq!(rows(&inside), rows(&outside));
    }

    #[test]
    fn other_parts_are_refused() {
        let fetch = Fetch::default();
        let place = Place {
            model: NANO.to_owned(),
            mmproj: None,
            tower: Some("tower".to_owned()),
            language: None,
            dtype: Dtype::F32,
            fetch,
        };
        assert!(place.open().err().unwrap().message().contains("--tower: foveate-nano is whole"));
    }

    #[test]
    fn what_is_embedded_stays_small() {
        fn bytes(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            entries
                .map(|entry| match entry.file_type().unwrap().is_dir() {
                    true => bytes(&entry.path()),
                    false => entry.metadata().unwrap().len(),
                })
                .sum()
        }
        let found = bytes(Path::new(FOLDER));
        assert!(found >= WEIGHTS.len() as u64 && found <= MOST_BYTES, "{found} of {MOST_BYTES} bytes");
    }
}
