//! Tables and lists for people.

use std::borrow::Cow;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table without lines: `left` columns from the left are flush left, the others flush right.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>], left: usize) -> String {
    aligned(header, rows, |column| column < left)
}

/// The same, with the columns that are flush left by number.
pub(crate) fn aligned(header: &[&str], rows: &[Vec<String>], left: impl Fn(usize) -> bool) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if left(index) { CellAlignment::Left } else { CellAlignment::Right });
        column.set_padding((if index == 0 { 2 } else { 1 }, 1));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
    lines.join("\n")
}

/// A heading and its points, wrapped at 100 columns.
pub(crate) fn list(heading: &str, points: &[String]) -> String {
    let mut text = format!("{heading}:");
    for point in points {
        let mut line = String::from("\n  -");
        for word in point.split(' ') {
            if line.trim_start_matches('\n').chars().count() + 1 + word.chars().count() > 100 {
                text += &line;
                line = String::from("\n   ");
            }
            line.push(' ');
            line += word;
        }
        text += &line;
    }
    text
}

/// `[low, high]` with the digits given, an open end as ∞.
pub(crate) fn interval([low, high]: [f64; 2], digits: usize) -> String {
    let end = |value: f64| if value.is_finite() { format!("{value:.digits$}") } else { "∞".into() };
    format!("[{}, {}]", end(low), end(high))
}

/// `text` with � in place of control characters, line breaks and tabs apart.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    let obeyed = |char: char| char.is_control() && !matches!(char, '\n' | '\t');
    if text.contains(obeyed) { text.replace(obeyed, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let title = "a\u{1b}]0;title\u{7}b\r\n\tc \u{9b}2J é 😀";
        assert_eq!(without_controls(title), "a\u{fffd}]0;title\u{fffd}b\u{fffd}\n\tc \u{fffd}2J é 😀");
        assert!(matches!(without_controls("plain\n"), Cow::Borrowed("plain\n")));
    }

    #[test]
    fn long_points_are_wrapped_and_indented() {
        let text = list("findings", &["word ".repeat(40).trim().to_string(), "short".into()]);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  - ")).count(), 2);
        assert_eq!(text.split_whitespace().filter(|word| *word == "word").count(), 40);
    }

    #[test]
    fn open_ends_are_shown() {
        assert_eq!(interval([1.234, f64::INFINITY], 2), "[1.23, ∞]");
    }
}
