//! Generated texts: every answer is derived again from the question's words and from where the lines stand.

use std::collections::{BTreeMap, HashSet};

use foveate_data::baseline::{QuestionOnly, normalise};
use foveate_data::synthetic::text::{Font, Layout, Line, Page, Role, home_of};
use foveate_data::synthetic::{Split, TextSettings, Texts};
use foveate_data::{Family, Source};

/// Questions and what they mean; `_` stands for a word of the page.
const MEANINGS: &str = "
read: What is written? | What does the text say? | Read the text. | What can you read here? | Which text is shown?
read: Which word is written? | What word do you see? | Read the word. | What is the code? | Which code is shown?
all: Read the words from top to bottom. | Which words are written, from top to bottom?
all: Read the words from left to right. | Which words are written, from left to right?
all: What does the sign say? | Read the sign.
read: What number is shown? | Which number is written? | Read the number. | What price is shown? | How much is it?
read: Read the price. | Which date is shown? | What date is written? | Read the date. | Read the code.
first character: What is the first character? | With which character does the text begin? | Which character comes first?
last character: What is the last character? | With which character does the text end? | Which character comes last?
first word: What is the first word? | Which word comes first?
last word: What is the last word? | Which word comes last?
characters: How many characters are there? | How many characters does the text have?
words: How many words are there? | How many words can you read? | Count the words.
has: Does the picture contain the word _? | Is the word _ written somewhere? | Can you read _ here?
has: Is _ on the receipt? | Was _ bought? | Does the receipt list _?
left: Which word is left of _? | What is written to the left of _?
right: Which word is right of _? | What is written to the right of _?
above: Which word is on the line above _? | What is written right above _?
below: Which word is on the line below _? | What is written right below _?
top: Which word is at the top? | What is written on the first line?
second: Which word is second from the top? | What is written on the second line?
bottom: Which word is at the bottom? | What is written on the last line?
top left: Which word is at the top left? | What is written in the top left corner?
top right: Which word is at the top right? | What is written in the top right corner?
bottom left: Which word is at the bottom left? | What is written in the bottom left corner?
bottom right: Which word is at the bottom right? | What is written in the bottom right corner?
number: What is the _ number? | Which _ is it? | What number does the _ have?
label: Which word stands before the number? | What is written in front of the number?
place: Where does the sign lead to? | Which place is named on the sign? | What is written below the number?
total: What is the total? | How much is it in all? | What does everything cost together? | Read the total.
cost: How much is the _? | What does the _ cost? | What is the price of the _?
costs: Which item costs _? | What costs _? | Which item has the price _?
shop: What is the shop called? | Which shop is the receipt from? | What is the name of the shop?
date: What is the date on the receipt? | When was the receipt printed? | Which date is given?
dearest: Which item is the most expensive? | What costs the most? | Which item has the highest price?
cheapest: Which item is the cheapest? | What costs the least? | Which item has the lowest price?
items: How many items are listed? | How many items were bought? | Count the items.";

/// Lines from the top, each from the left.
fn rows(page: &Page) -> Vec<Vec<&Line>> {
    let mut lines: Vec<&Line> = page.lines.iter().collect();
    lines.sort_by(|a, b| a.y.total_cmp(&b.y));
    let mut rows: Vec<Vec<&Line>> = Vec::new();
    for line in lines {
        match rows.last_mut() {
            Some(row) if page.columns > 1 && line.y - row[0].y < 0.15 => row.push(line),
            Some(row) if line.y == row[0].y => row.push(line),
            _ => rows.push(vec![line]),
        }
    }
    for row in &mut rows {
        row.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    rows
}

fn cents(price: &str) -> usize {
    price.replace(['$', '£', '€', '.'], "").parse().unwrap()
}

fn answer(page: &Page, meaning: &str, word: &str) -> String {
    let rows = rows(page);
    let text = |line: &Line| line.text.clone();
    let all = || page.lines.iter().map(|line| line.text.as_str());
    let find = || {
        let at = |row: usize| rows[row].iter().position(|line| line.text == word).map(|column| (row, column));
        (0..rows.len()).find_map(at).unwrap()
    };
    // On a receipt, a row of two is an item or the total, which comes last.
    let mut entries: Vec<(String, String)> =
        rows.iter().filter(|row| row.len() == 2).map(|row| (text(row[0]), text(row[1]))).collect();
    let total = if page.layout == Layout::Receipt { entries.pop() } else { None };
    if let Some((label, sum)) = &total {
        assert_eq!(label.to_lowercase(), "total");
        assert_eq!(cents(sum), entries.iter().map(|entry| cents(&entry.1)).sum::<usize>());
    }
    entries.sort_by_key(|entry| cents_or_zero(&entry.1));
    let single = page.lines[0].text.as_str();
    match meaning {
        "read" => single.to_owned(),
        "all" => rows.iter().flatten().map(|line| line.text.as_str()).collect::<Vec<_>>().join(" "),
        "first character" => single[..single.chars().next().unwrap().len_utf8()].to_owned(),
        "last character" => single[single.len() - 1..].to_owned(),
        "first word" => single.split(' ').next().unwrap().to_owned(),
        "last word" => single.split(' ').next_back().unwrap().to_owned(),
        "characters" => single.chars().count().to_string(),
        "words" => all().flat_map(|text| text.split(' ')).count().to_string(),
        "has" if page.layout == Layout::Receipt => {
            yes(entries.iter().any(|entry| entry.0.to_lowercase() == word))
        }
        "has" => yes(all().any(|text| text == word)),
        "left" => text(rows[find().0][find().1 - 1]),
        "right" => text(rows[find().0][find().1 + 1]),
        "above" => text(rows[find().0 - 1][0]),
        "below" => text(rows[find().0 + 1][0]),
        "top" | "top left" => text(rows[0][0]),
        "second" => text(rows[1][0]),
        "bottom" | "bottom left" => text(rows[rows.len() - 1][0]),
        "top right" => text(rows[0][1]),
        "bottom right" => text(rows[rows.len() - 1][1]),
        "number" => {
            assert_eq!(rows[0][0].text.to_lowercase(), word);
            text(rows[0][1])
        }
        "label" => text(rows[0][0]),
        "place" => text(rows[1][0]),
        "total" => total.unwrap().1,
        "cost" => entries.iter().find(|entry| entry.0.to_lowercase() == word).unwrap().1.clone(),
        "costs" => entries.iter().find(|entry| entry.1 == word).unwrap().0.clone(),
        "shop" => text(rows[0][0]),
        "date" => text(rows[1][0]),
        "dearest" => entries[entries.len() - 1].0.clone(),
        "cheapest" => entries[0].0.clone(),
        "items" => entries.len().to_string(),
        _ => unreachable!("{meaning}"),
    }
}

fn yes(holds: bool) -> String {
    if holds { "yes" } else { "no" }.to_owned()
}

fn cents_or_zero(text: &str) -> usize {
    if text.contains('.') { cents(text) } else { 0 }
}

fn derive(page: &Page, question: &str) -> String {
    let mut found = Vec::new();
    for line in MEANINGS.lines().filter(|line| !line.is_empty()) {
        let (meaning, patterns) = line.split_once(": ").unwrap();
        for pattern in patterns.split(" | ") {
            let word = match pattern.split_once('_') {
                None => (pattern == question).then_some(""),
                Some((before, after)) => {
                    question.strip_prefix(before).and_then(|rest| rest.strip_suffix(after))
                }
            };
            // A word of the page is one word, so that no pattern swallows another's.
            found.extend(
                word.map(|word| word.trim_matches('"'))
                    .filter(|word| !word.contains(' '))
                    .map(|word| (meaning, word)),
            );
        }
    }
    // "Which item costs" is more than "which X costs".
    found.sort_by_key(|(_, word)| word.len());
    assert!(!found.is_empty(), "{question} is not understood");
    answer(page, found[0].0, found[0].1)
}

fn texts(split: Split, seed: u64) -> Texts {
    Texts::new(TextSettings { questions: 8, ..TextSettings::default() }, split, seed, 100_000)
}

#[test]
fn every_answer_follows_from_the_page() {
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for split in Split::ALL {
        for index in 0..2000 {
            let (page, questions) = texts(split, 3).page(index);
            for question in questions {
                assert_eq!(question.family, Family::Text);
                *asked.entry(question.form).or_default() += 1;
                assert_eq!(derive(&page, &question.text), question.answer, "{question:?} of {page:?}");
            }
        }
    }
    assert_eq!(asked.len(), 39, "{asked:?}");
    assert!(asked.values().all(|count| *count > 50), "{asked:?}");
}

#[test]
fn pages_fit_and_lines_keep_apart() {
    let mut layouts: BTreeMap<String, usize> = BTreeMap::new();
    for index in 0..3000 {
        let (page, questions) = texts(Split::ALL[index as usize % 3], 5).page(index);
        *layouts.entry(format!("{:?}", page.layout)).or_default() += 1;
        assert!(questions.len() >= 2, "{page:?}");
        let (cos, sin) = page.turn;
        let turned = |x: f32, y: f32| {
            (0.5 + cos * (x - 0.5) - sin * (y - 0.5), 0.5 + sin * (x - 0.5) + cos * (y - 0.5))
        };
        let bounds = |line: &Line| {
            (line.x, line.y - 0.72 * line.size, line.x + line.width(), line.y + 0.22 * line.size)
        };
        for (number, line) in page.lines.iter().enumerate() {
            let (left, top, right, bottom) = bounds(line);
            assert!(line.size >= 0.058, "{line:?}");
            for (x, y) in [(left, top), (right, top), (left, bottom), (right, bottom)] {
                let (x, y) = turned(x, y);
                assert!((0.0..1.0).contains(&x) && (0.0..1.0).contains(&y), "{line:?} reaches {x} {y}");
            }
            for other in &page.lines[number + 1..] {
                let (l, t, r, b) = bounds(other);
                assert!(right <= l || r <= left || bottom <= t || b <= top, "{line:?} and {other:?}");
            }
        }
    }
    assert!(layouts.len() == 4 && layouts.values().all(|count| *count > 200), "{layouts:?}");
}

#[test]
fn numbers_are_short_and_large_and_all_that_there_is() {
    let settings = TextSettings { questions: 8, numbers: true, ..TextSettings::default() };
    let mut lengths = BTreeMap::new();
    for index in 0..900 {
        let split = Split::ALL[index as usize % 3];
        let (page, questions) = Texts::new(settings, split, 3, 1000).page(index);
        let [line] = &page.lines[..] else { panic!("{page:?}") };
        let digits = line.text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(digits && line.role == Role::Number && page.layout == Layout::Single, "{line:?}");
        assert!(line.size >= 0.2 && line.x > 0.0 && line.x + line.width() <= 0.93, "{line:?}");
        *lengths.entry(line.text.len()).or_insert(0) += 1;
        assert!(questions.len() >= 2);
        for question in questions {
            assert_eq!(derive(&page, &question.text), question.answer, "{question:?} of {page:?}");
        }
    }
    assert!(lengths.len() == 3 && lengths.values().all(|count| *count > 200), "{lengths:?}");
}

#[test]
fn the_same_index_gives_the_same_page() {
    let source = Texts::new(TextSettings::default(), Split::Validation, 7, 10);
    let (one, other) = (source.sample(4).unwrap(), source.clone().sample(4).unwrap());
    assert_eq!(one.questions, other.questions);
    assert_eq!(one.picture.unwrap().image().unwrap(), other.picture.unwrap().image().unwrap());
    assert_ne!(texts(Split::Train, 1).page(0).0, texts(Split::Train, 2).page(0).0);
    let (page, questions) = texts(Split::Train, 1).page(1);
    let seen: Vec<&str> = page.lines.iter().map(|line| line.text.as_str()).collect();
    let first = format!("{}: {} {}", seen.join(", "), questions[0].text, questions[0].answer);
    assert_eq!(first, "desert, hill: Which words are written, from left to right? desert hill");
}

#[test]
fn fonts_and_words_that_are_held_out_stay_out_of_train() {
    let mut fonts: BTreeMap<Split, HashSet<Font>> = BTreeMap::new();
    for split in Split::ALL {
        for index in 0..1500 {
            let (page, questions) = texts(split, 11).page(index);
            fonts.entry(split).or_default().extend(page.lines.iter().map(|line| line.font));
            let from_vocabulary =
                page.lines.iter().filter(|line| matches!(line.role, Role::Words | Role::Item(_)));
            for word in from_vocabulary.flat_map(|line| line.text.split(' ')) {
                assert_eq!(home_of(&word.to_lowercase()), split, "{word}");
            }
            // Words that are asked for and absent come from the same vocabulary.
            for question in questions.iter().filter(|question| question.form.starts_with("has-")) {
                let text = normalise(&question.text);
                let word = text.replace("does the picture contain the word", "").replace("is the word", "");
                let word =
                    word.replace("written somewhere", "").replace("can you read", "").replace("here", "");
                let word = word
                    .replace("on the receipt", "")
                    .replace("does the receipt list", "")
                    .replace("bought", "");
                let word = word.trim().trim_start_matches("is ").trim_start_matches("was ").trim();
                assert_eq!(home_of(word), split, "{word:?} in {}", question.text);
            }
        }
    }
    let home =
        |split: Split| Font::ALL.into_iter().filter(|font| font.home() == split).collect::<HashSet<_>>();
    assert_eq!(fonts[&Split::Train], home(Split::Train));
    for split in [Split::Validation, Split::Test] {
        let both: HashSet<Font> = home(Split::Train).union(&home(split)).copied().collect();
        assert_eq!(fonts[&split], both);
    }
}

#[test]
fn no_question_holds_its_answer_and_guessing_does_not_pay() {
    let ask =
        |split, count| (0..count).flat_map(move |index| texts(split, 1).page(index).1).collect::<Vec<_>>();
    let (train, validation) = (ask(Split::Train, 6000), ask(Split::Validation, 1500));
    for question in train.iter().chain(&validation) {
        let (text, answer) = (format!(" {} ", normalise(&question.text)), normalise(&question.answer));
        assert!(!text.contains(&format!(" {answer} ")), "{question:?}");
    }
    let report = QuestionOnly::fit(&train).measure(&validation);
    assert!(report.overall.best() < 0.25, "{report}");
    assert!(report.by_skill.values().all(|score| score.best() < 0.57), "{report}");
}
