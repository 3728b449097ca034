//! Which option an answer means.

use foveate_data::baseline::normalise;

/// The letter in front of an option, `A` for the first; at most 26 options have one.
pub fn letter(option: usize) -> char {
    char::from(b'A' + option.min(25) as u8)
}

/// The option that an answer names: by its letter alone; by its text, to the letter or else case and punctuation apart; by its
/// letter at the front (`(b)`, `B. a cat`) or behind "answer is"; by the one letter that stands alone in it; by the one option
/// whose text occurs in it. `None` where that leaves a doubt: official scorers draw one at random there, here such an answer
/// is wrong.
///
/// ```
/// use foveate_eval::metric::chosen;
/// let options = ["a cat".to_owned(), "a dog".to_owned(), "both".to_owned()];
/// assert_eq!(chosen("(b)", &options), Some(1));
/// assert_eq!(chosen("The answer is C.", &options), Some(2));
/// assert_eq!(chosen("A cat!", &options), Some(0));
/// assert_eq!(chosen("It must be a dog", &options), Some(1));
/// assert_eq!((chosen("", &options), chosen("a cat or a dog", &options)), (None, None));
/// ```
pub fn chosen(answer: &str, options: &[String]) -> Option<usize> {
    let (bare, normal) = (answer.trim(), normalise(answer));
    let is = |option: &String| !bare.is_empty() && option.trim() == bare;
    let same = |option: &String| !normal.is_empty() && normalise(option) == normal;
    letter_alone(answer, options.len())
        .or_else(|| only(options, is))
        .or_else(|| only(options, same))
        .or_else(|| by_letter(answer, options.len()))
        .or_else(|| only(options, |option| occurs(&normalise(option), &normal)))
}

/// The option of an answer that is one letter; options may be letters themselves, and questions ask for the letter in front.
fn letter_alone(answer: &str, options: usize) -> Option<usize> {
    match words(answer).as_slice() {
        [word] => word.option(options),
        _ => None,
    }
}

fn by_letter(answer: &str, options: usize) -> Option<usize> {
    let words: Vec<Word> = words(answer);
    let first = words.first()?;
    // "A cat is shown" begins with an article, "A. cat" with a letter.
    if let Some(option) = first.option(options).filter(|_| first.marked) {
        return Some(option);
    }
    let behind = words.windows(3).find(|three| {
        three[0].text.eq_ignore_ascii_case("answer") && three[1].text.eq_ignore_ascii_case("is")
    });
    if let Some(option) = behind.and_then(|three| three[2].option(options)) {
        return Some(option);
    }
    let upper = words.iter().filter(|word| word.text.chars().all(char::is_uppercase));
    let mut named = upper.filter_map(|word| word.option(options).filter(|option| *option > 0 || word.marked));
    match (named.next(), named.next()) {
        (Some(option), None) => Some(option),
        _ => None,
    }
}

/// A word without the marks around it.
struct Word {
    text: String,
    /// Whether a bracket, full stop or colon says that it is more than a word.
    marked: bool,
}

impl Word {
    fn option(&self, options: usize) -> Option<usize> {
        let mut characters = self.text.chars();
        let (Some(only), None) = (characters.next(), characters.next()) else { return None };
        let option = (only.to_ascii_uppercase() as usize).checked_sub('A' as usize)?;
        (option < options.min(26)).then_some(option)
    }
}

fn words(answer: &str) -> Vec<Word> {
    let word = |written: &str| {
        let text = written.trim_matches(|character: char| !character.is_alphanumeric());
        let behind = written.split_once(text).map_or("", |(_, behind)| behind);
        let marked = written.starts_with(['(', '[']) || behind.starts_with([')', ']', '.', ':']);
        Word { text: text.to_owned(), marked }
    };
    answer.split_whitespace().map(word).filter(|word| !word.text.is_empty()).collect()
}

/// Whether `part` occurs in `whole` as whole words; both normalised.
fn occurs(part: &str, whole: &str) -> bool {
    !part.is_empty() && format!(" {whole} ").contains(&format!(" {part} "))
}

fn only(options: &[String], says: impl Fn(&String) -> bool) -> Option<usize> {
    let mut found = options.iter().enumerate().filter(|(_, option)| says(option)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(option), None) => Some(option),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_and_texts() {
        let options: Vec<String> = ["red", "blue", "12", "none of these"].map(str::to_owned).into();
        for (answer, option) in [
            ("A", Some(0)),
            ("b", Some(1)),
            ("(C)", Some(2)),
            ("D.", Some(3)),
            ("B: blue", Some(1)),
            ("B) red", Some(1)),
            ("Blue.", Some(1)),
            ("12", Some(2)),
            ("The answer is b", Some(1)),
            ("I choose option B", Some(1)),
            ("the sky is blue", Some(1)),
            ("E", None),
            ("A red or a blue one", None),
            ("B or C", None),
            ("", None),
            ("青", None),
            ("redder", None),
        ] {
            assert_eq!(chosen(answer, &options), option, "{answer:?}");
        }
        assert_eq!(chosen("A", &[]), None);
    }

    #[test]
    fn options_that_are_letters_or_differ_in_their_marks() {
        let of = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        for (options, answer, option) in [
            (of(&["B", "A", "D", "C"]), "A", Some(0)),
            (of(&["B", "A", "D", "C"]), "(c)", Some(2)),
            (of(&["F", "C"]), "C", Some(1)),
            (of(&["-3", "3"]), "3", Some(1)),
            (of(&["-3", "3"]), "-3", Some(0)),
            (of(&["<", ">"]), ">", Some(1)),
            (of(&["3.", "3"]), "(3)", None),
        ] {
            assert_eq!(chosen(answer, &options), option, "{answer:?} of {options:?}");
        }
    }

    #[test]
    fn an_article_is_no_letter() {
        let options: Vec<String> = ["dog", "cat"].map(str::to_owned).into();
        assert_eq!(chosen("A cat is on the mat", &options), Some(1));
        assert_eq!(chosen("A. cat is on the mat", &options), Some(0));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_there(answer in "\\PC{0,30}", options in prop::collection::vec("\\PC{0,10}", 0..5)) {
            if let Some(option) = chosen(&answer, &options) {
                prop_assert!(option < options.len());
            }
        }

        #[test]
        fn every_letter_is_read(option in 0_usize..26) {
            let options: Vec<String> = (0..26).map(|number| format!("thing {number}")).collect();
            prop_assert_eq!(chosen(&format!("({})", letter(option)), &options), Some(option));
        }
    }
}
