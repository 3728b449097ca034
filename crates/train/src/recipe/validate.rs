//! What a recipe may say. Everything that can be known without opening a dataset or a model is refused here.

use foveate_compress::Method;

use super::{Group, Kind, Learns, Recipe, Source, Stage, Tokens};
use crate::{Result, TrainError};

/// The largest number that any count of a recipe may state: products of two of them are still numbers.
const MOST: usize = u32::MAX as usize;

impl Recipe {
    pub(super) fn validate(&self) -> Result<()> {
        check("name", &self.name, !self.name.trim().is_empty(), "a name")?;
        count("questions", self.questions, 1)?;
        check("tolerance", self.tolerance, (0.0..=1.0).contains(&self.tolerance), "a fraction from 0 to 1")?;
        self.validate_parts()?;
        self.validate_data()?;
        check("stages", "empty", !self.stages.is_empty(), "one stage or more")?;
        for (index, stage) in self.stages.iter().enumerate() {
            self.validate_stage(&format!("stages.{index}"), stage)?;
        }
        check("checkpoints.every", 0, self.checkpoints.every > 0, "one step or more")?;
        count("checkpoints.keep", self.checkpoints.keep, 1)?;
        let spikes = &self.spikes;
        count("spikes.window", spikes.window, 2)?;
        positive("spikes.deviations", spikes.deviations)?;
        check("spikes.factor", spikes.factor, spikes.factor >= 1.0, "1 or more")?;
        check("spikes.in_a_row", 0, spikes.in_a_row > 0, "one step or more")?;
        if self.evaluation.questions > 0 {
            let no_data = !self.evaluation.data.is_empty();
            check("evaluation.data", "empty", no_data, "the names of datasets")?;
            let no_budget = !self.evaluation.visual_tokens.is_empty();
            check("evaluation.visual_tokens", "empty", no_budget, "one number or more")?;
        }
        self.validate_families()
    }

    fn validate_families(&self) -> Result<()> {
        let Some(families) = &self.families else { return Ok(()) };
        let method = self.parts.compressor.method();
        check(
            "families",
            "given",
            method == Method::QueCC,
            "only with a compressor that reads the question",
        )?;
        check("families.data", "empty", !families.data.is_empty(), "the names of datasets")?;
        for name in &families.data {
            let source = self.known("families.data", name)?;
            check(
                "families.data",
                name,
                !source.held_out(),
                "a dataset to learn from, not one that is held out",
            )?;
        }
        count("families.questions", families.questions, 2)?;
        positive("families.ridge", families.ridge)
    }

    fn validate_parts(&self) -> Result<()> {
        let image = &self.parts.image;
        let sizes = 8..=4096;
        let inside = sizes.contains(&image.side.height) && sizes.contains(&image.side.width);
        check("parts.image.side", image.side, inside, "8 to 4096 pixels")?;
        let fits = image.side.side().is_some() || image.pad || image.squeezes();
        check("parts.image.side", image.side, fits, "a rectangle with `pad` or `squeeze` beside it")?;
        let from_scratch = matches!(self.parts.language, Source::Fresh(_));
        if from_scratch && self.parts.tokenizer.is_none() {
            return Err(TrainError::field(
                "parts.tokenizer",
                "missing",
                "needed by a language model from scratch",
            ));
        }
        if from_scratch && self.parts.template.is_none() {
            return Err(TrainError::field(
                "parts.template",
                "missing",
                "needed by a language model from scratch",
            ));
        }
        if let Some(Tokens::Trained(shape)) = &self.parts.tokenizer {
            let allowed = "only beside a language model from scratch: another one knows its own tokens alone";
            check("parts.tokenizer.trained", "given", from_scratch, allowed)?;
            let allowed = "300 to 65536 tokens (256 bytes, special tokens and some merges)";
            let known = (300..=65_536).contains(&shape.vocabulary);
            check("parts.tokenizer.trained.vocabulary", shape.vocabulary, known, allowed)?;
            count("parts.tokenizer.trained.samples", shape.samples, 1)?;
        }
        if let Some(lora) = &self.lora {
            check("lora.rank", lora.rank, (1..=1024).contains(&lora.rank), "1 to 1024")?;
            positive("lora.alpha", lora.alpha)?;
            check("lora.projections", "empty", !lora.projections.is_empty(), "one projection or more")?;
        }
        Ok(())
    }

    fn validate_data(&self) -> Result<()> {
        for (name, source) in &self.data {
            if let Some(cut) = source.cut {
                let inside = cut.fraction > 0.0 && cut.fraction < 1.0;
                check(&format!("data.{name}.cut.fraction"), cut.fraction, inside, "between 0 and 1")?;
            }
            if let Kind::Scenes { length, side, .. } | Kind::Texts { length, side, .. } = source.kind {
                count(&format!("data.{name}.length"), length, 1)?;
                let field = format!("data.{name}.side");
                check(&field, side, (32..=4096).contains(&side), "32 to 4096 pixels")?;
            }
            if let Kind::Scenes { questions: Some(0), captions: false, .. } = source.kind {
                let allowed = "1 or more where there are no captions: nothing else is asked";
                return Err(TrainError::field(format!("data.{name}.questions"), 0, allowed));
            }
            if let Kind::Scenes { most_objects, captions, .. } = source.kind {
                let field = format!("data.{name}.most_objects");
                check(&field, most_objects, (1..=8).contains(&most_objects), "1 to 8")?;
                let asked = most_objects >= 3 || captions;
                check(
                    &field,
                    most_objects,
                    asked,
                    "3 or more where there are no captions: nothing else is asked",
                )?;
            }
        }
        self.evaluation.data.iter().try_for_each(|name| {
            let source = self.known("evaluation.data", name)?;
            check(
                "evaluation.data",
                name,
                source.held_out(),
                "a dataset of validation, or the part held out by a cut",
            )
        })
    }

    fn validate_learning(&self, path: &str, stage: &Stage) -> Result<()> {
        let field = |name: &str| format!("{path}.{name}");
        match stage.learns {
            Learns::Words => {
                let missing = stage.ladder.is_empty();
                check(&field("ladder"), "empty", !missing, "[[visual tokens, weight], ...]")?;
                let connector = [Group::Tower, Group::Compressor, Group::Projector];
                let other = stage.rates.keys().find(|group| !connector.contains(group));
                let found = other.map_or("", |group| group.name());
                let allowed = "tower, compressor and projector, where words are learnt";
                check(&field("rates"), found, other.is_none(), allowed)
            }
            Learns::Answers => {
                let missing = stage.ladder.is_empty();
                check(&field("ladder"), "empty", !missing, "[[visual tokens, weight], ...]")?;
                let patches = stage.rates.contains_key(&Group::Patches);
                check(&field("rates.patches"), "given", !patches, "only where patches are learnt")
            }
            Learns::Patches => {
                check(&field("ladder"), "given", stage.ladder.is_empty(), "absent where patches are learnt")?;
                let both = [Group::Tower, Group::Patches];
                let groups =
                    stage.rates.len() == 2 && both.iter().all(|group| stage.rates.contains_key(group));
                let found = stage.rates.keys().map(|group| group.name()).collect::<Vec<_>>().join(", ");
                check(&field("rates"), found, groups, "tower and patches, where patches are learnt")?;
                let side = self.parts.image.side;
                check("parts.image.side", side, side.side().is_some(), "a square where patches are learnt")?;
                stage.mix.keys().try_for_each(|name| {
                    let kind = self.data.get(name).map(|source| &source.kind);
                    let generated = matches!(kind, Some(Kind::Scenes { .. } | Kind::Texts { .. }));
                    let allowed = "generated scenes or texts, whose patches are known";
                    check(&field(&format!("mix.{name}")), name, generated, allowed)
                })
            }
        }
    }

    fn known(&self, field: &str, name: &str) -> Result<&super::DataSource> {
        let known = || self.data.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.data
            .get(name)
            .ok_or_else(|| TrainError::field(field, name, format!("one of the datasets {}", known())))
    }

    fn validate_stage(&self, path: &str, stage: &Stage) -> Result<()> {
        let field = |name: &str| format!("{path}.{name}");
        let steps = usize::try_from(stage.steps).unwrap_or(usize::MAX);
        count(&field("steps"), steps, 1)?;
        let pictures = (1..=1_000_000).contains(&stage.batch);
        check(&field("batch"), stage.batch, pictures, "1 to 1000000 pictures")?;
        let divides = stage.accumulation > 0 && stage.batch.is_multiple_of(stage.accumulation);
        let allowed = format!("a divisor of the batch of {}", stage.batch);
        check(&field("accumulation"), stage.accumulation, divides, &allowed)?;
        check(&field("rates"), "empty", !stage.rates.is_empty(), "the rate of one group or more")?;
        for (group, rate) in &stage.rates {
            positive(&field(&format!("rates.{}", group.name())), *rate)?;
        }
        if stage.rates.contains_key(&Group::Adapters) && self.lora.is_none() {
            return Err(TrainError::field(field("rates.adapters"), "given", "only with a [lora] section"));
        }
        if stage.rates.contains_key(&Group::Language) && self.lora.is_some() {
            let allowed = "absent where [lora] trains adapters on a frozen language model";
            return Err(TrainError::field(field("rates.language"), "given", allowed));
        }
        check(&field("mix"), "empty", !stage.mix.is_empty(), "one dataset or more")?;
        for (name, weight) in &stage.mix {
            let field = field(&format!("mix.{name}"));
            let source = self.known(&field, name)?;
            check(&field, name, !source.held_out(), "a dataset to learn from, not one that is held out")?;
            let shared = self.data.iter().find(|(_, other)| other.held_out() && source.shares_samples(other));
            if let Some((held, _)) = shared {
                let allowed = format!(
                    "no samples of {held}, which is held out: two sides of one cut (the same fraction and seed)"
                );
                return Err(TrainError::field(field, name, allowed));
            }
            positive(&field, *weight)?;
        }
        self.validate_learning(path, stage)?;
        for (tokens, weight) in &stage.ladder {
            count(&field("ladder"), *tokens, 1)?;
            positive(&field("ladder"), *weight)?;
        }
        let fraction = |value: f64| (0.0..=1.0).contains(&value);
        check(
            &field("warm_up"),
            stage.warm_up,
            fraction(stage.warm_up),
            "a fraction of the steps, from 0 to 1",
        )?;
        check(
            &field("floor"),
            stage.floor,
            fraction(stage.floor),
            "a fraction of the highest rate, from 0 to 1",
        )?;
        positive(&field("clip"), stage.clip)?;
        let decays = stage.weight_decay >= 0.0 && stage.weight_decay.is_finite();
        check(&field("weight_decay"), stage.weight_decay, decays, "0 or more")?;
        let (first, second) = stage.betas;
        let inside = |beta: f64| (0.0..1.0).contains(&beta);
        check(
            &field("betas"),
            format!("[{first}, {second}]"),
            inside(first) && inside(second),
            "two numbers from 0 to below 1",
        )?;
        positive(&field("epsilon"), stage.epsilon)
    }
}

fn check(field: &str, found: impl ToString, holds: bool, allowed: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(TrainError::field(field, found, allowed)) }
}

fn count(field: &str, found: usize, least: usize) -> Result<()> {
    check(field, found, (least..=MOST).contains(&found), &format!("{least} to {MOST}"))
}

fn positive(field: &str, found: f64) -> Result<()> {
    check(field, found, found.is_finite() && found > 0.0, "a positive number")
}
