//! An export on the Hub.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use hf_hub::RepoTypeModel;
use hf_hub::progress::{ProgressEvent, ProgressHandler, UploadEvent};
use hf_hub::repository::{CommitInfo, CommitOperation};
use tokio::sync::mpsc;

use super::client::{Asked, Client, block_on};
use super::config::HubConfig;
use super::digest::{Hashes, of_file};
use super::error::HubError;
use super::listing;
use super::name;
use super::progress::Progress;
use super::reference::HubReference;

/// The slowest upload that is waited for, beyond the usual patience.
const SLOWEST: u64 = 64 << 10; // bytes per second

/// How to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// Whether a repository that is created is private.
    pub private: bool,
    /// The branch to commit to, made from `main` where it does not exist; `main` where none.
    pub revision: Option<String>,
    /// The commit's message.
    pub message: String,
    /// Whether to create the repository where it does not exist.
    pub create: bool,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self {
            private: false,
            revision: None,
            message: "Upload weights".to_owned(),
            create: true,
        }
    }
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The page of the repository at its branch.
    pub url: String,
    /// The commit, 40 hex digits.
    pub commit: String,
}

/// A file to publish.
struct Upload {
    name: String,
    path: PathBuf,
    size: u64,
    hashes: Hashes,
}

/// [`publish_with`] with what the environment says.
///
/// # Errors
///
/// See [`HubConfig::from_env`] and [`publish_with`].
pub fn publish(
    repository: &str,
    directory: &Path,
    options: &PublishOptions,
    progress: &mut dyn Progress,
) -> Result<Published, HubError> {
    publish_with(
        &HubConfig::from_env()?,
        repository,
        directory,
        options,
        progress,
    )
}

/// Puts the files of an export, and of folders in it, into `repository` in one commit: every plain
/// file whose name does not begin with a dot. Files of the repository that the export does not have
/// stay. Afterwards the Hub's list is compared with what was sent.
///
/// A commit may take [`HubConfig::timeout`] and a second for each 64 KiB.
///
/// # Errors
///
/// Fails without a token, offline, if `directory` holds no `model.safetensors` or something that is
/// no plain file, if the repository does not exist and may not be created, and as
/// [`snapshot_with`](super::snapshot_with) where the Hub refuses or fails.
pub fn publish_with(
    config: &HubConfig,
    repository: &str,
    directory: &Path,
    options: &PublishOptions,
    progress: &mut dyn Progress,
) -> Result<Published, HubError> {
    let mut reference = HubReference::new(repository)?;
    reference.revision.clone_from(&options.revision);
    reference.validate()?;
    if config.offline {
        return Err(HubError::Setting {
            setting: "HF_HUB_OFFLINE",
            value: "1".to_owned(),
            reason: "publishing needs the network; unset it".to_owned(),
        });
    }
    if config.token.is_none() {
        return Err(HubError::NoToken {
            repository: repository.to_owned(),
        });
    }
    let uploads = uploads(directory)?;
    block_on(upload(config, &reference, &uploads, options, progress))
}

async fn upload(
    config: &HubConfig,
    reference: &HubReference,
    uploads: &[Upload],
    options: &PublishOptions,
    progress: &mut dyn Progress,
) -> Result<Published, HubError> {
    let bytes: u64 = uploads.iter().map(|upload| upload.size).sum();
    let patience = config.timeout + Duration::from_secs(bytes / SLOWEST);
    let client = Client::new(config, patience)?;
    ready(&client, reference, options).await?;

    let asked = Asked {
        reference,
        file: None,
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let handler = hf_hub::progress::Progress::new(Forward(sender));
    let repository = client.repository(&reference.repository);
    let commit = client.retrying(async || {
        let commit = repository
            .create_commit()
            .operations(uploads.iter().map(Upload::operation).collect())
            .commit_message(&options.message)
            .revision(reference.revision_or_main())
            .progress(handler.clone())
            .send();
        match tokio::time::timeout(patience, commit).await {
            Ok(commit) => commit.map_err(|error| client.error(&asked, error)),
            Err(_) => Err(HubError::Timeout {
                what: format!("{}, the commit", reference.repository),
                within: patience,
            }),
        }
    });
    let mut commit = pin!(commit);
    for upload in uploads {
        progress.update(&upload.name, 0, upload.size);
    }
    let info = loop {
        tokio::select! {
            info = &mut commit => break info?,
            Some((file, done, total)) = events.recv() => progress.update(&file, done, total),
        }
    };
    let published = check(&client, reference, uploads, info).await?;
    for upload in uploads {
        progress.update(&upload.name, upload.size, upload.size);
    }
    Ok(published)
}

/// Sees to it that the repository and the branch exist.
async fn ready(
    client: &Client<'_>,
    reference: &HubReference,
    options: &PublishOptions,
) -> Result<(), HubError> {
    let plain = HubReference {
        revision: None,
        ..reference.clone()
    };
    let asked = Asked {
        reference: &plain,
        file: None,
    };
    let repository = client.repository(&reference.repository);
    let exists = client.retrying(async || {
        let exists = repository.exists().send().await;
        exists.map_err(|error| client.error(&asked, error))
    });
    if !exists.await? {
        if !options.create {
            return Err(HubError::RepositoryNotFound {
                repository: reference.repository.clone(),
                endpoint: client.config.endpoint.clone(),
            });
        }
        let create = client.retrying(async || {
            let created = client
                .hub
                .create_repository()
                .repo_id(&reference.repository)
                .repo_type(RepoTypeModel)
                .private(options.private)
                .exist_ok(true)
                .send();
            created.await.map_err(|error| client.error(&asked, error))
        });
        create.await?;
    }
    let Some(branch) = reference.revision.as_deref().filter(|name| *name != "main") else {
        return Ok(());
    };
    let asked = Asked {
        reference,
        file: None,
    };
    let exists = client.retrying(async || {
        let exists = repository.revision_exists().revision(branch).send().await;
        exists.map_err(|error| client.error(&asked, error))
    });
    if !exists.await? {
        let create = client.retrying(async || {
            let created = repository.create_branch().branch(branch).send().await;
            created.map_err(|error| client.error(&asked, error))
        });
        create.await?;
    }
    Ok(())
}

/// Compares the Hub's list of files at the new commit with what was sent.
async fn check(
    client: &Client<'_>,
    reference: &HubReference,
    uploads: &[Upload],
    info: CommitInfo,
) -> Result<Published, HubError> {
    let commit = match info.commit_oid {
        Some(commit) if listing::is_commit(&commit) => commit,
        _ => listing::resolve(client, reference).await?,
    };
    let listing = listing::files(client, reference, &commit).await?;
    for upload in uploads {
        let Some(entry) = listing.get(&upload.name) else {
            return Err(HubError::FileNotFound {
                repository: reference.repository.clone(),
                revision: commit,
                file: upload.name.clone(),
                found: listing.into_keys().collect(),
            });
        };
        upload.hashes.check(&upload.name, &entry.id)?;
    }
    let page = format!("{}/{}", client.config.endpoint, reference.repository);
    let url = match reference.revision_or_main() {
        "main" => page,
        branch => format!("{page}/tree/{branch}"),
    };
    Ok(Published { url, commit })
}

impl Upload {
    fn operation(&self) -> CommitOperation {
        CommitOperation::add_file(&self.name, &self.path)
    }
}

/// The plain files of an export by name, without hidden ones.
fn uploads(directory: &Path) -> Result<Vec<Upload>, HubError> {
    let export = |path: &Path, reason: &str| HubError::Export {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let mut uploads = Vec::new();
    let mut folders = vec![(directory.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let io = |error| HubError::io(&folder, error);
        for entry in std::fs::read_dir(&folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let path = entry.path();
            let Ok(file_name) = entry.file_name().into_string() else {
                return Err(export(&path, "its name is not Unicode"));
            };
            if file_name.starts_with('.') {
                continue;
            }
            let name = format!("{prefix}{file_name}");
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                folders.push((path, format!("{name}/")));
            } else if kind.is_file() {
                name::check(&name).map_err(|reason| HubError::Name {
                    source_of: directory.display().to_string(),
                    name: name.clone(),
                    reason,
                })?;
                let (size, hashes) = of_file(&path)?;
                uploads.push(Upload {
                    name,
                    path,
                    size,
                    hashes,
                });
            } else {
                return Err(export(
                    &path,
                    "expected plain files only, this is a link or device",
                ));
            }
        }
    }
    if !uploads
        .iter()
        .any(|upload| upload.name == "model.safetensors")
    {
        return Err(export(
            directory,
            "no model.safetensors in it; expected an export",
        ));
    }
    uploads.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(uploads)
}

/// Passes hf-hub's events on, from wherever it sends them.
struct Forward(mpsc::UnboundedSender<(String, u64, u64)>);

impl ProgressHandler for Forward {
    fn on_progress(&self, event: &ProgressEvent) {
        if let ProgressEvent::Upload(UploadEvent::Progress { files, .. }) = event {
            for file in files {
                // Nobody listens any more once the commit is made.
                let _ = self.0.send((
                    file.filename.clone(),
                    file.bytes_completed,
                    file.total_bytes,
                ));
            }
        }
    }
}
