//! Where weights come from: a path or the Hub.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;
use crate::hub::HubReference;

/// Where weights come from.
///
/// ```
/// use fgvr_encoder::weights::Source;
/// let source: Source = "hf:timm/resnet18.a1_in1k".parse()?;
/// assert!(matches!(source, Source::Hub(_)));
/// let source: Source = "checkpoints/last.pth".parse()?;
/// assert_eq!(source.to_string(), "checkpoints/last.pth");
/// # Ok::<(), fgvr_encoder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "String", into = "String")
)]
pub enum Source {
    /// A file, or a directory that holds one set of weights.
    Path(PathBuf),
    /// `hf:owner/name[@revision][:file]`.
    Hub(HubReference),
}

impl FromStr for Source {
    type Err = Error;

    /// Text that begins with `hf:` is a reference to the Hub, all else a path.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with("hf:") {
            Ok(Self::Hub(text.parse()?))
        } else if text.is_empty() {
            Err(Error::Source {
                text: text.to_owned(),
                reason: "expected a path or hf:owner/name[@revision][:file]".to_owned(),
            })
        } else {
            let Ok(path) = text.parse::<PathBuf>() as Result<_, Infallible>;
            Ok(Self::Path(path))
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Hub(reference) => write!(f, "hf:{reference}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}
