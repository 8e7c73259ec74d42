//! Repositories in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub(super) type Content = Arc<[u8]>;
pub(super) type Files = BTreeMap<String, Content>;

#[derive(Default)]
pub(super) struct Store {
    pub(super) repositories: BTreeMap<String, Repository>,
}

#[derive(Default)]
pub(super) struct Repository {
    pub(super) private: bool,
    pub(super) refs: BTreeMap<String, String>,
    pub(super) commits: BTreeMap<String, Files>,
}

impl Store {
    /// Commits `files` to a branch; gives the commit, which depends on nothing but what is committed.
    pub(super) fn push(&mut self, repository: &str, branch: &str, files: Files) -> String {
        let entry = self.repositories.entry(repository.to_owned()).or_default();
        let mut hasher = Sha1::new();
        hasher.update(repository);
        hasher.update(entry.refs.get(branch).map_or("", String::as_str));
        for (name, content) in &files {
            hasher.update(name);
            hasher.update(sha256(content));
        }
        let commit = hex(&hasher.finalize());
        entry.commits.insert(commit.clone(), files);
        entry.refs.insert(branch.to_owned(), commit.clone());
        commit
    }

    /// The name and content of a large file by its hash.
    pub(super) fn large(&self, hash: &str) -> Option<(&str, &Content)> {
        self.repositories
            .values()
            .flat_map(|repository| repository.commits.values())
            .flatten()
            .find(|(_, content)| sha256(content) == hash)
            .map(|(name, content)| (name.as_str(), content))
    }
}

impl Repository {
    /// The commit of a branch or tag, or the commit itself.
    pub(super) fn commit(&self, revision: &str) -> Option<&str> {
        let commit = self.refs.get(revision).map_or(revision, String::as_str);
        self.commits
            .get_key_value(commit)
            .map(|(commit, _)| commit.as_str())
    }
}

/// Whether the Hub keeps a file of this name outside git.
pub(super) fn is_large(name: &str) -> bool {
    [".safetensors", ".bin", ".pth", ".tar"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

pub(super) fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// The name that git gives a content.
pub(super) fn git(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
