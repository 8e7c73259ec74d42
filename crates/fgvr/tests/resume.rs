//! A run that was killed goes on as if it had never stopped, and threads change no bit.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Place, last_checkpoint};

/// Waits until `done` holds; a minute is more than a tiny run takes.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn killed_and_resumed_gives_the_bits_of_an_uninterrupted_run() {
    let place = Place::new();
    let whole = place.pretrain(&["--out", "whole"]);
    assert!(
        whole.status.success(),
        "{}",
        String::from_utf8_lossy(&whole.stderr)
    );

    // Killed once just after the first checkpoint, and once while some later one is under way.
    let killed = place.join("killed");
    let mut child = place
        .fgvr(&["pretrain", "--config", "tiny.toml", "--out", "killed"])
        .spawn()
        .expect("fgvr starts");
    wait_for("the first checkpoint", || {
        killed.join("checkpoints/last").exists()
    });
    child.kill().expect("a kill");
    child.wait().expect("its end");
    let mut child = place
        .fgvr(&["pretrain", "--resume", "killed"])
        .spawn()
        .expect("fgvr starts");
    wait_for("a checkpoint under way", || {
        child.try_wait().expect("its state").is_some()
            || fs::read_dir(killed.join("checkpoints"))
                .expect("checkpoints")
                .any(|e| {
                    e.expect("an entry")
                        .file_name()
                        .to_string_lossy()
                        .ends_with(".partial")
                })
    });
    child.kill().expect("a kill");
    child.wait().expect("its end");

    let rest = place
        .fgvr(&["pretrain", "--resume", "killed"])
        .output()
        .expect("fgvr starts");
    assert!(
        rest.status.success(),
        "{}",
        String::from_utf8_lossy(&rest.stderr)
    );
    let (whole, killed) = (place.join("whole"), place.join("killed"));
    let (a, b) = (last_checkpoint(&whole), last_checkpoint(&killed));
    assert!(a.len() >= 4, "a checkpoint has its files");
    for ((name, a), (other, b)) in a.iter().zip(&b) {
        assert_eq!(name, other);
        assert!(a == b, "{name} differs after kill and resume");
    }
    // The records hold each step once, with the same losses.
    let losses = |run: &std::path::Path| -> Vec<(u64, f64, Option<f64>)> {
        let text = fs::read_to_string(run.join("metrics.jsonl")).expect("metrics");
        let rows = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("a row"));
        rows.map(|r| {
            (
                r["step"].as_u64().expect("a step"),
                r["loss"].as_f64().expect("a loss"),
                r["loss_pair"].as_f64(),
            )
        })
        .collect()
    };
    let expected = losses(&whole);
    assert_eq!(expected.len(), 20);
    assert!(
        expected.last().is_some_and(|row| row.2.is_some()),
        "the pair loss is active"
    );
    assert_eq!(expected, losses(&killed));
}

#[test]
fn one_and_two_threads_give_the_same_bits() {
    let place = Place::new();
    for threads in ["1", "2"] {
        let output = place
            .fgvr(&["pretrain", "--config", "tiny.toml", "--out", threads])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("fgvr starts");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let (one, two) = (
        last_checkpoint(&place.join("1")),
        last_checkpoint(&place.join("2")),
    );
    assert!(one == two, "the thread count changed a bit");
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_leaves() {
    let place = Place::new();
    let run = place.join("run");
    let child = place
        .fgvr(&[
            "pretrain",
            "--config",
            "tiny.toml",
            "--out",
            "run",
            "--steps",
            "100000",
        ])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("fgvr starts");
    wait_for("the first checkpoint", || {
        run.join("checkpoints/last").exists()
    });
    let killed = std::process::Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .expect("kill");
    assert!(killed.success());
    let output = child.wait_with_output().expect("its end");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    let line = stderr
        .lines()
        .find(|l| l.starts_with("saved at step"))
        .expect("says where it saved");
    let step: u64 = line
        .split(' ')
        .nth(3)
        .and_then(|n| n.parse().ok())
        .expect("a step");
    let last = fs::read_to_string(run.join("checkpoints/last")).expect("last");
    assert_eq!(last, format!("step-{step:08}"));
}
