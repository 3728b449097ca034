//! The error of a model by family of questions and number of visual tokens: measured rung by rung, or predicted by a law.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::PlannedLaw;
use crate::error::LawError;
use crate::tokens::Tokens;

/// What a model folder's `laws.json` holds. A file that `foveate fit --task family` wrote is read as well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorTable {
    /// What makes the visual tokens; `None` where the file does not say.
    #[serde(default)]
    pub compressor: Option<String>,
    /// By family.
    pub families: BTreeMap<String, Errors>,
}

/// The errors of a family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Errors {
    /// Of each rung that was measured.
    Measured(MeasuredErrors),
    /// Of a law over model size and tokens.
    Law(Box<PlannedLaw>),
}

/// Errors as they were measured: means over the tasks of a family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MeasuredErrors {
    /// The tasks.
    #[serde(default)]
    pub tasks: Vec<String>,
    /// One for each number of visual tokens.
    pub rungs: Vec<RungError>,
}

/// The error at a number of visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RungError {
    /// Visual tokens of a picture.
    pub visual_tokens: usize,
    /// 0 to 1.
    pub error: f64,
    /// Its standard error, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_se: Option<f64>,
    /// Questions answered, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<usize>,
}

/// What is read: a table, or what `foveate fit` wrote of one family or of several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Table(ErrorTable),
    Fits { fits: Vec<PlannedLaw> },
    Fit(Box<PlannedLaw>),
}

impl ErrorTable {
    /// Reads a document; `origin` is what errors call it.
    ///
    /// # Errors
    /// [`LawError::Unreadable`] for anything but a table or laws named after their families, and for numbers that no
    /// measurement can have.
    pub fn from_json(origin: &str, text: &str) -> Result<ErrorTable, LawError> {
        let refuse = |message: String| LawError::Unreadable { origin: origin.to_owned(), message };
        let stored = serde_json::from_str(text).map_err(|error: serde_json::Error| {
            if error.is_data() {
                let wanted =
                    "`foveate calibrate` writes a table of errors, `foveate fit --task family --out` laws";
                refuse(format!("neither a table of errors by family nor laws; {wanted}"))
            } else {
                refuse(format!("not JSON: {error}"))
            }
        })?;
        let table = match stored {
            Stored::Table(table) => table,
            Stored::Fit(law) => ErrorTable::of_laws(vec![*law]).map_err(refuse)?,
            Stored::Fits { fits } => ErrorTable::of_laws(fits).map_err(refuse)?,
        };
        table.check().map_err(refuse)?;
        Ok(table)
    }

    /// A law for each family: their tasks are the families' names.
    fn of_laws(laws: Vec<PlannedLaw>) -> Result<ErrorTable, String> {
        let mut families = BTreeMap::new();
        for law in laws {
            let Some(family) = law.task.clone() else {
                return Err("a law without a task; `--task family` names each after its family".to_owned());
            };
            // What a plan needs of refits is not needed here.
            let law = PlannedLaw { draws: Vec::new(), ..law };
            if families.insert(family.clone(), Errors::Law(Box::new(law))).is_some() {
                return Err(format!("two laws of {family}"));
            }
        }
        Ok(ErrorTable { compressor: None, families })
    }

    fn check(&self) -> Result<(), String> {
        if self.families.is_empty() {
            return Err("no family has errors".to_owned());
        }
        self.families.iter().try_for_each(|(family, errors)| match errors {
            Errors::Law(law) if law.is_sound() => Ok(()),
            Errors::Law(_) => {
                Err(format!("{family}: a coefficient, scale or range is negative, zero or not finite"))
            }
            Errors::Measured(measured) => {
                let rungs = &measured.rungs;
                if rungs.is_empty() {
                    return Err(format!("{family}: no number of visual tokens has an error"));
                }
                rungs.iter().enumerate().try_for_each(|(nth, rung)| {
                    let (tokens, error) = (rung.visual_tokens, rung.error);
                    if tokens == 0 || !(0.0..=1.0).contains(&error) {
                        let allowed = "an error from 0 to 1 at one token or more";
                        return Err(format!(
                            "{family}: error {error} at {tokens} tokens; {allowed} is needed"
                        ));
                    }
                    match rungs[..nth].iter().any(|other| other.visual_tokens == tokens) {
                        true => Err(format!("{family}: {tokens} tokens have two errors")),
                        false => Ok(()),
                    }
                })
            }
        })
    }

    /// The error to expect at each number of `ladder`, in its order: the mean over the families, weighted by how likely the
    /// question is of each. Numbers at which a family was not measured are left out. `params` is the language model's size,
    /// `text_tokens` what it reads besides the image; both matter to laws alone.
    ///
    /// # Errors
    /// [`LawError::NoFamily`] for a family that has no errors here.
    pub fn expected(
        &self,
        families: &[(String, f64)],
        params: f64,
        text_tokens: f64,
        ladder: &[usize],
    ) -> Result<Vec<(usize, f64)>, LawError> {
        let parts = families.iter().map(|(family, probability)| {
            let errors = self.families.get(family).ok_or_else(|| LawError::NoFamily {
                family: family.clone(),
                known: self.families.keys().cloned().collect(),
            })?;
            Ok((errors, *probability))
        });
        let parts = parts.collect::<Result<Vec<_>, LawError>>()?;
        let at = |tokens: usize| {
            let mut sum = 0.0;
            for (errors, probability) in &parts {
                sum += probability * errors.at(tokens, params, text_tokens)?;
            }
            Some((tokens, sum))
        };
        Ok(ladder.iter().filter_map(|tokens| at(*tokens)).collect())
    }
}

impl Errors {
    /// The error at a number of visual tokens; `None` where nothing was measured. A law knows the numbers between the fewest
    /// and the most that it was fitted to.
    pub fn at(&self, visual_tokens: usize, params: f64, text_tokens: f64) -> Option<f64> {
        match self {
            Errors::Measured(measured) => {
                measured.rungs.iter().find(|rung| rung.visual_tokens == visual_tokens).map(|rung| rung.error)
            }
            Errors::Law(law) => {
                let tokens = visual_tokens as f64;
                let counted = match law.units.tokens {
                    Tokens::Visual => tokens,
                    Tokens::Total { .. } => tokens + text_tokens,
                };
                let [least, most] = law.measured.x2;
                // Questions are longer and shorter than those of the measurements; the image is what is chosen.
                let inside = match law.units.tokens {
                    Tokens::Visual => (least..=most).contains(&counted),
                    Tokens::Total { .. } => counted <= most,
                };
                inside.then(|| law.predict(params, tokens, text_tokens))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TABLE: &str = r#"{"compressor": "quecc", "families": {
        "reasoning": {"tasks": ["scenes"], "rungs": [{"visual_tokens": 1, "error": 0.4, "error_se": 0.01, "questions": 500},
            {"visual_tokens": 4, "error": 0.3}, {"visual_tokens": 16, "error": 0.3}]},
        "text": {"rungs": [{"visual_tokens": 1, "error": 1.0}, {"visual_tokens": 16, "error": 0.5}]}}}"#;

    fn guess(reasoning: f64) -> Vec<(String, f64)> {
        vec![("reasoning".to_owned(), reasoning), ("text".to_owned(), 1.0 - reasoning)]
    }

    #[test]
    fn errors_are_weighted_by_how_likely_each_family_is() {
        let table = ErrorTable::from_json("laws.json", TABLE).unwrap();
        // Four tokens were not measured for text, two and 64 for neither.
        let found = table.expected(&guess(0.75), 1e6, 20.0, &[64, 16, 4, 2, 1]).unwrap();
        let wanted = [(16, 0.75 * 0.3 + 0.25 * 0.5), (1, 0.75 * 0.4 + 0.25)];
        assert_eq!(found.len(), 2);
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.0 == wanted.0 && (found.1 - wanted.1).abs() < 1e-12, "{found:?} {wanted:?}");
        }
        let error = table.expected(&[("speech".to_owned(), 1.0)], 1e6, 20.0, &[1]).unwrap_err().to_string();
        assert!(error.contains("speech") && error.contains("reasoning, text"), "{error}");
        let written = serde_json::to_string(&table).unwrap();
        assert_eq!(ErrorTable::from_json("again", &written).unwrap(), table);
    }

    #[test]
    fn what_a_fit_wrote_is_a_table() {
        let law = |task: &str, beta: f64| {
            format!(
                r#"{{"task": "{task}", "source": "results.csv", "coefficients": {{"A": 0.5, "alpha": 0.1, "beta": {beta}, "D": 0.0}},
                "units": {{"scale1": 1e6, "scale2": 1.0, "tokens": {{"convention": "visual"}}}},
                "measured": {{"x1": [1e5, 1e7], "x2": [1.0, 16.0]}}, "findings": ["more"], "draws": []}}"#
            )
        };
        let both = format!(r#"{{"fits": [{}, {}]}}"#, law("reasoning", 0.01), law("text", 0.4));
        let table = ErrorTable::from_json("fit.json", &both).unwrap();
        let found = table.expected(&guess(0.0), 1e6, 20.0, &[64, 16, 4, 1]).unwrap();
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [16, 4, 1], "64 were not measured");
        assert!((found[0].1 - 0.5 * 16_f64.powf(-0.4)).abs() < 1e-12);
        let written = serde_json::to_string(&table).unwrap();
        assert_eq!(ErrorTable::from_json("again", &written).unwrap(), table);
        let twice = format!(r#"{{"fits": [{}, {}]}}"#, law("text", 0.01), law("text", 0.4));
        let error = ErrorTable::from_json("fit.json", &twice).unwrap_err().to_string();
        assert_eq!(error, "fit.json: two laws of text");
    }

    #[test]
    fn what_is_no_table_is_named() {
        for (old, new, part) in [
            ("0.4", "1.4", "error 1.4 at 1 tokens"),
            ("\"visual_tokens\": 4", "\"visual_tokens\": 1", "1 tokens have two errors"),
            ("\"visual_tokens\": 4", "\"visual_tokens\": 0", "at 0 tokens"),
            ("\"families\"", "\"familie\"", "foveate calibrate"),
            ("}}}", "}}", "not JSON"),
        ] {
            let text = TABLE.replacen(old, new, 1);
            let error = ErrorTable::from_json("laws.json", &text).unwrap_err().to_string();
            assert!(error.starts_with("laws.json: ") && error.contains(part), "{error}");
        }
        let empty = ErrorTable::from_json("laws.json", r#"{"families": {}}"#).unwrap_err().to_string();
        assert!(empty.contains("no family"), "{empty}");
    }
}
