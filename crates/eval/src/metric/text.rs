//! Measures of how far an answer is from a reference: letters changed, numbers a little off.

/// Single-character insertions, deletions and replacements that turn one text into the other.
pub fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (place, same) in other.iter().map(|have| *have == character).enumerate() {
            let replaced = diagonal + usize::from(!same);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[other.len()]
}

/// Average normalised Levenshtein similarity of one answer (DocVQA, arXiv 2007.00398): 1 − edits / length of the longer
/// text for the closest reference, and 0 below one half. Case and runs of spaces say nothing.
///
/// ```
/// use foveate_eval::metric::anls;
/// assert_eq!(anls("12 May", &["12 may".into()]), 1.0);
/// assert_eq!(anls("12 Mai", &["12 may".into(), "5-12".into()]), 1.0 - 1.0 / 6.0);
/// assert_eq!(anls("June", &["12 may".into()]), 0.0);
/// ```
pub fn anls(answer: &str, references: &[String]) -> f64 {
    const LEAST: f64 = 0.5;
    let form = |text: &str| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let answer = form(answer);
    let similarity = |reference: &String| {
        let reference = form(reference);
        let longer = answer.chars().count().max(reference.chars().count());
        1.0 - edit_distance(&answer, &reference) as f64 / longer.max(1) as f64
    };
    let best = references.iter().map(similarity).fold(0.0, f64::max);
    if best < LEAST { 0.0 } else { best }
}

/// Edits by the length of the closest reference, at most 1. An empty reference counts as one character. Spaces around the
/// texts say nothing; case does.
pub fn character_error(answer: &str, references: &[String]) -> f64 {
    let rate = |reference: &String| {
        let reference = reference.trim();
        edit_distance(answer.trim(), reference) as f64 / reference.chars().count().max(1) as f64
    };
    references.iter().map(rate).fold(1.0, f64::min)
}

/// ChartQA's relaxed match: numbers may be off by five in a hundred of the reference, all else must be the same but for case.
/// A number may carry a percent sign, which divides it by 100; a reference of 0 is compared as text.
///
/// ```
/// use foveate_eval::metric::relaxed_match;
/// assert!(relaxed_match("104.9", "100") && !relaxed_match("105.1", "100"));
/// assert!(relaxed_match("50%", "0.5") && relaxed_match("Blue", "blue") && !relaxed_match("0.0", "0"));
/// ```
pub fn relaxed_match(answer: &str, reference: &str) -> bool {
    const TOLERANCE: f64 = 0.05;
    let (answer, reference) = (answer.trim(), reference.trim());
    match (number(answer), number(reference)) {
        (Some(said), Some(true_value)) if true_value != 0.0 => {
            (said - true_value).abs() / true_value.abs() <= TOLERANCE
        }
        _ => answer.to_lowercase() == reference.to_lowercase(),
    }
}

/// A finite number, in percent where it says so.
fn number(text: &str) -> Option<f64> {
    let (digits, unit) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100.0),
        None => (text, 1.0),
    };
    digits.trim().parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| value / unit)
}

/// The numbers in a text, in order; commas between groups of three digits are left out.
pub fn numbers(text: &str) -> Vec<f64> {
    let characters: Vec<char> = text.chars().collect();
    let digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    let mut found = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let begins = digit(at) || (characters[at] == '.' && digit(at + 1));
        if !begins {
            at += 1;
            continue;
        }
        let mut written = String::new();
        // A sign belongs to the number unless it follows a word or number, as in 3-4.
        if at > 0 && characters[at - 1] == '-' && (at < 2 || !characters[at - 2].is_alphanumeric()) {
            written.push('-');
        }
        let mut fraction = false;
        while at < characters.len() {
            match characters[at] {
                digit if digit.is_ascii_digit() => written.push(digit),
                '.' if !fraction && digit(at + 1) => {
                    fraction = true;
                    written.push('.');
                }
                ',' if !fraction && digit(at + 1) && digit(at + 2) && digit(at + 3) && !digit(at + 4) => {}
                _ => break,
            }
            at += 1;
        }
        found.extend(written.parse::<f64>());
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn distances_of_textbooks() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("flaw", "lawn"), 2);
        assert_eq!(edit_distance("Grüße", "Grüsse"), 2);
    }

    /// The example of the challenge's page: threshold one half, the closest answer counts.
    #[test]
    fn anls_counts_the_closest_answer_from_one_half_on() {
        assert_eq!(anls("", &list(&["a"])), 0.0);
        assert_eq!(anls("anything", &[]), 0.0);
        assert_eq!(anls("ab", &list(&["ac"])), 0.5);
        assert_eq!(anls("abcde", &list(&["abxyz"])), 0.0);
        assert_eq!(anls("  THE  Coca Cola ", &list(&["pepsi", "the coca cola"])), 1.0);
        assert_eq!(anls("東京", &list(&["東京"])), 1.0);
    }

    #[test]
    fn character_errors_are_parts_of_the_reference() {
        assert_eq!(character_error("TOTAL 12.50", &list(&["TOTAL 12.50"])), 0.0);
        assert_eq!(character_error("", &list(&["abcd"])), 1.0);
        assert_eq!(character_error("abxd", &list(&["abcd"])), 0.25);
        assert_eq!(character_error("abcdefghij", &list(&["ab"])), 1.0, "no more than everything");
        assert_eq!(character_error("x", &[]), 1.0);
    }

    #[test]
    fn relaxed_matches_as_published() {
        for (answer, reference, right) in [
            ("14", "14", true),
            ("14.7", "14", true),
            ("14.71", "14", false),
            ("-95", "-100", true),
            ("95", "-100", false),
            ("5%", "0.05", true),
            ("5", "5%", false),
            ("", "3", false),
            ("", "", true),
            ("[1, 2]", "[1, 2]", true),
            ("three", "3", false),
            ("nan", "1", false),
            ("ÜBER", "über", true),
        ] {
            assert_eq!(relaxed_match(answer, reference), right, "{answer:?} for {reference:?}");
        }
    }

    #[test]
    fn numbers_are_found_in_sentences() {
        assert_eq!(numbers("It costs $1,250.50, or -3 (.5) at 3-4."), [1250.5, -3.0, 0.5, 3.0, 4.0]);
        assert_eq!(numbers("none"), Vec::<f64>::new());
        assert_eq!(numbers("1,2,3 and 12,34"), [1.0, 2.0, 3.0, 12.0, 34.0]);
    }

    proptest! {
        #[test]
        fn a_distance_is_one(a in "[ab é]{0,8}", b in "[ab é]{0,8}", c in "[ab é]{0,8}") {
            let d = edit_distance;
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
        }

        #[test]
        fn numbers_of_any_text_are_finite(text in "\\PC{0,40}") {
            prop_assert!(numbers(&text).iter().all(|value| value.is_finite()));
        }
    }
}
