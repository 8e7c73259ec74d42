//! From a folder, a range or a file to the splits of shards.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::classes::{self, NAMES};
use super::{Row, Shard, ShardIndex, Shards, compressed, compressed_by_name, range};
use crate::folder::{counted_as, litter};
use crate::found::{Found, SplitCounts, counted, listed};
use crate::layout::Part;
use crate::name::{shown_path, text_of};
use crate::split::held_out_of;
use crate::{DataConfig, Dataset, Error, Labels, Splits, path_of};

/// A shard that was found, with the split that its folder or name says.
struct Listed {
    id: String,
    path: PathBuf,
    part: Option<Part>,
}

/// Opens `spec`, whose path is `root`, where it is a single shard or a range of shards; `None` where it is neither.
///
/// # Errors
/// Shards that are not there, are compressed or damaged; labels that disagree.
pub(crate) fn open_named(
    spec: &str,
    root: &Path,
    cfg: &DataConfig,
) -> Result<Option<Splits>, Error> {
    let mut paths = vec![root.to_owned()];
    if !root.exists() {
        let Some(names) = range::expanded(spec)? else {
            return Ok(None);
        };
        paths = names.iter().map(|name| path_of(name)).collect();
    } else if !root.is_file() {
        return Ok(None);
    }
    let mut listed = Vec::new();
    for path in &paths {
        let name = path.file_name().map(text_of).unwrap_or_default();
        if let Some(program) = compressed_by_name(&name) {
            return Err(compressed(path, program));
        }
        if !is_shard(&name) {
            return Ok(None);
        }
        listed.push(Listed {
            part: part_of(&name),
            id: name,
            path: path.clone(),
        });
    }
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.is_file()).collect();
    if let Some(first) = missing.first() {
        return Err(Error::NoShard {
            path: PathBuf::clone(first),
            missing: missing.len(),
            all: paths.len(),
        });
    }
    // Shards that are named are what is wanted: a split of its own only beside what is trained on.
    if !listed.iter().any(|shard| shard.part == Some(Part::Train)) {
        listed.iter_mut().for_each(|shard| shard.part = None);
    }
    let folder = paths[0].parent().unwrap_or(Path::new("")).to_owned();
    open((spec, root, &folder), listed, Found::default(), cfg).map(Some)
}

/// Opens the shards in `root`, or in the splits in it, where pictures are in none; `None` where shards are not either.
///
/// # Errors
/// Shards that are compressed or damaged, do not say their split where others do; labels that disagree.
pub(crate) fn open_folder(
    spec: &str,
    root: &Path,
    cfg: &DataConfig,
) -> Result<Option<Splits>, Error> {
    let (mut found, mut compressed_ones) = (Found::default(), Vec::new());
    let (mut shards, mut in_parts) = (Vec::new(), Vec::new());
    for (name, path) in entries(root)? {
        if path.is_dir() {
            let Some(part) = Part::named(&name) else {
                found.pass(litter(&name).unwrap_or_else(|| "folder".to_owned()));
                continue;
            };
            for (inner, path) in entries(&path)? {
                let id = format!("{name}/{inner}");
                take(
                    (id, path, Some(part)),
                    &mut in_parts,
                    &mut compressed_ones,
                    &mut found,
                );
            }
        } else {
            let part = part_of(&name);
            take(
                (name, path, part),
                &mut shards,
                &mut compressed_ones,
                &mut found,
            );
        }
    }
    if let (true, Some((path, program))) = (
        shards.is_empty() && in_parts.is_empty(),
        compressed_ones.first(),
    ) {
        return Err(compressed(path, program));
    }
    if !compressed_ones.is_empty() {
        let names = compressed_ones.iter().map(|(path, _)| shown_path(path));
        let names = listed(&names.collect::<Vec<_>>());
        found.notes.push(format!(
            "left out: {names}, compressed archives; undo the compression to use them"
        ));
    }
    let wrong = |problem: String| Error::Layout {
        path: root.to_owned(),
        problem,
    };
    if let (Some(one), Some(other)) = (shards.first(), in_parts.first()) {
        let (one, other) = (&one.id, &other.id);
        return Err(wrong(format!(
            "has shards both in it ({one}) and in folders of splits ({other})"
        )));
    }
    shards.append(&mut in_parts);
    if shards.is_empty() {
        return Ok(None);
    }
    let (with, without): (Vec<&Listed>, Vec<&Listed>) =
        shards.iter().partition(|shard| shard.part.is_some());
    if let (Some(one), Some(other)) = (with.first(), without.first()) {
        let (one, other) = (&one.id, &other.id);
        return Err(wrong(format!(
            "the names of some shards say their split ({one}) and others do not ({other}); rename them, or name those to use as a range"
        )));
    }
    let trains = shards.iter().any(|shard| shard.part == Some(Part::Train));
    if !(with.is_empty() || trains) {
        let one = &with[0].id;
        return Err(wrong(format!(
            "has shards of a split ({one}) and none of train; add some, or name those to use as a range"
        )));
    }
    open((spec, root, root), shards, found, cfg).map(Some)
}

/// Sorts a file by what it is.
fn take(
    (id, path, part): (String, PathBuf, Option<Part>),
    shards: &mut Vec<Listed>,
    compressed: &mut Vec<(PathBuf, &'static str)>,
    found: &mut Found,
) {
    let name = id.rsplit('/').next().unwrap_or_default();
    if let Some(kind) = litter(name) {
        found.pass(kind);
    } else if let Some(program) = compressed_by_name(name) {
        compressed.push((path, program));
    } else if !path.is_file() {
        found.pass("pipe, socket or device");
    } else if is_shard(name) {
        shards.push(Listed { id, path, part });
    } else if name != NAMES {
        found.pass(counted_as(name));
    }
}

/// What lies in `folder`, by name.
fn entries(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let io = |source| Error::Io {
        path: folder.to_owned(),
        source,
    };
    let entries = fs::read_dir(folder).map_err(io)?;
    let named = entries.map(|entry| entry.map(|entry| (text_of(&entry.file_name()), entry.path())));
    named.collect::<Result<_, _>>().map_err(io)
}

fn is_shard(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".tar")
}

/// The split that a shard's name says by one of its words, as in `train-000000.tar` and `birds-val-00.tar`.
fn part_of(name: &str) -> Option<Part> {
    let mut parts = name.split(['-', '_', '.']).filter_map(Part::named);
    parts.next().filter(|_| parts.next().is_none())
}

/// Indexes all of `listed`, and makes splits of them.
fn open(
    (spec, root, folder): (&str, &Path, &Path),
    mut listed: Vec<Listed>,
    mut found: Found,
    cfg: &DataConfig,
) -> Result<Splits, Error> {
    listed.sort_by(|a, b| (a.part, &a.id).cmp(&(b.part, &b.id)));
    if let Some(twice) = listed.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(Error::Layout {
            path: twice[1].path.clone(),
            problem: "another shard of this set has the same name".to_owned(),
        });
    }
    // All are read before the first error is told, which is then the same on any number of threads.
    let read: Vec<Result<Shard, Error>> = listed.par_iter().map(read).collect();
    let shards: Vec<Shard> = read.into_iter().collect::<Result<_, _>>()?;
    for (kind, count) in shards.iter().flat_map(|shard| &shard.index.passed_over) {
        *found.passed_over.entry(kind.clone()).or_default() += count;
    }
    let has_splits = listed.iter().any(|shard| shard.part.is_some());
    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    for ((number, shard), listed) in (0..).zip(&shards).zip(&listed) {
        let images = (0..).take(shard.index.len());
        parts[listed.part.map_or(0, |part| part as usize)].extend(images.map(|image| Row {
            shard: number,
            image,
            label: None,
        }));
    }
    if parts[0].is_empty() {
        return Err(Error::NoPhotos {
            path: root.to_owned(),
            unused: match has_splits {
                true => "the shards to train on hold no sample".to_owned(),
                false => "the shards hold no sample".to_owned(),
            },
        });
    }
    let mut labelled = Vec::new();
    for rows in &mut parts {
        if classes::labelled(&shards, rows, cfg.labels)? {
            labelled.push(rows);
        } else if !rows.is_empty() && has_splits && cfg.labels == Labels::Auto {
            let first = &shards[rows[0].shard as usize].id;
            let images = counted(rows.len(), "image has", "images have");
            found.notes.push(format!(
                "no labels: {images} no class in the split of {first}"
            ));
        }
    }
    let names = match labelled.is_empty() {
        true => Vec::new(),
        false => classes::label(&shards, &mut labelled, classes::named(folder)?)?,
    };
    found.classes = names.len();
    let all = Shards {
        name: shown_path(root),
        shards: shards.into(),
        rows: Vec::new(),
        classes: names,
        max_pixels: cfg.max_pixels,
    };
    let [train, val, test] = parts.map(|rows| Shards {
        // A split without labels beside others has no classes.
        classes: match rows.first().and_then(|row| row.label) {
            Some(_) => all.classes.clone(),
            None => Vec::new(),
        },
        rows,
        ..all.clone()
    });
    found.source = spec.to_owned();
    Ok(split((train, val, test), has_splits, cfg, found))
}

fn read(listed: &Listed) -> Result<Shard, Error> {
    let io = |source| Error::Io {
        path: listed.path.clone(),
        source,
    };
    let file = File::open(&listed.path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    Ok(Shard {
        id: listed.id.clone(),
        path: listed.path.clone(),
        bytes,
        index: ShardIndex::read(file, bytes, &listed.path)?,
    })
}

/// The splits, of which what the shards do not say is held out by a hash of the ids, as of a folder.
fn split(
    (mut train, mut val, test): (Shards, Shards, Shards),
    has_splits: bool,
    cfg: &DataConfig,
    mut found: Found,
) -> Splits {
    let held_out = |set: &Shards, fraction, salt| {
        let images = (0..set.len()).map(|i| (set.label(i), set.id(i)));
        held_out_of(images, fraction, cfg.seed, salt)
    };
    let mut test = Some(test).filter(|test| !test.is_empty());
    if !has_splits && found.classes > 0 && cfg.test_fraction > 0. {
        found.held_out.test = true;
        let held = held_out(&train, cfg.test_fraction, "test");
        test = Some(train.subset(|i| held[i]));
        train = train.subset(|i| !held[i]);
    }
    if val.is_empty() {
        found.held_out.val = true;
        let held = held_out(&train, cfg.val_fraction, "val");
        val = train.subset(|i| held[i]);
        train = train.subset(|i| !held[i]);
    }
    found.images = SplitCounts {
        train: train.len(),
        val: val.len(),
        test: test.as_ref().map(|test| test.len()),
    };
    Splits {
        name: found.source.clone(),
        train: Arc::new(train),
        val: Arc::new(val),
        test: test.map(|test| Arc::new(test) as Arc<dyn Dataset>),
        found,
    }
}
