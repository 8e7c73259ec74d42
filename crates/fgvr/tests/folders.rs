//! What the program says of a folder of photos, and which figures it leaves out.

mod common;

use std::fs;

use common::{Place, photos};

/// Class folders below `folder`, each with `count` photos.
fn classes(place: &Place, folder: &str, names: &[&str], count: u8) {
    for name in names {
        photos(&place.join(folder).join(name), count);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_folder_is_told_on_one_line_and_validation_images_are_called_so() {
    let place = Place::new();
    classes(&place, "birds/Train", &["finch", "wren"], 12);
    classes(&place, "birds/valid", &["finch", "wren"], 4);
    fs::write(place.join("birds/Train/finch/1.heic"), "x").unwrap();
    fs::create_dir(place.join("birds/Train/wren/@eaDir")).unwrap();
    fs::copy(
        place.join("birds/Train/wren/0.png"),
        place.join("birds/cover.png"),
    )
    .unwrap();
    let line = "birds: 32 images in 2 classes (24 to train on, 8 to validate, none to test); passed over: 1 .heic, \
                1 @eaDir; left out: 1 image in no class folder";

    let output = place.pretrain(&["--data=birds", "--out=run", "--steps=2", "--json"]);
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let log = fs::read_to_string(place.join("run/train.log")).unwrap();
    for said in [&stderr, &log] {
        assert!(said.lines().any(|found| found == line), "{said}");
        assert!(
            said.contains("warning: data: left out: cover.png, which lies in no class folder"),
            "{said}"
        );
        assert!(
            said.contains("figures are of the 8 validation images"),
            "{said}"
        );
        assert!(!said.contains("8 test images"), "{said}");
    }
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["data"]["passed_over"][".heic"], 1);
    assert_eq!(summary["data"]["images"]["val"], 8);
    let eval = place.json("run/eval.json");
    assert_eq!(eval["judged_on"], "validation");
    assert_eq!([&eval["validation_images"], &eval["test_images"]], [8, 0]);
    assert!(eval["trained"]["knn"]["top1"].is_number());
    let card = fs::read_to_string(place.join("run/export/README.md")).unwrap();
    assert!(
        card.contains("| validation images | 8 |")
            && card.contains("in percent of the validation images"),
        "{card}"
    );
    assert!(
        !card.contains("nothing was chosen on them") && !card.contains("| test images"),
        "{card}"
    );
    let page = fs::read_to_string(place.join("run/report.html")).unwrap();
    assert!(
        page.contains("judged on validation images") && !page.contains("judged on test images")
    );

    // Plan and embedding say it too.
    let output = place
        .fgvr(&["plan", "--config=tiny.toml", "--data=birds", "--json"])
        .output()
        .unwrap();
    assert!(text(&output.stderr).lines().any(|found| found == line));
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(plan["data"], summary["data"]);
    let output = place
        .fgvr(&[
            "embed",
            "--run=run",
            "--data=birds",
            "--out=e.csv",
            "--json",
        ])
        .output()
        .unwrap();
    assert!(text(&output.stderr).lines().any(|found| found == line));
    let embedded: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(embedded["data"], summary["data"]);
    assert_eq!(embedded["photos"], 32);

    // Classes that are not trained on have no figure of neighbours and probe, and one of retrieval.
    classes(&place, "more/train", &["finch", "wren"], 6);
    classes(&place, "more/test", &["finch", "robin", "thrush"], 4);
    let output = place
        .fgvr(&["eval", "--run=run", "--data=more", "--json"])
        .output()
        .unwrap();
    let stderr = text(&output.stderr);
    let named = "no figures of kNN and linear probe: there are no training images of these classes of the test images: robin, thrush";
    assert!(stderr.contains(named), "{stderr}");
    let eval: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        [&eval["judged_on"], &eval["test_images"]],
        [&serde_json::json!("test"), &serde_json::json!(12)]
    );
    for features in ["trained", "untrained", "pixels"] {
        assert!(
            eval[features]["knn"].is_null() && eval[features]["linear"].is_null(),
            "{eval}"
        );
        assert!(eval[features]["retrieval"]["map"].is_number(), "{eval}");
    }
    place.refused(
        &place
            .fgvr(&["calibrate", "--config=tiny.toml", "--data=more"])
            .output()
            .unwrap(),
        &["nothing to train on of classes to test on: robin, thrush"],
    );
}

#[test]
fn a_flat_test_folder_and_a_run_among_the_photos_are_no_obstacle() {
    let place = Place::new();
    classes(&place, "birds/train", &["finch", "wren"], 20);
    photos(&place.join("birds/test"), 6);
    let pretrain = |name: &str| {
        let mut command = place.fgvr(&[
            "pretrain",
            "--config=../tiny.toml",
            "--data=.",
            "--steps=2",
            "--json",
        ]);
        let output = command
            .arg(format!("--out=runs/{name}"))
            .current_dir(place.join("birds"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (text(&output.stderr), summary["data"].clone())
    };
    let (stderr, first) = pretrain("a");
    assert!(
        stderr.contains(
            "test/ is not in class folders as the other splits are: its 6 images are without labels"
        ),
        "{stderr}"
    );
    assert_eq!(
        place.json("birds/runs/a/eval.json")["judged_on"],
        "validation"
    );
    let (_, second) = pretrain("b");
    assert_eq!(first["images"], second["images"]);
    assert_eq!(second["passed_over"], serde_json::json!({"run of fgvr": 1}));
    // All photos are embedded, those of the test folder without a class.
    let output = place
        .fgvr(&["embed", "--run=birds/runs/a", "--data=birds", "--out=e.csv"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = fs::read_to_string(place.join("e.csv")).unwrap();
    assert_eq!(table.lines().count(), 47);
    assert_eq!(
        table
            .lines()
            .filter(|row| row.starts_with("test/") && row.contains(".png,test,,,"))
            .count(),
        6
    );
    assert_eq!(
        table
            .lines()
            .filter(|row| row.starts_with("train/wren/") && row.contains(",1,wren,"))
            .count(),
        20
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_of_any_bytes_are_classes_apart_and_messages_stay_on_one_line() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    photos(&place.join("wren"), 20);
    let birds = place.folder.path().join(OsStr::from_bytes(b"v\xf6gel"));
    for class in [
        b"\xe9t\xe9".as_slice(),
        b"\xe8t\xe8",
        b"line\nend, and more",
    ] {
        let class = birds.join(OsStr::from_bytes(class));
        photos(&class, 12);
    }
    fs::write(
        birds.join(OsStr::from_bytes(b"\xe9t\xe9/broken\n\x1b[31m.png")),
        "x",
    )
    .unwrap();
    let mut command = place.fgvr(&[
        "pretrain",
        "--config=../tiny.toml",
        "--data=.",
        "--out=../run",
        "--steps=3",
    ]);
    let output = command.current_dir(&birds).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains(".: 37 images in 3 classes"), "{stderr}");
    let mut command = place.fgvr(&["embed", "--run=run", "--out=e.csv", "--data"]);
    let output = command.arg(&birds).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(
        stderr.contains(r"v\xF6gel: 37 images in 3 classes"),
        "{stderr}"
    );
    assert!(
        stderr.contains(r"left out: \xE9t\xE9/broken\n\u{1b}[31m.png ("),
        "{stderr}"
    );
    assert!(!stderr.contains('\u{1b}'), "{stderr}");
    let mut table = csv::Reader::from_path(place.join("e.csv")).unwrap();
    let rows: Vec<_> = table.records().map(|row| row.unwrap()).collect();
    assert_eq!(rows.len(), 36);
    for row in &rows {
        assert!(
            birds.join(fgvr_data::path_of(&row[0])).is_file(),
            "{}",
            &row[0]
        );
        assert_eq!(row[0].split('/').next(), Some(&row[3]), "its class");
    }
    let classes: std::collections::BTreeSet<&str> = rows.iter().map(|row| &row[3]).collect();
    assert_eq!(
        classes.into_iter().collect::<Vec<_>>(),
        [r"\xE8t\xE8", r"\xE9t\xE9", "line\nend, and more"]
    );
}
