//! Fit the published measurements and ask what 2 TFLOP a question should buy.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use foveate_law::cost::{Catalogue, Compressor, CostModel, Precision, Workload};
use foveate_law::plan::{Request, plan};
use foveate_law::{Budget, FitOptions, Form, PlannedLaw, Preset, Tokens, Units, assess};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let units = Units { scale1: Preset::SCALE1, scale2: 1.0, tokens: Tokens::Visual };
    let table = Preset::Reasoning.table()?;
    let law = PlannedLaw::new(&assess(&table, Some(Form::Product), &FitOptions::default(), units, None)?);
    let catalogue = Catalogue::builtin();
    let request = Request {
        law: &law,
        tower: catalogue.tower("clip-l-14-336")?,
        llms: catalogue.llms().iter().collect(),
        compressor: Compressor::QueCC,
        precision: Precision::default(),
        workload: Workload::new(50, 16),
        cost: CostModel::Full,
        rates: None,
    };
    for candidate in plan(&request, &[Budget::Flops(2e12)])?.ranked.iter().take(5) {
        println!(
            "{} with {} visual tokens: error {:.3}",
            candidate.model, candidate.visual_tokens, candidate.error
        );
    }
    Ok(())
}
