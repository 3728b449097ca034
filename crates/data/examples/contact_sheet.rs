//! Writes a sheet of generated scenes and texts with their questions and answers: what a model is trained on, to look at.
//!
//! ```text
//! cargo run --release -p foveate-data --example contact_sheet -- sheet.png [train|validation|test] [seed]
//! ```

use std::error::Error;

use foveate_data::synthetic::{SceneSettings, Scenes, Split, TextSettings, Texts, text};
use foveate_data::{Source, image::Image};

const SIDE: u32 = 168;
const CAPTION: u32 = 112;
const COLUMNS: usize = 6;
const ROWS: usize = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("name the PNG file to write")?;
    let split = match arguments.next() {
        None => Split::Train,
        Some(name) => {
            let known = Split::ALL.into_iter().find(|split| split.name() == name);
            known.ok_or_else(|| format!("split {name:?}: known are train, validation and test"))?
        }
    };
    let seed = arguments.next().map(|seed| seed.parse()).transpose()?.unwrap_or(1);
    let scenes = Scenes::new(
        SceneSettings { side: SIDE, questions: 3, ..SceneSettings::default() },
        split,
        seed,
        ROWS * COLUMNS / 2,
    );
    let texts =
        Texts::new(TextSettings { side: SIDE, ..TextSettings::default() }, split, seed, ROWS * COLUMNS / 2);

    let (cell_width, cell_height) = (SIDE + 6, SIDE + CAPTION + 6);
    let mut sheet = ::image::RgbImage::new(COLUMNS as u32 * cell_width, ROWS as u32 * cell_height);
    for cell in 0..ROWS * COLUMNS {
        let source: &dyn Source = if cell < scenes.len() { &scenes } else { &texts };
        let sample = source.sample(cell % scenes.len())?;
        let lines = sample.questions.iter().map(|question| format!("{} {}", question.text, question.answer));
        let caption = text::caption(&lines.collect::<Vec<_>>(), SIDE, CAPTION, 11.5);
        let picture = sample.picture.ok_or("a generated sample without a picture")?.image()?;
        let (left, top) =
            ((cell % COLUMNS) as u32 * cell_width + 3, (cell / COLUMNS) as u32 * cell_height + 3);
        place(&mut sheet, &picture, left, top);
        place(&mut sheet, &caption, left, top + SIDE);
    }
    sheet.save(path)?;
    Ok(())
}

fn place(sheet: &mut ::image::RgbImage, picture: &Image, left: u32, top: u32) {
    for (index, pixel) in picture.as_rgb().chunks_exact(3).enumerate() {
        let (x, y) = (index as u32 % picture.width(), index as u32 / picture.width());
        sheet.put_pixel(left + x, top + y, ::image::Rgb([pixel[0], pixel[1], pixel[2]]));
    }
}
