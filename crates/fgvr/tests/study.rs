//! A small study, cut short, gone on with, and changed.

mod common;

use common::Place;

const STUDY: &str = r#"
name = "tiny"
about = "A test."
seeds = [0, 1]
control = "base"
set = [TINY]
[[data]]
name = "birds"
source = "builtin:lookalikes"
[[arm]]
name = "base"
set = ["arm=base"]
[[arm]]
name = "recon"
set = ["arm=recon-only"]
"#;

fn write(place: &Place, text: &str) {
    let tiny = [
        "data.size=32",
        "data.lookalikes.families=2",
        "data.lookalikes.species_per_family=2",
        "data.lookalikes.train_images=64",
        "data.lookalikes.val_images=16",
        "data.lookalikes.test_images=32",
        "loader.batch=16",
        "encoder.architecture=resnet10",
        "encoder.width=4",
        "encoder.stem=small",
        "decoder.hidden=16",
        "decoder.channels=16",
        "moco.hidden=16",
        "moco.dim=8",
        "moco.queue=32",
        "moco.pair_queue=32",
        "optimizer.steps=4",
        "monitor.pictures_every=0",
    ];
    let quoted: Vec<String> = tiny.iter().map(|s| format!("{s:?}")).collect();
    std::fs::write(
        place.join("s.toml"),
        text.replace("TINY", &quoted.join(", ")),
    )
    .expect("s.toml");
}

#[test]
fn a_study_goes_on_where_it_stopped_and_leaves_its_tables() {
    let place = Place::new();
    write(&place, &STUDY.replace("[0, 1]", "[0]"));
    let run = |out: &str| {
        place
            .fgvr(&["study", "s.toml", "--out", out])
            .output()
            .unwrap()
    };
    let first = run("out");
    assert!(
        first.status.success(),
        "{}",
        String::from_utf8_lossy(&first.stderr)
    );
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    assert!(text.contains("2 of 2 runs done"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );

    write(&place, STUDY);
    let second = run("out");
    let stderr = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.success(), "{stderr}");
    assert!(stderr.contains("seed 0: done before"), "{stderr}");
    let report = place.json("out/study.json");
    assert_eq!(report["done"], serde_json::json!([4, 4]));
    let arms = &report["data"][0]["arms"];
    let paired = &arms[1]["against_control"]["kNN"];
    assert_eq!(paired["difference"]["count"], 2);
    assert_eq!(paired["verdict"], "too-few-seeds");
    let of = |arm: usize, seed: u64| -> f64 {
        let name = ["base", "recon"][arm];
        let eval = place.json(&format!("out/birds/{name}/seed-{seed}/eval.json"));
        eval["trained"]["knn"]["top1"].as_f64().unwrap()
    };
    let expected = ((of(1, 0) - of(0, 0)) + (of(1, 1) - of(0, 1))) / 2.;
    let found = paired["difference"]["mean"].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    for file in ["study.html", "study.md", "study.toml"] {
        assert!(place.join("out").join(file).is_file(), "{file}");
    }

    // Other settings in the same place: refused before anything runs.
    write(
        &place,
        &STUDY.replace("arm=recon-only", "arm=recon-only\", \"optimizer.lr=0.5"),
    );
    place.refused(&run("out"), &["optimizer.lr", "another --out"]);
    place.refused(
        &place
            .fgvr(&["study", "--preset", "base", "--out", "x"])
            .output()
            .unwrap(),
        &["did you mean bases?"],
    );
}
