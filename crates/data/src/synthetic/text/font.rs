//! The embedded fonts: sixteen open ones, a Latin subset of each (`reference/make_fonts.py`; licences lie beside them).

use std::sync::OnceLock;

use tiny_skia::{Path, PathBuilder};
use ttf_parser::{Face, OutlineBuilder};

use crate::synthetic::Split;

/// A typeface. Two belong to validation and two to test alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "names of typefaces")]
pub enum Font {
    Bitter,
    Caveat,
    ComicNeue,
    CourierPrime,
    CrimsonPro,
    Nunito,
    Oswald,
    PatrickHand,
    Roboto,
    RobotoMono,
    SpaceGrotesk,
    ZillaSlab,
    OpenSans,
    EbGaramond,
    LibreFranklin,
    Cousine,
}

macro_rules! embed {
    ($($name:literal),*) => { [$(include_bytes!(concat!("../../../assets/fonts/", $name, ".ttf")).as_slice()),*] };
}

static FILES: [&[u8]; 16] = embed![
    "bitter",
    "caveat",
    "comic-neue",
    "courier-prime",
    "crimson-pro",
    "nunito",
    "oswald",
    "patrick-hand",
    "roboto",
    "roboto-mono",
    "space-grotesk",
    "zilla-slab",
    "open-sans",
    "eb-garamond",
    "libre-franklin",
    "cousine"
];

impl Font {
    /// All sixteen.
    pub const ALL: [Font; 16] = [
        Font::Bitter,
        Font::Caveat,
        Font::ComicNeue,
        Font::CourierPrime,
        Font::CrimsonPro,
        Font::Nunito,
        Font::Oswald,
        Font::PatrickHand,
        Font::Roboto,
        Font::RobotoMono,
        Font::SpaceGrotesk,
        Font::ZillaSlab,
        Font::OpenSans,
        Font::EbGaramond,
        Font::LibreFranklin,
        Font::Cousine,
    ];

    /// The split that it belongs to; fonts of train occur in all.
    pub fn home(self) -> Split {
        match self {
            Font::OpenSans | Font::EbGaramond => Split::Validation,
            Font::LibreFranklin | Font::Cousine => Split::Test,
            _ => Split::Train,
        }
    }

    fn glyphs(self) -> &'static Glyphs {
        static PARSED: [OnceLock<Glyphs>; 16] = [const { OnceLock::new() }; 16];
        PARSED[self as usize].get_or_init(|| Glyphs::read(FILES[self as usize]))
    }

    /// Width of `text` in ems.
    pub(super) fn width(self, text: &str) -> f32 {
        text.chars().map(|character| self.glyphs().of(character).advance).sum()
    }

    /// Height of a capital letter in ems.
    pub(super) fn capital(self) -> f32 {
        self.glyphs().capital
    }

    /// The outlines of `text` at `size` units an em, from the origin of its baseline; `None` if nothing is to be seen.
    pub(super) fn path(self, text: &str, size: f32) -> Option<Path> {
        let mut builder = PathBuilder::new();
        let mut pen = 0.0;
        for character in text.chars() {
            let glyph = self.glyphs().of(character);
            let at = |(x, y): (f32, f32)| (pen + size * x, size * y);
            for step in &glyph.steps {
                match *step {
                    Step::Move(to) => builder.move_to(at(to).0, at(to).1),
                    Step::Line(to) => builder.line_to(at(to).0, at(to).1),
                    Step::Quad(by, to) => builder.quad_to(at(by).0, at(by).1, at(to).0, at(to).1),
                    Step::Close => builder.close(),
                }
            }
            pen += size * glyph.advance;
        }
        builder.finish()
    }
}

#[derive(Clone, Copy)]
enum Step {
    Move((f32, f32)),
    Line((f32, f32)),
    Quad((f32, f32), (f32, f32)),
    Close,
}

/// In ems, y downwards.
#[derive(Default)]
struct Glyph {
    advance: f32,
    steps: Vec<Step>,
}

struct Glyphs {
    capital: f32,
    /// Printable ASCII, pound, euro.
    glyphs: Vec<Glyph>,
}

impl Glyphs {
    fn read(file: &'static [u8]) -> Glyphs {
        // The files are part of the program and a test parses each: a font without glyphs cannot ship.
        let Ok(face) = Face::parse(file, 0) else { return Glyphs { capital: 0.7, glyphs: Vec::new() } };
        let em = 1.0 / f32::from(face.units_per_em());
        let glyphs = (' '..='~').chain(['£', '€']).map(|character| {
            let mut recorder = Recorder { em, steps: Vec::new() };
            let Some(id) = face.glyph_index(character) else { return Glyph::default() };
            face.outline_glyph(id, &mut recorder);
            Glyph { advance: em * f32::from(face.glyph_hor_advance(id).unwrap_or(0)), steps: recorder.steps }
        });
        let capital = face.glyph_index('H').and_then(|id| face.glyph_bounding_box(id));
        Glyphs {
            capital: capital.map_or(0.7, |bounds| em * f32::from(bounds.y_max)),
            glyphs: glyphs.collect(),
        }
    }

    /// The glyph; a question mark's for what the fonts do not have.
    fn of(&self, character: char) -> &Glyph {
        &self.glyphs[number(character).or(number('?')).unwrap_or(0)]
    }
}

/// The place of a character among those that the fonts have, a space's being 0.
pub(super) fn number(character: char) -> Option<usize> {
    match character {
        ' '..='~' => Some(character as usize - ' ' as usize),
        '£' => Some(95),
        '€' => Some(96),
        _ => None,
    }
}

struct Recorder {
    em: f32,
    steps: Vec<Step>,
}

impl Recorder {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.em * x, -self.em * y)
    }
}

impl OutlineBuilder for Recorder {
    fn move_to(&mut self, x: f32, y: f32) {
        self.steps.push(Step::Move(self.at(x, y)));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.steps.push(Step::Line(self.at(x, y)));
    }

    fn quad_to(&mut self, by_x: f32, by_y: f32, x: f32, y: f32) {
        self.steps.push(Step::Quad(self.at(by_x, by_y), self.at(x, y)));
    }

    /// TrueType outlines have none; a straight line would show.
    fn curve_to(&mut self, _: f32, _: f32, _: f32, _: f32, x: f32, y: f32) {
        self.line_to(x, y);
    }

    fn close(&mut self) {
        self.steps.push(Step::Close);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_font_draws_every_character() {
        for font in Font::ALL {
            assert!((0.45..0.85).contains(&font.capital()), "{font:?}: {}", font.capital());
            for character in ('!'..='~').chain(['£', '€']) {
                let path = font
                    .path(&character.to_string(), 100.0)
                    .unwrap_or_else(|| panic!("{font:?} {character}"));
                let bounds = path.bounds();
                assert!(bounds.width().max(bounds.height()) > 5.0, "{font:?} {character}: {bounds:?}");
                assert!((0.08..1.2).contains(&font.width(&character.to_string())), "{font:?} {character}");
            }
            assert!(font.path(" ", 100.0).is_none());
            // No two letters or digits are drawn alike, so that none is a box for a missing glyph.
            let mut seen = std::collections::HashSet::new();
            for character in ('0'..='9').chain('A'..='Z').chain('a'..='z') {
                let path = font.path(&character.to_string(), 100.0).unwrap();
                let points: Vec<_> =
                    path.points().iter().map(|point| (point.x as i32, point.y as i32)).collect();
                assert!(seen.insert(points), "{font:?} draws {character} like another");
            }
        }
    }

    #[test]
    fn two_fonts_each_are_held_out() {
        for split in [Split::Validation, Split::Test] {
            assert_eq!(Font::ALL.iter().filter(|font| font.home() == split).count(), 2);
        }
    }
}
