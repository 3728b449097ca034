//! Prompts to text: prefill, choose, decode, stop.

mod batch;
mod prefixes;
mod prompt;
mod sampler;
mod scored;
mod session;
mod stop;
mod text;
mod tokens;
mod writer;

pub use batch::{Added, AnswerId, Batch, Drawn};
pub use prompt::{Part, Prompt};
pub use sampler::{Choice, Draw, Sampler, Sampling};
pub use scored::Scored;
pub use session::{Finish, GenerateOptions, Generated, Session};
pub use stop::{Scanned, StopStrings};
pub use text::TextStream;
pub use tokens::prompt_tokens;
pub use writer::Writer;
