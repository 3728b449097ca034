//! The questions themselves, one function a case: each looks for cases in the scene, draws one, and gives up with `None`
//! where the scene has none.

use super::ask::Asker;
use super::language::{Attribute, Phrase, Words, plural_of};
use super::templates::{self as form, Form};
use super::{Colour, Object, Shape, Vessel};
use crate::random::Draw;
use crate::sample::Question;

/// Least distance along an axis for one thing to be left of or above another.
const BESIDE: f32 = 0.10;
/// Least lead of the leftmost over the next, or of the nearest.
const LEAD: f32 = 0.06;

#[derive(Clone, Copy)]
enum Direction {
    Left,
    Right,
    Up,
    Down,
}

impl Direction {
    const ALL: [Direction; 4] = [Direction::Left, Direction::Right, Direction::Up, Direction::Down];

    /// How far the object lies in this direction.
    fn of(self, object: &Object) -> f32 {
        match self {
            Direction::Left => -object.x,
            Direction::Right => object.x,
            Direction::Up => -object.y,
            Direction::Down => object.y,
        }
    }

    fn side(self, draw: &mut Draw) -> &'static str {
        let words = [
            ["left of", "to the left of"],
            ["right of", "to the right of"],
            ["above", "higher than"],
            ["below", "lower than"],
        ];
        words[self as usize][draw.below(2)]
    }

    fn extreme(self, draw: &mut Draw) -> &'static str {
        [["leftmost"; 2], ["rightmost"; 2], ["highest", "topmost"], ["lowest", "bottommost"]][self as usize]
            [draw.below(2)]
    }

    fn towards(self) -> &'static str {
        ["to the left", "to the right", "up", "down"][self as usize]
    }
}

impl Asker<'_> {
    pub(super) fn exist(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let (yes, mut no): (Vec<Phrase>, Vec<Phrase>) =
            self.kind().into_iter().partition(|phrase| phrase.count(objects) > 0);
        // Half of the absent things differ from what is there in the combination only.
        if self.draw.chance(0.5) {
            let parts_present = |phrase: &Phrase| {
                let has = |test: &dyn Fn(&Object) -> bool| objects.iter().any(test);
                has(&|object| phrase.scale.is_none_or(|scale| scale == object.scale))
                    && has(&|object| phrase.colour.is_none_or(|colour| colour == object.colour))
                    && has(&|object| phrase.shape.is_none_or(|shape| shape == object.shape))
            };
            let near: Vec<Phrase> = no.iter().copied().filter(parts_present).collect();
            no = if near.is_empty() { no } else { near };
        }
        let (phrase, answer) = self.toss(yes, no)?;
        let words = Words::new(None, self.draw).phrase("a", &phrase);
        self.finish(&form::EXIST, &words, answer)
    }

    pub(super) fn count(&mut self) -> Option<Question> {
        let phrases = if self.draw.chance(0.15) { vec![Phrase::default()] } else { self.kind() };
        let objects = &self.scene.objects;
        let cases = phrases.into_iter().map(|phrase| (phrase, phrase.count(objects))).collect();
        let (phrase, answer) = self.even(cases)?;
        let words = Words::new(None, self.draw).phrase("a", &phrase);
        self.finish(&form::COUNT, &words, &answer)
    }

    fn contained(&self) -> Option<(&'static str, &'static str, Vec<Object>)> {
        let container = self.scene.container?;
        let held = self.scene.objects.iter().filter(|object| container.holds(object)).copied().collect();
        Some(match container.vessel {
            Vessel::Box => ("in", "box", held),
            Vessel::Plate => ("on", "plate", held),
        })
    }

    pub(super) fn count_inside(&mut self) -> Option<Question> {
        let (preposition, vessel, held) = self.contained()?;
        let phrases = if self.draw.chance(0.5) { vec![Phrase::default()] } else { self.simple_kind() };
        let there = phrases.into_iter().filter(|phrase| phrase.count(&self.scene.objects) > 0);
        let (phrase, answer) = self.even(there.map(|phrase| (phrase, phrase.count(&held))).collect())?;
        let words =
            Words::new(None, self.draw).phrase("a", &phrase).with("in", preposition).with("vessel", vessel);
        self.finish(&form::COUNT_INSIDE, &words, &answer)
    }

    /// Ordered pairs of descriptions of one kind, both of something that is there.
    fn pairs(&mut self) -> Vec<(Phrase, Phrase, usize, usize)> {
        let objects = &self.scene.objects;
        let counted = self.simple_kind().into_iter().map(|phrase| (phrase, phrase.count(objects)));
        let there: Vec<(Phrase, usize)> = counted.filter(|(_, count)| *count > 0).collect();
        let pair =
            |(a, b): (&(Phrase, usize), &(Phrase, usize))| (a.0 != b.0).then_some((a.0, b.0, a.1, b.1));
        there.iter().flat_map(|a| there.iter().map(move |b| (a, b))).filter_map(pair).collect()
    }

    pub(super) fn compare(&mut self, form: &Form, holds: fn(usize, usize) -> bool) -> Option<Question> {
        let (yes, no) = self.pairs().into_iter().partition(|(_, _, a, b)| holds(*a, *b));
        let ((a, b, ..), answer) = self.toss::<(Phrase, Phrase, usize, usize)>(yes, no)?;
        let words = Words::new(None, self.draw).phrase("a", &a).phrase("b", &b);
        self.finish(form, &words, answer)
    }

    pub(super) fn difference(&mut self) -> Option<Question> {
        let cases = self.pairs().into_iter().filter(|(_, _, a, b)| a > b);
        let ((a, b), answer) =
            self.even(cases.map(|(a, b, more, fewer)| ((a, b), more - fewer)).collect())?;
        let words = Words::new(None, self.draw).phrase("a", &a).phrase("b", &b);
        self.finish(&form::DIFFERENCE, &words, &answer)
    }

    pub(super) fn attribute(&mut self) -> Option<Question> {
        let asked = *self.draw.pick(&Attribute::ALL);
        let mut cases: Vec<(Phrase, &'static str)> = Vec::new();
        for index in 0..self.scene.objects.len() {
            cases.extend(
                self.refer(index, Some(asked)).map(|phrase| (phrase, asked.of(&self.scene.objects[index]))),
            );
        }
        if asked == Attribute::Scale {
            // Two answers only: a coin.
            let (small, large): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.1 == "small");
            let (case, _) = self.toss(small, large)?;
            cases = vec![case];
        }
        if cases.is_empty() {
            return None;
        }
        let (phrase, answer) = *self.draw.pick(&cases);
        let form = [&form::SIZE_OF, &form::COLOUR_OF, &form::SHAPE_OF][asked as usize];
        let words = Words::new(Some(asked), self.draw).phrase("a", &phrase);
        self.finish(form, &words, answer)
    }

    pub(super) fn side(&mut self) -> Option<Question> {
        let [(a, first), (b, second)] = self.two(None)?;
        let direction = *self.draw.pick(&Direction::ALL);
        // Which of the two is named first is as good as a coin.
        let lead = direction.of(&self.scene.objects[a]) - direction.of(&self.scene.objects[b]);
        let answer = if lead > 0.0 { "yes" } else { "no" };
        let words = Words::new(None, self.draw).phrase("a", &first).phrase("b", &second);
        let words = words.with("side", direction.side(self.draw));
        (lead.abs() >= BESIDE).then(|| self.finish(&form::SIDE, &words, answer))?
    }

    pub(super) fn what_side(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let (asked, direction) = (self.asked(), *self.draw.pick(&Direction::ALL));
        let index = self.draw.below(objects.len());
        let phrase = self.refer(index, None)?;
        let lead = |object: &Object| direction.of(object) - direction.of(&objects[index]);
        let others =
            || objects.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, object)| object);
        let mut beyond = others().filter(|object| lead(object) > -0.03);
        let (only, None) = (beyond.next()?, beyond.next()) else { return None };
        if lead(only) < BESIDE {
            return None;
        }
        let words =
            Words::new(Some(Attribute::Shape), self.draw).phrase("b", &phrase).with("asked", asked.word());
        let words = words.with("side", direction.side(self.draw));
        self.finish(&form::WHAT_SIDE, &words, asked.of(only))
    }

    pub(super) fn inside(&mut self) -> Option<Question> {
        let (preposition, vessel, held) = self.contained()?;
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for (index, object) in self.scene.objects.iter().enumerate() {
            let list = if held.contains(object) { &mut yes } else { &mut no };
            list.extend(self.refer(index, None));
        }
        let (phrase, answer) = self.toss(yes, no)?;
        let words =
            Words::new(None, self.draw).phrase("a", &phrase).with("in", preposition).with("vessel", vessel);
        self.finish(&form::INSIDE, &words, answer)
    }

    /// The last object may lie over another: which is in front, or what is behind.
    pub(super) fn overlap(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let top = objects.len() - 1;
        let below = (0..top).find(|index| self.scene.visible(*index) < 0.95)?;
        let (upper, lower) = (self.refer(top, None)?, self.refer(below, None));
        if self.draw.chance(0.5) {
            let asked = self.asked();
            let words =
                Words::new(Some(Attribute::Shape), self.draw).phrase("a", &upper).with("asked", asked.word());
            return self.finish(&form::BEHIND, &words, asked.of(&objects[below]));
        }
        let ((a, b), answer) = self.toss(vec![(upper, lower?)], vec![(lower?, upper)])?;
        let words = Words::new(None, self.draw).phrase("a", &a).phrase("b", &b);
        self.finish(&form::IN_FRONT, &words, answer)
    }

    pub(super) fn extreme(&mut self) -> Option<Question> {
        let (asked, direction) = (self.asked(), *self.draw.pick(&Direction::ALL));
        let phrases = if self.draw.chance(0.4) { vec![Phrase::default()] } else { self.kind() };
        let several = |phrase: &Phrase| !phrase.gives(asked) && phrase.count(&self.scene.objects) > 1;
        let phrases: Vec<Phrase> = phrases.into_iter().filter(several).collect();
        let phrase = if phrases.is_empty() { return None } else { *self.draw.pick(&phrases) };
        let mut fitting: Vec<&Object> =
            self.scene.objects.iter().filter(|object| phrase.matches(object)).collect();
        fitting.sort_by(|a, b| direction.of(b).total_cmp(&direction.of(a)));
        if direction.of(fitting[0]) - direction.of(fitting[1]) < LEAD {
            return None;
        }
        let words =
            Words::new(Some(Attribute::Shape), self.draw).phrase("a", &phrase).with("asked", asked.word());
        let words = words.with("extreme", direction.extreme(self.draw)).with("towards", direction.towards());
        let form = *self.draw.pick(&[&form::EXTREME, &form::FARTHEST]);
        self.finish(form, &words, asked.of(fitting[0]))
    }

    pub(super) fn nearest(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let (asked, index) = (self.asked(), self.draw.below(objects.len()));
        let phrase = self.refer(index, None)?;
        let distance = |other: usize| {
            let (dx, dy) = (objects[other].x - objects[index].x, objects[other].y - objects[index].y);
            (dx * dx + dy * dy).sqrt()
        };
        let mut others: Vec<usize> = (0..objects.len()).filter(|other| *other != index).collect();
        others.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        if distance(others[1]) - distance(others[0]) < LEAD {
            return None;
        }
        let words =
            Words::new(Some(Attribute::Shape), self.draw).phrase("b", &phrase).with("asked", asked.word());
        self.finish(&form::NEAREST, &words, asked.of(&objects[others[0]]))
    }

    /// Whether two objects agree; `same` is the answer's meaning when they do.
    pub(super) fn agree(&mut self, form: &Form, same: bool) -> Option<Question> {
        let asked = *self.draw.pick(&Attribute::ALL);
        let (mut yes, mut no) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let [(a, first), (b, second)] = self.two(Some(asked))?;
            let agree = asked.of(&self.scene.objects[a]) == asked.of(&self.scene.objects[b]);
            if agree == same { yes.push((first, second)) } else { no.push((first, second)) }
        }
        let ((a, b), answer) = self.toss(yes, no)?;
        let words =
            Words::new(Some(asked), self.draw).phrase("a", &a).phrase("b", &b).with("asked", asked.word());
        self.finish(form, &words, answer)
    }

    pub(super) fn all_same(&mut self) -> Option<Question> {
        use Attribute::{Colour, Scale, Shape};
        let (given, asked) =
            *self.draw.pick(&[(Shape, Colour), (Colour, Shape), (Shape, Scale), (Colour, Scale)]);
        let objects = &self.scene.objects;
        let several =
            Phrase::all(&[given], self.split).into_iter().filter(|phrase| phrase.count(objects) > 1);
        let (yes, no) = several.partition(|phrase| {
            let mut values =
                objects.iter().filter(|object| phrase.matches(object)).map(|object| asked.of(object));
            let first = values.next();
            values.all(|value| Some(value) == first)
        });
        let (phrase, answer) = self.toss::<Phrase>(yes, no)?;
        let words = Words::new(Some(asked), self.draw).phrase("a", &phrase).with("asked", asked.word());
        self.finish(&form::ALL_SAME, &words, answer)
    }

    /// Yes if at least `needed` of two kinds are there; the other case lacks just one of them.
    pub(super) fn both_or_either(&mut self, form: &Form, needed: usize) -> Option<Question> {
        let mut phrases = self.kind();
        self.draw.shuffle(&mut phrases);
        let (there, absent): (Vec<Phrase>, Vec<Phrase>) =
            phrases.into_iter().partition(|phrase| phrase.count(&self.scene.objects) > 0);
        let case = |present: usize| {
            Some(match present {
                2 => (*there.first()?, *there.get(1)?),
                1 => (*there.first()?, *absent.first()?),
                _ => (*absent.first()?, *absent.get(1)?),
            })
        };
        let ((mut a, mut b), answer) =
            self.toss(case(needed).into_iter().collect(), case(needed - 1).into_iter().collect())?;
        if self.draw.chance(0.5) {
            std::mem::swap(&mut a, &mut b);
        }
        let words = Words::new(None, self.draw).phrase("a", &a).phrase("b", &b);
        self.finish(form, &words, answer)
    }

    pub(super) fn but_not(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let there = |phrase: &Phrase| {
            objects.iter().any(|object| object.colour == phrase.colour.unwrap_or(object.colour))
        };
        let pairs = Phrase::all(&[Attribute::Colour, Attribute::Shape], self.split)
            .into_iter()
            .filter(|pair| there(pair) && pair.count(objects) > 0);
        let (yes, no) =
            pairs.partition(|pair| Phrase { shape: None, ..*pair }.count(objects) > pair.count(objects));
        let (pair, answer) = self.toss::<Phrase>(yes, no)?;
        let (a, b) = (Phrase { shape: None, ..pair }, Phrase { colour: None, ..pair });
        let words = Words::new(None, self.draw).phrase("a", &a).phrase("b", &b);
        self.finish(&form::BUT_NOT, &words, answer)
    }

    pub(super) fn count_not(&mut self) -> Option<Question> {
        let objects = &self.scene.objects;
        let colours = Colour::ALL.map(|colour| {
            (colour.name().to_owned(), objects.iter().filter(|object| object.colour != colour).count())
        });
        let shapes = Shape::ALL.map(|shape| {
            (plural_of(shape.name()), objects.iter().filter(|object| object.shape != shape).count())
        });
        let cases = if self.draw.chance(0.5) { colours.to_vec() } else { shapes.to_vec() };
        let (what, answer) = self.even(cases)?;
        let words = Words::new(None, self.draw).with("what", &what);
        self.finish(&form::COUNT_NOT, &words, &answer)
    }

    pub(super) fn count_or(&mut self) -> Option<Question> {
        let (colours, mut cases) = (self.draw.chance(0.5), Vec::new());
        let name = |phrase: &Phrase| match (phrase.colour, phrase.shape) {
            (Some(colour), _) => colour.name().to_owned(),
            (None, shape) => shape.map(|shape| plural_of(shape.name())).unwrap_or_default(),
        };
        let all = Phrase::all(&[if colours { Attribute::Colour } else { Attribute::Shape }], self.split);
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let count = a.count(&self.scene.objects) + b.count(&self.scene.objects);
            cases.push(((name(a), name(b)), count));
        }
        let ((what, other), answer) = self.even(cases)?;
        let words = Words::new(None, self.draw).with("what", &what).with("other", &other);
        self.finish(&form::COUNT_OR, &words, &answer)
    }
}
