//! The gate of SynthPair's pairs through the program.

mod common;

use common::{Place, last_checkpoint, photos};
use serde_json::Value;

const COMMON: [&str; 5] = [
    "arm=full",
    "optimizer.steps=6",
    "synthpair.warm_up=0",
    "synthpair.gate_every=2",
    "monitor.pictures_every=0",
];

fn run(place: &Place, out: &str, settings: &[&str]) {
    let all = COMMON.iter().chain(settings);
    let set: Vec<&str> = all.flat_map(|setting| ["--set", *setting]).collect();
    let run = place.pretrain(&[&["--out", out][..], &set].concat());
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{stderr}");
}

fn rows(place: &Place, run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.join(run).join("metrics.jsonl")).expect("metrics");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

#[test]
fn the_pair_waits_for_the_gate_and_a_resumed_run_has_the_same_bits() {
    let place = Place::new();
    let settings = [
        "synthpair.gate=0.01",
        "checkpoint.every=3",
        "checkpoint.keep=5",
    ];
    run(&place, "open", &settings);
    let measured = |row: &Value| row["synthpair_gate"].as_f64();
    let open = rows(&place, "open");
    let first = open
        .iter()
        .position(|row| measured(row) >= Some(0.01))
        .expect("it opens");
    assert!(
        open[..=first]
            .iter()
            .all(|row| row["nu"].as_f64() == Some(0.))
    );
    assert!(open[first + 1..].iter().all(|row| measured(row).is_none()));
    assert!(
        open[first + 1..]
            .iter()
            .all(|row| row["nu"].as_f64() > Some(0.))
    );
    let log = std::fs::read_to_string(place.join("open/train.log")).expect("a log");
    assert!(
        log.contains("decoded validation images") && log.contains("the pairs begin"),
        "{log}"
    );

    let whole = last_checkpoint(&place.join("open"));
    let checkpoints = place.join("open/checkpoints");
    std::fs::remove_dir_all(checkpoints.join("step-00000006")).expect("the last one");
    std::fs::write(checkpoints.join("last"), "step-00000003").expect("last");
    let resumed = place
        .fgvr(&["pretrain", "--resume", "open"])
        .output()
        .expect("fgvr starts");
    assert!(
        resumed.status.success(),
        "{}",
        String::from_utf8_lossy(&resumed.stderr)
    );
    assert!(whole == last_checkpoint(&place.join("open")));
    let without_time = |rows: Vec<Value>| -> Vec<[Value; 3]> {
        let of = |row: &Value| ["loss", "nu", "synthpair_gate"].map(|name| row[name].clone());
        rows.iter().map(of).collect()
    };
    assert_eq!(without_time(open), without_time(rows(&place, "open")));
}

#[test]
fn without_labels_originals_are_looked_for_and_without_validation_it_is_refused() {
    let place = Place::new();
    photos(&place.join("photos"), 40);
    let data = place.join("photos");
    let data = data.to_str().expect("text");
    let set = |settings: &[&'static str]| -> Vec<&str> {
        let all = COMMON.into_iter().chain(settings.iter().copied());
        all.flat_map(|setting| ["--set", setting]).collect()
    };
    let settings = set(&["synthpair.gate=1", "data.val_fraction=0.2"]);
    let run = place.pretrain(&[&["--out", "run", "--data", data][..], &settings].concat());
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{stderr}");
    let log = std::fs::read_to_string(place.join("run/train.log")).expect("a log");
    assert!(
        log.contains("decoded validation images find their original first"),
        "{log}"
    );

    // Six steps do not make a decoder whose images all find their originals.
    let rows = rows(&place, "run");
    let shares = rows.iter().filter_map(|row| row["synthpair_gate"].as_f64());
    assert_eq!(shares.filter(|share| *share < 1.).count(), 3);
    assert!(
        rows.iter()
            .all(|row| row["loss_pair"].is_null() && row["nu"] == 0.)
    );

    let settings = set(&["synthpair.gate=0.5", "data.val_fraction=0"]);
    let run = place.pretrain(&[&["--out", "never", "--data", data][..], &settings].concat());
    place.refused(&run, &["synthpair.gate", "validation images"]);
    let settings = set(&["synthpair.gate=1.5"]);
    let run = place.pretrain(&[&["--out", "never"][..], &settings].concat());
    place.refused(&run, &["synthpair.gate", "found 1.5"]);
    let settings = set(&["synthpair.gate=0.5", "synthpair.pair=features"]);
    let run = place.pretrain(&[&["--out", "never"][..], &settings].concat());
    place.refused(&run, &["synthpair.gate", "decodes no image"]);
}
