//! Photos that are not what they were.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};

use crate::support::{STOPPED, World, bitmap, photos, succeeded};

const SIMSIAM: [&str; 2] = ["--set=base=simsiam", "--set=arm=base"];

/// A change to `photos/`, and what is said of it.
type Kind = (fn(&World), &'static [&'static str]);

const KINDS: [Kind; 6] = [
    (
        |world| photos(&world.join("photos/robin"), 0..6, 500),
        &["6 added (robin/000.bmp; robin/001.bmp; robin/002.bmp; ...)"],
    ),
    (
        |world| remove(world, "photos/wren/007.bmp"),
        &["1 removed (wren/007.bmp)"],
    ),
    (
        |world| bitmap(&world.join("photos/wren/007.bmp"), 41, 7),
        &["1 of another size (wren/007.bmp)"],
    ),
    (
        |world| rename(world, "photos/wren/007.bmp", "photos/wren/700.bmp"),
        &["1 added (wren/700.bmp)", "1 removed (wren/007.bmp)"],
    ),
    (
        |world| rename(world, "photos/wren", "photos/dipper"),
        &["20 of class wren now of dipper"],
    ),
    (
        |world| rename(world, "photos/wren/007.bmp", "photos/finch/w7.bmp"),
        &["added (finch/w7.bmp)", "removed (wren/007.bmp)"],
    ),
];

fn remove(world: &World, file: &str) {
    fs::remove_file(world.join(file)).expect("a file");
}

fn rename(world: &World, from: &str, to: &str) {
    fs::rename(world.join(from), world.join(to)).expect("a rename");
}

/// Every file of a folder and its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).expect("bytes");
                found.insert(path.display().to_string(), bytes);
            }
        }
    }
    found
}

#[test]
fn every_change_is_told_before_a_stopped_run_goes_on() {
    let world = World::new();
    world.run(&SIMSIAM);
    world.stop();
    world.keep();
    for (number, (change, words)) in KINDS.into_iter().enumerate() {
        world.restore();
        change(&world);
        let before = contents(&world.join("run"));
        let told = ["the data changed since step 4: photos: ", "--data-changed"];
        world
            .place
            .refused(&world.resume(&[]), &[words, &told].concat());
        assert!(
            contents(&world.join("run")) == before,
            "{words:?}: a file was touched"
        );

        let said = succeeded(&world.eval(&[]));
        for word in words
            .iter()
            .chain(&["warning: the data changed since step 4"])
        {
            assert!(said.contains(word), "expected {word:?} in {said}");
        }
        // The rest is the same whatever changed.
        if number > 1 {
            continue;
        }
        let said = succeeded(&world.eval(&["--data=others"]));
        assert!(!said.contains("changed"), "{said}");

        let said = succeeded(&world.resume(&["--data-changed"]));
        for word in words {
            assert!(said.contains(word), "expected {word:?} in {said}");
        }
        let log = fs::read_to_string(world.join("run/train.log")).expect("a log");
        assert!(log.contains(words[0]), "{log}");
        // From here on it is the data of the run.
        let said = succeeded(&world.eval(&[]));
        assert!(!said.contains("changed"), "{said}");
    }
}

#[test]
fn photos_that_move_between_splits_are_told_and_held_out_ones_counted() {
    let world = World::new();
    for split in ["train", "test"] {
        fs::create_dir_all(world.join("new").join(split)).expect("a folder");
    }
    rename(&world, "photos/finch", "new/train/finch");
    rename(&world, "photos/wren", "new/train/wren");
    for class in ["finch", "wren"] {
        photos(&world.join("new/test").join(class), 30..34, 700);
    }
    fs::remove_dir(world.join("photos")).expect("a folder");
    rename(&world, "new", "photos");
    world.run(&[&SIMSIAM[..], &["--set=data.val_fraction=0"]].concat());
    world.stop();
    rename(
        &world,
        "photos/train/wren/007.bmp",
        "photos/test/wren/007.bmp",
    );
    let told = "1 in another split (test/wren/007.bmp from train to test)";
    world.place.refused(&world.resume(&[]), &[told]);
    let said = succeeded(&world.eval(&[]));
    assert!(
        said.contains("1 photos that were trained on are held out now"),
        "{said}"
    );
    let said = succeeded(&world.resume(&["--data-changed"]));
    assert!(said.contains("39 training images rather than 40"), "{said}");
}

#[test]
fn another_content_of_the_same_size_is_told_where_contents_are_hashed() {
    for hashed in [false, true] {
        let world = World::new();
        let setting = format!("--set=data.hash_contents={hashed}");
        let run = world.run(&[&SIMSIAM[..], &[&setting]].concat());
        let fingerprint = &world.place.json("run/env.json")["data"];
        assert_eq!(fingerprint["contents"].is_string(), hashed, "{fingerprint}");
        world.stop();
        bitmap(&world.join("photos/finch/003.bmp"), 40, 12345);
        match hashed {
            true => world.place.refused(
                &world.resume(&[]),
                &["1 of the same size with another content (finch/003.bmp)"],
            ),
            false => drop(succeeded(&world.resume(&[]))),
        }
        let table = fs::read_to_string(run.join("data.csv")).expect("data.csv");
        assert_eq!(table.starts_with("name,split,class,bytes,sha256\n"), hashed);
        assert_eq!(table.lines().count(), 41);
    }
}

#[test]
fn keys_in_queues_stay_with_their_photos() {
    let world = World::new();
    let run = world.run(&[]);
    world.stop();
    // It comes first, so that all others are counted anew; another one goes.
    photos(&world.join("photos/babbler"), 0..8, 500);
    remove(&world, "photos/wren/007.bmp");
    let said = succeeded(&world.eval(&["--data=others"]));
    assert!(!said.contains("changed"), "{said}");
    let said = succeeded(&world.resume(&["--data-changed"]));
    for words in [
        "moco.queue: goes on with",
        "moco.pair_queue: ",
        "synthpair: the feature bank goes on",
    ] {
        assert!(said.contains(words), "expected {words:?} in {said}");
    }
    let lists = fs::read_dir(&run)
        .expect("the run")
        .map(|e| e.expect("an entry").path());
    let old = lists
        .filter(|path| path.extension().is_some_and(|e| e == "csv"))
        .find(|path| path.display().to_string().contains("data-"))
        .expect("the list of before");
    let (old, new) = (
        training_photos(&old),
        training_photos(&run.join("data.csv")),
    );
    let after = STOPPED + 1;
    let mut kept = 0;
    for queue in ["queue", "pair_queue"] {
        let (before, now) = (keys(&world, STOPPED, queue), keys(&world, after, queue));
        for (key, image) in &before {
            if let Some(number) = now.get(key) {
                assert_eq!(old[*image as usize], new[*number as usize], "{queue}");
                kept += 1;
            }
        }
        assert!(now.values().all(|image| (*image as usize) < new.len()));
    }
    assert!(kept >= 8, "{kept} keys went on");
}

/// DIET has a class for each photo, and AdamW two moments of it; LoDisc keeps keys of its own.
#[test]
fn classes_of_diet_and_keys_of_lodisc_stay_with_their_photos() {
    for (settings, told) in [
        (
            &[
                "--set=base=diet",
                "--set=arm=base",
                "--set=optimizer.kind=adamw",
            ][..],
            "of 28 classes, those of photos that are still trained on",
        ),
        (
            &[
                "--set=arm=base",
                "--set=addons=[\"lodisc\"]",
                "--set=data.size=32",
            ],
            "lodisc.queue: goes on with",
        ),
    ] {
        let world = World::new();
        let run = world.run(settings);
        world.stop();
        // It comes first, so that all others are counted anew; another one goes.
        photos(&world.join("photos/babbler"), 0..8, 500);
        remove(&world, "photos/wren/007.bmp");
        let said = succeeded(&world.resume(&["--data-changed"]));
        assert!(said.contains(told), "{said}");
        if told.starts_with("lodisc") {
            continue;
        }
        let lists = fs::read_dir(&run)
            .expect("the run")
            .map(|e| e.expect("an entry").path());
        let old = lists
            .filter(|path| path.extension().is_some_and(|e| e == "csv"))
            .find(|path| path.display().to_string().contains("data-"))
            .expect("the list of before");
        let photos = [
            training_photos(&old),
            training_photos(&run.join("data.csv")),
        ];
        let load = |step: u64, file: &str, name: &str| {
            let tensors = safetensors::load(world.checkpoint(step).join(file), &Device::Cpu);
            let rows = tensors.expect("tensors")[name].to_vec2::<f32>();
            rows.expect("rows")
        };
        for (file, name) in [
            ("objective.safetensors", "objective.head.classes.weight"),
            ("adamw.safetensors", "adamw.head.classes.weight.exp_avg_sq"),
        ] {
            let (before, after) = (load(STOPPED, file, name), load(STOPPED + 1, file, name));
            assert_eq!(
                [before.len(), after.len()],
                [photos[0].len(), photos[1].len()]
            );
            let off = |rows: &[f32], other: &[f32]| -> f32 {
                rows.iter().zip(other).map(|(a, b)| (a - b).abs()).sum()
            };
            let mut kept = 0;
            for (photo, row) in photos[0].iter().zip(&before) {
                let Some(now) = photos[1].iter().position(|other| other == photo) else {
                    continue;
                };
                let now = &after[now];
                kept += 1;
                if name.starts_with("adamw") {
                    // A step keeps 0.999 of a second moment and adds a square.
                    assert!(row.iter().zip(now).all(|(was, is)| *is >= 0.99 * was));
                    continue;
                }
                // A step moves a row less than rows differ.
                let others = after.iter().filter(|other| *other != now);
                assert!(
                    others
                        .map(|other| off(row, other))
                        .all(|far| off(row, now) < far)
                );
            }
            assert!(kept > 20 && kept < before.len() + 1, "{kept}");
        }
    }
}

/// Names of the training photos in a list, in their order.
fn training_photos(list: &Path) -> Vec<String> {
    let table = fs::read_to_string(list).expect("a list");
    let rows = table.lines().filter(|line| line.contains(",train,"));
    rows.map(|row| row.split(',').next().expect("a name").to_owned())
        .collect()
}

/// The keys of a queue as bits, and the image of each.
fn keys(world: &World, step: u64, queue: &str) -> HashMap<Vec<u32>, u32> {
    let file = world.checkpoint(step).join("objective.safetensors");
    let tensors = safetensors::load(file, &Device::Cpu).expect("tensors");
    let of = |part: &str| -> &Tensor { &tensors[&format!("objective.{queue}.{part}")] };
    let filled = of("position").to_vec1::<i64>().expect("counters")[1] as usize;
    let keys = of("keys").to_vec2::<f32>().expect("keys");
    let bits = keys
        .iter()
        .map(|key| key.iter().map(|v| v.to_bits()).collect());
    let images = of("images").to_vec1::<u32>().expect("images");
    bits.zip(images).take(filled).collect()
}

#[test]
fn a_study_compares_no_runs_on_different_photos() {
    let world = World::new();
    let study = |seeds: &str| {
        let text = format!(
            r#"
name = "s"
seeds = {seeds}
control = "a"
set = ["data.size=32", "encoder.architecture=resnet10", "encoder.width=4", "encoder.stem=small",
    "base=simsiam", "loader.batch=4", "optimizer.steps=2", "monitor.pictures_every=0"]
[[data]]
name = "d"
source = "photos"
[[arm]]
name = "a"
set = ["arm=base"]
"#
        );
        fs::write(world.join("s.toml"), text).expect("a study");
        let mut command = world.place.fgvr(&["study", "s.toml", "--out=out"]);
        command.output().expect("fgvr starts")
    };
    succeeded(&study("[0]"));
    succeeded(&study("[0, 1]"));
    photos(&world.join("photos/robin"), 0..6, 500);
    // What is done needs no photos any more.
    succeeded(&study("[0, 1]"));
    let words = [
        "runs on both cannot be compared",
        "6 added (robin/000.bmp",
        "another --out",
    ];
    world.place.refused(&study("[0, 1, 2]"), &words);
}
