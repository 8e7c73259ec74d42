//! What `torch.save` writes: a pickle, and the storages that it names.
//!
//! Since version 1.6 both are records of a zip archive (`zip`); before, they stood one after the
//! other in a plain file (`legacy`). The pickle is read by a machine that knows the few names state
//! dicts are made of; everything else in it becomes a value that nothing can be done with. No code
//! is run and nothing is imported. Memory is bounded by the file: see [`Budget`](machine::Budget).
//!
//! # Design choice
//! candle has a reader for these files too. It allocates by the length fields it finds, copies
//! shared values, and refuses files with objects in them such as a training script's arguments.

mod archive;
pub(super) mod legacy;
mod machine;
mod opcodes;
mod state;
mod torch;
mod value;
pub(super) mod zip;

pub(crate) use archive::{Archive, View};

/// The largest pickle accepted: those of large language models take a few MB.
const MAX_PICKLE: u64 = 64 << 20;
