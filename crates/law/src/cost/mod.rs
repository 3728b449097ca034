//! What inference costs: FLOPs, bytes and memory of every stage, from plain dimensions.
//!
//! A FLOP is half a multiply-add of a matrix product or of attention; embedding look-ups, norms, activation functions,
//! softmax and rotations count as nothing. With n tower tokens, d and i its widths, V visual and Q text tokens, A
//! answer tokens, D the language model's width and P the weights of one of its L blocks:
//!
//! | stage | FLOPs |
//! |---|---|
//! | tower | patches · 2·(channels·patch²)·d + blocks · (2·n·(4d² + 2·d·i) + 4·n²·d); a gated layer has 3·d·i |
//! | query | L · (2·Q·P + 4·pairs(0, Q)·w), only for a compressor that reads the question; no head |
//! | compress | the products of the method, see [`Compressor`] |
//! | project | 2·V·(d·D + D²), on all g² tokens for M3, within `compress` for TokenPacker and MQT |
//! | prefill | L · (2·(Q+V)·P + 4·pairs(0, Q+V)·w) + 2·D·vocabulary |
//! | decode | (A−1) · (2·L·P + 2·D·vocabulary) + L · 4·pairs(Q+V, A−1)·w |
//!
//! Here w is the width of all query heads, and pairs(c, m) the query-key pairs of m new tokens behind c cached ones,
//! each seeing all before it and itself but no more than a sliding window. [`Scenario`] says which of this is shared
//! between questions and [`Vlm::cost`] which passes an answer takes.
//!
//! Bytes: every weight matrix once per pass in its [`Dtype`] (so a decode reads the whole model for each token, the
//! tied output head included; biases and norms are left out), keys and values written once and read once per pass,
//! and as activations the inputs and outputs of each product plus queries and outputs of attention at 4 bytes each.
//! Caches between memory and processor are taken to hold nothing but the scores of attention, so the activations
//! are an upper estimate. Seconds are a roofline per stage: the slower of FLOPs and bytes at the machine's [`Rates`].
//!
//! N is always all parameters of the language model, tied embeddings once, unless a caller passes
//! [`LlmDimensions::nominal_parameters`] to [`paper_flops`].
//!
//! ```
//! use foveate_law::cost::{Catalogue, Compressor, CostModel, Stage, Vlm, Workload};
//! let catalogue = Catalogue::builtin();
//! let (tower, llm) = (catalogue.tower("clip-l-14-336")?, catalogue.llm("qwen1.5-0.5b")?);
//! let cost = Vlm::new(tower, llm, Compressor::QueCC).cost(1, &Workload::new(50, 16), CostModel::Full)?;
//! assert_eq!((cost.stage(Stage::Tower).flops / 1e9).round(), 366.0);
//! assert_eq!((cost.share(Stage::Tower) * 100.0).round(), 80.0);
//! # Ok::<(), foveate_law::cost::CostError>(())
//! ```

mod catalogue;
mod compressor;
mod dimensions;
mod dtype;
mod error;
mod image_size;
mod llm;
mod names;
mod parts;
mod stages;
mod work;
mod workload;

pub use catalogue::Catalogue;
pub use compressor::{Compressor, Ladder};
pub use dimensions::TowerDimensions;
pub use dtype::Dtype;
pub use error::CostError;
pub use image_size::ImageSize;
pub use llm::LlmDimensions;
pub use parts::projector_flops;
pub use stages::{Cost, Memory, Precision, Rates, Stage, StageCost, Vlm};
pub use workload::{CostModel, Scenario, Workload, paper_flops};
