//! Which files a commit has, how long they are and what their hashes are.

use std::collections::BTreeMap;

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;

use super::client::{Asked, Client, Refusal, retry_after};
use super::digest::ObjectId;
use super::error::{HubError, shown};
use super::name;
use super::reference::HubReference;

/// A list is refused beyond these: no model has so many files.
const MOST_BYTES: usize = 64 << 20;
const MOST_PAGES: usize = 200;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) id: ObjectId,
}

/// The files of a commit by name.
pub(super) type Listing = BTreeMap<String, Entry>;

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// The commit that the reference's revision stands for now.
pub(super) async fn resolve(
    client: &Client<'_>,
    reference: &HubReference,
) -> Result<String, HubError> {
    let asked = Asked {
        reference,
        file: None,
    };
    let repository = client.repository(&reference.repository);
    let info = client
        .retrying(async || {
            let info = repository.info().maybe_revision(reference.revision.clone());
            info.send().await.map_err(|e| client.error(&asked, e))
        })
        .await?;
    let commit = info.sha.unwrap_or_default();
    let malformed = |reason| HubError::Malformed {
        what: reference.repository.clone(),
        reason,
    };
    if !is_commit(&commit) {
        let commit = shown(&commit);
        return Err(malformed(format!(
            "its commit is {commit:?}, expected 40 hex digits"
        )));
    }
    match reference.revision.as_deref() {
        Some(asked) if is_commit(asked) && asked != commit => Err(malformed(format!(
            "asked for commit {asked}, it gives {commit}"
        ))),
        _ => Ok(commit),
    }
}

/// Whether `text` is the name of a commit, not of a branch or tag.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(ObjectId::parse(text), Some(ObjectId::GitBlob(_)))
}

/// The files of `commit`.
///
/// hf-hub asks for the same list but drops the SHA-256 of large files from the answer (it expects it
/// as `sha256`, and it comes as `oid`), so this one request is made here.
pub(super) async fn files(
    client: &Client<'_>,
    reference: &HubReference,
    commit: &str,
) -> Result<Listing, HubError> {
    let malformed = |reason: String| HubError::Malformed {
        what: format!("{}, the list of its files", reference.repository),
        reason,
    };
    let endpoint = &client.config.endpoint;
    let first = format!(
        "{endpoint}/api/models/{}/tree/{commit}?recursive=true",
        reference.repository
    );
    let mut next = Some(Url::parse(&first).map_err(|error| malformed(error.to_string()))?);
    let origin = next.as_ref().map(Url::origin);
    let mut listing = Listing::new();
    let mut pages = 0;
    while let Some(url) = next.take() {
        pages += 1;
        // The token goes along, so no answer may choose where the next page is.
        if Some(url.origin()) != origin || pages > MOST_PAGES {
            return Err(malformed(format!(
                "its next page is {}",
                shown(url.as_str())
            )));
        }
        let (items, link) = client
            .retrying(async || page(client, reference, &url).await)
            .await?;
        let items: Vec<Item> =
            serde_json::from_slice(&items).map_err(|error| malformed(error.to_string()))?;
        for item in items.into_iter().filter(|item| item.kind == "file") {
            let entry = entry(&reference.repository, item)?;
            listing.insert(entry.name.clone(), entry);
        }
        next = link;
    }
    Ok(listing)
}

fn entry(repository: &str, item: Item) -> Result<Entry, HubError> {
    name::possible(&item.path).map_err(|reason| HubError::Name {
        source_of: format!("{repository}, the list of its files"),
        name: shown(&item.path),
        reason,
    })?;
    let (id, size) = match item.lfs {
        Some(lfs) => (lfs.oid, lfs.size),
        None => (item.oid, item.size),
    };
    let Some(parsed) = ObjectId::parse(&id) else {
        return Err(HubError::Id {
            file: item.path,
            id: shown(&id),
        });
    };
    Ok(Entry {
        name: item.path,
        size,
        id: parsed,
    })
}

async fn page(
    client: &Client<'_>,
    reference: &HubReference,
    url: &Url,
) -> Result<(Vec<u8>, Option<Url>), HubError> {
    let asked = Asked {
        reference,
        file: None,
    };
    let mut request = client.http.get(url.clone());
    if let Some(token) = &client.config.token {
        request = request.bearer_auth(token);
    }
    let lost = |error: reqwest::Error| client.transport(&asked, &error);
    let mut answer = request.send().await.map_err(lost)?;
    if !answer.status().is_success() {
        let header = |name| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let refusal = Refusal {
            status: answer.status().as_u16(),
            code: header("x-error-code"),
            message: header("x-error-message"),
            retry_after: retry_after(answer.headers()),
        };
        return Err(client.refused(&asked, refusal));
    }
    let link = next_page(answer.headers());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(HubError::Malformed {
                what: format!("{}, the list of its files", reference.repository),
                reason: format!("it is longer than {MOST_BYTES} bytes"),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, link))
}

/// The address in `Link: <address>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<Url> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let part = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let (_, rest) = part.split_once('<')?;
    Url::parse(rest.split_once('>')?.0).ok()
}
