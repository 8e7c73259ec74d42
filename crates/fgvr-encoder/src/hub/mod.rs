//! Weights from and to the Hugging Face Hub.
//!
//! [`HubReference`] and [`Progress`] are always there. The rest needs the feature `hub`:
//! `snapshot` fetches the weights of a repository into the cache that Python's `huggingface_hub`
//! uses, and `publish` puts an export on the Hub.
//!
//! The crate `hf-hub` 1.0 talks to the Hub: it resolves revisions, streams contents, makes
//! repositories, branches and commits. Added here is what it does not do:
//!
//! - The SHA-256 that the Hub states for large files, and git's SHA-1 of small ones, is compared
//!   with the content before a file gets a name under which anything would read it. hf-hub drops the
//!   SHA-256 from the list of files, so that one request is made here, and it compares nothing.
//! - Names of files and hashes are checked before they become paths; hf-hub joins both to paths as
//!   they come, so its cache is not used. Ours has the same layout, names and locks as Python's.
//! - `HF_HUB_OFFLINE`; limits on silence; `Retry-After`; a download that goes on where it broke off;
//!   no redirect from https to an open connection.

mod name;
mod progress;
mod reference;

#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod config;
#[cfg(feature = "hub")]
mod digest;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod error;
#[cfg(feature = "hub")]
mod listing;
#[cfg(feature = "hub")]
mod lock;
#[cfg(feature = "hub")]
mod publish;
#[cfg(feature = "hub")]
mod selection;
#[cfg(feature = "hub")]
mod snapshot;

pub use progress::{Progress, Silent};
pub use reference::{HubReference, ReferenceError};

#[cfg(feature = "hub")]
pub use self::{
    config::HubConfig,
    error::HubError,
    publish::{PublishOptions, Published, publish, publish_with},
    snapshot::{Snapshot, SnapshotFile, snapshot, snapshot_with},
};
