//! Questions about a page, with answers as they are painted, letter for letter.

use super::content::{goods, words};
use super::{Layout, Page, Role};
use crate::baseline::normalise;
use crate::random::Draw;
use crate::sample::{Family, Question, Skill};
use crate::synthetic::Split;

/// One meaning, several wordings with " | " between them; `{w}` and `{label}` stand for words of the page.
struct Form(&'static str, Skill, &'static str);

const READ: Form = Form(
    "read",
    Skill::Read,
    "What is written? | What does the text say? | Read the text. | What can you read here? | \
    Which text is shown?",
);
const READ_COLUMN: Form = Form(
    "read-column",
    Skill::Read,
    "Read the words from top to bottom. | Which words are written, from top to bottom?",
);
const READ_ROW: Form = Form(
    "read-row",
    Skill::Read,
    "Read the words from left to right. | Which words are written, from left to right?",
);
const READ_SIGN: Form = Form("read-sign", Skill::Read, "What does the sign say? | Read the sign.");
const READ_WORD: Form =
    Form("read-word", Skill::Read, "Which word is written? | What word do you see? | Read the word.");
const READ_NUMBER: Form =
    Form("read-number", Skill::Read, "What number is shown? | Which number is written? | Read the number.");
const READ_PRICE: Form =
    Form("read-price", Skill::Read, "What price is shown? | How much is it? | Read the price.");
const READ_DATE: Form =
    Form("read-date", Skill::Read, "Which date is shown? | What date is written? | Read the date.");
const READ_CODE: Form =
    Form("read-code", Skill::Read, "What is the code? | Which code is shown? | Read the code.");
const FIRST_CHARACTER: Form = Form(
    "first-character",
    Skill::Place,
    "What is the first character? | With which character does the text begin? | \
    Which character comes first?",
);
const LAST_CHARACTER: Form = Form(
    "last-character",
    Skill::Place,
    "What is the last character? | With which character does the text end? | Which character comes last?",
);
const FIRST_WORD: Form =
    Form("first-word", Skill::Place, "What is the first word? | Which word comes first?");
const LAST_WORD: Form = Form("last-word", Skill::Place, "What is the last word? | Which word comes last?");
const LENGTH: Form =
    Form("length", Skill::Tally, "How many characters are there? | How many characters does the text have?");
const WORD_COUNT: Form = Form(
    "word-count",
    Skill::Tally,
    "How many words are there? | How many words can you read? | Count the words.",
);
const HAS_WORD: Form = Form(
    "has-word",
    Skill::Exist,
    "Does the picture contain the word {w}? | Is the word {w} written somewhere? | Can you read {w} here?",
);
const LEFT: Form =
    Form("left", Skill::Place, "Which word is left of {w}? | What is written to the left of {w}?");
const RIGHT: Form =
    Form("right", Skill::Place, "Which word is right of {w}? | What is written to the right of {w}?");
const ABOVE: Form =
    Form("above", Skill::Place, "Which word is on the line above {w}? | What is written right above {w}?");
const BELOW: Form =
    Form("below", Skill::Place, "Which word is on the line below {w}? | What is written right below {w}?");
const TOP: Form = Form("top", Skill::Place, "Which word is at the top? | What is written on the first line?");
const SECOND: Form =
    Form("second", Skill::Place, "Which word is second from the top? | What is written on the second line?");
const BOTTOM: Form =
    Form("bottom", Skill::Place, "Which word is at the bottom? | What is written on the last line?");
const TOP_LEFT: Form = Form(
    "top-left",
    Skill::Place,
    "Which word is at the top left? | What is written in the top left corner?",
);
const TOP_RIGHT: Form = Form(
    "top-right",
    Skill::Place,
    "Which word is at the top right? | What is written in the top right corner?",
);
const BOTTOM_LEFT: Form = Form(
    "bottom-left",
    Skill::Place,
    "Which word is at the bottom left? | What is written in the bottom left corner?",
);
const BOTTOM_RIGHT: Form = Form(
    "bottom-right",
    Skill::Place,
    "Which word is at the bottom right? | What is written in the bottom right corner?",
);
const SIGN_NUMBER: Form = Form(
    "sign-number",
    Skill::Find,
    "What is the {label} number? | Which {label} is it? | What number does the {label} have?",
);
const SIGN_LABEL: Form = Form(
    "sign-label",
    Skill::Place,
    "Which word stands before the number? | What is written in front of the number?",
);
const SIGN_PLACE: Form = Form(
    "sign-place",
    Skill::Find,
    "Where does the sign lead to? | Which place is named on the sign? | What is written below the number?",
);
const TOTAL: Form = Form(
    "total",
    Skill::Find,
    "What is the total? | How much is it in all? | What does everything cost together? | Read the total.",
);
const COST: Form = Form(
    "cost",
    Skill::Find,
    "How much is the {w}? | What does the {w} cost? | What is the price of the {w}?",
);
const COSTS: Form =
    Form("costs", Skill::Find, "Which item costs {w}? | What costs {w}? | Which item has the price {w}?");
const SHOP: Form = Form(
    "shop",
    Skill::Find,
    "What is the shop called? | Which shop is the receipt from? | What is the name of the shop?",
);
const DATE: Form = Form(
    "date",
    Skill::Find,
    "What is the date on the receipt? | When was the receipt printed? | Which date is given?",
);
const DEAREST: Form = Form(
    "dearest",
    Skill::Extreme,
    "Which item is the most expensive? | What costs the most? | Which item has the highest price?",
);
const CHEAPEST: Form = Form(
    "cheapest",
    Skill::Extreme,
    "Which item is the cheapest? | What costs the least? | Which item has the lowest price?",
);
const ITEM_COUNT: Form = Form(
    "item-count",
    Skill::Tally,
    "How many items are listed? | How many items were bought? | Count the items.",
);
const HAS_ITEM: Form =
    Form("has-item", Skill::Exist, "Is {w} on the receipt? | Was {w} bought? | Does the receipt list {w}?");

/// Up to `wanted` different questions.
pub(super) fn questions(page: &Page, split: Split, wanted: usize, draw: &mut Draw) -> Vec<Question> {
    let mut asker = Asker { page, split, draw, found: Vec::new() };
    match page.layout {
        Layout::Single => asker.single(),
        Layout::Words => asker.words(),
        Layout::Sign => asker.sign(),
        Layout::Receipt => asker.receipt(),
    }
    let mut found = asker.found;
    draw.shuffle(&mut found);
    // Reading all of it is what the others rest on: it is asked first, mostly.
    if draw.chance(0.7) {
        found.sort_by_key(|question| question.skill != Skill::Read);
    }
    found.truncate(wanted);
    draw.shuffle(&mut found);
    found
}

struct Asker<'a> {
    page: &'a Page,
    split: Split,
    draw: &'a mut Draw,
    /// Every form that the page has a case for, once.
    found: Vec<Question>,
}

impl Asker<'_> {
    fn put(&mut self, Form(form, skill, texts): &Form, word: &str, answer: &str) {
        let texts: Vec<&str> = texts.split(" | ").collect();
        let text = self.draw.pick(&texts).replace("{w}", word).replace("{label}", &word.to_lowercase());
        let (asked, said) = (format!(" {} ", normalise(&text)), format!(" {} ", normalise(answer)));
        if !asked.contains(&said) {
            let question = Question::new(text, answer, *skill);
            self.found.push(Question { family: Family::Text, form, ..question });
        }
    }

    /// The word as a question writes it, quoted half of the time.
    fn quote(&mut self, word: &str) -> String {
        if self.draw.chance(0.5) { format!("\"{word}\"") } else { word.to_owned() }
    }

    fn single(&mut self) {
        let Some(line) = self.page.lines.first() else { return };
        let text = line.text.as_str();
        let several = text.contains(' ');
        let special = match line.role {
            Role::Number => &READ_NUMBER,
            Role::Price => &READ_PRICE,
            Role::Date => &READ_DATE,
            Role::Code => &READ_CODE,
            _ if several => &READ,
            _ => &READ_WORD,
        };
        let read = if self.draw.chance(0.5) { &READ } else { special };
        self.put(read, "", text);
        let ends = [(&FIRST_CHARACTER, text.chars().next()), (&LAST_CHARACTER, text.chars().next_back())];
        for (form, character) in ends {
            self.put(form, "", &character.map(String::from).unwrap_or_default());
        }
        if line.role == Role::Words {
            self.put(&WORD_COUNT, "", &text.split(' ').count().to_string());
            if let (true, Some((first, _)), Some((_, last))) =
                (several, text.split_once(' '), text.rsplit_once(' '))
            {
                self.put(&FIRST_WORD, "", first);
                self.put(&LAST_WORD, "", last);
            }
        } else if line.role != Role::Date {
            self.put(&LENGTH, "", &text.chars().count().to_string());
        }
    }

    fn words(&mut self) {
        let columns = self.page.columns;
        let texts: Vec<&str> = self.page.lines.iter().map(|line| line.text.as_str()).collect();
        let count = texts.len();
        self.put(&WORD_COUNT, "", &count.to_string());
        // A word of the same vocabulary in the same case, there or not.
        let asked = texts[self.draw.below(count)];
        let case = |word: &str| match asked {
            _ if asked.chars().all(char::is_uppercase) => word.to_uppercase(),
            _ if asked.starts_with(char::is_uppercase) => word[..1].to_uppercase() + &word[1..],
            _ => word.to_owned(),
        };
        let other = words(self.split, count + 1, self.draw)
            .into_iter()
            .map(case)
            .find(|word| !texts.contains(&word.as_str()));
        self.toss(&HAS_WORD, asked, other);
        if count <= 3 {
            let read = if columns == 1 { &READ_COLUMN } else { &READ_ROW };
            self.put(read, "", &texts.join(" "));
        }
        let last = count - columns;
        let corners = if columns == 1 {
            vec![(&TOP, 0), (&BOTTOM, count - 1)]
        } else if count > columns {
            vec![(&TOP_LEFT, 0), (&TOP_RIGHT, columns - 1), (&BOTTOM_LEFT, last), (&BOTTOM_RIGHT, count - 1)]
        } else {
            Vec::new()
        };
        for (form, index) in corners {
            self.put(form, "", texts[index]);
        }
        if columns == 1 && count > 2 {
            self.put(&SECOND, "", texts[1]);
        }
        let index = self.draw.below(count);
        let (row, column) = (index / columns, index % columns);
        let neighbours = [
            (&LEFT, column > 0, index.wrapping_sub(1)),
            (&RIGHT, column + 1 < columns, index + 1),
            (&ABOVE, columns == 1 && row > 0, index.wrapping_sub(1)),
            (&BELOW, columns == 1 && index + 1 < count, index + 1),
        ];
        for (form, there, other) in neighbours {
            if there {
                let word = self.quote(texts[index]);
                self.put(form, &word, texts[other]);
            }
        }
    }

    /// Asks for something that is there or something that is not, as a coin decides.
    fn toss(&mut self, form: &Form, there: &str, absent: Option<String>) {
        let Some(absent) = absent else { return };
        let (word, answer) = if self.draw.chance(0.5) { (there, "yes") } else { (absent.as_str(), "no") };
        let word = self.quote(word);
        self.put(form, &word, answer);
    }

    fn sign(&mut self) {
        let page = self.page;
        let text = |role| page.lines.iter().find(|line| line.role == role).map(|line| line.text.as_str());
        if let (Some(label), Some(number), Some(place)) =
            (text(Role::Label), text(Role::Number), text(Role::Words))
        {
            self.put(&SIGN_NUMBER, label, number);
            self.put(&SIGN_LABEL, "", label);
            self.put(&SIGN_PLACE, "", place);
            self.put(&READ_SIGN, "", &format!("{label} {number} {place}"));
        }
    }

    fn receipt(&mut self) {
        let page = self.page;
        let texts = |wanted: fn(Role) -> bool| {
            page.lines.iter().filter(move |line| wanted(line.role)).map(|line| line.text.as_str())
        };
        let written: Vec<&str> = texts(|role| matches!(role, Role::Item(_))).collect();
        let costs = texts(|role| matches!(role, Role::Cost(_)));
        let entries: Vec<(String, &str)> =
            written.iter().map(|item| item.to_lowercase()).zip(costs).collect();
        for (form, role) in [(&TOTAL, Role::Total), (&SHOP, Role::Words), (&DATE, Role::Date)] {
            if let Some(line) = page.lines.iter().find(|line| line.role == role) {
                self.put(form, "", &line.text);
            }
        }
        let one = self.draw.below(entries.len());
        self.put(&COST, &entries[one].0, entries[one].1);
        let one = self.draw.below(entries.len());
        self.put(&COSTS, entries[one].1, written[one]);
        self.put(&ITEM_COUNT, "", &entries.len().to_string());
        // Amounts of one receipt share their notation, so the digits alone order them.
        let amount = |cost: &str| {
            cost.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0)
        };
        let order = |index: &usize| amount(entries[*index].1);
        if let (Some(dearest), Some(cheapest)) =
            ((0..entries.len()).max_by_key(order), (0..entries.len()).min_by_key(order))
        {
            self.put(&DEAREST, "", written[dearest]);
            self.put(&CHEAPEST, "", written[cheapest]);
        }
        let there = entries[self.draw.below(entries.len())].0.clone();
        let others = goods(self.split, entries.len() + 1, self.draw).into_iter().map(str::to_owned);
        let absent = { others }.find(|good| entries.iter().all(|entry| entry.0 != *good));
        self.toss(&HAS_ITEM, &there, absent);
    }
}
