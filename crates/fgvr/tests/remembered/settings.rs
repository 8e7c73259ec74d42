//! A `config.toml` that was changed in the run folder.

use std::fs;

use crate::support::{World, succeeded};

fn edit(world: &World, from: &str, to: &str) {
    let path = world.join("run/config.toml");
    let text = fs::read_to_string(&path).expect("settings");
    assert!(text.contains(from), "{from} in {text}");
    fs::write(&path, text.replacen(from, to, 1)).expect("a file");
}

#[test]
fn settings_that_were_changed_are_told_by_all_that_read_them() {
    let world = World::new();
    world.run(&["--set=base=simsiam", "--set=arm=base"]);
    world.stop();
    edit(&world, "size = 16", "size = 24");
    edit(&world, "lr = 0.03", "lr = 0.02");
    let told = "config.toml was changed since step 4: data.size was 16, is 24; optimizer.lr was 0.03, is 0.02";
    for command in [
        ["eval", "--run=run", "--data=others"].as_slice(),
        &["embed", "--run=run", "--data=others", "--out=e.csv"],
        &["export", "--run=run", "--to=exported"],
    ] {
        let output = world.place.fgvr(command).output().expect("fgvr starts");
        let said = succeeded(&output);
        assert_eq!(said.matches(told).count(), 1, "{command:?}: {said}");
    }
    // The decoder is made for a size.
    world.place.refused(
        &world.resume(&[]),
        &["does not fit the settings", told, "put it back"],
    );
    edit(&world, "size = 24", "size = 16");
    let told =
        "since step 4: optimizer.lr was 0.03, is 0.02; the run goes on with what it says now";
    let said = succeeded(&world.resume(&[]));
    assert!(said.contains(told), "{said}");
    // The checkpoints since then are made with them.
    let said = succeeded(&world.eval(&["--data=others"]));
    assert!(!said.contains("changed"), "{said}");

    world.stop();
    edit(&world, "resnet10", "resnet18");
    let words = [
        "does not fit the settings",
        "encoder.architecture was \"resnet10\", is \"resnet18\"",
        "put it back",
    ];
    world.place.refused(&world.resume(&[]), &words);
    world.place.refused(&world.eval(&["--data=others"]), &words);
}

#[test]
fn a_built_in_set_has_its_settings_for_a_fingerprint() {
    let world = World::new();
    let args = ["--out=run", "--steps=2", "--set=checkpoint.every=1"];
    succeeded(&world.place.pretrain(&args));
    assert!(!world.join("run/data.csv").exists());
    let data = &world.place.json("run/env.json")["data"];
    assert_eq!(data["images"], serde_json::json!([96, 16, 32]));
    let again = world.eval(&[]);
    assert!(!succeeded(&again).contains("changed"));
    edit(&world, "train_images = 96", "train_images = 64");
    let told = "the data changed since step 2: data.lookalikes.train_images was 96 and is 64";
    world
        .place
        .refused(&world.resume(&[]), &[told, "--data-changed"]);
    let said = succeeded(&world.eval(&[]));
    assert!(said.contains(told), "{said}");
}
