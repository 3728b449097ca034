//! What stands in a line: words in some case, numbers, prices, dates, codes.

use super::words;
use crate::random::Draw;
use crate::synthetic::Split;

/// How a document writes its words.
#[derive(Debug, Clone, Copy)]
pub(super) enum Case {
    Lower,
    Title,
    Upper,
}

impl Case {
    pub(super) fn draw(draw: &mut Draw) -> Case {
        *draw.pick(&[Case::Lower, Case::Title, Case::Upper])
    }

    pub(super) fn write(self, word: &str) -> String {
        match self {
            Case::Lower => word.to_owned(),
            Case::Title => word[..1].to_uppercase() + &word[1..],
            Case::Upper => word.to_uppercase(),
        }
    }
}

/// `count` different words of the split's vocabulary.
pub(super) fn words(split: Split, count: usize, draw: &mut Draw) -> Vec<&'static str> {
    distinct(&words::of(split).all, count, draw)
}

/// `count` different goods.
pub(super) fn goods(split: Split, count: usize, draw: &mut Draw) -> Vec<&'static str> {
    distinct(&words::of(split).goods, count, draw)
}

fn distinct(list: &[&'static str], count: usize, draw: &mut Draw) -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::with_capacity(count);
    while found.len() < count.min(list.len()) {
        let word = *draw.pick(list);
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// Up to five digits, short ones as likely as long ones.
pub(super) fn number(draw: &mut Draw) -> String {
    below(&[10, 100, 1000, 10_000, 100_000], draw)
}

/// Up to three digits.
pub(super) fn short_number(draw: &mut Draw) -> String {
    below(&[10, 100, 1000], draw)
}

fn below(bounds: &[usize], draw: &mut Draw) -> String {
    let bound = *draw.pick(bounds);
    draw.below(bound).to_string()
}

/// A sign before the amount, or none.
pub(super) fn currency(draw: &mut Draw) -> &'static str {
    ["", "", "$", "£", "€"][draw.below(5)]
}

/// Cents, mostly of a price that a shop would ask.
pub(super) fn cents(draw: &mut Draw) -> usize {
    let most = *draw.pick(&[9, 29]);
    let whole = draw.between(0, most);
    let fraction = if draw.chance(0.5) { *draw.pick(&[0, 25, 50, 75, 90, 95, 99]) } else { draw.below(100) };
    (100 * whole + fraction).max(5)
}

/// 1250 is "12.50".
pub(super) fn price(currency: &str, cents: usize) -> String {
    format!("{currency}{}.{:02}", cents / 100, cents % 100)
}

/// A day between 1990 and 2039, in one of five notations.
pub(super) fn date(draw: &mut Draw) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (year, month, day) = (draw.between(1990, 2039), draw.between(1, 12), draw.between(1, 28));
    match draw.below(5) {
        0 => format!("{year}-{month:02}-{day:02}"),
        1 => format!("{day:02}.{month:02}.{year}"),
        2 => format!("{month:02}/{day:02}/{:02}", year % 100),
        3 => format!("{day} {} {year}", MONTHS[month - 1]),
        _ => format!("{} {day}, {year}", MONTHS[month - 1]),
    }
}

/// Three to six letters and digits, none that is easily taken for another.
pub(super) fn code(draw: &mut Draw) -> String {
    let characters = b"ABCDEFGHJKLMNPQRTUVWXY2346789";
    let length = draw.between(3, 6);
    let mut code: Vec<u8> = (0..length).map(|_| *draw.pick(characters)).collect();
    // At least one digit, so that it never spells a word.
    let digit = draw.below(length);
    code[digit] = *draw.pick(b"2346789");
    code.into_iter().map(char::from).collect()
}
