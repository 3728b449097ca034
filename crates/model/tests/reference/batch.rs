//! Answers in company: the same as alone, to the bit, whenever they come and go.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use foveate_model::Dtype;
use foveate_model::generate::{
    AnswerId, Batch, Draw, GenerateOptions, Part, Prompt, Sampling, Scored, Session,
};
use foveate_model::llm::{Decoder, Input, Padding};

use crate::common::{apart, folder};

const MODELS: [&str; 4] = ["llama-tied", "mistral", "qwen2", "phi3"];
const MOST: usize = 1 << 20;

fn decoder(name: &str, dtype: Dtype) -> Arc<Decoder> {
    Arc::new(Decoder::open(&folder(name), dtype).unwrap())
}

/// Prompts of several lengths, some of which begin alike, one with rows of an image; a greedy and a drawn answer in turn.
fn asked(decoder: &Decoder) -> Vec<(Prompt, Sampling, usize)> {
    let vocabulary = decoder.config().vocabulary as u32;
    let tokens = |seed: u32, count: u32| -> Vec<u32> {
        (0..count).map(|at| (at * 7 + at * at * 3 + seed * 13) % vocabulary).collect()
    };
    let width = decoder.config().width;
    let rows = Tensor::arange(0.0_f32, (9 * width) as f32, &Device::Cpu).unwrap();
    let rows =
        (rows.sin().unwrap() * 0.1).unwrap().reshape((9, width)).unwrap().to_dtype(DType::F32).unwrap();
    let image = |question: Vec<u32>| Prompt {
        parts: vec![Part::Tokens(tokens(5, 4)), Part::Rows(rows.clone()), Part::Tokens(question)],
    };
    let prompts = [
        Prompt::tokens(tokens(1, 40)),
        Prompt::tokens(tokens(2, 1)),
        image(tokens(3, 5)),
        Prompt::tokens(tokens(1, 47)),
        image(tokens(4, 12)),
        Prompt::tokens(tokens(6, 90)),
    ];
    let kinds = prompts.into_iter().enumerate().map(|(at, prompt)| {
        let draw = Draw { temperature: 1.5, top_p: Some(0.9), seed: at as u64, ..Draw::default() };
        let sampling = if at % 2 == 0 { Sampling::greedy() } else { Sampling::draw(draw) };
        (prompt, sampling, 5 + 3 * at)
    });
    kinds.collect()
}

fn alone(decoder: &Arc<Decoder>, prompt: &Prompt, sampling: Sampling, max_tokens: usize) -> Vec<u32> {
    let options =
        GenerateOptions { sampling, max_tokens, end_tokens: Some(Vec::new()), ..Default::default() };
    let mut session = Session::new(decoder.clone());
    session.generate_tokens(prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap().tokens
}

/// The tokens of answers that are taken in one by one, a new one with every second step, and leave when they are long enough.
fn together(
    decoder: &Arc<Decoder>,
    asked: &[(Prompt, Sampling, usize)],
    prefix_bytes: usize,
    most: usize,
) -> (Vec<Vec<u32>>, usize) {
    let mut batch = Batch::new(decoder.clone(), prefix_bytes);
    let mut places: HashMap<AnswerId, usize> = HashMap::new();
    let mut answers = vec![Vec::new(); asked.len()];
    let (mut steps, mut reused) = (0, 0);
    while steps / 2 < asked.len() || !batch.is_empty() {
        if steps % 2 == 0 && steps / 2 < asked.len() {
            let (prompt, sampling, _) = &asked[steps / 2];
            let added = batch.add(prompt, *sampling, None).unwrap();
            assert_eq!(added.prompt_positions, prompt.len().unwrap());
            reused += added.reused_positions;
            places.insert(added.id, steps / 2);
        }
        for drawn in batch.step(most).unwrap() {
            let place = places[&drawn.id];
            answers[place].push(drawn.token.unwrap());
            if answers[place].len() == asked[place].2 {
                batch.remove(drawn.id);
            }
        }
        steps += 1;
    }
    (answers, reused)
}

#[test]
fn an_answer_in_company_is_the_answer_alone() {
    for model in MODELS {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            let decoder = decoder(model, dtype);
            let asked = asked(&decoder);
            let expected: Vec<Vec<u32>> = asked
                .iter()
                .map(|(prompt, sampling, count)| alone(&decoder, prompt, *sampling, *count))
                .collect();
            // Whole prompts at once, and in pieces that end anywhere; with prefixes and without.
            for (prefix_bytes, most) in [(0, MOST), (MOST, 7), (64 * MOST, 1), (64 * MOST, 64)] {
                let (found, reused) = together(&decoder, &asked, prefix_bytes, most);
                assert_eq!(found, expected, "{model} {dtype} {prefix_bytes} {most}");
                // Prompt 4 begins as 2, which is still being answered; prompt 3 as 0, which has ended. Read in the smallest
                // pieces, 2 has not come that far.
                let least = match (prefix_bytes > MOST, most >= 64) {
                    (true, true) => 13 + 40,
                    (false, true) => 13,
                    _ => 0,
                };
                assert!(reused >= least, "{model}: {reused}");
            }
        }
    }
}

#[test]
fn a_long_prompt_delays_nobody_by_more_than_a_piece() {
    let decoder = decoder("llama-tied", Dtype::F32);
    let mut batch = Batch::new(decoder.clone(), 0);
    let first = batch.add(&Prompt::tokens(vec![1, 2, 3]), Sampling::greedy(), None).unwrap().id;
    assert_eq!(batch.step(16).unwrap().len(), 1);
    let long = batch.add(&Prompt::tokens(vec![5; 100]), Sampling::greedy(), None).unwrap().id;
    assert_eq!((batch.len(), batch.writing()), (2, 1));
    // 100 positions in pieces of 16: the other answer gets a token with each of seven passes.
    let whose = |batch: &mut Batch| -> Vec<AnswerId> {
        batch.step(16).unwrap().iter().map(|drawn| drawn.id).collect()
    };
    for _ in 0..6 {
        assert_eq!(whose(&mut batch), [first]);
    }
    assert_eq!(whose(&mut batch), [first, long]);
    batch.remove(first);
    assert_eq!(whose(&mut batch), [long]);
}

#[test]
fn what_was_read_is_not_read_again() {
    let decoder = decoder("llama-tied", Dtype::F32);
    let mut batch = Batch::new(decoder.clone(), 64 << 20);
    let system: Vec<u32> = (3..43).collect();
    let prompt = |end: u32| Prompt::tokens([&system[..], &[end, end]].concat());
    let ask = |batch: &mut Batch, end: u32| {
        let added = batch.add(&prompt(end), Sampling::greedy(), None).unwrap();
        let token = batch.step(MOST).unwrap().remove(0).token.unwrap();
        batch.remove(added.id);
        (added.reused_positions, token)
    };
    let (reused, first) = ask(&mut batch, 50);
    assert_eq!(reused, 0);
    assert_eq!(ask(&mut batch, 51).0, 40, "the system prompt");
    // The whole prompt is known: its last position is read again, for the scores after it.
    assert_eq!(ask(&mut batch, 50), (41, first));
    assert_eq!((batch.prefixes().hits, batch.prefixes().misses), (2, 1));
}

#[test]
fn probabilities_are_those_of_the_model() {
    let decoder = decoder("qwen2", Dtype::F32);
    let ids = [4_u32, 8, 15, 16, 23];
    let draw = Draw { temperature: 0.3, seed: 3, ..Draw::default() };
    let mut batch = Batch::new(decoder.clone(), 0);
    batch.add(&Prompt::tokens(ids), Sampling::draw(draw), Some(3)).unwrap();
    let drawn = batch.step(MOST).unwrap().remove(0);
    let (token, Scored { logprob, best }) = (drawn.token.unwrap(), drawn.scored.unwrap());

    let input = Tensor::new(&ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = decoder.forward_uncached(Input::Tokens(&input), &Padding::none(1)).unwrap();
    let scores = decoder.last_logits(&hidden).unwrap();
    let scores = foveate_nn::softmax(&scores).unwrap().log().unwrap().squeeze(0).unwrap();
    let found = Tensor::new(&[logprob, best[0].1, best[2].1], &Device::Cpu).unwrap();
    let at = Tensor::new(&[token, best[0].0, best[2].0], &Device::Cpu).unwrap();
    assert!(apart(&scores.index_select(&at, 0).unwrap(), &found) < 1e-4);
    let scores = scores.to_vec1::<f32>().unwrap();
    assert_eq!(scores.iter().filter(|score| **score > best[2].1 + 1e-4).count(), 2);
}

#[test]
fn a_full_context_is_told_and_a_wrong_prompt_refused() {
    let decoder = decoder("llama-tied", Dtype::F32);
    let context = decoder.config().context;
    let mut batch = Batch::new(decoder.clone(), 0);
    batch.add(&Prompt::tokens(vec![1; context - 1]), Sampling::greedy(), None).unwrap();
    assert!(!batch.step(MOST).unwrap()[0].full);
    assert!(batch.step(MOST).unwrap()[0].full);
    for wrong in [Prompt::default(), Prompt::tokens(vec![1; context + 1])] {
        assert!(batch.add(&wrong, Sampling::greedy(), None).is_err());
    }
    let draw = Draw { temperature: 0.0, ..Draw::default() };
    assert!(batch.add(&Prompt::tokens([1]), Sampling::draw(draw), None).is_err());
    assert_eq!(batch.len(), 1);
}
