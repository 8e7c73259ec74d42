//! Exports on the Hub.

use std::path::Path;

use fgvr_encoder::hub::{HubError, PublishOptions, Published, Silent, publish_with};
use fgvr_testkit::Misbehaviour;

use super::{MODEL, Scene, assert_says, weights};

fn export() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    write("model.safetensors", &weights(5));
    write("config.json", b"{}");
    write("preprocessor_config.json", b"{}");
    write("README.md", b"# New\n");
    write("samples/a.txt", b"a");
    write(".cache/secret", b"hidden");
    write(".env", b"hidden");
    folder
}

fn scene() -> Scene {
    let mut scene = Scene::model();
    scene.config.token = Some("hf_write".to_owned());
    scene
}

fn publish(
    scene: &Scene,
    repository: &str,
    folder: &Path,
    options: &PublishOptions,
) -> Result<Published, HubError> {
    publish_with(&scene.config, repository, folder, options, &mut Silent)
}

#[test]
fn an_export_becomes_one_commit_that_can_be_fetched() {
    let scene = scene();
    let folder = export();
    let mut done = Vec::new();
    let mut progress = |file: &str, now: u64, total: u64| {
        if now == total {
            done.push(file.to_owned());
        }
    };
    let options = PublishOptions {
        private: true,
        message: "My model".to_owned(),
        ..PublishOptions::default()
    };
    let published = publish_with(
        &scene.config,
        "owner/new",
        folder.path(),
        &options,
        &mut progress,
    )
    .unwrap();
    assert_eq!(published.url, format!("{}/owner/new", scene.hub.endpoint()));
    assert_eq!(
        scene.hub.commit("owner/new", "main"),
        Some(published.commit.clone())
    );
    assert!(scene.hub.is_private("owner/new"));
    for file in [
        "config.json",
        "model.safetensors",
        "samples/a.txt",
        "README.md",
    ] {
        let content = std::fs::read(folder.path().join(file)).unwrap();
        assert_eq!(scene.hub.file("owner/new", "main", file), Some(content));
        assert!(done.iter().any(|name| name == file));
    }
    for file in [".env", ".cache/secret"] {
        assert_eq!(scene.hub.file("owner/new", "main", file), None);
    }
    let requests = scene.hub.requests();
    let commits = requests
        .iter()
        .filter(|request| request.path.contains("/commit/"));
    let commits: Vec<_> = commits.collect();
    assert_eq!(commits.len(), 1);
    assert!(String::from_utf8_lossy(&commits[0].body).contains("My model"));
    let snapshot = scene.fetch("owner/new").unwrap();
    assert_eq!(snapshot.revision, published.commit);
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(5));
}

#[test]
fn files_of_the_repository_that_the_export_lacks_stay_and_branches_are_apart() {
    let scene = scene();
    let before = scene.hub.commit(MODEL, "main");
    let options = PublishOptions {
        revision: Some("exp/1".to_owned()),
        create: false,
        ..PublishOptions::default()
    };
    let published = publish(&scene, MODEL, export().path(), &options).unwrap();
    assert_eq!(
        published.url,
        format!("{}/{MODEL}/tree/exp/1", scene.hub.endpoint())
    );
    assert_eq!(scene.hub.commit(MODEL, "main"), before);
    let file = |name: &str| scene.hub.file(MODEL, "exp/1", name);
    assert_eq!(file("model.safetensors"), Some(weights(5)));
    assert_eq!(
        file("extra/notes.txt").as_deref(),
        Some(b"notes".as_slice())
    );
}

#[test]
fn without_a_token_or_a_network_nothing_is_sent() {
    let mut scene = scene();
    let options = PublishOptions::default();
    scene.config.token = None;
    let error = publish(&scene, MODEL, export().path(), &options).unwrap_err();
    assert!(matches!(error, HubError::NoToken { .. }));
    assert_says(
        &error.to_string(),
        &[MODEL, "set HF_TOKEN", "hf auth login"],
    );
    scene.config.offline = true;
    let error = publish(&scene, MODEL, export().path(), &options).unwrap_err();
    assert_says(&error.to_string(), &["HF_HUB_OFFLINE", "unset it"]);
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn a_repository_that_is_absent_and_may_not_be_made_is_an_error() {
    let scene = scene();
    let options = PublishOptions {
        create: false,
        ..PublishOptions::default()
    };
    let error = publish(&scene, "owner/absent", export().path(), &options).unwrap_err();
    assert!(matches!(error, HubError::RepositoryNotFound { .. }));
    assert_eq!(scene.hub.commit("owner/absent", "main"), None);
}

#[test]
fn a_folder_that_is_no_export_is_refused() {
    let scene = scene();
    let options = PublishOptions::default();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let error = publish(&scene, MODEL, folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert_says(&error, &["no model.safetensors", "expected an export"]);
    let error = publish(&scene, MODEL, &folder.path().join("no"), &options).unwrap_err();
    assert!(matches!(error, HubError::Io { .. }));
    let link = folder.path().join("model.safetensors");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    let error = publish(&scene, MODEL, folder.path(), &options)
        .unwrap_err()
        .to_string();
    assert_says(&error, &["model.safetensors", "plain files only"]);
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn a_refused_or_failing_commit_is_told() {
    let scene = scene();
    let refuse = |status| Misbehaviour::Status {
        path: "/commit/".to_owned(),
        status,
        times: 99,
        headers: Vec::new(),
    };
    let before = scene.hub.commit(MODEL, "main");
    for (status, says) in [
        (403, "may read or write"),
        (409, "answers 409"),
        (500, "answers 500"),
    ] {
        scene.hub.behave();
        scene.hub.misbehave(refuse(status));
        let options = PublishOptions::default();
        let error = publish(&scene, MODEL, export().path(), &options).unwrap_err();
        assert_says(&error.to_string(), &[MODEL, says]);
    }
    assert_eq!(scene.hub.commit(MODEL, "main"), before);
}

#[test]
fn a_hub_that_holds_something_else_afterwards_is_told() {
    let scene = scene();
    scene.hub.misbehave(Misbehaviour::Id {
        file: "model.safetensors".to_owned(),
        id: "cd".repeat(32),
    });
    let options = PublishOptions::default();
    let error = publish(&scene, MODEL, export().path(), &options).unwrap_err();
    assert!(matches!(error, HubError::Hash { .. }), "{error}");
}
