//! Language models: hidden states, logits, greedy continuations; by tokens, by steps, in padded batches.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use foveate_model::Dtype;
use foveate_model::generate::{GenerateOptions, Prompt, Session};
use foveate_model::llm::{Decoder, Input, Padding};
use tokenizers::Tokenizer;

use crate::common::{Expected, TOLERANCE, apart, folder};

const MODELS: [&str; 6] = ["llama-tied", "llama-untied", "llama3-rope", "mistral", "qwen2", "phi3"];

fn open(name: &str) -> Decoder {
    Decoder::open(&folder(name), Dtype::F32).unwrap()
}

fn each(check: impl Fn(&Decoder, &Expected)) {
    for name in MODELS {
        println!("{name}");
        check(&open(name), &Expected::of(name));
    }
}

/// The fixture's batch: tokens and padding.
fn batch(expected: &Expected) -> (Tensor, Padding) {
    let tokens = expected.get("in.input_ids").to_dtype(DType::U32).unwrap();
    let mask = expected.get("in.attention_mask").to_dtype(DType::U32).unwrap().to_vec2::<u32>().unwrap();
    let padding = mask.iter().map(|row| row.iter().filter(|bit| **bit == 0).count()).collect();
    (tokens, Padding::left(padding))
}

/// Zeroes the rows at padding positions, as the fixtures do.
fn without_padding(x: &Tensor, padding: &Padding) -> Tensor {
    let t = x.dim(1).unwrap();
    let keep =
        padding.positions().iter().flat_map(|&pad| (0..t).map(move |at| f32::from(u8::from(at >= pad))));
    let keep = Tensor::from_iter(keep, &Device::Cpu).unwrap().reshape((padding.rows(), t, 1)).unwrap();
    x.broadcast_mul(&keep).unwrap()
}

/// Every hidden state and the logits of the fixture's batch.
fn check_states(decoder: &Decoder, expected: &Expected) {
    let (tokens, padding) = batch(expected);
    let states = decoder.hidden_states(Input::Tokens(&tokens), &padding).unwrap();
    for (index, state) in states.iter().enumerate() {
        expected.assert_close(&format!("out.hidden_states.{index}"), &without_padding(state, &padding));
    }
    assert!(!expected.contains(&format!("out.hidden_states.{}", states.len())), "no state is left out");
    let logits = decoder.logits(states.last().unwrap()).unwrap();
    expected.assert_close("out.logits", &without_padding(&logits, &padding));
    let last = decoder.last_hidden(Input::Tokens(&tokens), &padding).unwrap();
    expected.assert_close("out.last_token_hidden", &last);
}

#[test]
fn hidden_states_and_logits() {
    each(check_states);
}

#[test]
fn in_steps_with_a_cache() {
    each(|decoder, expected| {
        let (tokens, padding) = batch(expected);
        let mut cache = decoder.cache(padding.clone());
        let mut parts = Vec::new();
        for (start, count) in [(0, 9), (9, 1), (10, 1), (11, 13)] {
            let part = tokens.narrow(1, start, count).unwrap();
            parts.push(decoder.forward(Input::Tokens(&part), &mut cache).unwrap());
        }
        let logits = decoder.logits(&Tensor::cat(&parts, 1).unwrap()).unwrap();
        expected.assert_close("out.logits", &without_padding(&logits, &padding));
    });
}

#[test]
fn a_padded_row_equals_the_row_alone() {
    each(|decoder, expected| {
        let (tokens, padding) = batch(expected);
        let together = decoder.forward_uncached(Input::Tokens(&tokens), &padding).unwrap();
        for (row, &pad) in padding.positions().iter().enumerate() {
            let count = tokens.dim(1).unwrap() - pad;
            let cut = |x: &Tensor| x.narrow(0, row, 1).unwrap().narrow(1, pad, count).unwrap();
            let alone = decoder.forward_uncached(Input::Tokens(&cut(&tokens)), &Padding::none(1)).unwrap();
            assert!(apart(&alone, &cut(&together)) < TOLERANCE / 10.0);
        }
    });
}

#[test]
fn a_llama_in_k_quants() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/gguf");
    let decoder = Arc::new(Decoder::open(&folder.join("llama-q4km.gguf"), Dtype::F32).unwrap());
    let expected = Expected::read(&folder.join("llama-q4km.expected.safetensors"));
    let prompt = expected.ids("in.prompt_ids");
    let tokens = Tensor::new(&prompt[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let states = decoder.hidden_states(Input::Tokens(&tokens), &Padding::none(1)).unwrap();
    expected.assert_close("out.hidden_states.0", &states[0]);
    expected.assert_close("out.last_hidden_state", &states[1]);
    expected.assert_close("out.logits", &decoder.logits(&states[1]).unwrap());
    let options = GenerateOptions { max_tokens: 32, ..GenerateOptions::default() };
    let answer = Session::new(decoder)
        .generate_tokens(&Prompt::tokens(prompt), &options, |_| Ok(ControlFlow::Continue(())))
        .unwrap();
    assert_eq!(answer.tokens, expected.ids("out.greedy_ids"));
}

/// Qwen2 with its biases and Phi-3 with its fused projections, as llama.cpp names and lays out their tensors.
#[test]
fn relatives_of_llama_from_gguf() {
    for name in ["qwen2", "phi3"] {
        println!("{name}");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/gguf/{name}.gguf"));
        let (decoder, expected) = (Arc::new(Decoder::open(&path, Dtype::F32).unwrap()), Expected::of(name));
        check_states(&decoder, &expected);
        let options = GenerateOptions { max_tokens: 32, ..GenerateOptions::default() };
        let prompt = Prompt::tokens(expected.ids("in.prompt_ids"));
        let answer = Session::new(decoder.clone())
            .generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(())))
            .unwrap();
        assert_eq!(answer.tokens, expected.ids("out.greedy_ids"), "{name}");
        // `</s>` by its key, `<|im_end|>` because it reads so: there is no key for the end of a turn.
        assert_eq!(decoder.config().end_tokens, [2, 4], "{name}");
    }
}

#[test]
fn greedy_tokens_over_32_steps() {
    for name in MODELS {
        let expected = Expected::of(name);
        let decoder = Arc::new(open(name));
        let tokenizer = Tokenizer::from_file(folder(name).join("tokenizer.json")).unwrap();
        let prompt = Prompt::tokens(expected.ids("in.prompt_ids"));
        let options = GenerateOptions { max_tokens: 32, ..GenerateOptions::default() };
        let mut streamed = String::new();
        let mut session = Session::new(decoder.clone());
        let answer = session
            .generate(&prompt, &options, &tokenizer, |text| {
                streamed += text;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(answer.tokens, expected.ids("out.greedy_ids"), "{name}");
        assert_eq!(streamed, answer.text, "{name}");
        assert_eq!(streamed, tokenizer.decode(&answer.tokens, true).unwrap(), "{name}");
        // A second turn that starts with the first: what was read is not read again, and the answer is that of a
        // session that has read nothing.
        let mut longer = expected.ids("in.prompt_ids");
        longer.extend(&answer.tokens);
        longer.extend([40, 41, 42]);
        let longer = Prompt::tokens(longer);
        let reused = session.generate(&longer, &options, &tokenizer, |_| ControlFlow::Continue(())).unwrap();
        let mut fresh = Session::new(decoder);
        let fresh = fresh.generate(&longer, &options, &tokenizer, |_| ControlFlow::Continue(())).unwrap();
        // The last token of an answer is chosen but not read.
        assert_eq!(reused.reused_positions, longer.len().unwrap() - 4, "{name}");
        assert_eq!((reused.tokens, reused.text), (fresh.tokens, fresh.text), "{name}");
    }
}
