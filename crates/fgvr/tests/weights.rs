//! Weights in and out: a run's encoder is exported, embeds, and starts another run.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, safetensors};
use common::Place;
use fgvr_testkit::LoopbackHub;
use serde_json::Value;

/// A residual network that timm and torchvision have, narrow enough for a test only in blocks.
const PUBLISHED: [&str; 6] = [
    "--set",
    "encoder.width=64",
    "--set",
    "encoder.stem=imagenet",
    "--set",
    "optimizer.steps=2",
];

fn said(command: &mut Command) -> String {
    let output = command.output().expect("fgvr starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file")
}

#[test]
fn an_export_embeds_as_its_run_does_and_starts_another() {
    let place = Place::new();
    let trained = place.pretrain(&[&["--out", "run"][..], &PUBLISHED[..]].concat());
    assert!(trained.status.success(), "{trained:?}");

    let text = said(&mut place.fgvr(&["export", "--run", "run", "--to", "out/encoder"]));
    assert!(text.contains("local-dir:out/encoder"), "{text}");
    let config = place.json("out/encoder/config.json");
    assert_eq!(config["architecture"], "resnet18");
    assert_eq!(
        config["model_args"]["layers"],
        serde_json::json!([1, 1, 1, 1])
    );
    assert_eq!(
        config["pretrained_cfg"]["input_size"],
        serde_json::json!([3, 32, 32])
    );
    let card = fs::read_to_string(place.join("out/encoder/README.md")).unwrap();
    for said in [
        "library_name: timm",
        "random weights",
        "optimiser steps | 2",
        "kNN",
    ] {
        assert!(card.contains(said), "{said}: {card}");
    }
    // The run's own export is the same encoder.
    assert_eq!(
        bytes(&place.join("run/export/model.safetensors")),
        bytes(&place.join("out/encoder/model.safetensors"))
    );
    place.refused(
        &place
            .fgvr(&["export", "--run", "run", "--to", "out/encoder"])
            .output()
            .unwrap(),
        &["out/encoder", "exists already"],
    );

    let data = "builtin:lookalikes";
    said(&mut place.fgvr(&[
        "embed",
        "--run",
        "run",
        "--data",
        data,
        "--out",
        "a.safetensors",
    ]));
    said(&mut place.fgvr(&[
        "embed",
        "--weights",
        "out/encoder",
        "--data",
        data,
        "--set",
        "data.lookalikes={families=2, species_per_family=2, train_images=96, val_images=16, test_images=32}",
        "--out",
        "b.safetensors",
    ]));
    let features = |name: &str| -> Vec<Vec<f32>> {
        let tensors = safetensors::load(place.join(name), &Device::Cpu).unwrap();
        tensors["features"].to_vec2().unwrap()
    };
    assert_eq!(features("a.safetensors"), features("b.safetensors"));
    place.refused(
        &place
            .fgvr(&[
                "embed",
                "--run",
                "run",
                "--data",
                data,
                "--out",
                "a.safetensors",
            ])
            .output()
            .unwrap(),
        &["a.safetensors", "--overwrite"],
    );

    // Another run starts from them: with no steps between, its start is their encoder.
    let again = place
        .fgvr(&[
            "pretrain",
            "--config",
            "tiny.toml",
            "--weights",
            "out/encoder",
            "--out",
            "again",
            "--set",
            "encoder.width=64",
            "--set",
            "encoder.stem=imagenet",
            "--set",
            "optimizer.steps=1",
            "--set",
            "optimizer.lr=0",
        ])
        .output()
        .unwrap();
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    let weights = |run: &str| {
        let file = place.join(run).join("export/model.safetensors");
        safetensors::load(file, &Device::Cpu).unwrap()
    };
    let (before, after) = (weights("run"), weights("again"));
    let values = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let name = "layer3.0.conv2.weight";
    assert_eq!(values(&before[name]), values(&after[name]));
    let report = place.json("again/weights.json");
    assert_eq!(report["files"][0]["sha256"].as_str().unwrap().len(), 64);
    let card = fs::read_to_string(place.join("again/export/README.md")).unwrap();
    assert!(
        card.contains("SHA-256") && card.contains("out/encoder"),
        "{card}"
    );
}

#[test]
fn weights_bring_architecture_size_and_normalisation() {
    let place = Place::new();
    let set = [
        &PUBLISHED[..],
        &["--set", "normalisation.mean=[0.5, 0.5, 0.25]"][..],
    ]
    .concat();
    let trained = place.pretrain(&[&["--out", "run"][..], &set[..]].concat());
    assert!(trained.status.success(), "{trained:?}");
    let plan = place
        .fgvr(&[
            "pretrain",
            "--weights",
            "run/export",
            "--out",
            "b",
            "--steps",
            "1",
            "--set",
            "data.lookalikes.train_images=96",
            "--set",
            "data.lookalikes.val_images=16",
            "--set",
            "data.lookalikes.test_images=32",
            "--set",
            "moco.queue=64",
            "--set",
            "arm=base",
        ])
        .output()
        .unwrap();
    assert!(
        plan.status.success(),
        "{}",
        String::from_utf8_lossy(&plan.stderr)
    );
    let config = fs::read_to_string(place.join("b/config.toml")).unwrap();
    for line in [
        "architecture = \"resnet10\"",
        "stem = \"imagenet\"",
        "width = 64",
        "size = 32",
        "mean = [0.5, 0.5, 0.25]",
        "source = \"run/export\"",
    ] {
        let plain = config
            .replace("[\n    ", "[")
            .replace(",\n    ", ", ")
            .replace(",\n]", "]");
        assert!(plain.contains(line), "{line}: {plain}");
    }
}

#[test]
fn inspect_says_what_an_export_holds() {
    let place = Place::new();
    let trained = place.pretrain(&[&["--out", "run"][..], &PUBLISHED[..]].concat());
    assert!(trained.status.success(), "{trained:?}");
    let text = said(&mut place.fgvr(&["weights", "inspect", "run/export"]));
    assert!(
        text.contains("resnet10") && text.contains("SHA-256"),
        "{text}"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let json = said(&mut place.fgvr(&["weights", "inspect", "run/export", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(
        json.to_string().contains("conv1.weight") || json.is_object(),
        "{json}"
    );
    place.refused(
        &place
            .fgvr(&["weights", "inspect", "nowhere.pth"])
            .output()
            .unwrap(),
        &["nowhere.pth"],
    );
}

#[test]
fn weights_of_another_network_are_refused_in_a_line_and_allowed_by_name() {
    let place = Place::new();
    let trained = place.pretrain(&[&["--out", "run"][..], &PUBLISHED[..]].concat());
    assert!(trained.status.success(), "{trained:?}");
    let config = place.join("run/export/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("\"resnet18\"", "\"resnetblur18\"")).unwrap();
    let data = "builtin:lookalikes";
    let embed = [
        "embed",
        "--weights",
        "run/export",
        "--data",
        data,
        "--out",
        "a.npz",
    ];
    let said = ["architecture is \"resnetblur18\"", "--allow-mismatch NAME"];
    place.refused(&place.fgvr(&embed).output().unwrap(), &said);
    assert!(!place.join("a.npz").exists());
    let allowed = [&embed[..], &["--allow-mismatch", "architecture"]].concat();
    assert!(place.fgvr(&allowed).output().unwrap().status.success());
    assert!(place.join("a.npz").is_file());

    let start = [
        "pretrain",
        "--config",
        "tiny.toml",
        "--weights",
        "run/export",
        "--out",
        "again",
    ];
    let start = [&start[..], &PUBLISHED[..]].concat();
    let said = [
        "resnetblur18",
        "--set 'weights.allow_mismatch=[\"architecture\"]'",
    ];
    place.refused(&place.fgvr(&start).output().unwrap(), &said);
    assert!(!place.join("again").exists());
    let allowed = [
        &start[..],
        &["--set", "weights.allow_mismatch=[\"architecture\"]"],
    ]
    .concat();
    assert!(place.fgvr(&allowed).output().unwrap().status.success());
}

/// The program on a Hub of its own, and nothing of the machine's.
fn on_hub<'a>(command: &'a mut Command, hub: &str, cache: &Path) -> &'a mut Command {
    command
        .env("HF_ENDPOINT", hub)
        .env("HF_HOME", cache)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_TOKEN")
        .env_remove("HF_TOKEN_PATH")
}

#[test]
fn a_run_starts_from_the_hub_and_again_when_it_is_gone() {
    let place = Place::new();
    let trained = place.pretrain(&[&["--out", "run"][..], &PUBLISHED[..]].concat());
    assert!(trained.status.success(), "{trained:?}");
    let names = [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    ];
    let files = names.map(|name| (name, bytes(&place.join("run/export").join(name))));
    let hub = LoopbackHub::start("someone/birds", files);
    let (endpoint, cache) = (hub.endpoint(), place.join("cache"));
    let start = |out: &str| {
        let mut command = place.fgvr(&[
            "pretrain",
            "--config",
            "tiny.toml",
            "--weights",
            "hf:someone/birds",
            "--out",
            out,
        ]);
        command.args(PUBLISHED);
        command
    };
    said(on_hub(&mut start("first"), &endpoint, &cache));
    drop(hub);
    let mut offline = start("second");
    said(on_hub(&mut offline, &endpoint, &cache).env("HF_HUB_OFFLINE", "1"));
    assert_eq!(
        bytes(&place.join("first/export/model.safetensors")),
        bytes(&place.join("second/export/model.safetensors"))
    );
    // Nothing in the cache, and no Hub: one line says what to do, and no run is begun.
    let mut lost = start("third");
    let lost = on_hub(&mut lost, &endpoint, &place.join("empty"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    place.refused(&lost, &["someone/birds", "HF_HUB_OFFLINE"]);
    assert!(!place.join("third").exists());
}

#[test]
fn an_export_is_published_and_starts_a_run() {
    let place = Place::new();
    let trained = place.pretrain(&[&["--out", "run"][..], &PUBLISHED[..]].concat());
    assert!(trained.status.success(), "{trained:?}");
    let hub = LoopbackHub::empty();
    let (endpoint, cache) = (hub.endpoint(), place.join("cache"));
    let mut publish = place.fgvr(&[
        "publish",
        "--run",
        "run",
        "--to",
        "me/birds",
        "--license",
        "mit",
    ]);
    let refused = on_hub(&mut publish, &endpoint, &cache).output().unwrap();
    place.refused(&refused, &["HF_TOKEN"]);
    let text = said(on_hub(&mut publish, &endpoint, &cache).env("HF_TOKEN", "hf_secret"));
    assert!(text.contains("me/birds"), "{text}");
    let card = hub.file("me/birds", "main", "README.md").unwrap();
    assert!(String::from_utf8_lossy(&card).contains("license: mit"));
    let mut embed = place.fgvr(&[
        "embed",
        "--weights",
        "hf:me/birds",
        "--data",
        "builtin:lookalikes",
        "--out",
        "e.npz",
    ]);
    said(on_hub(&mut embed, &endpoint, &cache));
    assert!(place.join("e.npz").is_file());
}
