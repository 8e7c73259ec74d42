//! A Hub that lies or attacks: nothing leaves the cache, nothing false looks whole.

use fgvr_encoder::hub::HubError;
use fgvr_testkit::{LoopbackHub, Misbehaviour};

use super::{MODEL, Scene, assert_says, files, weights};

const FILE: &str = "model.safetensors";

#[test]
fn another_content_of_the_same_length_is_refused_by_its_hash() {
    for (file, other) in [(FILE, weights(9)), ("config.json", vec![b' '; 28])] {
        let scene = Scene::model();
        let kept = scene.fetch("owner/name:README.md").unwrap();
        std::fs::remove_file(
            kept.path
                .with_file_name("config.json")
                .canonicalize()
                .unwrap(),
        )
        .unwrap();
        let before = scene.whole();
        scene.hub.misbehave(Misbehaviour::Content {
            file: file.to_owned(),
            content: other.clone(),
        });
        let error = scene.fetch(&format!("{MODEL}:{file}")).unwrap_err();
        assert!(
            matches!(error, HubError::Hash { .. } | HubError::Length { .. }),
            "{error}"
        );
        assert_says(&error.to_string(), &[file, "the Hub states", "is not used"]);
        // What was there before is there still, and nothing else.
        assert_eq!(scene.whole(), before);
        let left = files(&scene.repository().join("blobs"));
        assert!(
            left.iter()
                .all(|path| std::fs::read(path).unwrap() != other)
        );
        scene.hub.behave();
        scene.fetch(&format!("{MODEL}:{file}")).unwrap();
    }
}

#[test]
fn a_false_hash_in_the_list_is_refused() {
    let scene = Scene::model();
    scene.hub.misbehave(Misbehaviour::Id {
        file: FILE.to_owned(),
        id: "ab".repeat(32),
    });
    let error = scene.fetch(MODEL).unwrap_err();
    assert_says(
        &error.to_string(),
        &[FILE, "SHA-256", &"ab".repeat(32), "is not used"],
    );
    assert!(scene.whole().is_empty());
}

#[test]
fn a_content_longer_or_shorter_than_listed_is_refused() {
    for bytes in [100_001, 150_000, 99_999, 0] {
        let scene = Scene::model();
        scene.hub.misbehave(Misbehaviour::Length {
            file: FILE.to_owned(),
            bytes,
        });
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(
            matches!(
                error,
                HubError::Length {
                    expected: 100_000,
                    ..
                }
            ),
            "{bytes}: {error}"
        );
        assert_says(&error.to_string(), &[FILE, "the Hub states 100000"]);
        assert!(scene.whole().is_empty(), "{bytes}");
    }
}

#[test]
fn names_that_leave_the_cache_are_refused_in_lists() {
    let hostile = [
        "../../../evil.pth",
        "/evil.pth",
        "a/../../evil.pth",
        "a\0.pth",
        "a//b.pth",
    ];
    for name in hostile {
        let scene = Scene::model();
        scene.hub.misbehave(Misbehaviour::List {
            name: name.to_owned(),
        });
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(matches!(error, HubError::Name { .. }), "{error}");
        assert_says(
            &error.to_string(),
            &["the list of its files", "it is not used"],
        );
        assert!(files(scene.folder.path()).is_empty());
    }
}

#[test]
fn names_that_are_no_file_everywhere_are_refused_once_they_are_chosen() {
    for name in [
        "..\\..\\evil.pth",
        "C:evil.pth",
        "nul.pth",
        "evil.pth. /x.pth",
    ] {
        let scene = Scene::of([(name, weights(1)), ("README.md", Vec::new())]);
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(matches!(error, HubError::Name { .. }), "{error}");
        assert!(files(scene.folder.path()).is_empty());
    }
    // Git allows such names, so a model beside one can be used.
    let scene = Scene::of([("a:b.txt", Vec::new()), (FILE, weights(1))]);
    scene.fetch(MODEL).unwrap();
}

#[test]
fn shards_that_leave_the_cache_are_refused() {
    for shard in [
        "../../evil.safetensors",
        "/etc/passwd",
        "..\\evil",
        "absent.safetensors",
    ] {
        let index = serde_json::json!({ "weight_map": { "a": shard } }).to_string();
        let scene = Scene::of([("model.safetensors.index.json", index)]);
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(
            matches!(error, HubError::Name { .. } | HubError::Index { .. }),
            "{error}"
        );
        assert_says(&error.to_string(), &["model.safetensors.index.json"]);
        let requests = scene.hub.requests();
        assert!(
            requests
                .iter()
                .all(|request| !request.path.contains("evil"))
        );
        assert!(!scene.repository().join("refs").exists());
    }
}

#[test]
fn hashes_that_are_no_hex_are_refused_before_they_become_a_path() {
    for id in [
        "../../../../evil",
        "",
        "ABCDEF",
        &"g".repeat(64),
        "/etc/passwd",
    ] {
        let scene = Scene::model();
        scene.hub.misbehave(Misbehaviour::Id {
            file: FILE.to_owned(),
            id: id.to_owned(),
        });
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(matches!(error, HubError::Id { .. }), "{error}");
        assert_says(&error.to_string(), &[FILE, "expected 40 or 64 hex digits"]);
        assert!(files(scene.folder.path()).is_empty());
    }
}

#[test]
fn tags_in_headers_never_become_a_path() {
    let scene = Scene::model();
    scene.hub.misbehave(Misbehaviour::Etag {
        value: "../../../../evil".to_owned(),
    });
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
    let all = files(scene.folder.path());
    assert!(
        all.iter()
            .all(|path| !path.to_str().unwrap().contains("evil"))
    );
}

#[test]
fn a_commit_that_is_none_or_another_is_refused() {
    let scene = Scene::model();
    for value in ["../../evil", "", "main"] {
        scene.hub.behave();
        scene.hub.misbehave(Misbehaviour::Commit {
            value: value.to_owned(),
        });
        assert_says(&scene.error(), &["expected 40 hex digits"]);
    }
    scene.hub.behave();
    let commit = scene.hub.commit(MODEL, "main").unwrap();
    let other = "0".repeat(40);
    scene.hub.misbehave(Misbehaviour::Commit {
        value: other.clone(),
    });
    let error = scene.fetch(&format!("{MODEL}@{commit}")).unwrap_err();
    assert_says(
        &error.to_string(),
        &[&format!("asked for commit {commit}"), &other],
    );
    assert!(files(scene.folder.path()).is_empty());
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let mut scene = Scene::model();
    scene.config.token = Some("hf_secret".to_owned());
    scene.fetch(MODEL).unwrap();
    for request in scene.hub.requests() {
        let token = request.header("authorization");
        let expected = (!request.to_contents).then_some("Bearer hf_secret");
        assert_eq!(token, expected, "{}", request.path);
    }
    // Neither where a redirect of the list leads, nor where it says that it goes on.
    let thief = LoopbackHub::empty();
    let elsewhere = format!("{}/api/models/{MODEL}/tree/x", thief.endpoint());
    scene.hub.misbehave(Misbehaviour::Redirect {
        path: "/tree/".to_owned(),
        location: elsewhere.clone(),
    });
    scene.fetch(MODEL).unwrap_err();
    assert!(!thief.requests().is_empty());
    assert!(
        thief
            .requests()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
    let seen = thief.requests().len();
    scene.hub.behave();
    scene.hub.misbehave(Misbehaviour::NextPage {
        address: elsewhere.clone(),
    });
    assert_says(&scene.error(), &["its next page is", &elsewhere]);
    assert_eq!(thief.requests().len(), seen);
}

#[test]
fn redirects_are_followed_until_they_are_too_many() {
    let scene = Scene::model();
    scene.fetch(MODEL).unwrap();
    let moved = format!("/api/models/{MODEL}");
    scene.hub.misbehave(Misbehaviour::Redirect {
        path: "/api/models/old/place".to_owned(),
        location: moved,
    });
    // A repository that was renamed: the Hub redirects its description, not its list.
    let error = scene.fetch("old/place").unwrap_err();
    assert!(!matches!(error, HubError::Client { .. }), "{error}");
    scene.hub.behave();
    scene.hub.misbehave(Misbehaviour::Redirect {
        path: "/api/".to_owned(),
        location: "/api/again".to_owned(),
    });
    let error = scene.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::Redirect { .. }), "{error}");
    assert_says(&error.to_string(), &["one too many"]);
}

#[test]
fn a_list_without_an_end_is_refused() {
    let scene = Scene::model();
    scene.hub.misbehave(Misbehaviour::NextPage {
        address: format!("{}/api/models/{MODEL}/tree/main", scene.hub.endpoint()),
    });
    assert_says(&scene.error(), &["its next page is"]);
    assert!(files(scene.folder.path()).is_empty());
}
