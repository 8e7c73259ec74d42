//! Photos that are the same and lie elsewhere, and photos that are gone.

use std::fs;

use crate::common::last_checkpoint;
use crate::support::{STOPPED, World, succeeded};

/// An evaluation without the place of its photos.
fn judged(json: &[u8]) -> serde_json::Value {
    let mut judged: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    let place = judged["data"]
        .as_object_mut()
        .expect("what was found")
        .remove("source");
    assert!(place.is_some());
    judged
}

#[test]
fn the_same_photos_go_on_with_the_same_bits_wherever_they_lie() {
    let world = World::new();
    let run = world.run(&[]);
    let whole = last_checkpoint(&run);
    let figures = fs::read(run.join("eval.json")).expect("figures");
    world.stop();
    world.resumes_as(&[], &whole);
    assert_eq!(
        judged(&fs::read(run.join("eval.json")).expect("figures")),
        judged(&figures)
    );

    // Moved: where to is asked for, and remembered.
    fs::rename(world.join("photos"), world.join("album")).expect("a rename");
    world.stop();
    let gone = "the photos it was trained on are not in";
    world.place.refused(
        &world.resume(&[]),
        &[gone, "photos; ", "--resume run --data NEWPLACE"],
    );
    world.place.refused(&world.eval(&[]), &[gone, "--data"]);
    world.place.refused(
        &world.resume(&["--data=others"]),
        &["the data changed", "removed"],
    );
    world.place.refused(
        &world.resume(&["--data=builtin:lookalikes"]),
        &["start a new run"],
    );
    world.resumes_as(&["--data=album"], &whole);
    assert_eq!(
        judged(&fs::read(run.join("eval.json")).expect("figures")),
        judged(&figures)
    );

    // From another folder, whatever lies there under the same name.
    let elsewhere = world.join("elsewhere");
    fs::create_dir_all(elsewhere.join("photos")).expect("a folder");
    world.stop_at(STOPPED + 2);
    let mut command = world.place.fgvr(&["pretrain", "--resume=../run"]);
    let said = succeeded(
        &command
            .current_dir(&elsewhere)
            .output()
            .expect("fgvr starts"),
    );
    assert!(!said.contains("changed"), "{said}");
    assert!(
        last_checkpoint(&run) == whole,
        "other bits from another folder"
    );
    assert_eq!(
        judged(&fs::read(run.join("eval.json")).expect("figures")),
        judged(&figures)
    );
    // Run and photos moved together.
    let project = world.join("project");
    fs::create_dir(&project).expect("a folder");
    for folder in ["run", "album"] {
        fs::rename(world.join(folder), project.join(folder)).expect("a rename");
    }
    let mut command = world.place.fgvr(&["eval", "--run=project/run", "--json"]);
    let output = command.output().expect("fgvr starts");
    assert!(!succeeded(&output).contains("changed"));
    assert_eq!(judged(&output.stdout), judged(&figures));
}

#[test]
fn what_judges_or_gives_away_a_run_needs_no_photos_of_it() {
    let world = World::new();
    world.run(&["--set=addons=[\"lcr\"]", "--set=data.size=32"]);
    let before = world.eval(&["--data=others"]);
    succeeded(&before);
    fs::remove_dir_all(world.join("photos")).expect("a folder");
    let after = world.eval(&["--data=others"]);
    let said = succeeded(&after);
    assert!(!said.contains("photos"), "{said}");
    assert_eq!(before.stdout, after.stdout);
    let figures: serde_json::Value = serde_json::from_slice(&after.stdout).expect("JSON");
    for path in ["/trained/knn/top1", "/screened/knn/top1", "/psnr/held_out"] {
        assert!(
            figures
                .pointer(path)
                .is_some_and(serde_json::Value::is_number),
            "{path}"
        );
    }
    for command in [
        ["embed", "--run=run", "--data=others", "--out=e.npz"].as_slice(),
        &["export", "--run=run", "--to=exported"],
    ] {
        succeeded(&world.place.fgvr(command).output().expect("fgvr starts"));
    }
    // An empty mount point is as good as none.
    fs::create_dir(world.join("photos")).expect("a folder");
    world
        .place
        .refused(&world.resume(&[]), &["--resume run --data NEWPLACE"]);
}

#[test]
fn a_fingerprint_is_the_same_in_any_place_and_on_any_number_of_threads() {
    let mut found = Vec::new();
    for threads in ["1", "2"] {
        let world = World::new();
        let mut command = world
            .place
            .fgvr(&["pretrain", "--config=tiny.toml", "--data=photos"]);
        command.args([
            "--out=run",
            "--steps=1",
            "--set=loader.batch=4",
            "--set=data.hash_contents=true",
        ]);
        succeeded(
            &command
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .expect("fgvr starts"),
        );
        let mut of_run = world.place.json("run/env.json")["data"].clone();
        let manifest = world
            .place
            .json("run/checkpoints/step-00000001/manifest.json");
        assert_eq!(of_run, manifest["data"]);
        // Where it lies is no part of it.
        of_run.as_object_mut().expect("a table").remove("folder");
        assert_eq!(of_run["images"], serde_json::json!([28, 4, 8]));
        found.push(of_run);
    }
    assert_eq!(found[0], found[1]);
}
