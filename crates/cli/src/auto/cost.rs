//! What an answer costs at each number of visual tokens, before anything runs; and how fast this machine is.

use std::ops::ControlFlow;

use foveate_compress::{Budget, Method};
use foveate_data::image::Image;
use foveate_law::cost::{Dtype, LlmDimensions, Stage, Workload};
use foveate_model::generate::{GenerateOptions, Session};
use foveate_model::vlm::{Image as Tiles, VisualCost};
use foveate_serve::{Meter, Work};

use crate::failure::Failure;
use crate::model::{Model, Prepared, one_question};

/// What a grey picture is asked.
const QUESTION: &str = "What is in the picture?";
/// How long its answer is.
const TOKENS: usize = 8;

/// Parameters of the language model, tied embeddings once.
pub(crate) fn params(model: &Model) -> f64 {
    model.decoder.config().dimensions("language model").parameters() as f64
}

/// A question about images, counted.
pub(super) struct Counted<'a> {
    visual: VisualCost,
    llm: LlmDimensions,
    context: usize,
    prepared: &'a Prepared,
    text_tokens: usize,
    new_tokens: usize,
}

impl<'a> Counted<'a> {
    pub(super) fn new(
        model: &Model,
        prepared: &'a Prepared,
        text_tokens: usize,
        new_tokens: usize,
    ) -> Result<Counted<'a>, Failure> {
        let config = model.decoder.config();
        Ok(Counted {
            visual: model.seeing()?.vlm().cost(),
            llm: config.dimensions("language model"),
            context: config.context,
            prepared,
            text_tokens,
            new_tokens,
        })
    }

    /// Positions that stand for the images.
    fn positions(&self, visual_tokens: usize) -> usize {
        let of = |tiles: &Tiles| match tiles {
            Tiles::Single(_) => visual_tokens,
            Tiles::Tiled { tiling, .. } => {
                let grid = match self.visual.compressor().method() {
                    Method::Identity => Some(self.visual.grid()),
                    _ => self.visual.compressor().token_grid(self.visual.grid(), visual_tokens),
                };
                grid.map_or(visual_tokens, |grid| tiling.positions(grid))
            }
        };
        self.prepared.tiles.iter().map(|(tiles, _)| of(tiles)).sum()
    }

    /// Whether the prompt and one token of an answer fit into the model's context.
    pub(super) fn fits(&self, visual_tokens: usize) -> bool {
        self.text_tokens + self.positions(visual_tokens) < self.context
    }

    /// FLOPs of the question's pass.
    fn question(&self) -> Result<f64, Failure> {
        Ok(match &self.prepared.question {
            Some(tokens) => self.visual.question_flops(tokens.len())?,
            None => 0.0,
        })
    }

    /// The work by stage but for the question's pass, and the FLOPs of the passes after the first.
    fn work(&self, visual_tokens: usize) -> Result<(Work, f64), Failure> {
        let blocks = self.visual.blocks_needed()?;
        let mut work = Work { passes: self.new_tokens.saturating_sub(1), ..Work::default() };
        for (tiles, _) in &self.prepared.tiles {
            let pictures = match tiles {
                Tiles::Single(_) => 1,
                Tiles::Tiled { tiling, .. } => 1 + tiling.rows * tiling.columns,
            };
            let each =
                self.visual.compressor_flops(visual_tokens)? + self.visual.projector_flops(visual_tokens);
            work.tower += self.visual.tower_flops(pictures, blocks);
            work.connect += pictures as f64 * each;
        }
        let prompt = self.text_tokens + self.positions(visual_tokens);
        let stages = self.llm.stages(&Workload::new(prompt, self.new_tokens), 0, Dtype::F32)?;
        let of = |wanted: Stage| {
            stages.iter().filter(|stage| stage.stage == wanted).map(|stage| stage.flops).sum::<f64>()
        };
        work.prefill = of(Stage::Prefill);
        Ok((work, of(Stage::Decode)))
    }

    /// FLOPs of the longest answer, from the pixels on.
    pub(super) fn flops(&self, visual_tokens: usize) -> Result<f64, Failure> {
        let (work, decode) = self.work(visual_tokens)?;
        Ok(self.question()? + work.tower + work.connect + work.prefill + decode)
    }

    /// Milliseconds of the rest on a machine of this pace: the question was read to guess its family, and its vector is kept.
    pub(super) fn milliseconds(&self, visual_tokens: usize, meter: &Meter) -> Result<f64, Failure> {
        let (work, _) = self.work(visual_tokens)?;
        // It has seen every stage.
        Ok(meter.forecast(&work).unwrap_or(f64::NAN))
    }
}

/// How fast this machine answers, from a question about a grey picture at the fewest tokens. The second of two: the first brings
/// the weights into memory.
pub(super) fn measured(model: &Model) -> Result<Meter, Failure> {
    let mut meter = Meter::default();
    for counts in [false, true] {
        let model = model.clone().with_fresh_caches();
        let vlm = model.seeing()?.vlm();
        let offered = vlm.ladder().values();
        let fewest =
            offered.into_iter().filter(|tokens| vlm.check_budget(Budget::Tokens(*tokens)).is_ok()).min();
        let budget = fewest.map_or(Budget::Adaptive, Budget::Tokens);
        let size = vlm.tower().config().image_size();
        let length = |pixels: usize| u32::try_from(pixels).unwrap_or(1).max(1);
        let seen = model.look(
            &[Image::filled(length(size.width), length(size.height), [127; 3])],
            QUESTION,
            Some(budget),
        )?;
        let rows: Vec<_> = seen.iter().map(|seen| seen.view.rows.clone()).collect();
        let asked = model.prompt(&one_question(None, QUESTION), &rows)?;
        let options = GenerateOptions {
            max_tokens: TOKENS,
            end_tokens: Some(Vec::new()),
            ..GenerateOptions::default()
        };
        let mut session = Session::new(model.decoder.clone());
        let quiet = |_: &str| ControlFlow::Continue(());
        let generated = session.generate(&asked.prompt, &options, &model.tokenizer, quiet)?;
        if !counts {
            continue;
        }
        for seen in &seen {
            let (flops, times) = (&seen.view.flops, &seen.view.times);
            meter.tower(flops.tower, times.tower);
            meter.connect(
                flops.query + flops.compress + flops.project,
                times.query + times.compress + times.project,
            );
        }
        let prompt = Workload::new(asked.text_tokens + asked.visual_tokens, 1);
        let llm = model.decoder.config().dimensions("language model");
        meter.prefill(
            llm.stages(&prompt, 0, Dtype::F32)?.iter().map(|stage| stage.flops).sum(),
            generated.prefill,
        );
        let passes = u32::try_from(generated.tokens.len()).unwrap_or(u32::MAX).saturating_sub(1).max(1);
        meter.pass(generated.decode / passes);
    }
    Ok(meter)
}
