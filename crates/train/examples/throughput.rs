//! Takes some steps of a recipe's first stage and says what they cost, part by part: for choosing sizes.
//!
//! CPU seconds are those of all threads; unlike seconds they mean something on a machine that is not idle.
//!
//! ```text
//! CANDLE_NUM_THREADS=1 cargo run --release --workspace --example throughput -- recipes/foveate-nano.toml 2 stages.0.batch=8
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use cpu_time::ProcessTime;
use foveate_train::estimate::step_flops;
use foveate_train::feed::{Feed, FeedState, Part};
use foveate_train::forward;
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::Student;
use foveate_train::trainer::{Kept, gradients};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [recipe, steps, overrides @ ..] = &arguments[..] else {
        return Err("a recipe, a number of steps and overrides are needed".into());
    };
    let recipe = Recipe::open(Path::new(recipe), overrides)?;
    let student = Student::new(&recipe, &|_| Err("this example trains from scratch only".to_owned()))?;
    println!("parameters {:?} {:?}", student.sizes(), student.trained_sizes());
    let groups: Vec<Group> = recipe.stages[0].rates.keys().copied().collect();
    let vlm = student.vlm(&groups)?;
    let count = steps.parse::<u64>()?.max(1);
    let mut feed = Feed::new(Arc::new(recipe.clone()), &student, FeedState::new())?;
    let mut prepared = Vec::new();
    measure("data", count, || {
        prepared = (0..count).map(|step| feed.prepare(step)).collect::<Result<_, _>>()?;
        Ok(())
    })?;
    let parts: Vec<&Part> = prepared.iter().flat_map(|prepared| &prepared.parts).collect();
    for (tokens, _) in &recipe.stages[0].ladder {
        let visual = vec![*tokens; prepared[0].parts.len()];
        let flops = step_flops(&vlm, student.parameters(), &groups, &prepared[0], &visual)?;
        println!("{tokens} visual tokens, {:.1} GFLOP a step", flops / 1e9);
        let seen =
            |part: &Part| part.pixels.as_ref().map(|pixels| forward::features(&vlm, pixels)).transpose();
        measure("  tower, forward", count, || {
            for part in &parts {
                seen(part)?;
            }
            Ok(())
        })?;
        measure("  and all before the loss, forward", count, || {
            for part in &parts {
                if let Some(features) = seen(part)? {
                    forward::scores(&vlm, &features, &part.examples, *tokens)?;
                }
            }
            Ok(())
        })?;
        let without = |left_out: &[Group]| -> Vec<Group> {
            groups.iter().copied().filter(|group| !left_out.contains(group)).collect()
        };
        for (what, groups, threads) in [
            (
                "  step, language model alone trained",
                without(&[Group::Tower, Group::Compressor, Group::Projector]),
                1,
            ),
            ("  step, tower frozen", without(&[Group::Tower]), 1),
            ("  step", groups.clone(), 1),
            ("  step, 2 threads", groups.clone(), 2),
        ] {
            let vlm = student.vlm(&groups)?;
            measure(what, count, || {
                for prepared in &prepared {
                    gradients(
                        &vlm,
                        student.parameters(),
                        Kept::default(),
                        &prepared.parts,
                        &visual,
                        threads,
                    )?;
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn measure(
    what: &str,
    count: u64,
    work: impl FnOnce() -> Result<(), foveate_train::TrainError>,
) -> Result<(), Box<dyn Error>> {
    let (started, used) = (Instant::now(), ProcessTime::try_now()?);
    work()?;
    let (seconds, used) = (started.elapsed().as_secs_f64(), used.try_elapsed()?.as_secs_f64());
    println!("{what:<40} {:>8.3} s {:>8.3} CPU s", seconds / count as f64, used / count as f64);
    Ok(())
}
