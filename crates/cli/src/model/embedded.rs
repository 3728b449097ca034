//! foveate-nano, the model inside of the program: its files as they lie in `assets/foveate-nano`, opened where they are in
//! memory. No disk, no home directory, no network.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foveate_data::image::Preprocessor;
use foveate_data::prompt::ChatTemplate;
use foveate_hub::Source;
use foveate_model::Weights;
use foveate_model::vlm::{FAMILIES_FILE, FamilyHead, Viewer, Vlm, VlmConfig, published_names};
use serde_json::Value;
use tempfile::TempDir;
use tokenizers::Tokenizer;

use super::files::{as_it_is, end_token, fitted, in_config};
use super::{Model, Place, Sight};
use crate::failure::Failure;
use crate::fetch::Fetch;

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

/// The files that answers depend on.
pub(super) fn parts() -> [&'static [u8]; 5] {
    let [config, tokenizer, words, preprocessor] =
        [CONFIG, TOKENIZER, TOKENIZER_CONFIG, PREPROCESSOR].map(str::as_bytes);
    [config, tokenizer, words, preprocessor, WEIGHTS]
}

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

/// foveate-nano as a folder, for what reads parts of a model from files; it is there as long as this is.
#[derive(Default)]
pub(crate) struct Unpacked(OnceCell<TempDir>);

impl Unpacked {
    /// Where a part of a recipe lies: in this folder, or wherever else the word means.
    pub(crate) fn part(&self, word: &str, fetch: &Fetch) -> Result<PathBuf, Failure> {
        if !is_embedded(word) {
            return fetch.path(word);
        }
        if let Some(folder) = self.0.get() {
            return Ok(folder.path().to_owned());
        }
        let unpack = || -> std::io::Result<TempDir> {
            let folder = tempfile::tempdir()?;
            for (name, content) in [
                ("config.json", CONFIG.as_bytes()),
                ("tokenizer.json", TOKENIZER.as_bytes()),
                ("tokenizer_config.json", TOKENIZER_CONFIG.as_bytes()),
                ("preprocessor_config.json", PREPROCESSOR.as_bytes()),
                ("model.safetensors", WEIGHTS),
            ] {
                std::fs::write(folder.path().join(name), content)?;
            }
            Ok(folder)
        };
        let folder =
            unpack().map_err(|error| Failure::user(format!("{NANO} cannot be unpacked: {error}")))?;
        Ok(self.0.get_or_init(|| folder).path().to_owned())
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
    fn as_a_part_of_a_recipe_it_is_its_folder() {
        let (unpacked, fetch) = (Unpacked::default(), Fetch::default());
        let folder = unpacked.part(NANO, &fetch).unwrap();
        assert_eq!(unpacked.part(NANO, &fetch).unwrap(), folder, "once");
        for entry in std::fs::read_dir(&folder).unwrap() {
            let name = entry.unwrap().file_name();
            let kept = Path::new(FOLDER).join(NANO).join(&name);
            assert_eq!(std::fs::read(folder.join(&name)).unwrap(), std::fs::read(kept).unwrap(), "{name:?}");
        }
        assert_eq!(open(&folder.display().to_string()).end_tokens, open(NANO).end_tokens);
        assert_eq!(unpacked.part(FOLDER, &fetch).unwrap(), Path::new(FOLDER));
        drop(unpacked);
        assert!(!folder.exists());
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
