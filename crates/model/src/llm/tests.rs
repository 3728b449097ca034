//! Metamorphic checks on a toy model: what must not change the result does not. The values themselves are compared with
//! transformers in `tests/`.
#![allow(clippy::unwrap_used)]

use candle_core::{Device, Tensor, Var};
use std::collections::HashMap;

use super::*;
use crate::ModelError;

const JSON: &str = r#"{"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32"#;

fn config(rest: &str) -> DecoderConfig {
    DecoderConfig::from_json(&format!("{JSON}, {rest}}}")).unwrap()
}

fn variables(config: &DecoderConfig) -> HashMap<String, Var> {
    let list = config.tensors().into_iter().enumerate();
    list.map(|(seed, (name, shape))| {
        let count = shape.iter().product();
        let wave = (0..count)
            .map(|at: usize| (0.3 * ((at * 7919 + seed * 104_729 + at * at) % 1009) as f32 / 1009.0) - 0.15);
        let offset = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
        let values: Vec<f32> = wave.map(|value| value + offset).collect();
        (name, Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap())
    })
    .collect()
}

fn decoder(config: DecoderConfig) -> Decoder {
    let tensors =
        variables(&config).into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
    let weights = Weights::from_tensors(tensors);
    let decoder = Decoder::load(config, &weights).unwrap();
    assert_eq!(weights.unused(), [""; 0], "the list of tensors and the loader agree");
    decoder
}

pub(crate) fn all_kinds() -> Vec<Decoder> {
    [
        r#""model_type": "llama""#,
        r#""model_type": "llama", "tie_word_embeddings": true, "head_dim": 6, "attention_bias": true, "mlp_bias": true"#,
        r#""model_type": "mistral", "sliding_window": 5"#,
        r#""model_type": "qwen2""#,
        r#""model_type": "phi3""#,
    ]
    .map(|rest| decoder(config(rest)))
    .into()
}

fn tokens(ids: &[u32]) -> Tensor {
    Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

const TEXT: [u32; 12] = [3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9];

/// Buffers start at 64 positions and double up to the context, here 150.
#[test]
fn a_cache_that_grows_keeps_what_it_holds() {
    let text: Vec<u32> = (0..150).map(|at| (at * 7 + at * at / 3) % 40).collect();
    let long = JSON.replace("\"max_position_embeddings\": 32", "\"max_position_embeddings\": 150");
    let config = DecoderConfig::from_json(&format!("{long}, \"model_type\": \"llama\"}}")).unwrap();
    let decoder = decoder(config);
    for pads in [vec![0], vec![0, 70]] {
        let padding = Padding::left(pads.clone());
        let rows = tokens(&text).repeat((pads.len(), 1)).unwrap();
        let whole = decoder.forward_uncached(Input::Tokens(&rows), &padding).unwrap();
        let mut cache = decoder.cache(padding);
        let mut start = 0;
        for count in [63, 1, 1, 64, 21] {
            let part = rows.narrow(1, start, count).unwrap();
            let part = decoder.forward(Input::Tokens(&part), &mut cache).unwrap();
            for (row, &pad) in pads.iter().enumerate() {
                // What padding gives is not defined.
                let first = pad.clamp(start, start + count);
                let of = |x: &Tensor, from: usize| {
                    x.get(row).unwrap().narrow(0, from, start + count - first).unwrap()
                };
                if first < start + count {
                    assert!(apart(&of(&part, first - start), &of(&whole, first)) < 1e-5, "{start} {row}");
                }
            }
            start += count;
        }
        let beyond = decoder.forward(Input::Tokens(&rows.narrow(1, 0, 1).unwrap()), &mut cache);
        assert!(matches!(beyond, Err(ModelError::Context { needed: 151, limit: 150 })));
        // Cut back and continued, across the growth of the buffers.
        cache.truncate(60);
        let again = decoder.forward(Input::Tokens(&rows.narrow(1, 60, 90).unwrap()), &mut cache).unwrap();
        let last = |x: &Tensor, at: usize| x.narrow(1, at, 1).unwrap();
        assert!(apart(&last(&again, 89), &last(&whole, 149)) < 1e-5);
    }
}

#[test]
fn cached_equals_uncached_in_any_cut() {
    for decoder in all_kinds() {
        let whole = decoder.forward_uncached(Input::Tokens(&tokens(&TEXT)), &Padding::none(1)).unwrap();
        for cuts in [vec![12], vec![1; 12], vec![5, 1, 6], vec![7, 5]] {
            let mut cache = decoder.cache(Padding::none(1));
            let mut start = 0;
            for cut in cuts {
                let part = tokens(&TEXT[start..start + cut]);
                let hidden = decoder.forward(Input::Tokens(&part), &mut cache).unwrap();
                assert!(apart(&hidden, &whole.narrow(1, start, cut).unwrap()) < 1e-5);
                start += cut;
            }
            assert_eq!(cache.len(), 12);
        }
    }
}

#[test]
fn a_truncated_cache_equals_a_fresh_one() {
    for decoder in all_kinds() {
        let mut used = decoder.cache(Padding::none(1));
        decoder.forward(Input::Tokens(&tokens(&[3, 14, 15, 1, 1, 1, 1])), &mut used).unwrap();
        used.truncate(3);
        let reused = decoder.forward(Input::Tokens(&tokens(&TEXT[3..])), &mut used).unwrap();
        let whole = decoder.forward_uncached(Input::Tokens(&tokens(&TEXT)), &Padding::none(1)).unwrap();
        assert!(apart(&reused, &whole.narrow(1, 3, 9).unwrap()) < 1e-5);
    }
}

#[test]
fn a_row_of_a_padded_batch_equals_the_row_alone() {
    for decoder in all_kinds() {
        let rows: [&[u32]; 3] = [&TEXT, &TEXT[..4], &TEXT[2..11]];
        let (batch, padding) = Padding::batch(&rows, 0, &Device::Cpu).unwrap();
        let mut cache = decoder.cache(padding.clone());
        let hidden = decoder.forward(Input::Tokens(&batch), &mut cache).unwrap();
        let next = Tensor::new(&[[1_u32], [2], [3]], &Device::Cpu).unwrap();
        let step = decoder.forward(Input::Tokens(&next), &mut cache).unwrap();
        for (row, ids) in rows.iter().enumerate() {
            let longer: Vec<u32> = ids.iter().copied().chain([row as u32 + 1]).collect();
            let alone = decoder.forward_uncached(Input::Tokens(&tokens(&longer)), &Padding::none(1)).unwrap();
            let pad = padding.positions()[row];
            let of_batch = hidden.narrow(0, row, 1).unwrap().narrow(1, pad, ids.len()).unwrap();
            assert!(apart(&of_batch, &alone.narrow(1, 0, ids.len()).unwrap()) < 1e-5);
            let of_step = step.narrow(0, row, 1).unwrap();
            assert!(apart(&of_step, &alone.narrow(1, ids.len(), 1).unwrap()) < 1e-5);
        }
        assert!(hidden.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));
    }
}

#[test]
fn embeddings_and_tokens_are_the_same_input() {
    let decoder = decoder(config(r#""model_type": "qwen2""#));
    let embedded = decoder.embed(&tokens(&TEXT)).unwrap();
    let none = Padding::none(1);
    let by_tokens = decoder.hidden_states(Input::Tokens(&tokens(&TEXT)), &none).unwrap();
    let by_embeddings = decoder.forward_uncached(Input::Embeddings(&embedded), &none).unwrap();
    assert_eq!(apart(&by_tokens[0], &embedded), 0.0);
    assert_eq!(apart(&by_tokens[3], &by_embeddings), 0.0);
    let last = decoder.last_hidden(Input::Tokens(&tokens(&TEXT)), &none).unwrap();
    assert!(apart(&last, &by_embeddings.narrow(1, 11, 1).unwrap().squeeze(1).unwrap()) < 1e-6);
}

#[test]
fn a_sliding_window_hides_exactly_what_lies_before_it() {
    // One block: what it reads is what its window shows. Window 5: position 11 sees 7..=11.
    let json = r#""model_type": "mistral", "sliding_window": 5, "num_hidden_layers": 1"#;
    let decoder = decoder(DecoderConfig {
        blocks: 1,
        windows: vec![Some(5)],
        ..config(&json.replace(", \"num_hidden_layers\": 1", ""))
    });
    let last = |ids: &[u32]| decoder.last_hidden(Input::Tokens(&tokens(ids)), &Padding::none(1)).unwrap();
    let changed = |at: usize| {
        let mut ids = TEXT;
        ids[at] = 39;
        last(&ids)
    };
    assert_eq!(apart(&last(&TEXT), &changed(6)), 0.0);
    assert!(apart(&last(&TEXT), &changed(7)) > 1e-4);
}

#[test]
fn every_tensor_gets_a_gradient() {
    for rest in [r#""model_type": "qwen2", "tie_word_embeddings": true"#, r#""model_type": "phi3""#] {
        let config = config(rest);
        let variables = variables(&config);
        let tensors = variables.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
        let decoder = Decoder::load(config, &Weights::from_tensors(tensors)).unwrap();
        let hidden = decoder.forward_uncached(Input::Tokens(&tokens(&TEXT)), &Padding::none(1)).unwrap();
        let loss = decoder.logits(&hidden).unwrap().sqr().unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        for (name, variable) in &variables {
            let gradient = gradients.get(variable).unwrap_or_else(|| panic!("{name} gets no gradient"));
            let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(size.is_finite() && size > 0.0, "{name}: {size}");
        }
    }
}

#[test]
fn errors_name_token_context_and_shape() {
    let decoder = decoder(config(r#""model_type": "llama""#));
    let none = Padding::none(1);
    let message = decoder.embed(&tokens(&[40])).unwrap_err().to_string();
    assert!(message.contains("40") && message.contains("39"), "{message}");
    let long = tokens(&[1; 33]);
    let error = decoder.forward_uncached(Input::Tokens(&long), &none).unwrap_err();
    assert!(matches!(error, ModelError::Context { needed: 33, limit: 32 }));
    let mut cache = decoder.cache(none.clone());
    decoder.forward(Input::Tokens(&tokens(&[1; 30])), &mut cache).unwrap();
    assert!(decoder.forward(Input::Tokens(&tokens(&[1; 3])), &mut cache).is_err());
    assert_eq!(cache.len(), 30, "a refused pass leaves the cache as it was");
    let narrow = Tensor::zeros((1, 2, 15), DType::F32, &Device::Cpu).unwrap();
    let message = decoder.forward_uncached(Input::Embeddings(&narrow), &none).unwrap_err().to_string();
    assert!(message.contains("[1, 2, 16]") && message.contains("[1, 2, 15]"), "{message}");
}

#[test]
fn a_missing_and_a_misshapen_tensor_are_named() {
    let config = config(r#""model_type": "llama""#);
    let tensors = || -> HashMap<String, Tensor> {
        variables(&config).into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect()
    };
    let mut missing = tensors();
    missing.remove("model.layers.1.mlp.up_proj.weight");
    let message = Decoder::load(config.clone(), &Weights::from_tensors(missing)).unwrap_err().to_string();
    assert!(message.contains("model.layers.1.mlp.up_proj.weight"), "{message}");
    let mut wrong = tensors();
    wrong.insert("model.norm.weight".to_owned(), Tensor::zeros(17, DType::F32, &Device::Cpu).unwrap());
    let message = Decoder::load(config.clone(), &Weights::from_tensors(wrong)).unwrap_err().to_string();
    assert!(["model.norm.weight", "[17]", "[16]"].iter().all(|part| message.contains(part)), "{message}");
    let mut extra = tensors();
    extra.insert("model.stowaway".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    let weights = Weights::from_tensors(extra);
    Decoder::load(config.clone(), &weights).unwrap();
    assert_eq!(weights.unused(), ["model.stowaway"]);
}
