//! What can go wrong between here and the Hub.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error in talking to the Hub or in its cache. Each says what was asked for, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The reference names nothing that the Hub can have.
    #[error(transparent)]
    Reference(#[from] super::ReferenceError),
    /// A setting that cannot be used.
    #[error("{setting} is {value:?}: {reason}")]
    Setting {
        /// The setting, by its variable's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The network may not be used, and the cache lacks something.
    #[error(
        "{repository} at {revision}: HF_HUB_OFFLINE is set, and the cache {} lacks {missing}; \
         run once without HF_HUB_OFFLINE, or on a machine with a network run `hf download \
         {repository} --revision {revision}` and copy its cache here",
        cache.display()
    )]
    Offline {
        /// The repository.
        repository: String,
        /// The revision asked for.
        revision: String,
        /// The cache.
        cache: PathBuf,
        /// What it lacks.
        missing: String,
    },
    /// 401: no token, or a token that the Hub does not take.
    #[error(
        "{what}: the Hub wants to know who asks (401{}); {}",
        said(message),
        if *token {
            "the token in HF_TOKEN or its file was refused: make one at \
             https://huggingface.co/settings/tokens"
        } else {
            "the repository is private, gated or absent: set HF_TOKEN to a token from \
             https://huggingface.co/settings/tokens, or check the name"
        }
    )]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// Whether a token was sent.
        token: bool,
        /// What the Hub said.
        message: Option<String>,
    },
    /// 403: the token is known but may not do this.
    #[error(
        "{what}: the Hub refuses (403{}); open {page} with the account of HF_TOKEN, accept the \
         licence there if one is asked for, and see that the token may read or write as needed",
        said(message)
    )]
    Forbidden {
        /// What was asked for.
        what: String,
        /// The repository's page.
        page: String,
        /// What the Hub said.
        message: Option<String>,
    },
    /// 404: no such repository.
    #[error("{repository}: {endpoint} has no such repository, or none that this token may see")]
    RepositoryNotFound {
        /// The repository.
        repository: String,
        /// The Hub asked.
        endpoint: String,
    },
    /// 404: no such branch, tag or commit.
    #[error(
        "{repository}: no revision {revision}; expected a branch, a tag or a commit's 40 digits"
    )]
    RevisionNotFound {
        /// The repository.
        repository: String,
        /// The revision asked for.
        revision: String,
    },
    /// 404, or not in the list of files.
    #[error("{repository} at {revision}: no file {file}; {}", listed(found))]
    FileNotFound {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The file asked for.
        file: String,
        /// The files that are there, where known.
        found: Vec<String>,
    },
    /// No file looks like weights.
    #[error(
        "{repository} at {revision}: no weights, expected model.safetensors, pytorch_model.bin or \
         their index, or one .safetensors, .pth or .pth.tar; {}",
        listed(found)
    )]
    NoWeights {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The files that are there.
        found: Vec<String>,
    },
    /// More than one file looks like weights.
    #[error(
        "{repository} at {revision}: several files of weights, {}; name one, as in {repository}:{}",
        found.join(", "),
        found.first().map_or("FILE", String::as_str)
    )]
    SeveralWeights {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// The files to choose from.
        found: Vec<String>,
    },
    /// 429, more often than there are retries, or with a wait longer than allowed.
    #[error(
        "{what}: too many requests (429) after {attempts} attempts{}; wait, or set HF_TOKEN for a \
         higher limit",
        after.map(|after| format!(", to be asked again in {} s", after.as_secs())).unwrap_or_default()
    )]
    RateLimited {
        /// What was asked for.
        what: String,
        /// How often it was asked for.
        attempts: usize,
        /// How long the Hub wants to be left alone.
        after: Option<Duration>,
    },
    /// Another status than success, after the retries where they make sense.
    #[error(
        "{what}: the Hub answers {status}{} after {attempts} attempts",
        said(message)
    )]
    Status {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// How often it was asked for.
        attempts: usize,
        /// What the Hub said.
        message: Option<String>,
    },
    /// The Hub was silent for too long.
    #[error(
        "{what}: no answer within {:.1} s; HF_HUB_OFFLINE=1 takes what the cache holds",
        within.as_secs_f64()
    )]
    Timeout {
        /// What was asked for.
        what: String,
        /// How long was waited.
        within: Duration,
    },
    /// No connection, or a broken one.
    #[error("{what}: no connection: {reason}; HF_HUB_OFFLINE=1 takes what the cache holds")]
    Connection {
        /// What was asked for.
        what: String,
        /// What the network said.
        reason: String,
    },
    /// A redirect to somewhere it may not lead.
    #[error("{what}: a redirect that is not followed: {reason}")]
    Redirect {
        /// What was asked for.
        what: String,
        /// Why not.
        reason: String,
    },
    /// An answer that does not make sense.
    #[error("{what}: the Hub's answer makes no sense: {reason}")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file name that must not become a path.
    #[error("{source_of}: the file name {name:?} {reason}; it is not used")]
    Name {
        /// Where the name stands.
        source_of: String,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A content id that is not hex.
    #[error("{file}: the Hub states the hash {id:?}, expected 40 or 64 hex digits; it is not used")]
    Id {
        /// The file.
        file: String,
        /// What was stated.
        id: String,
    },
    /// An index of shards that cannot be used.
    #[error("{file}: {reason}")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More or fewer bytes than stated.
    #[error("{file}: {found} bytes, the Hub states {expected}; nothing of it is used")]
    Length {
        /// The file.
        file: String,
        /// Bytes stated.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Another content than stated.
    #[error(
        "{file}: {algorithm} is {found}, the Hub states {expected}; the content was damaged or \
         changed on its way and is not used"
    )]
    Hash {
        /// The file.
        file: String,
        /// Which hash.
        algorithm: &'static str,
        /// What was stated.
        expected: String,
        /// What was found.
        found: String,
    },
    /// A file of the cache is not what its name says.
    #[error("{}: {reason}; remove it, and it will be fetched again", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process fetches the same file and does not get on.
    #[error(
        "{}: another process holds this lock and has fetched nothing for {:.1} s",
        path.display(),
        waited.as_secs_f64()
    )]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// Publishing without a token.
    #[error(
        "{repository}: publishing needs a token that may write: set HF_TOKEN to one from \
         https://huggingface.co/settings/tokens, or run `hf auth login`"
    )]
    NoToken {
        /// The repository.
        repository: String,
    },
    /// A folder that is no export.
    #[error("{}: {reason}", path.display())]
    Export {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        r#source: std::io::Error,
    },
    /// The client library failed in another way.
    #[error("{what}: {reason}")]
    Client {
        /// What was asked for.
        what: String,
        /// What it said.
        reason: String,
    },
}

impl HubError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the same request may well succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Connection { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// The error with the number of attempts that led to it.
    pub(super) fn after_attempts(mut self, number: usize) -> Self {
        if let Self::RateLimited { attempts, .. } | Self::Status { attempts, .. } = &mut self {
            *attempts = number;
        }
        self
    }
}

fn said(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or_else(String::new, |text| format!(": {}", shown(text)))
}

fn listed(found: &[String]) -> String {
    const MOST: usize = 20;
    if found.is_empty() {
        return "it lists no files".to_owned();
    }
    let names: Vec<String> = found.iter().take(MOST).map(|name| shown(name)).collect();
    let more = found.len().saturating_sub(MOST);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("it has {}{more}", names.join(", "))
}

/// A text from outside, short and without what would steer a terminal.
pub(super) fn shown(text: &str) -> String {
    crate::text::shortened(text, 500)
}
