//! How many visual tokens a request gets: the number that it names, the most that its time allows, or what serves its question.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use foveate_compress::{Budget, CompressError, Ladder, Method};
use foveate_law::auto::{Limits, Rung, choose};
use foveate_law::cost::{Dtype, Stage, Workload};
use foveate_model::ModelError;
use foveate_model::vlm::{Image as Pixels, VisualCost, Vlm};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::AppState;
use super::check::Wanted;
use super::error::{Answer, ApiError};
use super::ladder::LadderDocument;
use crate::engine::{Picture, Work};
use crate::options::AutoOptions;

/// What the images and the text of a request come to at each budget.
pub(crate) struct Estimate<'a> {
    app: &'a AppState,
    sight: Option<(&'a Vlm, VisualCost)>,
    pictures: &'a [Picture],
    text_tokens: usize,
}

/// FLOPs of one stage.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StageFlops {
    /// tower, query, compress, project, prefill or decode
    #[schema(value_type = String)]
    stage: Stage,
    flops: f64,
}

impl StageFlops {
    pub(crate) fn flops(&self) -> f64 {
        self.flops
    }
}

impl<'a> Estimate<'a> {
    pub(crate) fn new(app: &'a AppState, pictures: &'a [Picture], text_tokens: usize) -> Self {
        let vlm = app.backend.viewer().map(|viewer| viewer.vlm());
        Self { app, sight: vlm.map(|vlm| (vlm, vlm.cost())), pictures, text_tokens }
    }

    /// Positions that stand for images; where the image decides, the most that it may take.
    pub(crate) fn image_tokens(&self, budget: Option<Budget>) -> usize {
        let (Some((vlm, cost)), Some(budget)) = (&self.sight, budget) else { return 0 };
        let of = |picture: &Picture| {
            let tokens = match budget {
                Budget::Tokens(tokens) => tokens,
                _ => vlm.grid().patches(),
            };
            match &picture.pixels {
                Pixels::Single(_) => tokens,
                Pixels::Tiled { tiling, .. } => {
                    let grid = match cost.compressor().method() {
                        Method::Identity => Some(vlm.grid()),
                        _ => cost.compressor().token_grid(vlm.grid(), tokens),
                    };
                    grid.map_or(tokens, |grid| tiling.positions(grid))
                }
            }
        };
        self.pictures.iter().map(of).sum()
    }

    /// FLOPs of every stage of an answer of `new_tokens` tokens.
    pub(crate) fn stages(&self, budget: Option<Budget>, new_tokens: usize) -> Answer<Vec<StageFlops>> {
        let mut stages = Vec::new();
        if let (Some((vlm, cost)), Some(budget)) = (&self.sight, budget)
            && !self.pictures.is_empty()
        {
            let failed = |error: ModelError| ApiError::internal(&error);
            let tokens = match budget {
                Budget::Tokens(tokens) => tokens,
                _ => vlm.grid().patches(),
            };
            let blocks = cost.blocks_needed().map_err(failed)?;
            let [mut tower, mut query, mut compress, mut project] = [0.0; 4];
            for picture in self.pictures {
                let tiles = match &picture.pixels {
                    Pixels::Single(_) => 1,
                    Pixels::Tiled { tiling, .. } => 1 + tiling.rows * tiling.columns,
                };
                tower += cost.tower_flops(tiles, blocks);
                if let Some(question) = &picture.question {
                    query += cost.question_flops(question.len()).map_err(failed)?;
                }
                // Where the image decides there is no number to ask for; it is a small part.
                compress += tiles as f64 * cost.compressor_flops(tokens).unwrap_or(0.0);
                project += tiles as f64 * cost.projector_flops(tokens);
            }
            let all = [
                (Stage::Tower, tower),
                (Stage::Query, query),
                (Stage::Compress, compress),
                (Stage::Project, project),
            ];
            stages.extend(
                all.into_iter()
                    .filter(|(_, flops)| *flops > 0.0)
                    .map(|(stage, flops)| StageFlops { stage, flops }),
            );
        }
        let prompt = self.text_tokens + self.image_tokens(budget);
        let llm = self.app.backend.decoder().config().dimensions("language model");
        let language = llm.stages(&Workload::new(prompt, new_tokens), 0, Dtype::F32);
        let language = language.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.to_string()))?;
        stages.extend(language.iter().map(|cost| StageFlops { stage: cost.stage, flops: cost.flops }));
        Ok(stages)
    }

    /// Milliseconds until an answer of `new_tokens` tokens is whole, the wait for others included; `None` before this
    /// server has measured itself.
    pub(crate) fn forecast(&self, budget: Option<Budget>, new_tokens: usize) -> Answer<Option<f64>> {
        let stages = self.stages(budget, new_tokens)?;
        let sum = |wanted: &[Stage]| {
            stages.iter().filter(|of| wanted.contains(&of.stage)).map(|of| of.flops).sum::<f64>()
        };
        let work = Work {
            tower: sum(&[Stage::Tower]),
            connect: sum(&[Stage::Query, Stage::Compress, Stage::Project]),
            prefill: sum(&[Stage::Prefill]),
            passes: new_tokens.saturating_sub(1),
        };
        let wait = self.app.engine.wait();
        let forecast = self.app.engine.shared().meter().forecast(&work);
        Ok(forecast.map(|ms| ms + 1e3 * wait.as_secs_f64()))
    }

    /// The budget that a request gets. `new_tokens` says how long the answer may be at a number of image tokens, `spent` how
    /// much of the time is over.
    ///
    /// # Errors
    /// 422 with the least predicted time where none is in time.
    pub(crate) fn choose(
        &self,
        wanted: Wanted,
        max_latency: Option<f64>,
        spent: Duration,
        new_tokens: impl Fn(usize) -> usize,
    ) -> Answer<Option<Budget>> {
        let Some((vlm, _)) = &self.sight else {
            if wanted != Wanted::Own && wanted != Wanted::Auto {
                return Err(ApiError::field("visual_tokens", "visual_tokens: this model sees no images"));
            }
            self.in_time(&[None], max_latency, spent, new_tokens)?;
            return Ok(None);
        };
        let candidates: Vec<Option<Budget>> = match wanted {
            Wanted::Exactly(budget) => {
                vlm.check_budget(budget).map_err(|error| off_ladder(error, &vlm.ladder()))?;
                vec![Some(budget)]
            }
            Wanted::Own | Wanted::Auto => {
                let own = self.app.options.budget.or_else(|| vlm.default_budget());
                let mut rungs: Vec<Option<Budget>> =
                    vlm.ladder().values().into_iter().map(Budget::Tokens).map(Some).collect();
                if own == Some(Budget::Adaptive) || rungs.is_empty() {
                    rungs.insert(0, Some(Budget::Adaptive));
                }
                rungs.retain(|rung| rung.is_some_and(|rung| vlm.check_budget(rung).is_ok()));
                match (wanted, own) {
                    (Wanted::Own, Some(own)) => vec![Some(own)],
                    (Wanted::Own, None) if !self.pictures.is_empty() => {
                        let (method, ladder) = (vlm.compressor().method(), vlm.ladder());
                        let message =
                            format!("{method} keeps as many tokens as it is told: visual_tokens is {ladder}");
                        let details = json!({"ladder": LadderDocument::from(&ladder)});
                        return Err(ApiError::field("visual_tokens", message).details(details));
                    }
                    _ if self.pictures.is_empty() => rungs.into_iter().take(1).collect(),
                    _ => rungs,
                }
            }
        };
        match (&self.app.options.auto, wanted) {
            (Some(auto), Wanted::Auto) if !self.pictures.is_empty() => {
                self.by_question(auto, vlm, &candidates, max_latency, spent, new_tokens)
            }
            _ => self.in_time(&candidates, max_latency, spent, new_tokens),
        }
    }

    /// The candidate of least expected error that is in time; without a bound of time the cheapest within the tolerance.
    /// Questions whose family is not guessed, and candidates without known errors, are left to the time alone.
    fn by_question(
        &self,
        auto: &AutoOptions,
        vlm: &Vlm,
        candidates: &[Option<Budget>],
        max_latency: Option<f64>,
        spent: Duration,
        new_tokens: impl Fn(usize) -> usize,
    ) -> Answer<Option<Budget>> {
        let started = Instant::now();
        let families = self.families(vlm)?;
        let spent_ms = 1e3 * (spent + started.elapsed()).as_secs_f64();
        let ladder: Vec<usize> = candidates.iter().filter_map(|budget| number(*budget)).collect();
        let params = self.app.backend.decoder().config().dimensions("language model").parameters() as f64;
        let expected = auto.errors.expected(&families, params, self.text_tokens as f64, &ladder);
        let expected = expected.map_err(|error| ApiError::internal(&error))?;
        let mut rungs = Vec::new();
        for (visual_tokens, error) in expected.into_iter().filter(|_| !families.is_empty()) {
            let budget = Some(Budget::Tokens(visual_tokens));
            let new_tokens = new_tokens(self.image_tokens(budget));
            let cost = match max_latency {
                // A server that has not measured itself yet has no time to tell.
                Some(_) => self.forecast(budget, new_tokens)?.map_or(f64::NAN, |ms| ms + spent_ms),
                None => self.stages(budget, new_tokens)?.iter().map(StageFlops::flops).sum(),
            };
            rungs.push(Rung { visual_tokens, error, cost });
        }
        let tolerance = if max_latency.is_some() { 0.0 } else { auto.tolerance };
        match choose(&rungs, Limits { budget: max_latency, tolerance }) {
            Ok(choice) => Ok(Some(Budget::Tokens(choice.rung.visual_tokens))),
            Err(_) => self.in_time(candidates, max_latency, spent, new_tokens),
        }
    }

    /// How likely the pictures' questions are of each family: the mean over the pictures. The engine finds what is computed
    /// here in the model's caches.
    fn families(&self, vlm: &Vlm) -> Answer<Vec<(String, f64)>> {
        let failed = |error: ModelError| ApiError::internal(&error);
        let (Some(head), Some(viewer)) = (vlm.families(), self.app.backend.viewer()) else {
            return Ok(Vec::new());
        };
        let mut families: Vec<(String, f64)> = Vec::new();
        let questions: Vec<&Vec<u32>> =
            self.pictures.iter().filter_map(|picture| picture.question.as_ref()).collect();
        for question in &questions {
            let guess = head.guess(&viewer.question(question).map_err(failed)?.vector).map_err(failed)?;
            for (nth, (family, probability)) in guess.into_iter().enumerate() {
                let share = probability / questions.len() as f64;
                match families.get_mut(nth) {
                    Some(known) => known.1 += share,
                    None => families.push((family, share)),
                }
            }
        }
        Ok(families)
    }

    /// The first of `candidates` whose answer is there in time.
    fn in_time(
        &self,
        candidates: &[Option<Budget>],
        max_latency: Option<f64>,
        spent: Duration,
        new_tokens: impl Fn(usize) -> usize,
    ) -> Answer<Option<Budget>> {
        let first = candidates.first().copied().flatten();
        let Some(most) = max_latency else { return Ok(first) };
        let mut least: Option<(f64, Option<Budget>)> = None;
        for &budget in candidates {
            let forecast = self.forecast(budget, new_tokens(self.image_tokens(budget)))?;
            let Some(ms) = forecast.map(|ms| ms + 1e3 * spent.as_secs_f64()) else {
                return Err(ApiError::unavailable("this server has not measured itself yet"));
            };
            if ms <= most {
                return Ok(budget);
            }
            if least.is_none_or(|(least, _)| ms < least) {
                least = Some((ms, budget));
            }
        }
        let (ms, budget) = least.unwrap_or((f64::INFINITY, None));
        let tokens = match budget {
            Some(Budget::Tokens(tokens)) if !self.pictures.is_empty() => {
                format!(", with {tokens} visual tokens")
            }
            _ => String::new(),
        };
        let message = format!("max_latency_ms is {most}: the least predicted time is {ms:.1} ms{tokens}");
        let error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).param("max_latency_ms");
        Err(error
            .code("latency_out_of_reach")
            .details(json!({"least_ms": ms, "visual_tokens": number(budget)})))
    }
}

/// What was asked for, where it is a number.
fn number(budget: Option<Budget>) -> Option<usize> {
    match budget {
        Some(Budget::Tokens(tokens)) => Some(tokens),
        _ => None,
    }
}

/// What the model says about a budget, with its ladder for programs.
fn off_ladder(error: ModelError, ladder: &Ladder) -> ApiError {
    let code = match &error {
        ModelError::Compress(of) if matches!(**of, CompressError::OffLadder { .. }) => "off_ladder",
        _ => "visual_tokens",
    };
    ApiError::field("visual_tokens", error.to_string())
        .code(code)
        .details(json!({"ladder": LadderDocument::from(ladder)}))
}
