//! `cargo xtask kernels`: the GPU kernels, named, compiled and run.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};

use crate::command::{Cargo, become_it, code, executable};
use crate::output::print;
use crate::{gpu, workspace};

pub(crate) const USAGE: &str = "\
usage: cargo xtask kernels <command> [args]

  list [PART]      name the kernels, or those whose name or file contains PART
  check [FILES]    compile every kernel for sm_80 and sm_90a; no GPU is needed, only NVRTC's library
  test [args]      run every kernel against plain references, in an emulator (a C++ compiler is needed)
                   and on the GPU, if there is one; args are those of `cargo test`
  bench [--only PART]
                   time the kernels on a GPU, beside what the card can do; --emulate runs each case once
                   without one

list, check and bench take --json; each command's --help says more. NVRTC is looked for in CUDA_TOOLKIT_LIBS
(folders), in CUDA_HOME or CUDA_PATH, and where the system's loader looks.
";

/// The program's exit code where NVRTC is not found.
const NO_COMPILER: i32 = 3;
/// What CI installs where it is not: the compiler's library alone, of the version that was tried.
const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.88";
const FOLDER: &str = "target/nvrtc";

/// Runs the command that `args` begin with.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let root = workspace::root()?;
    let program = match args.first().map(|name| name.to_str().unwrap_or_default()) {
        None | Some("help" | "--help" | "-h") => {
            print(USAGE)?;
            return Ok(ExitCode::from(u8::from(args.is_empty()) * 2));
        }
        Some("test") => {
            let cargo = test(gpu::driver(), has_sanitizer(), &args[1..]);
            say!("{cargo}");
            return Ok(code(cargo.run(&root)?));
        }
        Some("bench") => program(&root, "program,cuda", &["--release"])?,
        Some(_) => program(&root, "program", &[])?,
    };
    // Named files are relative to where one stands.
    let mut command = Command::new(program);
    command.args(args);
    become_it(command)
}

/// Builds the program and says where it lies.
fn program(root: &Path, features: &str, profile: &[&str]) -> Result<PathBuf> {
    let which = [
        "-p",
        "fgvr-cuda",
        "--bin",
        "kernels",
        "--features",
        features,
    ];
    executable(root, &[&which, profile].concat(), "kernels")
}

/// The tests; with a GPU also on it, under compute-sanitizer where that is installed.
fn test<S: AsRef<OsStr>>(gpu: bool, sanitizer: bool, args: &[S]) -> Cargo {
    let mut all = vec!["test", "-p", "fgvr-cuda"];
    if gpu {
        all.extend(["--features", "cuda"]);
    }
    if gpu && sanitizer {
        all.extend([
            "--config",
            "target.'cfg(all())'.runner='compute-sanitizer --error-exitcode 1'",
        ]);
    }
    let cargo = Cargo::new(all).args(args);
    match gpu {
        true => cargo.env("FGVR_GPU", "require"),
        false => cargo,
    }
}

fn has_sanitizer() -> bool {
    let answer = Command::new("compute-sanitizer").arg("--version").output();
    answer.is_ok_and(|output| output.status.success())
}

/// `kernels check`, and that it finds planted errors, with NVRTC installed below `target` where it is not
/// found. What stands in the way otherwise.
///
/// # Errors
/// A kernel that does not compile, or an error that is not found.
pub(crate) fn check(root: &Path) -> Result<Option<String>> {
    let program = program(root, "program", &[])?;
    let check = || {
        let mut command = Command::new(&program);
        command.arg("check");
        command
    };
    let cargo = Cargo::new(["test", "-p", "fgvr-cuda", "--test", "nvrtc"]);
    let planted = || cargo.command();
    let calls: [(String, &dyn Fn() -> Command); 2] = [
        ("cargo xtask kernels check".to_string(), &check),
        (cargo.to_string(), &planted),
    ];
    let mut libraries = None;
    for (name, call) in calls {
        say!("    {name}");
        let mut status = run_with(root, call(), libraries.as_deref())?;
        if status.code() == Some(NO_COMPILER) && libraries.is_none() {
            libraries = match install(root) {
                Ok(libraries) => Some(libraries),
                Err(error) => return Ok(Some(format!("no NVRTC, and {error:#}"))),
            };
            status = run_with(root, call(), libraries.as_deref())?;
        }
        if !status.success() {
            bail!("`{name}` failed; see above");
        }
    }
    Ok(None)
}

fn run_with(root: &Path, mut command: Command, libraries: Option<&Path>) -> Result<ExitStatus> {
    if let Some(libraries) = libraries {
        command.env("CUDA_TOOLKIT_LIBS", libraries);
    }
    let status = command.current_dir(root).status();
    status.with_context(|| format!("cannot run {}", command.get_program().display()))
}

/// The folder of NVRTC's library, from the package that pip finds.
fn install(root: &Path) -> Result<PathBuf> {
    let folder = root.join(FOLDER);
    if let Some(libraries) = libraries(&folder) {
        return Ok(libraries);
    }
    let status = Command::new("python3")
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--upgrade",
            "--target",
        ])
        .arg(&folder)
        .arg(PACKAGE)
        .status()
        .context("python3 does not run")?;
    if !status.success() {
        bail!("pip could not install {PACKAGE} ({status})");
    }
    libraries(&folder).with_context(|| format!("{PACKAGE} holds no libnvrtc"))
}

/// The folder below `folder` that holds libnvrtc.
fn libraries(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.path();
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("libnvrtc.so")
        {
            return Some(folder.to_owned());
        }
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.iter().find_map(|folder| libraries(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_used_where_there_is_one() {
        let shown = |gpu, sanitizer| test(gpu, sanitizer, &["norm"]).to_string();
        assert_eq!(shown(false, true), "cargo test -p fgvr-cuda norm");
        assert_eq!(
            shown(true, false),
            "FGVR_GPU=require cargo test -p fgvr-cuda --features cuda norm"
        );
        assert!(shown(true, true).contains("compute-sanitizer"));
    }

    #[test]
    fn the_library_is_found_wherever_the_package_has_it() {
        let folder = std::env::temp_dir().join(format!("fgvr-nvrtc-{}", std::process::id()));
        let inner = folder.join("nvidia/cu13/lib");
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(libraries(&folder), None);
        std::fs::write(inner.join("libnvrtc.so.13"), "").unwrap();
        assert_eq!(libraries(&folder), Some(inner));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
