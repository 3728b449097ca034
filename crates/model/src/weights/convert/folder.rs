//! A folder: its weights rounded, its configuration saying so, everything else copied.

mod config;
mod shard;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use shard::{Item, Kind, write_header};

use super::output::Output;
use super::place::Place;
use super::round::{Scale, to_bf16, to_bytes};
use super::{ConvertError, Converted, Options, Progress, Target, is_quantised};
use crate::weights::shards::{Dtype, Shards};
use crate::weights::{Source, WeightsError};

/// Other files of a model are at most this long, in bytes; the longest tokenizers have some thirty million.
const SMALL: u64 = 128 << 20;

/// Folders inside of folders that are looked at: a vision tower beside its language model is one.
const DEEPEST: usize = 3;

/// How the names of files with weights end, whoever reads them.
const WEIGHTS: [&str; 11] =
    ["safetensors", "bin", "pt", "pth", "gguf", "onnx", "h5", "msgpack", "ckpt", "tflite", "ot"];

/// A folder with weights, and where it goes.
struct Part {
    from: PathBuf,
    /// Below the output.
    to: PathBuf,
    shards: Shards,
}

pub(super) fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Converted, ConvertError> {
    let place = Place::check(input, output, options.replace)?;
    let (mut parts, mut copies, mut report) = (Vec::new(), Vec::new(), Converted::empty());
    parts.push(Part { from: input.to_owned(), to: PathBuf::new(), shards: Shards::open_folder(input)? });
    survey(input, Path::new(""), 0, &mut parts, &mut copies, &mut report.left_out)?;
    for part in &parts {
        report.bytes_before += check(&part.shards, options)?;
    }

    let staged = place.stage_folder()?;
    let mut advanced = Progress { done: 0, total: report.bytes_before };
    for part in &parts {
        let folder = staged.path().join(&part.to);
        let shown = place.shown.join(&part.to);
        fs::create_dir_all(&folder).map_err(ConvertError::write(&shown))?;
        let mut step = |bytes: u64| {
            advanced.done += bytes;
            progress(advanced);
        };
        let ignored = weights(part, (&folder, &shown), options, &mut report, &mut step)?;
        let text = config::converted(&part.from.join("config.json"), options.target, ignored)?;
        write_small(&folder.join("config.json"), &shown.join("config.json"), text.as_bytes())?;
    }
    for relative in copies {
        let (from, to) = (input.join(&relative), staged.path().join(&relative));
        let shown = place.shown.join(&relative);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(ConvertError::write(&shown))?;
        }
        let bytes = fs::read(&from).map_err(ConvertError::read(&from))?;
        write_small(&to, &shown, &bytes)?;
    }
    place.commit_folder(staged)?;
    Ok(report)
}

/// Lists what lies in a folder besides its own weights: folders with weights, and files to copy.
fn survey(
    root: &Path,
    below: &Path,
    depth: usize,
    parts: &mut Vec<Part>,
    copies: &mut Vec<PathBuf>,
    left_out: &mut Vec<PathBuf>,
) -> Result<(), ConvertError> {
    let folder = root.join(below);
    let mut entries = Vec::new();
    for entry in fs::read_dir(&folder).map_err(ConvertError::read(&folder))? {
        entries.push(entry.map_err(ConvertError::read(&folder))?.file_name());
    }
    entries.sort();
    let has_weights = parts.iter().any(|part| part.to == below);
    for name in entries {
        // `.git`, `.cache` and the like are not the model's.
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let relative = below.join(&name);
        let path = root.join(&relative);
        let about = fs::metadata(&path).map_err(ConvertError::read(&path))?;
        let extension = relative.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let text = name.to_string_lossy();
        if about.is_dir() {
            if depth >= DEEPEST {
                left_out.push(relative);
                continue;
            }
            if path.join("config.json").is_file() {
                match Shards::open_folder(&path) {
                    Ok(shards) => parts.push(Part { from: path, to: relative.clone(), shards }),
                    Err(WeightsError::NotACheckpoint { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            survey(root, &relative, depth + 1, parts, copies, left_out)?;
        } else if has_weights && text == "config.json" {
            // Written anew.
        } else if WEIGHTS.iter().any(|weights| extension.eq_ignore_ascii_case(weights)) {
            let shown = path.display().to_string();
            if !parts.iter().any(|part| part.shards.files().any(|read| read == shown)) {
                left_out.push(relative);
            }
        } else if text.ends_with(".safetensors.index.json") || text.ends_with(".bin.index.json") {
            // The result gets its own.
        } else if about.is_file() && about.len() <= SMALL {
            copies.push(relative);
        } else {
            left_out.push(relative);
        }
    }
    Ok(())
}

/// Refuses weights that are quantised already, unless that was asked for; returns the bytes of all.
fn check(shards: &Shards, options: &Options) -> Result<u64, ConvertError> {
    let mut bytes = 0;
    for name in shards.names() {
        let Some(stored) = shards.stored(&name) else { continue };
        bytes += stored.bytes;
        if let Some(format) = stored.format.filter(|format| is_quantised(*format) && !options.requantise) {
            let file = shards.file_of(&name);
            return Err(ConvertError::Quantised { file, tensor: name, format, target: options.target });
        }
    }
    Ok(bytes)
}

/// Writes the weights of a part; returns the layers that were to be quantised by their kind but are not.
fn weights(
    part: &Part,
    (folder, shown): (&Path, &Path),
    options: &Options,
    report: &mut Converted,
    step: &mut dyn FnMut(u64),
) -> Result<Vec<String>, ConvertError> {
    let mut items = Vec::new();
    let mut ignored = Vec::new();
    for name in part.shards.names() {
        let Some((_, entry)) = part.shards.entry(&name) else { continue };
        let stored = part.shards.stored(&name).and_then(|stored| stored.format);
        let kind = match (stored, options.target) {
            (None, _) => Kind::Copy(entry.dtype),
            (_, Target::Bf16) => Kind::Bf16,
            (_, target) => match run_of(&name, &entry.shape, target) {
                Some(Some(run)) => Kind::Bytes { run },
                Some(None) => {
                    ignored.push(name.strip_suffix(".weight").unwrap_or(&name).to_owned());
                    Kind::Bf16
                }
                None => Kind::Bf16,
            },
        };
        items.push(Item { name, kind, shape: entry.shape.clone() });
    }
    let shards = shard::divide(items, options.shard_bytes);
    let mut places = BTreeMap::new();
    for (index, items) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => "model.safetensors".to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", index + 1),
        };
        let mut output = Output::create(&folder.join(&file), &shown.join(&file))?;
        write_header(items, &mut output)?;
        for item in items {
            let (loss, written) = write_item(&part.shards, item, options.target, &mut output)?;
            report.bytes_after += written;
            report.count(&item.name, loss);
            step(part.shards.stored(&item.name).map_or(0, |stored| stored.bytes));
            places.extend(item.tensors().map(|tensor| (tensor.name, file.clone())));
        }
        report.files.push(output.finish()?);
    }
    if shards.len() > 1 {
        let total: u64 = shards.iter().flatten().flat_map(Item::tensors).map(|tensor| tensor.bytes).sum();
        let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": places });
        let name = "model.safetensors.index.json";
        write_small(&folder.join(name), &shown.join(name), format!("{index:#}\n").as_bytes())?;
    }
    verify(part, folder, shown)?;
    Ok(ignored)
}

/// Opens what was written as any reader would and compares names and shapes.
fn verify(part: &Part, folder: &Path, shown: &Path) -> Result<(), ConvertError> {
    let written = Shards::open_folder(folder)?;
    let same = |name: &String| written.shape(name) == part.shards.shape(name);
    match part.shards.names().into_iter().find(|name| !same(name)) {
        None => Ok(()),
        Some(name) => Err(WeightsError::missing(&shown.display().to_string(), &name).into()),
    }
}

/// Rounds a weight and writes it; returns what it lost, if its format changed, and the bytes it takes.
fn write_item(
    shards: &Shards,
    item: &Item,
    target: Target,
    output: &mut Output,
) -> Result<(Option<f64>, u64), ConvertError> {
    let Some((file, entry)) = shards.entry(&item.name) else { return Ok((None, 0)) };
    let same = entry.dtype == Dtype::BF16;
    let mut put = |bytes: &[u8]| output.write(bytes).map(|()| bytes.len() as u64);
    let result = match item.kind {
        Kind::Copy(_) => {
            let bytes = entry.bytes(&file.bytes);
            (None, put(&bytes)?)
        }
        Kind::Bf16 => {
            let (bytes, deviation) = to_bf16(&shards.values(&item.name)?);
            ((!same).then(|| deviation.relative()), put(&bytes)?)
        }
        Kind::Bytes { run } => {
            let scale = if target == Target::Q8_0 { Scale::F16 } else { Scale::F32 };
            let scaled = to_bytes(&shards.values(&item.name)?, run, scale).ok_or_else(|| {
                ConvertError::Unfit { file: shards.file_of(&item.name), tensor: item.name.clone(), target }
            })?;
            let scales: Vec<u8> = scaled.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
            (Some(scaled.deviation.relative()), put(&scales)? + put(&scaled.levels)?)
        }
    };
    file.bytes.release(entry.at.clone());
    Ok(result)
}

/// `None` for what is no matrix of a linear layer; `Some(None)` for one that stays in bf16; else the numbers that share a
/// scale.
fn run_of(name: &str, shape: &[usize], target: Target) -> Option<Option<usize>> {
    let &[n, k] = shape else { return None };
    let layer = name.strip_suffix(".weight")?;
    // Tables that are looked up: `embed_tokens`, `position_embedding`, everything below `embeddings`.
    if n * k == 0 || layer.split('.').any(|segment| segment.contains("embed")) {
        return None;
    }
    let head = layer == "lm_head" || layer.ends_with(".lm_head");
    let (run, fits) = match target {
        Target::Q8_0 => (32, k.is_multiple_of(32)),
        _ => (k, true),
    };
    // Tensors follow each other without gaps, and readers want each at a multiple of its numbers' width.
    Some((fits && !head && (n * k).is_multiple_of(4)).then_some(run))
}

fn write_small(path: &Path, shown: &Path, bytes: &[u8]) -> Result<(), ConvertError> {
    use std::io::Write as _;
    let write = || {
        let mut file = fs::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(ConvertError::write(shown))
}
