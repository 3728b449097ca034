//! `foveate demo`: what the program does, shown with nothing but itself.

mod advice;
pub(super) mod exhibits;
mod trial;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use foveate_compress::Budget;
use foveate_law::plan::count;
use foveate_model::Dtype;
use serde::Serialize;

use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::gaze::Gaze;
use crate::generation::Threads;
use crate::model::{Model, NANO, Place, embedded_weights};
use crate::output::{OutputFolder, print};
use advice::{Advice, LawDocument, PlanDocument};
use exhibits::Exhibit;
use trial::{Answered, Trial};

/// The file of the picture of where tokens look.
const LOOK: &str = "look.png";
/// Visual tokens of that picture, where they are offered.
const LOOK_TOKENS: usize = 4;

/// Show what this program does, with nothing but itself.
///
/// Fits the published scaling law and plans with it; asks foveate-nano, the model that is a part of the program, about
/// generated pictures at several numbers of visual tokens, and says what was right and what was wrong; draws where its
/// tokens look. Nothing is fetched, and nothing but --out is written. The last line is a JSON document.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder that gets the pictures.
    #[arg(long, value_name = "FOLDER", default_value = "foveate-demo")]
    out: PathBuf,
    #[command(flatten)]
    threads: Threads,
    /// Print the JSON document alone.
    #[arg(long)]
    json: bool,
}

/// The last line.
#[derive(Serialize)]
struct Document<'a> {
    law: LawDocument,
    plan: PlanDocument,
    model: &'static str,
    answers: &'a [Answered],
    /// Where the tokens look.
    picture: String,
    seconds: f64,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let started = Instant::now();
        self.threads.apply()?;
        let out = OutputFolder::open(&self.out)?;
        let advice = Advice::new()?;
        self.tell(&advice.told())?;

        let exhibits = exhibits::all()?;
        let model = open()?;
        let trial = Trial::new(&model, &exhibits)?;
        self.tell(&format!("{}\n\n{}", introduced(&model)?, trial.told()))?;
        self.tell(&format!(
            "So few questions show how it works, not how well: `foveate inspect {NANO}` has its scores."
        ))?;

        let gaze = look(&model, &exhibits)?;
        let picture = out.place(LOOK).display().to_string();
        let png = gaze.png()?;
        let mut files: Vec<(&str, &[u8])> =
            exhibits.iter().map(|exhibit| (exhibit.file.as_str(), exhibit.png.as_slice())).collect();
        files.push((LOOK, &png));
        out.write(&files)?;
        let folder = self.out.display();
        self.tell(&format!(
            "{picture}: where {} tokens of {} look when asked {:?}\n\nAsk it yourself:\n\n  foveate ask --image \
             {folder}/{} {:?} --visual-tokens 4",
            gaze.tokens(),
            exhibits[0].file,
            exhibits[0].questions[0].text,
            exhibits[0].file,
            exhibits[0].questions[1].text,
        ))?;

        let seconds = (started.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        let (law, plan) = advice.documents();
        let document = Document { law, plan, model: NANO, answers: &trial.answers, picture, seconds };
        print(&serde_json::to_string(&document)?)
    }

    /// A section for people.
    fn tell(&self, section: &str) -> Outcome {
        if self.json { Ok(()) } else { print(&format!("{section}\n")) }
    }
}

fn open() -> Result<Model, Failure> {
    let place = Place {
        model: NANO.to_owned(),
        mmproj: None,
        tower: None,
        language: None,
        dtype: Dtype::AsStored,
        fetch: Fetch::default(),
    };
    place.open()
}

fn introduced(model: &Model) -> Result<String, Failure> {
    let vlm = model.seeing()?.vlm();
    let weights = embedded_weights()?;
    let shapes = weights.names().into_iter().filter_map(|name| weights.shape(&name));
    let parameters: usize = shapes.map(|shape| shape.elem_count()).sum();
    Ok(format!(
        "{NANO}, a part of this program: {} parameters; {} patches of an image become {} visual tokens (V).\nAsked about \
         generated pictures of the validation split, with pairs of colour and shape, fonts and words of its own:",
        count(parameters as f64),
        vlm.grid().patches(),
        vlm.ladder(),
    ))
}

/// Where tokens look in the first picture, for its first question.
fn look(model: &Model, exhibits: &[Exhibit]) -> Result<Gaze, Failure> {
    let offered = model.seeing()?.vlm().ladder().contains(Budget::Tokens(LOOK_TOKENS));
    let budget = offered.then_some(Budget::Tokens(LOOK_TOKENS));
    Gaze::new(model, &exhibits[0].image, &exhibits[0].questions[0].text, budget)
}
