//! A model at a number of visual tokens, as evaluations ask it: one new question at a time, with nothing cached.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::{Duration, Instant};

use foveate_compress::{Budget, Method};
use foveate_eval::run::Trouble;
use foveate_eval::sweep::{DOWN_SCALING, OWN};
use foveate_eval::{Question, Reply, System};
use foveate_model::generate::{GenerateOptions, Session};

use crate::answer::{Looked, cost, generate};
use crate::auto::{Ask, Auto, look};
use crate::failure::Failure;
use crate::model::{Asked, Model, one_question};

/// How results call a number that each question calls for.
pub(crate) const AUTO: &str = "auto";

/// What makes visual tokens fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reducer {
    /// The model's own compressor.
    Own,
    /// Smaller pictures and no compressor: the baseline.
    DownScaling,
    /// This compressor.
    Method(Method),
}

impl FromStr for Reducer {
    type Err = String;

    fn from_str(name: &str) -> Result<Reducer, String> {
        match name {
            OWN => Ok(Reducer::Own),
            DOWN_SCALING => Ok(Reducer::DownScaling),
            _ => {
                name.parse().map(Reducer::Method).map_err(|error| format!("{error}, {OWN} or {DOWN_SCALING}"))
            }
        }
    }
}

/// What is evaluated.
pub(crate) struct Evaluated {
    model: Model,
    tokens: Tokens,
    reducer: Reducer,
}

/// How many visual tokens it gets.
enum Tokens {
    Fixed(Budget),
    /// What each question calls for.
    Auto(Auto),
}

impl Evaluated {
    /// The model with so many visual tokens made in this way.
    pub(crate) fn new(model: &Model, reducer: Reducer, budget: Option<Budget>) -> Result<Evaluated, Failure> {
        let mut model = model.clone();
        match reducer {
            Reducer::Own => {}
            Reducer::Method(method) => model.use_compressor(method)?,
            Reducer::DownScaling => {
                model = model.at_image_size(side(&model, budget)?)?;
                model.use_compressor(Method::Identity)?;
            }
        }
        let budget = model.budget(budget)?;
        model.seeing()?.vlm().check_budget(budget)?;
        Ok(Evaluated { model, tokens: Tokens::Fixed(budget), reducer })
    }

    /// The model with as many visual tokens as `auto` chooses for each question.
    pub(crate) fn by_question(model: &Model, auto: Auto) -> Evaluated {
        Evaluated { model: model.clone(), tokens: Tokens::Auto(auto), reducer: Reducer::Own }
    }

    /// What results call the compressor.
    pub(crate) fn compressor(&self) -> Result<String, Failure> {
        Ok(match self.reducer {
            Reducer::DownScaling => DOWN_SCALING.to_owned(),
            _ => self.model.seeing()?.vlm().compressor().method().to_string(),
        })
    }

    /// The number of tokens that was asked for, or the compressor's own, as file names and tables have it: a number, `adaptive` or
    /// `auto`.
    pub(crate) fn tokens(&self) -> String {
        match &self.tokens {
            Tokens::Fixed(Budget::Tokens(tokens)) => tokens.to_string(),
            Tokens::Fixed(_) => "adaptive".to_owned(),
            Tokens::Auto(_) => AUTO.to_owned(),
        }
    }

    /// Whether its tokens are made by the model's own compressor.
    pub(crate) fn is_own(&self) -> bool {
        self.reducer == Reducer::Own
    }

    /// What a choice depends on; nothing where the number is fixed.
    pub(crate) fn settings(&self) -> String {
        match &self.tokens {
            Tokens::Fixed(_) => String::new(),
            Tokens::Auto(auto) => auto.settings(),
        }
    }

    /// Parameters of the language model, tied embeddings once, and how many of them are not embedding or head.
    pub(crate) fn params(&self) -> (u64, u64) {
        let config = self.model.decoder.config();
        let all = config.dimensions("language model").parameters();
        let words = (config.vocabulary * config.width) as u64 * if config.tied { 1 } else { 2 };
        (all, all - words)
    }

    /// Refuses a control for a compressor that reads no question: it would answer as ever.
    pub(crate) fn check_control(&self) -> Result<(), Failure> {
        let compressor = self.model.seeing()?.vlm().compressor();
        match compressor.reads_question() {
            true => Ok(()),
            false => Err(Failure::user(no_control(compressor.method()))),
        }
    }

    /// The pictures as the language model will read them, and the whole prompt.
    fn read(&self, model: &Model, question: &Question<'_>) -> Result<(Looked, Asked), Failure> {
        let messages = one_question(None, question.text);
        let ask = Ask {
            images: question.pictures,
            question: question.looked_for.unwrap_or(question.text),
            messages: &messages,
            new_tokens: question.max_new_tokens,
            decode: Duration::ZERO,
        };
        let (budget, auto) = match &self.tokens {
            Tokens::Fixed(budget) => (Some(*budget), None),
            Tokens::Auto(auto) => (None, Some(auto)),
        };
        let looked = look(model, &ask, budget, auto)?;
        let asked = model.prompt(&messages, &looked.rows())?;
        Ok((looked, asked))
    }

    fn answer(&self, question: &Question<'_>) -> Result<Reply, Failure> {
        let model = self.model.clone().with_fresh_caches();
        let started = Instant::now();
        let (looked, asked) = self.read(&model, question)?;
        let mut session = Session::new(model.decoder.clone());
        if let Some(candidates) = question.candidates {
            return likeliest(&model, &mut session, &asked, &looked, candidates, started);
        }
        let options = GenerateOptions { max_tokens: question.max_new_tokens, ..GenerateOptions::default() };
        let quiet = |_: &str| ControlFlow::Continue(());
        let answer = generate(&model, &mut session, &asked, &looked, &options, started.elapsed(), quiet)?;
        let text = answer.text().trim().to_owned();
        let visual_tokens = answer.visual_tokens;
        Ok(Reply { text, chosen: None, visual_tokens, flops: answer.flops, ms: answer.ms.total })
    }
}

impl System for Evaluated {
    type Error = Failure;

    fn ask(&mut self, question: &Question<'_>) -> Result<Reply, Trouble<Failure>> {
        if question.looked_for.is_some() {
            self.check_control().map_err(Trouble::System)?;
        }
        self.answer(question).map_err(|failure| match failure {
            // What is wrong with a question is told in its place; what is wrong with the machine ends the run.
            Failure::User(error) => Trouble::Question(error.to_string()),
            other => Trouble::System(other),
        })
    }
}

/// Why there is no control for a compressor.
pub(crate) fn no_control(method: Method) -> String {
    format!("{method} reads no question, so that questions shuffled among pictures change nothing")
}

/// The candidate that the model most likely says, with an end behind it.
fn likeliest(
    model: &Model,
    session: &mut Session,
    asked: &Asked,
    looked: &Looked,
    candidates: &[String],
    started: Instant,
) -> Result<Reply, Failure> {
    let prompt = cost(model, asked, looked, 0, 0)?;
    let (mut best, mut flops) = ((f64::NEG_INFINITY, 0), prompt);
    for (nth, candidate) in candidates.iter().enumerate() {
        let encoding = model.tokenizer.encode(candidate.as_str(), false);
        let encoding = encoding
            .map_err(|error| Failure::user(format!("the tokenizer cannot encode {candidate:?}: {error}")))?;
        let tokens = encoding.get_ids();
        let read = tokens.len() - usize::from(model.end_tokens.is_empty() && !tokens.is_empty());
        flops += cost(model, asked, looked, 0, read)? - prompt;
        let likelihood = session.log_likelihood_to_end(&asked.prompt, tokens, &model.end_tokens)?;
        if likelihood > best.0 {
            best = (likelihood, nth);
        }
    }
    let ms = 1e3 * started.elapsed().as_secs_f64();
    let text = candidates.get(best.1).cloned().unwrap_or_default();
    Ok(Reply { text, chosen: Some(best.1), visual_tokens: asked.visual_tokens, flops, ms })
}

/// The side in pixels at which as many patches remain as tokens are asked for.
fn side(model: &Model, budget: Option<Budget>) -> Result<usize, Failure> {
    let tower = model.seeing()?.vlm().tower().config();
    let patch = tower.dimensions("vision tower").patch;
    if tower.grid().rows != tower.grid().columns {
        let size = tower.image_size();
        return Err(Failure::user(format!(
            "{DOWN_SCALING} knows square pictures alone; {} reads {size} pixels",
            model.name
        )));
    }
    let most = tower.grid().rows;
    let root = match budget {
        Some(Budget::Tokens(tokens)) => (1..=most).find(|root| root * root == tokens),
        _ => None,
    };
    let squares = || (1..=most).rev().map(|root| (root * root).to_string()).collect::<Vec<_>>().join(", ");
    let root = root.ok_or_else(|| {
        let asked = budget.map_or("any number of".to_owned(), |budget| budget.to_string());
        Failure::user(format!("{DOWN_SCALING} cannot give {asked} visual tokens; it offers {}", squares()))
    })?;
    Ok(root * patch)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_data::image::Image;
    use foveate_model::Dtype;
    use foveate_model::generate::Part;

    use super::*;
    use crate::fetch::Fetch;
    use crate::model::{NANO, Place};

    /// The compressor reads another picture's question, the language model the right one.
    #[test]
    fn a_control_changes_the_visual_tokens_and_no_word_of_the_prompt() {
        let place = Place {
            model: NANO.to_owned(),
            mmproj: None,
            tower: None,
            language: None,
            dtype: Dtype::F32,
            fetch: Fetch::default(),
        };
        let model = place.open().unwrap();
        let system = Evaluated::new(&model, Reducer::Own, Some(Budget::Tokens(4))).unwrap();
        let pixels = (0..80 * 80 * 3_u32).map(|at| (at % 251) as u8).collect();
        let picture = Image::from_rgb(80, 80, pixels).unwrap();
        let (own, other) = ("How many stars are there?", "Is the circle left of the square?");
        let read = |text: &str, looked_for: Option<&str>| {
            let pictures = std::slice::from_ref(&picture);
            let question = Question { pictures, text, looked_for, candidates: None, max_new_tokens: 1 };
            let (looked, asked) = system.read(&model, &question).unwrap();
            let words = asked.prompt.parts.into_iter().map(|part| match part {
                Part::Tokens(tokens) => Some(tokens),
                Part::Rows(_) => None,
            });
            (words.collect::<Vec<_>>(), looked.rows()[0].to_vec2::<f32>().unwrap())
        };
        let (plain, control) = (read(own, None), read(own, Some(other)));
        assert_eq!(plain.0, control.0, "the prompt");
        assert!(plain.0.contains(&None), "a picture is in it");
        assert_ne!(plain.1, control.1, "the visual tokens");
        // They are those of the other question.
        assert_eq!(control.1, read(other, None).1);

        let deaf = Evaluated::new(&model, Reducer::Method(Method::AveragePooling), Some(Budget::Tokens(4)));
        let error = deaf.unwrap().check_control().unwrap_err().message();
        assert!(error.contains("average-pooling reads no question"), "{error}");
    }

    #[test]
    fn reducers_have_names() {
        assert_eq!("own".parse(), Ok(Reducer::Own));
        assert_eq!("down-scaling".parse(), Ok(Reducer::DownScaling));
        assert_eq!("quecc".parse(), Ok(Reducer::Method(Method::QueCC)));
        let error = "magic".parse::<Reducer>().unwrap_err();
        assert!(
            error.contains("magic") && error.contains("visionzip") && error.contains("down-scaling"),
            "{error}"
        );
    }
}
