//! Tensors in training, frozen and trained, and the [`Vlm`] that is built on both.
//!
//! What is frozen is packed for the kernels once, from the file that it lies in, and no f32 copy of a matrix stays beside
//! it. What is trained is candle variables, which the model holds views of: they change in place, and the model sees it.
//! Adapters are two thin matrices of their own beside a packed one, so that they need no model built anew.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use foveate_compress::{CompressorConfig, Fresh, Parameters, Placement};
use foveate_model::vision::VisionConfig;
use foveate_model::vlm::{FrozenPart, FrozenParts, Vlm, VlmConfig};
use foveate_model::weights::LowRank;
use foveate_model::{Dtype, Weights};
use sha2::{Digest, Sha256};

use crate::initialise::Start;
use crate::recipe::{Group, Lora};
use crate::{Result, TrainError, patches};

/// Prefixes of a model's names.
pub(super) const TOWER: &str = "vision_tower.";
pub(super) const LANGUAGE: &str = "language_model.";

/// A trainable tensor.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its values.
    pub variable: Var,
    /// Whose learning rate it has.
    pub group: Group,
}

impl Parameter {
    /// Whether weight decay applies: to matrices, not to biases and norms.
    pub fn decays(&self) -> bool {
        self.variable.rank() >= 2
    }
}

/// A tower or a language model as it is found.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its tensors, by the names of its own file.
    pub weights: Weights,
    /// Names and shapes of all that belong to it.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Where it is published; absent for one that starts fresh.
    pub origin: Option<Origin>,
    /// What its matrices are kept as where it is frozen.
    pub dtype: Dtype,
}

/// A published part.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Its place in the recipe.
    pub word: String,
    /// Its place on this machine.
    pub path: PathBuf,
    /// Names of tensors that differ from the published ones.
    pub changed: Vec<String>,
}

/// What of a network is trained.
#[derive(Clone, Copy, Debug)]
pub struct Trained<'a> {
    /// The groups.
    pub groups: &'a [Group],
    /// The adapters, where they are among the groups.
    pub lora: Option<&'a Lora>,
    /// What compressor, projector and adapters start from.
    pub seed: u64,
}

/// A tower and a language model, a compressor and a projector that start fresh.
pub struct Network {
    config: VlmConfig,
    tower: Frozen,
    language: Frozen,
    /// Tensors of the compressor that are not trained, whole names.
    tables: BTreeMap<String, Tensor>,
    parameters: BTreeMap<String, Parameter>,
    /// What B A is multiplied by.
    adapter_scale: f64,
}

/// The frozen tensors of a part: none where it is trained.
struct Frozen {
    weights: Weights,
    shapes: Vec<(String, Vec<usize>)>,
    origin: Option<Origin>,
    dtype: Dtype,
}

impl Network {
    /// Joins two parts as `config` says; `compressor` is its compressor.
    ///
    /// # Errors
    /// A part without one of its tensors; adapters for a matrix that the language model does not have.
    pub fn new(
        config: VlmConfig,
        compressor: &CompressorConfig,
        tower: Part,
        language: Part,
        trained: Trained<'_>,
    ) -> Result<Network> {
        let mut parameters = BTreeMap::new();
        let tower = part(tower, TOWER, Group::Tower, trained, &mut parameters)?;
        let language = part(language, LANGUAGE, Group::Language, trained, &mut parameters)?;
        let mut tables = BTreeMap::new();
        for (name, group, tensor) in connector(trained.seed, compressor, &config, &mut tables)? {
            if trained.groups.contains(&group) {
                parameters.insert(name, Parameter { variable: Var::from_tensor(&tensor)?, group });
            } else {
                tables.insert(name, tensor);
            }
        }
        if trained.groups.contains(&Group::Patches) {
            let width = config.vision.as_ref().map_or(0, VisionConfig::width);
            for (name, shape) in patches::head(width) {
                let start = Start::of(name, &shape, 1).tensor(trained.seed, name, &shape)?;
                let variable = Var::from_tensor(&start)?;
                parameters.insert(name.to_owned(), Parameter { variable, group: Group::Patches });
            }
        }
        let adapters = trained.lora.filter(|_| trained.groups.contains(&Group::Adapters));
        if let Some(lora) = adapters {
            add_adapters(lora, trained.seed, &config, &mut parameters)?;
        }
        let adapter_scale = adapters.map_or(1.0, |lora| lora.alpha / lora.rank as f64);
        Ok(Network { config, tower, language, tables, parameters, adapter_scale })
    }

    /// The model's configuration.
    pub fn config(&self) -> &VlmConfig {
        &self.config
    }

    /// Every trainable tensor by name, sorted.
    pub fn parameters(&self) -> &BTreeMap<String, Parameter> {
        &self.parameters
    }

    /// Whether any tensor of the tower is trained.
    pub fn trains_tower(&self) -> bool {
        self.parameters.values().any(|parameter| parameter.group == Group::Tower)
    }

    /// What B A of an adapter is multiplied by.
    pub(super) fn adapter_scale(&self) -> f64 {
        self.adapter_scale
    }

    /// A hash of the tower's configuration, tensors and dtype: what its features depend on besides the pixels.
    ///
    /// # Errors
    /// A tensor that cannot be read any more.
    pub fn tower_identity(&self) -> Result<[u8; 32]> {
        let Frozen { weights, shapes, dtype, .. } = &self.tower;
        let mut hash = Sha256::new().chain_update(format!("{:?} {dtype}", self.config.vision));
        for (name, shape) in shapes {
            hash.update(name);
            for value in weights.get(shape.as_slice(), name)?.flatten_all()?.to_vec1::<f32>()? {
                hash.update(value.to_le_bytes());
            }
        }
        Ok(hash.finalize().into())
    }

    /// Numbers of elements: trainable, all.
    pub fn sizes(&self) -> (usize, usize) {
        let own = self.parameters.values().filter(|parameter| parameter.group != Group::Patches);
        let trained: usize = own.map(|parameter| parameter.variable.elem_count()).sum();
        let shapes = self.tower.shapes.iter().chain(&self.language.shapes);
        let frozen: usize = shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let tables: usize = self.tables.values().map(Tensor::elem_count).sum();
        (trained, trained + frozen + tables)
    }

    /// Bytes that the tensors take in memory: those that are trained, without gradients and moments, and those that are
    /// frozen, as they are kept.
    pub fn bytes(&self) -> u64 {
        let frozen = [&self.tower, &self.language].into_iter().flat_map(|frozen| {
            frozen.shapes.iter().map(|(name, shape)| {
                let count = shape.iter().product::<usize>() as u64;
                match frozen.dtype {
                    // Vectors, and what is no matrix of a linear layer, are f32 whatever the dtype.
                    _ if shape.len() != 2 => 4 * count,
                    Dtype::Bf16 => 2 * count,
                    // With a scale of two bytes for each 32.
                    Dtype::Int8 => count + count / 16,
                    Dtype::AsStored => frozen.weights.stored(name).map_or(4 * count, |stored| stored.bytes),
                    Dtype::F32 => 4 * count,
                }
            })
        });
        let tables = self.tables.values().map(|table| 4 * table.elem_count() as u64);
        let trained = self.parameters.values().map(|parameter| 4 * parameter.variable.elem_count() as u64);
        frozen.chain(tables).chain(trained).sum()
    }

    /// The model on the variables as they are and as they will be; gradients reach those of `groups`.
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn vlm(&self, groups: &[Group]) -> Result<Vlm> {
        let value = |parameter: &Parameter| match groups.contains(&parameter.group) {
            true => parameter.variable.as_tensor().clone(),
            // The same memory, without a gradient.
            false => parameter.variable.as_detached_tensor(),
        };
        let (mut tower, mut language) = (HashMap::new(), HashMap::new());
        let tables = self.tables.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        let mut rest: HashMap<String, Tensor> = tables.collect();
        for (name, parameter) in self.parameters.iter().filter(|(_, one)| one.group != Group::Patches) {
            let (of, name) = if let Some(own) = name.strip_prefix(TOWER) {
                (&mut tower, own)
            } else if let Some(own) = name.strip_prefix(LANGUAGE) {
                (&mut language, own)
            } else {
                (&mut rest, name.as_str())
            };
            of.insert(name.to_owned(), value(parameter));
        }
        let tower = self.tower.weights.with_live(tower);
        let language = self.language.weights.with_live(language).with_adapter_scale(self.adapter_scale);
        Ok(Vlm::of_parts(self.config.clone(), &tower, &language, &Weights::from_tensors(rest))?)
    }

    /// All tensors by their published names, each handed to `store` as it is read, adapters merged.
    pub(super) fn each_tensor(&self, mut store: impl FnMut(String, Tensor) -> Result<()>) -> Result<()> {
        let value = |name: &str| Some(self.parameters.get(name)?.variable.as_detached_tensor());
        for (prefix, Frozen { weights, shapes, .. }) in [(TOWER, &self.tower), (LANGUAGE, &self.language)] {
            for (name, shape) in shapes {
                let mut tensor = weights.get(shape.as_slice(), name)?;
                let layer = name.strip_suffix("weight").unwrap_or(name);
                let [a, b] = ["A", "B"].map(|which| value(&format!("{prefix}{layer}lora_{which}.weight")));
                if let (Some(a), Some(b)) = (a, b) {
                    tensor = LowRank { a, b, scale: self.adapter_scale }.added_to(&tensor)?;
                }
                store(format!("{prefix}{name}"), tensor)?;
            }
        }
        self.tables.iter().try_for_each(|(name, tensor)| store(name.clone(), tensor.clone()))?;
        let elsewhere = |parameter: &Parameter| matches!(parameter.group, Group::Adapters | Group::Patches);
        for (name, parameter) in self.parameters.iter().filter(|(_, parameter)| !elsewhere(parameter)) {
            store(name.clone(), parameter.variable.as_detached_tensor())?;
        }
        Ok(())
    }

    /// What a checkpoint needs besides the published files of frozen parts, adapters as they are: see
    /// [`each_tensor`](Self::each_tensor).
    pub(super) fn each_trained(&self, mut store: impl FnMut(String, Tensor) -> Result<()>) -> Result<()> {
        for (prefix, Frozen { weights, shapes, origin, .. }) in
            [(TOWER, &self.tower), (LANGUAGE, &self.language)]
        {
            let own = |name: &String| origin.as_ref().is_none_or(|origin| origin.changed.contains(name));
            for (name, shape) in shapes.iter().filter(|(name, _)| own(name)) {
                store(format!("{prefix}{name}"), weights.get(shape.as_slice(), name)?)?;
            }
        }
        self.tables.iter().try_for_each(|(name, tensor)| store(name.clone(), tensor.clone()))?;
        let mut own = self.parameters.iter().filter(|(_, parameter)| parameter.group != Group::Patches);
        own.try_for_each(|(name, parameter)| store(name.clone(), parameter.variable.as_detached_tensor()))
    }

    /// The published files that the frozen parts are read from; those that the recipe has a word for can be fetched.
    ///
    /// # Errors
    /// A file that cannot be read any more: it is read as a whole.
    pub(super) fn frozen_parts(&self) -> Result<FrozenParts> {
        let describe = |frozen: &Frozen| {
            let Some(Origin { word, path, .. }) = &frozen.origin else { return Ok(None) };
            // A path of this machine says nothing elsewhere.
            let from = Some(word.clone()).filter(|word| !Path::new(word).exists());
            FrozenPart::describe(path, from).map(Some)
        };
        Ok(FrozenParts { tower: describe(&self.tower)?, language: describe(&self.language)? })
    }

    /// Starts the tensors of `groups` at the values of the same names in `stored`; of compressor and projector also those
    /// that are not trained.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(super) fn start(&mut self, stored: &Weights, groups: &[Group]) -> Result<()> {
        if groups.contains(&Group::Compressor) {
            for (name, table) in &mut self.tables {
                *table = stored.get(table.dims(), name)?;
            }
        }
        for (name, parameter) in self.parameters.iter().filter(|(_, one)| groups.contains(&one.group)) {
            parameter.variable.set(&stored.get(parameter.variable.dims(), name)?)?;
        }
        Ok(())
    }

    /// Takes values for the trainable tensors, all of them.
    ///
    /// # Errors
    /// [`TrainError::Field`] naming a tensor that is missing or has another shape.
    pub fn restore(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        for (name, parameter) in &self.parameters {
            let shape = parameter.variable.dims();
            let stored = tensors.get(name).filter(|stored| stored.dims() == shape).ok_or_else(|| {
                let found =
                    tensors.get(name).map_or("missing".to_owned(), |stored| format!("{:?}", stored.dims()));
                TrainError::field(name, found, format!("a tensor of shape {shape:?}"))
            })?;
            parameter.variable.set(&stored.to_device(&Device::Cpu)?)?;
        }
        Ok(())
    }
}

/// A part as frozen tensors, or as variables where its group is trained.
fn part(
    part: Part,
    prefix: &str,
    group: Group,
    trained: Trained<'_>,
    parameters: &mut BTreeMap<String, Parameter>,
) -> Result<Frozen> {
    let Part { weights, shapes, origin, dtype } = part;
    if !trained.groups.contains(&group) {
        return Ok(Frozen { weights: weights.packed_once(dtype), shapes, origin, dtype });
    }
    for (name, shape) in &shapes {
        let variable = Var::from_tensor(&weights.get(shape.as_slice(), name)?)?;
        parameters.insert(format!("{prefix}{name}"), Parameter { variable, group });
    }
    // Nothing of where they started stays in memory.
    let weights = Weights::from_tensors(HashMap::new());
    Ok(Frozen { weights, shapes: Vec::new(), origin: None, dtype })
}

/// The filter of windows of one patch: a query that has one key to look at gets that key's value whatever it is, so that
/// nothing about it can be learnt.
const ONE_PATCH: [&str; 2] = ["q_downsample.1.weight", "q_downsample.1.bias"];

/// Fresh weights of the compressor, which knows how they start, and of the projector where there is one. `tables` takes
/// tensors that belong to the checkpoint and are never trained.
fn connector(
    seed: u64,
    compressor: &CompressorConfig,
    config: &VlmConfig,
    tables: &mut BTreeMap<String, Tensor>,
) -> Result<Vec<(String, Group, Tensor)>> {
    let fresh = Fresh::new(seed, Device::Cpu);
    let loaded = compressor.load(&Parameters::new(&fresh, "compressor"))?;
    let mut variables = fresh.variables();
    variables.retain(|name, _| !ONE_PATCH.iter().any(|filter| name.ends_with(filter)));
    tables.extend(fresh.tensors().into_iter().filter(|(name, _)| !variables.contains_key(name)));
    let own = |(name, variable): (String, Var)| (name, Group::Compressor, variable.as_detached_tensor());
    let mut all: Vec<_> = variables.into_iter().map(own).collect();
    if loaded.placement() != Placement::InsteadOfProjector {
        let width = config.vision.as_ref().map_or(0, VisionConfig::width);
        let input = loaded.output_width(width);
        let output = config.text.width;
        for (layer, shape) in [("linear_1", [output, input]), ("linear_2", [output, output])] {
            for (kind, shape) in [("weight", &shape[..]), ("bias", &shape[..1])] {
                let name = format!("multi_modal_projector.{layer}.{kind}");
                // A bias is a vector, too: it must not start like a norm.
                let tensor = Start::of(&name, shape, 1).tensor(seed, &name, shape)?;
                all.push((name, Group::Projector, tensor));
            }
        }
    }
    Ok(all)
}

/// A and B of each adapter among the parameters.
fn add_adapters(
    lora: &Lora,
    seed: u64,
    config: &VlmConfig,
    parameters: &mut BTreeMap<String, Parameter>,
) -> Result<()> {
    let shapes: BTreeMap<String, Vec<usize>> = config.text.tensors().into_iter().collect();
    for block in 0..config.text.blocks {
        for projection in &lora.projections {
            let layer = format!("model.layers.{block}.{}", projection.tensor());
            let Some([output, input]) = shapes.get(&format!("{layer}.weight")).map(Vec::as_slice) else {
                let allowed = "a projection that the language model stores by itself";
                return Err(TrainError::field("lora.projections", projection.tensor(), allowed));
            };
            // B starts at zero, so that the model starts as it was.
            let start_a = Start::TruncatedNormal((*input as f64).powf(-0.5));
            for (which, start, shape) in
                [("A", start_a, [lora.rank, *input]), ("B", Start::Constant(0.0), [*output, lora.rank])]
            {
                let name = format!("{LANGUAGE}{layer}.lora_{which}.weight");
                let variable = Var::from_tensor(&start.tensor(seed, &name, &shape)?)?;
                parameters.insert(name, Parameter { variable, group: Group::Adapters });
            }
        }
    }
    Ok(())
}
