//! `cargo xtask`: becomes xtask, which is built first where it has to be.
//!
//! Cargo shows nothing of a build under `--quiet`, and without it says two lines even where there is nothing to build. This
//! program has no dependencies, so that it is there at once, and asks for quiet only where xtask looks built. Whether it
//! is built cargo decides, either way.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

fn main() -> ExitCode {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let xtask = own.parent().unwrap_or(Path::new("."));
    let program = std::env::current_exe().map(|own| {
        let name = format!("xtask{}", std::env::consts::EXE_SUFFIX);
        own.with_file_name(name)
    });
    let built = program.is_ok_and(|program| is_built(&program, xtask));
    // Cargo names itself to what it runs, so the same one is used all the way down.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(call(xtask, built))
        .args(std::env::args_os().skip(1));
    become_it(command)
}

/// The arguments by which cargo builds xtask and runs it.
fn call(xtask: &Path, built: bool) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["run".into()];
    if built {
        args.push("--quiet".into());
    }
    let manifest = xtask.join("Cargo.toml");
    args.extend(["--manifest-path".into(), manifest.into(), "--".into()]);
    args
}

/// Whether `program` is there and no older than what it is made from in the folder `xtask`.
fn is_built(program: &Path, xtask: &Path) -> bool {
    let (built, made) = (changed(program), newest(&xtask.join("src")));
    let made = made.max(changed(&xtask.join("Cargo.toml")));
    built.is_some() && built >= made
}

/// When a file below `folder` was last changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let times = entries.map(|entry| match entry.path() {
        path if path.is_dir() => newest(&path),
        path => changed(&path),
    });
    times.max().flatten()
}

fn changed(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

/// Becomes `command`, so that signals and exit codes are its own; returns only where that fails.
#[cfg(unix)]
fn become_it(mut command: Command) -> ExitCode {
    use std::os::unix::process::CommandExt as _;
    failed(&command.exec())
}

#[cfg(not(unix))]
fn become_it(mut command: Command) -> ExitCode {
    let status = match command.status() {
        Ok(status) => status,
        Err(error) => return failed(&error),
    };
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn failed(error: &std::io::Error) -> ExitCode {
    // Not `eprintln!`, which panics where nobody reads.
    let _ = writeln!(std::io::stderr(), "error: cannot run cargo: {error}");
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_is_quiet_only_where_nothing_was_changed_since() {
        let folder = std::env::temp_dir().join(format!("fgvr-start-{}", std::process::id()));
        let inner = folder.join("src/inner");
        std::fs::create_dir_all(&inner).unwrap();
        let at = |name: &str, seconds: u64| {
            let file = std::fs::File::create(folder.join(name)).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        };
        at("Cargo.toml", 5);
        at("src/main.rs", 10);
        at("src/inner/part.rs", 20);
        let program = folder.join("program");
        assert!(!is_built(&program, &folder), "there is none");
        at("program", 15);
        assert!(!is_built(&program, &folder), "a part is newer");
        at("program", 20);
        assert!(is_built(&program, &folder));
        at("Cargo.toml", 30);
        assert!(!is_built(&program, &folder), "the manifest is newer");
        std::fs::remove_dir_all(&folder).unwrap();
        let shown = |built| call(Path::new("x"), built).join(" ".as_ref());
        assert_eq!(shown(true), "run --quiet --manifest-path x/Cargo.toml --");
        assert_eq!(shown(false), "run --manifest-path x/Cargo.toml --");
    }
}
