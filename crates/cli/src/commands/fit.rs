//! `foveate fit`: measurements in, a law with its doubts out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use foveate_eval::results::csv_of_parquet;
use foveate_law::{
    Assessment, BootstrapOptions, FitDocument, FitOptions, Floor, Form, Objective, Preset, ReadOptions,
    Resample, SearchRange, Table, Tokens, Units, YKind, assess, read_file, read_str,
};

use super::figures;
use crate::Outcome;
use crate::failure::Failure;
use crate::output::{Outputs, check_figure, print, print_json};
use crate::text;

/// Fit a scaling law to measurements and say what they can and cannot tell.
///
/// Without DATA the published reasoning measurements of arXiv 2411.03312 are fitted. DATA is a CSV file with a header, or the same as TSV or Parquet;
/// by default its columns `params`, `visual_tokens` and `error`, `score` or `loss` are read. Optional columns: `weight`,
/// or `se`/`error_se` (then weights are 1/se²); `run`, the training run a row belongs to; `task`, one fit each.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Measurements: CSV, TSV or Parquet.
    data: Option<PathBuf>,
    /// Published measurements instead of a file.
    #[arg(long, value_enum, conflicts_with = "data")]
    preset: Option<PresetName>,
    /// The form of the law; `auto` takes the one with the lower AICc.
    #[arg(long, value_enum, default_value_t = LawName::Product)]
    law: LawName,
    /// What is minimised: squared residuals, or Huber's loss of log-residuals.
    #[arg(long, value_enum, default_value_t = ObjectiveName::Squared)]
    objective: ObjectiveName,
    /// Where Huber's loss turns from a square into a line [default: 0.001].
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    delta: Option<f64>,
    /// The error that remains at any size: `free` (fitted, 0 or more) or a value.
    #[arg(long, value_name = "free|VALUE", default_value = "free", value_parser = parse_floor, allow_hyphen_values = true)]
    floor: Floor,
    /// What counts as tokens: the visual ones, or all that the language model reads (needs --text-tokens).
    #[arg(long, value_enum, default_value_t = TokensName::Visual)]
    tokens: TokensName,
    /// Text tokens per question in the measurements, for --tokens total.
    #[arg(long, value_name = "Q", allow_hyphen_values = true)]
    text_tokens: Option<f64>,
    /// Column of the first factor [default: params].
    #[arg(long, value_name = "COL")]
    x1: Option<String>,
    /// Column of the second factor [default: visual_tokens].
    #[arg(long, value_name = "COL")]
    x2: Option<String>,
    /// Column of the measurement [default: error, score or loss, whichever is there].
    #[arg(long, value_name = "COL")]
    y: Option<String>,
    /// What the measurement is [default: what its column is called, else error].
    #[arg(long, value_enum)]
    y_kind: Option<YKindName>,
    /// Divide x1 by this [default: 1; 1e9 for presets].
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    scale1: Option<f64>,
    /// Divide x2 by this [default: 1].
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    scale2: Option<f64>,
    /// Column of weights.
    #[arg(long, value_name = "COL", conflicts_with = "se")]
    weight: Option<String>,
    /// Column of standard errors of the measurement.
    #[arg(long, value_name = "COL")]
    se: Option<String>,
    /// Column of runs, drawn together by the bootstrap.
    #[arg(long, value_name = "COL")]
    run: Option<String>,
    /// Column that splits the table, one fit each.
    #[arg(long, value_name = "COL")]
    task: Option<String>,
    /// Only rows with this value in this column, such as compressor=quecc; may be repeated.
    #[arg(long, value_name = "COL=VALUE", value_parser = parse_only)]
    only: Vec<(String, String)>,
    /// Largest exponent that is searched.
    #[arg(long, value_name = "X", default_value_t = SearchRange::default().high, allow_hyphen_values = true)]
    max_exponent: f64,
    /// Refits for the intervals; 0 leaves them out.
    #[arg(long, value_name = "N", default_value_t = 1000, allow_negative_numbers = true)]
    bootstrap: usize,
    /// What the bootstrap draws [default: clusters if every row names a run, else cases].
    #[arg(long, value_enum)]
    resample: Option<ResampleName>,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "S", default_value_t = 0, allow_negative_numbers = true)]
    seed: u64,
    /// Write the law, with the bootstrap's refits, for `foveate plan --law`.
    #[arg(long, value_name = "law.json")]
    out: Option<PathBuf>,
    /// Draw error against cost, a curve per size.
    #[arg(long, value_name = "FILE.svg|png")]
    plot: Option<PathBuf>,
    /// Draw the profile of alpha: which values fit as well.
    #[arg(long, value_name = "FILE.svg|png")]
    plot_profile: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum PresetName {
    /// Mean of nine visual-reasoning benchmarks.
    Reasoning,
    /// Mean of OCR-like benchmarks.
    Ocr,
}

impl From<PresetName> for Preset {
    fn from(name: PresetName) -> Preset {
        match name {
            PresetName::Reasoning => Preset::Reasoning,
            PresetName::Ocr => Preset::Ocr,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum LawName {
    /// A · N^-α · T^-β + D
    Product,
    /// A · N^-α + B · T^-β + E
    Sum,
    /// The form with the lower AICc
    Auto,
}

impl LawName {
    pub(crate) fn form(self) -> Option<Form> {
        match self {
            LawName::Product => Some(Form::Product),
            LawName::Sum => Some(Form::Sum),
            LawName::Auto => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum ObjectiveName {
    Squared,
    HuberLog,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum TokensName {
    Visual,
    Total,
}

#[derive(Clone, Copy, ValueEnum)]
enum YKindName {
    Score,
    Error,
    Loss,
}

#[derive(Clone, Copy, ValueEnum)]
enum ResampleName {
    Cases,
    Clusters,
    Residuals,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        check_figure(self.plot.as_deref())?;
        check_figure(self.plot_profile.as_deref())?;
        let options = FitOptions {
            objective: self.objective()?,
            floor: self.floor,
            range: SearchRange { high: self.max_exponent, ..SearchRange::default() },
        };
        let (tables, units) = self.tables()?;
        if tables.len() > 1 && (self.plot.is_some() || self.plot_profile.is_some()) {
            return Err(Failure::user(format!(
                "{} tasks in {}: a figure shows one; split the file or leave --plot out",
                tables.len(),
                tables[0].origin
            )));
        }
        let mut assessments = Vec::new();
        for table in &tables {
            let resampling = self.resampling(table);
            assessments.push(assess(table, self.law.form(), &options, units, resampling)?);
        }
        let mut outputs = Outputs::default();
        self.data.iter().for_each(|table| outputs.keep(table));
        if let Some(path) = &self.out {
            outputs
                .stage_json(path, &one_or_all(assessments.iter().map(FitDocument::with_draws).collect()))?;
        }
        if let Some(path) = &self.plot {
            outputs.stage_figure(path, &figures::law(&tables[0], &assessments[0]))?;
        }
        if let Some(path) = &self.plot_profile {
            outputs.stage_figure(path, &figures::profile(&tables[0], &assessments[0])?)?;
        }
        outputs.commit()?;
        if self.json {
            return print_json(&one_or_all(assessments.iter().map(FitDocument::new).collect()));
        }
        let cards: Vec<String> = assessments.iter().map(card).collect();
        print(&cards.join("\n\n"))
    }

    fn objective(&self) -> Result<Objective, Failure> {
        match (self.objective, self.delta) {
            (ObjectiveName::Squared, None) => Ok(Objective::Squared),
            (ObjectiveName::Squared, Some(_)) => {
                Err(Failure::user("--delta belongs to --objective huber-log; the squared objective has none"))
            }
            (ObjectiveName::HuberLog, delta) => Ok(Objective::HuberLog { delta: delta.unwrap_or(1e-3) }),
        }
    }

    /// The tables with x2 in the chosen convention, and the units of the law.
    fn tables(&self) -> Result<(Vec<Table>, Units), Failure> {
        let tokens = match (self.tokens, self.text_tokens) {
            (TokensName::Visual, None) => Tokens::Visual,
            (TokensName::Visual, Some(_)) => {
                return Err(Failure::user(
                    "--text-tokens enters the fit only with --tokens total; with visual tokens it belongs to the cost \
                     (foveate plan --text-tokens)",
                ));
            }
            (TokensName::Total, Some(text_tokens)) if text_tokens.is_finite() && text_tokens >= 0.0 => {
                Tokens::Total { text_tokens }
            }
            (TokensName::Total, Some(text_tokens)) => {
                return Err(Failure::user(format!(
                    "--text-tokens {text_tokens}: a number of 0 or more is needed"
                )));
            }
            (TokensName::Total, None) => {
                return Err(Failure::user("--tokens total needs --text-tokens: how long the questions were"));
            }
        };
        let preset = self.data.is_none().then(|| Preset::from(self.preset.unwrap_or(PresetName::Reasoning)));
        let scale1 = self.scale1.unwrap_or(if preset.is_some() { Preset::SCALE1 } else { 1.0 });
        let units = Units { scale1, scale2: self.scale2.unwrap_or(1.0), tokens };
        let options = ReadOptions {
            x1: self.x1.clone(),
            x2: self.x2.clone(),
            y: self.y.clone(),
            y_kind: self.y_kind.map(|kind| match kind {
                YKindName::Score => YKind::Score,
                YKindName::Error => YKind::Error,
                YKindName::Loss => YKind::Loss,
            }),
            weight: self.weight.clone(),
            standard_error: self.se.clone(),
            run: self.run.clone(),
            task: self.task.clone(),
            only: self.only.clone(),
            scale1: units.scale1,
            scale2: units.scale2,
        };
        let mut tables = match (&self.data, preset) {
            (Some(path), _)
                if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet")) =>
            {
                read_str(&csv_of_parquet(path)?, &path.display().to_string(), &options)?
            }
            (Some(path), _) => read_file(path, &options)?,
            (None, preset) => {
                let preset = preset.unwrap_or(Preset::Reasoning);
                read_str(preset.csv(), &format!("preset {}", preset.name()), &options)?
            }
        };
        tables.iter_mut().for_each(|table| tokens.apply(table, units.scale2));
        Ok((tables, units))
    }

    fn resampling(&self, table: &Table) -> Option<BootstrapOptions> {
        let all_runs = table.rows.iter().all(|row| row.run.is_some());
        let resample = match self.resample {
            Some(ResampleName::Cases) => Resample::Cases,
            Some(ResampleName::Clusters) => Resample::Clusters,
            Some(ResampleName::Residuals) => Resample::Residuals,
            None if all_runs => Resample::Clusters,
            None => Resample::Cases,
        };
        (self.bootstrap > 0).then_some(BootstrapOptions { resample, draws: self.bootstrap, seed: self.seed })
    }
}

fn parse_only(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("COLUMN=VALUE is needed, such as compressor=quecc".into()),
    }
}

fn parse_floor(text: &str) -> Result<Floor, String> {
    match text {
        "free" => Ok(Floor::Free),
        _ => text.parse().map(Floor::Fixed).map_err(|_| "`free` or a number is needed".into()),
    }
}

/// A document, or `{"fits": [...]}` for the tasks of a table that has several.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum OneOrAll<T> {
    One(Box<T>),
    All { fits: Vec<T> },
}

fn one_or_all<T>(mut documents: Vec<T>) -> OneOrAll<T> {
    match (documents.len(), documents.pop()) {
        (1, Some(only)) => OneOrAll::One(Box::new(only)),
        (_, last) => {
            documents.extend(last);
            OneOrAll::All { fits: documents }
        }
    }
}

fn card(of: &Assessment) -> String {
    let document = FitDocument::new(of);
    let task = document.task.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
    let scale = match of.units.scale1 {
        1.0 => String::new(),
        scale => format!(", {} in units of {scale:e}", document.columns.x1),
    };
    let mut text = format!(
        "{} law  {}\n{}{task}: {} rows{scale}\n\n",
        document.law, document.formula, document.source, document.objective.n
    );
    let intervals = document.ci95.unwrap_or_default();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, value) in document.coefficients.named() {
        let interval = intervals.get(name).map(|&interval| text::interval(interval, 4)).unwrap_or_default();
        let status = document.status.get(name).map(ToString::to_string).unwrap_or_default();
        rows.push(vec![name.into(), format!("{value:.6}"), interval, status]);
    }
    let ratio = document.ratio.value.map_or("∞".into(), |value| format!("{value:.2}"));
    let interval = document.ratio.ci95.map(|interval| text::interval(interval, 2)).unwrap_or_default();
    rows.push(vec!["alpha/beta".into(), ratio, interval, String::new()]);
    let header = if of.bootstrap.is_some() {
        ["", "value", "95 % interval", "status"]
    } else {
        ["", "value", "", "status"]
    };
    text += &text::table(&header, &rows, 1);
    let kind = match (document.objective.kind, document.objective.delta) {
        (kind, Some(delta)) => format!("{kind}, delta {delta}"),
        (kind, None) => kind.into(),
    };
    text += &format!(
        "\n\nobjective ({kind}): {:.5e}, the plain sum over {} rows",
        document.objective.value, document.objective.n
    );
    if let Some(bootstrap) = &document.bootstrap {
        text += &format!(
            "\nintervals: bootstrap over {}, {} refits, seed {}",
            bootstrap.resample, bootstrap.draws, bootstrap.seed
        );
    }
    text + "\n\n" + &text::list("findings", &document.findings)
}
