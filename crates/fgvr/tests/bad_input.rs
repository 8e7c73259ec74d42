//! Bad input gets one line that says what to do, exit code 2, and nothing is written over.

mod common;

use std::fs;

use common::{Place, photos};

#[test]
fn folders_that_hold_too_little() {
    let place = Place::new();
    place.refused(
        &place.pretrain(&["--data", "nowhere"]),
        &["nowhere", "no such folder", "name a folder"],
    );
    fs::create_dir(place.join("empty")).unwrap();
    place.refused(
        &place.pretrain(&["--data", "empty"]),
        &["empty", "no images", "name a folder"],
    );
    photos(&place.join("one"), 1);
    place.refused(&place.pretrain(&["--data", "one"]), &["one", "image"]);
    photos(&place.join("few"), 10);
    place.refused(
        &place.pretrain(&["--data", "few"]),
        &["fewer than a batch of 16", "loader.batch"],
    );
    assert!(!place.join("runs").exists(), "no run folder is left behind");
}

#[test]
fn images_that_cannot_be_read_stop_the_run_past_the_budget() {
    let place = Place::new();
    let text = place.join("text");
    photos(&text, 30);
    for i in 0..30 {
        fs::write(text.join(format!("t{i}.jpg")), "not an image").unwrap();
    }
    place.refused(
        &place.pretrain(&["--data", "text", "--out", "a"]),
        &["unreadable", "loader.bad_image_budget"],
    );

    let cut = place.join("cut");
    photos(&cut, 40);
    for i in 0..20 {
        let path = cut.join(format!("{i}.png"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    for i in 0..20 {
        // A JPEG that ends within its header.
        let header = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01";
        fs::write(cut.join(format!("j{i}.jpg")), header).unwrap();
    }
    place.refused(
        &place.pretrain(&["--data", "cut", "--out", "b"]),
        &["unreadable", "loader.bad_image_budget"],
    );
}

#[test]
fn one_bad_image_is_set_aside_with_its_reason() {
    let place = Place::new();
    let folder = place.join("photos");
    photos(&folder, 47);
    // 65 bytes that claim 60000 x 60000 pixels: refused from the header.
    fs::write(folder.join("bomb.png"), png_bomb()).unwrap();
    // Nothing is held out, and an epoch has three full batches: the bomb is met.
    let output = place.pretrain(&[
        "--data=photos",
        "--out=run",
        "--steps=4",
        "--set=data.val_fraction=0",
    ]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("set aside: bomb.png"), "{stderr}");
    let csv = fs::read_to_string(place.join("run/quarantine.csv")).unwrap();
    assert!(
        csv.contains("bomb.png") && csv.contains("3600000000"),
        "{csv}"
    );
    assert!(stderr.contains("there are no test images"), "{stderr}");
    let eval = place.json("run/eval.json");
    assert!(eval["trained"]["knn"].is_null(), "no labels, no kNN");
    assert_eq!(eval["test_images"], 0);
    let output = place
        .fgvr(&["eval", "--run=run", "--json"])
        .output()
        .unwrap();
    let again: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(again, eval);
}

/// A PNG of 65 bytes whose header claims 60000 x 60000 RGB pixels.
fn png_bomb() -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8], data: &[u8]| {
        bytes.extend((data.len() as u32).to_be_bytes());
        let body = [kind, data].concat();
        bytes.extend(&body);
        bytes.extend(crc(&body).to_be_bytes());
    };
    let side = 60_000u32.to_be_bytes();
    chunk(b"IHDR", &[&side[..], &side[..], &[8, 2, 0, 0, 0]].concat());
    chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01]);
    chunk(b"IEND", b"");
    assert_eq!(bytes.len(), 65);
    bytes
}

/// CRC-32 of PNG chunks.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            if c & 1 == 1 {
                0xedb8_8320 ^ (c >> 1)
            } else {
                c >> 1
            }
        })
    })
}

#[test]
fn places_that_cannot_be_written() {
    let place = Place::new();
    fs::write(place.join("file"), "kept").unwrap();
    place.refused(
        &place.pretrain(&["--out", "file/run"]),
        &["file", "choose another --out"],
    );
    fs::create_dir(place.join("taken")).unwrap();
    fs::write(place.join("taken/precious"), "kept").unwrap();
    place.refused(
        &place.pretrain(&["--out", "taken"]),
        &["taken", "not overwritten", "--resume"],
    );
    assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(place.join("taken")).unwrap().count(), 1);
}

#[test]
fn settings_that_make_no_sense() {
    let place = Place::new();
    let set = |setting: &str| place.pretrain(&["--set", setting]);
    place.refused(&set("loader.bach=8"), &["did you mean batch?"]);
    place.refused(
        &set("moco.temperature=0"),
        &["moco.temperature", "a positive number"],
    );
    place.refused(&set("moco.momentum=1"), &["moco.momentum", "less than 1"]);
    place.refused(&set("moco.queue=4"), &["moco.queue", "at least the 16"]);
    place.refused(
        &set("encoder.architecture=resnet17"),
        &["encoder", "resnet17", "resnet18"],
    );
    place.refused(&set("arm=ful"), &["arm", "did you mean full?"]);
    place.refused(&set("no-equals"), &["key.path=value"]);
    place.refused(
        &place
            .fgvr(&["pretrain", "--preset", "dmeo"])
            .output()
            .unwrap(),
        &["did you mean demo?"],
    );
    place.refused(
        &place.pretrain(&["--device", "tpu"]),
        &["expected auto, cpu"],
    );
    place.refused(&place.pretrain(&["--device", "cuda"]), &["--device cpu"]);
    fs::write(place.join("bad.toml"), "seed = [1").unwrap();
    place.refused(
        &place
            .fgvr(&["pretrain", "--config", "bad.toml"])
            .output()
            .unwrap(),
        &["bad.toml"],
    );
}

#[test]
fn resuming_what_cannot_go_on() {
    let place = Place::new();
    place.refused(
        &place
            .fgvr(&["pretrain", "--resume", "nowhere"])
            .output()
            .unwrap(),
        &["nowhere", "holds no run"],
    );
    let first = place.pretrain(&["--out", "run", "--steps", "6"]);
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let resume = |args: &[&str]| {
        let mut command = place.fgvr(&["pretrain", "--resume", "run"]);
        command.args(args).output().unwrap()
    };
    place.refused(
        &resume(&["--set", "encoder.architecture=resnet18"]),
        &[
            "encoder.architecture",
            "resnet10",
            "resnet18",
            "start a new run",
        ],
    );

    // The settings are changed behind its back: the tensors do not fit.
    let config = place.join("run/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("resnet10", "resnet18")).unwrap();
    place.refused(&resume(&[]), &["does not fit the settings in config.toml"]);
    fs::write(&config, text).unwrap();

    let checkpoint = place.join("run/checkpoints/step-00000006/objective.safetensors");
    let bytes = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, &bytes[..bytes.len() / 2]).unwrap();
    place.refused(&resume(&[]), &["objective.safetensors", "damaged"]);
}

#[test]
fn a_class_with_one_image_is_a_warning() {
    let place = Place::new();
    for (split, class, count) in [
        ("train", "a", 20),
        ("train", "b", 20),
        ("test", "a", 4),
        ("test", "b", 1),
    ] {
        photos(&place.join(&format!("birds/{split}/{class}")), count);
    }
    let output = place.pretrain(&["--data", "birds", "--out", "run", "--steps", "2"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains("warning") && stderr.contains("retrieval"),
        "{stderr}"
    );
    let eval = place.json("run/eval.json");
    assert_eq!(eval["single_image_queries"], 1);
}

#[test]
fn a_device_that_is_not_there_is_refused_by_all_that_take_one() {
    let place = Place::new();
    let output = place.pretrain(&["--out", "run", "--steps", "1"]);
    assert!(output.status.success(), "{output:?}");
    photos(&place.join("flat"), 4);
    std::fs::write(
        place.join("s.toml"),
        "name = \"s\"\nseeds = [0]\ncontrol = \"a\"\npreset = \"learn\"\n[[data]]\nname = \"d\"\n\
         source = \"builtin:lookalikes\"\n[[arm]]\nname = \"a\"\nset = [\"arm=base\"]\n",
    )
    .expect("a study");
    let embed = ["embed", "--run=run", "--data=flat", "--out=e.csv"];
    let commands: [&[&str]; 4] = [
        &embed,
        &["eval", "--run=run"],
        &["study", "s.toml", "--out=out"],
        &["calibrate", "--config=tiny.toml"],
    ];
    for command in commands {
        let mut tpu = place.fgvr(command);
        let words = [
            "--device tpu",
            "expected auto, cpu, cuda, cuda:N or emulator",
        ];
        place.refused(&tpu.arg("--device=tpu").output().unwrap(), &words);
        let mut bf16 = place.fgvr(command);
        match command[0] {
            "embed" | "eval" => bf16.arg("--precision=bf16"),
            _ => bf16.arg("--set=precision=bf16"),
        };
        let words = ["precision=bf16: needs a GPU, and the CPU was chosen (asked for)"];
        place.refused(&bf16.arg("--device=cpu").output().unwrap(), &words);
    }
    for command in &commands[..2] {
        let output = place.fgvr(command).arg("--batch=0").output().unwrap();
        place.refused(&output, &["--batch", "expected at least 1, found 0"]);
    }
    assert!(!place.join("e.csv").exists() && !place.join("out").exists());
}

#[test]
fn calibrating_needs_labels() {
    let place = Place::new();
    photos(&place.join("flat"), 40);
    let calibrate = |args: &[&str]| {
        let mut command = place.fgvr(&["calibrate", "--config", "tiny.toml"]);
        command.args(args).output().unwrap()
    };
    place.refused(&calibrate(&["--data=flat"]), &["flat", "has no labels"]);
    let output = calibrate(&["--supervised-epochs=1", "--json"]);
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["classes"], 4);
    for path in [
        "/supervised_top1",
        "/untrained/knn/top1",
        "/pixels/linear/top1",
    ] {
        let value = figures.pointer(path).and_then(|v| v.as_f64());
        assert!(
            value.is_some_and(|v| (0. ..=1.).contains(&v)),
            "{path}: {figures}"
        );
    }
}
