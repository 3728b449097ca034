//! `foveate serve`, as its clients see it.

mod chat;
mod files;
mod hostile;
mod life;
mod look;
mod page;
mod server;

use super::fixture;
