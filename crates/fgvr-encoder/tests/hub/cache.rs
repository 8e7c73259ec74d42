//! The cache, offline, shared with Python, damaged and locked.

use std::path::Path;
use std::time::Duration;

use fgvr_encoder::hub::HubError;

use super::{MODEL, Scene, assert_says, files, names, weights};

#[test]
fn offline_takes_what_the_cache_holds_with_the_server_gone() {
    let mut scene = Scene::model();
    let online = scene.fetch(MODEL).unwrap();
    scene.hub = fgvr_testkit::LoopbackHub::empty(); // The one that was asked is gone.
    let error = scene.error();
    assert_says(&error, &["no connection", "HF_HUB_OFFLINE=1"]);
    scene.config.offline = true;
    assert_eq!(scene.fetch(MODEL).unwrap(), online);
    let pinned = scene
        .fetch(&format!("{MODEL}@{}", online.revision))
        .unwrap();
    assert_eq!(pinned, online);
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn offline_says_what_the_cache_lacks_and_how_to_get_it() {
    let mut scene = Scene::model();
    scene.config.offline = true;
    let remedy = "hf download owner/name --revision main";
    assert_says(
        &scene.error(),
        &["HF_HUB_OFFLINE is set", "lacks the revision", remedy],
    );
    scene.config.offline = false;
    scene.fetch("owner/name:README.md").unwrap();
    scene.config.offline = true;
    assert_says(
        &scene.error(),
        &["lacks a file of weights (it has README.md, config.json)"],
    );
    let error = scene.fetch("owner/name:x.pth").unwrap_err().to_string();
    assert_says(&error, &["lacks x.pth"]);
    let error = scene.fetch("owner/name@v2").unwrap_err().to_string();
    assert_says(&error, &["owner/name at v2", "lacks the revision"]);
    let absent = "0123456789abcdef0123456789abcdef01234567";
    let error = scene
        .fetch(&format!("{MODEL}@{absent}"))
        .unwrap_err()
        .to_string();
    assert_says(&error, &["lacks any file of commit 0123"]);
    assert_eq!(
        scene
            .hub
            .requests()
            .iter()
            .filter(|r| r.path.contains("v2"))
            .count(),
        0
    );
}

#[test]
fn offline_lacks_a_model_of_which_a_shard_is_missing() {
    let index = br#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let mut scene = Scene::of([
        ("model.safetensors.index.json", index.to_vec()),
        ("1.safetensors", weights(1)),
        ("2.safetensors", weights(2)),
    ]);
    let snapshot = scene.fetch(MODEL).unwrap();
    // What a link points to may be gone while the link is there.
    std::fs::remove_file(snapshot.files[2].path.canonicalize().unwrap()).unwrap();
    scene.config.offline = true;
    assert_says(
        &scene.error(),
        &["lacks a whole model", "2.safetensors is not there"],
    );
}

/// What Python's huggingface_hub 2.4.0 leaves after `snapshot_download`: links to blobs whose names
/// are hashes, a ref without a line end, a lock and a tag for backup programs.
fn write_as_python_does(cache: &Path, commit: &str, git_of_config: &str, sha256: &str) {
    let repository = cache.join("models--owner--name");
    let snapshot = repository.join("snapshots").join(commit);
    for folder in ["blobs", "refs"] {
        std::fs::create_dir_all(repository.join(folder)).unwrap();
    }
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::write(repository.join("refs/main"), commit).unwrap();
    std::fs::write(repository.join("blobs").join(sha256), "weights").unwrap();
    std::fs::write(repository.join("blobs").join(git_of_config), "{}").unwrap();
    for (name, blob) in [
        ("model.safetensors", sha256),
        ("config.json", git_of_config),
    ] {
        let target = format!("../../blobs/{blob}");
        std::os::unix::fs::symlink(target, snapshot.join(name)).unwrap();
    }
    std::fs::write(
        cache.join("CACHEDIR.TAG"),
        "Signature: 8a477f597d28d172789f06886806bc55",
    )
    .unwrap();
    let locks = cache.join(".locks/models--owner--name");
    std::fs::create_dir_all(&locks).unwrap();
    std::fs::write(locks.join(format!("{sha256}.lock")), "").unwrap();
}

#[test]
fn a_cache_that_python_wrote_is_read_and_used() {
    let files_of_hub = [("model.safetensors", "weights"), ("config.json", "{}")];
    let mut scene = Scene::of(files_of_hub);
    let commit = scene.hub.commit(MODEL, "main").unwrap();
    // From `git hash-object` and `sha256sum`, not from the code under test.
    let git = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
    let sha256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c";
    write_as_python_does(&scene.config.cache, &commit, git, sha256);
    let before = files(&scene.config.cache);
    let online = scene.fetch(MODEL).unwrap();
    assert_eq!(names(&online), ["model.safetensors", "config.json"]);
    assert_eq!(files(&scene.config.cache), before);
    assert!(
        scene
            .hub
            .requests()
            .iter()
            .all(|request| !request.to_contents)
    );
    scene.config.offline = true;
    assert_eq!(scene.fetch(MODEL).unwrap(), online);
}

/// Runs `script` in the Python that `FGVR_HUB_PYTHON` names, which has `huggingface_hub`.
fn python(scene: &Scene, script: &str) -> Option<String> {
    let Some(python) = std::env::var_os("FGVR_HUB_PYTHON") else {
        fgvr_testkit::skipped("FGVR_HUB_PYTHON names no Python with huggingface_hub");
        return None;
    };
    let output = std::process::Command::new(python)
        .args(["-c", script])
        .env("HF_ENDPOINT", scene.hub.endpoint())
        .env("HF_HUB_CACHE", &scene.config.cache)
        .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    Some(text(&output.stdout))
}

#[test]
fn python_and_fgvr_read_each_others_cache() {
    const GET: &str = "from huggingface_hub import hf_hub_download as get\n";
    let mut scene = Scene::model();
    let fetch = format!("{GET}for f in 'model.safetensors', 'config.json': get('{MODEL}', f)");
    if python(&scene, &fetch).is_none() {
        return;
    }
    let before = scene.whole();
    let contents = || {
        scene
            .hub
            .requests()
            .iter()
            .filter(|r| r.to_contents)
            .count()
    };
    let fetched = contents();
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!((scene.whole(), contents()), (before, fetched));
    scene.config.offline = true;
    assert_eq!(scene.fetch(MODEL).unwrap(), snapshot);

    // And the other way round, from a cache that Python has never seen.
    let other = Scene::model();
    let snapshot = other.fetch(MODEL).unwrap();
    let read = format!("{GET}print(get('{MODEL}', 'model.safetensors', local_files_only=True))");
    let path = python(&other, &read).unwrap();
    assert_eq!(Path::new(&path), snapshot.weights);
}

#[test]
fn a_damaged_blob_is_fetched_again_online_and_refused_offline() {
    let mut scene = Scene::model();
    let snapshot = scene.fetch(MODEL).unwrap();
    let blob = snapshot.weights.canonicalize().unwrap();
    let mut damaged = weights(1);
    damaged[5000] ^= 1;
    std::fs::write(&blob, &damaged).unwrap();
    scene.config.offline = true;
    assert_says(
        &scene.error(),
        &[blob.to_str().unwrap(), "not the one", "remove it"],
    );
    scene.config.offline = false;
    assert_eq!(scene.fetch(MODEL).unwrap(), snapshot);
    assert_eq!(std::fs::read(&blob).unwrap(), weights(1));
    // A blob that was cut short is no whole one either.
    std::fs::write(&blob, &damaged[..100]).unwrap();
    assert_eq!(scene.fetch(MODEL).unwrap(), snapshot);
    assert_eq!(std::fs::read(&blob).unwrap(), weights(1));
}

#[test]
fn a_ref_that_is_no_commit_is_refused() {
    let mut scene = Scene::model();
    scene.fetch(MODEL).unwrap();
    std::fs::write(scene.repository().join("refs/main"), "../../../etc").unwrap();
    scene.config.offline = true;
    assert_says(&scene.error(), &["refs/main", "40 hex digits"]);
}

#[test]
fn a_lock_that_another_holds_is_waited_for_no_longer_than_stated() {
    let mut scene = Scene::model();
    let snapshot = scene.fetch(MODEL).unwrap();
    std::fs::remove_dir_all(scene.repository()).unwrap();
    let locks = scene.config.cache.join(".locks/models--owner--name");
    let lock = locks.join(format!("{}.lock", snapshot.files[0].sha256));
    let held = std::fs::File::open(&lock).unwrap();
    held.lock().unwrap();
    scene.config.timeout = Duration::from_millis(100);
    let error = scene.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::Locked { .. }), "{error}");
    assert!(scene.whole().is_empty());
    drop(held);
    scene.config.timeout = Duration::from_secs(20);
    assert_eq!(scene.fetch(MODEL).unwrap(), snapshot);
}
