//! `foveate calibrate`: what `--visual-tokens auto` needs, beside a model's weights.

use std::path::{Path, PathBuf};

use clap::Args;
use foveate_data::dataset::{DataSource, Kind, SplitName};
use foveate_eval::families::measured;
use foveate_law::auto::ErrorTable;
use foveate_model::atomic;
use foveate_model::vlm::{FAMILIES_FILE, FamilyHead};
use foveate_train::TrainError;
use foveate_train::card;
use foveate_train::families::{Labelled, Pick, fit, questions};
use foveate_train::recipe::Recipe;
use serde::Serialize;

use crate::Outcome;
use crate::auto::{LAWS_FILE, table};
use crate::failure::Failure;
use crate::generation::Threads;
use crate::model::{Model, Place};
use crate::output::{print, print_json};

/// Questions to fit to, and as many to be measured on; the ridge.
const QUESTIONS: usize = 4000;
const RIDGE: f64 = 1e-3;
/// Generated pictures, which nobody draws here: how many, about each how many questions, and the seed.
const PICTURES: usize = 20_000;
const EACH: usize = 4;
const SEED: u64 = 1;

/// Prepare a model for `--visual-tokens auto`.
///
/// MODEL is a folder whose compressor reads the question (quecc). It gets `families.json`, a linear guess of what a question is
/// about from the question's vector: fitted in seconds where there is none yet, to the datasets of `[families]` in --recipe, or else
/// to generated scenes and texts; and, with --results or --law, `laws.json`: the model's error at each number of visual tokens by
/// family. Those are answers to validation, as `foveate eval MODEL scenes texts --visual-tokens 1,4,16 --samples RESULTS` and
/// `foveate sweep` keep them; answers to a test are refused. The model card says how good the guess is.
#[derive(Args)]
#[command(mut_arg("model", |model| model.index(1).default_value(None::<&str>).required(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Fit the guess, again where there is one, to what `[families]` of this recipe says.
    #[arg(long, value_name = "RECIPE.toml")]
    recipe: Option<PathBuf>,
    /// A folder of samples, or of a sweep, to take the model's errors from; may be repeated.
    #[arg(long, value_name = "RESULTS", conflicts_with = "law")]
    results: Vec<PathBuf>,
    /// Whose samples of RESULTS, where they are of several models, such as nano-s0.
    #[arg(long, value_name = "NAME", requires = "results")]
    run: Option<String>,
    /// Laws to predict the model's errors with, as `foveate fit --task family --out` writes them.
    #[arg(long, value_name = "law.json")]
    law: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What `calibrate --json` prints.
#[derive(Serialize)]
struct Document {
    model: String,
    families: Vec<String>,
    /// Whether the guess was fitted now, or was there.
    fitted: bool,
    questions: usize,
    /// Questions of validation that it is right about, and how many there were.
    validation: Option<[usize; 2]>,
    /// The errors; `null` where the folder has none.
    laws: Option<ErrorTable>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        self.threads.apply()?;
        let threads = rayon::current_num_threads();
        let word = &self.place.model;
        let recipe = self.recipe.as_deref().map(|path| Recipe::open(path, &[""; 0])).transpose()?;
        let folder = match crate::model::is_embedded(word) {
            false => self.place.fetch.path(word)?,
            true => PathBuf::new(),
        };
        if !folder.is_dir() {
            return Err(Failure::user(format!(
                "{word}: a model's folder is needed, to which files are added"
            )));
        }
        let model = self.place.open()?;
        let vlm = model.seeing()?.vlm();
        let method = vlm.compressor().method();
        if !vlm.compressor().reads_question() {
            return Err(Failure::user(format!(
                "{word}: {method} does not read the question, so that nothing is known of it when a number is chosen; quecc does"
            )));
        }
        let known = vlm.families().cloned();
        let fitted = known.is_none() || recipe.is_some();
        let head = match known.filter(|_| !fitted) {
            Some(head) => head,
            None => {
                let head = guess(&model, recipe.as_ref(), threads)?;
                head.save(&folder)?;
                card::tell_families(&folder, &head)?;
                head
            }
        };
        let model = self.place.open()?;
        let laws = self.laws(&model, &folder, &method.to_string())?;
        let document = Document {
            model: word.clone(),
            fitted,
            questions: head.fitted.questions,
            validation: head.fitted.validation,
            families: head.families,
            laws,
        };
        if self.json { print_json(&document) } else { print(&document.told(&folder)) }
    }

    /// The errors by family, kept in the folder where they are new.
    fn laws(&self, model: &Model, folder: &Path, compressor: &str) -> Result<Option<ErrorTable>, Failure> {
        let (origin, text) = match (&self.law, self.results.is_empty()) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| Failure::user(format!("{}: {error}", path.display())))?;
                (path.display().to_string(), text)
            }
            (None, false) => {
                let errors = measured(&self.results, compressor, self.run.as_deref())?;
                let folders = self.results.iter().map(|folder| folder.display().to_string());
                (folders.collect::<Vec<_>>().join(", "), serde_json::to_string(&errors)?)
            }
            (None, true) => {
                let origin = folder.join(LAWS_FILE).display().to_string();
                let known = model.laws.as_deref().map(|text| table(model, &origin, Some(text)));
                return known.transpose();
            }
        };
        // What could not be chosen by is refused before it is kept.
        let table = table(model, &origin, Some(&text))?;
        let path = folder.join(LAWS_FILE);
        let text = serde_json::to_string_pretty(&table)? + "\n";
        atomic::replace(&path, |path| std::fs::write(path, text))
            .map_err(|error| Failure::user(format!("{}: {error}", path.display())))?;
        Ok(Some(table))
    }
}

/// Fits the guess to what the recipe says, or to generated scenes and texts.
fn guess(model: &Model, recipe: Option<&Recipe>, threads: usize) -> Result<FamilyHead, Failure> {
    let (labelled, ridge) = match recipe {
        Some(recipe) => Labelled::of(recipe)?
            .ok_or_else(|| Failure::user(format!("recipe {}: it has no [families]", recipe.name)))?,
        None => (generated()?, RIDGE),
    };
    // The tokenizer is asked for questions that the datasets made: what it refuses is no value of the user.
    let tokens =
        |text: &str| model.question_tokens(text).map_err(|failure| TrainError::Tokenizer(failure.message()));
    Ok(fit(model.seeing()?.vlm(), &tokens, &labelled, ridge, threads)?)
}

/// Questions about generated scenes and texts, of training and of validation.
fn generated() -> Result<Labelled, Failure> {
    let gather = |split: SplitName| -> Result<Vec<foveate_data::Question>, TrainError> {
        let (seed, length, side) = (SEED, PICTURES, 168);
        let scenes =
            Kind::Scenes { split, seed, length, side, most_objects: 8, captions: false, questions: None };
        let pick = Pick { each: EACH, seed, most: QUESTIONS / 2 };
        let of = |kind| questions(&DataSource { kind, cut: None, held_out: false }, pick);
        Ok([of(scenes)?, of(Kind::Texts { split, seed, length, side, numbers: false })?].concat())
    };
    Ok(Labelled { train: gather(SplitName::Train)?, validation: gather(SplitName::Validation)? })
}

impl Document {
    fn told(&self, folder: &Path) -> String {
        let place = folder.join(FAMILIES_FILE);
        let done = if self.fitted { "was fitted to" } else { "was there; it is fitted to" };
        let mut text = format!(
            "{}: a guess of {} {done} {} questions",
            place.display(),
            self.families.join(" or "),
            self.questions
        );
        if let Some([right, asked]) = self.validation {
            text += &format!(", right about {right} of {asked} others");
        }
        let laws = folder.join(LAWS_FILE);
        text + "\n"
            + &match &self.laws {
                Some(table) => format!(
                    "{}: errors of {}; --visual-tokens auto is ready",
                    laws.display(),
                    table.families.keys().cloned().collect::<Vec<_>>().join(" and ")
                ),
                None => {
                    format!("{} is missing: --results or --law makes it of what was measured", laws.display())
                }
            }
    }
}
