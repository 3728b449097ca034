//! Emoji and their names, from the npm packages `emoji-datasource-google`, `-twitter`, `-apple` and `-facebook`:
//! `emoji.json`, images of 64 pixels in `img/SET/64/`, or sheets in `img/SET/sheets/` whose cells have a border of one
//! pixel. Transparent pixels are painted over white.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use super::DatasetError;
use super::files::Files;
use super::records::Records;
use crate::image::{DecodeError, DecodeProblem, Image, Limits, decode_bytes_over};
use crate::sample::{Draws, Picture, Question, Sample, Skill};
use crate::stream::{SampleError, Source};

/// Whose drawings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says itself")]
pub enum EmojiSet {
    Google,
    Twitter,
    Apple,
    Facebook,
}

impl EmojiSet {
    fn name(self) -> &'static str {
        ["google", "twitter", "apple", "facebook"][self as usize]
    }
}

/// The side of a sheet's images in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says itself")]
pub enum SheetSide {
    Pixels16 = 16,
    Pixels20 = 20,
    Pixels32 = 32,
    Pixels64 = 64,
}

/// Where the images come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmojiImages {
    /// One file of 64 x 64 pixels each.
    Files,
    /// One sheet, decoded at the first look and kept: 13 MB for 32 pixels, 50 MB for 64.
    Sheet(SheetSide),
}

#[derive(Deserialize)]
struct Record {
    name: String,
    image: String,
    category: String,
    sheet_x: u32,
    sheet_y: u32,
    has_img_google: bool,
    has_img_twitter: bool,
    has_img_apple: bool,
    has_img_facebook: bool,
}

/// Drawings and their names.
pub struct Emoji {
    name: String,
    set: EmojiSet,
    files: Arc<Files>,
    records: Records,
    indices: Vec<u32>,
    sheet: Option<Arc<Sheet>>,
}

impl Emoji {
    /// From the folder of the unpacked or installed package. Emoji that the set has no drawing of are left out, and so
    /// are those of the categories `without` (such as "Flags"; see `categories.json` of the package).
    ///
    /// # Errors
    /// A folder that is not laid out so; a category that there is not.
    pub fn open(
        path: &Path,
        set: EmojiSet,
        images: EmojiImages,
        without: &[&str],
    ) -> Result<Emoji, DatasetError> {
        let files = Files::open(path)?;
        let index = files.first_of(&["emoji.json".to_owned(), "package/emoji.json".to_owned()])?;
        let folder = index.trim_end_matches("emoji.json").to_owned();
        let records = Records::open(&files, &index)?;
        let mut categories = BTreeSet::new();
        let mut indices = Vec::new();
        for index in 0..records.len() as u32 {
            let kept = match records.get::<Record>(index as usize) {
                Ok(record) => {
                    let kept = record.has(set) && !without.contains(&record.category.as_str());
                    categories.insert(record.category);
                    kept
                }
                // Stays, to be counted as broken.
                Err(_) => true,
            };
            indices.extend(kept.then_some(index));
        }
        if let Some(unknown) = without.iter().find(|name| !categories.contains(**name)) {
            let known = categories.into_iter().collect::<Vec<_>>().join(", ");
            let reason = format!("has no category {unknown:?} to leave out; it has {known}");
            return Err(DatasetError::Layout { path: path.to_path_buf(), reason });
        }
        let root = format!("{folder}img/{}", set.name());
        let sheet = match images {
            EmojiImages::Files => None,
            EmojiImages::Sheet(side) => {
                let name = files.first_of(&[format!("{root}/sheets/{}.png", side as u32)])?;
                Some(Arc::new(Sheet {
                    files: files.clone(),
                    name,
                    side: side as u32,
                    pixels: OnceLock::new(),
                }))
            }
        };
        let name = format!("emoji {}", set.name());
        Ok(Emoji { name, set, files, records, indices, sheet })
    }

    /// The name of every emoji, in the order of samples; broken records have none.
    pub fn names(&self) -> Vec<Option<String>> {
        let name =
            |index: &u32| self.records.get::<Record>(*index as usize).ok().map(|record| record.label());
        self.indices.iter().map(name).collect()
    }
}

impl Record {
    fn has(&self, set: EmojiSet) -> bool {
        [self.has_img_google, self.has_img_twitter, self.has_img_apple, self.has_img_facebook][set as usize]
    }

    /// "FRENCH FRIES" as "french fries".
    fn label(&self) -> String {
        self.name.to_lowercase()
    }
}

impl Source for Emoji {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let at = self.indices[index] as usize;
        let record: Record = self.records.get(at)?;
        let picture = match &self.sheet {
            Some(sheet) => Picture::new(Cell { sheet: sheet.clone(), x: record.sheet_x, y: record.sheet_y }),
            None => {
                let root = if self.files.has("emoji.json") { "" } else { "package/" };
                self.files.picture(&format!("{root}img/{}/64/{}", self.set.name(), record.image), true)
            }
        };
        Ok(Sample {
            name: format!("{} {}", self.name, record.image),
            group: record.image.clone(),
            picture: Some(picture),
            questions: vec![Question::new("What is shown?", record.label(), Skill::Name)],
            conversation: false,
        })
    }
}

struct Sheet {
    files: Arc<Files>,
    name: String,
    side: u32,
    pixels: OnceLock<Result<Image, String>>,
}

struct Cell {
    sheet: Arc<Sheet>,
    x: u32,
    y: u32,
}

impl Draws for Cell {
    fn draw(&self) -> Result<Image, DecodeError> {
        let Sheet { files, name, side, pixels } = &*self.sheet;
        let place = files.place(name);
        let fail = |reason: String| DecodeError {
            file: place.clone(),
            problem: DecodeProblem::Read(std::io::Error::other(reason)),
        };
        let decode = || {
            let limits = Limits::default();
            let bytes = files.read(name, limits.max_bytes).map_err(|error| error.to_string())?;
            decode_bytes_over(&place, &bytes, &limits, [255; 3]).map_err(|error| error.problem.to_string())
        };
        let sheet = pixels.get_or_init(decode).as_ref().map_err(|reason| fail(reason.clone()))?;
        // In 64 bits: a hostile record may name any cell.
        let corner = |cell: u32| u64::from(cell) * u64::from(side + 2) + 1;
        let (left, top, side) = (corner(self.x), corner(self.y), u64::from(*side));
        if left + side > u64::from(sheet.width()) || top + side > u64::from(sheet.height()) {
            return Err(fail(format!("has no cell {}, {}: it is {}", self.x, self.y, sheet.size())));
        }
        let row = |y: u64| {
            let start = 3 * ((top + y) * u64::from(sheet.width()) + left) as usize;
            &sheet.as_rgb()[start..start + 3 * side as usize]
        };
        let data: Vec<u8> = (0..side).flat_map(|y| row(y).iter().copied()).collect();
        Image::from_rgb(side as u32, side as u32, data).ok_or_else(|| fail("an empty cell".to_owned()))
    }
}
