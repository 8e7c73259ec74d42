//! Distillation through the program: a teacher of another width, its features kept, the same bits when resumed.

mod common;

use std::process::Output;

use common::{Place, last_checkpoint};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(run: &Output) -> String {
    assert!(run.status.success(), "{}", text(&run.stderr));
    text(&run.stderr) + &text(&run.stdout)
}

fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|s| ["--set", *s]).collect()
}

/// Distillation alone, by `form`.
fn taught(place: &Place, out: &str, form: &str, more: &[&str]) -> String {
    let form = format!("distil.form={form}");
    let settings = [
        "base=simsiam",
        "arm=base",
        "addons=[\"distil\"]",
        "base_weight=0",
        "teacher.source=teacher/export",
        "optimizer.steps=6",
        "checkpoint.every=3",
        form.as_str(),
    ];
    let set = set(&[&settings[..], more].concat());
    succeeded(&place.pretrain(&[&["--out", out][..], &set[..]].concat()))
}

#[test]
fn a_student_learns_a_wider_teacher_and_resumes_with_the_same_bits() {
    let place = Place::new();
    let wider = set(&["encoder.width=8", "encoder.stem=imagenet", "arm=base"]);
    let teacher = ["--out", "teacher", "--steps", "2"];
    succeeded(&place.pretrain(&[&teacher[..], &wider[..]].concat()));
    for form in ["feature", "both"] {
        let (whole, cut) = (format!("whole-{form}"), format!("cut-{form}"));
        let said = taught(&place, &whole, form, &[]);
        assert!(
            said.contains("teacher: 64 features of 96 training images"),
            "{said}"
        );
        let log = std::fs::read_to_string(place.join(&whole).join("metrics.jsonl")).unwrap();
        let row: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        let loss = row["loss_distil"].as_f64().unwrap();
        // The base's own loss does not count.
        let similar = row["loss_distil_similarity"].as_f64().unwrap_or(0.);
        let whole_loss = row["loss"].as_f64().unwrap();
        assert!((whole_loss - loss - similar).abs() < 1e-5, "{row}");
        assert_eq!(
            form == "both",
            row["loss_distil_similarity"].is_number(),
            "{row}"
        );

        taught(&place, &cut, form, &["checkpoint.keep=5"]);
        let checkpoints = place.join(&cut).join("checkpoints");
        std::fs::remove_dir_all(checkpoints.join("step-00000006")).unwrap();
        std::fs::write(checkpoints.join("last"), "step-00000003").unwrap();
        // The run has kept what the teacher said.
        if form == "both" {
            std::fs::remove_dir_all(place.join("teacher")).unwrap();
        }
        succeeded(
            &place
                .fgvr(&["pretrain", "--resume", &cut])
                .output()
                .unwrap(),
        );
        let [whole, cut] = [whole, cut].map(|run| last_checkpoint(&place.join(&run)));
        assert!(whole == cut, "{form}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused_before_anything_is_made() {
    let place = Place::new();
    for (settings, words) in [
        (
            &["addons=[\"distil\"]"][..],
            &["teacher.source", "hf:owner/name"][..],
        ),
        (
            &["teacher.source=x"],
            &["teacher.source", "addons=[\"distil\"]"],
        ),
        (
            &["addons=[\"distil\"]", "teacher.source=start"],
            &["weights.source is empty"],
        ),
        (&["base_weight=0"], &["base_weight", "arm=base"]),
        (&["addons=[\"distil\"]", "teacher.source=gone"], &["gone"]),
    ] {
        let run = place.pretrain(&[&["--out", "run"][..], &set(settings)].concat());
        place.refused(&run, words);
        assert!(!place.join("run").exists());
    }
}
