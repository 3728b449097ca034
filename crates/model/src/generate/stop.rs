//! Stop strings, found wherever the token boundaries fall.

use crate::{ModelError, Result};

/// Looks for stop strings in a stream of text and holds back what may be the start of one.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Text that is safe to show: no stop string, and no beginning of one at its end.
    pub text: String,
    /// The index of the stop string that was found, if one was; nothing from its first character on is shown.
    pub stop: Option<usize>,
}

impl StopStrings {
    /// # Errors
    /// [`ModelError::Option`] for an empty stop string.
    pub fn new(stops: Vec<String>) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(ModelError::option("stop string", "\"\"", "must not be empty"));
        }
        Ok(Self { stops, held: String::new() })
    }

    /// Adds text. Of several stop strings the one that is complete first wins, then the longest: cutting the text into
    /// other pieces finds the same one.
    pub fn push(&mut self, text: &str) -> Scanned {
        self.held.push_str(text);
        let found = self.stops.iter().enumerate().filter_map(|(index, stop)| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, index))
        });
        if let Some((_, start, index)) = found.min() {
            self.held.truncate(start);
            return Scanned { text: std::mem::take(&mut self.held), stop: Some(index) };
        }
        let starts = self.held.char_indices().map(|(at, _)| at);
        let suspicious = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let safe = starts.into_iter().find(suspicious).unwrap_or(self.held.len());
        let rest = self.held.split_off(safe);
        Scanned { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// The text held back, when no more follows.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn stops(list: &[&str]) -> StopStrings {
        StopStrings::new(list.iter().map(|stop| (*stop).to_owned()).collect()).unwrap()
    }

    #[test]
    fn holds_back_only_what_may_become_a_stop() {
        let mut stops = stops(&["</s>"]);
        assert_eq!(stops.push("a <"), Scanned { text: "a ".to_owned(), stop: None });
        assert_eq!(stops.push("/b <"), Scanned { text: "</b ".to_owned(), stop: None });
        assert_eq!(stops.push("/s> c"), Scanned { text: String::new(), stop: Some(0) });
        assert_eq!(stops.finish(), "");
    }

    #[test]
    fn an_unfinished_stop_is_shown_at_the_end() {
        let mut stops = stops(&["\n\nUser:"]);
        assert_eq!(stops.push("yes\n\nUse").text, "yes");
        assert_eq!(stops.finish(), "\n\nUse");
        assert!(StopStrings::new(vec![String::new()]).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_shows_the_same_text(
            text in "[abé]{0,24}",
            list in prop::collection::vec("[abé]{1,4}", 0..3),
            cuts in prop::collection::vec(0_usize..24, 0..6),
        ) {
            let run = |pieces: Vec<String>| {
                let mut stops = StopStrings::new(list.clone()).unwrap();
                let mut shown = String::new();
                for piece in pieces {
                    let scanned = stops.push(&piece);
                    shown += &scanned.text;
                    if scanned.stop.is_some() {
                        return (shown, scanned.stop);
                    }
                }
                (shown + &stops.finish(), None)
            };
            let mut pieces = vec![String::new()];
            for (at, character) in text.chars().enumerate() {
                if cuts.contains(&at) {
                    pieces.push(String::new());
                }
                pieces.last_mut().unwrap().push(character);
            }
            let (shown, stop) = run(pieces);
            prop_assert_eq!((shown.clone(), stop), run(vec![text.clone()]));
            prop_assert!(text.starts_with(&shown));
            match stop {
                Some(stop) => prop_assert!(text[shown.len()..].starts_with(&list[stop])),
                None => prop_assert!(shown == text && list.iter().all(|stop| !text.contains(stop))),
            }
        }
    }
}
