//! Kernels compiled while the program runs, by NVIDIA's library for that.
//!
//! The library is looked for when it is needed; nothing of it is needed to build this crate. Compiling
//! for a real GPU (sm_90a, not compute_90a) also runs the assembler, which finds what the language alone
//! allows: instructions that the GPU lacks, more shared memory than it has.

mod library;
mod log;

pub use library::Nvrtc;
pub use log::messages;

use self::library::{Code, Input};
use crate::source::HEADERS;
use crate::{CompileError, Module, Result};

/// The GPUs that every kernel must compile for: A100 and H100, the ends of what is in use for training.
pub const TARGETS: &[&str] = &["sm_80", "sm_90a"];

const OPTIONS: &[&str] = &["--std=c++17", "--generate-line-info"];

/// A source that need not be one of this crate's.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Further options, such as `-DNAME`.
    pub options: &'a [&'a str],
}

impl<'a> From<&'a Module> for Source<'a> {
    fn from(module: &'a Module) -> Self {
        Self {
            name: module.file.name,
            text: module.file.text,
            options: module.real.defines(),
        }
    }
}

/// Machine code of `source` for `target`, such as sm_90a.
///
/// # Errors
/// A source that does not compile for it, with file and line; a library that fails.
pub fn compile(nvrtc: &Nvrtc, source: Source<'_>, target: &str) -> Result<Vec<u8>> {
    let arch = format!("--gpu-architecture={target}");
    let options: Vec<&str> = OPTIONS
        .iter()
        .copied()
        .chain([arch.as_str()])
        .chain(source.options.iter().copied())
        .collect();
    let mut input = Input {
        name: source.name,
        text: source.text,
        headers: HEADERS,
        options: &options,
    };
    let output = nvrtc.run(&input, Code::Cubin)?;
    if output.succeeded {
        return Ok(output.code);
    }
    let mut found = messages(&output.log);
    // The assembler counts lines of PTX. Compiled only that far, the PTX tells which lines they are from.
    if found.iter().any(|message| message.place.is_none()) {
        let virtual_arch = arch.replace("sm_", "compute_");
        let further: Vec<&str> = options
            .iter()
            .map(|o| {
                if *o == arch {
                    virtual_arch.as_str()
                } else {
                    *o
                }
            })
            .collect();
        input.options = &further;
        let ptx = nvrtc.run(&input, Code::Ptx)?;
        let ptx = String::from_utf8_lossy(&ptx.code).into_owned();
        let starts: Vec<_> = log::kernels_of(source.text)
            .into_iter()
            .map(|(name, line)| (name.to_owned(), line))
            .collect();
        found
            .iter_mut()
            .for_each(|message| log::place(message, source.name, &ptx, &starts));
    }
    // What only sums up the others.
    if found.iter().any(|message| message.place.is_some()) {
        found.retain(|message| message.place.is_some());
    }
    Err(CompileError {
        file: source.name.to_owned(),
        target: target.to_owned(),
        messages: found,
        log: output.log,
    }
    .into())
}
