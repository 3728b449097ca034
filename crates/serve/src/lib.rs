//! A server for vision-language models: the API of OpenAI, many answers at once, a budget of visual tokens for each request.
//!
//! A request goes one way through it:
//!
//! | step | where | what may end it there |
//! |---|---|---|
//! | bytes to a request | `http::body`, `http::types` | size, time, JSON, the API key |
//! | a request to a job | `http::admit`, `images` | unknown values, the ladder, images, context, predicted time, a full queue |
//! | a job to events | `engine` | deadline, a client that went away |
//! | events to a reply | `http::chat`, `http::look` | – |
//!
//! `http::page` is the page at `/` that shows all this; its source is `web/`. One thread owns the model (`engine::scheduler`): it encodes images, reads prompts in pieces and gives every answer its next
//! token in one pass. An answer is what the same request gets alone, to the bit. The server knows a model through [`Backend`];
//! the program that opens models supplies it.

mod backend;
mod engine;
mod files;
mod http;
mod images;
mod log;
mod metrics;
mod options;
mod run;

pub use backend::{Asked, Backend, Refusal};
pub use engine::{Meter, Work};
pub use http::openapi;
pub use log::{LogFormat, start_log};
pub use options::{
    ApiKey, AutoOptions, Example, FileOptions, HostName, HostNameError, Limits, Options, RemoteImages,
    Schedule,
};
pub use run::{ServeError, serve};
