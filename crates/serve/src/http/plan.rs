//! `/v1/plan`: what a budget buys, as `foveate plan`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use foveate_law::cost::{Catalogue, Compressor, CostModel, Dtype, Precision, Rates, Scenario, Workload};
use foveate_law::plan::{Plan, Request, plan as rank};
use foveate_law::{
    BootstrapOptions, Budget, FitOptions, Form, LawError, PlannedLaw, Preset, Resample, Tokens, Units, assess,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::body::Json;
use super::error::{Answer, ApiError, ErrorBody};
use super::{App, AppState};

/// The most of what a request may list.
const MOST: usize = 64;
const DRAWS: usize = 1000;

/// What to plan for; every field but `budgets` may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PlanRequest {
    /// What a question may cost, all of which hold: `2TFLOP`, `800ms`, `6GiB`.
    #[schema(required, min_items = 1, max_items = 64)]
    budgets: Vec<String>,
    /// `reasoning` or `ocr`; the server's own law where it has one, else `reasoning`.
    preset: Option<PresetName>,
    /// `product` or `sum`, of a preset.
    form: FormName,
    text_tokens: usize,
    answer_tokens: usize,
    /// `full` or `paper`.
    #[schema(value_type = String)]
    cost: CostModel,
    tower: String,
    /// Pixels along a side of the image, if not the tower's own.
    image_size: Option<usize>,
    #[schema(value_type = String)]
    compressor: Compressor,
    /// Language models of the catalogue; all of them where this is empty.
    llms: Vec<String>,
    /// Only language models of this family.
    family: Option<String>,
    /// `single`, `cached-text`, `questions-per-image:K` or `fixed-question`.
    #[schema(value_type = String)]
    scenario: Scenario,
    /// How weights are stored.
    #[schema(value_type = String)]
    dtype: Dtype,
    /// How keys and values are stored.
    #[schema(value_type = String)]
    kv_dtype: Dtype,
    /// What a machine sustains; this one's where it is known.
    #[schema(value_type = Option<Object>)]
    rates: Option<Rates>,
}

impl Default for PlanRequest {
    fn default() -> Self {
        Self {
            budgets: Vec::new(),
            preset: None,
            form: FormName::Product,
            text_tokens: 50,
            answer_tokens: 16,
            cost: CostModel::Full,
            tower: "clip-l-14-336".to_owned(),
            image_size: None,
            compressor: Compressor::TokenPacker,
            llms: Vec::new(),
            family: None,
            scenario: Scenario::Single,
            dtype: Dtype::Bf16,
            kv_dtype: Dtype::Bf16,
            rates: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PresetName {
    Reasoning,
    Ocr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormName {
    Product,
    Sum,
}

/// The laws that were fitted already.
#[derive(Default)]
pub(crate) struct Laws(Mutex<HashMap<(PresetName, FormName), Arc<PlannedLaw>>>);

impl Laws {
    fn get(&self, preset: PresetName, form: FormName) -> Result<Arc<PlannedLaw>, LawError> {
        // Held while one is fitted: two requests at once want the same.
        let mut laws = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(law) = laws.get(&(preset, form)) {
            return Ok(law.clone());
        }
        let table = match preset {
            PresetName::Reasoning => Preset::Reasoning,
            PresetName::Ocr => Preset::Ocr,
        };
        let of = match form {
            FormName::Product => Form::Product,
            FormName::Sum => Form::Sum,
        };
        let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
        let resampling = BootstrapOptions { resample: Resample::Cases, draws: DRAWS, seed: 0 };
        let fit = assess(&table.table()?, Some(of), &FitOptions::default(), units, Some(resampling))?;
        let law = Arc::new(PlannedLaw::new(&fit));
        laws.insert((preset, form), law.clone());
        Ok(law)
    }
}

/// Ranks language models and visual tokens by predicted error within a budget.
#[utoipa::path(post, path = "/v1/plan", tag = "foveate", request_body = PlanRequest, responses(
    (status = 200, description = "What `foveate plan --json` prints.", body = Object), (status = 400, body = ErrorBody),
    (status = 401, body = ErrorBody), (status = 408, body = ErrorBody), (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody), (status = 422, description = "Nothing fits the budget.", body = ErrorBody),
    (status = 429, body = ErrorBody)))]
pub(crate) async fn plan(State(app): State<App>, request: Json<PlanRequest>) -> Answer<axum::Json<Value>> {
    let worker = app.workers.clone().acquire_owned().await;
    let worker = worker.map_err(|error| ApiError::internal(&error))?;
    let work = tokio::task::spawn_blocking(move || {
        let _worker = worker;
        let plan = ranked(&app, &request.value)?;
        serde_json::to_value(&plan).map_err(|error| ApiError::internal(&error))
    });
    work.await.map_err(|error| ApiError::internal(&error))?.map(axum::Json)
}

fn ranked(app: &AppState, request: &PlanRequest) -> Answer<Plan> {
    let refuse = |param: &str, told: &dyn std::fmt::Display| ApiError::field(param, told.to_string());
    if request.budgets.is_empty() || request.budgets.len().max(request.llms.len()) > MOST {
        let message = format!("budgets: 1 to {MOST} are needed, for example [\"2TFLOP\"]");
        return Err(ApiError::field("budgets", message));
    }
    let budgets = request.budgets.iter().map(|text| text.parse::<Budget>()).collect::<Result<Vec<_>, _>>();
    let budgets = budgets.map_err(|error| refuse("budgets", &error))?;
    let catalogue = Catalogue::builtin();
    let mut tower = catalogue.tower(&request.tower).map_err(|error| refuse("tower", &error))?.clone();
    if let Some(pixels) = request.image_size {
        tower = tower.with_image_size(pixels).map_err(|error| refuse("image_size", &error))?;
    }
    let llms = if request.llms.is_empty() {
        let of_family =
            |name: &str| request.family.as_ref().is_none_or(|family| family.eq_ignore_ascii_case(name));
        catalogue.llms().iter().filter(|llm| of_family(&llm.family)).collect()
    } else {
        let found = request.llms.iter().map(|name| catalogue.llm(name)).collect::<Result<Vec<_>, _>>();
        found.map_err(|error| refuse("llms", &error))?
    };
    let law = match (&app.options.law, request.preset) {
        (Some(law), None) => Arc::new(law.clone()),
        (_, preset) => app
            .laws
            .get(preset.unwrap_or(PresetName::Reasoning), request.form)
            .map_err(|error| ApiError::internal(&error))?,
    };
    let rates = match request.rates {
        Some(rates) => Some(
            Rates::new(rates.flops_per_second, rates.bytes_per_second)
                .map_err(|error| refuse("rates", &error))?,
        ),
        None => app.options.rates,
    };
    let precision = Precision { kv_cache: request.kv_dtype, ..Precision::uniform(request.dtype) };
    let workload = Workload::new(request.text_tokens, request.answer_tokens).with_scenario(request.scenario);
    let compressor = request.compressor;
    let of = Request {
        law: &law,
        tower: &tower,
        llms,
        compressor,
        precision,
        workload,
        cost: request.cost,
        rates,
    };
    rank(&of, &budgets).map_err(|error| match error {
        foveate_law::plan::PlanError::NothingFits { .. } => {
            ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
                .param("budgets")
                .code("nothing_fits")
        }
        error => ApiError::new(axum::http::StatusCode::BAD_REQUEST, error.to_string()),
    })
}
