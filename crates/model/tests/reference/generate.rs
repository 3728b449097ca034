//! How an answer ends, what a session keeps, and that draws can be repeated.

use std::ops::ControlFlow;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use foveate_model::generate::{Draw, Finish, GenerateOptions, Generated, Prompt, Sampling, Session};
use foveate_model::llm::{Decoder, DecoderConfig, Input, Padding};
use foveate_model::weights::Weights;
use foveate_model::{Dtype, ModelError};
use proptest::prelude::*;
use tokenizers::Tokenizer;

use crate::common::{Expected, config, folder};

const MODEL: &str = "llama-tied";

struct Setting {
    decoder: Arc<Decoder>,
    tokenizer: Tokenizer,
    prompt: Vec<u32>,
    greedy: Vec<u32>,
}

fn setting() -> Setting {
    let expected = Expected::of(MODEL);
    Setting {
        decoder: Arc::new(Decoder::open(&folder(MODEL), Dtype::F32).unwrap()),
        tokenizer: Tokenizer::from_file(folder(MODEL).join("tokenizer.json")).unwrap(),
        prompt: expected.ids("in.prompt_ids"),
        greedy: expected.ids("out.greedy_ids"),
    }
}

fn options() -> GenerateOptions {
    GenerateOptions { max_tokens: 32, ..GenerateOptions::default() }
}

impl Setting {
    fn answer(&self, options: &GenerateOptions) -> Generated {
        let prompt = Prompt::tokens(self.prompt.clone());
        let mut streamed = String::new();
        let answer = Session::new(self.decoder.clone())
            .generate(&prompt, options, &self.tokenizer, |text| {
                streamed += text;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(streamed, answer.text);
        answer
    }
}

#[test]
fn an_answer_ends_where_it_should() {
    let setting = setting();
    let five = setting.answer(&GenerateOptions { max_tokens: 5, ..options() });
    assert_eq!((five.finish, &five.tokens[..]), (Finish::MaxTokens, &setting.greedy[..5]));
    let end = setting.greedy[4];
    let until = setting.greedy.iter().position(|token| *token == end).unwrap();
    let ended = setting.answer(&GenerateOptions { end_tokens: Some(vec![end]), ..options() });
    assert_eq!((ended.finish, &ended.tokens[..]), (Finish::End, &setting.greedy[..until]));
}

#[test]
fn stop_strings_end_an_answer_wherever_the_tokens_are_cut() {
    let setting = setting();
    let text = setting.answer(&options()).text;
    let characters: Vec<(usize, char)> = text.char_indices().collect();
    // Every stretch of three characters of the answer, most of which lie across tokens.
    for window in characters.windows(3) {
        let stop: String = window.iter().map(|(_, character)| character).collect();
        let stopped =
            setting.answer(&GenerateOptions { stop: vec!["never".to_owned(), stop.clone()], ..options() });
        assert_eq!(stopped.finish, Finish::Stop(1), "{stop:?}");
        assert_eq!(stopped.text, text[..text.find(&stop).unwrap()], "{stop:?}");
    }
    let open = setting.answer(&GenerateOptions { stop: vec!["never".to_owned()], ..options() });
    assert_eq!((open.finish, open.text), (Finish::MaxTokens, text));
}

#[test]
fn the_caller_can_break_off_and_go_on() {
    let setting = setting();
    let mut session = Session::new(setting.decoder.clone());
    let prompt = Prompt::tokens(setting.prompt.clone());
    let mut pieces = 0;
    let broken = session.generate(&prompt, &options(), &setting.tokenizer, |_| {
        pieces += 1;
        if pieces == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let broken = broken.unwrap();
    assert_eq!(broken.finish, Finish::Cancelled);
    assert!(broken.tokens.len() < 32 && setting.greedy.starts_with(&broken.tokens));
    let again =
        session.generate(&prompt, &options(), &setting.tokenizer, |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(again.tokens, setting.greedy);
}

#[test]
fn the_context_is_a_limit_with_a_name() {
    let setting = setting();
    let length = setting.prompt.len();
    let narrow = DecoderConfig { context: length + 3, ..setting.decoder.config().clone() };
    let narrow = Decoder::load(narrow, &Weights::open(&folder(MODEL)).unwrap()).unwrap();
    let mut session = Session::new(Arc::new(narrow));
    let mut generate = |prompt: Vec<u32>| {
        let see = |_| Ok(ControlFlow::Continue(()));
        session.generate_tokens(&Prompt::tokens(prompt), &options(), see)
    };
    // Three more are read, and one is chosen after the last of them.
    let full = generate(setting.prompt.clone()).unwrap();
    assert_eq!((full.finish, &full.tokens[..]), (Finish::Context, &setting.greedy[..4]));
    let error = generate(vec![7; length + 4]).unwrap_err();
    assert!(
        matches!(error, ModelError::Context { needed, limit } if needed == length + 4 && limit == length + 3)
    );
    assert!(matches!(generate(Vec::new()).unwrap_err(), ModelError::EmptyInput));
    // A refused prompt leaves the session usable.
    assert_eq!(generate(setting.prompt.clone()).unwrap().tokens, full.tokens);
}

#[test]
fn a_prompt_read_in_chunks_equals_one_pass() {
    // Longer than a session reads at once.
    let prompt: Vec<u32> = (0..700).map(|at| 6 + (at * at + 5 * at) % 378).collect();
    let decoder = Arc::new(Decoder::open(&folder("llama3-rope"), Dtype::F32).unwrap());
    let tokens = Tensor::new(&prompt[..], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = decoder.forward_uncached(Input::Tokens(&tokens), &Padding::none(1)).unwrap();
    let scores = decoder.last_logits(&hidden).unwrap();
    let best = scores.squeeze(0).unwrap().argmax(0).unwrap().to_scalar::<u32>().unwrap();
    let one = GenerateOptions { max_tokens: 1, ..options() };
    let answer = Session::new(decoder)
        .generate_tokens(&Prompt::tokens(prompt), &one, |_| Ok(ControlFlow::Continue(())))
        .unwrap();
    assert_eq!((answer.tokens, answer.prompt_positions), (vec![best], 700));
}

#[test]
fn options_out_of_range_are_named() {
    let setting = setting();
    let prompt = Prompt::tokens(setting.prompt.clone());
    let mut session = Session::new(setting.decoder.clone());
    for (options, part) in [
        (GenerateOptions { max_tokens: 0, ..options() }, "max tokens"),
        (GenerateOptions { stop: vec![String::new()], ..options() }, "stop string"),
        (
            GenerateOptions {
                sampling: Sampling::draw(Draw { top_k: Some(0), ..Draw::default() }),
                ..options()
            },
            "top-k",
        ),
    ] {
        let message = session.generate(&prompt, &options, &setting.tokenizer, |_| ControlFlow::Continue(()));
        let message = message.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn draws_repeat_with_their_seed() {
    let setting = setting();
    let drawn = |seed| {
        let draw = Draw { temperature: 2.0, seed, ..Draw::default() };
        setting.answer(&GenerateOptions { sampling: Sampling::draw(draw), ..options() }).tokens
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    // A draw from the best token alone is the greedy answer.
    let draw = Draw { top_k: Some(1), seed: 3, ..Draw::default() };
    let best = setting.answer(&GenerateOptions { sampling: Sampling::draw(draw), ..options() });
    assert_eq!(best.tokens, setting.greedy);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_used_session_answers_like_a_fresh_one(prompts in prop::collection::vec(
        (0_usize..20, prop::collection::vec(6_u32..384, 1..6)), 1..4,
    )) {
        let decoder = Arc::new(
            Decoder::load(DecoderConfig::from_json(&config(MODEL)).unwrap(), &Weights::open(&folder(MODEL)).unwrap())
                .unwrap(),
        );
        let options = GenerateOptions { max_tokens: 6, ..GenerateOptions::default() };
        let mut used = Session::new(decoder.clone());
        let mut last: Vec<u32> = Vec::new();
        for (keep, new) in prompts {
            // A prompt that shares its first `keep` positions, at most, with what was read before.
            last.truncate(keep);
            last.extend(new);
            let prompt = Prompt::tokens(last.clone());
            let of_used = used.generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap();
            let mut fresh = Session::new(decoder.clone());
            let of_fresh = fresh.generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap();
            prop_assert_eq!(&of_used.tokens, &of_fresh.tokens);
            last.extend(of_used.tokens);
        }
    }
}

/// Scores of a model without a cache are the reference: log softmax, token by token.
#[test]
fn likelihoods_are_those_of_the_scores() {
    let setting = setting();
    let prompt = Prompt::tokens(setting.prompt.clone());
    let mut session = Session::new(setting.decoder.clone());
    let answers = [&setting.greedy[..6], &setting.greedy[..1], &[7, 11, 13], &[]];
    let first: Vec<f64> =
        answers.iter().map(|answer| session.log_likelihood(&prompt, answer).unwrap()).collect();
    for (answer, found) in answers.iter().zip(&first) {
        let whole = [&setting.prompt[..], answer].concat();
        let ids = Tensor::new(whole, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = setting.decoder.forward_uncached(Input::Tokens(&ids), &Padding::none(1)).unwrap();
        let scores = setting.decoder.logits(&hidden).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        let mut expected = 0.0;
        for (row, token) in scores[setting.prompt.len() - 1..].iter().zip(*answer) {
            let sum: f64 = row.iter().map(|score| f64::from(*score).exp()).sum();
            expected += f64::from(row[*token as usize]) - sum.ln();
        }
        assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    }
    assert_eq!(first[3], 0.0, "nothing is certain");
    // What the session has read before changes nothing, and all answers of one token share all probability.
    let again: Vec<f64> =
        answers.iter().rev().map(|answer| session.log_likelihood(&prompt, answer).unwrap()).collect();
    assert!(again.iter().rev().zip(&first).all(|(again, first)| (again - first).abs() < 1e-4));
    let vocabulary = setting.decoder.config().vocabulary as u32;
    let total: f64 =
        (0..vocabulary).map(|token| session.log_likelihood(&prompt, &[token]).unwrap().exp()).sum();
    assert!((total - 1.0).abs() < 1e-3, "{total}");
    // An answer ends by one token or another: their probabilities add up, and every token is one of all.
    let mut ended = |ends: &[u32]| session.log_likelihood_to_end(&prompt, answers[2], ends).unwrap().exp();
    let (one, other, both) = (ended(&[3]), ended(&[5]), ended(&[3, 5]));
    assert!((one + other - both).abs() < 1e-4 * both, "{one} + {other} = {both}");
    let all: Vec<u32> = (0..vocabulary).collect();
    assert!((ended(&all).ln() - first[2]).abs() < 1e-3);
    assert_eq!(
        session.log_likelihood_to_end(&prompt, &[], &[7]).unwrap(),
        session.log_likelihood(&prompt, &[7]).unwrap()
    );
    assert!(session.log_likelihood(&prompt, &[vocabulary]).is_err());
    assert!(session.log_likelihood_to_end(&prompt, &[], &[vocabulary]).is_err());
    assert!(session.log_likelihood(&Prompt::tokens(Vec::new()), &[1]).is_err());
}
