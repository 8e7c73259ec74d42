//! From a `.cu` file to a library of the host's.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::source::{HEADERS, kernels};
use crate::{CompileError, Error, Module, Result, nvrtc};

const EMULATE: &str = include_str!("emulate.h");
/// Contraction to fused multiply-adds, which NVRTC does by default, is left to the compiler's default.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-w",
    "-fPIC",
    "-shared",
    "-fno-strict-aliasing",
];

/// `CXX`, or the first C++ compiler on the path.
pub(super) fn compiler() -> Result<PathBuf> {
    let named = std::env::var_os("CXX").map(PathBuf::from);
    let names = named
        .into_iter()
        .chain(["c++", "g++", "clang++"].map(PathBuf::from));
    let runs = |name: &PathBuf| {
        let answer = Command::new(name).arg("--version").output();
        answer.is_ok_and(|output| output.status.success())
    };
    let found = names.into_iter().find(runs);
    found.ok_or_else(|| {
        Error::Emulator(
            "no C++ compiler: looked for CXX, c++, g++ and clang++. Install one (such as the package g++)".into(),
        )
    })
}

/// The library of `module` in `directory`: as it was built before from the same sources, or built now.
pub(super) fn build(compiler: &Path, directory: &Path, module: Module) -> Result<PathBuf> {
    let text = translation_unit(module);
    let mut hash = Sha256::new();
    for part in [
        EMULATE,
        &text,
        module.file.text,
        &compiler.to_string_lossy(),
    ]
    .into_iter()
    .chain(FLAGS.iter().copied())
    {
        hash.update(part);
        hash.update([0]);
    }
    for (name, header) in HEADERS {
        hash.update(name);
        hash.update(header);
    }
    let digest: String = hash
        .finalize()
        .iter()
        .take(12)
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
    let stem = module.file.name.trim_end_matches(".cu");
    let library = directory.join(format!("{stem}{}-{digest}.so", module.real.suffix()));
    if library.exists() {
        return Ok(library);
    }
    let work = tempfile::tempdir_in(directory).map_err(|error| Error::io(directory, error))?;
    let write = |name: &str, text: &str| {
        let path = work.path().join(name);
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::io(path, error))
    };
    write("emulate.h", EMULATE)?;
    for (name, header) in HEADERS {
        write(name, header)?;
    }
    write(module.file.name, module.file.text)?;
    write("unit.cpp", &text)?;
    let built = work.path().join("unit.so");
    let output = Command::new(compiler)
        .args(FLAGS)
        .args(["unit.cpp", "-o", "unit.so"])
        .current_dir(work.path())
        .output()
        .map_err(|error| Error::io(compiler, error))?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CompileError {
            file: module.file.name.into(),
            target: "the emulator".into(),
            messages: nvrtc::messages(&log),
            log,
        }
        .into());
    }
    // Renamed when whole: another process may be building the same one.
    std::fs::rename(&built, &library).map_err(|error| Error::io(&library, error))?;
    Ok(library)
}

/// What is compiled: the file, and an entry point for each kernel.
fn translation_unit(module: Module) -> String {
    let mut text = String::from("#include \"emulate.h\"\n");
    for define in module.defines() {
        let name = define.trim_start_matches("-D");
        let _ = writeln!(text, "#define {name}");
    }
    let _ = writeln!(text, "#include \"{}\"", module.file.name);
    for kernel in kernels(module.file) {
        let name = format!("{}{}", kernel.name, module.real.suffix());
        let _ = writeln!(
            text,
            "extern \"C\" const char* emulate_{name}(void** arguments, const size_t* sizes, size_t given, \
             const unsigned* shape, size_t shared, unsigned order) {{\n  \
             return emu::launch({name}, arguments, sizes, given, shape, shared, order);\n}}"
        );
    }
    text
}
