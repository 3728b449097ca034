//! What a sweep found, as one page: verdicts in plain words, laws by family, tables by skill, what is best for a cost, peers
//! side by side, and what it was made with.

mod bought;
mod controls;
mod laws;
mod measured;
mod page;
mod replicates;
mod systems;
mod tables;

use std::collections::BTreeSet;

use foveate_law::{Assessment, Comparison, FitDocument, Table};

pub use laws::{Doubt, FamilyLaw, Verdict, laws};
use measured::Cost;
pub use measured::Point;
pub use page::{Block, Page};
pub use replicates::{Luck, luck};
pub use systems::{Compared, System};

use crate::packed::Answers;
use crate::results::Row;
use crate::sweep::Folder;
use crate::task::CONTROL;
use crate::{EvalError, Result};

/// Draws a law with its measurements as an SVG document.
pub type Draw<'a> = dyn Fn(&Table, &Assessment) -> Result<String> + 'a;

/// The page of a folder of results; `title` is the plan's name.
///
/// # Errors
/// A folder without rows; samples that cannot be read; figures that cannot be drawn.
pub fn report(folder: &Folder, title: &str, draw: &Draw<'_>) -> Result<Page> {
    let mut rows = folder.results().rows()?;
    if rows.is_empty() {
        let place = folder.results().csv();
        return Err(EvalError::format(
            place.display(),
            "has no rows; `foveate sweep` writes one for each finished cell",
        ));
    }
    rows.sort_by(|one, other| {
        let key =
            |row: &Row| (row.series.clone(), row.params, row.seed, row.compressor.clone(), row.task.clone());
        key(one).cmp(&key(other)).then(one.visual_tokens.total_cmp(&other.visual_tokens))
    });
    let (controls, rows): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.family == CONTROL);
    let answers = Answers::open(folder)?;
    let (compared, control) =
        (systems::compared(&answers, &rows)?, controls::section(&answers, &controls, &rows)?);
    let (control, answered) = control.unwrap_or_default();
    let laws = laws(&rows, &replicates::luck(&answers, &rows)?)?;
    let mut blocks = vec![Block::Text(introduced(&rows)), Block::Heading("What it says".into())];
    blocks.push(match laws.len() {
        0 => Block::Text("One model size alone says nothing about model size: no law was fitted.".into()),
        _ => Block::List(laws.iter().map(FamilyLaw::says).collect()),
    });
    let sides: Vec<String> = systems::says(&compared).into_iter().chain(answered).collect();
    blocks.extend((!sides.is_empty()).then_some(Block::List(sides)));
    for law in &laws {
        blocks.extend(law_section(law, draw)?);
    }
    let (flops, ms) = ("FLOPs of a question", "Milliseconds of a question");
    blocks.extend(tables::frontier(&answers, flops, "GFLOP", &rows, |row| row.flops / 1e9)?);
    blocks.extend(tables::frontier(&answers, ms, "ms", &rows, |row| row.ms)?);
    blocks.extend(systems::section(&compared));
    blocks.extend(control);
    blocks.extend(tables::skills(&answers, &rows)?);
    blocks.extend(environment(folder)?);
    Ok(Page { title: title.to_owned(), blocks })
}

fn introduced(rows: &[Row]) -> String {
    let count = |of: fn(&Row) -> &str| rows.iter().map(of).collect::<BTreeSet<_>>().len();
    let questions: usize = rows.iter().map(|row| row.n).sum();
    format!(
        "{} cells: {} trained or given models, {} tasks, {} ways to make visual tokens; {questions} answers. Scores and errors go \
         from 0 to 1 unless a percent sign says otherwise; intervals are 95 %. FLOPs and times count everything from the \
         pixels to the last token of an answer, the vision tower included.",
        rows.len(),
        count(|row| &row.run),
        count(|row| &row.task),
        count(|row| &row.compressor),
    )
}

fn law_section(law: &FamilyLaw, draw: &Draw<'_>) -> Result<Vec<Block>> {
    let mut blocks = vec![Block::Heading(format!("Law: {}, {}, {}", law.family, law.compressor, law.series))];
    let mut about = format!("Mean error over {}.", law.tasks.join(", "));
    if law.incomplete > 0 {
        about += &format!(" {} points were left out, because a task is missing there.", law.incomplete);
    }
    blocks.push(Block::Text(about));
    let file = format!("{}-{}-{}", law.series, law.family, law.compressor);
    // Nothing to draw where a task is missing everywhere.
    let costs = [Cost::Flops, Cost::Time].into_iter().filter(|_| !law.points.is_empty());
    for cost in costs {
        blocks.push(Block::Figure {
            file: format!("measured-{file}-{}.svg", cost.name()),
            caption: format!("Error against {}, {}", cost.words(), law.family),
            svg: measured::figure(&law.points, &law.family, cost)?,
        });
    }
    let Ok((table, assessment)) = &law.fitted else { return Ok(blocks) };
    let document = FitDocument::new(assessment);
    let intervals = document.ci95.clone().unwrap_or_default();
    let shown = |interval: Option<&[f64; 2]>| {
        let end = |value: f64| if value.is_finite() { format!("{value:.4}") } else { "∞".into() };
        interval.map_or_else(String::new, |[low, high]| format!("{} to {}", end(*low), end(*high)))
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, value) in document.coefficients.named() {
        let status = document.status.get(name).map(ToString::to_string).unwrap_or_default();
        rows.push(vec![name.into(), format!("{value:.4}"), shown(intervals.get(name)), status]);
    }
    let ratio = document.ratio.value.map_or("∞".into(), |value| format!("{value:.4}"));
    rows.push(vec!["α/β".into(), ratio, shown(document.ratio.ci95.as_ref()), String::new()]);
    let header = ["coefficient", "value", "95 % interval", "status"].map(str::to_owned).into();
    blocks.push(Block::Table { header, rows });
    blocks.push(Block::Text(format!(
        "{} with N the language model's parameters in millions, without those of words (embedding, head), and T = V; {} points; intervals from {} refits over {}. {}",
        document.formula,
        document.objective.n,
        document.bootstrap.as_ref().map_or(0, |bootstrap| bootstrap.draws),
        document.bootstrap.as_ref().map_or("nothing", |bootstrap| match bootstrap.resample {
            "replicates" => "training runs of each size and pictures of each task, drawn again",
            other => other,
        }),
        compared(&document.comparison),
    )));
    let caption = format!("The law, error against the paper's cost 2·N·V, {}", law.family);
    blocks.push(Block::Figure { file: format!("law-{file}.svg"), caption, svg: draw(table, assessment)? });
    for cost in [Cost::Flops, Cost::Time] {
        blocks.extend(bought::section(&law.points, assessment, document.units, cost));
    }
    blocks.push(Block::List(document.findings.clone()));
    Ok(blocks)
}

/// Product against sum, and what both foretell of the largest model.
fn compared(of: &Comparison) -> String {
    let held = |value: Option<f64>| value.map_or("unknown".to_owned(), |value| format!("{value:.4}"));
    let Some(sum) = &of.sum else { return "There are too few points for the sum form.".into() };
    format!(
        "The {} form has the lower AICc{}; with the largest model held out the product misses its errors by {}, the sum by {} \
         (root mean square).",
        of.preferred,
        of.delta_aicc.map_or(String::new(), |delta| format!(" by {delta:.1}")),
        held(of.product.holdout_rmse),
        held(sum.holdout_rmse),
    )
}

fn environment(folder: &Folder) -> Result<Vec<Block>> {
    let history = folder.history()?;
    if history.is_empty() {
        return Ok(Vec::new());
    }
    let of = |part: fn(&crate::sweep::Environment) -> String| {
        let all: BTreeSet<String> = history.iter().map(part).collect();
        all.into_iter().collect::<Vec<String>>()
    };
    let mut about = of(|one| one.program.clone());
    about.extend(of(|one| format!("{}, {} threads", one.machine, one.threads)));
    let commands = of(|one| one.command.clone());
    Ok(vec![Block::Heading("Made with".into()), Block::List(about), Block::Code(commands)])
}
