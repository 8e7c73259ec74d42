use std::path::Path;

use super::*;
use crate::{DataConfig, Splits, load_whole, open};

/// Blobs that `seed` says, 60 by 40 pixels.
fn picture(seed: u32) -> image::RgbImage {
    image::RgbImage::from_fn(60, 40, |x, y| {
        let wave = |k: u32| {
            let (kx, ky) = ((seed * 7 + k * 3) % 5 + 1, (seed * 11 + k * 5) % 4 + 1);
            (x as f64 * kx as f64 / 10. + y as f64 * ky as f64 / 8. + f64::from(seed * k)).sin()
        };
        let value = 128. + 40. * (wave(1) + wave(2) + wave(3));
        image::Rgb([value as u8, value as u8, 90])
    })
}

fn save(root: &Path, name: &str, picture: &image::RgbImage) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// Two classes of four training and two test photos; what `change` does to them besides.
fn set(change: impl Fn(&Path)) -> (tempfile::TempDir, Splits) {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in [
        "train/a/1",
        "train/a/2",
        "train/a/3",
        "train/a/4",
        "train/b/1",
        "train/b/2",
        "train/b/3",
        "train/b/4",
        "test/a/1",
        "test/a/2",
        "test/b/1",
        "test/b/2",
    ]
    .iter()
    .enumerate()
    {
        save(
            folder.path(),
            &format!("{name}.png"),
            &picture(number as u32),
        );
    }
    change(folder.path());
    let cfg = DataConfig {
        val_fraction: 0.25,
        ..DataConfig::default()
    };
    let splits = open(folder.path().to_str().unwrap(), &cfg).unwrap();
    (folder, splits)
}

fn checked(splits: &Splits) -> DataCheck {
    let mut heard = Vec::new();
    let found = check(splits, NEAR, 1 << 20, &mut |done, of| {
        heard.push((done, of))
    });
    let total = splits.train.len() + splits.val.len() + splits.test.as_ref().map_or(0, |t| t.len());
    assert_eq!(heard.last(), Some(&(total, total)));
    found
}

#[test]
fn splits_classes_sizes_and_unreadable_photos_are_told() {
    let (_folder, splits) = set(|root| {
        std::fs::write(root.join("test/b/broken.png"), "no picture").unwrap();
    });
    let found = checked(&splits);
    let of: Vec<_> = found
        .splits
        .iter()
        .map(|s| (s.split, s.by_hash, s.images, s.unreadable))
        .collect();
    assert_eq!(
        of,
        [
            ("train", false, 6, 0),
            ("val", true, 2, 0),
            ("test", false, 5, 1)
        ]
    );
    let classes = found.splits[2].classes.as_ref().unwrap();
    assert_eq!(
        (classes.classes, classes.images.min, classes.images.max),
        (2, 2, 3)
    );
    assert_eq!(classes.smallest[0], ("a".to_owned(), 2));
    assert_eq!(found.pixels.unwrap().median, [60, 40]);
    assert!(found.bytes.unwrap().min > 100);
    assert_eq!(found.unreadable.len(), 1);
    assert_eq!(
        (found.unreadable[0].id.as_str(), found.unreadable[0].split),
        ("test/b/broken.png", "test")
    );
    assert!(
        found.pairs.is_empty() && found.listed.is_empty(),
        "{:?}",
        found.listed
    );
    assert_eq!(
        (found.test_as_in_training, found.val_as_in_training),
        (0, 0)
    );
}

#[test]
fn copies_and_photos_that_look_the_same_are_pairs_across_splits_first() {
    let (_folder, splits) = set(|root| {
        // The same bytes in another class, and the same picture larger and brighter in the test split.
        std::fs::copy(root.join("train/a/1.png"), root.join("train/b/copy.png")).unwrap();
        let brighter = image::RgbImage::from_fn(120, 80, |x, y| {
            let pixel = picture(1).get_pixel(x / 2, y / 2).0;
            image::Rgb(pixel.map(|value| value.saturating_add(9)))
        });
        save(root, "test/a/like.png", &brighter);
    });
    let found = checked(&splits);
    let listed: Vec<_> = found
        .listed
        .iter()
        .map(|pair| {
            let [first, second] = &pair.photos;
            (
                first.id.as_str(),
                second.id.as_str(),
                pair.exact,
                pair.other_class,
            )
        })
        .collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let across = listed
        .iter()
        .find(|pair| pair.1 == "test/a/like.png")
        .unwrap();
    assert_eq!(
        (across.0, across.2, across.3),
        ("train/a/2.png", false, false)
    );
    let copy = listed
        .iter()
        .find(|pair| pair.1 != "test/a/like.png")
        .unwrap();
    assert!(copy.2 && copy.3, "{copy:?}");
    let total: u64 = found
        .pairs
        .iter()
        .map(|row| row.counts.exact + row.counts.near)
        .sum();
    assert_eq!(total, 2);
    let held_in_training =
        splits.train.len() == 7 && (0..7).any(|i| splits.train.id(i) == "train/a/2.png");
    assert_eq!(found.test_as_in_training, usize::from(held_in_training));
}

#[test]
fn a_watched_set_tells_what_was_loaded_and_is_the_same_set() {
    let (_folder, splits) = set(|root| {
        for split in ["train", "test"] {
            save(root, &format!("{split}/b/twin.png"), &picture(40));
        }
    });
    let (watched, leaks) = watch(&splits);
    assert_eq!(leaks.of_test(), None, "nothing was loaded");
    for (set, same) in [
        (&watched.train, &splits.train),
        (&watched.val, &splits.val),
        (
            watched.test.as_ref().unwrap(),
            splits.test.as_ref().unwrap(),
        ),
    ] {
        assert_eq!((set.len(), set.classes()), (same.len(), same.classes()));
        for index in 0..set.len() {
            let image = load_whole(set.as_ref(), index).unwrap();
            assert_eq!(image, load_whole(same.as_ref(), index).unwrap());
            assert_eq!(
                (set.id(index), set.label(index)),
                (same.id(index), same.label(index))
            );
            assert_eq!(set.path(index), same.path(index));
        }
        assert!(set.load(set.len()).is_err());
    }
    let in_training = (0..splits.train.len()).any(|i| splits.train.id(i) == "train/b/twin.png");
    match leaks.of_test() {
        Some(leak) => {
            assert!(in_training);
            assert_eq!((leak.images, leak.of), (1, 5));
            assert_eq!(
                (leak.first.as_str(), leak.like.as_str()),
                ("test/b/twin.png", "train/b/twin.png")
            );
        }
        None => assert!(!in_training, "the twin is trained on and was not noticed"),
    }
}

#[test]
fn a_set_of_one_picture_lists_no_more_pairs_than_a_person_reads() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..60 {
        save(folder.path(), &format!("{i}.png"), &picture(3));
    }
    let splits = open(folder.path().to_str().unwrap(), &DataConfig::default()).unwrap();
    let found = checked(&splits);
    let total: u64 = found.pairs.iter().map(|row| row.counts.exact).sum();
    assert_eq!(total, 60 * 59 / 2);
    assert_eq!(found.listed.len(), LISTED_PAIRS);
    assert!(found.splits[0].classes.is_none());
}
