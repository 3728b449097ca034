//! One rung of several: by what each costs and the error that it is expected to have.

use serde::Serialize;

/// A number of visual tokens on offer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rung {
    /// Tokens that stand for an image.
    pub visual_tokens: usize,
    /// The error expected of an answer, 0 to 1.
    pub error: f64,
    /// What an answer costs, in the unit of [`Limits::budget`].
    pub cost: f64,
}

/// What a choice is bound by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The most that an answer may cost.
    pub budget: Option<f64>,
    /// How far the error may lie above the least that can be afforded, where that is cheaper; 0 or more.
    pub tolerance: f64,
}

/// What was chosen, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// The rung.
    pub rung: Rung,
    /// The least error of the rungs that can be afforded.
    pub least_error: f64,
    /// How many can be afforded.
    pub affordable: usize,
}

/// Nothing can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{}", match .cheapest {
    Some(rung) => format!("the cheapest, {} visual tokens, costs more than may be spent", rung.visual_tokens),
    None => "there is no number of visual tokens to choose from".to_owned(),
})]
pub struct Nothing {
    /// What costs least; `None` where nothing is on offer.
    pub cheapest: Option<Rung>,
}

/// The cheapest of the affordable rungs whose error is within the tolerance of the least affordable one; of several that cost
/// the same the one that errs least, then the one with the fewest tokens. Rungs whose error or cost is no number do not count.
///
/// With more to spend the choice never costs less, and without a tolerance it never errs more.
///
/// # Errors
/// [`Nothing`] where no rung is affordable.
pub fn choose(rungs: &[Rung], limits: Limits) -> Result<Choice, Nothing> {
    let known = || rungs.iter().filter(|rung| rung.error.is_finite() && rung.cost.is_finite());
    let affordable = || known().filter(|rung| limits.budget.is_none_or(|budget| rung.cost <= budget));
    let least_error = affordable().map(|rung| rung.error).min_by(f64::total_cmp);
    let most_error = least_error.map(|least| least + limits.tolerance.max(0.0));
    let rung = most_error.and_then(|most| cheapest(affordable().filter(|rung| rung.error <= most)));
    match (rung, least_error) {
        (Some(rung), Some(least_error)) => Ok(Choice { rung, least_error, affordable: affordable().count() }),
        _ => Err(Nothing { cheapest: cheapest(known()) }),
    }
}

fn cheapest<'a>(rungs: impl Iterator<Item = &'a Rung>) -> Option<Rung> {
    let order = |one: &Rung, other: &Rung| {
        let by_cost = one.cost.total_cmp(&other.cost).then(one.error.total_cmp(&other.error));
        by_cost.then(one.visual_tokens.cmp(&other.visual_tokens))
    };
    rungs.copied().min_by(order)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn rung(visual_tokens: usize, error: f64, cost: f64) -> Rung {
        Rung { visual_tokens, error, cost }
    }

    #[test]
    fn a_tolerance_saves_and_a_budget_bounds() {
        let rungs = [rung(1, 0.50, 1.0), rung(4, 0.42, 2.0), rung(16, 0.40, 5.0), rung(64, 0.41, 20.0)];
        let tokens = |budget, tolerance| {
            choose(&rungs, Limits { budget, tolerance }).map(|choice| choice.rung.visual_tokens)
        };
        assert_eq!(tokens(None, 0.0), Ok(16));
        assert_eq!(tokens(None, 0.02 + 1e-12), Ok(4));
        assert_eq!(tokens(None, 0.2), Ok(1));
        assert_eq!(tokens(Some(4.9), 0.0), Ok(4));
        assert_eq!(tokens(Some(1.0), 0.0), Ok(1));
        let nothing = tokens(Some(0.9), 0.0).unwrap_err();
        assert_eq!(nothing.cheapest, Some(rungs[0]));
        assert!(nothing.to_string().contains("1 visual tokens"), "{nothing}");
        let empty = choose(&[rung(1, f64::NAN, 1.0)], Limits { budget: None, tolerance: 0.0 }).unwrap_err();
        assert_eq!(empty.cheapest, None);
    }

    /// Coarse numbers, so that ties are common.
    fn rungs() -> impl Strategy<Value = Vec<Rung>> {
        let one = (0..9_usize, 0..12_u8, 0..12_u8)
            .prop_map(|(tokens, error, cost)| rung(tokens, f64::from(error) / 12.0, f64::from(cost)));
        proptest::collection::vec(one, 0..9)
    }

    /// What the documentation says, by trying all pairs.
    fn exhaustive(rungs: &[Rung], limits: Limits) -> Option<Rung> {
        let fits = |rung: &&Rung| limits.budget.is_none_or(|budget| rung.cost <= budget);
        let fine = |rung: &&Rung| {
            rungs.iter().filter(fits).all(|other| rung.error <= other.error + limits.tolerance)
        };
        let key = |rung: &Rung| (rung.cost, rung.error, rung.visual_tokens);
        let good: Vec<&Rung> = rungs.iter().filter(fits).filter(fine).collect();
        good.iter().find(|rung| good.iter().all(|other| key(rung) <= key(other))).map(|rung| **rung)
    }

    proptest! {
        #[test]
        fn it_is_what_trying_all_finds(rungs in rungs(), budget in proptest::option::of(0..12_u8), tolerance in 0..6_u8) {
            let limits = Limits { budget: budget.map(f64::from), tolerance: f64::from(tolerance) / 12.0 };
            let chosen = choose(&rungs, limits).ok().map(|choice| choice.rung);
            prop_assert_eq!(chosen, exhaustive(&rungs, limits));
            if let Some(chosen) = chosen {
                prop_assert!(rungs.contains(&chosen), "never off the ladder");
                prop_assert!(limits.budget.is_none_or(|budget| chosen.cost <= budget));
            }
        }

        #[test]
        fn more_to_spend_buys_no_less(rungs in rungs(), budget in 0..12_u8, more in 0..12_u8, tolerance in 0..6_u8) {
            let at = |budget: u8, tolerance: f64| {
                choose(&rungs, Limits { budget: Some(f64::from(budget)), tolerance }).ok()
            };
            let tolerance = f64::from(tolerance) / 12.0;
            if let Some(first) = at(budget, tolerance) {
                let second = at(budget + more, tolerance);
                prop_assert!(second.is_some());
                prop_assert!(second.is_some_and(|second| second.rung.cost >= first.rung.cost));
            }
            if let (Some(first), Some(second)) = (at(budget, 0.0), at(budget + more, 0.0)) {
                prop_assert!(second.rung.error <= first.rung.error);
            }
        }
    }
}
