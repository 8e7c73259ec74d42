//! Features that are no numbers are not written, not judged, and counted.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};
use common::{Place, photos};
use sha2::{Digest, Sha256};

/// Multiplies every weight of a norm by `factor`.
fn grow(tensors: &mut HashMap<String, Tensor>, factor: f64) {
    let mut grown = 0;
    for (name, tensor) in tensors.iter_mut() {
        if name.contains("bn") && name.ends_with(".weight") {
            *tensor = (&*tensor * factor).expect("a product");
            grown += 1;
        }
    }
    assert!(grown > 0, "no norm among the weights");
}

#[test]
fn embedding_with_weights_that_overflow_writes_nothing_and_names_the_first_photo() {
    let place = Place::new();
    photos(&place.join("photos"), 3);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/weights");
    let golden = golden.join("resnet.safetensors");
    let mut tensors = safetensors::load(golden, &Device::Cpu).expect("golden weights");
    let embed = || {
        let weights = "embed --weights w.safetensors --size 32 --data photos --out e.csv";
        let arguments: Vec<&str> = weights.split(' ').collect();
        place.fgvr(&arguments).output().expect("fgvr starts")
    };
    safetensors::save(&tensors, place.join("w.safetensors")).expect("a file");
    let output = embed();
    assert!(output.status.success(), "{output:?}");
    fs::remove_file(place.join("e.csv")).expect("features of finite weights");

    grow(&mut tensors, 1e12);
    safetensors::save(&tensors, place.join("w.safetensors")).expect("a file");
    place.refused(
        &embed(),
        &[
            "3 of 3 photos are not finite",
            "0.png",
            "fgvr weights inspect",
        ],
    );
    assert!(!place.join("e.csv").exists());
}

/// The encoder of the newest checkpoint of `run`, grown out of range behind its back.
fn spoil(run: &Path) {
    let folder = fs::read_to_string(run.join("checkpoints/last")).expect("a checkpoint");
    let folder = run.join("checkpoints").join(folder.trim());
    let file = folder.join("objective.safetensors");
    let mut tensors = safetensors::load(&file, &Device::Cpu).expect("tensors");
    grow(&mut tensors, 1e12);
    safetensors::save(&tensors, &file).expect("a file");
    let hash: String = Sha256::digest(fs::read(&file).expect("its bytes"))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = folder.join("manifest.json");
    let text = fs::read(&path).expect("a manifest");
    let mut manifest: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    manifest["files"]["objective.safetensors"] = hash.into();
    fs::write(&path, manifest.to_string()).expect("a manifest");
}

#[test]
fn a_run_whose_features_are_not_finite_is_not_judged_with_or_without_labels() {
    let place = Place::new();
    photos(&place.join("photos"), 5);
    let output = place.pretrain(&["--out", "run", "--steps", "1", "--set", "arm=base"]);
    assert!(output.status.success(), "{output:?}");
    spoil(&place.join("run"));
    let words = [
        "photos are not finite",
        "--checkpoint best-val",
        "optimizer.lr",
    ];
    for arguments in [
        "eval --run run",
        "eval --run run --data photos",
        "embed --run run --data photos --out e.npz",
    ] {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let output = place.fgvr(&arguments).output().expect("fgvr starts");
        place.refused(&output, &words);
    }
    assert!(!place.join("e.npz").exists());
}
