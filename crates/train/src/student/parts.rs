//! Parts from folders, files and seeds, joined to one configuration and one list of tensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use foveate_compress::{Fresh, Parameters};
use foveate_data::prompt::ChatTemplate;
use foveate_model::Weights;
use foveate_model::llm::DecoderConfig;
use foveate_model::vision::{Dinov2Config, VisionConfig, VisionTower};
use foveate_model::vlm::VlmConfig;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use super::export::{processor_json, tokenizer_json};
use super::positions;
use super::{Adapter, Parameter, Resolver, Student};
use crate::initialise::Start;
use crate::recipe::{Group, Recipe, Source, Tokens};
use crate::tokenizer::END_TOKEN;
use crate::{Result, TrainError};

/// A part's configuration as JSON, and its tensors under the names of its own file.
struct Part {
    config: Value,
    tensors: BTreeMap<String, Tensor>,
}

pub(super) fn build(recipe: &Recipe, resolve: &Resolver<'_>, trained: Option<Tokenizer>) -> Result<Student> {
    let parts = &recipe.parts;
    let located = |part: &'static str, word: &str| -> Result<PathBuf> {
        resolve(word).map_err(|reason| TrainError::Part { part, word: word.to_owned(), reason })
    };
    let folder = match &parts.language {
        Source::From(word) => Some(located("language", word)?),
        Source::Fresh(_) => None,
    };
    let mut files = BTreeMap::new();
    let tokenizer = match (&parts.tokenizer, trained) {
        (_, Some(trained)) => trained,
        (Some(Tokens::From(word)), _) => open_tokenizer(&located("tokenizer", word)?)?,
        _ => open_tokenizer(folder.as_deref().unwrap_or(Path::new("")))?,
    };
    let vocabulary = tokenizer.get_vocab_size(true);
    let language = match (&parts.language, &folder) {
        (Source::From(word), Some(folder)) => open_language(word, folder)?,
        (source, _) => fresh_language(source, recipe.seed, vocabulary, &tokenizer)?,
    };
    let tower = match &parts.tower {
        Source::From(word) => open_tower(word, &located("tower", word)?, parts.image.side as usize)?,
        Source::Fresh(table) => fresh_tower(table, recipe.seed)?,
    };
    let template = match (&parts.template, &folder) {
        (Some(source), _) => {
            let special = BTreeMap::from([("eos_token".to_owned(), END_TOKEN.to_owned())]);
            ChatTemplate::from_jinja("parts.template", source, special)?
        }
        (None, Some(folder)) => ChatTemplate::from_folder(folder)?.ok_or_else(|| {
            TrainError::field("parts.template", "missing", format!("needed: {} has none", folder.display()))
        })?,
        (None, None) => return Err(TrainError::field("parts.template", "missing", "needed")),
    };
    let mut json = json!({
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        "text_config": language.config,
        "vision_config": tower.config,
        "vision_feature_layer": parts.feature_state,
        "vision_feature_select_strategy": "default",
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": true,
        "compressor": parts.compressor,
    });
    if let Some(id) = tokenizer.token_to_id(template.image_token()) {
        json["image_token_index"] = id.into();
    }
    let config = VlmConfig::from_json(&json.to_string())?;
    let end_token = config.text.end_tokens.first().copied().ok_or_else(|| {
        TrainError::field(
            "parts.language",
            "without `eos_token_id`",
            "a model whose configuration says what ends an answer",
        )
    })?;
    let preprocessor = parts.image.preprocessor()?;
    match &folder {
        Some(folder) => copy_files(folder, &mut files)?,
        None => tokenizer_json(&tokenizer, parts.template.as_deref().unwrap_or_default(), &mut files)?,
    }
    files.insert("preprocessor_config.json".to_owned(), processor_json(&parts.image, &preprocessor));

    let mut all: BTreeMap<String, (Group, Tensor)> = BTreeMap::new();
    let prefixed = |prefix: &str, group, tensors: BTreeMap<String, Tensor>| {
        tensors
            .into_iter()
            .map(move |(name, tensor)| (format!("{prefix}.{name}"), (group, tensor)))
            .collect::<Vec<_>>()
    };
    all.extend(prefixed("vision_tower", Group::Tower, tower.tensors));
    all.extend(prefixed("language_model", Group::Language, language.tensors));
    let mut frozen = compressor_and_projector(recipe, &config, &mut all)?;
    let trained = recipe.trained_groups();
    let mut parameters = BTreeMap::new();
    for (name, (group, tensor)) in all {
        if trained.contains(&group) {
            let variable = Var::from_tensor(&tensor)?;
            parameters.insert(name, Parameter { variable, group });
        } else {
            frozen.insert(name, tensor);
        }
    }
    let adapters = adapters(recipe, &config, &frozen, &mut parameters)?;
    let compressor = parts.compressor.clone();
    Ok(Student {
        config,
        json,
        compressor,
        frozen,
        parameters,
        adapters,
        tokenizer,
        template,
        preprocessor,
        end_token,
        files,
    })
}

/// The filter of windows of one patch: a query that has one key to look at gets that key's value whatever it is, so that
/// nothing about it can be learnt.
const ONE_PATCH: [&str; 2] = ["q_downsample.1.weight", "q_downsample.1.bias"];

/// Fresh weights of the compressor, which knows how they start, and of the projector where there is one. Returns tables
/// that belong to the checkpoint and are not trained.
fn compressor_and_projector(
    recipe: &Recipe,
    config: &VlmConfig,
    all: &mut BTreeMap<String, (Group, Tensor)>,
) -> Result<BTreeMap<String, Tensor>> {
    let fresh = Fresh::new(recipe.seed, Device::Cpu);
    let compressor = recipe.parts.compressor.load(&Parameters::new(&fresh, "compressor"))?;
    let mut variables = fresh.variables();
    variables.retain(|name, _| !ONE_PATCH.iter().any(|filter| name.ends_with(filter)));
    let tables = fresh.tensors().into_iter().filter(|(name, _)| !variables.contains_key(name)).collect();
    for (name, variable) in variables {
        all.insert(name, (Group::Compressor, variable.as_detached_tensor()));
    }
    if compressor.placement() != foveate_compress::Placement::InsteadOfProjector {
        let width = config.vision.as_ref().map_or(0, VisionConfig::width);
        let input = compressor.output_width(width);
        let output = config.text.width;
        for (layer, shape) in [("linear_1", [output, input]), ("linear_2", [output, output])] {
            for (kind, shape) in [("weight", &shape[..]), ("bias", &shape[..1])] {
                let name = format!("multi_modal_projector.{layer}.{kind}");
                // A bias is a vector, too: it must not start like a norm.
                let tensor = Start::of(&name, shape, 1).tensor(recipe.seed, &name, shape)?;
                all.insert(name, (Group::Projector, tensor));
            }
        }
    }
    Ok(tables)
}

fn adapters(
    recipe: &Recipe,
    config: &VlmConfig,
    frozen: &BTreeMap<String, Tensor>,
    parameters: &mut BTreeMap<String, Parameter>,
) -> Result<Vec<Adapter>> {
    let Some(lora) = recipe.lora.as_ref().filter(|_| recipe.trained_groups().contains(&Group::Adapters))
    else {
        return Ok(Vec::new());
    };
    let mut adapters = Vec::new();
    for block in 0..config.text.blocks {
        for projection in &lora.projections {
            let layer = format!("language_model.model.layers.{block}.{}", projection.tensor());
            let target = format!("{layer}.weight");
            let Some(matrix) = frozen.get(&target) else {
                let allowed = "a projection that the language model stores by itself";
                return Err(TrainError::field("lora.projections", projection.tensor(), allowed));
            };
            let (output, input) = matrix.dims2()?;
            let (a, b) = (format!("{layer}.lora_A.weight"), format!("{layer}.lora_B.weight"));
            // B starts at zero, so that the model starts as it was.
            let start_a = Start::TruncatedNormal((input as f64).powf(-0.5));
            for (name, start, shape) in
                [(&a, start_a, [lora.rank, input]), (&b, Start::Constant(0.0), [output, lora.rank])]
            {
                let variable = Var::from_tensor(&start.tensor(recipe.seed, name, &shape)?)?;
                parameters.insert(name.clone(), Parameter { variable, group: Group::Adapters });
            }
            adapters.push(Adapter { target, a, b, scale: lora.alpha / lora.rank as f64 });
        }
    }
    Ok(adapters)
}

fn open_tokenizer(path: &Path) -> Result<Tokenizer> {
    let path = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let failed = |error| TrainError::Tokenizer(format!("{}: {error}", path.display()));
    let mut tokenizer = Tokenizer::from_file(&path).map_err(failed)?;
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
    let failed = |error: serde_json::Error| TrainError::Syntax {
        file: path.display().to_string(),
        reason: error.to_string(),
    };
    serde_json::from_str(&text).map_err(failed)
}

fn open_language(word: &str, folder: &Path) -> Result<Part> {
    if !folder.is_dir() {
        let reason = "a language model to train with is a folder with config.json and weights".to_owned();
        return Err(TrainError::Part { part: "language", word: word.to_owned(), reason });
    }
    let config = read_json(&folder.join("config.json"))?;
    let decoder = DecoderConfig::from_json(&config.to_string())?;
    let weights = Weights::open(folder)?;
    let tensors = decoder.tensors().into_iter();
    let tensors = tensors.map(|(name, shape)| Ok((name.clone(), weights.get(shape, &name)?)));
    Ok(Part { config, tensors: tensors.collect::<Result<_>>()? })
}

fn fresh_language(source: &Source, seed: u64, vocabulary: usize, tokenizer: &Tokenizer) -> Result<Part> {
    let mut config = match source {
        Source::Fresh(table) => to_json(table),
        Source::From(_) => Value::Null,
    };
    let field = "parts.language.fresh.vocab_size";
    match config.get("vocab_size").and_then(Value::as_u64) {
        None => config["vocab_size"] = vocabulary.into(),
        Some(rows) if rows < vocabulary as u64 => {
            return Err(TrainError::field(
                field,
                rows,
                format!("{vocabulary} or more, the tokens of the tokenizer"),
            ));
        }
        Some(_) => {}
    }
    if config.get("eos_token_id").is_none() {
        let end = tokenizer.token_to_id(END_TOKEN);
        config["eos_token_id"] = end.map_or(Value::Null, Value::from);
    }
    let decoder = DecoderConfig::from_json(&config.to_string())?;
    let tensors = decoder.tensors().into_iter().map(|(name, shape)| {
        let tensor = Start::of(&name, &shape, decoder.blocks).tensor(
            seed,
            &format!("language_model.{name}"),
            &shape,
        )?;
        Ok((name, tensor))
    });
    Ok(Part { config, tensors: tensors.collect::<Result<_>>()? })
}

fn open_tower(word: &str, path: &Path, side: usize) -> Result<Part> {
    let mut weights = Weights::open(path)?;
    // Below these prefixes a classifier's file or an export keeps the tower.
    let prefix = ["dinov2", "backbone"].into_iter().find(|prefix| !weights.pp(prefix).names().is_empty());
    if let Some(prefix) = prefix {
        weights = weights.pp(prefix).rename(|_| None);
    }
    let config = if path.is_dir() {
        VisionConfig::from_json(&read_json(&path.join("config.json"))?.to_string())?
    } else {
        VisionConfig::Dinov2(Dinov2Config::from_shapes(&weights)?)
    };
    // What loading a tower asks for is what belongs to it.
    VisionTower::load(config.clone(), &weights)?;
    let unused = weights.unused();
    let needed = weights.names().into_iter().filter(|name| !unused.contains(name));
    let tensors = needed.map(|name| {
        let shape = weights.shape(&name).map(candle_core::Shape::into_dims).unwrap_or_default();
        Ok((name.clone(), weights.get(shape, &name)?))
    });
    let mut tensors = tensors.collect::<Result<_>>()?;
    let config = positions::resize(config, side, &mut tensors)?;
    let json = serde_json::to_value(&config);
    let json = json.map_err(|error| TrainError::Part {
        part: "tower",
        word: word.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(Part { config: json, tensors })
}

fn fresh_tower(table: &toml::Table, seed: u64) -> Result<Part> {
    let json = to_json(table);
    let config = VisionConfig::from_json(&json.to_string())?;
    let (width, hidden, blocks, bias, class) = match &config {
        VisionConfig::Siglip(c) => (c.hidden_size, c.intermediate_size, c.num_hidden_layers, true, false),
        VisionConfig::Clip(c) => (c.hidden_size, c.intermediate_size, c.num_hidden_layers, false, true),
        _ => {
            let found = json.get("model_type").map(Value::to_string).unwrap_or_default();
            return Err(TrainError::field(
                "parts.tower.fresh.model_type",
                found,
                "siglip_vision_model or clip_vision_model",
            ));
        }
    };
    let patch = config.patch_size();
    let mut shapes = vec![
        ("embeddings.patch_embedding.weight".to_owned(), vec![width, 3, patch, patch]),
        (
            "embeddings.position_embedding.weight".to_owned(),
            vec![config.grid().patches() + usize::from(class), width],
        ),
    ];
    if bias {
        shapes.push(("embeddings.patch_embedding.bias".to_owned(), vec![width]));
    }
    let mut layer = |name: String, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
    };
    // The last block's output is state −1: LLaVA's −2 leaves it without a use, and without a gradient.
    for block in 0..blocks {
        let block = format!("encoder.layers.{block}");
        for norm in ["layer_norm1", "layer_norm2"] {
            layer(format!("{block}.{norm}"), &[width]);
        }
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            layer(format!("{block}.self_attn.{projection}"), &[width, width]);
        }
        layer(format!("{block}.mlp.fc1"), &[hidden, width]);
        layer(format!("{block}.mlp.fc2"), &[width, hidden]);
    }
    if class {
        layer("pre_layrnorm".to_owned(), &[width]);
        shapes.push(("embeddings.class_embedding".to_owned(), vec![width]));
    }
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let name = format!("vision_model.{name}");
        let tensor =
            Start::of(&name, &shape, blocks).tensor(seed, &format!("vision_tower.{name}"), &shape)?;
        Ok((name, tensor))
    });
    Ok(Part { config: json, tensors: tensors.collect::<Result<_>>()? })
}

fn to_json(table: &toml::Table) -> Value {
    serde_json::to_value(table).unwrap_or(Value::Null)
}

/// The files beside a language model's weights that a model made of it needs as well.
fn copy_files(folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"] {
        let path = folder.join(name);
        if path.is_file() {
            files.insert(name.to_owned(), std::fs::read(&path).map_err(TrainError::io(&path))?);
        }
    }
    Ok(())
}
