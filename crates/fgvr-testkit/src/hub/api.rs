//! The Hub's addresses and what they answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Shared;
use super::answer::Answer;
use super::http::{Request, decoded};
use super::misbehaviour::{Misbehaviour, change};
use super::store::{Content, Files, Repository, Store, git, is_large, sha256};

/// Entries of a list on one page: few, so that every list has pages.
const PAGE: usize = 3;

/// The answer of the Hub itself.
pub(super) fn answer(
    shared: &Shared,
    store: &mut Store,
    misbehaviours: &mut [Misbehaviour],
    request: &Request,
) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let reading = matches!(request.method.as_str(), "GET" | "HEAD");
    if !reading && !request.has_token() {
        return Answer::error(401, "", "Invalid username or password.");
    }
    match segments.as_slice() {
        ["api", "repos", "create"] => create(shared, store, request),
        ["api", "models", owner, name, rest @ ..] => {
            let id = format!("{owner}/{name}");
            let Some(repository) = visible(store, &id, request) else {
                return absent();
            };
            match rest {
                [] => info(repository, misbehaviours, &id, "main"),
                ["revision", revision] => info(repository, misbehaviours, &id, revision),
                ["tree", revision] => list(shared, repository, misbehaviours, revision, request),
                ["preupload", _] => modes(request),
                ["branch", branch] => {
                    let main = repository.refs.get("main").cloned();
                    let repository = store.repositories.entry(id).or_default();
                    if let Some(main) = main {
                        repository.refs.insert((*branch).to_owned(), main);
                    }
                    Answer::json(&json!({}))
                }
                ["commit", branch] => commit(shared, store, &id, branch, request),
                _ => Answer::error(404, "", "no such address"),
            }
        }
        [_, name, "info", "lfs", "objects", "batch"] if name.ends_with(".git") => {
            Answer::json(&json!({ "transfer": "basic", "objects": [] }))
        }
        [owner, name, "resolve", revision, file @ ..] => {
            let id = format!("{owner}/{name}");
            let Some(repository) = visible(store, &id, request) else {
                return absent();
            };
            let file = file.join("/");
            resolve(
                shared,
                repository,
                misbehaviours,
                (revision, &file),
                request,
            )
        }
        _ => Answer::error(404, "", "no such address"),
    }
}

/// The answer of the server of large contents.
pub(super) fn content(
    store: &Store,
    misbehaviours: &mut [Misbehaviour],
    request: &Request,
) -> Answer {
    match store.large(request.path.trim_start_matches('/')) {
        Some((file, content)) => send(misbehaviours, file, content, request),
        None => Answer::error(404, "", "no such content"),
    }
}

fn visible<'s>(store: &'s Store, id: &str, request: &Request) -> Option<&'s Repository> {
    let repository = store.repositories.get(id)?;
    (!repository.private || request.has_token()).then_some(repository)
}

fn absent() -> Answer {
    Answer::error(404, "RepoNotFound", "Repository not found")
}

fn info(
    repository: &Repository,
    misbehaviours: &[Misbehaviour],
    id: &str,
    revision: &str,
) -> Answer {
    let Some(commit) = repository.commit(revision) else {
        if repository.refs.is_empty() && revision == "main" {
            return Answer::json(&json!({ "id": id, "private": repository.private }));
        }
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let lie = misbehaviours.iter().find_map(|m| match m {
        Misbehaviour::Commit { value } => Some(value.as_str()),
        _ => None,
    });
    Answer::json(&json!({
        "id": id,
        "private": repository.private,
        "sha": lie.unwrap_or(commit),
    }))
}

fn list(
    shared: &Shared,
    repository: &Repository,
    misbehaviours: &[Misbehaviour],
    revision: &str,
    request: &Request,
) -> Answer {
    let Some(commit) = repository.commit(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let mut files = repository.commits[commit].clone();
    for misbehaviour in misbehaviours {
        if let Misbehaviour::List { name } = misbehaviour {
            files.insert(name.clone(), Content::from(*b"listed"));
        }
    }
    let cursor: usize = request
        .query("cursor")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let page: Vec<Value> = files
        .iter()
        .skip(cursor)
        .take(PAGE)
        .map(|(name, content)| entry(misbehaviours, name, content))
        .collect();
    let answer = Answer::json(&page.into());
    let lie = misbehaviours.iter().find_map(|m| match m {
        Misbehaviour::NextPage { address } => Some(address.clone()),
        _ => None,
    });
    let path = request.path.split('?').next().unwrap_or_default();
    let next = cursor + PAGE;
    let true_next = (next < files.len())
        .then(|| format!("http://{}{path}?recursive=true&cursor={next}", shared.hub));
    match lie.or(true_next) {
        Some(address) => answer.header("Link", format!("<{address}>; rel=\"next\"")),
        None => answer,
    }
}

fn entry(misbehaviours: &[Misbehaviour], name: &str, content: &Content) -> Value {
    let lie = misbehaviours.iter().find_map(|m| match m {
        Misbehaviour::Id { file, id } if file == name => Some(id.clone()),
        _ => None,
    });
    let (size, hash) = (content.len(), sha256(content));
    if is_large(name) {
        // What git itself holds of a large file.
        let pointer =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hash}\nsize {size}\n");
        let lfs = json!({
            "oid": lie.unwrap_or(hash),
            "size": size,
            "pointerSize": pointer.len(),
        });
        let oid = git(pointer.as_bytes());
        return json!({ "type": "file", "path": name, "size": size, "oid": oid, "lfs": lfs });
    }
    let oid = lie.unwrap_or_else(|| git(content));
    json!({ "type": "file", "path": name, "size": size, "oid": oid })
}

fn resolve(
    shared: &Shared,
    repository: &Repository,
    misbehaviours: &mut [Misbehaviour],
    (revision, file): (&str, &str),
    request: &Request,
) -> Answer {
    let Some(commit) = repository.commit(revision) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let Some(content) = repository.commits[commit].get(file) else {
        return Answer::error(404, "EntryNotFound", "Entry not found");
    };
    if !is_large(file) {
        let answer = send(misbehaviours, file, content, request);
        return answer.header("X-Repo-Commit", commit);
    }
    let hash = sha256(content);
    let tag = misbehaviours.iter().find_map(|m| match m {
        Misbehaviour::Etag { value } => Some(value.clone()),
        _ => None,
    });
    Answer::new(302, Vec::new())
        .header("Location", format!("http://{}/{hash}", shared.contents))
        .header("X-Repo-Commit", commit)
        .header("X-Linked-Etag", format!("\"{}\"", tag.unwrap_or(hash)))
        .header("X-Linked-Size", content.len().to_string())
}

/// A content or the range of it that was asked for.
fn send(
    misbehaviours: &mut [Misbehaviour],
    file: &str,
    content: &Content,
    request: &Request,
) -> Answer {
    let mut content = content.clone();
    let mut ranges = true;
    for misbehaviour in &*misbehaviours {
        match misbehaviour {
            Misbehaviour::Content {
                file: name,
                content: other,
            } if name == file => content = other.as_slice().into(),
            Misbehaviour::Length { file: name, bytes } if name == file => {
                let mut other = content.to_vec();
                other.resize(*bytes, 0);
                content = other.into();
            }
            Misbehaviour::IgnoreRange => ranges = false,
            _ => {}
        }
    }
    let tag = if is_large(file) {
        sha256(&content)
    } else {
        git(&content)
    };
    let range = request.header("range").filter(|_| ranges).map(|text| {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let last = last.parse().map_or(content.len(), |last: usize| last + 1);
        Some(first.parse().ok()?..last.min(content.len()))
    });
    let mut answer = match range {
        None => Answer::new(200, content),
        Some(Some(range)) if range.start < range.end => {
            let stated = format!("bytes {}-{}/{}", range.start, range.end - 1, content.len());
            Answer::new(206, &content[range]).header("Content-Range", stated)
        }
        Some(_) => return Answer::error(416, "", "no such range"),
    };
    answer = answer.header("ETag", format!("\"{tag}\""));
    change(misbehaviours, file, request.method == "HEAD", &mut answer);
    answer
}

fn create(shared: &Shared, store: &mut Store, request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |key: &str| body[key].as_str().unwrap_or_default();
    let id = format!("{}/{}", text("organization"), text("name"));
    if store.repositories.contains_key(&id) {
        return Answer::error(409, "", "You already created this model repo");
    }
    let repository = store.repositories.entry(id.clone()).or_default();
    repository.private = body["private"].as_bool().unwrap_or_default();
    Answer::json(&json!({ "url": format!("http://{}/{id}", shared.hub) }))
}

/// Which files are to be sent as large ones.
fn modes(request: &Request) -> Answer {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let files = body["files"].as_array().cloned().unwrap_or_default();
    let mode = |file: &Value| {
        let path = file["path"].as_str().unwrap_or_default();
        let mode = if is_large(path) { "lfs" } else { "regular" };
        json!({ "path": path, "uploadMode": mode, "shouldIgnore": false })
    };
    let files: Vec<Value> = files.iter().map(mode).collect();
    Answer::json(&json!({ "files": files }))
}

/// A commit comes as lines of JSON: a header, then the files with their contents in base64.
fn commit(shared: &Shared, store: &mut Store, id: &str, branch: &str, request: &Request) -> Answer {
    let repository = store.repositories.entry(id.to_owned()).or_default();
    let parent = repository.refs.get(branch);
    let mut files: Files = parent
        .and_then(|commit| repository.commits.get(commit))
        .cloned()
        .unwrap_or_default();
    for line in request.body.split(|byte| *byte == b'\n') {
        let line: Value = serde_json::from_slice(line).unwrap_or_default();
        let value = &line["value"];
        let path = value["path"].as_str().unwrap_or_default().to_owned();
        match line["key"].as_str() {
            Some("file") => {
                let content = value["content"].as_str().unwrap_or_default();
                let Ok(content) = STANDARD.decode(content) else {
                    return Answer::error(400, "", "a file is not in base64");
                };
                files.insert(path, content.into());
            }
            Some("deletedFile") => {
                files.remove(&path);
            }
            Some("lfsFile") => return Answer::error(400, "", "no large file was uploaded"),
            _ => {}
        }
    }
    let commit = store.push(id, branch, files);
    Answer::json(&json!({
        "success": true,
        "commitOid": commit,
        "commitUrl": format!("http://{}/{id}/commit/{commit}", shared.hub),
    }))
}
