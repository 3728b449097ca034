//! The continuous optimum: which (N, V) is best at a fixed cost 2·N·(q + s·V), were both free.
//!
//! Product form with T = V (method of arXiv 2411.03312): V* = β·q / ((α − β)·s) when α > β; otherwise every FLOP is better
//! spent on tokens. Sum form without text: V* from equal marginal gains, in closed form; with text by bisection.

use serde::Serialize;

use super::judged::quantiles;
use crate::document::PlannedLaw;
use crate::form::Law;
use crate::tokens::Tokens;

/// How the optimum was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OptimumKind {
    /// From the formula.
    ClosedForm,
    /// By bisection.
    Numeric,
    /// The best V is the smallest on offer.
    SmallestV,
    /// The best V is the largest on offer.
    LargestV,
}

/// The best (N, V) at the budget, both taken as continuous.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Optimum {
    /// Visual tokens.
    pub visual_tokens: f64,
    /// 95 % interval of the visual tokens over the bootstrap.
    pub visual_tokens_ci95: Option<[f64; 2]>,
    /// Parameters of the language model that the rest of the budget pays for.
    pub params: f64,
    /// Predicted error there.
    pub error: f64,
    /// How it was found.
    pub kind: OptimumKind,
}

/// What a FLOP budget buys: 2·N·(text + share·V) FLOPs for N parameters and V visual tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    /// Half the budget, in parameter-tokens.
    pub(crate) product: f64,
    /// Text tokens that are paid for.
    pub(crate) text: f64,
    /// What one visual token counts (1/k for k questions that share them).
    pub(crate) share: f64,
    /// Text tokens that are read, paid for or not (only the total convention asks).
    pub(crate) read: f64,
}

/// The optimum between the smallest and largest V on offer.
pub(crate) fn optimum(law: &PlannedLaw, exchange: Exchange, [smallest, largest]: [f64; 2]) -> Optimum {
    let (visual_tokens, kind) = best_tokens(&law.coefficients, law, exchange, [smallest, largest]);
    let params = exchange.product / (exchange.text + exchange.share * visual_tokens);
    let draws: Vec<f64> =
        law.draws.iter().map(|draw| best_tokens(draw, law, exchange, [smallest, largest]).0).collect();
    Optimum {
        visual_tokens,
        visual_tokens_ci95: quantiles(draws),
        params,
        error: law.predict(params, visual_tokens, exchange.read),
        kind,
    }
}

fn best_tokens(
    law: &Law,
    planned: &PlannedLaw,
    exchange: Exchange,
    [smallest, largest]: [f64; 2],
) -> (f64, OptimumKind) {
    let Exchange { product, text, share, read } = exchange;
    let bounded = |value: f64, kind| match value {
        value if value <= smallest => (smallest, OptimumKind::SmallestV),
        value if value >= largest => (largest, OptimumKind::LargestV),
        value => (value, kind),
    };
    let visual = planned.units.tokens == Tokens::Visual;
    match *law {
        Law::Product { alpha, beta, .. } if visual && alpha > beta => {
            bounded(beta * text / ((alpha - beta) * share), OptimumKind::ClosedForm)
        }
        Law::Product { .. } if visual => (largest, OptimumKind::LargestV),
        // In the law's units: error = A·(P/V)^-α + B·V^-β with P the budget, marginal gains equal.
        Law::Sum { a, alpha, b, beta, .. } if visual && text == 0.0 => {
            let units = planned.units;
            let budget = product / share / (units.scale1 * units.scale2);
            let power = (b * beta / (a * alpha)) * budget.powf(alpha);
            bounded(power.powf(1.0 / (alpha + beta)) * units.scale2, OptimumKind::ClosedForm)
        }
        _ => {
            // The error along the budget line falls, then rises (or does one of both) in ln V: halve on its slope.
            let error = |ln_tokens: f64| {
                let tokens = ln_tokens.exp();
                planned.units.predict(law, product / (text + share * tokens), tokens, read)
            };
            let slope = |at: f64| error(at + 1e-4) - error(at - 1e-4);
            let (mut low, mut high) = (smallest.ln(), largest.ln());
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if slope(middle) < 0.0 { low = middle } else { high = middle }
            }
            match 0.5 * (low + high) {
                middle if middle - smallest.ln() < 1e-9 => (smallest, OptimumKind::SmallestV),
                middle if largest.ln() - middle < 1e-9 => (largest, OptimumKind::LargestV),
                middle => (middle.exp(), OptimumKind::Numeric),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Measured;
    use crate::tokens::Units;
    use proptest::prelude::*;

    fn planned(law: Law) -> PlannedLaw {
        PlannedLaw {
            task: None,
            source: "test".into(),
            columns: None,
            coefficients: law,
            units: Units { scale1: 1e9, scale2: 1.0, tokens: Tokens::Visual },
            measured: Measured { x1: [5e8, 7e9], x2: [1.0, 576.0] },
            draws: Vec::new(),
        }
    }

    /// method.md: Q = 50 gives 12.1 with the published exponents, 13.5 with the refitted ones; Q = 0 the smallest V.
    #[test]
    fn published_and_refitted_exponents_at_fifty_text_tokens() {
        for (alpha, beta, wanted) in [(0.077, 0.015, "12.1"), (0.070937, 0.015102, "13.5")] {
            let law = planned(Law::Product { a: 0.59, alpha, beta, d: 0.0 });
            let mut exchange = Exchange { product: 1e12, text: 50.0, share: 1.0, read: 50.0 };
            let found = optimum(&law, exchange, [1.0, 576.0]);
            assert_eq!(format!("{:.1}", found.visual_tokens), wanted);
            assert_eq!(found.kind, OptimumKind::ClosedForm);
            exchange.text = 0.0;
            assert_eq!(optimum(&law, exchange, [1.0, 576.0]).visual_tokens, 1.0);
        }
        let reading = planned(Law::Product { a: 0.9, alpha: 0.028, beta: 0.039, d: 0.0 });
        let exchange = Exchange { product: 1e12, text: 50.0, share: 1.0, read: 50.0 };
        assert_eq!(optimum(&reading, exchange, [1.0, 576.0]).kind, OptimumKind::LargestV);
    }

    proptest! {
        /// Nothing on the budget line beats the optimum, for every law, text and share.
        #[test]
        fn no_point_of_the_line_is_better(
            parts in (0.1_f64..0.8, 0.02_f64..0.6, 0.1_f64..0.8, 0.02_f64..0.6, any::<bool>()),
            text in prop_oneof![Just(0.0), 1.0_f64..200.0],
            share in prop_oneof![Just(1.0), 0.05_f64..1.0],
            total in any::<bool>(),
        ) {
            let (a, alpha, b, beta, sum) = parts;
            let mut law = planned(match sum {
                true => Law::Sum { a, alpha, b, beta, e: 0.05 },
                false => Law::Product { a, alpha, beta, d: 0.05 },
            });
            if total {
                law.units.tokens = Tokens::Total { text_tokens: text };
            }
            let exchange = Exchange { product: 3e11, text, share, read: text };
            let found = optimum(&law, exchange, [1.0, 576.0]);
            for step in 0..=200 {
                let tokens = 576_f64.powf(f64::from(step) / 200.0);
                let there = law.predict(3e11 / (text + share * tokens), tokens, text);
                prop_assert!(found.error <= there + 1e-9, "{found:?} against {tokens}: {there}");
            }
        }
    }
}
