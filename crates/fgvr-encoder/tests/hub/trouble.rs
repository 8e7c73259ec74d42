//! A Hub or a network in trouble: each ends in an error that says what to do, or in success after
//! some retries, and never in a file that looks whole and is not.

use std::time::{Duration, Instant};

use fgvr_encoder::hub::HubError;
use fgvr_testkit::Misbehaviour;

use super::{MODEL, Scene, assert_says, weights};

const FILE: &str = "model.safetensors";

fn status(path: &str, status: u16, times: usize, headers: &[(&str, &str)]) -> Misbehaviour {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Misbehaviour::Status {
        path: path.to_owned(),
        status,
        times,
        headers: headers.iter().map(owned).collect(),
    }
}

fn truncate(bytes: usize, times: usize) -> Misbehaviour {
    Misbehaviour::Truncate {
        file: FILE.to_owned(),
        bytes,
        times,
    }
}

#[test]
fn absent_repositories_revisions_and_files_are_named() {
    let scene = Scene::model();
    let error = scene.fetch("owner/other").unwrap_err();
    assert!(matches!(error, HubError::RepositoryNotFound { .. }));
    let endpoint = scene.hub.endpoint();
    assert_says(
        &error.to_string(),
        &["owner/other", &endpoint, "no such repository"],
    );
    let error = scene.fetch("owner/other@v1").unwrap_err();
    assert!(
        matches!(error, HubError::RepositoryNotFound { .. }),
        "{error}"
    );
    let error = scene.fetch("owner/name@v9").unwrap_err();
    assert!(matches!(error, HubError::RevisionNotFound { .. }));
    assert_says(&error.to_string(), &["owner/name", "no revision v9"]);
    // Listed, and gone when it is asked for.
    scene.hub.misbehave(status(
        "/resolve/",
        404,
        9,
        &[("X-Error-Code", "EntryNotFound")],
    ));
    let error = scene.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::FileNotFound { .. }));
    assert_says(&error.to_string(), &["owner/name at main", FILE]);
    assert!(scene.whole().is_empty());
}

#[test]
fn without_a_token_401_says_which_variable_to_set() {
    let mut scene = Scene::model();
    scene.hub.misbehave(status("/api/models", 401, 99, &[]));
    assert_says(&scene.error(), &[MODEL, "401", "set HF_TOKEN"]);
    scene.config.token = Some("hf_wrong".to_owned());
    let error = scene.error();
    assert_says(&error, &["the token in HF_TOKEN or its file was refused"]);
    assert!(!error.contains("hf_wrong"));
    assert!(scene.whole().is_empty());
}

#[test]
fn with_a_token_403_says_where_to_accept_the_licence() {
    let mut scene = Scene::model();
    scene.config.token = Some("hf_token".to_owned());
    scene.hub.misbehave(status(
        "/resolve/",
        403,
        99,
        &[("X-Error-Code", "GatedRepo")],
    ));
    let page = format!("{}/{MODEL}", scene.hub.endpoint());
    assert_says(&scene.error(), &["403", &page, "accept the licence"]);
    assert!(scene.whole().is_empty());
}

#[test]
fn a_limit_on_requests_is_waited_out_as_often_as_there_are_retries() {
    let scene = Scene::model();
    scene
        .hub
        .misbehave(status("/tree/", 429, 2, &[("Retry-After", "0")]));
    scene.fetch(MODEL).unwrap();
    let scene = Scene::model();
    scene.hub.misbehave(status("/tree/", 429, 3, &[]));
    let error = scene.fetch(MODEL).unwrap_err();
    assert_says(
        &error.to_string(),
        &[MODEL, "429", "after 3 attempts", "HF_TOKEN"],
    );
    assert!(scene.whole().is_empty());
}

#[test]
fn a_wait_longer_than_the_timeout_is_not_waited() {
    let scene = Scene::model();
    for path in ["/api/models", "/resolve/"] {
        scene.hub.behave();
        scene
            .hub
            .misbehave(status(path, 429, 1, &[("Retry-After", "3600")]));
        let begun = Instant::now();
        assert_says(&scene.error(), &["429", "asked again in 3600 s"]);
        assert!(begun.elapsed() < scene.config.timeout);
    }
}

#[test]
fn retry_after_is_heeded() {
    let scene = Scene::model();
    scene
        .hub
        .misbehave(status("/resolve/", 429, 1, &[("Retry-After", "1")]));
    let begun = Instant::now();
    scene.fetch(MODEL).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn errors_of_the_server_are_retried_and_then_told() {
    for path in ["/revision/", "/tree/", "/resolve/"] {
        for code in [500, 502, 503, 504] {
            let scene = Scene::model();
            scene.hub.misbehave(status(path, code, 2, &[]));
            let reference = format!("{MODEL}@main");
            let snapshot = scene.fetch(&reference).unwrap();
            assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
        }
    }
    let scene = Scene::model();
    scene.hub.misbehave(status("/resolve/", 500, 99, &[]));
    let error = scene.error();
    assert_says(
        &error,
        &[FILE, "answers 500", "told to misbehave", "after 3 attempts"],
    );
    assert!(scene.whole().is_empty());
    // What cannot get better is asked for once.
    scene.hub.behave();
    scene.hub.misbehave(status("/tree/", 418, 99, &[]));
    let before = scene.hub.requests().len();
    assert_says(&scene.error(), &["answers 418", "after 1 attempts"]);
    assert_eq!(scene.hub.requests().len(), before + 2);
}

#[test]
fn a_server_that_hangs_ends_in_an_error_in_the_time_stated() {
    for path in ["/api/models", "/tree/", "/resolve/"] {
        let mut scene = Scene::model();
        scene.config.timeout = Duration::from_millis(300);
        scene
            .hub
            .misbehave(Misbehaviour::Hang { path: path.into() });
        let begun = Instant::now();
        let error = scene.fetch(MODEL).unwrap_err();
        assert!(matches!(error, HubError::Timeout { .. }), "{error}");
        assert_says(
            &error.to_string(),
            &[MODEL, "no answer within 0.3 s", "HF_HUB_OFFLINE=1"],
        );
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "{path}: {:?}",
            begun.elapsed()
        );
        assert!(scene.whole().is_empty());
    }
}

#[test]
fn a_content_that_stalls_is_an_error_and_goes_on_from_there_next_time() {
    let mut scene = Scene::model();
    scene.config.timeout = Duration::from_millis(300);
    scene.config.retries = 0;
    let stall = Misbehaviour::Stall {
        file: FILE.to_owned(),
        bytes: 40_000,
    };
    scene.hub.misbehave(stall);
    let error = scene.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::Timeout { .. }), "{error}");
    assert!(scene.whole().is_empty());
    scene.hub.behave();
    scene.config.timeout = Duration::from_secs(20);
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
    let requests = scene.hub.requests();
    let last = requests
        .iter()
        .rfind(|r| r.to_contents && r.method == "GET");
    assert_eq!(last.unwrap().header("range"), Some("bytes=40000-99999"));
}

#[test]
fn a_content_cut_short_is_continued_within_the_call() {
    let scene = Scene::model();
    scene.hub.misbehave(truncate(30_000, 2));
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
    let requests = scene.hub.requests();
    let ranges = requests
        .iter()
        .filter(|r| r.to_contents && r.method == "GET");
    let ranges: Vec<_> = ranges.map(|r| r.header("range")).collect();
    assert_eq!(
        ranges,
        [None, Some("bytes=30000-99999"), Some("bytes=60000-99999")]
    );
}

#[test]
fn a_content_cut_short_every_time_is_an_error_and_nothing_looks_whole() {
    let mut scene = Scene::model();
    scene.config.retries = 1;
    scene.hub.misbehave(truncate(10_000, 99));
    let error = scene.fetch(MODEL).unwrap_err();
    assert!(matches!(error, HubError::Connection { .. }), "{error}");
    assert_says(&error.to_string(), &[MODEL, FILE]);
    assert!(scene.whole().is_empty());
    scene.config.offline = true;
    assert_says(&scene.error(), &["lacks the revision"]);
}

#[test]
fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let mut scene = Scene::model();
    scene.config.retries = 0;
    scene.hub.misbehave(truncate(30_000, 1));
    scene.fetch(MODEL).unwrap_err();
    scene.hub.misbehave(Misbehaviour::IgnoreRange);
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
}

#[test]
fn a_beginning_that_was_damaged_on_disk_is_thrown_away() {
    let mut scene = Scene::model();
    scene.config.retries = 0;
    scene.hub.misbehave(truncate(30_000, 1));
    scene.fetch(MODEL).unwrap_err();
    let blobs = super::files(&scene.repository().join("blobs"));
    let partial = blobs
        .iter()
        .find(|path| path.to_str().unwrap().ends_with(".incomplete"));
    std::fs::write(partial.unwrap(), vec![7; 30_000]).unwrap();
    let snapshot = scene.fetch(MODEL).unwrap();
    assert_eq!(std::fs::read(snapshot.weights).unwrap(), weights(1));
}

#[test]
fn answers_that_are_no_json_are_an_error() {
    for path in ["/api/models/owner/name", "/tree/"] {
        let scene = Scene::model();
        scene.hub.misbehave(Misbehaviour::Text {
            path: path.into(),
            text: "<html>welcome to the airport</html>".into(),
        });
        let error = scene.error();
        assert_says(&error, &[MODEL]);
        assert!(!error.contains('\n'));
        assert!(scene.whole().is_empty());
    }
}

#[test]
fn what_the_network_says_is_said_whole() {
    use std::net::ToSocketAddrs as _;
    // Names below `invalid` never exist.
    let host = "no-such-host-of-a-rather-long-name-that-leaves-little-room.invalid";
    let mut scene = Scene::model();
    scene.config.endpoint = format!("http://{host}");
    scene.config.retries = 0;
    let said = (host, 80).to_socket_addrs().unwrap_err().to_string();
    let error = scene.error();
    assert_says(
        &error,
        &["no connection", &format!("{said}; HF_HUB_OFFLINE=1")],
    );
    assert_eq!(error.matches(&said).count(), 1, "{error}");
}
