//! From a folder to the photos in it and below.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, DirEntry, Metadata};
use std::path::{Path, PathBuf};

use super::Photo;
use super::kind::{FileKind, by_content, by_name, counted_as, litter, written_here};
use crate::found::{Found, UnreadableFolder};
use crate::name::text_of;
use crate::{Error, shown};

/// How deep folders may be nested.
const DEEPEST: usize = 64;

/// What lies in a folder and below.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Sorted by id.
    pub(crate) photos: Vec<Photo>,
    /// First folders that hold pictures in formats that are not decoded.
    pub(crate) other_pictures: BTreeSet<String>,
    /// What was passed over, and what cannot be read.
    pub(crate) found: Found,
}

/// A folder that is still to be read.
#[derive(Debug)]
struct Place {
    /// As it is reached.
    path: PathBuf,
    /// Where it is, without links.
    real: PathBuf,
    /// From the folder that was opened; empty for that itself.
    id: String,
    depth: usize,
}

/// Reads all of `root`. A folder that cannot be read is set aside; each folder is read once, however
/// many links lead to it, and nothing but a regular file is opened.
pub(crate) fn scan(root: &Path) -> Result<Scan, Error> {
    let real = real_folder(root)?;
    let mut walk = Walk {
        seen: HashSet::from([real.clone()]),
        above: real.ancestors().skip(1).map(Path::to_owned).collect(),
        folders: Vec::new(),
        links: BTreeMap::new(),
        undecoded: BTreeSet::new(),
        scan: Scan::default(),
    };
    let top = Place {
        path: root.to_owned(),
        real,
        id: String::new(),
        depth: 0,
    };
    let entries = fs::read_dir(root).map_err(|e| io_error(root, e))?;
    walk.entries(&top, entries);
    // Links come last, so that a folder is known by its own name where it has one.
    loop {
        let next = walk.folders.pop();
        let Some(place) = next.or_else(|| walk.links.pop_first().map(|(_, place)| place)) else {
            break;
        };
        walk.folder(&place);
    }
    let mut scan = walk.scan;
    if let Some(kinds) = walk
        .undecoded
        .into_iter()
        .reduce(|all, kind| format!("{all}, {kind}"))
    {
        let note = format!(
            "{kinds}: pictures of formats that are not read; convert them to JPEG or PNG to use them"
        );
        scan.found.notes.push(note);
    }
    scan.photos.sort_by(|a, b| a.id.cmp(&b.id));
    scan.found.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    if scan.photos.is_empty() {
        return Err(Error::NoPhotos {
            path: root.to_owned(),
            unused: scan.found.unused(),
        });
    }
    Ok(scan)
}

/// Where `root` is, without links.
fn real_folder(root: &Path) -> Result<PathBuf, Error> {
    let path = root.to_owned();
    match fs::metadata(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NoFolder { path }),
        Err(e) => Err(io_error(root, e)),
        Ok(m) if !m.is_dir() => Err(Error::NotAFolder { path }),
        Ok(_) => fs::canonicalize(root).map_err(|e| io_error(root, e)),
    }
}

struct Walk {
    /// Folders that were read or will be, without links.
    seen: HashSet<PathBuf>,
    /// The folders that the opened one lies in.
    above: HashSet<PathBuf>,
    folders: Vec<Place>,
    /// By id, so that the order in which the system lists names does not matter.
    links: BTreeMap<String, Place>,
    /// Kinds of pictures that are not decoded.
    undecoded: BTreeSet<String>,
    scan: Scan,
}

impl Walk {
    fn folder(&mut self, place: &Place) {
        if self.above.contains(&place.real) {
            return self.again(place, "link to a folder above");
        }
        if !self.seen.insert(place.real.clone()) {
            return self.again(place, "link to a folder that is read already");
        }
        if place.depth > DEEPEST {
            return self.set_aside(&place.id, format!("more than {DEEPEST} folders deep"));
        }
        match fs::read_dir(&place.path) {
            Ok(entries) => self.entries(place, entries),
            Err(problem) => self.set_aside(&place.id, problem.to_string()),
        }
    }

    /// Passes over a folder whose photos are read elsewhere: worth a name, since it may look like a
    /// class or a split.
    fn again(&mut self, place: &Place, kind: &str) {
        let note = format!("left out: {}, a {kind}", shown(&place.id));
        self.scan.found.notes.push(note);
        self.scan.found.pass(kind);
    }

    fn entries(&mut self, place: &Place, entries: fs::ReadDir) {
        let mut listed = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) => listed.push((entry.file_name(), entry)),
                // What was listed up to there is there.
                Err(problem) => self.set_aside(&place.id, problem.to_string()),
            }
        }
        let has = |name: &str| listed.iter().any(|(found, _)| found == name);
        // The opened folder itself is what was asked for.
        if let Some(kind) = written_here(has).filter(|_| place.depth > 0) {
            return self.scan.found.pass(kind);
        }
        for (name, entry) in listed {
            self.entry(place, &text_of(&name), &entry);
        }
    }

    fn entry(&mut self, place: &Place, name: &str, entry: &DirEntry) {
        if let Some(kind) = litter(name) {
            return self.scan.found.pass(kind);
        }
        let path = entry.path();
        let id = if place.id.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", place.id)
        };
        let kind = entry.file_type();
        let is_link = kind.as_ref().is_ok_and(std::fs::FileType::is_symlink);
        // Of the target, where it is a link.
        match fs::metadata(&path) {
            Ok(target) if target.is_dir() => self.subfolder(place, path, id, is_link),
            Ok(target) => self.file(name, path, id, &target),
            // Nothing is known of it but its name. A photo by its name is one that cannot be read.
            Err(problem) => {
                if kind.is_ok_and(|kind| kind.is_dir()) {
                    self.set_aside(&id, problem.to_string());
                } else if by_name(name) == Some(FileKind::Photo) {
                    self.photo(id, path);
                } else if is_link {
                    self.scan.found.pass("link to nothing");
                } else {
                    self.scan.found.pass(counted_as(name));
                }
            }
        }
    }

    fn subfolder(&mut self, above: &Place, path: PathBuf, id: String, is_link: bool) {
        let real = match is_link {
            false => Ok(above.real.join(path.file_name().unwrap_or_default())),
            true => fs::canonicalize(&path),
        };
        let real = match real {
            Ok(real) => real,
            Err(problem) => return self.set_aside(&id, problem.to_string()),
        };
        let place = Place {
            path,
            real,
            id,
            depth: above.depth + 1,
        };
        if is_link {
            self.links.insert(place.id.clone(), place);
        } else {
            self.folders.push(place);
        }
    }

    fn file(&mut self, name: &str, path: PathBuf, id: String, target: &Metadata) {
        if !target.is_file() {
            // Opening a pipe would wait for one who writes.
            return self.scan.found.pass("pipe, socket or device");
        }
        match by_name(name).unwrap_or_else(|| by_content(&path, name)) {
            FileKind::Photo => self.photo(id, path),
            FileKind::OtherPicture(kind) => {
                if let Some((first, _)) = id.split_once('/') {
                    self.scan.other_pictures.insert(first.to_owned());
                }
                self.undecoded.insert(kind.clone());
                self.scan.found.pass(kind);
            }
            FileKind::Other(kind) => self.scan.found.pass(kind),
        }
    }

    fn photo(&mut self, id: String, path: PathBuf) {
        self.scan.photos.push(Photo {
            id,
            path,
            label: None,
        });
    }

    fn set_aside(&mut self, id: &str, reason: String) {
        let path = if id.is_empty() { "." } else { id };
        self.scan.found.unreadable.push(UnreadableFolder {
            path: path.to_owned(),
            reason: shown(&reason).into_owned(),
        });
    }
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}
