//! Every network compared with transformers on the tiny checkpoints of `fixtures/models`; see `fixtures/README.md`.
#![allow(clippy::unwrap_used, missing_docs)]
// A failed test shows what was printed: the model that it was at.
#![allow(clippy::print_stdout)]

mod batch;
mod checkpoints;
mod common;
mod compressed;
mod flops;
mod generate;
mod hostile;
mod llm;
mod viewer;
mod vision;
mod vlm;
