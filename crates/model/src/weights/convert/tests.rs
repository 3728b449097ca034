#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use super::*;
use crate::weights::Weights;
use crate::weights::gguf::GgufFile;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn run(input: &Path, output: &Path, target: Target) -> Result<Converted, ConvertError> {
    convert(input, output, &Options::new(target), |_| ())
}

fn values(weights: &Weights, name: &str) -> Vec<f32> {
    let tensor = weights.get(weights.shape(name).unwrap(), name).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// ‖b − a‖ / ‖a‖.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum = |terms: &mut dyn Iterator<Item = f64>| terms.sum::<f64>().sqrt();
    let error = sum(&mut a.iter().zip(b).map(|(a, b)| (f64::from(*b) - f64::from(*a)).powi(2)));
    let size = sum(&mut a.iter().map(|a| f64::from(*a).powi(2)));
    if size == 0.0 { error } else { error / size }
}

/// Writes a folder of one safetensors file.
fn folder(tensors: &[(&str, Tensor)], config: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tensors: BTreeMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    safetensors::serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn floats(shape: &[usize], at: impl Fn(usize) -> f32) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec((0..count).map(at).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

const FOLDERS: [&str; 7] =
    ["llava-1.5", "llama-untied", "llava-original", "clip-full", "siglip", "dinov2", "compressed-elastic"];

/// Checks each weight of a folder; returns the largest relative error.
fn compare(input: &Path, output: &Path, target: Target) -> f64 {
    let (before, after) = (Weights::open(input).unwrap(), Weights::open(output).unwrap());
    assert_eq!(after.names(), before.names(), "{}", input.display());
    let mut worst = 0.0_f64;
    for weight in before.names() {
        let (was, is) = (before.stored(&weight).unwrap(), after.stored(&weight).unwrap());
        assert_eq!(after.shape(&weight), before.shape(&weight), "{weight}");
        if was.format.is_none() {
            assert_eq!((is.format, is.bytes), (None, was.bytes), "{weight}");
            continue;
        }
        let shape = before.shape(&weight).unwrap().into_dims();
        let linear = shape.len() == 2
            && weight.ends_with("weight")
            && !["embed", "lm_head", "in_proj"].iter().any(|other| weight.contains(other));
        let (format, goal) = match target {
            Target::Int8 if linear => (Quantisation::Int8, 1e-2),
            Target::Q8_0 if linear && shape[1] % 32 == 0 => (Quantisation::Q8_0, 1e-2),
            _ => (Quantisation::BF16, 4e-3),
        };
        assert_eq!(is.format, Some(format), "{weight}");
        let error = relative(&values(&before, &weight), &values(&after, &weight));
        assert!(error <= goal, "{target:?} {weight}: {error}");
        worst = worst.max(error);
    }
    worst
}

/// Every weight is there with its shape, in the format that the documentation says, as near as the format allows; the
/// report says of them what is so.
#[test]
fn folders_keep_their_weights_within_the_bounds_of_each_target() {
    let out = tempfile::tempdir().unwrap();
    for name in FOLDERS {
        let input = fixture("models").join(name);
        for target in Target::ALL {
            let output = out.path().join(format!("{name}-{}", target.name()));
            let report = run(&input, &output, target).unwrap();
            let mut worst = compare(&input, &output, target);
            // A tower in a folder of its own is a part of the model.
            if name == "llava-original" {
                worst = worst.max(compare(&input.join("vision_tower"), &output.join("vision_tower"), target));
            }
            let told = report.worst.unwrap();
            assert!((told.error - worst).abs() < 1e-6, "{name}: {} measured, {} told", worst, told.error);
        }
    }
}

#[test]
fn bytes_and_hashes_are_those_of_the_files() {
    use sha2::Digest;
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("model");
    let mut seen = Vec::new();
    let options = Options::new(Target::Int8);
    let input = fixture("models/llama-untied");
    let report = convert(&input, &output, &options, |progress| seen.push(progress)).unwrap();
    let stored = |path: &Path| {
        let weights = Weights::open(path).unwrap();
        weights.names().iter().map(|name| weights.stored(name).unwrap().bytes).sum::<u64>()
    };
    assert_eq!((report.bytes_before, report.bytes_after), (stored(&input), stored(&output)));
    let [file] = &report.files[..] else { panic!("{:?}", report.files) };
    let bytes = std::fs::read(&file.path).unwrap();
    assert_eq!((&file.path, file.bytes), (&output.join("model.safetensors"), bytes.len() as u64));
    let hash: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(file.sha256, hash);
    assert_eq!(seen.len(), report.tensors);
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert_eq!(seen.last().unwrap(), &Progress { done: report.bytes_before, total: report.bytes_before });
    // The crate of the format's authors reads it as well.
    assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), 30 + 21);
    // Nothing but the result is left, and everything small is in it.
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    for name in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(std::fs::read(output.join(name)).unwrap(), std::fs::read(input.join(name)).unwrap());
    }
    // Tensors that are no part of the model are not copied, and that is said.
    assert_eq!(report.left_out, [Path::new("expected.safetensors")]);
    assert!(!output.join("expected.safetensors").exists());
}

#[test]
fn several_files_hold_what_one_does() {
    let out = tempfile::tempdir().unwrap();
    let input = fixture("models/clip-full");
    let (one, many) = (out.path().join("one"), out.path().join("many"));
    run(&input, &one, Target::Q8_0).unwrap();
    let options = Options { shard_bytes: 20_000, ..Options::new(Target::Q8_0) };
    let report = convert(&input, &many, &options, |_| ()).unwrap();
    assert!((4..10).contains(&report.files.len()), "{:?}", report.files);
    // But for the patches' weights of 37,632 bytes, which no file can be shorter than, and the headers.
    assert_eq!(report.files.iter().filter(|file| file.bytes > 25_000).count(), 1, "{:?}", report.files);
    let count = report.files.len();
    assert!(report.files[1].path.ends_with(format!("model-00002-of-{count:05}.safetensors")));
    let index = std::fs::read_to_string(many.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], report.bytes_after);
    let (one, many) = (Weights::open(&one).unwrap(), Weights::open(&many).unwrap());
    assert_eq!(one.names(), many.names());
    for name in one.names().iter().filter(|name| one.stored(name).unwrap().format.is_some()) {
        assert_eq!(values(&one, name), values(&many, name), "{name}");
    }
}

#[test]
fn the_configuration_says_what_was_done() {
    let out = tempfile::tempdir().unwrap();
    let config = |name: &str, target| -> Value {
        let output = out.path().join(name);
        run(&fixture("models/llava-1.5"), &output, target).unwrap();
        serde_json::from_str(&std::fs::read_to_string(output.join("config.json")).unwrap()).unwrap()
    };
    let bf16 = config("bf16", Target::Bf16);
    assert_eq!(
        (&bf16["torch_dtype"], &bf16["text_config"]["torch_dtype"]),
        (&json!("bfloat16"), &json!("bfloat16"))
    );
    assert!(bf16.get("quantization_config").is_none());
    let int8 = config("int8", Target::Int8);
    let quantisation = &int8["quantization_config"];
    assert_eq!(quantisation["format"], "int-quantized");
    assert_eq!(quantisation["config_groups"]["group_0"]["weights"]["strategy"], "channel");
    assert_eq!(quantisation["ignore"], json!(["language_model.lm_head"]));
    let q8_0 = config("q8_0", Target::Q8_0);
    let quantisation = &q8_0["quantization_config"];
    let weights = &quantisation["config_groups"]["group_0"]["weights"];
    assert_eq!((&weights["strategy"], &weights["group_size"]), (&json!("group"), &json!(32)));
    // Rows of 48 and of 80 numbers are no multiple of 32.
    let ignored = quantisation["ignore"].as_array().unwrap();
    assert!(ignored.contains(&json!("multi_modal_projector.linear_2")), "{ignored:?}");
    assert!(!ignored.contains(&json!("multi_modal_projector.linear_1")), "{ignored:?}");
}

#[test]
fn nothing_is_rounded_twice_by_accident() {
    let out = tempfile::tempdir().unwrap();
    let (first, second) = (out.path().join("first"), out.path().join("second"));
    run(&fixture("models/llama-untied"), &first, Target::Int8).unwrap();
    let error = run(&first, &second, Target::Bf16).unwrap_err().to_string();
    assert!(error.contains("is stored as Int8: as bf16 it would be rounded twice"), "{error}");
    assert!(!second.exists());
    let options = Options { requantise: true, ..Options::new(Target::Int8) };
    convert(&first, &second, &options, |_| ()).unwrap();
    let (first, second) = (Weights::open(&first).unwrap(), Weights::open(&second).unwrap());
    for name in first.names() {
        // The same bytes and, but for their last bit, the same scales.
        assert!(relative(&values(&first, &name), &values(&second, &name)) < 1e-7, "{name}");
    }
}

#[test]
fn numbers_that_do_not_fit_are_named_and_leave_nothing() {
    let config = json!({ "model_type": "llama" });
    let layer = floats(&[4, 4], |i| if i == 9 { f32::NAN } else { i as f32 });
    let input = folder(&[("up.weight", layer)], &config);
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("model");
    let error = run(input.path(), &output, Target::Int8).unwrap_err().to_string();
    assert!(
        error.contains("tensor `up.weight` holds numbers that are not finite or too large for int8"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
    // bf16 has such numbers.
    run(input.path(), &output, Target::Bf16).unwrap();
    assert!(values(&Weights::open(&output).unwrap(), "up.weight")[9].is_nan());
}

/// Bytes, scales and a configuration as others write them.
fn scaled(scale: Tensor, more: &[(&str, Tensor)], edit: impl Fn(&mut Value)) -> Result<Weights, String> {
    let mut config = json!({ "quantization_config": {
        "quant_method": "compressed-tensors", "format": "int-quantized",
        "config_groups": { "group_0": { "targets": ["Linear"], "input_activations": { "dynamic": true },
            "weights": { "num_bits": 8, "type": "int", "symmetric": true, "strategy": "channel" } } },
    } });
    edit(&mut config["quantization_config"]);
    let bytes: Vec<u8> = [1_i8, -2, 3, -128, 127, 0, 5, 6].map(i8::cast_unsigned).into();
    let weight = safetensors::tensor::TensorView::new(safetensors::Dtype::I8, vec![2, 4], &bytes).unwrap();
    let mut tensors = vec![("a.weight".to_owned(), weight)];
    let more: Vec<_> = [("a.weight_scale", scale)].iter().chain(more).cloned().collect();
    let stored: Vec<(String, Vec<u8>, Vec<usize>)> = more
        .iter()
        .map(|(name, tensor)| {
            let numbers: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            ((*name).to_owned(), bytes, tensor.dims().to_vec())
        })
        .collect();
    for (name, bytes, shape) in &stored {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        tensors.push((name.clone(), view));
    }
    let folder = tempfile::tempdir().unwrap();
    safetensors::serialize_to_file(tensors, None, &folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    Weights::open(folder.path()).map_err(|error| error.to_string())
}

#[test]
fn scales_are_read_per_row_per_group_and_for_all() {
    for (shape, scales, expected) in [
        (&[2, 1][..], [2.0, 0.5].as_slice(), [2.0, -4.0, 6.0, -256.0, 63.5, 0.0, 2.5, 3.0]),
        (&[2], &[2.0, 0.5], [2.0, -4.0, 6.0, -256.0, 63.5, 0.0, 2.5, 3.0]),
        (&[2, 2], &[1.0, 2.0, 0.0, -1.0], [1.0, -2.0, 6.0, -256.0, 0.0, 0.0, -5.0, -6.0]),
        (&[1], &[10.0], [10.0, -20.0, 30.0, -1280.0, 1270.0, 0.0, 50.0, 60.0]),
    ] {
        let weights = scaled(floats(shape, |i| scales[i]), &[], |_| ()).unwrap();
        assert_eq!(weights.names(), ["a.weight"], "scales are part of it");
        assert_eq!(values(&weights, "a.weight"), expected, "{shape:?}");
        let stored = weights.stored("a.weight").unwrap();
        assert_eq!((stored.format, stored.bytes), (Some(Quantisation::Int8), 8 + 4 * scales.len() as u64));
        assert!(weights.unused().is_empty());
    }
}

#[test]
fn scales_and_schemes_that_cannot_be_read_are_named() {
    let ones = |shape: &[usize]| floats(shape, |_| 1.0);
    let error =
        |scale, more: &[(&str, Tensor)], edit: &dyn Fn(&mut Value)| scaled(scale, more, edit).unwrap_err();
    for shape in [&[3, 1][..], &[2, 3], &[4], &[1, 2], &[2, 1, 1]] {
        let message = error(ones(shape), &[], &|_| ());
        let told = format!(
            "tensor `a.weight_scale`: has shape {shape:?}; for `a.weight` of shape [2, 4] it must be [2, 1]"
        );
        assert!(message.contains(&told), "{message}");
    }
    let zero_point = [("a.weight_zero_point", ones(&[2, 1]))];
    let message = error(ones(&[2, 1]), &zero_point, &|_| ());
    assert!(message.contains("`a.weight_zero_point` beside it is not supported"), "{message}");
    let set = |path: &'static str, value: Value| {
        move |config: &mut Value| *config.pointer_mut(path).unwrap() = value.clone()
    };
    for (path, value, told) in [
        (
            "/quant_method",
            json!("awq"),
            "quantization_config: quant_method: `awq` is not supported; supported: compressed-tensors",
        ),
        (
            "/format",
            json!("pack-quantized"),
            "format: `pack-quantized` is not supported; supported: int-quantized",
        ),
        ("/config_groups/group_0/weights/num_bits", json!(4), "weights: num_bits: `4` is not supported"),
        ("/config_groups/group_0/weights/type", json!("float"), "weights: type: `float` is not supported"),
        (
            "/config_groups/group_0/weights/symmetric",
            json!(false),
            "weights: symmetric: `false` is not supported",
        ),
        (
            "/config_groups/group_0/weights/strategy",
            json!("block"),
            "weights: strategy: `block` is not supported",
        ),
        ("/config_groups", json!([1]), "quantization_config: cannot be understood"),
    ] {
        let message = error(ones(&[2, 1]), &[], &set(path, value));
        assert!(message.contains("config.json: ") && message.contains(told), "{message}");
    }
    let message = scaled(floats(&[2, 1], |_| f32::INFINITY), &[], |_| ()).unwrap().get((2, 4), "a.weight");
    assert!(message.unwrap_err().to_string().contains("`a.weight_scale`: holds inf"));

    // Bytes without scales are an error where the configuration promises some, and no weights elsewhere.
    let bytes = Tensor::zeros((2, 4), candle_core::DType::U8, &Device::Cpu).unwrap();
    let plain = folder(&[("a.weight", bytes)], &json!({}));
    let path = plain.path().join("model.safetensors");
    let text = std::fs::read(&path).unwrap();
    let at = text.windows(4).position(|four| four == b"\"U8\"").unwrap();
    let text = [&text[..at], b"\"I8\"", &text[at + 4..]].concat();
    std::fs::write(&path, text).unwrap();
    assert_eq!(Weights::open(plain.path()).unwrap().stored("a.weight").unwrap().format, None);
    let config =
        json!({ "quantization_config": { "quant_method": "compressed-tensors", "format": "int-quantized" } });
    std::fs::write(plain.path().join("config.json"), config.to_string()).unwrap();
    let message = Weights::open(plain.path()).unwrap_err().to_string();
    assert!(message.contains("no tensor `a.weight_scale`"), "{message}");
}

fn header_length(file: &GgufFile, bytes: &[u8]) -> usize {
    let names: Vec<&str> = file.tensors().map(|(name, ..)| name).collect();
    let first = names.iter().map(|name| {
        let needle = [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
        bytes.windows(needle.len()).position(|window| window == needle).unwrap()
    });
    first.min().unwrap()
}

#[test]
fn gguf_metadata_is_copied_and_matrices_are_rounded() {
    let out = tempfile::tempdir().unwrap();
    let input = fixture("models/llava-gguf/mmproj.gguf");
    let before = GgufFile::open(&input).unwrap();
    for (target, format, number) in
        [(Target::Bf16, Quantisation::BF16, 32_u64), (Target::Q8_0, Quantisation::Q8_0, 7)]
    {
        let output = out.path().join(format!("{}.gguf", target.name()));
        let report = run(&input, &output, target).unwrap();
        let after = GgufFile::open(&output).unwrap();
        assert_eq!(after.metadata().get::<u64>("general.file_type").unwrap(), Some(number));
        // The rest of the header up to the table of tensors is the same to the byte.
        let (old, new) = (std::fs::read(&input).unwrap(), std::fs::read(&output).unwrap());
        let length = header_length(&before, &old);
        assert_eq!(length, header_length(&after, &new));
        let differing: Vec<usize> = (0..length).filter(|&i| old[i] != new[i]).collect();
        assert!(differing.len() <= 4 && differing.last().unwrap() - differing[0] < 4, "{differing:?}");

        let stored: Vec<_> = after.tensors().collect();
        for ((name, shape, was), (same, same_shape, is)) in before.tensors().zip(&stored) {
            assert_eq!((name, shape), (*same, *same_shape));
            let matrix = shape.len() == 2 && !name.contains("position") && shape[1] % format.block().0 == 0;
            assert_eq!(*is, if matrix { format } else { was }, "{name}");
        }
        let (old, new) = (before.weights().unwrap(), after.weights().unwrap());
        let errors = old.names().into_iter().map(|name| relative(&values(&old, &name), &values(&new, &name)));
        let worst = errors.fold(0.0, f64::max);
        assert!((worst - report.worst.unwrap().error).abs() < 1e-6 && worst < 1e-2, "{worst}");
        assert_eq!(report.files[0].bytes, new_length(&output));
    }
}

fn new_length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn gguf_blocks_stay_as_they_are_or_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let (first, second) = (out.path().join("first.gguf"), out.path().join("second.gguf"));
    let input = fixture("models/llava-gguf/mmproj.gguf");
    run(&input, &first, Target::Q8_0).unwrap();
    // Blocks of the format that is asked for are not touched.
    let report = run(&first, &second, Target::Q8_0).unwrap();
    assert_eq!((report.converted, report.worst), (0, None));
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let third = out.path().join("third.gguf");
    let error = run(&fixture("gguf/llama-q4km.gguf"), &third, Target::Q8_0).unwrap_err().to_string();
    assert!(error.contains("is stored as Q4_K: as q8_0 it would be rounded twice"), "{error}");
    let options = Options { requantise: true, ..Options::new(Target::Bf16) };
    let report = convert(&fixture("gguf/llama-q4km.gguf"), &third, &options, |_| ()).unwrap();
    assert!(report.worst.unwrap().error < 4e-3);
    let error = run(&input, &out.path().join("fourth.gguf"), Target::Int8).unwrap_err().to_string();
    assert!(error.ends_with("int8 is no type of GGUF; allowed for a GGUF file: bf16, q8_0"), "{error}");
}
