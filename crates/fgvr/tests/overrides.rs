//! What is set counts, whatever a run or pretrained weights bring.

#![allow(clippy::unwrap_used)] // in helpers of tests

mod common;

use std::collections::HashMap;
use std::fs;

use candle_core::{Device, Tensor, safetensors};
use common::{Place, photos};
use serde_json::{Value, json};

/// A run of two steps in `run`, whose export is in `run/export`, and photos to embed in `photos`.
fn trained(settings: &[&str]) -> Place {
    let place = Place::new();
    photos(&place.join("photos"), 12);
    let set = [
        "encoder.width=64",
        "encoder.stem=imagenet",
        "optimizer.steps=2",
        "arm=base",
    ];
    let set = set.iter().chain(settings).flat_map(|s| ["--set", *s]);
    let args: Vec<_> = ["--out", "run"].into_iter().chain(set).collect();
    let output = place.pretrain(&args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    place
}

/// Lays the run's export under `name`, with what `change` makes of its configuration.
fn with_config(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    fs::create_dir_all(place.join(name)).unwrap();
    let file = "model.safetensors";
    fs::copy(
        place.join("run/export").join(file),
        place.join(name).join(file),
    )
    .unwrap();
    let mut config = place.json("run/export/config.json");
    change(&mut config["pretrained_cfg"]);
    fs::write(place.join(name).join("config.json"), config.to_string()).unwrap();
}

fn embed_args<'a>(of: &[&'a str], settings: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let set = settings.iter().flat_map(|s| ["--set", *s]);
    let rest = ["--data", "photos", "--out", out, "--overwrite"];
    let args = ["embed"].into_iter().chain(of.iter().copied());
    args.chain(set).chain(rest).collect()
}

/// The tensors of `fgvr embed` with `of`, a run or weights, under `settings`.
fn embed(place: &Place, of: &[&str], settings: &[&str]) -> HashMap<String, Tensor> {
    let args = embed_args(of, settings, "e.safetensors");
    let output = place.fgvr(&args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {stderr}");
    safetensors::load(place.join("e.safetensors"), &Device::Cpu).unwrap()
}

fn features(tensors: &HashMap<String, Tensor>) -> Vec<Vec<f32>> {
    tensors["features"].to_vec2().unwrap()
}

/// Each setting that weights bring, and another value of it.
const BROUGHT: [(&str, &str); 6] = [
    ("data.size", "48"),
    ("normalisation.mean", "[0.1, 0.2, 0.3]"),
    ("normalisation.std", "[0.4, 0.5, 0.6]"),
    ("evaluate.resize_ratio", "1.5"),
    ("evaluate.squash", "true"),
    ("evaluate.interpolation", "lanczos"),
];

#[test]
fn each_setting_that_weights_bring_can_be_set() {
    let place = trained(&[]);
    // Photos that are no squares, or squashing would change nothing.
    let image = Tensor::rand(0f32, 1., (3, 40, 70), &Device::Cpu).unwrap();
    fgvr_data::write_png(place.join("photos/wide.png"), &image).unwrap();
    let mut args = vec![
        "pretrain",
        "--weights",
        "run/export",
        "--out",
        "again",
        "--steps",
        "1",
    ];
    let small = [
        "arm=base",
        "moco.queue=64",
        "data.lookalikes.train_images=96",
        "data.lookalikes.val_images=16",
        "data.lookalikes.test_images=32",
    ];
    args.extend(small.iter().flat_map(|s| ["--set", *s]));
    let settings = BROUGHT.map(|(key, value)| format!("{key}={value}"));
    args.extend(settings.iter().flat_map(|s| ["--set", s]));
    let output = place.fgvr(&args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let config = fs::read_to_string(place.join("again/config.toml")).unwrap();
    let config: toml::Table = toml::from_str(&config).unwrap();
    for of in [["--weights", "run/export"], ["--run", "run"]] {
        let plain = features(&embed(&place, &of, &[]));
        for (key, value) in BROUGHT {
            let (section, name) = key.split_once('.').unwrap();
            let expected: toml::Table = toml::from_str(&format!("v = {value}"))
                .unwrap_or_else(|_| toml::from_str(&format!("v = \"{value}\"")).unwrap());
            let close = |a: &toml::Value, b: &toml::Value| match (a.as_float(), b.as_float()) {
                (Some(a), Some(b)) => (a - b).abs() < 1e-6,
                _ => a == b,
            };
            let found = &config[section][name];
            let same = match (found.as_array(), expected["v"].as_array()) {
                (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| close(a, b)),
                _ => close(found, &expected["v"]),
            };
            assert!(same, "{key}: {found}, expected {value}");
            let changed = features(&embed(&place, &of, &[&format!("{key}={value}")]));
            assert_eq!(changed.len(), plain.len());
            assert_ne!(changed, plain, "{of:?} {key}");
        }
        // The short form, and the same said twice: the longer counts.
        let long = features(&embed(&place, &of, &["data.size=48"]));
        let short = features(&embed(&place, &[&of[..], &["--size", "48"]].concat(), &[]));
        assert_eq!(short, long);
        let both = embed(
            &place,
            &[&of[..], &["--size", "32"]].concat(),
            &["data.size=48"],
        );
        assert_eq!(features(&both), long);
        // Batches change nothing but time.
        let batch = features(&embed(&place, &of, &["evaluate.batch=3"]));
        let most = batch.concat().into_iter().zip(plain.concat());
        assert!(most.map(|(a, b)| (a - b).abs()).fold(0., f32::max) < 1e-4);
    }
}

#[test]
fn every_interpolation_that_weights_name_is_known() {
    let place = trained(&[]);
    let mut seen = Vec::new();
    for name in [
        "nearest", "bilinear", "bicubic", "box", "hamming", "lanczos",
    ] {
        with_config(&place, name, |c| c["interpolation"] = json!(name));
        let found = features(&embed(&place, &["--weights", name], &[]));
        let set = [&*format!("evaluate.interpolation={name}")];
        assert_eq!(
            found,
            features(&embed(&place, &["--weights", "run/export"], &set))
        );
        assert!(!seen.contains(&found), "{name} is another one's");
        seen.push(found);
    }
}

#[test]
fn weights_for_oblong_images_say_what_to_set_and_then_work() {
    let place = trained(&[]);
    with_config(&place, "oblong", |c| c["input_size"] = json!([3, 64, 32]));
    let weights = ["--weights", "oblong"];
    let says = ["64 x 32 px", "--set data.size=64"];
    let refused = place.fgvr(&embed_args(&weights, &[], "e.csv")).output();
    place.refused(&refused.unwrap(), &says);
    let preset = [
        "pretrain",
        "--weights",
        "oblong",
        "--preset",
        "demo",
        "--out",
        "b",
    ];
    place.refused(&place.fgvr(&preset).output().unwrap(), &says);

    let set = features(&embed(&place, &weights, &["data.size=64"]));
    let short = features(&embed(
        &place,
        &["--weights", "oblong", "--size", "64"],
        &[],
    ));
    assert_eq!(set, short);
    let small = [
        "--set=data.size=32",
        "--set=encoder.width=64",
        "--set=encoder.stem=imagenet",
    ];
    let more = ["--weights=oblong", "--steps=1", "--set=arm=base", "--out=c"];
    let output = place.pretrain(&[&small[..], &more[..]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

#[test]
fn embedding_reads_photos_as_the_run_did() {
    let place = trained(&[
        "data.labels=none",
        "data.val_fraction=0.25",
        "data.max_pixels=1601",
    ]);
    for class in ["finch", "wren"] {
        photos(&place.join("classes").join(class), 6);
    }
    // More than 40 x 40 pixels: refused by the run's own limit.
    let large = Tensor::zeros((3, 41, 40), candle_core::DType::F32, &Device::Cpu).unwrap();
    fgvr_data::write_png(place.join("classes/wren/large.png"), &large).unwrap();
    let rows = |settings: &[&str]| {
        let set = settings.iter().flat_map(|s| ["--set", *s]);
        let args = [
            "embed",
            "--run=run",
            "--data=classes",
            "--out=e.csv",
            "--overwrite",
        ];
        let args: Vec<_> = args.into_iter().chain(set).collect();
        let output = place.fgvr(&args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        let text = fs::read_to_string(place.join("e.csv")).unwrap();
        let lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        (lines, stderr)
    };
    let (lines, stderr) = rows(&[]);
    assert_eq!(lines.len(), 12);
    assert!(stderr.contains("left out: wren/large.png"), "{stderr}");
    // The run reads no labels from folders, and holds a quarter of the 13 out.
    let held_out = lines.iter().filter(|line| line.contains(",val,")).count();
    assert!((2..=3).contains(&held_out), "{held_out} held out");
    let unlabelled = |line: &String| line.contains(",train,,,") || line.contains(",val,,,");
    assert!(lines.iter().all(unlabelled), "{:.60}", lines[0]);
    // Each of it can be set.
    let (lines, _) = rows(&[
        "data.labels=folders",
        "data.max_pixels=1640",
        "data.val_fraction=0",
    ]);
    assert_eq!(lines.len(), 13);
    assert!(
        !lines
            .iter()
            .any(|line| unlabelled(line) || line.contains(",val,"))
    );
}

#[test]
fn a_setting_without_effect_is_refused_with_what_has() {
    let place = trained(&[]);
    for of in [["--run", "run"], ["--weights", "run/export"]] {
        for (setting, says) in [
            ("loader.batch=8", "what can be set is data."),
            ("evaluate.knn.k=3", "evaluate.interpolation"),
            ("data.siez=3", "did you mean size?"),
            ("evaluate.interpolation=cubic", "bicubic"),
            ("data.size=large", "data.size"),
            ("data.size=8", "data.size"),
            ("data.size", "expected key.path=value"),
            ("nonsense", "expected key.path=value"),
        ] {
            let output = place.fgvr(&embed_args(&of, &[setting], "e.csv")).output();
            place.refused(&output.unwrap(), &[says]);
        }
    }
    assert!(!place.join("e.csv").exists());
    let eval = |setting| {
        let args = ["eval", "--run", "run", "--json", "--set", setting];
        place.fgvr(&args).output().unwrap()
    };
    place.refused(&eval("data.size=48"), &["fgvr embed", "evaluate.knn"]);
    place.refused(&eval("optimizer.lr=1"), &["evaluate.linear"]);
    let plain: Value = serde_json::from_slice(&eval("evaluate.knn.k=20").stdout).unwrap();
    let other: Value = serde_json::from_slice(&eval("evaluate.interpolation=box").stdout).unwrap();
    assert_ne!(plain["trained"], other["trained"]);
}

#[test]
fn a_transformers_run_embeds_at_another_size() {
    let place = Place::new();
    photos(&place.join("photos"), 4);
    let set = [
        "encoder.architecture=vit_tiny_patch16_224",
        "encoder.stem=imagenet",
        "encoder.width=64",
        "optimizer.steps=1",
        "arm=base",
        "data.size=32",
    ];
    let args: Vec<_> = set.iter().flat_map(|s| ["--set", *s]).collect();
    let output = place.pretrain(&[&["--out", "run"][..], &args].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    // As the run's own export does, whose position embeddings are resampled likewise.
    for size in ["32", "64"] {
        // The same part of a photo, where the export has its ratio in whole pixels, and the same order.
        let set = ["evaluate.resize_ratio=1", "data.val_fraction=0"];
        let run = embed(&place, &["--run", "run", "--size", size], &set);
        let export = embed(&place, &["--weights", "run/export", "--size", size], &set);
        let (run, export) = (features(&run).concat(), features(&export).concat());
        let off = run.iter().zip(&export).map(|(a, b)| (a - b).abs());
        assert!(off.fold(0., f32::max) < 1e-4);
    }
}
