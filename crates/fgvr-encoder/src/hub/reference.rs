//! The name of a model on the Hugging Face Hub: `owner/name[@revision][:file]`.

use std::fmt;
use std::str::FromStr;

use super::name;

/// A model repository on the Hub, which revision of it, and which of its files.
///
/// Read from and shown as `owner/name[@revision][:file]`; the prefix `hf:` may stand before it.
///
/// ```
/// use fgvr_encoder::HubReference;
///
/// let reference: HubReference = "timm/resnet18.a1_in1k@main:model.safetensors".parse()?;
/// assert_eq!(reference.repository, "timm/resnet18.a1_in1k");
/// assert_eq!(reference.revision.as_deref(), Some("main"));
/// assert_eq!(reference.file.as_deref(), Some("model.safetensors"));
/// # Ok::<(), fgvr_encoder::ReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    /// `owner/name`.
    pub repository: String,
    /// A branch, a tag or the 40 digits of a commit; the branch `main` where there is none.
    pub revision: Option<String>,
    /// The weights file, as a path in the repository; found by looking where there is none.
    pub file: Option<String>,
}

/// A text that names no repository, revision or file of the Hub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {reason}; expected owner/name[@revision][:file]")]
pub struct ReferenceError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl HubReference {
    /// A reference to the newest state of a repository, by its `owner/name`.
    ///
    /// # Errors
    ///
    /// Fails if `repository` is not an `owner/name` that the Hub can have.
    pub fn new(repository: &str) -> Result<Self, ReferenceError> {
        let reference = Self {
            repository: repository.to_owned(),
            revision: None,
            file: None,
        };
        reference.validate()?;
        Ok(reference)
    }

    /// Checks the parts, which may have been set without parsing.
    ///
    /// # Errors
    ///
    /// Fails if one of them could not be a repository, revision or file, or would leave the folder
    /// that it becomes a path in.
    pub fn validate(&self) -> Result<(), ReferenceError> {
        let error = |reason: String| ReferenceError {
            text: self.to_string(),
            reason,
        };
        repository(&self.repository).map_err(error)?;
        if let Some(revision) = &self.revision {
            check_revision(revision).map_err(error)?;
        }
        if let Some(file) = &self.file {
            name::check(file).map_err(|reason| error(format!("the file {file:?} {reason}")))?;
        }
        Ok(())
    }

    /// The revision, or `main`.
    pub fn revision_or_main(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl FromStr for HubReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let rest = text.strip_prefix("hf:").unwrap_or(text);
        let (rest, file) = match rest.split_once(':') {
            Some((rest, file)) => (rest, Some(file.to_owned())),
            None => (rest, None),
        };
        let (repository, revision) = match rest.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision.to_owned())),
            None => (rest, None),
        };
        let reference = Self {
            repository: repository.to_owned(),
            revision,
            file,
        };
        reference.validate().map_err(|error| ReferenceError {
            text: text.to_owned(),
            reason: error.reason,
        })?;
        Ok(reference)
    }
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        if let Some(file) = &self.file {
            write!(f, ":{file}")?;
        }
        Ok(())
    }
}

/// The Hub's rules: ASCII letters and digits, `-`, `_` and `.`, none of the latter two or `-` at an
/// end, neither `--` nor `..`, since `--` stands for `/` in the cache.
fn repository(text: &str) -> Result<(), String> {
    let Some((owner, name)) = text.split_once('/') else {
        return Err("the repository has no owner".to_owned());
    };
    for part in [owner, name] {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let ends = |c: char| "-.".contains(c);
        if part.is_empty()
            || part.len() > 96
            || !part.chars().all(plain)
            || part.starts_with(ends)
            || part.ends_with(ends)
            || part.contains("--")
            || part.contains("..")
        {
            return Err(format!("{part:?} is no name of an owner or a repository"));
        }
    }
    Ok(())
}

/// A name that git accepts for a branch or tag, and that stays in the cache's folder `refs`.
pub(super) fn check_revision(text: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || "~^@{}".contains(c);
    if text.contains(odd) {
        return Err(format!("the revision {text:?} is no branch, tag or commit"));
    }
    name::check(text).map_err(|reason| format!("the revision {text:?} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_reference_is_shown_as_it_is_read() {
        for text in [
            "timm/resnet18.a1_in1k",
            "a/b@v1.0",
            "a/b@refs/pr/1",
            "a/b:sub/model.safetensors",
            "a/b@main:x@2.pth",
        ] {
            let reference: HubReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(format!("hf:{text}").parse(), Ok(reference));
        }
        let reference: HubReference = format!("a/b@{COMMIT}").parse().unwrap();
        assert_eq!(reference.revision_or_main(), COMMIT);
        assert_eq!(HubReference::new("a/b").unwrap().revision_or_main(), "main");
    }

    #[test]
    fn what_cannot_be_on_the_hub_is_refused_with_the_reason() {
        for (text, reason) in [
            ("resnet18", "no owner"),
            ("/b", "no name of an owner"),
            ("a/b/c", "no name of an owner"),
            ("../b", "no name of an owner"),
            ("a--b/c", "no name of an owner"),
            ("a/b@", "revision"),
            ("a/b@../../x", "`..`"),
            ("a/b@a b", "no branch, tag or commit"),
            ("a/b:", "empty"),
            ("a/b:../x", "`..`"),
            ("a/b:/etc/passwd", "absolute"),
            ("a/b:x\\y", "backslash"),
        ] {
            let error = text.parse::<HubReference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(error.contains("expected owner/name[@revision][:file]"));
        }
    }
}
