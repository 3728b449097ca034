//! Names as people type them: case and punctuation do not matter, and a miss suggests the nearest.

use super::error::CostError;

/// Lower case, letters and digits only, so that `Token_Packer`, `token-packer` and `TokenPacker` are one name.
pub(crate) fn fold(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// One choice: the value, the name it prints as, other names it answers to.
pub(crate) type Choice<T> = (T, &'static str, &'static [&'static str]);

/// The choice that answers to `given`.
pub(crate) fn choose<T: Copy>(kind: &'static str, given: &str, table: &[Choice<T>]) -> Result<T, CostError> {
    let wanted = fold(given);
    table
        .iter()
        .find(|(_, name, others)| fold(name) == wanted || others.iter().any(|other| fold(other) == wanted))
        .map(|(value, ..)| *value)
        .ok_or_else(|| unknown(kind, given, table.iter().map(|(_, name, _)| *name)))
}

/// The error for a name that nothing answers to.
pub(crate) fn unknown<'a>(
    kind: &'static str,
    given: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> CostError {
    let list = known.clone().collect::<Vec<_>>().join(", ");
    CostError::Unknown {
        kind,
        name: given.chars().take(100).collect(),
        nearest: nearest(given, known),
        known: if list.is_empty() { "none".to_owned() } else { list },
    }
}

/// The known name with the fewest edits from `given`, if a typing error could explain the difference.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let given: Vec<char> = fold(given).chars().take(64).collect();
    let (distance, name) = known
        .map(|name| (edits(&given, &fold(name).chars().collect::<Vec<_>>()), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= given.len() / 3 + 1).then(|| name.to_owned())
}

/// Levenshtein distance.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Serialises a type as the string it prints and reads it back through `FromStr`.
macro_rules! serde_as_string {
    ($type:ty) => {
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
        impl TryFrom<String> for $type {
            type Error = $crate::cost::CostError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
    };
}
pub(crate) use serde_as_string;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_levenshtein() {
        let distance =
            |a: &str, b: &str| edits(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_typing_error_is_suggested_and_nonsense_is_not() {
        let known = ["quecc", "tokenpacker"];
        assert_eq!(nearest("QueC", known.into_iter()).as_deref(), Some("quecc"));
        assert_eq!(nearest("zzzzzzzz", known.into_iter()), None);
    }
}
