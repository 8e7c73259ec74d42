//! The figures by which features are compared image by image.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::{Error, Result};

/// A figure with a value for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompareFigure {
    /// Whether the nearest training images vote for the image's class.
    Knn,
    /// The average precision of the training images for the image.
    Map,
    /// Whether a linear probe names the image's class.
    Linear,
}

impl CompareFigure {
    /// All, in the order of tables.
    pub const ALL: [Self; 3] = [Self::Knn, Self::Map, Self::Linear];
}

impl fmt::Display for CompareFigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Knn => "kNN",
            Self::Map => "mAP",
            Self::Linear => "linear",
        })
    }
}

impl FromStr for CompareFigure {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL
            .into_iter()
            .find(|f| f.to_string().eq_ignore_ascii_case(name));
        found.ok_or_else(|| Error::config(format!("figure {name}"), "expected knn, map or linear"))
    }
}
