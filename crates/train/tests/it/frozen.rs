//! Frozen parts: packed, shared, left out of what is stored, and found again when it is opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use foveate_model::Dtype;
use foveate_model::vlm::{PartPaths, Vlm};
use foveate_train::encode::{Example, Slot};
use foveate_train::recipe::{Group, Recipe};
use foveate_train::student::{Parameter, Scope, Storage, Student};
use foveate_train::trainer::{Kept, Trainer, gradients};
use foveate_train::{feed, forward};

use crate::halves;

const GGUF: &str = "gguf/llama-q4km.gguf";

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let model = fixtures.join("models").join(name);
    if model.is_dir() { model } else { fixtures.join(name) }
}

/// A QueCC between the fixture DINOv2, for images of another size than its own, and `language` of width `width`.
fn recipe(folder: &Path, language: &str, width: usize, more: &[&str]) -> Recipe {
    let mut table: toml::Table =
        toml::from_str(&toml::to_string(&halves::recipe(folder, &[])).unwrap()).unwrap();
    let parts = table["parts"].as_table_mut().unwrap();
    parts.remove("tokenizer");
    parts.remove("template");
    let (language, compressor) = (
        format!("parts.language={{ from = '{language}' }}"),
        format!(
            "parts.compressor={{ method = 'quecc', width = 32, text_width = {width}, heads = 4, filters = {{ elastic = [1, 2, 4] }}, query_state = -2, states = [1, -2] }}"
        ),
    );
    let joined = [
        &language,
        &compressor,
        "parts.tower={ from = 'dinov2' }",
        "parts.image={ preset = 'dinov2', side = 28 }",
        "parts.feature_state=-2",
        "stages.0.rates={ compressor = 1e-2, projector = 1e-2 }",
        "stages.0.ladder=[[4, 1.0]]",
        "stages.0.steps=2",
    ];
    let overrides: Vec<&str> = joined.into_iter().chain(more.iter().copied()).collect();
    Recipe::parse("frozen.toml", &toml::to_string(&table).unwrap(), &overrides).unwrap()
}

fn student(recipe: &Recipe) -> Student {
    Student::new(recipe, &|word| Ok(fixture(word))).unwrap()
}

/// Two pictures with a question each.
fn part() -> feed::Part {
    let values: Vec<f32> = (0..2 * 3 * 28 * 28).map(|at| ((at * 37 % 101) as f32) / 50.0 - 1.0).collect();
    let example = |picture: usize| Example {
        picture: Some(picture),
        question: vec![10, 11 + picture as u32, 12],
        slots: vec![
            Slot::Image,
            Slot::Given(10),
            Slot::Given(11 + picture as u32),
            Slot::Answer(20),
            Slot::Answer(2),
        ],
    };
    let pixels = Tensor::from_vec(values, (2, 3, 28, 28), &Device::Cpu).unwrap();
    feed::Part {
        pixels: Some(pixels),
        examples: vec![example(0), example(1)],
        patches: Vec::new(),
        words: false,
    }
}

fn scores(vlm: &Vlm) -> Vec<f32> {
    let part = part();
    let features = forward::features(vlm, part.pixels.as_ref().unwrap()).unwrap();
    let (_, scores) = forward::scores(vlm, &features, &part.examples, 4).unwrap();
    scores.flatten_all().unwrap().to_vec1().unwrap()
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn trained(folder: &Path, recipe: &Recipe) -> Trainer {
    let mut trainer = Trainer::new(recipe.clone(), student(recipe), &folder.join("run"), false, 2).unwrap();
    trainer.run(&mut (), &AtomicBool::new(false)).unwrap();
    trainer
}

/// Gradients of the compressor's and the projector's tensors.
fn found(student: &Student, groups: &[Group]) -> BTreeMap<String, Vec<f32>> {
    let connector = |(_, parameter): &(&String, &Parameter)| {
        matches!(parameter.group, Group::Compressor | Group::Projector)
    };
    let parameters: BTreeMap<String, Parameter> = student
        .parameters()
        .iter()
        .filter(connector)
        .map(|(name, parameter)| (name.clone(), parameter.clone()))
        .collect();
    let vlm = student.vlm(groups).unwrap();
    let computed = gradients(&vlm, &parameters, Kept::default(), &[part()], &[4], 1).unwrap();
    let values = |tensor: Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    computed.gradients.into_iter().map(|(name, gradient)| (name, values(gradient))).collect()
}

#[test]
fn gradients_through_packed_parts_are_those_through_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let connector = [Group::Compressor, Group::Projector];
    let all = [Group::Tower, Group::Compressor, Group::Projector, Group::Language];
    let rates = "stages.0.rates={ tower = 1e-3, compressor = 1e-2, projector = 1e-2, language = 1e-3 }";
    // Where everything is trained nothing is packed.
    let dense = found(&student(&recipe(folder.path(), "llama-tied", 48, &[rates])), &all);
    for (dtype, bound) in [("f32", 1e-5), ("as-stored", 5e-2), ("bf16", 0.15), ("int8", 0.5)] {
        let frozen = recipe(folder.path(), "llama-tied", 48, &[&format!("parts.dtype={dtype:?}")]);
        let packed = found(&student(&frozen), &connector);
        assert_eq!(packed.keys().collect::<Vec<_>>(), dense.keys().collect::<Vec<_>>());
        for (name, gradient) in &packed {
            let size = dense[name].iter().map(|value| value * value).sum::<f32>().sqrt();
            let error = gradient.iter().zip(&dense[name]).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            // A shift of all keys has no gradient but noise.
            let noise = name.ends_with("k_proj.3.bias");
            assert!(noise || (error <= bound * size && size > 0.0), "{dtype} {name}: {error} of {size}");
        }
    }
}

#[test]
fn a_dinov2_that_was_taken_over_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    for more in [&["parts.dtype='f32'"][..], &["stages.0.rates={ tower = 1e-3, compressor = 1e-2 }"][..]] {
        let recipe = recipe(folder.path(), "llama-tied", 48, more);
        let trainer = trained(&folder.path().join(more[0].len().to_string()), &recipe);
        let out = folder.path().join("model");
        trainer.student().save(&out, Storage::F32, Scope::Whole).unwrap();
        let opened = Vlm::open(&out, None, Dtype::F32).unwrap();
        let (own, again) = (scores(&trainer.student().vlm(&[]).unwrap()), scores(&opened));
        assert!(apart(&own, &again) < 1e-4, "{more:?}: {}", apart(&own, &again));
    }
}

/// Nothing is computed once from what changes at every step: a stage builds its model once.
#[test]
fn a_model_follows_whatever_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let rates = "stages.0.rates={ tower = 1e-3, compressor = 1e-2, projector = 1e-2, language = 1e-3 }";
    let lora = [
        "lora={ rank = 2, alpha = 6.0, projections = ['query', 'down'] }",
        "stages.0.rates={ tower = 1e-3, compressor = 1e-2, projector = 1e-2, adapters = 5e-2 }",
    ];
    // The last block of the tower is to have a use.
    let last =
        ["parts.feature_state=-1", "parts.compressor.query_state=-1", "parts.compressor.states=[1, -1]"];
    for more in [&[rates][..], &lora] {
        let student = student(&recipe(folder.path(), "llama-tied", 48, &[&last[..], more].concat()));
        let groups: Vec<Group> = student.trained_sizes().into_keys().collect();
        let vlm = student.vlm(&groups).unwrap();
        let mut before = scores(&vlm);
        for (name, parameter) in student.parameters() {
            let old = parameter.variable.as_detached_tensor().copy().unwrap();
            let noise: Vec<f32> =
                (0..old.elem_count()).map(|at| ((at * 31 + 7) as f32).sin() * 0.05).collect();
            let noise = Tensor::from_vec(noise, old.dims(), &Device::Cpu).unwrap();
            parameter.variable.set(&(&old + noise).unwrap()).unwrap();
            let (followed, anew) = (scores(&vlm), scores(&student.vlm(&groups).unwrap()));
            assert_eq!(followed, anew, "{name}: the model has a copy of it");
            // Filters of other rungs, what adds the same to every key, and A before B of an adapter is other than zero.
            let exceptions = ["q_downsample", "k_proj.3.bias", "key.bias", "lora_A"];
            let idle = exceptions.iter().any(|part| name.contains(part));
            assert!(idle || followed != before, "{name} has no use");
            before = followed;
        }
    }
}

#[test]
fn what_was_trained_is_opened_on_the_frozen_files() {
    let folder = tempfile::tempdir().unwrap();
    let lora = [
        "lora={ rank = 2, alpha = 6.0, projections = ['query', 'value', 'gate', 'down'] }",
        "stages.0.rates={ compressor = 1e-2, projector = 1e-2, adapters = 5e-2 }",
    ];
    // In blocks of every kind a matrix keeps its adapter beside it; where it is floats they are merged.
    for (language, width, dtype, bound) in
        [("llama-tied", 48, Dtype::F32, 1e-3), (GGUF, 256, Dtype::AsStored, 2e-2)]
    {
        let kept = format!("parts.dtype='{dtype}'");
        let recipe = recipe(folder.path(), language, width, &[&lora[..], &[kept.as_str()]].concat());
        let place = folder.path().join(width.to_string());
        let untrained = scores(&student(&recipe).vlm(&[]).unwrap());
        let trainer = trained(&place, &recipe);
        let own = scores(&trainer.student().vlm(&[]).unwrap());
        assert!(apart(&own, &untrained) > 1e-3, "{language}: nothing was learnt");

        let out = place.join("model");
        trainer.student().save(&out, Storage::F32, Scope::Trained).unwrap();
        let stored = candle_core::safetensors::load(out.join("model.safetensors"), &Device::Cpu).unwrap();
        let published =
            |name: &&String| name.starts_with("vision_tower.") || name.starts_with("language_model.");
        let extra: Vec<&String> =
            stored.keys().filter(published).filter(|name| !name.contains("lora_")).collect();
        assert_eq!(extra, ["vision_tower.embeddings.position_embeddings"], "for images of another size");
        let paths = PartPaths { tower: Some(fixture("dinov2")), language: Some(fixture(language)) };
        let opened = Vlm::open_on(&out, &paths, dtype).unwrap();
        assert!(apart(&own, &scores(&opened)) < bound, "{language}: {}", apart(&own, &scores(&opened)));
        assert!(apart(&own, &scores(&opened)) < 0.1 * apart(&own, &untrained));

        // The same with everything in one folder.
        let whole = place.join("whole");
        trainer.student().save(&whole, Storage::F32, Scope::Whole).unwrap();
        let whole = scores(&Vlm::open(&whole, None, Dtype::F32).unwrap());
        assert!(apart(&own, &whole) < 0.1, "{language}: {}", apart(&own, &whole));

        let error = Vlm::open(&out, None, Dtype::F32).unwrap_err().to_string();
        assert!(error.contains("frozen_parts.tower") && error.contains("dinov2"), "{error}");
        let tower = Some(fixture("llama-tied"));
        let error = Vlm::open_on(&out, &PartPaths { tower, ..paths }, Dtype::F32).unwrap_err().to_string();
        assert!(error.contains("trained on model.safetensors of"), "{error}");
    }
}

#[test]
fn words_and_templates_that_are_given_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let words = folder.path().join("words");
    std::fs::create_dir(&words).unwrap();
    // The language model's own tokens but for one's name, and another token that ends an answer.
    let own = std::fs::read_to_string(fixture("llama-tied").join("tokenizer.json")).unwrap();
    assert!(own.contains("\"<pad>\""));
    std::fs::write(words.join("tokenizer.json"), own.replace("\"<pad>\"", "\"<stop>\"")).unwrap();
    let about = r#"{"eos_token": {"content": "<stop>"}, "bos_token": "<s>", "chat_template": "never"}"#;
    std::fs::write(words.join("tokenizer_config.json"), about).unwrap();
    let tokenizer = format!("parts.tokenizer={{ from = '{}' }}", words.display());
    let tokenizer = tokenizer.as_str();
    let template = "parts.template='{% for m in messages %}[{{ m.content }}]{{ eos_token }}{% endfor %}'";
    let question = [foveate_data::prompt::Message::user("which?")];
    for (more, end, prompt) in [
        // Its configuration names another one than its tokenizer; that one goes first.
        (&[template][..], "</s>", "[<image>\nwhich?]<|im_end|>"),
        (&[tokenizer], "<stop>", "<|im_start|>user\n<image>\nwhich?<|im_end|>\n<|im_start|>assistant\n"),
        (&[tokenizer, template], "<stop>", "[<image>\nwhich?]<stop>"),
    ] {
        let student = student(&recipe(folder.path(), "llama-tied", 48, more));
        assert_eq!(student.tokenizer.id_to_token(student.end_token).as_deref(), Some(end), "{more:?}");
        for scope in [Scope::Trained, Scope::Whole] {
            let out = folder.path().join("model");
            student.save(&out, Storage::F16, scope).unwrap();
            let read = foveate_data::prompt::ChatTemplate::from_folder(&out).unwrap().unwrap();
            for template in [&read, &student.template] {
                assert_eq!(template.render(&question, 1).unwrap().text("<image>"), prompt, "{more:?}");
            }
            let words = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
            assert_eq!(words.get_vocab(true), student.tokenizer.get_vocab(true));
        }
    }
    // More tokens than the language model has rows.
    let ids: String = (384..784).map(|id| format!("\"new{id}\":{id},")).collect();
    let larger = own.replace("\"vocab\":{", &format!("\"vocab\":{{{ids}"));
    assert_ne!(larger, own);
    std::fs::write(words.join("tokenizer.json"), larger).unwrap();
    let recipe = recipe(folder.path(), "llama-tied", 48, &[tokenizer]);
    let error = Student::new(&recipe, &|word| Ok(fixture(word))).err().unwrap().to_string();
    assert!(error.contains("`parts.tokenizer` is of") && error.contains("at most 384"), "{error}");
}

#[test]
fn a_gguf_file_brings_its_tokenizer_and_template() {
    let folder = tempfile::tempdir().unwrap();
    let student = student(&recipe(folder.path(), GGUF, 256, &[]));
    assert_eq!(student.tokenizer.id_to_token(student.end_token).as_deref(), Some("<|im_end|>"));
    let out = folder.path().join("model");
    student.save(&out, Storage::F16, Scope::Trained).unwrap();
    let template = foveate_data::prompt::ChatTemplate::from_folder(&out).unwrap().unwrap();
    let messages = [foveate_data::prompt::Message::user("which colour?")];
    let told = |template: &foveate_data::prompt::ChatTemplate| {
        template.render(&messages, 1).unwrap().text("<image>")
    };
    assert_eq!(told(&template), told(&student.template));
    assert!(told(&template).contains("<|im_start|>user"), "{}", told(&template));
    let text = "which colour has the square?";
    let again = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    let ids = |tokenizer: &tokenizers::Tokenizer| tokenizer.encode(text, true).unwrap().get_ids().to_vec();
    assert_eq!(ids(&again), ids(&student.tokenizer));
}
