//! How fast the generators and the decoders of datasets are, on one core.
//!
//! ```text
//! cargo run --release -p foveate-data --example throughput
//! ```

use std::error::Error;
use std::time::Instant;

use foveate_data::Source;
use foveate_data::synthetic::{SceneSettings, Scenes, Split, TextSettings, Texts};

fn main() -> Result<(), Box<dyn Error>> {
    for side in [168, 336] {
        let scenes = Scenes::new(SceneSettings { side, questions: 4 }, Split::Train, 1, 3000);
        let texts = Texts::new(TextSettings { side, questions: 3 }, Split::Train, 1, 3000);
        for source in [&scenes as &dyn Source, &texts] {
            let start = Instant::now();
            let mut questions = 0;
            for index in 0..source.len() {
                let sample = source.sample(index)?;
                questions += sample.questions.len();
                sample.picture.ok_or("a generated sample without a picture")?.image()?;
            }
            let rate = source.len() as f64 / start.elapsed().as_secs_f64();
            let name = source.name();
            report(&format!("{name} {side} x {side}: {rate:.0} pictures/s with {questions} questions"));
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "an example prints")]
fn report(line: &str) {
    println!("{line}");
}
