//! Files that are there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// What becomes of a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The new file takes its place, and its permissions; a link goes on leading to the same place.
    Replace,
    /// It stays, and writing is an error.
    Keep,
}

/// Writes a file aside by `contents`, syncs it and gives it the name `path`: a reader sees the file
/// that was there before, none, or the new one. It gets the permissions of a file that is made in
/// place (0666 less the umask), or those of the file that it replaces. What is given back is the new
/// file, open for writing at its end.
///
/// # Errors
/// What the system says. The file that was there before still is, and nothing else is left.
pub fn write_whole(
    path: &Path,
    existing: Existing,
    contents: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let path = match existing {
        Existing::Replace => destination(path),
        Existing::Keep => path.to_owned(),
    };
    let before = path.metadata().ok();
    if before.as_ref().is_some_and(|before| !before.is_file()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something that is no file, and it is not replaced",
        ));
    }
    let mut aside = aside_in(parent(&path))?;
    // Before there is anything to read in it.
    if let (Existing::Replace, Some(before)) = (existing, before) {
        aside.as_file().set_permissions(before.permissions())?;
    }
    contents(aside.as_file_mut())?;
    aside.as_file().sync_all()?;
    let file = match existing {
        Existing::Replace => aside.persist(&path),
        Existing::Keep => aside.persist_noclobber(&path),
    }?;
    sync_folder(parent(&path))?;
    Ok(file)
}

/// Whether files can be made in `folder`: one is made there, and removed. Worth knowing before hours of work.
///
/// # Errors
/// What the system says.
pub fn can_hold_files(folder: &Path) -> io::Result<()> {
    aside_in(folder).map(drop)
}

/// Makes renames inside `folder` durable.
///
/// # Errors
/// What the system says.
#[cfg(unix)]
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Only Unix lets a folder be opened and synced.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Writes `bytes` to the file at `path`, whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_whole(path, Existing::Replace, |file| file.write_all(bytes))
        .map(drop)
        .map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })
}

/// The folder that holds `path`.
fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Where a link at `path` leads; `path` itself where there is none, or one that leads nowhere.
fn destination(path: &Path) -> PathBuf {
    let link = fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
    let there = link.then(|| fs::canonicalize(path).ok()).flatten();
    there.unwrap_or_else(|| path.to_owned())
}

/// A file in `folder` that goes with its owner, under a name that nobody else has.
fn aside_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    // By the standard library, whose files have the permissions that the umask leaves; `tempfile` would keep all
    // but the owner from reading it.
    tempfile::Builder::new()
        .prefix(".fgvr-")
        .suffix(".tmp")
        .make_in(folder, |path| File::create_new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, existing: Existing, bytes: &[u8]) -> io::Result<File> {
        write_whole(path, existing, |file| file.write_all(bytes))
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write(&folder.path().join("none/a.csv"), b"").unwrap_err();
        assert!(error.to_string().contains("a.csv"), "{error}");
    }

    #[test]
    fn a_file_that_is_to_stay_stays_and_one_that_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        put(&path, Existing::Keep, b"one").unwrap();
        let error = put(&path, Existing::Keep, b"two").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let full = |file: &mut File| {
            file.write_all(b"tw")?;
            Err(io::ErrorKind::StorageFull.into())
        };
        write_whole(&path, Existing::Replace, full).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_not_replaced_by_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        let error = put(&path, Existing::Replace, b"x").unwrap_err();
        assert!(error.to_string().contains("no file"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_replaces_one_has_its_permissions_and_a_link_to_it_stays() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a"), folder.path().join("link"));
        write(&path, b"one").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("a", &link).unwrap();
        write(&link, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("a"));
        let full = folder.path().join("full");
        symlink("/dev/full", &full).unwrap();
        let error = write(&full, b"x").unwrap_err().to_string();
        assert!(error.contains("no file"), "{error}");
    }
}
