//! `data.csv`: the list of photos in a run folder.

use std::fs;
use std::path::PathBuf;

use super::{Fingerprint, Listing};
use crate::{Error, Result, RunFolder, digest};

/// The list that the run is trained on now. What an earlier part of it was trained on stands beside it, under a name with
/// the start of the file's SHA-256.
const NAME: &str = "data.csv";

/// Puts `listing` there. A list that differs is put aside first, since a checkpoint may be of it.
///
/// # Errors
/// A file that cannot be written; what was there still is.
pub(super) fn keep(run: &RunFolder, listing: &Listing) -> Result<()> {
    let table = listing.table()?;
    match fs::read(run.join(NAME)) {
        Ok(before) if before == table => return Ok(()),
        Ok(before) => {
            let hash = digest::of_bytes(&before);
            run.write(format!("data-{}.csv", digest::short(&hash)), &before)?;
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io(&run.join(NAME))(e)),
    }
    run.write(NAME, &table)
}

/// The list of which `fingerprint` is; `None` where the folder holds it no more.
///
/// # Errors
/// A run folder that cannot be read.
pub(super) fn find(run: &RunFolder, fingerprint: &Fingerprint) -> Result<Option<Listing>> {
    let folder = run.path();
    let mut lists: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("data") && name.ends_with(".csv") {
            lists.push(entry.path());
        }
    }
    for list in lists {
        // One that cannot be read is not it.
        let Some(listing) = fs::read(&list).ok().and_then(|table| Listing::read(&table)) else {
            continue;
        };
        let contents = fingerprint.contents.is_none() || listing.contents() == fingerprint.contents;
        if contents && listing.digest()? == fingerprint.digest {
            return Ok(Some(listing));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::listing;
    use super::*;

    fn fingerprint(listing: &Listing) -> Fingerprint {
        Fingerprint {
            images: [0; 3],
            classes: 0,
            bytes: 0,
            digest: listing.digest().unwrap(),
            contents: listing.contents(),
        }
    }

    #[test]
    fn every_list_that_was_kept_is_found_by_its_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&folder.path().join("run")).unwrap();
        let lists = [
            listing(&["train a/1.png 5 0a"]),
            listing(&["train a/1.png 5 0b"]),
            listing(&["train a/1.png 6"]),
        ];
        for list in &lists {
            keep(&run, list).unwrap();
            keep(&run, list).unwrap();
        }
        assert_eq!(fs::read(run.join(NAME)).unwrap(), lists[2].table().unwrap());
        for list in &lists {
            assert_eq!(find(&run, &fingerprint(list)).unwrap().as_ref(), Some(list));
        }
        fs::write(run.join(NAME), "cut").unwrap();
        assert_eq!(find(&run, &fingerprint(&lists[2])).unwrap(), None);
    }
}
