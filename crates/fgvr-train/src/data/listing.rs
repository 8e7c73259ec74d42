//! The photos of a data set, one a row: name, split, class, size, and perhaps a hash of the content.

use std::collections::BTreeMap;

use fgvr_data::{Split, Splits};
use rayon::prelude::*;

use crate::{Error, Observer, Result, digest};

/// Photos hashed between two words to the observer.
const AT_ONCE: usize = 256;

const COLUMNS: [&str; 5] = ["name", "split", "class", "bytes", "sha256"];

/// One photo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its id in the data set.
    pub(crate) name: String,
    pub(crate) split: Split,
    /// A position in the listing's classes.
    pub(crate) class: Option<u32>,
    /// `None` for one whose size the system does not tell.
    pub(crate) bytes: Option<u64>,
    /// `None` where it was not asked for, and for one that cannot be read.
    pub(crate) sha256: Option<String>,
}

/// All photos: those of the training split, then of the validation split, then of the test split, each in the order in
/// which they are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<Row>,
    classes: Vec<String>,
    /// Whether contents were hashed.
    hashed: bool,
}

impl Listing {
    /// With one look at each photo's metadata.
    pub(crate) fn of(splits: &Splits) -> Self {
        let mut rows = Vec::new();
        for (split, set) in sets(splits) {
            let row = |index: usize| Row {
                name: set.id(index),
                split,
                class: set.label(index),
                bytes: set.encoded_length(index),
                sha256: None,
            };
            rows.par_extend((0..set.len()).into_par_iter().map(row));
        }
        Self {
            rows,
            classes: splits.train.classes().to_vec(),
            hashed: false,
        }
    }

    /// Reads every photo of `splits`, which this lists, for its hash.
    pub(crate) fn hash_contents(&mut self, splits: &Splits, observer: &mut dyn Observer) {
        let total = self.rows.len();
        observer.on_phase(&format!("hashing {total} photos"));
        let sets = sets(splits);
        let photos = sets
            .iter()
            .flat_map(|(_, set)| (0..set.len()).map(move |index| (*set, index)));
        let photos: Vec<_> = photos.collect();
        for (number, (rows, photos)) in self
            .rows
            .chunks_mut(AT_ONCE)
            .zip(photos.chunks(AT_ONCE))
            .enumerate()
        {
            rows.par_iter_mut()
                .zip(photos)
                .for_each(|(row, (set, index))| {
                    row.sha256 = match set.path(*index) {
                        Some(file) => digest::of_file(file).ok(),
                        // In an archive: its own bytes.
                        None => set
                            .encoded(*index)
                            .ok()
                            .flatten()
                            .map(|b| digest::of_bytes(&b)),
                    };
                });
            observer.on_images(number * AT_ONCE + rows.len(), total);
        }
        self.hashed = true;
    }

    /// Bytes of all photos together.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.iter().filter_map(|row| row.bytes).sum()
    }

    /// The name of a row's class.
    pub(crate) fn class(&self, row: &Row) -> Option<&str> {
        let class = usize::try_from(row.class?).ok()?;
        self.classes.get(class).map(String::as_str)
    }

    /// SHA-256 of the table without contents: without hashes, of the very file.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn digest(&self) -> Result<String> {
        Ok(digest::of_bytes(&self.columns(4)?))
    }

    /// SHA-256 of the hashes, one a line; `None` where contents were not hashed.
    pub(crate) fn contents(&self) -> Option<String> {
        let hashes = self
            .rows
            .iter()
            .map(|row| row.sha256.as_deref().unwrap_or(""));
        let lines: Vec<&str> = hashes.collect();
        self.hashed
            .then(|| digest::of_bytes(lines.join("\n").as_bytes()))
    }

    /// The rows as CSV.
    ///
    /// # Errors
    /// None in practice.
    pub(crate) fn table(&self) -> Result<Vec<u8>> {
        self.columns(if self.hashed { 5 } else { 4 })
    }

    fn columns(&self, columns: usize) -> Result<Vec<u8>> {
        let mut table = csv::Writer::from_writer(Vec::new());
        let problem = |e: &dyn std::fmt::Display| Error::config("data.csv", e.to_string());
        let mut write = |record: [&str; 5]| table.write_record(&record[..columns]);
        write(COLUMNS).map_err(|e| problem(&e))?;
        for row in &self.rows {
            let bytes = row
                .bytes
                .map_or_else(String::new, |bytes| bytes.to_string());
            let class = self.class(row).unwrap_or("");
            let sha256 = row.sha256.as_deref().unwrap_or("");
            write([&row.name, row.split.name(), class, &bytes, sha256]).map_err(|e| problem(&e))?;
        }
        table.into_inner().map_err(|e| problem(e.error()))
    }

    /// What [`Listing::table`] wrote; `None` for any other bytes.
    pub(crate) fn read(table: &[u8]) -> Option<Self> {
        let mut table = csv::Reader::from_reader(table);
        let columns = table.headers().ok()?.len();
        if !(4..=5).contains(&columns) || table.headers().ok()? != COLUMNS[..columns] {
            return None;
        }
        let mut classes = BTreeMap::new();
        let mut rows = Vec::new();
        for record in table.records() {
            let record = record.ok()?;
            let text = |column: usize| record.get(column).filter(|text| !text.is_empty());
            let next = classes.len();
            let class = text(2).map(|class| *classes.entry(class.to_owned()).or_insert(next));
            rows.push(Row {
                name: record.get(0)?.to_owned(),
                split: [Split::Train, Split::Val, Split::Test]
                    .into_iter()
                    .find(|split| text(1) == Some(split.name()))?,
                class: class.and_then(|class| u32::try_from(class).ok()),
                bytes: text(3).map(str::parse).transpose().ok()?,
                sha256: text(4).map(str::to_owned),
            });
        }
        let mut names = vec![String::new(); classes.len()];
        for (name, position) in classes {
            names[position] = name;
        }
        Some(Self {
            rows,
            classes: names,
            hashed: columns == 5,
        })
    }
}

fn sets(splits: &Splits) -> Vec<(Split, &dyn fgvr_data::Dataset)> {
    let mut sets = vec![
        (Split::Train, splits.train.as_ref()),
        (Split::Val, splits.val.as_ref()),
    ];
    sets.extend(splits.test.as_deref().map(|test| (Split::Test, test)));
    sets
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rows from "split class/name bytes [hash]", class and folder being one.
    pub(crate) fn listing(rows: &[&str]) -> Listing {
        let mut classes: Vec<String> = Vec::new();
        let rows = rows.iter().map(|row| {
            let mut words = row.split(' ');
            let split = match words.next().unwrap() {
                "train" => Split::Train,
                "val" => Split::Val,
                _ => Split::Test,
            };
            let name = words.next().unwrap().to_owned();
            let inside = name
                .trim_start_matches("train/")
                .trim_start_matches("test/");
            let class = inside.split_once('/').map(|(class, _)| class.to_owned());
            let class = class.map(|class| {
                let known = classes.iter().position(|known| *known == class);
                known.unwrap_or_else(|| {
                    classes.push(class);
                    classes.len() - 1
                }) as u32
            });
            let bytes = words.next().unwrap().parse().ok();
            Row {
                name,
                split,
                class,
                bytes,
                sha256: words.next().map(str::to_owned),
            }
        });
        let rows: Vec<Row> = rows.collect();
        Listing {
            hashed: rows.iter().any(|row| row.sha256.is_some()),
            rows,
            classes,
        }
    }

    #[test]
    fn a_table_is_read_back_and_any_other_is_not() {
        for rows in [
            vec!["train a/x,\"1.png 5", "val b/2.png 6", "test b/3.png -"],
            vec!["train a/1.png 5 0a", "train a/2.png 5", "test b/3.png 7 0c"],
        ] {
            let listing = listing(&rows);
            let table = listing.table().unwrap();
            let read = Listing::read(&table).unwrap();
            assert_eq!(read, listing);
            assert_eq!(read.digest().unwrap(), listing.digest().unwrap());
            assert_eq!(read.contents(), listing.contents());
            assert!(Listing::read(&table[..table.len() / 2]).is_none_or(|cut| cut != listing));
        }
        assert!(Listing::read(b"index,path,reason\n").is_none());
    }

    #[test]
    fn photos_in_shards_have_the_size_and_the_hash_of_their_own_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let contents: [(&str, &[u8]); 2] = [("a.jpg", b"one"), ("b.jpg", b"three")];
        for (name, content) in contents {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content).unwrap();
        }
        let shard = tar.into_inner().unwrap();
        std::fs::write(folder.path().join("0.tar"), shard).unwrap();
        let data = fgvr_data::DataConfig {
            val_fraction: 0.,
            ..fgvr_data::DataConfig::default()
        };
        let splits = fgvr_data::open(folder.path().to_str().unwrap(), &data).unwrap();
        let mut listing = Listing::of(&splits);
        listing.hash_contents(&splits, &mut crate::Silent);
        for (row, (name, content)) in listing.rows.iter().zip(contents) {
            assert_eq!(row.name, format!("0.tar/{name}"));
            assert_eq!(row.bytes, Some(content.len() as u64));
            assert_eq!(row.sha256, Some(digest::of_bytes(content)));
        }
        assert_eq!((listing.rows.len(), listing.bytes()), (2, 8));
    }

    #[test]
    fn the_digest_is_of_the_file_without_contents() {
        let plain = listing(&["train a/1.png 5", "val b/2.png 6"]);
        let hashed = listing(&["train a/1.png 5 0a", "val b/2.png 6 0b"]);
        let expected = digest::of_bytes(&plain.table().unwrap());
        assert_eq!(plain.digest().unwrap(), expected);
        assert_eq!(hashed.digest().unwrap(), expected);
        assert_eq!(plain.contents(), None);
        assert!(hashed.contents().is_some());
    }
}
