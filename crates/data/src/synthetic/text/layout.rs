//! Where the lines of a page stand: sizes that fit, rows that do not meet, two columns for a receipt.

use super::content::{self, Case};
use super::{Font, Layout, Line, Role};
use crate::random::Draw;
use crate::synthetic::Split;

/// The smallest em that is drawn.
const SMALLEST: f32 = 0.075;
/// Left free on all sides, so that a turned page still fits.
const MARGIN: f32 = 0.05;

/// The lines of a page, and how many words stand side by side; of one number alone where only `numbers` are asked for.
pub(super) fn lines(split: Split, numbers: bool, draw: &mut Draw) -> (Layout, Vec<Line>, usize) {
    if numbers {
        let wanted = draw.uniform(0.2, 0.4);
        let line = fitted(content::short_number(draw), Role::Number, font(split, draw), wanted, 0.84);
        return (Layout::Single, vec![placed(line, draw)], 1);
    }
    match draw.below(20) {
        0..8 => (Layout::Single, single(split, draw), 1),
        8..13 => {
            let (rows, columns) =
                *draw.pick(&[(1, 2), (2, 1), (3, 1), (4, 1), (5, 1), (2, 2), (2, 2), (3, 2)]);
            (Layout::Words, words(split, rows, columns, draw), columns)
        }
        13..15 => (Layout::Sign, sign(split, draw), 1),
        _ => (Layout::Receipt, receipt(split, draw), 1),
    }
}

/// In validation and test every other line, or document, is set in a font that train lacks.
fn font(split: Split, draw: &mut Draw) -> Font {
    let home = if draw.chance(0.5) { split } else { Split::Train };
    let fonts: Vec<Font> = Font::ALL.into_iter().filter(|font| font.home() == home).collect();
    *draw.pick(&fonts)
}

/// `text` as large as `wanted`, or as fits into `width`.
fn fitted(text: String, role: Role, font: Font, wanted: f32, width: f32) -> Line {
    let size = wanted.min(width / font.width(&text).max(0.1));
    Line { text, role, font, size, x: 0.0, y: 0.0 }
}

fn single(split: Split, draw: &mut Draw) -> Vec<Line> {
    let (text, role) = match draw.below(8) {
        0..3 => {
            let case = Case::draw(draw);
            let count = [1, 1, 2, 3][draw.below(4)];
            let words: Vec<String> =
                content::words(split, count, draw).into_iter().map(|word| case.write(word)).collect();
            (words.join(" "), Role::Words)
        }
        3 => (content::number(draw), Role::Number),
        4 | 5 => (content::price(content::currency(draw), content::cents(draw)), Role::Price),
        6 => (content::date(draw), Role::Date),
        _ => (content::code(draw), Role::Code),
    };
    let wanted = draw.uniform(0.12, 0.3);
    // A long line in the picture's width may fall below the smallest size; it then runs over fewer words.
    let mut line = fitted(text, role, font(split, draw), wanted, 0.84);
    while line.size < SMALLEST
        && let Some((shorter, _)) = line.text.rsplit_once(' ')
    {
        line = fitted(shorter.to_owned(), role, line.font, wanted, 0.84);
    }
    vec![placed(line, draw)]
}

/// A line somewhere in the picture.
fn placed(mut line: Line, draw: &mut Draw) -> Line {
    let height = line.size * line.font.capital();
    line.x = draw.uniform(0.08, (0.92 - line.width()).max(0.081));
    line.y = draw.uniform(0.1 + height, 0.88 - 0.25 * line.size);
    line
}

/// Cells of a grid with a word in each; rows and columns keep apart.
fn words(split: Split, rows: usize, columns: usize, draw: &mut Draw) -> Vec<Line> {
    let case = Case::draw(draw);
    let shared = draw.chance(0.5).then(|| font(split, draw));
    let (width, height) = (1.0 - 2.0 * MARGIN, 1.0 - 2.0 * MARGIN);
    let (cell_width, cell_height) = (width / columns as f32, height / rows as f32);
    let texts = content::words(split, rows * columns, draw);
    texts
        .into_iter()
        .enumerate()
        .map(|(cell, word)| {
            let (row, column) = (cell / columns, cell % columns);
            let font = shared.unwrap_or_else(|| font(split, draw));
            let wanted = draw.uniform(0.09, 0.2).min(0.62 * cell_height);
            let mut line = fitted(case.write(word), Role::Words, font, wanted, cell_width - 0.04);
            let free = (cell_width - line.width() - 0.03).max(0.0);
            line.x = MARGIN + column as f32 * cell_width + 0.015 + draw.uniform(0.0, 1.0) * free;
            let top = line.size * line.font.capital();
            let slack = (cell_height - top - 0.3 * line.size).max(0.0);
            // Words side by side stay level, near enough; words below each other may stand anywhere in their row.
            let by = if columns > 1 { 0.04 } else { slack / 2.0 };
            line.y = MARGIN
                + row as f32 * cell_height
                + top
                + slack / 2.0
                + draw.uniform(-by, by).clamp(-slack / 2.0, slack / 2.0);
            line
        })
        .collect()
}

/// What a sign may number.
pub(super) const LABELS: [&str; 8] = ["GATE", "ROOM", "EXIT", "PLATFORM", "BUS", "FLOOR", "TRACK", "BAY"];

fn sign(split: Split, draw: &mut Draw) -> Vec<Line> {
    let font = font(split, draw);
    let label = (*draw.pick(&LABELS)).to_owned();
    let number = draw.between(1, 99).to_string();
    let place = Case::draw(draw).write(content::words(split, 1, draw)[0]);
    let first = format!("{label} {number}");
    let size = draw.uniform(0.14, 0.22).min(0.78 / font.width(&first));
    let x = draw.uniform(0.1, 0.9 - size * font.width(&first));
    let y = draw.uniform(0.36, 0.46);
    let gap = size * font.width(&format!("{label} "));
    let mut second = fitted(place, Role::Words, font, draw.uniform(0.11, 0.18), 0.76);
    second.x = draw.uniform(0.1, (0.9 - second.width()).max(0.101));
    second.y = y + draw.uniform(0.22, 0.32);
    vec![
        Line { text: label, role: Role::Label, font, size, x, y },
        Line { text: number, role: Role::Number, font, size, x: x + gap, y },
        second,
    ]
}

fn receipt(split: Split, draw: &mut Draw) -> Vec<Line> {
    let (font, case) = (font(split, draw), Case::draw(draw));
    let (left, right) = (0.1, 0.9);
    let count = draw.between(2, 4);
    let goods = content::goods(split, count, draw);
    let currency = content::currency(draw);
    let mut costs: Vec<usize> = Vec::new();
    while costs.len() < count {
        let cost = content::cents(draw);
        // Apart, so that the dearest is one and each price has one owner.
        if costs.iter().all(|other| cost.abs_diff(*other) >= 5) {
            costs.push(cost);
        }
    }
    let total = content::price(currency, costs.iter().sum());
    let dated = draw.chance(0.5);
    let rows = 1 + usize::from(dated) + count + 1;
    let pitch = (0.86 / rows as f32).min(0.155);
    // Every row fits with a space between its columns.
    let prices = costs.iter().map(|cost| content::price(currency, *cost));
    let rows_of =
        goods.iter().map(|good| case.write(good)).zip(prices).chain([(case.write("total"), total.clone())]);
    let widest = rows_of.map(|(item, cost)| font.width(&item) + font.width(&cost) + 0.8).fold(1.0, f32::max);
    let size = (0.72 * pitch).min(0.1).min((right - left) / widest);
    let mut y = 0.07 + 0.75 * pitch + draw.uniform(0.0, 1.0) * (0.86 - pitch * rows as f32);
    let mut found = Vec::new();
    let put = |text: String, role, x: f32, y: f32, at_right: bool| {
        let mut line = Line { text, role, font, size, x, y };
        if at_right {
            line.x = right - line.width();
        }
        line
    };
    let shop: Vec<&str> =
        content::words(split, 9, draw).into_iter().filter(|word| !goods.contains(word)).collect();
    let mut heading = put(Case::draw(draw).write(shop[0]), Role::Words, left, y, false);
    heading.x = 0.5 - heading.width() / 2.0;
    found.push(heading);
    if dated {
        y += pitch;
        found.push(put(content::date(draw), Role::Date, left, y, false));
    }
    for (place, (good, cost)) in goods.iter().zip(&costs).enumerate() {
        y += pitch;
        found.push(put(case.write(good), Role::Item(place), left, y, false));
        found.push(put(content::price(currency, *cost), Role::Cost(place), 0.0, y, true));
    }
    y += pitch;
    found.push(put(case.write("total"), Role::TotalLabel, left, y, false));
    found.push(put(total, Role::Total, 0.0, y, true));
    found
}
