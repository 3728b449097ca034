//! Answers brought to one form, as the official scorer of VQA does before it compares them.
//!
//! Facts from the scorer that VQA publishes (`vqaEval.py`): which marks fall away, numbers in words, articles, contractions
//! without their apostrophe. It leaves answers as they are where all ten people agree; here they are always brought to one
//! form, as the scorer of TextVQA does.

/// Marks that fall away beside a space, and become a space elsewhere.
const MARKS: &str = ";/[]\"{}()=+\\_-><@`,?!";

/// Words for which a number stands.
const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Contractions that are recognised without their apostrophes. Words such as *well*, *its* and *were* are not among them:
/// they are words of their own.
const CONTRACTIONS: &[&str] = &[
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "let's",
    "ma'am",
    "might've",
    "mightn't",
    "mightn't've",
    "must've",
    "mustn't",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "shan't",
    "she'd've",
    "she's",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "'twas",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'd've",
    "y'all'll",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
];

/// The form in which answers are compared.
///
/// ```
/// use foveate_eval::metric::normalise_answer;
/// assert_eq!(normalise_answer("The Two  dogs."), "2 dogs");
/// assert_eq!(normalise_answer("dont know"), normalise_answer("don't know!"));
/// assert_eq!((normalise_answer("1,000"), normalise_answer("3.5.")), ("1000".into(), "3.5".into()));
/// ```
pub fn normalise_answer(answer: &str) -> String {
    let text = answer.replace(['\n', '\t'], " ");
    let text = without_marks(text.trim()).to_lowercase();
    let words = text.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the"));
    words.map(|word| one_form(word).to_owned()).collect::<Vec<_>>().join(" ")
}

fn without_marks(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let digit = |at: Option<&char>| at.is_some_and(char::is_ascii_digit);
    // One comma between digits makes every mark of the text fall away without a space.
    let grouped =
        characters.windows(3).any(|three| three[1] == ',' && digit(three.first()) && digit(three.last()));
    let beside_space = |mark: char| characters.windows(2).any(|two| two == [mark, ' '] || two == [' ', mark]);
    let mut kept = String::with_capacity(text.len());
    for (at, &character) in characters.iter().enumerate() {
        match character {
            mark if MARKS.contains(mark) => {
                if !grouped && !beside_space(mark) {
                    kept.push(' ');
                }
            }
            // A full stop stays where a digit follows.
            '.' if !digit(characters.get(at + 1)) => {}
            other => kept.push(other),
        }
    }
    kept
}

fn one_form(word: &str) -> &str {
    if let Some((_, number)) = NUMBERS.iter().find(|(name, _)| *name == word) {
        return number;
    }
    let bare = |text: &str| text.replace('\'', "");
    let plain = bare(word);
    CONTRACTIONS.iter().find(|contraction| bare(contraction) == plain).copied().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::normalise_answer;

    #[test]
    fn official_cases() {
        for (answer, form) in [
            ("Yes", "yes"),
            ("yes.", "yes"),
            ("a red car", "red car"),
            ("An apple, the pear", "apple pear"),
            ("none", "0"),
            ("Ten", "10"),
            ("black/white", "black white"),
            ("black / white", "black white"),
            ("1,000", "1000"),
            ("1,000-ish", "1000ish"),
            ("t-shirt", "t shirt"),
            ("12.5", "12.5"),
            ("12.", "12"),
            ("dont", "don't"),
            ("couldnt've", "couldn't've"),
            ("its well", "its well"),
            ("what?", "what"),
            ("new\nyork\tcity", "new york city"),
        ] {
            assert_eq!(normalise_answer(answer), form, "{answer:?}");
        }
    }

    #[test]
    fn empty_answers_and_other_scripts() {
        assert_eq!(normalise_answer(""), "");
        assert_eq!(normalise_answer(" \n the "), "");
        assert_eq!(normalise_answer("?!"), "");
        assert_eq!(normalise_answer("Straße"), "straße");
        assert_eq!(normalise_answer("ÉCLAIR 東京 😀"), "éclair 東京 😀");
        assert_eq!(normalise_answer("[one, two]"), "1 2");
    }

    proptest! {
        #[test]
        fn any_text_has_a_form(text in "\\PC{0,40}") {
            let form = normalise_answer(&text);
            prop_assert_eq!(form.trim(), &form);
            prop_assert!(!form.contains("  "));
        }

        #[test]
        fn case_and_surrounding_space_say_nothing(text in "[a-zA-Z0-9 ,.!?'-]{0,40}") {
            prop_assert_eq!(normalise_answer(&text), normalise_answer(&format!(" {} ", text.to_uppercase())));
        }
    }
}
