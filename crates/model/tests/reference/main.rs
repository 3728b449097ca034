//! Every network compared with transformers on the tiny checkpoints of `fixtures/models`; see `fixtures/README.md`.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod generate;
mod llm;
mod vision;
mod vlm;
