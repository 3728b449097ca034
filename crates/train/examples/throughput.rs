//! Takes some steps of a recipe and says how long they took: for choosing sizes.
//!
//! ```text
//! cargo run --release --workspace --example throughput -- recipes/foveate-nano.toml 10 stages.0.batch=8
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use foveate_train::feed::{Feed, FeedState};
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::Student;
use foveate_train::trainer::gradients;

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
    let started = Instant::now();
    let mut feed = Feed::new(Arc::new(recipe.clone()), &student, FeedState::new())?;
    let prepared: Vec<_> = (0..steps.parse()?).map(|step| feed.prepare(step)).collect::<Result<_, _>>()?;
    println!("data: {:.4} s a step", started.elapsed().as_secs_f64() / prepared.len() as f64);
    for (tokens, _) in &recipe.stages[0].ladder {
        for threads in [1, 2] {
            let started = Instant::now();
            for prepared in &prepared {
                let visual = vec![*tokens; prepared.parts.len()];
                gradients(&vlm, &student, None, &prepared.parts, &visual, threads)?;
            }
            let seconds = started.elapsed().as_secs_f64() / prepared.len() as f64;
            println!("{tokens:>4} visual tokens, {threads} threads: {seconds:.3} s a step");
        }
    }
    Ok(())
}
