//! What NVRTC makes of the kernels, and of planted errors. Needs its library, and no GPU.

mod support;

use std::path::{Path, PathBuf};

use fgvr_cuda::cache::Cache;
use fgvr_cuda::nvrtc::{self, Nvrtc, Source, TARGETS};
use fgvr_cuda::{Error, Module};

fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::load() {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) => {
            support::skipped(&error);
            None
        }
    }
}

/// The places of the errors in a planted file, and the first error's text.
fn errors_of(name: &str, target: &str) -> Option<(Vec<(String, usize)>, String)> {
    let nvrtc = nvrtc()?;
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/planted")
            .join(name),
    );
    let text = text.expect("a planted file");
    let source = Source {
        name,
        text: &text,
        options: &[],
    };
    let Err(Error::Compile(error)) = nvrtc::compile(&nvrtc, source, target) else {
        panic!("{name} compiles for {target}");
    };
    let places = error
        .messages
        .iter()
        .filter_map(|message| message.place.clone());
    Some((places.collect(), error.messages[0].text.clone()))
}

fn finds(name: &str, line: usize, what: &str) {
    let Some((places, text)) = errors_of(name, "sm_80") else {
        return;
    };
    assert_eq!(places, [(name.to_owned(), line)]);
    assert!(text.contains(what), "{text}");
}

#[test]
fn an_undefined_name_is_found_with_its_line() {
    finds("undefined_name.cu", 5, "scale_of_nothing");
}

#[test]
fn bad_inline_assembly_is_found_with_its_line() {
    finds("bad_ptx.cu", 7, "frobnicate");
}

#[test]
fn too_much_shared_memory_is_found_with_its_kernel() {
    finds("too_much_shared_memory.cu", 4, "too much shared data");
}

#[test]
fn an_instruction_that_the_gpu_lacks_is_found_with_its_line() {
    finds("missing_instruction.cu", 5, "wgmma.fence");
}

/// A target that does not exist is an error of the call, not of the file.
#[test]
fn an_unknown_target_is_refused() {
    let Some(nvrtc) = nvrtc() else { return };
    let source = Source {
        name: "empty.cu",
        text: "",
        options: &[],
    };
    let error = nvrtc::compile(&nvrtc, source, "sm_1")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sm_1") || error.contains("gpu-architecture"),
        "{error}"
    );
}

#[test]
fn machine_code_is_kept_and_a_damaged_file_is_not_used() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(folder.path());
    let module = Module::all().next().unwrap();
    let code = cache.get(&nvrtc, module, TARGETS[0]).unwrap();
    assert_eq!(&code[..4], b"\x7fELF");
    let path: PathBuf = cache.path(&nvrtc, module, TARGETS[0]);
    let kept = std::fs::read(&path).unwrap();
    assert_eq!(kept.len(), code.len() + 32);
    // A file that is whole is taken as it is, one that is not is made again.
    std::fs::write(&path, &kept[..kept.len() / 2]).unwrap();
    assert_eq!(cache.get(&nvrtc, module, TARGETS[0]).unwrap(), code);
    assert_eq!(std::fs::read(&path).unwrap(), kept);
    assert_ne!(path, cache.path(&nvrtc, module, TARGETS[1]));
}
