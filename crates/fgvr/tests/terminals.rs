//! What becomes of the program where its terminal, its reader or its disk goes away, what names and permissions its
//! files have, and what it says of places that take no files.
#![cfg(unix)]
#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::{Place, last_checkpoint, photos};

/// A run of two steps in `run`, which has ended.
const SHORT: &[&str] = &["pretrain", "--config=tiny.toml", "--steps=2"];

/// Two runs of two steps.
const STUDY: &str = r#"
name = "tiny"
seeds = [0]
control = "base"
set = [
    "data.size=32", "data.lookalikes.families=2", "data.lookalikes.species_per_family=2",
    "data.lookalikes.train_images=32", "data.lookalikes.val_images=16", "data.lookalikes.test_images=32",
    "loader.batch=16", "encoder.architecture=resnet10", "encoder.width=4", "encoder.stem=small",
    "decoder.hidden=16", "decoder.channels=16", "moco.hidden=16", "moco.dim=8", "moco.queue=32",
    "moco.pair_queue=32", "optimizer.steps=2", "monitor.pictures_every=0", "evaluate.part_images=4",
]
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
set = ["arm=base"]
[[arm]]
name = "recon"
set = ["arm=recon-only"]
"#;

/// `fgvr` with `args` in `place`, by a shell that first does `before`, such as setting the umask of that process alone.
fn after(place: &Place, before: &str, args: &[&str]) -> Command {
    let script = format!("{before}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command
        .current_dir(place.folder.path())
        .args(["-c", &script, env!("CARGO_BIN_EXE_fgvr")])
        .args(args);
    command
}

fn short_run(place: &Place, out: &str) {
    let run = place.fgvr(SHORT).args(["--out", out]).output().unwrap();
    assert!(run.status.success(), "{}", said(&run));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every command that prints, on a run in `run` with its `export` and photos in `photos`.
fn printing() -> Vec<Vec<&'static str>> {
    let calls = [
        "--help",
        "--version",
        "help pretrain",
        "pretrain --help",
        "pretrain --config tiny.toml --steps 2 --out {new}",
        "pretrain --config tiny.toml --steps 2 --out {new} --json",
        "eval --run run",
        "eval --run run --json",
        "plan --config tiny.toml",
        "plan --config tiny.toml --json",
        "embed --run run --data photos --out {new}.npz",
        "embed --run run --data photos --out {new}.npz --json",
        "export --run run --to {new}",
        "export --run run --to {new} --json",
        "weights inspect run/export",
        "weights inspect run/export --json",
        "calibrate --config tiny.toml --supervised-epochs 1",
        "study tiny-study.toml --out {new}",
        "study tiny-study.toml --out {new} --json",
    ];
    calls.iter().map(|call| call.split(' ').collect()).collect()
}

/// A run, photos and a study to call the commands of [`printing`] with.
fn full_place() -> Place {
    let place = Place::new();
    short_run(&place, "run");
    photos(&place.join("photos"), 3);
    fs::write(place.join("tiny-study.toml"), STUDY).unwrap();
    place
}

/// The arguments with a name of its own in place of `{new}`.
fn fresh(args: &[&str], number: usize) -> Vec<String> {
    let name = format!("new-{number}");
    args.iter().map(|arg| arg.replace("{new}", &name)).collect()
}

#[test]
fn a_reader_that_has_gone_ends_no_command_and_a_full_disk_is_an_error() {
    let place = full_place();
    for (number, args) in printing().iter().enumerate() {
        let call = |number| {
            place.fgvr(
                &fresh(args, number)
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>(),
            )
        };
        // The reading end of the pipe is closed before anything is written.
        let mut child = call(2 * number)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let gone = child.wait_with_output().unwrap();
        assert_eq!(gone.status.code(), Some(0), "{args:?}: {}", said(&gone));
        assert!(
            !said(&gone).contains("panicked") && !said(&gone).contains("error"),
            "{args:?}: {}",
            said(&gone)
        );

        let full = File::options().write(true).open("/dev/full").unwrap();
        let full = call(2 * number + 1)
            .stdout(full)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let errors = said(&full);
        assert_eq!(full.status.code(), Some(2), "{args:?}: {errors}");
        let last = errors.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: standard output cannot be written to: "),
            "{args:?}: {errors}"
        );
    }
}

#[test]
fn a_training_outlives_whoever_watched_it() {
    let place = Place::new();
    let run = |name: &str| -> Vec<String> {
        ["pretrain", "--config=tiny.toml", "--out", name]
            .map(String::from)
            .into()
    };
    let watched = place.fgvr(&[]).args(run("watched")).output().unwrap();
    assert!(watched.status.success(), "{}", said(&watched));

    // As by `pretrain 2>&1 | head -1`.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut left = place.fgvr(&[]);
    left.args(run("left"))
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let mut child = left.spawn().unwrap();
    drop(left);
    let mut first = [0];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    assert!(child.wait().unwrap().success());

    let full = || File::options().write(true).open("/dev/full").unwrap();
    let unseen = place
        .fgvr(&[])
        .args(run("full"))
        .stderr(full())
        .output()
        .unwrap();
    assert!(unseen.status.success());
    for (name, close) in [
        ("in", "<&-"),
        ("out", ">&-"),
        ("error", "2>&-"),
        ("all", "<&- >&- 2>&-"),
    ] {
        let args = run(name);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let closed = after(&place, &format!("exec {close}"), &args)
            .output()
            .unwrap();
        assert!(closed.status.success(), "{close}: {}", said(&closed));
    }
    for name in ["left", "full", "in", "out", "error", "all"] {
        assert_eq!(
            last_checkpoint(&place.join("watched")),
            last_checkpoint(&place.join(name)),
            "{name}"
        );
        assert!(place.join(name).join("report.html").is_file(), "{name}");
        assert!(
            place.join(name).join("export/model.safetensors").is_file(),
            "{name}"
        );
    }
}

/// A long run whose first line has been read, and what it writes further.
fn begun(
    place: &Place,
    before: &str,
    out: &str,
) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    let args = [
        "pretrain",
        "--config=tiny.toml",
        "--steps=100000",
        "--set=checkpoint.every=50000",
        "--out",
        out,
    ];
    let mut child = after(place, before, &args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("run folder") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
    }
    // The handlers stand; a step is under way once there is a row.
    let rows = place.join(out).join("metrics.jsonl");
    while fs::read(&rows).map_or(0, |rows| rows.len()) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    (child, lines)
}

fn signal(child: &std::process::Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
}

#[test]
fn the_loss_of_the_terminal_saves_the_run_however_often_it_is_told() {
    let place = Place::new();
    let (mut child, lines) = begun(&place, ":", "run");
    // Nobody reads what it says about it.
    drop(lines);
    signal(&child, "-HUP");
    signal(&child, "-HUP");
    signal(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!last_checkpoint(&place.join("run")).is_empty());
}

#[test]
fn under_nohup_a_run_outlives_its_terminal_and_can_still_be_asked_to_end() {
    let place = Place::new();
    let (mut child, mut lines) = begun(&place, "trap '' HUP", "run");
    signal(&child, "-HUP");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    // A step of this size may end before the announcement of the stop, which is made within 100 ms.
    assert!(rest.contains("saved at step"), "{rest}");
    assert!(!last_checkpoint(&place.join("run")).is_empty());
}

#[test]
fn what_is_written_obeys_the_umask() {
    let place = Place::new();
    photos(&place.join("photos"), 3);
    for umask in [0o022, 0o027, 0o077] {
        let set = format!("umask {umask:03o}");
        let name = |name: &str| format!("{name}-{umask:o}");
        let (run, table) = (name("run"), name("table"));
        let done = |args: &[&str]| {
            let output = after(&place, &set, args).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", said(&output));
        };
        done(&["pretrain", "--config=tiny.toml", "--steps=2", "--out", &run]);
        done(&["export", "--run", &run, "--to", &name("export")]);
        for kind in ["npz", "csv", "safetensors"] {
            done(&[
                "embed",
                "--run",
                &run,
                "--data=photos",
                "--out",
                &format!("{table}.{kind}"),
            ]);
            obeys(&place.join(&format!("{table}.{kind}")), umask);
        }
        obeys(&place.join(&run), umask);
        obeys(&place.join(&name("export")), umask);
    }
    // A file that replaces one keeps what its owner chose.
    let file = place.join("table-22.npz");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let again = [
        "embed",
        "--run=run-22",
        "--data=photos",
        "--out=table-22.npz",
        "--overwrite",
    ];
    assert!(place.fgvr(&again).output().unwrap().status.success());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

/// `path` and all that is in it have the permissions that the umask leaves.
fn obeys(path: &Path, umask: u32) {
    let about = path.symlink_metadata().unwrap();
    let whole = if about.is_dir() { 0o777 } else { 0o666 };
    let mode = about.permissions().mode() & 0o777;
    assert_eq!(
        format!("{mode:o}"),
        format!("{:o}", whole & !umask),
        "{}",
        path.display()
    );
    if about.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            obeys(&entry.unwrap().path(), umask);
        }
    }
}

/// `name` with a byte that is no UTF-8 at its end.
fn latin(name: &str) -> OsString {
    OsStr::from_bytes(&[name.as_bytes(), b"\xfc"].concat()).to_owned()
}

#[test]
fn places_whose_names_are_not_utf8_are_as_good_as_others() {
    let place = Place::new();
    photos(&place.join("photos"), 3);
    let done = |args: &[&OsStr]| -> serde_json::Value {
        let output = place.fgvr(&[]).args(args).arg("--json").output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    fs::rename(
        place.join("tiny.toml"),
        place.join("x").with_file_name(latin("tiny")),
    )
    .unwrap();
    let (tiny, run, table) = (latin("tiny"), latin("run"), latin("t"));
    let table: OsString = [table.as_os_str(), OsStr::new(".npz")]
        .into_iter()
        .collect();
    let o = OsStr::new;
    let summary = done(&[
        o("pretrain"),
        o("--config"),
        &tiny,
        o("--steps=2"),
        o("--out"),
        &run,
    ]);
    assert_eq!(summary["run"], r"run\xFC");
    let environment = fs::read(place.folder.path().join(&run).join("env.json")).unwrap();
    let environment: serde_json::Value = serde_json::from_slice(&environment).unwrap();
    assert!(
        environment["command"]
            .as_array()
            .unwrap()
            .contains(&r"run\xFC".into())
    );
    done(&[o("pretrain"), o("--resume"), &run]);
    done(&[o("eval"), o("--run"), &run]);
    done(&[o("plan"), o("--config"), &tiny]);
    let written = done(&[
        o("embed"),
        o("--run"),
        &run,
        o("--data=photos"),
        o("--out"),
        &table,
    ]);
    assert_eq!(written["file"], r"t\xFC.npz");
    let exported = done(&[o("export"), o("--run"), &run, o("--to"), &latin("export")]);
    assert_eq!(exported["directory"], r"export\xFC");
    assert!(
        place
            .folder
            .path()
            .join(latin("export"))
            .join("model.safetensors")
            .is_file()
    );
}

#[test]
fn a_name_that_has_to_be_text_and_is_not_is_refused_before_anything_is_made() {
    let place = Place::new();
    photos(&place.join("photos"), 20);
    let before = fs::read_dir(place.folder.path()).unwrap().count();
    let name = latin("net");
    for words in [
        "pretrain --config tiny.toml --out run --weights",
        "embed --out t.csv --data photos --weights",
        "weights inspect",
    ] {
        let output = place
            .fgvr(&words.split(' ').collect::<Vec<_>>())
            .arg(&name)
            .output()
            .unwrap();
        let errors = said(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {errors}");
        assert!(
            errors.contains("not UTF-8") && errors.contains("rename it"),
            "{words}: {errors}"
        );
        assert_eq!(
            errors
                .lines()
                .filter(|line| line.starts_with("error"))
                .count(),
            1,
            "{errors}"
        );
    }
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), before);
}

#[test]
fn photos_whose_folder_is_not_named_in_utf8_are_as_good_as_others() {
    let place = Place::new();
    for class in ["wren", "finch"] {
        let folder = place.folder.path().join(latin("photos")).join(class);
        photos(&folder, 20);
    }
    let o = OsStr::new;
    let (tiny, data) = (o("tiny.toml"), latin("photos"));
    let calls: [&[&OsStr]; 7] = [
        &[o("plan"), o("--config"), tiny, o("--data"), &data],
        &[
            o("pretrain"),
            o("--config"),
            tiny,
            o("--steps=2"),
            o("--out=run"),
            o("--data"),
            &data,
        ],
        &[o("eval"), o("--run=run")],
        &[o("eval"), o("--run=run"), o("--data"), &data],
        &[o("pretrain"), o("--resume=run")],
        &[o("pretrain"), o("--resume=run"), o("--data"), &data],
        &[
            o("embed"),
            o("--run=run"),
            o("--out=t.csv"),
            o("--data"),
            &data,
        ],
    ];
    for args in calls {
        let output = place.fgvr(&[]).args(args).output().unwrap();
        let errors = said(&output);
        assert!(output.status.success(), "{args:?}: {errors}");
        assert!(!errors.contains("changed"), "{args:?}: {errors}");
    }
    let rows = fs::read_to_string(place.join("t.csv")).unwrap();
    assert_eq!(rows.lines().count(), 41);
}

#[test]
fn places_that_take_no_files_are_refused_and_nothing_is_left() {
    let place = full_place();
    fs::write(place.join("file"), "mine").unwrap();
    symlink("/dev/full", place.join("full.npz")).unwrap();
    let everything = || {
        let mut all = Vec::new();
        names(place.folder.path(), &mut all);
        all
    };
    let before = everything();
    // Where nobody can make a file, not even the one whom permissions do not bind.
    let closed = "/proc/self/fd";
    for (args, words) in [
        (
            format!("pretrain --config tiny.toml --out {closed}/run"),
            "choose another --out",
        ),
        (
            "pretrain --config tiny.toml --out file/run".into(),
            "choose another --out",
        ),
        (
            "pretrain --config tiny.toml --out file".into(),
            "exists already",
        ),
        (
            format!("embed --run run --data photos --out {closed}/t.npz"),
            "choose another --out",
        ),
        (
            "embed --run run --data photos --out file/t.npz".into(),
            "its folder does not exist",
        ),
        (
            "embed --run run --data photos --out none/t.npz".into(),
            "its folder does not exist",
        ),
        (
            "embed --run run --data photos --out full.npz".into(),
            "exists already",
        ),
        (
            "embed --run run --data photos --out full.npz --overwrite".into(),
            "no file",
        ),
        (format!("export --run run --to {closed}/export"), "export"),
        ("export --run run --to file/export".into(), "file"),
        ("export --run run --to file".into(), "exists already"),
        (
            format!("study tiny-study.toml --out {closed}/study"),
            "study",
        ),
        ("study tiny-study.toml --out file/study".into(), "file"),
        ("study tiny-study.toml --out file".into(), "file"),
    ] {
        let output = place
            .fgvr(&args.split(' ').collect::<Vec<_>>())
            .output()
            .unwrap();
        place.refused(&output, &[words]);
        assert_eq!(output.stdout, b"", "{args}");
        assert_eq!(everything(), before, "{args}");
    }
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "mine");
}

/// The paths of all below `folder`.
fn names(folder: &Path, all: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.symlink_metadata().unwrap().is_dir() {
            names(&path, all);
        }
        all.push(path);
    }
}
