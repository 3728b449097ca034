//! The report for people.

use foveate_law::Unit;
use foveate_law::auto::{Errors, RungError};
use foveate_law::plan::count;

use super::contents::AutoFiles;
use super::costs::Report;
use crate::text;

pub(super) fn card(report: &Report) -> String {
    let mut sections = vec![format!("{}\n{}", report.path, report.architecture)];
    let mut rows = Vec::new();
    for part in &report.parts {
        rows.push(vec![part.part.to_owned(), count(part.parameters as f64), exact(part.parameters)]);
    }
    if report.parts.len() > 1 {
        rows.push(vec!["all".into(), count(report.parameters as f64), exact(report.parameters)]);
    }
    sections.push(text::table(&["parameters", "", "counted"], &rows, 1));

    if let Some(of) = &report.language_model {
        let window = of.sliding_window.map_or(String::new(), |window| format!(", window {window}"));
        let tied = if of.tied_embeddings { ", tied embeddings" } else { "" };
        sections.push(format!(
            "language model: {} blocks of width {} ({} feed-forward), {} query and {} key-value heads of {}\n  \
             vocabulary {}, context {}{window}{tied}; cache {} a token in f32",
            of.blocks,
            of.width,
            of.feed_forward,
            of.heads,
            of.key_value_heads,
            of.head_width,
            of.vocabulary,
            of.context,
            Unit::Bytes.format(of.cache_bytes_per_token),
        ));
    }
    if let Some(of) = &report.vision_tower {
        let class = if of.class_token { " and a class token" } else { "" };
        sections.push(format!(
            "vision tower: {} blocks of width {} ({} feed-forward), {} heads\n  \
             {} pixels in patches of {}: {} patches{class}",
            of.blocks, of.width, of.feed_forward, of.heads, of.image_size, of.patch, of.patches,
        ));
    }
    if let Some(of) = &report.image {
        let states: Vec<String> = of.hidden_states.iter().map(ToString::to_string).collect();
        let tiles = match of.tiles {
            1 => String::new(),
            tiles => format!(" a picture, up to {tiles} pictures an image"),
        };
        let most = match of.visual_tokens {
            0 => String::new(),
            tokens => format!("; up to {tokens} tokens an image"),
        };
        sections.push(format!(
            "tokens: {}{tiles}\n  hidden state {}, for which {} blocks run{most}",
            of.offer,
            states.join(", "),
            of.blocks_run,
        ));
    }
    let stored: Vec<Vec<String>> = report
        .dtypes
        .iter()
        .map(|format| {
            vec![
                format.dtype.clone(),
                format.tensors.to_string(),
                count(format.parameters as f64),
                Unit::Bytes.format(format.bytes as f64),
            ]
        })
        .collect();
    sections.push(text::table(&["stored as", "tensors", "parameters", "size"], &stored, 1));
    let memory: Vec<Vec<String>> = report
        .memory
        .iter()
        .map(|memory| vec![memory.dtype.to_string(), Unit::Bytes.format(memory.bytes)])
        .collect();
    sections.push(text::table(&["weights in", "memory"], &memory, 1));
    if !report.cost.is_empty() {
        sections.push(costs(report));
    }
    sections.extend(report.auto.as_ref().map(auto));
    // Written by whoever made the model.
    sections.extend(report.card.as_deref().map(|card| text::without_controls(card).into_owned()));
    sections.join("\n\n")
}

/// What `--visual-tokens auto` knows.
fn auto(files: &AutoFiles) -> String {
    let mut text = String::from("visual tokens by question:");
    match &files.families {
        Some(guess) => {
            text += &format!(" a guess of {}", guess.families.join(" or "));
            if let Some([right, asked]) = guess.validation {
                text += &format!(", right about {right} of {asked} questions of validation");
            }
        }
        None => text += " no guess of what a question is about (`foveate calibrate` fits one)",
    }
    let Some(table) = &files.laws else {
        return text + "\n  no errors to choose by (`foveate calibrate --results` makes them)";
    };
    for (family, errors) in &table.families {
        text += &match errors {
            Errors::Measured(measured) => {
                let rung =
                    |rung: &RungError| format!("{:.1} % at {}", 100.0 * rung.error, rung.visual_tokens);
                let rungs: Vec<String> = measured.rungs.iter().map(rung).collect();
                format!("\n  error of {family}: {}", rungs.join(", "))
            }
            Errors::Law(law) => format!("\n  error of {family}: a law of {}", law.source),
        };
    }
    text
}

fn costs(report: &Report) -> String {
    let stages: Vec<String> = report.cost[0].stages.iter().map(|stage| name(stage.stage)).collect();
    let mut header = vec!["visual tokens", "FLOPs"];
    header.extend(stages.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = report
        .cost
        .iter()
        .map(|cost| {
            let mut row = vec![cost.visual_tokens.to_string(), Unit::Flops.format(cost.flops)];
            row.extend(cost.stages.iter().map(|stage| Unit::Flops.format(stage.flops)));
            row
        })
        .collect();
    let what = match report.kind {
        "vision-tower" => "cost of an image, all blocks:".to_owned(),
        _ => format!(
            "cost of a question of {} text tokens, answered in {}:",
            report.text_tokens, report.answer_tokens
        ),
    };
    format!("{what}\n{}", text::table(&header, &rows, 0))
}

fn name(stage: foveate_law::cost::Stage) -> String {
    format!("{stage:?}").to_lowercase()
}

/// Digits in groups of three.
fn exact(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::exact;

    #[test]
    fn digits_are_grouped_from_the_right() {
        assert_eq!(
            ["7", "999", "1000", "1234567"].map(|text| exact(text.parse().unwrap_or(0))),
            ["7", "999", "1 000", "1 234 567"]
        );
    }
}
