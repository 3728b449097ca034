//! What a law buys for what was measured: the size and the visual tokens of the least predicted error at each cost, in FLOPs and
//! in milliseconds, the tower included in both. The paper's own cost, 2·N·V, leaves the tower out, and with it most of what few
//! visual tokens cost.

use std::collections::BTreeMap;

use foveate_law::plan::count;
use foveate_law::{Assessment, Units};

use super::measured::{Cost, Point};
use super::page::Block;

/// A size at a number of visual tokens: means over its training runs.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offer {
    params: u64,
    visual_tokens: f64,
    cost: f64,
    /// What the law says.
    predicted: f64,
    /// What was measured.
    error: f64,
}

/// A sentence and a table for this cost; nothing where nothing was measured.
pub(super) fn section(points: &[Point], assessment: &Assessment, units: Units, cost: Cost) -> Vec<Block> {
    let bought = bought(points, assessment, units, cost);
    let Some(fewest) = points.iter().map(|point| point.visual_tokens).min_by(f64::total_cmp) else {
        return Vec::new();
    };
    let (unit, scale) = cost.shown();
    let few = bought.iter().filter(|offer| offer.visual_tokens == fewest).count();
    let largest = points.iter().map(|point| point.params).max().unwrap_or(0);
    // Where size is still to be had, tokens compete with it.
    let smaller: Vec<&Offer> = bought.iter().filter(|offer| offer.params < largest).collect();
    let few_smaller = smaller.iter().filter(|offer| offer.visual_tokens == fewest).count();
    let about = format!(
        "What the law buys for {}: of {} choices that no cheaper one beats, {few} have the fewest visual tokens, {fewest}; of the {} \
         below the largest language model, {few_smaller}.",
        cost.words(),
        bought.len(),
        smaller.len(),
    );
    let row = |offer: &Offer| {
        vec![
            format!("{:.3}", offer.cost / scale),
            count(offer.params as f64),
            offer.visual_tokens.to_string(),
            format!("{:.4}", offer.predicted),
            format!("{:.4}", offer.error),
        ]
    };
    let header = [unit, "N", "V", "predicted error", "measured error"].map(str::to_owned).into();
    vec![Block::Text(about), Block::Table { header, rows: bought.iter().map(row).collect() }]
}

/// The offers of which no other has a lower predicted error at the same or a lower cost, cheapest first.
fn bought(points: &[Point], assessment: &Assessment, units: Units, cost: Cost) -> Vec<Offer> {
    let mut groups: BTreeMap<(u64, u64), Vec<&Point>> = BTreeMap::new();
    for point in points {
        groups.entry((point.params, point.visual_tokens.to_bits())).or_default().push(point);
    }
    let law = &assessment.fit.law;
    let offer = |points: Vec<&Point>| {
        let mean = |of: &dyn Fn(&Point) -> f64| {
            points.iter().map(|point| of(point)).sum::<f64>() / points.len() as f64
        };
        let (params, visual_tokens) = (points[0].params, points[0].visual_tokens);
        Offer {
            params,
            visual_tokens,
            cost: mean(&|point| cost.of(point)),
            predicted: units.predict(law, params as f64, visual_tokens, 0.0),
            error: mean(&|point| point.error),
        }
    };
    let mut offers: Vec<Offer> = groups.into_values().map(offer).collect();
    offers.sort_by(|one, other| {
        one.cost.total_cmp(&other.cost).then(one.predicted.total_cmp(&other.predicted))
    });
    let mut least = f64::INFINITY;
    offers.retain(|offer| {
        let better = offer.predicted < least;
        least = least.min(offer.predicted);
        better
    });
    offers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_law::{FitOptions, Form, ReadOptions, Tokens, assess, read_str};

    use super::*;

    const UNITS: Units = Units { scale1: 1e6, scale2: 1.0, tokens: Tokens::Visual };

    /// Errors of a law; FLOPs without a tower, milliseconds with one of 4 GFLOP at 1 TFLOP a second.
    fn points(alpha: f64, beta: f64) -> (Vec<Point>, Assessment) {
        let mut points = Vec::new();
        let mut csv = String::from("params,visual_tokens,error\n");
        for params in [1_000_000_u64, 4_000_000, 16_000_000, 64_000_000] {
            for visual_tokens in [1.0_f64, 4.0, 16.0, 64.0] {
                let error = 0.6 * (params as f64 / 1e6).powf(-alpha) * visual_tokens.powf(-beta);
                let language = 2.0 * params as f64 * visual_tokens;
                points.push(Point {
                    params,
                    visual_tokens,
                    error,
                    flops: language,
                    ms: (language + 4e9) / 1e9,
                });
                csv += &format!("{params},{visual_tokens},{error}\n");
            }
        }
        let options = ReadOptions { scale1: 1e6, ..ReadOptions::default() };
        let table = read_str(&csv, "test", &options).unwrap().swap_remove(0);
        let found = assess(&table, Some(Form::Product), &FitOptions::default(), UNITS, None).unwrap();
        (points, found)
    }

    #[test]
    fn no_cheaper_choice_beats_what_is_bought() {
        let (points, law) = points(0.2, 0.1);
        let flops = bought(&points, &law, UNITS, Cost::Flops);
        let time = bought(&points, &law, UNITS, Cost::Time);
        // α above β: without the tower one token until the largest language model is reached.
        assert!(
            flops.iter().filter(|offer| offer.params < 64_000_000).all(|offer| offer.visual_tokens == 1.0),
            "{flops:?}"
        );
        assert!(flops[0].params == 1_000_000 && flops.last().unwrap().visual_tokens == 64.0);
        // The tower costs the same everywhere, so that the order of costs and the choices are the same, at other costs.
        assert_eq!(time.len(), flops.len());
        assert!(time.iter().all(|offer| offer.cost >= 4e-3), "{time:?}");
        for offer in flops.iter().chain(&time) {
            assert!((offer.predicted - offer.error).abs() < 1e-6, "{offer:?}");
        }
        let beaten = |offer: &Offer| {
            points.iter().any(|point| Cost::Flops.of(point) < offer.cost && point.error < offer.error - 1e-9)
        };
        assert!(!flops.iter().any(beaten), "nothing measured beats them");
    }

    #[test]
    fn what_is_bought_is_said_in_words() {
        let (points, law) = points(0.05, 0.4);
        let blocks = section(&points, &law, UNITS, Cost::Time);
        let Block::Text(said) = &blocks[0] else { panic!("{blocks:?}") };
        assert!(
            said.contains("time of a question, tower included") && said.contains("fewest visual tokens, 1;"),
            "{said}"
        );
        let Block::Table { header, rows } = &blocks[1] else { panic!("{blocks:?}") };
        assert_eq!((header[0].as_str(), rows[0].len()), ("ms", 5));
        // Tokens are worth more than size here: the smallest model takes sixteen before a larger one takes one.
        assert!(rows.iter().any(|row| row[1] == "1M" && row[2] == "16"), "{rows:?}");
        assert!(section(&[], &law, UNITS, Cost::Time).is_empty());
    }
}
