//! Choosing patches by a score, the same way every time.

use candle_core::{D, Tensor};

use crate::Result;

/// Positions by descending score; where scores are equal the lower position stands first.
pub(crate) fn descending(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a])); // a stable sort
    order
}

/// Quartile by linear interpolation between the sorted values, `share` 0.25 or 0.75.
fn quantile(sorted: &[f32], share: f64) -> f64 {
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(below), Some(above)) => {
            let (below, above) = (f64::from(*below), f64::from(*above));
            below + (above - below) * place.fract()
        }
        _ => 0.0,
    }
}

/// How many scores are outliers: above Q3 + 1.5 · (Q3 − Q1).
pub(crate) fn outliers(scores: &[f32]) -> usize {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f32::total_cmp);
    let (first, third) = (quantile(&sorted, 0.25), quantile(&sorted, 0.75));
    let threshold = third + 1.5 * (third - first);
    scores.iter().filter(|score| f64::from(**score) > threshold).count()
}

/// Rows of `[n, d]` divided by their length; rows of zeros stay zero.
pub(crate) fn unit_rows(x: &Tensor) -> Result<Tensor> {
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.clamp(1e-12, f64::MAX)?;
    Ok(x.broadcast_div(&length)?)
}

/// The rows of `[n, d]` at `positions`.
pub(crate) fn select(x: &Tensor, positions: &[usize]) -> Result<Tensor> {
    let index: Vec<u32> = positions.iter().map(|position| *position as u32).collect();
    let length = index.len();
    Ok(x.index_select(&Tensor::from_vec(index, length, x.device())?, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_of_a_known_list() {
        // Quartiles 2.75 and 6.25 of 1..=8 (linear interpolation): threshold 11.5.
        let list = |last: f32| [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, last];
        assert_eq!(outliers(&list(8.0)), 0);
        assert_eq!(outliers(&list(11.5)), 0);
        assert_eq!(outliers(&list(11.6)), 1);
        assert_eq!(outliers(&[]), 0);
        assert_eq!(outliers(&[1.0; 9]), 0);
    }

    #[test]
    fn order_is_descending_and_the_lower_position_wins_ties() {
        assert_eq!(descending(&[1.0, 3.0, 1.0, 3.0, 2.0]), [1, 3, 4, 0, 2]);
        // All lists of five scores from three values.
        for code in 0..3_usize.pow(5) {
            let scores: Vec<f32> = (0..5).map(|place| (code / 3_usize.pow(place) % 3) as f32).collect();
            for pair in descending(&scores).windows(2) {
                let (a, b) = (pair[0], pair[1]);
                assert!(scores[a] > scores[b] || (scores[a] == scores[b] && a < b), "{scores:?}");
            }
        }
    }
}
