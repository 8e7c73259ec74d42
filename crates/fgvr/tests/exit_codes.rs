//! What a person can mend ends every command with exit code 2 and one line that says everything once;
//! what the machine or the program did wrong would end it with 1.

mod common;

use std::fs;

use common::{Place, photos, repeated};

/// Files and folders that the commands below are pointed at.
fn place() -> Place {
    let place = Place::new();
    photos(&place.join("photos"), 4);
    for (name, text) in [
        (
            "page.safetensors",
            "<!DOCTYPE html><html><title>Sign in</title></html>",
        ),
        ("page.pth", "<html><body>404 Not Found</body></html>"),
        ("answer.bin", r#"{"error":"Repository not found"}"#),
        (
            "pointer.pth",
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        ),
        ("empty.safetensors", ""),
        ("bad.toml", "seed = [1"),
        ("study.toml", "name = 3"),
        ("taken.csv", "kept"),
        ("file", "kept"),
    ] {
        fs::write(place.join(name), text).expect("a file");
    }
    fs::write(
        place.join("packed.pth.tar"),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
    )
    .expect("a file");
    fs::write(place.join("latin.toml"), b"name = \"\xe4\"").expect("a file");
    fs::create_dir_all(place.join("folder/empty")).expect("a folder");
    fs::create_dir(place.join("configured")).expect("a folder");
    fs::write(place.join("configured/config.json"), "<html>").expect("a file");
    fs::write(place.join("configured/model.safetensors"), safetensors()).expect("a file");
    fs::write(place.join("alone.safetensors"), safetensors()).expect("a file");
    fs::create_dir(place.join("run")).expect("a folder");
    fs::write(place.join("run/config.toml"), "seed = \"x\"").expect("a file");
    place
}

/// One tensor that is of no network.
fn safetensors() -> Vec<u8> {
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &[0; 4],
    ]
    .concat()
}

#[test]
fn what_a_person_can_mend_is_one_line_and_exit_code_2() {
    let place = place();
    let cases: &[(&str, &str)] = &[
        // paths that are not there, or are something else
        ("pretrain --data nowhere", "no such folder"),
        ("pretrain --data file", "not a folder"),
        ("pretrain --data folder", "no images"),
        ("pretrain --config nowhere.toml", "nowhere.toml"),
        ("pretrain --config folder", "folder"),
        ("pretrain --resume nowhere", "holds no run"),
        ("pretrain --resume folder", "holds no run"),
        ("pretrain --resume run", "config.toml"),
        ("pretrain --out photos --steps 1", "photos"),
        ("pretrain --out file/run --steps 1", "file"),
        ("pretrain --weights nowhere.pth", "nowhere.pth"),
        ("pretrain --weights page.pth", "an HTML page"),
        ("plan --data nowhere", "no such folder"),
        ("plan --weights empty.safetensors", "an empty file"),
        ("calibrate --data nowhere", "no such folder"),
        ("calibrate --data photos", "has no labels"),
        ("eval --run nowhere", "holds no run"),
        ("eval --run file", "file"),
        (
            "embed --run nowhere --data photos --out e.csv",
            "holds no run",
        ),
        (
            "embed --weights nowhere --data photos --out e.csv",
            "nowhere",
        ),
        (
            "embed --weights alone.safetensors --data photos --out e.csv",
            "no network",
        ),
        (
            "embed --weights configured --data photos --out e.csv",
            "an HTML page",
        ),
        (
            "embed --weights page.safetensors --data photos --out e.csv",
            "an HTML page titled \"Sign in\"",
        ),
        (
            "embed --weights page.pth --data photos --out nowhere/e.csv",
            "its folder does not exist",
        ),
        (
            "embed --weights page.pth --data photos --out taken.csv",
            "--overwrite",
        ),
        (
            "embed --weights page.pth --data photos --out e.txt",
            ".npz, .safetensors or .csv",
        ),
        ("export --run nowhere --to x", "holds no run"),
        ("publish --dir nowhere --to me/x", "nowhere"),
        ("publish --dir folder --to me/x", "folder"),
        ("publish --run nowhere --to me/x", "holds no run"),
        ("study nowhere.toml --out s", "nowhere.toml"),
        ("study folder --out s", "folder"),
        ("study --preset seeds --out file", "file"),
        // files that hold something else
        ("weights inspect nowhere", "nowhere"),
        ("weights inspect folder", "folder"),
        ("weights inspect folder/empty", "it is empty"),
        ("weights inspect page.safetensors", "an HTML page"),
        ("weights inspect answer.bin", "Repository not found"),
        ("weights inspect pointer.pth", "git lfs pull"),
        ("weights inspect empty.safetensors", "an empty file"),
        ("weights inspect packed.pth.tar", "a gzip archive"),
        ("weights inspect photos/0.png", "a picture"),
        ("weights inspect configured", "an HTML page"),
        ("pretrain --config bad.toml", "bad.toml"),
        ("pretrain --config latin.toml", "latin.toml"),
        ("study bad.toml --out s", "bad.toml"),
        ("study study.toml --out s", "study.toml"),
        // values
        ("pretrain --preset dmeo", "did you mean demo?"),
        ("pretrain --set no-equals", "key.path=value"),
        ("pretrain --set loader.batch=0", "loader.batch"),
        ("pretrain --device tpu", "expected auto, cpu"),
        ("pretrain --steps 0", "steps"),
        ("calibrate --supervised-epochs 0", "--supervised-epochs"),
        ("study --preset sseds --out s", "seeds"),
        ("study --preset seeds --arm nobody --out s", "nobody"),
        ("weights inspect hf:one", "hf:one"),
        ("weights inspect hf:owner/name:../x", "../x"),
        ("publish --dir folder --to nobody", "nobody"),
        // a network that is not there: nothing listens at the discard port
        ("weights inspect hf:owner/name", "no connection"),
    ];
    for (arguments, word) in cases {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let mut command = place.fgvr(&arguments);
        command
            .env("HF_ENDPOINT", "http://127.0.0.1:9")
            .env("HF_HOME", place.join("hub"))
            .env("HF_TOKEN", "token")
            .env_remove("HF_HUB_OFFLINE");
        let output = command.output().expect("fgvr starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        place.refused(&output, &[word]);
    }
    assert_eq!(
        fs::read_to_string(place.join("taken.csv")).expect("a file"),
        "kept"
    );
    for made in ["e.csv", "x", "runs"] {
        assert!(!place.join(made).exists(), "{made}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    let place = Place::new();
    for arguments in [
        "",
        "pretain",
        "pretrain --dta x",
        "pretrain --steps x",
        "pretrain --seed -1",
        "pretrain --epochs 1 --steps 1",
        "eval",
        "eval --run r --precision f64",
        "embed --data d --out e.csv",
        "embed --run r --weights w --data d --out e.csv",
        "export --run r --to x --format keras",
        "weights",
        "study --out s",
    ] {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = place.fgvr(&arguments).output().expect("fgvr starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// Where even root may make nothing.
#[cfg(target_os = "linux")]
#[test]
fn what_the_system_refuses_is_said_once_with_exit_code_2() {
    let place = place();
    for arguments in [
        "pretrain --config tiny.toml --steps 1 --out /sys/fgvr",
        "study --preset seeds --out /sys/fgvr",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = place.fgvr(&arguments).output().expect("fgvr starts");
        place.refused(&output, &["/sys/fgvr", "(os error "]);
    }
    let weights = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/weights/resnet.safetensors"
    );
    let mut embed = place.fgvr(&[
        "embed",
        "--size=32",
        "--data=photos",
        "--out=/sys/fgvr.csv",
        "--weights",
    ]);
    let output = embed.arg(weights).output().expect("fgvr starts");
    place.refused(&output, &["/sys/fgvr.csv", "denied"]);
}

#[test]
fn a_part_that_stands_twice_is_noticed() {
    let twice = "error: a.csv: Permission denied (os error 13): Permission denied (os error 13)";
    assert_eq!(repeated(twice), Some("Permission denied (os error 13)"));
    assert_eq!(repeated("error: a: b; a: c"), None);
}
