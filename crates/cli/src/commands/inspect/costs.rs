//! The report: dimensions, memory, the token ladder and what a question costs.

use std::path::Path;

use foveate_compress::{Budget, Method};
use foveate_law::cost::{Dtype, ImageSize, LlmDimensions, Stage, StageCost, TowerDimensions, Workload};
use foveate_model::vision::Grid;
use foveate_model::vlm::{ImageLayout, Tiling, VisualCost, VlmConfig};
use serde::Serialize;

use super::contents::{AutoFiles, Contents, Format, Kind, Part};
use crate::failure::Failure;
use crate::looking::rungs;

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
    /// What `--visual-tokens auto` would read; `null` where there is nothing of it.
    pub(crate) auto: Option<AutoFiles>,
    /// The model card without its front matter; `null` where the folder has none.
    pub(crate) card: Option<String>,
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
    pub(crate) image_size: ImageSize,
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
    /// The compressor that the checkpoint carries.
    pub(crate) compressor: Method,
    /// The tokens that it offers for a picture; without one the (g/k)² that pooling can leave of g² tokens.
    pub(crate) ladder: Vec<usize>,
    /// The same in words.
    #[serde(skip)]
    pub(crate) offer: String,
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
            auto: contents.auto,
            card: contents.card,
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
            Kind::Vlm { config, image } => {
                let llm = config.text.dimensions("language model");
                llm.validate()?;
                report.kind = "vision-language-model";
                report.language_model = Some(Language::new(&llm, config.text.context));
                if let Some(image) = image {
                    let tower = image.tower();
                    tower.validate()?;
                    let identity = image.compressor().method() == Method::Identity;
                    // A plain checkpoint is compressed by methods without weights: pooling offers these.
                    let offered = if identity { tower.ladder() } else { image.ladder().values() };
                    report.cost = ladder(&config, &image, &llm, &workload)?;
                    let list: Vec<String> = offered.iter().map(ToString::to_string).collect();
                    report.image = Some(ImageTokens {
                        offer: if identity { list.join(", ") } else { image.ladder().to_string() },
                        compressor: image.compressor().method(),
                        ladder: offered,
                        tiles: most_tiles(&config, tower.image_size.height).1,
                        visual_tokens: report.cost.first().map_or(0, |cost| cost.visual_tokens),
                        hidden_states: config.feature_states.iter().map(|state| i64::from(*state)).collect(),
                        blocks_run: image.blocks_needed()?,
                    });
                    report.vision_tower = Some(Tower::new(&tower));
                }
            }
        }
        Ok(report)
    }
}

/// A question at each rung.
fn ladder(
    config: &VlmConfig,
    image: &VisualCost,
    llm: &LlmDimensions,
    workload: &Workload,
) -> Result<Vec<QuestionCost>, Failure> {
    let tower = image.tower();
    let (tiling, tiles) = most_tiles(config, tower.image_size.height);
    let (method, blocks) = (image.compressor().method(), image.blocks_needed()?);
    let offered: Vec<usize> = match method {
        // Pooling, whose own work counts for nothing; all rows first, with a class token where it is read.
        Method::Identity => {
            image.ladder().values().into_iter().chain(tower.ladder().into_iter().skip(1)).collect()
        }
        _ => rungs(&image.ladder())
            .into_iter()
            .filter_map(|budget| match budget {
                Budget::Tokens(tokens) => Some(tokens),
                _ => None,
            })
            .collect(),
    };
    let mut rows = Vec::with_capacity(offered.len());
    for rung in offered {
        let grid = match method {
            Method::Identity => Some(Grid::square(rung.isqrt())),
            _ => image.compressor().token_grid(image.grid(), rung),
        };
        let positions = match (tiling, grid) {
            (None, _) => rung,
            (Some(tiling), Some(grid)) => tiling.positions(grid),
            // Tokens that lie on no grid cannot be arranged as tiles.
            (Some(_), None) => continue,
        };
        let of_all = |flops: f64| tiles as f64 * flops;
        let mut before = vec![StageFlops { stage: Stage::Tower, flops: image.tower_flops(tiles, blocks) }];
        if image.compressor().reads_question() {
            before.push(StageFlops {
                stage: Stage::Query,
                flops: image.question_flops(workload.text_tokens.max(1))?,
            });
        }
        if method != Method::Identity {
            before.push(StageFlops { stage: Stage::Compress, flops: of_all(image.compressor_flops(rung)?) });
        }
        before.push(StageFlops { stage: Stage::Project, flops: of_all(image.projector_flops(rung)) });
        let prompt = Workload::new(workload.text_tokens.saturating_add(positions), workload.answer_tokens);
        rows.push(question(positions, before, &llm.stages(&prompt, 0, Dtype::F32)?));
    }
    Ok(rows)
}

/// The arrangement of the most tiles that an image can be cut into, and the pictures that the tower then reads.
fn most_tiles(config: &VlmConfig, side: usize) -> (Option<Tiling>, usize) {
    let ImageLayout::Tiles { resolutions } = &config.layout else { return (None, 1) };
    let side = side.max(1);
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
