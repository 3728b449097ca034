//! Every compressor inside of a model, in every published layout: rows, logits and greedy tokens of the reference.

use std::ops::ControlFlow;

use candle_core::Tensor;
use foveate_compress::{Budget, Method};
use foveate_model::Dtype;
use foveate_model::generate::{GenerateOptions, Part, Session};
use foveate_model::llm::{Input, Padding};
use foveate_model::vlm::{Image, Segment, Vlm, VlmConfig, published_names};
use foveate_model::weights::Weights;

use crate::common::{Expected, apart, config, folder};

/// The placeholder in the fixtures' token lists.
const IMAGE: u32 = 5;

/// A folder, and the cases for which it has expected values.
const CASES: [(&str, &[&str]); 5] = [
    (
        "compressed-plain",
        &[
            "identity.36",
            "average-pooling.36",
            "average-pooling.9",
            "average-pooling.4",
            "average-pooling.1",
            "m3.36",
            "m3.9",
            "m3.1",
            "prumerge.2",
            "prumerge.9",
            "prumerge.20",
            "prumerge.adaptive",
            "prumerge-plus.adaptive",
            "visionzip.3",
            "visionzip.12",
            "visionzip.20",
        ],
    ),
    ("compressed-quecc", &["quecc.4"]),
    ("compressed-token-packer", &["token-packer.9"]),
    ("compressed-mqt", &["mqt.1", "mqt.7", "mqt.256"]),
    ("compressed-elastic", &["quecc.36", "quecc.9", "quecc.4", "quecc.1"]),
];

pub(crate) fn open(name: &str) -> Vlm {
    println!("{name}");
    Vlm::open(&folder(name), None, Dtype::F32).unwrap()
}

/// `method.V` or `method.adaptive`.
fn case(text: &str) -> (Method, Budget) {
    let (method, budget) = text.split_once('.').unwrap();
    let budget = match budget {
        "adaptive" => Budget::Adaptive,
        number => Budget::Tokens(number.parse().unwrap()),
    };
    (method.parse().unwrap(), budget)
}

/// The pixels that all fixtures look at, `[3, 42, 42]`.
pub(crate) fn pixels() -> Tensor {
    Expected::of("compressed-plain").get("in.pixel_values").get(0).unwrap()
}

pub(crate) fn image() -> Image {
    Image::Single(pixels())
}

/// All stages, as a caller runs them.
pub(crate) fn rows(model: &Vlm, image: &Image, question: &[u32], budget: Budget) -> Tensor {
    model.check(image, budget).unwrap();
    let reads = model.compressor().reads_question();
    let question = reads.then(|| model.question_vector(question).unwrap());
    let seen = model.project_before(model.see(image).unwrap()).unwrap();
    let compressed = model.compress(&seen, question.as_ref(), &[budget]).unwrap();
    model.arrange_tokens(image, &model.project_after(&compressed).unwrap()).unwrap()
}

fn segments(tokens: &[u32]) -> Vec<Segment> {
    let at = tokens.iter().position(|token| *token == IMAGE).unwrap();
    let text = |part: &[u32]| Segment::Tokens(part.to_vec());
    vec![text(&tokens[..at]), Segment::Image, text(&tokens[at + 1..])]
}

#[test]
fn every_layout_answers_as_the_reference_does() {
    for (name, cases) in CASES {
        let (model, expected) = (open(name), Expected::of(name));
        let question = expected.ids("in.question_ids");
        expected.assert_close("out.question", &model.question_vector(&question).unwrap());
        for text in cases {
            println!("{text}");
            let (method, budget) = case(text);
            let model = model.clone().with_compressor(method).unwrap();
            assert_eq!(model.compressor().method(), method);
            let rows = rows(&model, &image(), &question, budget);
            if let Budget::Tokens(tokens) = budget {
                assert_eq!(rows.dims(), [tokens, 24]);
            }
            expected.assert_close(&format!("out.{text}.rows"), &rows);

            let segments = segments(&expected.ids("in.input_ids"));
            let prompt = model.prompt(&segments, std::slice::from_ref(&rows)).unwrap();
            let text_tokens: usize = segments
                .iter()
                .map(|segment| if let Segment::Tokens(tokens) = segment { tokens.len() } else { 0 })
                .sum();
            assert_eq!(prompt.len().unwrap(), text_tokens + rows.dims()[0]);
            let embedded = prompt.parts.iter().map(|part| match part {
                Part::Tokens(tokens) => {
                    let tokens = Tensor::new(&tokens[..], rows.device()).unwrap().unsqueeze(0).unwrap();
                    model.decoder().embed(&tokens).unwrap()
                }
                Part::Rows(rows) => rows.unsqueeze(0).unwrap(),
            });
            let embedded = Tensor::cat(&embedded.collect::<Vec<_>>(), 1).unwrap();
            let decoder = model.decoder();
            let hidden = decoder.forward_uncached(Input::Embeddings(&embedded), &Padding::none(1)).unwrap();
            let logits = decoder.last_logits(&hidden).unwrap().squeeze(0).unwrap();
            expected.assert_close(&format!("out.{text}.logits"), &logits);

            let greedy = expected.ids(&format!("out.{text}.greedy"));
            let options = GenerateOptions { max_tokens: greedy.len(), ..GenerateOptions::default() };
            let answer = |rows: &Tensor| {
                let prompt = model.prompt(&segments, std::slice::from_ref(rows)).unwrap();
                let mut session = Session::new(decoder.clone());
                session.generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(()))).unwrap()
            };
            assert_eq!(answer(&rows).tokens, greedy);
            // Again, bit by bit.
            let again = self::rows(&model, &image(), &question, budget);
            assert_eq!(apart(&again, &rows), 0.0);
        }
    }
}

#[test]
fn a_down_scaled_image_is_read_on_a_resized_table() {
    let (model, expected) = (open("compressed-plain"), Expected::of("compressed-plain"));
    let small = model.clone().with_image_size(28).unwrap();
    assert_eq!((small.ladder().values(), small.identity() == model.identity()), (vec![16], false));
    let image = Image::Single(expected.get("in.down-scaled.pixel_values").get(0).unwrap());
    expected.assert_close("out.down-scaled.16.rows", &rows(&small, &image, &[], Budget::Tokens(16)));
    let same = model.clone().with_image_size(42).unwrap();
    let pixels = self::image();
    let whole = rows(&model, &pixels, &[], Budget::Tokens(36));
    assert!(apart(&rows(&same, &pixels, &[], Budget::Tokens(36)), &whole) < 1e-5);
    assert!(model.with_image_size(6).unwrap_err().to_string().contains("image_size"));
    // Windows of three do not divide 4 × 4.
    let error = open("compressed-quecc").with_image_size(28).unwrap_err().to_string();
    assert!(error.contains("4 × 4") && error.contains("[1, 2, 4]"), "{error}");
}

#[test]
fn questions_together_are_questions_alone() {
    let (model, expected) = (open("compressed-quecc"), Expected::of("compressed-quecc"));
    let question = expected.ids("in.question_ids");
    let together = model.question_vectors(&[&question[..3], &question]).unwrap();
    for (row, alone) in [&question[..3], &question].into_iter().enumerate() {
        let alone = model.question_vector(alone).unwrap();
        assert!(apart(&together.narrow(0, row, 1).unwrap(), &alone) < 1e-5);
    }
}

#[test]
fn a_projector_that_reads_the_class_token_takes_no_compressor() {
    let config = config("llava-1.5").replace("\"default\"", "\"full\"");
    let weights = published_names(Weights::open(&folder("llava-1.5")).unwrap());
    let model = Vlm::load(VlmConfig::from_json(&config).unwrap(), &weights).unwrap();
    let image = Image::Single(Expected::of("llava-1.5").get("in.pixel_values").get(0).unwrap());
    assert_eq!(model.default_budget(), Some(Budget::Tokens(17)));
    let found = rows(&model, &image, &[], Budget::Tokens(17));
    assert!(apart(&found, &model.image_rows(&image).unwrap()) < 1e-5);
    assert!(model.check(&image, Budget::Tokens(16)).unwrap_err().to_string().contains("it offers 17"));
    let error = model.with_compressor(Method::AveragePooling).unwrap_err().to_string();
    assert!(error.contains("class token and patches"), "{error}");
}

#[test]
fn a_batch_may_have_another_number_of_tokens_in_each_row() {
    for (name, budgets) in [
        ("compressed-elastic", [9, 1, 36].map(Budget::Tokens)),
        ("compressed-mqt", [3, 200, 1].map(Budget::Tokens)),
        ("compressed-plain", [Budget::Adaptive, Budget::Tokens(7), Budget::Adaptive]),
    ] {
        let (mut model, expected) = (open(name), Expected::of(name));
        if name == "compressed-plain" {
            model = model.with_compressor(Method::PruMerge).unwrap();
        }
        let pixels = pixels();
        let pictures = [pixels.clone(), pixels.neg().unwrap(), (&pixels * 0.5).unwrap()];
        let question = expected.ids("in.question_ids");
        let vector = model.question_vector(&question).unwrap();
        let seen = model.see_pixels(&Tensor::stack(&pictures, 0).unwrap()).unwrap();
        let compressed = model.compress(&seen, Some(&vector), &budgets).unwrap();
        let together = model.project_after(&compressed).unwrap();
        for ((pixels, budget), together) in pictures.into_iter().zip(budgets).zip(together) {
            let alone = rows(&model, &Image::Single(pixels), &question, budget);
            assert!(apart(&together, &alone) < 2e-5, "{name} {budget}");
        }
    }
}

#[test]
fn only_the_blocks_that_are_needed_run() {
    let plain = open("compressed-plain");
    let run = |model: &Vlm| {
        let seen = model.see(&image()).unwrap();
        assert_eq!(seen.blocks_run, model.cost().blocks_needed().unwrap());
        seen.blocks_run
    };
    // State −2 of eight blocks is the output of the seventh; of the eighth PruMerge needs two projections.
    for method in [Method::Identity, Method::M3, Method::PruMerge, Method::VisionZip] {
        assert_eq!(run(&plain.clone().with_compressor(method).unwrap()), 7, "{method}");
    }
    assert_eq!(run(&open("compressed-quecc")), 7);
}

#[test]
fn where_tokens_look_sums_to_one_and_lies_in_their_window() {
    for (name, cases) in CASES {
        let (model, expected) = (open(name), Expected::of(name));
        let vector = model.question_vector(&expected.ids("in.question_ids")).unwrap();
        for text in cases {
            let (method, budget) = case(text);
            let model = model.clone().with_compressor(method).unwrap();
            let seen = model.see(&image()).unwrap();
            let looks = model.look(&seen, Some(&vector), &[budget]).unwrap();
            let count = expected.get(&format!("out.{text}.rows")).dims()[0];
            let weights = looks[0].to_vec2::<f32>().unwrap();
            assert_eq!((looks.len(), weights.len(), weights[0].len()), (1, count, 36), "{text}");
            let grid = model.compressor().token_grid(model.grid(), count);
            for (token, weights) in weights.iter().enumerate() {
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{text} {token}");
                let Some(grid) = grid else { continue };
                let side = 6 / grid.columns;
                for (patch, weight) in weights.iter().enumerate() {
                    let window = patch / 6 / side * grid.columns + patch % 6 / side;
                    assert!(*weight == 0.0 || window == token, "{text}: {token} looks at {patch}");
                }
            }
        }
    }
}
