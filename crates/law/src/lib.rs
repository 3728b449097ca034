//! Scaling laws of vision-language models over model size N and visual tokens V: fit them, judge them, count what
//! inference costs, and turn a budget into a choice.
//!
//! Source: "Inference Optimal VLMs Need Fewer Visual Tokens and More Parameters" (arXiv 2411.03312). The library
//! depends on no tensor framework.

pub mod cost;
#[cfg(feature = "plot")]
pub mod plot;
