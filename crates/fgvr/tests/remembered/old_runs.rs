//! Runs of versions that did not remember their data.

use std::fs;

use crate::common::last_checkpoint;
use crate::support::{World, photos, succeeded};

const UNKNOWN: &str = "made by a version that did not remember its data";

/// Takes out of a run what such a version did not write.
fn make_old(world: &World) {
    let run = world.join("run");
    fs::remove_file(run.join("data.csv")).expect("data.csv");
    let without = |path: std::path::PathBuf| {
        let text = fs::read_to_string(&path).expect("JSON");
        let mut json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        json.as_object_mut().expect("a table").remove("data");
        fs::write(&path, json.to_string()).expect("a file");
    };
    without(run.join("env.json"));
    for step in 1..=8 {
        let checkpoint = world.checkpoint(step);
        without(checkpoint.join("manifest.json"));
        // Those before the step that the run went on from are old already.
        if checkpoint.join("config.toml").exists() {
            fs::remove_file(checkpoint.join("config.toml")).expect("its settings");
        }
    }
    let config = fs::read_to_string(run.join("config.toml")).expect("settings");
    let lines = config
        .lines()
        .filter(|line| !line.starts_with("hash_contents"));
    fs::write(
        run.join("config.toml"),
        lines.collect::<Vec<_>>().join("\n"),
    )
    .expect("a file");
}

#[test]
fn an_old_run_goes_on_and_is_judged_with_one_word() {
    for settings in [vec![], vec!["--set=base=simsiam", "--set=arm=base"]] {
        let world = World::new();
        let run = world.run(&settings);
        let (whole, figures) = (last_checkpoint(&run), world.place.json("run/eval.json"));
        make_old(&world);
        world.stop();
        let output = world.resume(&[]);
        let said = succeeded(&output);
        assert_eq!(said.matches(UNKNOWN).count(), 1, "{said}");
        assert!(last_checkpoint(&run) == whole, "other bits");
        // It is remembered from here on.
        let said = succeeded(&world.eval(&[]));
        assert!(!said.contains(UNKNOWN), "{said}");

        make_old(&world);
        let output = world.eval(&[]);
        let said = succeeded(&output);
        assert_eq!(said.matches(UNKNOWN).count(), 1, "{said}");
        let again: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(again, figures);
        let said = succeeded(&world.eval(&["--data=others"]));
        assert!(!said.contains(UNKNOWN), "{said}");
    }
}

#[test]
fn an_old_run_whose_queues_show_that_photos_changed_says_what_to_do() {
    let world = World::new();
    world.run(&[]);
    make_old(&world);
    world.stop();
    photos(&world.join("photos/robin"), 0..10, 500);
    world.place.refused(
        &world.resume(&[]),
        &["were photos added or removed?", UNKNOWN, "--data-changed"],
    );
    succeeded(&world.eval(&[]));
    let said = succeeded(&world.resume(&["--data-changed"]));
    for words in [
        UNKNOWN,
        "moco.queue: begins empty",
        "moco.pair_queue: begins empty",
    ] {
        assert!(said.contains(words), "expected {words:?} in {said}");
    }
}
