//! Where the data of a run is now.

use std::path::{Component, Path, PathBuf};

use fgvr_data::Splits;

use super::DataRecord;
use crate::config::PretrainConfig;
use crate::{Error, Result, RunFolder};

/// A run's own data.
pub(crate) struct Located {
    pub(crate) splits: Splits,
    /// What is to be said of the place, where it is not what `source` says from here.
    pub(crate) note: Option<String>,
}

impl Located {
    /// Opens the data that a run was trained on, and sets `config.source` to where it was found: where it was when the
    /// run was last saved; from the run folder as it was then; or as `config.toml` has it from here.
    ///
    /// # Errors
    /// No photos at any of these places, with `remedy`; photos that cannot be opened for another reason.
    pub(crate) fn of(
        run: &RunFolder,
        config: &mut PretrainConfig,
        record: Option<&DataRecord>,
        remedy: &str,
    ) -> Result<Self> {
        let given = config.source.clone();
        for place in places(run, &given, record) {
            // By the name that it was given, where that leads to the same folder.
            let elsewhere = !is_same(&place, &given);
            let place = if elsewhere { place } else { given.clone() };
            match fgvr_data::open(&place, &config.data) {
                Ok(splits) => {
                    let note =
                        elsewhere.then(|| format!("the photos it was trained on are in {place}"));
                    config.source = place;
                    return Ok(Self { splits, note });
                }
                // An empty folder may be where a disk was.
                Err(
                    fgvr_data::Error::NoFolder { .. }
                    | fgvr_data::Error::NotAFolder { .. }
                    | fgvr_data::Error::NoShard { .. }
                    | fgvr_data::Error::NoPhotos { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let was = record.and_then(|record| record.folder.clone());
        let from_here = std::path::absolute(&given).unwrap_or_else(|_| PathBuf::from(&given));
        let was = was.unwrap_or_else(|| from_here.display().to_string());
        Err(Error::run(
            run.path(),
            format!("the photos it was trained on are not in {was}; {remedy}"),
        ))
    }
}

/// Where to look, first to last.
fn places(run: &RunFolder, given: &str, record: Option<&DataRecord>) -> Vec<String> {
    let mut places = Vec::new();
    // One who writes another source into config.toml means that one.
    if let Some(record) = record.filter(|record| record.source == given) {
        places.extend(record.folder.clone());
        let from_run = record.from_run.as_ref();
        let from_run = from_run.map(|from_run| tidy(&run.path().join(from_run)));
        places.extend(from_run.and_then(|path| path.to_str().map(str::to_owned)));
    }
    places.push(given.to_owned());
    places
}

fn is_same(place: &str, given: &str) -> bool {
    let absolute = |path: &str| std::path::absolute(path).ok();
    place == given || absolute(place) == absolute(given)
}

/// The way from folder `base` to `path`, both from the root.
pub(super) fn from(base: &Path, path: &Path) -> PathBuf {
    let (base, path) = (tidy(base), tidy(path));
    let shared = base
        .components()
        .zip(path.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = base.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// `path` without `x/..`, where x is a name.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir
                if matches!(tidy.components().next_back(), Some(Component::Normal(_))) =>
            {
                tidy.pop();
            }
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_one_folder_to_another_leads_there() {
        for (base, path, way) in [
            ("/a/runs/x", "/a/photos", "../../photos"),
            ("/a/b/../runs", "/a/photos/", "../photos"),
            ("/a", "/a/photos", "photos"),
            ("/a/run", "/b", "../../b"),
        ] {
            let found = from(Path::new(base), Path::new(path));
            assert_eq!(found, Path::new(way), "{base} to {path}");
            let there = tidy(&Path::new(base).join(found));
            assert_eq!(there, tidy(Path::new(path)));
        }
        assert_eq!(tidy(Path::new("../x/./y")), Path::new("../x/y"));
    }
}
