//! The parts of a question's cost, for what was measured rather than planned: several images, tiles, text alone.
//!
//! [`Vlm::cost`](super::Vlm::cost) plans one image at a rung of the ladder; these count what a run really read. The sum
//! of the parts of such a question is the same number.

use super::work::Work;
use super::{CostError, Dtype, LlmDimensions, Stage, StageCost, TowerDimensions, Workload};

impl TowerDimensions {
    /// FLOPs of the patch embedding and the first `blocks` blocks over one square image.
    ///
    /// ```
    /// use foveate_law::cost::Catalogue;
    /// let tower = Catalogue::builtin().tower("clip-l-14-336")?.clone();
    /// assert_eq!((tower.flops(23) / 1e9).round(), 366.0);
    /// # Ok::<(), foveate_law::cost::CostError>(())
    /// ```
    pub fn flops(&self, blocks: usize) -> f64 {
        self.work(blocks.min(self.layers)).flops
    }
}

/// FLOPs of the stock projector (Linear, GELU, Linear) over `rows` rows of width `input`: 2·rows·(input·D + D²).
pub fn projector_flops(rows: usize, input: usize, output: usize) -> f64 {
    let mut work = Work::default();
    work.product(rows as f64, input as f64, output as f64);
    work.product(rows as f64, output as f64, output as f64);
    work.flops
}

impl LlmDimensions {
    /// What a prompt of `text_tokens` positions, image rows included, and an answer cost: a prefill that ends with one
    /// output head, and a pass for each further token. The first `cached` positions of the prompt have been read before.
    /// `dtype` stores weights and cache alike; the scenario is not read.
    ///
    /// # Errors
    /// Dimensions that no model can have, or an absurd workload.
    ///
    /// ```
    /// use foveate_law::cost::{Catalogue, Dtype, Workload};
    /// let llm = Catalogue::builtin().llm("qwen1.5-0.5b")?.clone();
    /// let stages = llm.stages(&Workload::new(50, 1), 0, Dtype::Bf16)?;
    /// // About 2·N FLOPs a token, where N leaves out the embedding table, and the head once.
    /// assert_eq!(stages.len(), 1);
    /// assert_eq!((stages[0].flops / 1e9).round(), 31.0);
    /// # Ok::<(), foveate_law::cost::CostError>(())
    /// ```
    pub fn stages(
        &self,
        workload: &Workload,
        cached: usize,
        dtype: Dtype,
    ) -> Result<Vec<StageCost>, CostError> {
        self.validate()?;
        workload.validate()?;
        let prompt = workload.text_tokens as f64;
        let cached = cached.min(workload.text_tokens) as f64;
        let new = prompt - cached;
        let traffic = |written: f64, read: f64| (written + read) * self.kv_bytes_per_token(dtype);
        let mut prefill = self.pass(new, self.pairs(cached, new));
        prefill.add(self.head());
        let bytes = prefill.bytes(dtype.bytes()) + traffic(new, prompt);
        let mut stages = vec![StageCost { stage: Stage::Prefill, flops: prefill.flops, bytes }];
        let passes = workload.answer_tokens.saturating_sub(1) as f64;
        if passes > 0.0 {
            let pairs = self.pairs(prompt, passes);
            let mut decode = self.pass(1.0, pairs / passes);
            decode.add(self.head());
            let decode = decode.times(passes);
            let bytes = decode.bytes(dtype.bytes()) + traffic(passes, pairs);
            stages.push(StageCost { stage: Stage::Decode, flops: decode.flops, bytes });
        }
        Ok(stages)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cost::{Catalogue, Compressor, CostModel, Precision, Vlm};

    #[test]
    fn the_parts_of_a_question_are_its_whole() {
        let catalogue = Catalogue::builtin();
        let (tower, llm) = (catalogue.tower("clip-l-14-336").unwrap(), catalogue.llm("vicuna-7b").unwrap());
        let dtype = Dtype::F16;
        let whole = Vlm::new(tower, llm, Compressor::Identity)
            .with_precision(Precision::uniform(dtype))
            .cost(576, &Workload::new(50, 16), CostModel::Full)
            .unwrap();
        let language = llm.stages(&Workload::new(50 + 576, 16), 0, dtype).unwrap();
        assert_eq!(whole.stage(Stage::Tower).flops, tower.flops(23));
        let projector = projector_flops(576, tower.hidden, llm.hidden);
        assert_eq!(whole.stage(Stage::Project).flops, projector);
        for part in language {
            let (found, expected) = (part.flops, whole.stage(part.stage).flops);
            assert!((found / expected - 1.0).abs() < 1e-12, "{:?}: {found} {expected}", part.stage);
            let (found, expected) = (part.bytes, whole.stage(part.stage).bytes);
            assert!((found / expected - 1.0).abs() < 1e-12, "{:?}: {found} {expected}", part.stage);
        }
    }

    #[test]
    fn a_prompt_read_in_two_halves_costs_what_one_reading_does_and_one_head_more() {
        let llm = Catalogue::builtin().llm("smollm2-135m").unwrap().clone();
        let flops =
            |prompt, cached| llm.stages(&Workload::new(prompt, 1), cached, Dtype::F32).unwrap()[0].flops;
        let head = 2.0 * (llm.hidden * llm.vocab) as f64;
        assert_eq!(flops(30, 0) + flops(80, 30), flops(80, 0) + head);
        assert_eq!(flops(80, 80), head);
    }

    #[test]
    fn more_blocks_than_there_are_cost_no_more() {
        let tower = Catalogue::builtin().tower("clip-l-14-336").unwrap().clone();
        assert_eq!(tower.flops(usize::MAX), tower.flops(tower.layers));
        assert!(tower.flops(0) < tower.flops(1));
    }
}
