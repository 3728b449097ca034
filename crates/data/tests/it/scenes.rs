//! Generated scenes: every answer is derived again, from the English question and the objects alone, by the checker
//! below, which shares no code with the generator.

use std::collections::{BTreeMap, HashSet};

use foveate_data::baseline::{Cue, QuestionOnly, normalise};
use foveate_data::synthetic::scene::{Object, Scale, Scene, Vessel, home_of};
use foveate_data::synthetic::{SceneSettings, Scenes, Split};
use foveate_data::{Question, Skill, Source};

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

fn singular(word: &str) -> &str {
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
fn derive(scene: &Scene, question: &str) -> String {
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

fn scenes(split: Split, seed: u64) -> Scenes {
    Scenes::new(SceneSettings { side: 64, questions: 8 }, split, seed, 100_000)
}

#[test]
fn every_answer_follows_from_the_scene() {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for split in Split::ALL {
        for index in 0..1500 {
            let (scene, questions) = scenes(split, 3).scene(index);
            for question in questions {
                *asked.entry(question.form).or_default() += 1;
                assert_eq!(derive(&scene, &question.text), question.answer, "{} in {scene:?}", question.text);
            }
        }
    }
    assert_eq!(asked.len(), 26, "{asked:?}");
    assert!(asked.values().all(|count| *count > 60), "{asked:?}");
}

#[test]
fn a_scene_is_what_its_index_says() {
    let source = Scenes::new(SceneSettings::default(), Split::Train, 7, 10);
    let (image, again) = (|| source.sample(3).unwrap(), source.clone().sample(3).unwrap());
    assert_eq!(image().questions, again.questions);
    assert_eq!(image().picture.unwrap().image().unwrap(), again.picture.unwrap().image().unwrap());
    let other = |seed, split, index: u64| scenes(split, seed).scene(index).0;
    let first = other(1, Split::Train, 0);
    assert_ne!(first, other(2, Split::Train, 0));
    assert_ne!(first, other(1, Split::Train, 1));
    assert_ne!(first, other(1, Split::Validation, 0));
    // Written down once: a change of any draw changes what recipes with a seed learn from.
    let (scene, questions) = scenes(Split::Train, 1).scene(0);
    let seen: Vec<String> =
        scene.objects.iter().map(|o| format!("{:?} {:?} {:?}", o.scale, o.colour, o.shape)).collect();
    let first = format!("{}: {} {}", seen.join(", "), questions[0].text, questions[0].answer);
    assert_eq!(first, "FILL");
}

#[test]
fn scenes_are_as_rich_and_as_clear_as_promised() {
    let mut counts = BTreeMap::new();
    let (mut contained, mut covered) = (0, 0);
    for index in 0..2000 {
        let (scene, questions) = scenes(Split::Train, 5).scene(index);
        *counts.entry(scene.objects.len()).or_insert(0) += 1;
        contained += usize::from(scene.container.is_some());
        let visible: Vec<f32> = (0..scene.objects.len()).map(|object| scene.visible(object)).collect();
        assert!(visible.iter().all(|part| *part >= 0.5), "{visible:?}");
        covered += usize::from(visible.iter().any(|part| *part < 0.9));
        for object in &scene.objects {
            let range = if object.scale == Scale::Small { 0.06..0.08 } else { 0.11..0.14 };
            assert!(range.contains(&object.radius));
            for at in [object.x, object.y] {
                assert!(at - object.radius > 0.0 && at + object.radius < 1.0);
            }
        }
        assert_eq!(questions.len(), 8);
        let texts: HashSet<&str> = questions.iter().map(|question| question.text.as_str()).collect();
        assert_eq!(texts.len(), 8);
    }
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
    assert!(counts.values().all(|count| *count > 150), "{counts:?}");
    assert!((400..1200).contains(&contained) && (300..1200).contains(&covered), "{contained} {covered}");
}

#[test]
fn colours_can_be_told_from_the_pixels() {
    let reference: [(&str, [i32; 3]); 9] = [
        ("red", [212, 32, 36]),
        ("orange", [244, 136, 20]),
        ("yellow", [250, 222, 40]),
        ("green", [36, 150, 62]),
        ("blue", [36, 84, 210]),
        ("purple", [126, 48, 168]),
        ("pink", [250, 142, 190]),
        ("black", [24, 24, 26]),
        ("white", [252, 252, 252]),
    ];
    let (mut right, mut all) = (0, 0);
    for index in 0..400 {
        let (scene, _) = scenes(Split::Train, 9).scene(index);
        let image = scene.render(168);
        for (place, object) in scene.objects.iter().enumerate() {
            if scene.visible(place) < 0.99 || object.shape.name() == "ring" {
                continue;
            }
            let at = 168 * (object.y * 168.0) as usize + (object.x * 168.0) as usize;
            let pixel: Vec<i32> =
                image.as_rgb()[3 * at..3 * at + 3].iter().map(|value| i32::from(*value)).collect();
            let distance = |colour: &[i32; 3]| (0..3).map(|i| (colour[i] - pixel[i]).pow(2)).sum::<i32>();
            let nearest = reference.iter().min_by_key(|row| distance(&row.1)).unwrap().0;
            right += usize::from(nearest == object.colour.name());
            all += 1;
        }
    }
    assert!(right as f64 > 0.99 * all as f64, "{right} of {all}");
}

#[test]
fn what_is_held_out_stays_out_of_train() {
    let pairs = |split, index| {
        let (scene, questions): (Scene, Vec<Question>) = scenes(split, 11).scene(index);
        let shown: Vec<Split> =
            scene.objects.iter().map(|object| home_of(object.colour, object.shape)).collect();
        // Any colour with any shape right after it.
        let mut named = Vec::new();
        for question in &questions {
            let text = normalise(&question.text);
            let words: Vec<&str> = text.split(' ').collect();
            for pair in words.windows(2) {
                let object = scene_words(pair);
                named.extend(object.map(|(colour, shape)| home_of(colour, shape)));
            }
        }
        (shown, named)
    };
    let mut named_in_validation = 0;
    for index in 0..1500 {
        let (shown, named) = pairs(Split::Train, index);
        assert!(shown.iter().chain(&named).all(|home| *home == Split::Train));
        let (shown, named) = pairs(Split::Validation, index);
        assert!(
            shown.contains(&Split::Validation)
                && !shown.contains(&Split::Test)
                && !named.contains(&Split::Test)
        );
        named_in_validation += named.iter().filter(|home| **home == Split::Validation).count();
        let (shown, named) = pairs(Split::Test, index);
        assert!(
            shown.contains(&Split::Test)
                && !shown.contains(&Split::Validation)
                && !named.contains(&Split::Validation)
        );
    }
    assert!(named_in_validation > 500, "{named_in_validation}");
}

fn scene_words(
    pair: &[&str],
) -> Option<(foveate_data::synthetic::scene::Colour, foveate_data::synthetic::scene::Shape)> {
    use foveate_data::synthetic::scene::{Colour, Shape};
    let colour = Colour::ALL.into_iter().find(|colour| colour.name() == pair[0])?;
    let shape = Shape::ALL.into_iter().find(|shape| shape.name() == singular(pair[1]))?;
    Some((colour, shape))
}

#[test]
fn no_question_holds_its_answer_and_guessing_does_not_pay() {
    let ask = |split, seed, count| {
        (0..count).flat_map(move |index| scenes(split, seed).scene(index).1).collect::<Vec<_>>()
    };
    let train = ask(Split::Train, 1, 6000);
    let validation = ask(Split::Validation, 1, 1500);
    for question in train.iter().chain(&validation) {
        let text = normalise(&question.text);
        assert!(text.split(' ').all(|word| word != question.answer), "{question:?}");
    }
    let report = QuestionOnly::fit(&train).measure(&validation);
    assert!(report.overall.best() <= 0.5, "{report}");
    assert_eq!(report.by_skill.len(), 8);
    for (skill, score) in &report.by_skill {
        assert!(score.questions > 500, "{skill}: {}", score.questions);
        // Yes or no is a coin; the text must not tell which side it fell on.
        assert!(score.best() < 0.57, "{skill}\n{report}");
        assert!(*skill != Skill::Attribute || score.accuracy(Cue::Text) < 0.35, "{report}");
    }
}
