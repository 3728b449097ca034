//! What guessing from the question alone gets on generated data, and how fast the data is made on one core.
//!
//! ```text
//! cargo run --release -p foveate-data --example generators
//! ```
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;
use std::time::Instant;

use foveate_data::baseline::QuestionOnly;
use foveate_data::synthetic::{SceneSettings, Scenes, Split, TextSettings, Texts};
use foveate_data::{Question, Source};

const SEED: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    // Half of the pictures are scenes, half are texts.
    let (train, validation) = (questions(Split::Train, 8000), questions(Split::Validation, 2000));
    println!("{}", QuestionOnly::fit(&train).measure(&validation));
    for side in [168, 336] {
        let scenes =
            Scenes::new(SceneSettings { side, ..SceneSettings::default() }, Split::Train, SEED, 2000);
        let texts = Texts::new(TextSettings { side, ..TextSettings::default() }, Split::Train, SEED, 2000);
        for source in [&scenes as &dyn Source, &texts] {
            let start = Instant::now();
            for index in 0..source.len() {
                source.sample(index)?.picture.ok_or("a generated sample without a picture")?.image()?;
            }
            let rate = source.len() as f64 / start.elapsed().as_secs_f64();
            println!("{} {side} x {side}: {rate:.0} pictures with questions a second", source.name());
        }
    }
    Ok(())
}

fn questions(split: Split, pictures: usize) -> Vec<Question> {
    let scenes = Scenes::new(SceneSettings::default(), split, SEED, pictures);
    let texts = Texts::new(TextSettings::default(), split, SEED, pictures);
    (0..pictures as u64).flat_map(|index| [scenes.scene(index).1, texts.page(index).1].concat()).collect()
}
