//! What to know before acting on a plan.

use super::{Candidate, OptimumKind, Plan, Request, count};
use crate::cost::CostModel;
use crate::tokens::names_visual_tokens;
use crate::units::Unit;

pub(super) fn findings(request: &Request<'_>, plan: &Plan) -> Vec<String> {
    let mut said = Vec::new();
    let Some(best) = plan.ranked.first() else { return said };
    said.extend(quantity(request));
    said.extend(confidence(plan, best));
    if !best.extrapolates.is_empty() {
        said.push(format!(
            "extrapolation: {} was measured by nobody for this law ({})",
            name(best),
            best.extrapolates.join("; ")
        ));
    }
    if plan.ranked.iter().skip(1).take(9).any(|candidate| !candidate.extrapolates.is_empty()) {
        said.push("some of the next candidates lie beyond the measurements as well; they are marked".into());
    }
    if request.cost == CostModel::Full {
        said.push(format!(
            "the vision tower takes {:.0} % of the {} of a question; the paper's cost leaves it out",
            100.0 * best.cost.tower_share,
            Unit::Flops.format(best.cost.flops)
        ));
    } else {
        said.push("cost: 2·N·(Q + V) as in the paper; tower, compressor and answer are not counted".into());
    }
    said.extend(plan.optimum.as_ref().map(|optimum| {
        let interval = match optimum.visual_tokens_ci95 {
            Some([low, high]) => format!(" (95 %: {low:.1} to {high:.1})"),
            None => String::new(),
        };
        let how = match optimum.kind {
            OptimumKind::SmallestV => "the fewest visual tokens on the ladder are best",
            OptimumKind::LargestV => "the most visual tokens on the ladder are best",
            _ => "were N and V continuous",
        };
        format!(
            "{how}: V = {:.1}{interval} with N = {} at this budget",
            optimum.visual_tokens,
            count(optimum.params)
        )
    }));
    for (label, other) in [("half", &plan.half), ("twice", &plan.twice)] {
        said.push(match other {
            Some(other)
                if (other.model.as_str(), other.visual_tokens) == (&best.model, best.visual_tokens) =>
            {
                format!("{label} the budget buys the same")
            }
            Some(other) => format!(
                "{label} the budget buys {} with a predicted error of {:.4} ({:+.4})",
                name(other),
                other.error,
                other.error - best.error
            ),
            None => format!("{label} the budget buys nothing"),
        });
    }
    said.push(format!(
        "N is counted from dimensions, all parameters and tied embeddings once; the law's sizes are those of {}",
        request.law.source
    ));
    said
}

/// A law of another quantity, such as training tokens, can be read at any number, but it says nothing of images.
fn quantity(request: &Request<'_>) -> Option<String> {
    let Some(columns) = &request.law.columns else {
        return Some(
            "the law does not name its columns: whether its second factor counts visual tokens is unknown"
                .into(),
        );
    };
    let name = columns.x2.as_str();
    let tokens = names_visual_tokens(name) || name.eq_ignore_ascii_case("tokens");
    (!tokens).then(|| {
        format!(
            "the law is about another quantity: its second factor is {name:?}, and this plan reads it as visual tokens; \
             act on this only if they are the same (the known names are visual_tokens, vision_tokens, image_tokens, \
             tokens and v)"
        )
    })
}

fn confidence(plan: &Plan, best: &Candidate) -> Vec<String> {
    let Some(wins) = best.wins else {
        return vec!["no bootstrap: intervals and the winner's chances are unknown".into()];
    };
    let rival = plan
        .ranked
        .iter()
        .skip(1)
        .max_by(|left, right| left.wins.unwrap_or(0.0).total_cmp(&right.wins.unwrap_or(0.0)));
    let mut text = format!("{} is the best in {:.0} % of the bootstrap", name(best), 100.0 * wins);
    if let Some(rival) = rival.filter(|rival| rival.wins.is_some_and(|wins| wins > 0.0)) {
        text += &format!(", {} in {:.0} %", name(rival), 100.0 * rival.wins.unwrap_or(0.0));
    }
    let mut said = vec![text];
    if best.params > 0.0 && plan.ranked.len() > 1 {
        said.push(
            "the intervals are of the law's curve; they do not hold what sets one model family apart from another".into(),
        );
    }
    said
}

fn name(candidate: &Candidate) -> String {
    let plural = if candidate.visual_tokens == 1 { "" } else { "s" };
    format!("{} with {} visual token{plural}", candidate.model, candidate.visual_tokens)
}
