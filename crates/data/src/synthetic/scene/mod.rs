//! Scenes of three to eight coloured shapes, with questions by skill whose answers come from the scene.

mod ask;
mod language;
mod outline;
mod patches;
mod place;
mod render;
mod skills;
mod templates;

use crate::image::{DecodeError, Image};
use crate::patches::PatchLabels;
use crate::random::Draw;
use crate::sample::{Draws, Picture, Question, Sample};
use crate::stream::{SampleError, Source};

use super::Split;
use super::canvas::MAX_SIDE;
use render::Style;

/// What an object's colour is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each says itself")]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Blue,
    Purple,
    Pink,
    Black,
    White,
}

impl Colour {
    /// All nine.
    pub const ALL: [Colour; 9] = [
        Colour::Red,
        Colour::Orange,
        Colour::Yellow,
        Colour::Green,
        Colour::Blue,
        Colour::Purple,
        Colour::Pink,
        Colour::Black,
        Colour::White,
    ];

    /// The word in questions and answers.
    pub fn name(self) -> &'static str {
        ["red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white"][self as usize]
    }
}

/// The form of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each says itself")]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Star,
    Cross,
    Heart,
    Ring,
}

impl Shape {
    /// All eight.
    pub const ALL: [Shape; 8] = [
        Shape::Circle,
        Shape::Square,
        Shape::Triangle,
        Shape::Diamond,
        Shape::Star,
        Shape::Cross,
        Shape::Heart,
        Shape::Ring,
    ];

    /// The word in questions and answers.
    pub fn name(self) -> &'static str {
        ["circle", "square", "triangle", "diamond", "star", "cross", "heart", "ring"][self as usize]
    }
}

/// One of two sizes, apart by a factor of at least 1.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each says itself")]
pub enum Scale {
    Small,
    Large,
}

impl Scale {
    /// Both.
    pub const ALL: [Scale; 2] = [Scale::Small, Scale::Large];

    /// The word in questions and answers.
    pub fn name(self) -> &'static str {
        ["small", "large"][self as usize]
    }
}

/// Pairs that scenes and questions of validation alone have: no colour and no shape twice.
pub const VALIDATION_PAIRS: [(Colour, Shape); 6] = [
    (Colour::Red, Shape::Triangle),
    (Colour::Orange, Shape::Diamond),
    (Colour::Yellow, Shape::Star),
    (Colour::Green, Shape::Cross),
    (Colour::Blue, Shape::Heart),
    (Colour::Purple, Shape::Ring),
];

/// Pairs that test alone has.
pub const TEST_PAIRS: [(Colour, Shape); 6] = [
    (Colour::Orange, Shape::Square),
    (Colour::Yellow, Shape::Triangle),
    (Colour::Blue, Shape::Diamond),
    (Colour::Pink, Shape::Star),
    (Colour::Black, Shape::Cross),
    (Colour::White, Shape::Circle),
];

/// The split that a pair of colour and shape belongs to; pairs of train occur in all splits.
pub fn home_of(colour: Colour, shape: Shape) -> Split {
    let pair = (colour, shape);
    match (VALIDATION_PAIRS.contains(&pair), TEST_PAIRS.contains(&pair)) {
        (true, _) => Split::Validation,
        (_, true) => Split::Test,
        _ => Split::Train,
    }
}

/// One object. Positions are parts of the picture's side, from the left and the top.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Object {
    /// Its form.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
    /// Its size class.
    pub scale: Scale,
    /// Centre, from the left.
    pub x: f32,
    /// Centre, from the top.
    pub y: f32,
    /// Of the circle around it.
    pub radius: f32,
    /// Cosine and sine of its turn, which is small.
    pub turn: (f32, f32),
}

/// What a container looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vessel {
    /// A rectangle with a frame.
    Box,
    /// A disc with a rim.
    Plate,
}

/// Holds objects; is not itself counted as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Container {
    /// Its look.
    pub vessel: Vessel,
    /// Centre, from the left.
    pub x: f32,
    /// Centre, from the top.
    pub y: f32,
    /// Half its width; the radius of a plate.
    pub half_width: f32,
    /// Half its height; the radius of a plate.
    pub half_height: f32,
}

impl Container {
    /// Whether `object` lies wholly in it. (Placement leaves none on the edge.)
    pub fn holds(&self, object: &Object) -> bool {
        let (dx, dy) = (object.x - self.x, object.y - self.y);
        match self.vessel {
            Vessel::Box => {
                dx.abs() + object.radius <= self.half_width && dy.abs() + object.radius <= self.half_height
            }
            Vessel::Plate => (dx * dx + dy * dy).sqrt() + object.radius <= self.half_width,
        }
    }
}

/// A scene: what is to be seen, and how it is painted.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// In the order in which they are painted: a later one covers an earlier one.
    pub objects: Vec<Object>,
    /// Below all objects.
    pub container: Option<Container>,
    style: Style,
}

impl Scene {
    /// The part of object `index` that no later object covers, from 0 to 1.
    pub fn visible(&self, index: usize) -> f32 {
        outline::visible(&self.objects, index)
    }

    /// Paints it, `side` pixels wide and high (from 1 to 4096, or the nearer of the two).
    pub fn render(&self, side: u32) -> Image {
        render::paint(self, side.clamp(1, MAX_SIDE))
    }
}

/// Size of pictures and number of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SceneSettings {
    /// Width and height in pixels; values outside 32 to 4096 are taken as the nearer of the two.
    pub side: u32,
    /// Questions about each scene, of different skills as far as the scene permits.
    pub questions: usize,
    /// The most objects that a scene has; 8 is the richest. Scenes of three objects or more are what questions are asked
    /// about; with a bound of 1 or 2 there are as many or fewer, and nothing to ask but a description.
    pub most_objects: usize,
    /// Whether each scene is to be described as well, object by object from left to right: one question more.
    pub captions: bool,
}

impl Default for SceneSettings {
    /// 168 pixels (12 x 12 patches of 14), four questions.
    fn default() -> SceneSettings {
        SceneSettings { side: 168, questions: 4, most_objects: 8, captions: false }
    }
}

/// Scenes by index.
#[derive(Debug, Clone)]
pub struct Scenes {
    settings: SceneSettings,
    split: Split,
    seed: u64,
    length: usize,
    name: String,
    domain: String,
}

impl Scenes {
    /// The first `length` scenes of `split` under `seed`, at most `u32::MAX`. Splits share no scene.
    pub fn new(settings: SceneSettings, split: Split, seed: u64, length: usize) -> Scenes {
        let side = settings.side.clamp(32, MAX_SIDE);
        let settings = SceneSettings { side, most_objects: settings.most_objects.clamp(1, 8), ..settings };
        let name = format!("scenes {split}");
        Scenes {
            settings,
            split,
            seed,
            length: length.min(u32::MAX as usize),
            name,
            domain: format!("scene/{split}"),
        }
    }

    /// Scene number `index` and its questions.
    pub fn scene(&self, index: u64) -> (Scene, Vec<Question>) {
        let mut draw = Draw::new(self.seed, &self.domain, index);
        let (objects, container) = place::place(self.split, self.settings.most_objects, &mut draw);
        let style = Style::draw(&objects, container.is_some(), &mut draw);
        let scene = Scene { objects, container, style };
        let asked = if self.settings.most_objects < 3 { 0 } else { self.settings.questions };
        let mut questions = ask::questions(&scene, self.split, asked, &mut draw);
        if self.settings.captions {
            questions.push(ask::caption(&scene, &mut draw));
        }
        (scene, questions)
    }
}

struct Painting {
    scene: Scene,
    side: u32,
}

impl Draws for Painting {
    fn draw(&self) -> Result<Image, DecodeError> {
        Ok(self.scene.render(self.side))
    }

    fn patches(&self, side: usize) -> Option<PatchLabels> {
        Some(patches::labels(&self.scene, side))
    }
}

impl Source for Scenes {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.length
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let (scene, questions) = self.scene(index as u64);
        let name = format!("{} {index}", self.name);
        let picture = Some(Picture::new(Painting { scene, side: self.settings.side }));
        Ok(Sample { group: name.clone(), name, picture, questions, conversation: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn train_keeps_most_of_every_colour_and_shape() {
        for colour in Colour::ALL {
            let train = Shape::ALL.iter().filter(|shape| home_of(colour, **shape) == Split::Train).count();
            assert!(train >= 6, "{colour:?}: {train}");
        }
        for shape in Shape::ALL {
            let train = Colour::ALL.iter().filter(|colour| home_of(**colour, shape) == Split::Train).count();
            assert!(train >= 6, "{shape:?}: {train}");
        }
        assert!(VALIDATION_PAIRS.iter().all(|pair| !TEST_PAIRS.contains(pair)));
    }
}
