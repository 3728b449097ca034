//! Towers and language models by name: a built-in TOML file, and users' files in the same format.
//!
//! A file is a list of `[[tower]]` and `[[llm]]` tables whose keys are the fields of [`TowerDimensions`] and
//! [`LlmDimensions`].

use std::{fs::File, io::Read, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    dimensions::TowerDimensions,
    error::CostError,
    llm::LlmDimensions,
    names::{fold, unknown},
};

/// Most bytes of a catalogue file that are read.
const MOST_BYTES: u64 = 1 << 20;

/// Towers and language models, each with valid dimensions and a name of its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Catalogue {
    towers: Vec<TowerDimensions>,
    llms: Vec<LlmDimensions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    tower: Vec<TowerDimensions>,
    #[serde(default)]
    llm: Vec<LlmDimensions>,
}

/// What a catalogue keeps one of per name.
trait Named {
    const KIND: &'static str;
    fn name(&self) -> &str;
    fn aliases(&self) -> &[String];
}

impl Named for TowerDimensions {
    const KIND: &'static str = "tower";
    fn name(&self) -> &str {
        &self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
}

impl Named for LlmDimensions {
    const KIND: &'static str = "language model";
    fn name(&self) -> &str {
        &self.name
    }
    fn aliases(&self) -> &[String] {
        &self.aliases
    }
}

impl Catalogue {
    /// The built-in catalogue.
    pub fn builtin() -> Self {
        // The file is part of the program and a unit test reads it: a failure here is a defect, not an input.
        Self::from_toml_str(include_str!("../../data/catalogue.toml"))
            .expect("the built-in catalogue is valid")
    }

    /// A catalogue from TOML.
    ///
    /// # Errors
    /// [`CostError::Toml`] with line and column; [`CostError::Dimension`] and [`CostError::Duplicate`] with the entry.
    pub fn from_toml_str(text: &str) -> Result<Self, CostError> {
        let file: CatalogueFile = toml::from_str(text)?;
        file.tower.iter().try_for_each(TowerDimensions::validate)?;
        file.llm.iter().try_for_each(LlmDimensions::validate)?;
        refuse_duplicates(&file.tower)?;
        refuse_duplicates(&file.llm)?;
        Ok(Self { towers: file.tower, llms: file.llm })
    }

    /// A catalogue from a TOML file of at most one mebibyte.
    ///
    /// # Errors
    /// [`CostError::Read`], [`CostError::TooLarge`], and as [`CostError::InFile`] those of
    /// [`Catalogue::from_toml_str`].
    pub fn read(path: &Path) -> Result<Self, CostError> {
        let failed = |source| CostError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(CostError::TooLarge { path: path.to_owned(), limit: MOST_BYTES });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))?;
        Self::from_toml_str(&text)
            .map_err(|error| CostError::InFile { path: path.to_owned(), source: Box::new(error) })
    }

    /// Adds the entries of `other`; one that has the name of an entry here replaces it.
    pub fn extend(&mut self, other: Self) {
        merge(&mut self.towers, other.towers);
        merge(&mut self.llms, other.llms);
    }

    /// All towers.
    pub fn towers(&self) -> &[TowerDimensions] {
        &self.towers
    }

    /// All language models.
    pub fn llms(&self) -> &[LlmDimensions] {
        &self.llms
    }

    /// The tower of this name or alias; case and punctuation do not matter.
    ///
    /// # Errors
    /// [`CostError::Unknown`] with the known names and the nearest.
    pub fn tower(&self, name: &str) -> Result<&TowerDimensions, CostError> {
        find(&self.towers, name)
    }

    /// The language model of this name or alias; case and punctuation do not matter.
    ///
    /// # Errors
    /// [`CostError::Unknown`] with the known names and the nearest.
    pub fn llm(&self, name: &str) -> Result<&LlmDimensions, CostError> {
        find(&self.llms, name)
    }
}

/// Names count before aliases, so that no entry can hide another.
fn find<'a, T: Named>(entries: &'a [T], name: &str) -> Result<&'a T, CostError> {
    let wanted = fold(name);
    entries
        .iter()
        .find(|entry| fold(entry.name()) == wanted)
        .or_else(|| entries.iter().find(|entry| entry.aliases().iter().any(|alias| fold(alias) == wanted)))
        .ok_or_else(|| unknown(T::KIND, name, entries.iter().map(Named::name)))
}

fn refuse_duplicates<T: Named>(entries: &[T]) -> Result<(), CostError> {
    let mut seen = std::collections::HashSet::new();
    match entries.iter().find(|entry| !seen.insert(fold(entry.name()))) {
        Some(entry) => Err(CostError::Duplicate { kind: T::KIND, name: entry.name().to_owned() }),
        None => Ok(()),
    }
}

fn merge<T: Named>(entries: &mut Vec<T>, added: Vec<T>) {
    for entry in added {
        let name = fold(entry.name());
        match entries.iter_mut().find(|known| fold(known.name()) == name) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const MINE: &str = "[[llm]]\nname = \"mine\"\nvocab = 100\nhidden = 8\nintermediate = 16\nlayers = 2\nheads = 2\n\
                        kv_heads = 1\nhead_dim = 4\n";

    #[test]
    fn the_builtin_file_is_valid() {
        let catalogue = Catalogue::from_toml_str(include_str!("../../data/catalogue.toml")).unwrap();
        assert_eq!(catalogue, Catalogue::builtin());
    }

    #[test]
    fn computed_parameters_match_the_published_ones() {
        let catalogue = Catalogue::builtin();
        let counts = catalogue
            .towers()
            .iter()
            .map(|tower| (&tower.name, tower.parameters(), tower.published_parameters, &tower.source))
            .chain(
                catalogue
                    .llms()
                    .iter()
                    .map(|llm| (&llm.name, llm.parameters(), llm.published_parameters, &llm.source)),
            );
        for (name, computed, published, source) in counts {
            let published = published.unwrap() as f64;
            let deviation = (computed as f64 - published).abs() / published;
            assert!(deviation < 0.01, "{name}: {computed} computed, {published} published");
            assert!(!source.is_empty(), "{name} has no source");
        }
        for llm in catalogue.llms() {
            assert_eq!(Some(llm.parameters()), llm.published_parameters, "{}", llm.name);
        }
    }

    #[test]
    fn the_promised_models_are_there() {
        let catalogue = Catalogue::builtin();
        for name in [
            "clip-l-14-336",
            "openai/clip-vit-large-patch14-336",
            "siglip-so400m-14-384",
            "siglip-so400m-14-224",
            "dinov2-s-14",
            "dinov2-b-14",
            "dinov2-l-14",
        ] {
            catalogue.tower(name).unwrap();
        }
        for (name, nominal) in [
            ("Qwen1.5-0.5B", 0.5),
            ("qwen1.5-1.8b", 1.8),
            ("qwen1.5-4b", 4.0),
            ("qwen1.5-7b", 7.0),
            ("qwen1.5-14b", 14.0),
            ("Qwen/Qwen2.5-0.5B", 0.5),
            ("qwen2.5-1.5b", 1.5),
            ("qwen2.5-3b", 3.0),
            ("qwen2.5-7b", 7.0),
            ("qwen2.5-14b", 14.0),
            ("smollm2-135m", 0.135),
            ("smollm2-360m", 0.36),
            ("smollm2-1.7b", 1.7),
            ("vicuna-7b", 7.0),
            ("vicuna-13b", 13.0),
            ("llama-3.2-1b", 1.0),
            ("llama-3.2-3b", 3.0),
            ("phi-3-mini", 3.8),
        ] {
            assert!(
                (catalogue.llm(name).unwrap().nominal_parameters() / 1e9 - nominal).abs() < 1e-9,
                "{name}"
            );
        }
    }

    #[test]
    fn a_users_file_adds_and_replaces() {
        let mut catalogue = Catalogue::builtin();
        let before = catalogue.llms().len();
        catalogue.extend(Catalogue::from_toml_str(MINE).unwrap());
        assert_eq!(catalogue.llms().len(), before + 1);
        assert_eq!(catalogue.llm("MINE").unwrap().layers, 2);
        let changed = MINE.replace("\"mine\"", "\"Vicuna-7B\"");
        catalogue.extend(Catalogue::from_toml_str(&changed).unwrap());
        assert_eq!(catalogue.llms().len(), before + 1);
        assert_eq!(catalogue.llm("vicuna-7b").unwrap().vocab, 100);
    }

    #[test]
    fn unknown_names_suggest_and_list() {
        let message = Catalogue::builtin().llm("qwen1.5-0.5c").unwrap_err().to_string();
        assert!(
            message.starts_with("unknown language model `qwen1.5-0.5c` (did you mean `qwen1.5-0.5b`?)"),
            "{message}"
        );
        assert!(message.contains("phi-3-mini"), "{message}");
    }

    #[test]
    fn bad_files_are_refused_with_place_and_reason() {
        let refused = |text: &str, expected: &str| {
            let message = Catalogue::from_toml_str(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        refused("[[llm]]\nname = 3\n", "line 2");
        refused("[[model]]\n", "unknown field `model`");
        refused(&MINE.replace("vocab", "vocabulary"), "unknown field `vocabulary`");
        refused(&MINE.replace("layers = 2\n", ""), "missing field `layers`");
        refused(&MINE.replace("= 100", "= -1"), "line 3");
        refused(&MINE.replace("hidden = 8", "hidden = 0"), "`mine`: hidden = 0 is not allowed");
        refused(&MINE.replace("= 100", "= 99999999999999999999"), "line 3");
        refused(&MINE.replace("mine", "--"), "letter or digit");
        refused(&format!("{MINE}{MINE}"), "language model `mine` is described twice");
    }

    #[test]
    fn files_are_read_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, MINE).unwrap();
        assert_eq!(Catalogue::read(&path).unwrap().llms().len(), 1);
        std::fs::write(&path, MINE.replace("hidden = 8", "hidden = 0")).unwrap();
        let message = Catalogue::read(&path).unwrap_err().to_string();
        assert!(message.contains("mine.toml: `mine`: hidden = 0"), "{message}");
        std::fs::write(&path, vec![b'#'; (MOST_BYTES + 1) as usize]).unwrap();
        assert!(matches!(Catalogue::read(&path), Err(CostError::TooLarge { .. })));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(Catalogue::read(&path), Err(CostError::Read { .. })));
        assert!(matches!(Catalogue::read(folder.path()), Err(CostError::Read { .. })));
        let message = Catalogue::read(&folder.path().join("none.toml")).unwrap_err().to_string();
        assert!(message.contains("none.toml"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = Catalogue::from_toml_str(&text);
        }

        #[test]
        fn no_dimensions_make_the_reader_or_the_counts_panic(
            values in proptest::collection::vec(prop_oneof![0_i64..10, any::<i64>(), Just(i64::MAX)], 8),
            nominal in any::<f64>(),
        ) {
            let text = format!(
                "[[llm]]\nname = \"x\"\nnominal = {nominal:?}\nvocab = {}\nhidden = {}\nintermediate = {}\nlayers = {}\n\
                 heads = {}\nkv_heads = {}\nhead_dim = {}\nsliding_window = {}\n\
                 [[tower]]\nname = \"x\"\nimage_size = {}\npatch = {}\nhidden = {}\nintermediate = {}\nlayers = {}\nheads = {}\n",
                values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7],
                values[0], values[1], values[2], values[3], values[4], values[5],
            );
            if let Ok(catalogue) = Catalogue::from_toml_str(&text) {
                prop_assert!(catalogue.llms()[0].parameters() > 0);
                prop_assert!(catalogue.towers()[0].parameters() > 0);
                prop_assert!(catalogue.towers()[0].ladder().contains(&1));
            }
        }
    }
}
