//! Which Hub, which cache, with which token.

use std::path::PathBuf;
use std::time::Duration;

use super::error::HubError;

/// Where the Hub and its cache are, and how patient to be.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// The Hub's address, without a slash at its end.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`; the one of Python's `huggingface_hub`.
    pub cache: PathBuf,
    /// Sent with each request to `endpoint`, never to another host.
    pub token: Option<String>,
    /// Take what the cache holds and use no network.
    pub offline: bool,
    /// The longest silence: a server that says nothing for so long, at the start or in the middle
    /// of a file, ends the call.
    pub timeout: Duration,
    /// How often a request is made again after 429, 408, 5xx or a broken connection. Requests that
    /// ran into `timeout` without a single byte are not made again.
    pub retries: usize,
    /// The first wait before a retry, doubled for each further one; `Retry-After` goes before it, as
    /// long as it is no longer than `timeout`.
    pub backoff: Duration,
}

impl HubConfig {
    /// A Hub and a cache, without token, with the default patience: 60 s of silence, 4 retries, the
    /// first after half a second.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into(),
            cache: cache.into(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(60),
            retries: 4,
            backoff: Duration::from_millis(500),
        }
    }

    /// What the environment says, read as Python's `huggingface_hub` does: `HF_ENDPOINT`,
    /// `HF_HUB_CACHE` or `HF_HOME` or `XDG_CACHE_HOME`, `HF_TOKEN` or the file `HF_TOKEN_PATH` or
    /// the one that `hf auth login` writes, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `HF_HUB_OFFLINE`, and
    /// `HF_HUB_DOWNLOAD_TIMEOUT` in seconds.
    ///
    /// # Errors
    ///
    /// Fails if there is no home folder to hold the cache, a token file cannot be read, or a
    /// variable has a value that means nothing.
    pub fn from_env() -> Result<Self, HubError> {
        Self::from_variables(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, HubError> {
        let home = || variable("HOME").or_else(|| variable("USERPROFILE"));
        let expanded = |path: String| match (path.strip_prefix('~'), home()) {
            (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => {
                PathBuf::from(home + rest)
            }
            _ => PathBuf::from(path),
        };
        let hf_home = match (variable("HF_HOME"), variable("XDG_CACHE_HOME"), home()) {
            (Some(path), _, _) => Some(expanded(path)),
            (None, Some(path), _) => Some(expanded(path).join("huggingface")),
            (None, None, Some(home)) => {
                Some(PathBuf::from(home).join(".cache").join("huggingface"))
            }
            (None, None, None) => None,
        };
        let cache = variable("HF_HUB_CACHE")
            .or_else(|| variable("HUGGINGFACE_HUB_CACHE"))
            .map(expanded)
            .or_else(|| hf_home.as_ref().map(|home| home.join("hub")));
        let Some(cache) = cache else {
            return Err(HubError::Setting {
                setting: "HF_HOME",
                value: String::new(),
                reason: "there is no home folder either; set it to a folder for the cache".into(),
            });
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        let mut config = Self::new(endpoint.trim_end_matches('/'), cache);
        config.offline = variable("HF_HUB_OFFLINE").is_some_and(|value| truth(&value));
        if let Some(value) = variable("HF_HUB_DOWNLOAD_TIMEOUT") {
            let seconds = value.trim().parse().ok().filter(|s| *s > 0);
            let seconds = seconds.ok_or_else(|| HubError::Setting {
                setting: "HF_HUB_DOWNLOAD_TIMEOUT",
                value: value.clone(),
                reason: "expected whole seconds, at least one".into(),
            })?;
            config.timeout = Duration::from_secs(seconds);
        }
        let implicit = variable("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        if !implicit.is_some_and(|value| truth(&value)) {
            let file = variable("HF_TOKEN_PATH")
                .map(expanded)
                .or_else(|| hf_home.map(|home| home.join("token")));
            config.token = match (variable("HF_TOKEN"), file) {
                (Some(token), _) => Some(token.trim().to_owned()),
                (None, Some(file)) => token_in(&file)?,
                (None, None) => None,
            };
        }
        Ok(config)
    }

    /// Checks the values against each other and the client.
    pub(super) fn validate(&self) -> Result<(), HubError> {
        let setting = |setting, value: &str, reason: &str| HubError::Setting {
            setting,
            value: value.to_owned(),
            reason: reason.to_owned(),
        };
        let plain = |c: char| c.is_ascii_graphic();
        let address = ["https://", "http://"]
            .iter()
            .find_map(|scheme| self.endpoint.strip_prefix(scheme));
        if !address.is_some_and(|rest| !rest.is_empty() && rest.chars().all(plain)) {
            let reason = "expected an address such as https://huggingface.co";
            return Err(setting("HF_ENDPOINT", &self.endpoint, reason));
        }
        if let Some(token) = &self.token
            && (token.is_empty() || !token.chars().all(plain))
        {
            // The value is a secret even where it is wrong.
            return Err(setting(
                "HF_TOKEN",
                "...",
                "expected printable ASCII without spaces",
            ));
        }
        if self.timeout.is_zero() {
            return Err(setting(
                "HF_HUB_DOWNLOAD_TIMEOUT",
                "0",
                "expected some time",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "..."))
            .field("offline", &self.offline)
            .field("timeout", &self.timeout)
            .field("retries", &self.retries)
            .field("backoff", &self.backoff)
            .finish()
    }
}

/// As `huggingface_hub` reads a switch.
fn truth(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_ascii_uppercase().as_str())
}

fn token_in(file: &std::path::Path) -> Result<Option<String>, HubError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HubError::io(file, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<HubConfig, HubError> {
        HubConfig::from_variables(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let cache = |variables: &[(&str, &str)]| read(variables).unwrap().cache;
        let home = ("HOME", "h");
        assert_eq!(cache(&[home]), PathBuf::from("h/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "x");
        assert_eq!(cache(&[home, xdg]), PathBuf::from("x/huggingface/hub"));
        let hf = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf]), PathBuf::from("h/hf/hub"));
        let hub = ("HF_HUB_CACHE", "c");
        assert_eq!(cache(&[home, xdg, hf, hub]), PathBuf::from("c"));
        assert!(read(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn token_endpoint_offline_and_timeout_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "hf_file\n").unwrap();
        let home = ("HF_HOME", dir.path().to_str().unwrap());
        assert_eq!(read(&[home]).unwrap().token.as_deref(), Some("hf_file"));
        let token = ("HF_TOKEN", "hf_variable");
        let config = read(&[home, token]).unwrap();
        assert_eq!(config.token.as_deref(), Some("hf_variable"));
        assert!(!format!("{config:?}").contains("hf_variable"));
        let not = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(read(&[home, token, not]).unwrap().token, None);
        let none = ("HF_TOKEN_PATH", "nowhere");
        assert_eq!(read(&[home, none]).unwrap().token, None);

        let config = read(&[
            home,
            ("HF_ENDPOINT", "http://127.0.0.1:1/"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "7"),
        ]);
        let config = config.unwrap();
        assert_eq!(config.endpoint, "http://127.0.0.1:1");
        assert!(config.offline);
        assert_eq!(config.timeout, Duration::from_secs(7));
        assert!(!read(&[home, ("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        let error = read(&[home, ("HF_HUB_DOWNLOAD_TIMEOUT", "soon")]).unwrap_err();
        assert!(error.to_string().contains("whole seconds"), "{error}");
    }

    #[test]
    fn settings_that_no_request_can_carry_are_refused() {
        let mut config = HubConfig::new("huggingface.co", "c");
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("HF_ENDPOINT")
        );
        config.endpoint = "http://127.0.0.1:1".into();
        assert!(config.validate().is_ok());
        config.token = Some("hf_a b".into());
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("HF_TOKEN") && !error.contains("hf_a"),
            "{error}"
        );
    }
}
