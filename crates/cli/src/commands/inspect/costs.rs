//! The report: dimensions, memory, the token ladder and what a question costs.

use std::path::Path;

use foveate_law::cost::{Dtype, LlmDimensions, Stage, StageCost, TowerDimensions, Workload, projector_flops};
use foveate_model::ImageCost;
use foveate_model::vision::{Grid, VisionConfig};
use foveate_model::vlm::{ImageLayout, Tiling, VlmConfig};
use serde::Serialize;

use super::contents::{Contents, Format, Kind, Part};
use crate::failure::Failure;

/// The formats whose memory is shown.
const MEMORY: [Dtype; 5] = [Dtype::F32, Dtype::Bf16, Dtype::Int8, Dtype::Q8_0, Dtype::Q4K];

/// What `inspect --json` prints.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) path: String,
    pub(crate) architecture: String,
    pub(crate) kind: &'static str,
    pub(crate) parameters: u64,
    pub(crate) parts: Vec<Part>,
    pub(crate) tensors: usize,
    pub(crate) bytes: u64,
    pub(crate) dtypes: Vec<Format>,
    pub(crate) memory: Vec<MemoryAs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language_model: Option<Language>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vision_tower: Option<Tower>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<ImageTokens>,
    pub(crate) text_tokens: usize,
    pub(crate) answer_tokens: usize,
    /// One question at each rung of the ladder, most tokens first; without an image for a language model alone, without
    /// a question for a tower alone. Empty where the parts that this needs are not in the file.
    pub(crate) cost: Vec<QuestionCost>,
}

/// The weights in one format.
#[derive(Serialize)]
pub(crate) struct MemoryAs {
    pub(crate) dtype: Dtype,
    pub(crate) bytes: f64,
}

#[derive(Serialize)]
pub(crate) struct Language {
    pub(crate) vocabulary: usize,
    pub(crate) width: usize,
    pub(crate) feed_forward: usize,
    pub(crate) blocks: usize,
    pub(crate) heads: usize,
    pub(crate) key_value_heads: usize,
    pub(crate) head_width: usize,
    pub(crate) context: usize,
    pub(crate) sliding_window: Option<usize>,
    pub(crate) tied_embeddings: bool,
    /// Of keys and values in f32, as they are kept here.
    pub(crate) cache_bytes_per_token: f64,
}

#[derive(Serialize)]
pub(crate) struct Tower {
    pub(crate) image_size: usize,
    pub(crate) patch: usize,
    pub(crate) patches: usize,
    pub(crate) width: usize,
    pub(crate) feed_forward: usize,
    pub(crate) blocks: usize,
    pub(crate) heads: usize,
    pub(crate) class_token: bool,
}

/// How many tokens stand for an image.
#[derive(Serialize)]
pub(crate) struct ImageTokens {
    /// The (g/k)² that a compressor can leave of a picture's g² tokens.
    pub(crate) ladder: Vec<usize>,
    /// Pictures that the tower reads at most: 1, or the overview and the most tiles.
    pub(crate) tiles: usize,
    /// Tokens of an image without compression, at most.
    pub(crate) visual_tokens: usize,
    /// The hidden states that the projector reads, as the configuration numbers them.
    pub(crate) hidden_states: Vec<i64>,
    /// Blocks of the tower that run for them.
    pub(crate) blocks_run: usize,
}

#[derive(Serialize)]
pub(crate) struct QuestionCost {
    /// What the language model reads for the image.
    pub(crate) visual_tokens: usize,
    pub(crate) flops: f64,
    pub(crate) stages: Vec<StageFlops>,
}

#[derive(Serialize)]
pub(crate) struct StageFlops {
    pub(crate) stage: Stage,
    pub(crate) flops: f64,
}

impl Report {
    pub(crate) fn new(
        path: &Path,
        contents: Contents,
        text_tokens: usize,
        answer_tokens: usize,
    ) -> Result<Report, Failure> {
        let workload = Workload::new(text_tokens, answer_tokens);
        let parameters = contents.parameters();
        let mut report = Report {
            path: path.display().to_string(),
            parameters,
            tensors: contents.tensors(),
            bytes: contents.bytes,
            memory: MEMORY.map(|dtype| MemoryAs { dtype, bytes: parameters as f64 * dtype.bytes() }).into(),
            architecture: contents.architecture,
            kind: "tensors",
            parts: contents.parts,
            dtypes: contents.formats,
            language_model: None,
            vision_tower: None,
            image: None,
            text_tokens,
            answer_tokens,
            cost: Vec::new(),
        };
        match contents.kind {
            Kind::Tensors => {}
            Kind::Language(config) => {
                let llm = config.dimensions("language model");
                report.kind = "language-model";
                report.cost = vec![question(0, Vec::new(), &llm.stages(&workload, 0, Dtype::F32)?)];
                report.language_model = Some(Language::new(&llm, config.context));
            }
            Kind::Tower(config) => {
                let tower = config.dimensions("vision tower");
                tower.validate()?;
                report.kind = "vision-tower";
                let flops = tower.flops(tower.layers);
                let stages = vec![StageFlops { stage: Stage::Tower, flops }];
                report.cost = vec![QuestionCost { visual_tokens: tower.patches(), flops, stages }];
                report.vision_tower = Some(Tower::new(&tower));
            }
            Kind::Vlm { config, vision } => {
                let llm = config.text.dimensions("language model");
                llm.validate()?;
                report.kind = "vision-language-model";
                report.language_model = Some(Language::new(&llm, config.text.context));
                if let Some(vision) = vision {
                    let image = config.image_cost(&vision)?;
                    image.tower.validate()?;
                    report.cost = ladder(&config, &vision, &image, &llm, &workload)?;
                    report.image = Some(ImageTokens {
                        ladder: image.tower.ladder(),
                        tiles: most_tiles(&config, &vision).1,
                        visual_tokens: report.cost.first().map_or(0, |cost| cost.visual_tokens),
                        hidden_states: config.feature_states.iter().map(|state| i64::from(*state)).collect(),
                        blocks_run: image.blocks,
                    });
                    report.vision_tower = Some(Tower::new(&image.tower));
                }
            }
        }
        Ok(report)
    }
}

/// A question at each rung: compression costs nothing here, as it does for pooling.
fn ladder(
    config: &VlmConfig,
    vision: &VisionConfig,
    image: &ImageCost,
    llm: &LlmDimensions,
    workload: &Workload,
) -> Result<Vec<QuestionCost>, Failure> {
    let (tiling, tiles) = most_tiles(config, vision);
    let full = vision.grid().patches();
    image
        .tower
        .ladder()
        .into_iter()
        .map(|rung| {
            // A class token passes the projector only where nothing is compressed.
            let rows = if rung == full { image.rows } else { rung };
            let visual_tokens = tiling.map_or(rows, |tiling| tiling.positions(Grid::square(rung.isqrt())));
            let before = vec![
                StageFlops { stage: Stage::Tower, flops: tiles as f64 * image.tower.flops(image.blocks) },
                StageFlops {
                    stage: Stage::Project,
                    flops: projector_flops(tiles * rows, image.states * image.tower.hidden, llm.hidden),
                },
            ];
            let prompt =
                Workload::new(workload.text_tokens.saturating_add(visual_tokens), workload.answer_tokens);
            Ok(question(visual_tokens, before, &llm.stages(&prompt, 0, Dtype::F32)?))
        })
        .collect()
}

/// The arrangement of the most tiles that an image can be cut into, and the pictures that the tower then reads.
fn most_tiles(config: &VlmConfig, vision: &VisionConfig) -> (Option<Tiling>, usize) {
    let ImageLayout::Tiles { resolutions } = &config.layout else { return (None, 1) };
    let side = vision.image_size().max(1);
    let tiling = resolutions
        .iter()
        .map(|&(height, width)| Tiling { rows: height / side, columns: width / side, height, width })
        .max_by_key(|tiling| tiling.rows * tiling.columns);
    (tiling, 1 + tiling.map_or(0, |tiling| tiling.rows * tiling.columns))
}

fn question(visual_tokens: usize, before: Vec<StageFlops>, language: &[StageCost]) -> QuestionCost {
    let mut stages = before;
    stages.extend(language.iter().map(|cost| StageFlops { stage: cost.stage, flops: cost.flops }));
    let flops = stages.iter().map(|stage| stage.flops).sum();
    QuestionCost { visual_tokens, flops, stages }
}

impl Language {
    fn new(of: &LlmDimensions, context: usize) -> Language {
        Language {
            vocabulary: of.vocab,
            width: of.hidden,
            feed_forward: of.intermediate,
            blocks: of.layers,
            heads: of.heads,
            key_value_heads: of.kv_heads,
            head_width: of.head_dim,
            context,
            sliding_window: of.sliding_window,
            tied_embeddings: of.tied_embeddings,
            cache_bytes_per_token: of.kv_bytes_per_token(Dtype::F32),
        }
    }
}

impl Tower {
    fn new(of: &TowerDimensions) -> Tower {
        Tower {
            image_size: of.image_size,
            patch: of.patch,
            patches: of.patches(),
            width: of.hidden,
            feed_forward: of.intermediate,
            blocks: of.layers,
            heads: of.heads,
            class_token: of.class_token,
        }
    }
}
