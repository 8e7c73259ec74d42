//! hf-hub's client with limits on time, and its errors in our words.

use std::future::Future;
use std::time::Duration;

use hf_hub::repository::{HFRepository, RepoTypeModel};
use hf_hub::{HFClient, HFError};
use reqwest::header::HeaderMap;
use reqwest::redirect;

use super::config::HubConfig;
use super::error::{HubError, shown};
use super::reference::HubReference;

const MOST_REDIRECTS: usize = 10;

/// hf-hub's client, and the HTTP client below it for what hf-hub leaves out.
pub(super) struct Client<'c> {
    pub(super) config: &'c HubConfig,
    pub(super) hub: HFClient,
    pub(super) http: reqwest::Client,
}

impl Default for Refusal {
    fn default() -> Self {
        Self {
            status: 404,
            code: None,
            message: None,
            retry_after: None,
        }
    }
}

/// What a request is about, for its error.
pub(super) struct Asked<'a> {
    pub(super) reference: &'a HubReference,
    pub(super) file: Option<&'a str>,
}

/// The parts of an answer that is no success.
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

impl<'c> Client<'c> {
    /// A client that gives up after `silence` without a byte.
    pub(super) fn new(config: &'c HubConfig, silence: Duration) -> Result<Self, HubError> {
        config.validate()?;
        let error = |reason: String| HubError::Client {
            what: config.endpoint.clone(),
            reason,
        };
        // hf-hub sets no limit on time, so it is given a client that has them.
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("fgvr/", env!("CARGO_PKG_VERSION"), "; hf-hub/1"))
            .connect_timeout(config.timeout)
            .read_timeout(silence)
            .redirect(redirects());
        if is_loopback(&config.endpoint) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|e| error(chain(&e)))?;
        // Without a token hf-hub would look for one itself, even where the configuration says there
        // is none; it leaves out one that no header can hold.
        let token = config.token.clone().unwrap_or_else(|| "\n".to_owned());
        let hub = HFClient::builder()
            .endpoint(&config.endpoint)
            .cache_dir(&config.cache)
            // hf-hub's cache joins names and etags from the network to paths; ours checks them.
            .cache_enabled(false)
            .client(http.clone())
            .token(token)
            // It waits without heeding `Retry-After`; `retrying` heeds it.
            .retry_max_attempts(0)
            .build()
            .map_err(|e| error(e.to_string()))?;
        Ok(Self { config, hub, http })
    }

    /// hf-hub's handle of a repository.
    pub(super) fn repository(&self, id: &str) -> HFRepository<RepoTypeModel> {
        let (owner, name) = hf_hub::split_id(id);
        self.hub.model(owner, name)
    }

    /// Makes a request, and makes it again where that may help.
    pub(super) async fn retrying<T, F, R>(&self, mut request: F) -> Result<T, HubError>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, HubError>>,
    {
        let mut attempt = 1;
        loop {
            let error = match request().await {
                Ok(value) => return Ok(value),
                Err(error) => error.after_attempts(attempt),
            };
            self.wait_to_retry(error, attempt).await?;
            attempt += 1;
        }
    }

    /// Waits before the attempt after number `attempt`; gives the error back where there is none.
    pub(super) async fn wait_to_retry(
        &self,
        error: HubError,
        attempt: usize,
    ) -> Result<(), HubError> {
        if !error.is_transient() || attempt > self.config.retries {
            return Err(error);
        }
        let doubled = 1u32 << (attempt - 1).min(16);
        let mut wait = (self.config.backoff * doubled).min(self.config.timeout);
        if let HubError::RateLimited {
            after: Some(after), ..
        } = &error
        {
            if *after > self.config.timeout {
                return Err(error);
            }
            wait = wait.max(*after);
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// hf-hub's error in our words.
    pub(super) fn error(&self, asked: &Asked<'_>, error: HFError) -> HubError {
        let what = asked.what();
        let (context, retry_after) = match error {
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Conflict { context } => (Some(context), None),
            HFError::RateLimited {
                retry_after,
                context,
            } => (Some(context), retry_after),
            HFError::RepoNotFound { context, .. }
            | HFError::RevisionNotFound { context, .. }
            | HFError::EntryNotFound { context, .. } => (context, None),
            HFError::Request { source, .. } => return self.transport(asked, &source),
            HFError::Json(source) => {
                let reason = source.to_string();
                return HubError::Malformed { what, reason };
            }
            HFError::MalformedResponse { what: reason, .. } => {
                let reason = shown(&reason);
                return HubError::Malformed { what, reason };
            }
            other => {
                let reason = shown(&chain(&other));
                return HubError::Client { what, reason };
            }
        };
        // Without a context hf-hub has only said that something is not there.
        let refusal = context.map_or(Refusal::default(), |context| Refusal {
            status: context.status.as_u16(),
            code: context.error_code,
            message: context.server_message,
            retry_after,
        });
        self.refused(asked, refusal)
    }

    /// An answer that is no success.
    pub(super) fn refused(&self, asked: &Asked<'_>, refusal: Refusal) -> HubError {
        let what = asked.what();
        let message = refusal.message.filter(|text| !text.is_empty());
        match refusal.status {
            401 => HubError::Unauthorized {
                what,
                token: self.config.token.is_some(),
                message,
            },
            403 => HubError::Forbidden {
                what,
                page: format!("{}/{}", self.config.endpoint, asked.reference.repository),
                message,
            },
            404 => self.not_found(asked, refusal.code.as_deref()),
            429 => HubError::RateLimited {
                what,
                attempts: 1,
                after: refusal.retry_after,
            },
            status => HubError::Status {
                what,
                status,
                attempts: 1,
                message,
            },
        }
    }

    /// The Hub says in a header what of the request it does not have; without the header, what was
    /// asked for last is missing.
    fn not_found(&self, asked: &Asked<'_>, code: Option<&str>) -> HubError {
        let repository = asked.reference.repository.clone();
        let revision = asked.reference.revision_or_main().to_owned();
        match (code, asked.file, &asked.reference.revision) {
            (Some("RepoNotFound"), ..) | (None, None, None) => HubError::RepositoryNotFound {
                repository,
                endpoint: self.config.endpoint.clone(),
            },
            (Some("EntryNotFound") | None, Some(file), _) => HubError::FileNotFound {
                repository,
                revision,
                file: file.to_owned(),
                found: Vec::new(),
            },
            _ => HubError::RevisionNotFound {
                repository,
                revision,
            },
        }
    }

    /// No answer at all.
    pub(super) fn transport(&self, asked: &Asked<'_>, error: &reqwest::Error) -> HubError {
        let what = asked.what();
        let reason = shown(&without_query(chain(error), error.url()));
        if error.is_timeout() {
            HubError::Timeout {
                what,
                within: self.config.timeout,
            }
        } else if error.is_redirect() {
            HubError::Redirect { what, reason }
        } else if error.is_builder() {
            HubError::Client { what, reason }
        } else {
            HubError::Connection { what, reason }
        }
    }
}

impl Asked<'_> {
    fn what(&self) -> String {
        let revision = self.reference.revision.as_deref();
        let at = revision.map_or_else(String::new, |revision| format!(" at {revision}"));
        match self.file {
            Some(file) => format!("{}{at}, {file}", self.reference.repository),
            None => format!("{}{at}", self.reference.repository),
        }
    }
}

/// Runs `work` on a runtime of its own, in a thread of its own: the caller may be inside a runtime,
/// which could neither block on another nor drop it.
pub(super) fn block_on<T: Send>(
    work: impl Future<Output = Result<T, HubError>> + Send,
) -> Result<T, HubError> {
    let failed = |reason: String| HubError::Client {
        what: "the runtime of the Hub's client".to_owned(),
        reason,
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| failed(error.to_string()))?
                .block_on(work)
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Follows redirects, but not from an encrypted connection to an open one. reqwest itself leaves the
/// token out where a redirect leads to another host or port.
fn redirects() -> redirect::Policy {
    redirect::Policy::custom(|attempt| {
        let encrypted = attempt.previous().iter().any(|url| url.scheme() == "https");
        if encrypted && attempt.url().scheme() != "https" {
            return attempt.error("it leads from https to an open connection");
        }
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error("it is one too many");
        }
        attempt.follow()
    })
}

/// No proxy reaches this machine's own loopback.
fn is_loopback(endpoint: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(endpoint) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `Retry-After` in seconds; its other form, a date, counts as none.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// `text`, in which `url` stands without its query: that of a storage is long, would push the cause off
/// the line, and holds a signature.
fn without_query(text: String, url: Option<&reqwest::Url>) -> String {
    let Some(url) = url.filter(|url| url.query().is_some()) else {
        return text;
    };
    let mut short = url.clone();
    short.set_query(None);
    text.replace(url.as_str(), short.as_str())
}

/// An error and what caused it: reqwest's own text leaves the cause out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
