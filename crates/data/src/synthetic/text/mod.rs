//! Pictures of text: single lines, words side by side, signs and short receipts, with questions about what they say.

mod ask;
mod content;
mod font;
mod layout;
mod patches;
mod render;
mod words;

pub use font::Font;
pub use render::caption;
pub use words::home_of;

use crate::image::{DecodeError, Image};
use crate::patches::PatchLabels;
use crate::random::Draw;
use crate::sample::{Draws, Picture, Question, Sample};
use crate::stream::{SampleError, Source};

use super::Split;
use super::canvas::MAX_SIDE;
use render::Style;

/// What a line of text is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A word of the vocabulary, or two or three of them.
    Words,
    /// A whole number.
    Number,
    /// An amount of money.
    Price,
    /// A day.
    Date,
    /// Letters and digits without meaning.
    Code,
    /// On a sign: what the number numbers, such as "GATE".
    Label,
    /// On a receipt: the name of a good; its place in the list.
    Item(usize),
    /// On a receipt: the price of the good at this place.
    Cost(usize),
    /// On a receipt: the word "TOTAL".
    TotalLabel,
    /// On a receipt: the sum.
    Total,
}

/// One piece of text. Lengths are parts of the picture's side.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As painted.
    pub text: String,
    /// Its purpose.
    pub role: Role,
    /// Its typeface.
    pub font: Font,
    /// The em.
    pub size: f32,
    /// Start of the baseline, from the left, before the page is turned.
    pub x: f32,
    /// The baseline, from the top, before the page is turned.
    pub y: f32,
}

impl Line {
    /// Its width.
    pub fn width(&self) -> f32 {
        self.size * self.font.width(&self.text)
    }
}

/// How lines are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// One line.
    Single,
    /// Two to five words, in a row, a column or a grid.
    Words,
    /// A label with a number, and where to.
    Sign,
    /// A shop, a date, goods with prices, a total.
    Receipt,
}

/// A picture of text before it is painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The arrangement.
    pub layout: Layout,
    /// All text, in reading order.
    pub lines: Vec<Line>,
    /// Words side by side in each row of [`Layout::Words`]; one for the other layouts.
    pub columns: usize,
    /// Cosine and sine of the whole page's turn about its centre.
    pub turn: (f32, f32),
    style: Style,
}

impl Page {
    /// Paints it, `side` pixels wide and high (from 1 to 4096, or the nearer of the two).
    pub fn render(&self, side: u32) -> Image {
        render::paint(self, side.clamp(1, MAX_SIDE))
    }
}

/// Size of pictures and number of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSettings {
    /// Width and height in pixels; values outside 32 to 4096 are taken as the nearer of the two. The smallest em is
    /// about 0.06 of it, so that letters need 100 pixels or more to be read.
    pub side: u32,
    /// Questions about each picture, as far as it has so many to ask.
    pub questions: usize,
    /// Whether each picture shows one whole number of up to three digits, in large type, and nothing else: the least that
    /// has to be read, for models too small for words.
    pub numbers: bool,
}

impl Default for TextSettings {
    /// 168 pixels, three questions.
    fn default() -> TextSettings {
        TextSettings { side: 168, questions: 3, numbers: false }
    }
}

/// Pictures of text by index.
#[derive(Debug, Clone)]
pub struct Texts {
    settings: TextSettings,
    split: Split,
    seed: u64,
    length: usize,
    name: String,
    domain: String,
}

impl Texts {
    /// The first `length` pictures of `split` under `seed`, at most `u32::MAX`.
    pub fn new(settings: TextSettings, split: Split, seed: u64, length: usize) -> Texts {
        let settings = TextSettings { side: settings.side.clamp(32, MAX_SIDE), ..settings };
        Texts {
            settings,
            split,
            seed,
            length: length.min(u32::MAX as usize),
            name: format!("texts {split}"),
            domain: format!("text/{split}"),
        }
    }

    /// Page number `index` and its questions.
    pub fn page(&self, index: u64) -> (Page, Vec<Question>) {
        let mut draw = Draw::new(self.seed, &self.domain, index);
        let (layout, lines, columns) = layout::lines(self.split, self.settings.numbers, &mut draw);
        let t = match layout {
            Layout::Single => draw.uniform(-0.09, 0.09),
            _ => draw.uniform(-0.025, 0.025),
        };
        let turn = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
        let style = Style::draw(layout, &mut draw);
        let page = Page { layout, lines, columns, turn, style };
        let questions = ask::questions(&page, self.split, self.settings.questions, &mut draw);
        (page, questions)
    }
}

struct Painting {
    page: Page,
    side: u32,
}

impl Draws for Painting {
    fn draw(&self) -> Result<Image, DecodeError> {
        Ok(self.page.render(self.side))
    }

    fn patches(&self, side: usize) -> Option<PatchLabels> {
        Some(patches::labels(&self.page, side))
    }
}

impl Source for Texts {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.length
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let (page, questions) = self.page(index as u64);
        let name = format!("{} {index}", self.name);
        let picture = Some(Picture::new(Painting { page, side: self.settings.side }));
        Ok(Sample { group: name.clone(), name, picture, questions, conversation: false })
    }
}
