//! What is fetched, and what is not fetched again.

use std::collections::BTreeMap;

use fgvr_encoder::hub::snapshot_with;

use super::{MODEL, Scene, assert_says, names, weights};

#[test]
fn weights_and_configuration_come_whole_and_nothing_else() {
    let scene = Scene::model();
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(names(&snapshot), ["model.safetensors", "config.json"]);
    let commit = scene.hub.commit(MODEL, "main").unwrap();
    assert_eq!(snapshot.revision, commit);
    assert_eq!(
        snapshot.path,
        scene.repository().join("snapshots").join(&commit)
    );
    assert_eq!(snapshot.weights, snapshot.path.join("model.safetensors"));
    assert_eq!(std::fs::read(&snapshot.weights).unwrap(), weights(1));
    // The name of a large blob is its SHA-256.
    let blob = scene
        .repository()
        .join("blobs")
        .join(&snapshot.files[0].sha256);
    assert_eq!(std::fs::read(blob).unwrap(), weights(1));
    let refs = std::fs::read_to_string(scene.repository().join("refs/main")).unwrap();
    assert_eq!(refs, commit);
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again_nor_from_another_commit() {
    let scene = Scene::model();
    scene.fetch(MODEL).unwrap();
    let contents = || {
        let requests = scene.hub.requests();
        requests
            .iter()
            .filter(|r| r.method == "GET" && r.to_contents)
            .count()
    };
    assert_eq!(contents(), 1);
    let again = scene.fetch(MODEL).unwrap();
    assert_eq!(contents(), 1);
    // A new commit with the same weights shares them.
    let files = [
        ("model.safetensors", weights(1)),
        ("config.json", b"{}".to_vec()),
    ];
    scene.hub.push(MODEL, files);
    let newer = scene.fetch(MODEL).unwrap();
    assert_eq!(contents(), 1);
    assert_ne!(newer.revision, again.revision);
    assert_eq!(newer.files[0].sha256, again.files[0].sha256);
    assert_eq!(
        std::fs::read(newer.path.join("config.json")).unwrap(),
        b"{}"
    );
}

#[test]
fn branches_tags_and_commits_give_what_they_stood_for() {
    let scene = Scene::model();
    let first = scene.hub.commit(MODEL, "main").unwrap();
    scene.hub.name_commit(MODEL, "v1.0", &first);
    scene.hub.name_commit(MODEL, "refs/pr/1", &first);
    scene.hub.push(MODEL, [("model.safetensors", weights(2))]);
    for revision in ["v1.0", "refs/pr/1", first.as_str()] {
        let snapshot = scene.fetch(&format!("{MODEL}@{revision}")).unwrap();
        assert_eq!(snapshot.revision, first);
        assert_eq!(std::fs::read(&snapshot.weights).unwrap(), weights(1));
    }
    let newest = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(&newest.weights).unwrap(), weights(2));
    let refs = scene.repository().join("refs");
    assert_eq!(
        std::fs::read_to_string(refs.join("refs/pr/1")).unwrap(),
        first
    );
    assert!(!refs.join(&first).exists());
}

#[test]
fn a_named_file_is_the_path() {
    let scene = Scene::of([
        ("model.safetensors", weights(1)),
        ("old/näive #1.pth", weights(2)),
        ("old/config.json", b"{}".to_vec()),
    ]);
    let snapshot = scene.fetch("owner/name:old/näive #1.pth").unwrap();
    assert_eq!(names(&snapshot), ["old/näive #1.pth", "old/config.json"]);
    assert_eq!(snapshot.path, snapshot.weights);
    assert_eq!(std::fs::read(&snapshot.path).unwrap(), weights(2));
    let error = scene.fetch("owner/name:new.pth").unwrap_err().to_string();
    assert_says(
        &error,
        &["owner/name at main", "no file new.pth", "model.safetensors"],
    );
}

#[test]
fn an_index_brings_its_shards() {
    let index = br#"{"metadata": {}, "weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    let scene = Scene::of([
        ("model.safetensors.index.json", index.to_vec()),
        ("model-00001-of-00002.safetensors", weights(1)),
        ("model-00002-of-00002.safetensors", weights(2)),
        ("config.json", b"{}".to_vec()),
        ("pytorch_model.bin", weights(3)),
    ]);
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(
        names(&snapshot),
        [
            "model.safetensors.index.json",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
        ]
    );
    assert!(snapshot.weights.ends_with("model.safetensors.index.json"));
}

#[test]
fn a_repository_without_weights_says_what_it_has() {
    let scene = Scene::of([("README.md", "nothing here"), ("data.csv", "1,2")]);
    let error = scene.error();
    assert_says(
        &error,
        &[
            "no weights",
            "expected model.safetensors",
            "README.md, data.csv",
        ],
    );
    assert!(scene.whole().is_empty());
}

#[test]
fn progress_goes_up_to_the_whole_of_each_file() {
    let scene = Scene::model();
    let mut seen: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    let mut progress = |file: &str, done: u64, total: u64| {
        seen.entry(file.to_owned()).or_default().push((done, total));
    };
    snapshot_with(&scene.config, &MODEL.parse().unwrap(), &mut progress).unwrap();
    let steps = &seen["model.safetensors"];
    assert_eq!(steps[0], (0, 100_000));
    assert_eq!(steps[steps.len() - 1], (100_000, 100_000));
    assert!(steps.is_sorted());
    assert_eq!(seen.len(), 2);
}

#[test]
fn the_call_works_inside_a_runtime() {
    let scene = Scene::model();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let snapshot = runtime.block_on(async { scene.fetch(MODEL) }).unwrap();
    assert_eq!(std::fs::read(&snapshot.weights).unwrap(), weights(1));
}
