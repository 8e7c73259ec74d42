//! The example's base and add-on, which are of no crate of fgvr, go through all that a run is.
#![allow(clippy::unwrap_used)] // in helpers of tests

#[path = "../examples/own_method/barlow_twins.rs"]
mod barlow_twins;
#[path = "../examples/own_method/uniformity.rs"]
mod uniformity;

use std::path::Path;

use fgvr_train::config::Layers;
use fgvr_train::{
    Compute, Place, PretrainConfig, ResumeOptions, RunFolder, Silent, evaluate_run, pretrain,
    register_addon, register_base, resume,
};
use serde_json::Value;

use self::barlow_twins::BarlowTwinsConfig;
use self::uniformity::UniformityConfig;

fn settings(more: &[&str]) -> Result<PretrainConfig, fgvr_train::Error> {
    register_base::<BarlowTwinsConfig>()?;
    register_addon::<UniformityConfig>()?;
    let mut layers = Layers::default();
    layers.preset("demo")?;
    let small = [
        "base=barlow-twins",
        "addons=[\"uniformity\"]",
        "barlow_twins.dim=16",
        "data.size=32",
        "data.lookalikes.train_images=48",
        "data.lookalikes.val_images=24",
        "data.lookalikes.test_images=48",
        "loader.batch=16",
        "encoder.width=4",
        "decoder.channels=16",
        "optimizer.steps=4",
        "synthpair.warm_up=0",
        "synthpair.bank_minimum=16",
        "monitor.pictures_every=0",
    ];
    for setting in small.iter().chain(more) {
        layers.set(setting)?;
    }
    layers.resolve()
}

fn rows(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str(line).unwrap());
    rows.collect()
}

fn without_times(row: &Value) -> Value {
    let mut row = row.clone();
    let fields = row.as_object_mut().unwrap();
    fields.retain(|name, _| !name.contains("second") && name != "data_wait");
    row
}

#[test]
fn they_train_beside_synthpair_and_are_saved_resumed_and_judged() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parted) = (folder.path().join("whole"), folder.path().join("parted"));
    let train = |config: &PretrainConfig, run: &Path| {
        let place = Place::Folder(run.to_owned());
        pretrain(config, &place, &Compute::cpu(), &mut Silent).unwrap()
    };
    train(&settings(&["checkpoint.every=2"]).unwrap(), &whole);
    let found = rows(&whole);
    assert_eq!(found.len(), 4);
    for name in ["loss_base", "loss_uniformity", "loss_reconstruction"] {
        for row in &found {
            assert!(row[name].as_f64().unwrap().is_finite(), "{name}: {row}");
        }
    }
    assert!(found[3]["loss_pair"].as_f64().unwrap() > 0., "{}", found[3]);
    let config = std::fs::read_to_string(whole.join("config.toml")).unwrap();
    assert!(config.contains("[barlow_twins]\ndim = 16"), "{config}");

    // The same run from its second step on.
    train(&settings(&["checkpoint.every=2"]).unwrap(), &parted);
    let checkpoints = parted.join("checkpoints");
    let names = std::fs::read_dir(&checkpoints).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step-"))
        .collect();
    names.sort();
    std::fs::remove_dir_all(checkpoints.join(&names[1])).unwrap();
    std::fs::write(checkpoints.join("last"), &names[0]).unwrap();
    let run = RunFolder::open(&parted).unwrap();
    resume(
        &run,
        &ResumeOptions::default(),
        &Compute::cpu(),
        &mut Silent,
    )
    .unwrap();
    let again = rows(&parted);
    let same = |rows: &[Value]| rows.iter().map(without_times).collect::<Vec<_>>();
    assert_eq!(same(&again), same(&found));

    let run = RunFolder::open(&whole).unwrap();
    evaluate_run(&run, None, None, &Compute::cpu(), &mut Silent).unwrap();
}

#[test]
fn their_settings_are_checked_like_any() {
    let refused = |setting: &str| settings(&[setting]).unwrap_err().to_string();
    let text = refused("barlow_twins.dimm=3");
    assert!(text.contains("did you mean dim?"), "{text}");
    let text = refused("barlow_twins.dim=1");
    assert!(text.contains("barlow_twins.dim: found 1"), "{text}");
    let text = refused("base=barlow-twin");
    assert!(text.contains("did you mean barlow-twins?"), "{text}");
    let text = refused("addons=[\"uniform\"]");
    assert!(text.contains("did you mean uniformity?"), "{text}");
}
