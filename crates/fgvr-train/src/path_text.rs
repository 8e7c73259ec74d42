//! Paths where only text will do: in JSON, and in the record of a command line.

use std::ffi::OsStr;
use std::path::Path;

use serde::Serializer;

/// `name` as text, as [`fgvr_data::id_of`] writes it: a name in UTF-8 is itself, and each byte that is not UTF-8 stands as
/// `\xHH`. [`fgvr_data::path_of`] goes back.
#[must_use]
pub fn path_text(name: impl AsRef<OsStr>) -> String {
    fgvr_data::id_of(Path::new(name.as_ref()))
}

/// For serde: a path as [`path_text`] gives it.
pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}
