//! What is different between two lists of photos.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;

use fgvr_data::Split;

use super::Listing;
use super::listing::Row;

/// Names that are told of each kind of change.
const TOLD: usize = 3;

/// What became of the photos of one list in another.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    added: Vec<String>,
    removed: Vec<String>,
    resized: Vec<String>,
    rewritten: Vec<String>,
    moved: Vec<String>,
    renamed: Vec<String>,
    /// How many went from one class to another.
    classes: BTreeMap<[String; 2], usize>,
    /// Photos that were trained on and are held out now.
    pub(crate) held_out: usize,
    /// For each training photo of before its number now, if it is still one.
    pub(crate) numbers: Vec<Option<u32>>,
}

impl Changes {
    /// From `old` to `new`.
    pub(crate) fn between(old: &Listing, new: &Listing) -> Self {
        let partner = pair_up(&old.rows, &new.rows);
        let mut changes = Self::default();
        let mut is_known = vec![false; new.rows.len()];
        for (was, partner) in old.rows.iter().zip(partner) {
            let is = partner.map(|index| (index, &new.rows[index]));
            if was.split == Split::Train {
                // Training photos come first, so a row's place is its number.
                let trained = is.filter(|(_, is)| is.split == Split::Train);
                let number = trained.and_then(|(index, _)| u32::try_from(index).ok());
                changes.numbers.push(number);
                changes.held_out += usize::from(is.is_some() && trained.is_none());
            }
            match is {
                None => changes.removed.push(was.name.clone()),
                Some((index, is)) => {
                    is_known[index] = true;
                    changes.compare((old, was), (new, is));
                }
            }
        }
        let added = new.rows.iter().zip(is_known).filter(|(_, known)| !known);
        changes.added = added.map(|(row, _)| row.name.clone()).collect();
        changes
    }

    /// One photo before and now.
    fn compare(&mut self, (old, was): (&Listing, &Row), (new, is): (&Listing, &Row)) {
        if was.bytes != is.bytes {
            self.resized.push(is.name.clone());
        } else if (was.sha256.as_ref().zip(is.sha256.as_ref())).is_some_and(|(a, b)| a != b) {
            self.rewritten.push(is.name.clone());
        }
        if was.split != is.split {
            let (from, to) = (was.split.name(), is.split.name());
            self.moved.push(format!("{} from {from} to {to}", is.name));
        }
        let class = |listing: &Listing, row: &Row| listing.class(row).unwrap_or("none").to_owned();
        let [from, to] = [class(old, was), class(new, is)];
        if from != to {
            *self.classes.entry([from, to]).or_default() += 1;
        } else if within_split(&was.name) != within_split(&is.name) {
            self.renamed.push(format!("{}, now {}", was.name, is.name));
        }
    }
}

impl fmt::Display for Changes {
    /// On one line: `2 photos removed (a.png, b.png), 1 of another size (c.png)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            (&self.added, "added"),
            (&self.removed, "removed"),
            (&self.resized, "of another size"),
            (&self.rewritten, "of the same size with another content"),
            (&self.moved, "in another split"),
            (&self.renamed, "renamed"),
        ];
        let mut parts: Vec<String> = Vec::new();
        for (names, what) in kinds {
            if names.is_empty() {
                continue;
            }
            let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.sort_unstable();
            let mut told = names[..names.len().min(TOLD)].join("; ");
            if names.len() > TOLD {
                told += "; ...";
            }
            parts.push(format!("{} {what} ({told})", names.len()));
        }
        for ([from, to], count) in self.classes.iter().take(TOLD) {
            parts.push(format!("{count} of class {from} now of {to}"));
        }
        if self.classes.len() > TOLD {
            let rest: usize = self.classes.values().skip(TOLD).sum();
            parts.push(format!("{rest} more of other classes"));
        }
        if parts.is_empty() {
            return f.write_str("the same photos are counted in another order");
        }
        write!(f, "photos: {}", parts.join(", "))
    }
}

/// For each of `old` the place in `new` of the same photo. That is the one of its name; failing that, one that only
/// lies elsewhere or is called otherwise, where size (and content, where it is known) leave no doubt which.
fn pair_up(old: &[Row], new: &[Row]) -> Vec<Option<usize>> {
    let places: HashMap<&str, usize> = new
        .iter()
        .enumerate()
        .map(|(place, row)| (row.name.as_str(), place))
        .collect();
    let mut partner: Vec<Option<usize>> = old
        .iter()
        .map(|row| places.get(row.name.as_str()).copied())
        .collect();
    let mut is_taken = vec![false; new.len()];
    partner.iter().flatten().for_each(|at| is_taken[*at] = true);
    // From train/ to test/ or back.
    pair_by(old, new, &mut partner, &mut is_taken, |row| {
        Some((within_split(&row.name), row.bytes?, row.sha256.as_ref()))
    });
    pair_folders(old, new, &mut partner, &mut is_taken);
    // Called otherwise, or in another folder: told by the content alone.
    pair_by(old, new, &mut partner, &mut is_taken, |row| {
        row.sha256.as_ref()
    });
    partner
}

/// Files of a folder: name, size, hash and place in a list.
type Files<'a> = Vec<(&'a str, Option<u64>, Option<&'a str>, usize)>;

/// Pairs the photos of a folder of which none is left with those of a folder of which none was there, where the two hold
/// files of the same names and sizes: a class that was renamed.
fn pair_folders(old: &[Row], new: &[Row], partner: &mut [Option<usize>], is_taken: &mut [bool]) {
    let gone = whole_folders(old, |place| partner[place].is_none());
    let come = whole_folders(new, |place| !is_taken[place]);
    let same = |a: &Files<'_>, b: &Files<'_>| {
        a.len() == b.len() && (a.iter().zip(b)).all(|(a, b)| (a.0, a.1, a.2) == (b.0, b.1, b.2))
    };
    for was in &gone {
        let mut others = gone.iter().filter(|other| same(was, other));
        let mut found = come.iter().filter(|is| same(was, is));
        // The first of them is the folder itself.
        if let (Some(_), None, Some(is), None) =
            (others.next(), others.next(), found.next(), found.next())
        {
            for (was, is) in was.iter().zip(is) {
                partner[was.3] = Some(is.3);
                is_taken[is.3] = true;
            }
        }
    }
}

/// The folders of `rows` all of whose photos are `free`, each with its files in the order of their names.
fn whole_folders(rows: &[Row], free: impl Fn(usize) -> bool) -> Vec<Files<'_>> {
    let mut folders = BTreeMap::<&str, Files<'_>>::new();
    for (place, row) in rows.iter().enumerate() {
        if let Some((folder, file)) = row.name.rsplit_once('/') {
            let files = folders.entry(folder).or_default();
            files.push((file, row.bytes, row.sha256.as_deref(), place));
        }
    }
    let whole = folders
        .into_values()
        .filter(|files| files.iter().all(|file| free(file.3)));
    whole
        .map(|mut files| {
            files.sort_unstable();
            files
        })
        .collect()
}

/// Pairs what has no partner yet and a key that no other such photo has.
fn pair_by<'a, K: Eq + Hash>(
    old: &'a [Row],
    new: &'a [Row],
    partner: &mut [Option<usize>],
    is_taken: &mut [bool],
    key: impl Fn(&'a Row) -> Option<K>,
) {
    let mut places = HashMap::<K, [Vec<usize>; 2]>::new();
    for (place, row) in old.iter().enumerate() {
        if partner[place].is_none()
            && let Some(key) = key(row)
        {
            places.entry(key).or_default()[0].push(place);
        }
    }
    for (place, row) in new.iter().enumerate() {
        if !is_taken[place]
            && let Some(both) = key(row).and_then(|key| places.get_mut(&key))
        {
            both[1].push(place);
        }
    }
    for [was, is] in places.values() {
        if let ([was], [is]) = (was.as_slice(), is.as_slice()) {
            partner[*was] = Some(*is);
            is_taken[*is] = true;
        }
    }
}

/// A name without the folder of its split.
fn within_split(name: &str) -> &str {
    match name.split_once('/') {
        Some(("train" | "test", inside)) => inside,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::tests::listing;
    use super::*;

    fn between(old: &[&str], new: &[&str]) -> Changes {
        Changes::between(&listing(old), &listing(new))
    }

    #[test]
    fn each_kind_of_change_is_told_by_name() {
        let old = [
            "train a/1.png 10",
            "train a/2.png 20",
            "train a/3.png 30",
            "test a/4.png 40",
        ];
        for (new, told) in [
            (
                vec![old[0], old[1], "train a/3.png 31", old[3]],
                "photos: 1 of another size (a/3.png)",
            ),
            (vec![old[1], old[2], old[3]], "photos: 1 removed (a/1.png)"),
            (
                vec![old[0], old[1], old[2], "train a/5.png 9", old[3]],
                "photos: 1 added (a/5.png)",
            ),
            (
                vec![old[0], old[1], "val a/3.png 30", old[3]],
                "photos: 1 in another split (a/3.png from train to val)",
            ),
            (
                vec![
                    "train b/1.png 10",
                    "train b/2.png 20",
                    "train b/3.png 30",
                    "test b/4.png 40",
                ],
                "photos: 4 of class a now of b",
            ),
            // Another photo may have the same name and size in another folder.
            (
                vec![old[0], old[1], "train b/3.png 30", old[3]],
                "photos: 1 added (b/3.png), 1 removed (a/3.png)",
            ),
            (
                vec![old[1], old[0], old[2], old[3]],
                "the same photos are counted in another order",
            ),
            // Only a content would tell that it is the same photo.
            (
                vec![old[0], old[1], "train a/9.png 30", old[3]],
                "photos: 1 added (a/9.png), 1 removed (a/3.png)",
            ),
        ] {
            assert_eq!(between(&old, &new).to_string(), told);
        }
    }

    #[test]
    fn contents_tell_a_new_name_from_a_new_photo() {
        let old = ["train a/1.png 10 aa", "train a/2.png 10 bb"];
        let renamed = between(&old, &[old[0], "train a/3.png 10 bb"]);
        let told = "photos: 1 renamed (a/2.png, now a/3.png)";
        assert_eq!(renamed.to_string(), told);
        let rewritten = between(&old, &[old[0], "train a/2.png 10 cc"]);
        let told = "photos: 1 of the same size with another content (a/2.png)";
        assert_eq!(rewritten.to_string(), told);
        let other = between(&old, &[old[0], "train b/2.png 10 cc"]);
        assert!(other.to_string().contains("1 added"), "{other}");
    }

    #[test]
    fn of_many_photos_the_first_are_named() {
        let old: Vec<String> = (0..9).map(|i| format!("train a/{i}.png {i}")).collect();
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        let told = "photos: 8 removed (a/1.png; a/2.png; a/3.png; ...)";
        assert_eq!(between(&old, &old[..1]).to_string(), told);
    }

    #[test]
    fn training_photos_get_their_new_numbers_and_held_out_ones_are_counted() {
        let changes = between(
            &[
                "train train/a/1.png 1",
                "train train/a/2.png 2",
                "train train/a/3.png 3",
                "train train/a/4.png 4 dd",
            ],
            &[
                "train train/a/0.png 9",
                "train train/a/2.png 2",
                "train train/b/4.png 4 dd",
                "test test/a/1.png 1",
            ],
        );
        assert_eq!(changes.numbers, [None, Some(1), None, Some(2)]);
        assert_eq!(changes.held_out, 1);
        let told = changes.to_string();
        assert!(
            told.contains("1 in another split (test/a/1.png from train to test)"),
            "{told}"
        );
    }
}
