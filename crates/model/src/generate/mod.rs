//! Prompts to text: prefill, choose, decode, stop.

mod prompt;
mod sampler;
mod session;
mod stop;
mod text;
mod tokens;

pub use prompt::{Part, Prompt};
pub use sampler::{Choice, Draw, Sampler, Sampling};
pub use session::{Finish, GenerateOptions, Generated, Session};
pub use stop::{Scanned, StopStrings};
pub use text::TextStream;
pub use tokens::prompt_tokens;
