//! Answers questions about a scene from their English words and the objects alone. Shares no code with the generator.

use std::collections::{BTreeMap, HashSet};

use foveate_data::synthetic::scene::{Object, Scene, Vessel};

const COLOURS: [&str; 9] = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white"];
const SHAPES: [&str; 8] = ["circle", "square", "triangle", "diamond", "star", "cross", "heart", "ring"];

/// Sentences and what they mean. A, B: descriptions; S: side; I V: in the box; T: attribute; E: extreme; F: towards;
/// W, O: a colour or shapes.
const MEANINGS: &str = "
exist: is there A | can you see A | does the picture show A | are there any A | is A anywhere in the image
count: how many A are there | how many A can you see | count the A | what is the number of A
count in: how many A are I the V | count the A I the V | what is the number of A I the V
more: are there more A than B | is the number of A greater than the number of B | do the A outnumber the B
fewer: are there fewer A than B | is the number of A smaller than the number of B | are the A outnumbered by the B
equal: are there as many A as B | is the number of A equal to the number of B | are there equally many A and B
difference: how many more A than B are there | by how much do the A outnumber the B
value: what T is the A | what is the T of the A | which T does the A have | tell me the T of the A | how big is the A
side: is the A S the B | does the A lie S the B | would you say that the A is S the B
beyond: what T is the A S the B | what is the T of the A S the B | which T does the A S the B have
inside: is the A I the V | does the A lie I the V | can the A be found I the V
front: is the A in front of the B | does the A cover part of the B | is the B partly hidden by the A
behind: what T is the B behind the A | what is the T of the B that the A partly covers
extreme: what T is the E A | what is the T of the E A | which T does the E A have
extreme: what T is the A farthest F | of all A what is the T of the one farthest F
nearest: what T is the A nearest to the B | what is the T of the A closest to the B
nearest: which T does the nearest neighbour of the B have
same: do the A and the B have the same T | is the T of the A the same as that of the B | do the A and the B agree in T
differ: do the A and the B differ in T | is the T of the A different from that of the B
all: do all A have the same T | are all A of one T | do the A all share one T
both: is there A and B | are there both A and B | does the picture show A as well as B
either: is there A or B | does the picture show A or B | can you see A or B
but not: is there A that is not B | can you see A other than B | is any A not B
count not: how many A are not W | count the A that are not W
count or: how many A are W or O | count the A that are either W or O";

/// A word, and what is large for objects far in its direction.
type Direction = (&'static str, fn(&Object) -> f32);

const SIDES: [Direction; 8] = [
    ("left of", |object| -object.x),
    ("to the left of", |object| -object.x),
    ("right of", |object| object.x),
    ("to the right of", |object| object.x),
    ("above", |object| -object.y),
    ("higher than", |object| -object.y),
    ("below", |object| object.y),
    ("lower than", |object| object.y),
];

const EXTREMES: [Direction; 10] = [
    ("leftmost", |object| -object.x),
    ("to the left", |object| -object.x),
    ("rightmost", |object| object.x),
    ("to the right", |object| object.x),
    ("highest", |object| -object.y),
    ("topmost", |object| -object.y),
    ("up", |object| -object.y),
    ("lowest", |object| object.y),
    ("bottommost", |object| object.y),
    ("down", |object| object.y),
];

type Bound<'a> = BTreeMap<char, Vec<&'a str>>;

fn attribute<'a>(object: &Object, which: &str) -> &'a str {
    match which {
        "colour" => object.colour.name(),
        "shape" => object.shape.name(),
        _ => object.scale.name(),
    }
}

pub(crate) fn singular(word: &str) -> &str {
    match word {
        "crosses" => "cross",
        "cross" => "cross",
        _ => word.strip_suffix('s').unwrap_or(word),
    }
}

/// The attributes that a description gives, or `None` if it is none.
fn description<'a>(words: &[&'a str]) -> Option<Vec<&'a str>> {
    let words = match words {
        ["a" | "an", rest @ ..] => rest,
        rest => rest,
    };
    let (noun, before) = words.split_last()?;
    let mut given = Vec::new();
    let mut before = before.iter();
    let mut next = before.next();
    if let Some(size @ (&"small" | &"large")) = next {
        given.push(*size);
        next = before.next();
    }
    if let Some(colour) = next.filter(|word| COLOURS.contains(word)) {
        given.push(colour);
        next = before.next();
    }
    let noun = singular(noun);
    if next.is_some() || !(SHAPES.contains(&noun) || ["object", "thing", "shape"].contains(&noun)) {
        return None;
    }
    given.extend(SHAPES.contains(&noun).then_some(noun));
    Some(given)
}

fn fits(slot: char, words: &[&str]) -> bool {
    let joined = words.join(" ");
    match slot {
        'A' | 'B' => description(words).is_some(),
        'S' => SIDES.iter().any(|side| side.0 == joined),
        'I' => ["in", "on"].contains(&joined.as_str()),
        'V' => ["box", "plate"].contains(&joined.as_str()),
        'T' => ["colour", "shape", "size"].contains(&joined.as_str()),
        'E' | 'F' => EXTREMES.iter().any(|extreme| extreme.0 == joined),
        _ => COLOURS.contains(&joined.as_str()) || SHAPES.contains(&singular(&joined)),
    }
}

fn parse<'a>(pattern: &[&str], words: &[&'a str], bound: &mut Bound<'a>) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return words.is_empty() };
    let slot = first.chars().next().unwrap();
    if !slot.is_uppercase() {
        return words.first() == Some(first) && parse(rest, &words[1..], bound);
    }
    (1..=words.len().min(5)).any(|taken| {
        fits(slot, &words[..taken]) && parse(rest, &words[taken..], bound) && {
            bound.insert(slot, words[..taken].to_vec());
            true
        }
    })
}

struct Check<'a> {
    scene: &'a Scene,
    bound: Bound<'a>,
}

impl Check<'_> {
    fn matches(&self, slot: char, object: &Object) -> bool {
        let given = description(&self.bound[&slot]).unwrap();
        given
            .iter()
            .all(|word| ["size", "colour", "shape"].iter().any(|which| attribute(object, which) == *word))
    }

    fn all(&self, slot: char) -> Vec<&Object> {
        self.scene.objects.iter().filter(|object| self.matches(slot, object)).collect()
    }

    fn one(&self, slot: char) -> &Object {
        let found = self.all(slot);
        assert_eq!(found.len(), 1, "{:?} is not unique", self.bound[&slot]);
        found[0]
    }

    fn asked(&self) -> &str {
        self.bound.get(&'T').map_or("size", |words| words[0])
    }

    fn axis(&self, slot: char, table: &[Direction]) -> fn(&Object) -> f32 {
        let joined = self.bound[&slot].join(" ");
        table.iter().find(|row| row.0 == joined).unwrap().1
    }

    fn held(&self, object: &Object) -> bool {
        let container = self.scene.container.unwrap();
        let vessel = if container.vessel == Vessel::Box { ["in", "box"] } else { ["on", "plate"] };
        assert_eq!([self.bound[&'I'][0], self.bound[&'V'][0]], vessel);
        let (dx, dy) = ((object.x - container.x).abs(), (object.y - container.y).abs());
        match container.vessel {
            Vessel::Box => dx < container.half_width && dy < container.half_height,
            Vessel::Plate => dx.hypot(dy) < container.half_width,
        }
    }

    /// The object with the largest key, which leads clearly.
    fn most<'b>(&self, mut objects: Vec<&'b Object>, key: impl Fn(&Object) -> f32) -> &'b Object {
        objects.sort_by(|a, b| key(b).total_cmp(&key(a)));
        assert!(objects.len() > 1 && key(objects[0]) - key(objects[1]) >= 0.059, "no clear lead");
        objects[0]
    }

    fn answer(&self, meaning: &str) -> String {
        let yes = |holds: bool| if holds { "yes" } else { "no" }.to_owned();
        let count = |slot| self.all(slot).len();
        let word = |slot: char, object: &Object| {
            let word = singular(self.bound[&slot][0]);
            ["colour", "shape"].iter().any(|which| attribute(object, which) == word)
        };
        let others =
            |one: &Object| self.scene.objects.iter().filter(|other| *other != one).collect::<Vec<_>>();
        match meaning {
            "exist" => yes(count('A') > 0),
            "count" => count('A').to_string(),
            "count in" => self.all('A').into_iter().filter(|object| self.held(object)).count().to_string(),
            "more" => yes(count('A') > count('B')),
            "fewer" => yes(count('A') < count('B')),
            "equal" => yes(count('A') == count('B')),
            "difference" => (count('A') - count('B')).to_string(),
            "value" => attribute(self.one('A'), self.asked()).to_owned(),
            "side" => {
                let axis = self.axis('S', &SIDES);
                let lead = axis(self.one('A')) - axis(self.one('B'));
                assert!(lead.abs() > 0.099, "too close to call: {lead}");
                yes(lead > 0.0)
            }
            "beyond" => {
                let (axis, than) = (self.axis('S', &SIDES), self.one('B'));
                let mut beyond = others(than);
                beyond.retain(|object| axis(object) > axis(than));
                assert!(beyond.len() == 1 && axis(beyond[0]) - axis(than) > 0.099, "not one clearly beyond");
                attribute(beyond[0], self.asked()).to_owned()
            }
            "inside" => yes(self.held(self.one('A'))),
            "front" => {
                let place =
                    |slot| self.scene.objects.iter().position(|object| object == self.one(slot)).unwrap();
                let (a, b) = (self.one('A'), self.one('B'));
                assert!((a.x - b.x).hypot(a.y - b.y) < a.radius + b.radius, "they do not even meet");
                yes(place('A') > place('B'))
            }
            "behind" => {
                let front = self.one('A');
                let near = |object: &&&Object| {
                    (object.x - front.x).hypot(object.y - front.y) < object.radius + front.radius
                };
                let objects = others(front);
                let found: Vec<_> = objects.iter().filter(near).collect();
                assert_eq!(found.len(), 1);
                attribute(found[0], self.asked()).to_owned()
            }
            "extreme" => {
                let slot = if self.bound.contains_key(&'E') { 'E' } else { 'F' };
                attribute(self.most(self.all('A'), self.axis(slot, &EXTREMES)), self.asked()).to_owned()
            }
            "nearest" => {
                let from = self.one('B');
                let near = self.most(others(from), |object| -(object.x - from.x).hypot(object.y - from.y));
                attribute(near, self.asked()).to_owned()
            }
            "same" => yes(attribute(self.one('A'), self.asked()) == attribute(self.one('B'), self.asked())),
            "differ" => yes(attribute(self.one('A'), self.asked()) != attribute(self.one('B'), self.asked())),
            "all" => {
                let values: HashSet<&str> =
                    self.all('A').iter().map(|object| attribute(object, self.asked())).collect();
                assert!(count('A') > 1);
                yes(values.len() == 1)
            }
            "both" => yes(count('A') > 0 && count('B') > 0),
            "either" => yes(count('A') > 0 || count('B') > 0),
            "but not" => yes(self.all('A').iter().any(|object| !self.matches('B', object))),
            "count not" => self.scene.objects.iter().filter(|object| !word('W', object)).count().to_string(),
            "count or" => self
                .scene
                .objects
                .iter()
                .filter(|object| word('W', object) || word('O', object))
                .count()
                .to_string(),
            _ => unreachable!("{meaning}"),
        }
    }
}

/// The answer, from the words of the question and the scene.
pub(crate) fn derive(scene: &Scene, question: &str) -> String {
    let text = question.to_lowercase().replace("color", "colour").replace([',', '?', '.'], "");
    let words: Vec<&str> = text.split(' ').collect();
    let mut found = Vec::new();
    for line in MEANINGS.lines().filter(|line| !line.is_empty()) {
        let (meaning, patterns) = line.split_once(": ").unwrap();
        for pattern in patterns.split(" | ") {
            let mut bound = Bound::new();
            if parse(&pattern.split(' ').collect::<Vec<_>>(), &words, &mut bound) {
                found.push(Check { scene, bound }.answer(meaning));
            }
        }
    }
    found.dedup();
    assert_eq!(found.len(), 1, "{question}: understood as {found:?}");
    found.remove(0)
}
