use super::*;
use std::collections::BTreeSet;
use std::fs;

/// Empty files under photos' names: opening looks at names alone.
fn folder(files: impl IntoIterator<Item = String>) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    root
}

fn classes(split: &str, counts: &[usize]) -> Vec<String> {
    let photos = |(class, &count): (usize, &usize)| {
        let split = split.to_owned();
        (0..count).map(move |i| format!("{split}class-{class}/{i:03}.jpg"))
    };
    counts.iter().enumerate().flat_map(photos).collect()
}

fn ids(set: &Arc<dyn Dataset>) -> BTreeSet<String> {
    (0..set.len()).map(|i| set.id(i)).collect()
}

fn open_folder(root: &tempfile::TempDir, cfg: &DataConfig) -> Splits {
    open(root.path().to_str().unwrap(), cfg).unwrap()
}

fn per_class(set: &Arc<dyn Dataset>) -> Vec<usize> {
    let count = |c| (0..set.len()).filter(|&i| set.label(i) == Some(c)).count();
    (0..set.classes().len() as u32).map(count).collect()
}

#[test]
fn val_comes_out_of_train_class_by_class_and_never_out_of_test() {
    let files = [
        classes("train/", &[30, 3, 2, 1]),
        classes("test/", &[5, 5, 5, 5]),
    ]
    .concat();
    let root = folder(files);
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(per_class(&splits.val), [3, 1, 0, 0]);
    assert_eq!(per_class(&splits.train), [27, 2, 2, 1]);
    let test = splits.test.unwrap();
    assert_eq!(per_class(&test), [5, 5, 5, 5]);
    assert!(ids(&splits.val).is_disjoint(&ids(&splits.train)));
    assert!(ids(&splits.val).iter().all(|id| id.starts_with("train/")));
    assert!(ids(&test).iter().all(|id| id.starts_with("test/")));
}

#[test]
fn one_folder_is_split_in_three_disjoint_parts_that_make_it_up() {
    let root = folder(classes("", &[20, 40, 10]));
    let splits = open_folder(&root, &DataConfig::default());
    let test = splits.test.unwrap();
    assert_eq!(per_class(&test), [4, 8, 2]);
    assert_eq!(per_class(&splits.val), [2, 3, 1]);
    let parts = [ids(&splits.train), ids(&splits.val), ids(&test)];
    let all: BTreeSet<_> = parts.iter().flatten().collect();
    assert_eq!(all.len(), 70);
    assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 70);
}

#[test]
fn the_split_depends_on_names_and_seed_alone() {
    let cfg = DataConfig::default();
    let (a, b) = (
        folder(classes("", &[20, 20])),
        folder(classes("", &[20, 20])),
    );
    let val = |root, cfg: &DataConfig| ids(&open_folder(root, cfg).val);
    assert_eq!(val(&a, &cfg), val(&b, &cfg));
    let other = DataConfig {
        seed: 1,
        ..cfg.clone()
    };
    assert_ne!(val(&a, &cfg), val(&a, &other));
    // Photos added to one class move none of another.
    fs::write(b.path().join("class-1/new.jpg"), "").unwrap();
    let first = |ids: BTreeSet<String>| {
        ids.into_iter()
            .filter(|i| i.starts_with("class-0"))
            .collect::<Vec<_>>()
    };
    assert_eq!(first(val(&a, &cfg)), first(val(&b, &cfg)));
}

#[test]
fn without_labels_there_is_val_but_no_test() {
    let root = folder((0..40).map(|i| format!("{i}.png")));
    let splits = open_folder(&root, &DataConfig::default());
    assert!(splits.test.is_none());
    assert_eq!((splits.train.len(), splits.val.len()), (36, 4));
}

#[test]
fn fractions_of_zero_hold_nothing_out() {
    let root = folder(classes("", &[9, 9]));
    let cfg = DataConfig {
        val_fraction: 0.,
        test_fraction: 0.,
        ..DataConfig::default()
    };
    let splits = open_folder(&root, &cfg);
    assert!(splits.val.is_empty() && splits.test.is_none());
    assert_eq!(splits.train.len(), 18);
}

#[test]
fn train_and_test_share_one_list_of_classes() {
    let files = [
        "train/a/1.jpg",
        "train/c/1.jpg",
        "test/b/1.jpg",
        "test/c/1.jpg",
    ];
    let root = folder(files.map(str::to_owned));
    let splits = open_folder(&root, &DataConfig::default());
    let test = splits.test.unwrap();
    assert_eq!(splits.train.classes(), ["a", "b", "c"]);
    assert_eq!(test.classes(), ["a", "b", "c"]);
    assert_eq!(splits.train.label(1), Some(2));
    assert_eq!((test.label(0), test.label(1)), (Some(1), Some(2)));
    assert_eq!(test.id(0), "test/b/1.jpg");
}

#[test]
fn names_and_layouts_that_fit_nothing_are_errors() {
    let cfg = DataConfig::default();
    let fails = |spec: &str| open(spec, &cfg).err().unwrap().to_string();
    assert!(fails("builtin:birds").contains("builtin:birds: no such data set"));
    assert!(fails("").contains("no such data set"));
    let root = folder(classes("test/", &[2, 2]));
    assert!(fails(root.path().to_str().unwrap()).contains("no train/"));
    assert!(fails(root.path().join("none").to_str().unwrap()).contains("no such folder"));
}

/// Files below `classes`, each with `count` photos.
fn in_folders(classes: &[&str], count: usize) -> Vec<String> {
    let photos = |class: &&str| {
        let class = (*class).to_owned();
        (0..count).map(move |i| format!("{class}/{i:03}.jpg"))
    };
    classes.iter().flat_map(photos).collect()
}

/// Photos of each split, and the classes.
fn sizes(splits: &Splits) -> ([usize; 2], Option<usize>, usize) {
    let test = splits.test.as_ref().map(|test| test.len());
    (
        [splits.train.len(), splits.val.len()],
        test,
        splits.train.classes().len(),
    )
}

#[test]
fn a_class_that_is_called_as_a_split_is_a_class() {
    for names in [
        ["bus", "car", "train", "tram"],
        ["Test", "train", "val", "rest"],
    ] {
        let root = folder(in_folders(&names, 12));
        let splits = open_folder(&root, &DataConfig::default());
        assert_eq!(sizes(&splits), ([36, 4], Some(8), 4), "{names:?}");
    }
    // Also where the others cannot be decoded.
    let root = folder([in_folders(&["train"], 12), vec!["bus/1.heic".to_owned()]].concat());
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(splits.train.id(0), "train/000.jpg");
    assert_eq!(splits.train.len() + splits.val.len(), 12);
}

#[test]
fn splits_are_known_in_either_case_and_by_their_usual_names() {
    for [train, val, test] in [
        ["train", "val", "test"],
        ["Train", "Valid", "TEST"],
        ["training", "validation", "testing"],
        ["TRAIN", "dev", "Test"],
    ] {
        let files = [
            in_folders(&[&format!("{train}/a"), &format!("{train}/b")], 10),
            in_folders(&[&format!("{val}/a"), &format!("{val}/b")], 3),
            in_folders(&[&format!("{test}/a"), &format!("{test}/b")], 2),
            // Neither is an entry: no pictures are in it.
            vec!["labels/a.csv".to_owned(), "README.md".to_owned()],
        ];
        let root = folder(files.concat());
        let splits = open_folder(&root, &DataConfig::default());
        assert_eq!(sizes(&splits), ([20, 6], Some(4), 2), "{train}");
        assert!(ids(&splits.val).iter().all(|id| id.starts_with(val)));
        // All of them also where nothing is to be held out, as for embedding.
        let cfg = DataConfig {
            val_fraction: 0.,
            test_fraction: 0.,
            ..DataConfig::default()
        };
        assert_eq!(sizes(&open_folder(&root, &cfg)), ([20, 6], Some(4), 2));
    }
}

#[test]
fn a_folder_beside_splits_of_class_folders_is_left_out_and_named() {
    let splits = in_folders(&["train/a", "train/b", "test/a", "test/b"], 10);
    let root = folder(
        [
            splits,
            in_folders(&["extra"], 5),
            vec!["cover.jpg".to_owned()],
        ]
        .concat(),
    );
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(sizes(&splits), ([18, 2], Some(20), 2));
    assert_eq!(splits.found.left_out, ["cover.jpg"]);
    assert_eq!(
        splits.found.notes,
        ["left out: 5 images in extra, beside the splits"]
    );
}

#[test]
fn two_folders_of_one_split_are_one() {
    let root = folder(in_folders(&["train/a", "train/b", "val/a", "dev/b"], 10));
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(sizes(&splits), ([20, 20], None, 2));
    assert_eq!(splits.found.notes, ["taken for one split: dev, val"]);
}

#[test]
fn a_split_without_class_folders_is_without_labels_and_said_to_be() {
    let labelled = in_folders(&["train/a", "train/b"], 10);
    let root = folder([labelled, in_folders(&["test"], 6)].concat());
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(sizes(&splits), ([18, 2], Some(6), 2));
    let test = splits.test.unwrap();
    assert_eq!((test.label(0), splits.train.label(0)), (None, Some(0)));
    let notes = splits.found.notes.join("\n");
    assert!(notes.contains("test/ is not in class folders"), "{notes}");
    // The other way round, too.
    let root = folder(
        [
            in_folders(&["train"], 20),
            in_folders(&["test/a", "test/b"], 3),
        ]
        .concat(),
    );
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(sizes(&splits), ([18, 2], Some(6), 0));
    assert_eq!(splits.test.unwrap().label(0), Some(0));
    assert!(splits.found.notes[0].contains("train/ is not in class folders"));
    // One class is enough in a split beside one with several.
    let root = folder(in_folders(&["train/a", "train/b", "test/b"], 10));
    let test = open_folder(&root, &DataConfig::default()).test.unwrap();
    assert_eq!(test.label(0), Some(1));
    // Asked for class folders, a photo without one is an error that says what else to ask for.
    let root = folder(
        [
            in_folders(&["train/a", "train/b"], 10),
            in_folders(&["test"], 6),
        ]
        .concat(),
    );
    let cfg = DataConfig {
        labels: Labels::Folders,
        ..DataConfig::default()
    };
    let error = open(root.path().to_str().unwrap(), &cfg)
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("test/000.jpg: lies in no class folder")
            && error.contains("data.labels=auto"),
        "{error}"
    );
}

#[test]
fn classes_that_are_not_trained_on_are_named() {
    let root = folder(in_folders(
        &["train/a", "train/b", "test/b", "test/c", "test/d"],
        10,
    ));
    let splits = open_folder(&root, &DataConfig::default());
    assert_eq!(
        splits.found.notes,
        ["there is nothing to train on of classes to test on: c, d"]
    );
    // An accent written in two ways is no other class.
    let root = folder(in_folders(
        &["train/e\u{301}", "train/b", "test/é", "test/b"],
        10,
    ));
    let splits = open_folder(&root, &DataConfig::default());
    assert!(splits.found.notes.is_empty(), "{:?}", splits.found.notes);
    assert_eq!(sizes(&splits).2, 2);
}

#[test]
fn no_labels_where_some_might_be_expected_are_explained() {
    for (files, words) in [
        (
            in_folders(&["x/a", "x/b", "y/c"], 5),
            "no labels: 15 of 15 images lie more than one folder deep",
        ),
        (
            in_folders(&["birds/a", "birds/b"], 5),
            "all images lie in the folder birds; open that one",
        ),
        (
            [
                in_folders(&["a", "b"], 5),
                (0..9).map(|i| format!("{i}.jpg")).collect(),
            ]
            .concat(),
            "9 of 19 images lie in no folder",
        ),
    ] {
        let splits = open_folder(&folder(files), &DataConfig::default());
        assert_eq!(splits.found.classes, 0);
        let notes = splits.found.notes.join("\n");
        assert!(notes.contains(words), "{words}: {notes}");
    }
    for files in [
        in_folders(&["a"], 5),
        (0..9).map(|i| format!("{i}.jpg")).collect(),
    ] {
        assert!(
            open_folder(&folder(files), &DataConfig::default())
                .found
                .notes
                .is_empty()
        );
    }
}

#[test]
fn the_summary_counts_what_is_used_and_what_is_not() {
    let files = [
        in_folders(&["a", "b"], 10),
        vec![
            "cover.jpg".to_owned(),
            "a/1.heic".to_owned(),
            "b/@eaDir/1.jpg".to_owned(),
        ],
    ];
    let root = folder(files.concat());
    let found = open_folder(&root, &DataConfig::default()).found;
    let images = SplitCounts {
        train: 14,
        val: 2,
        test: Some(4),
    };
    assert_eq!((found.images, found.classes), (images, 2));
    let line = found.to_string();
    let told = "20 images in 2 classes (14 to train on, 2 to validate, 4 to test); passed over: 1 .heic, 1 @eaDir; \
                left out: 1 image in no class folder";
    assert!(line.ends_with(told), "{line}");
    assert!(
        found
            .lines()
            .iter()
            .any(|line| line.contains("left out: cover.jpg, which lies in no class folder"))
    );
}

#[test]
fn settings_outside_their_range_are_named() {
    let bad = |change: fn(&mut DataConfig)| {
        let mut cfg = DataConfig::default();
        change(&mut cfg);
        open("anywhere", &cfg).err().unwrap().to_string()
    };
    assert!(bad(|c| c.val_fraction = 1.).contains("data.val_fraction is 1"));
    assert!(bad(|c| c.test_fraction = f64::NAN).contains("data.test_fraction is NaN"));
    assert!(bad(|c| c.size = 0).contains("data.size"));
    assert!(bad(|c| c.max_pixels = 0).contains("data.max_pixels"));
}

#[test]
fn the_built_in_set_has_three_splits_of_the_sizes_asked_for() {
    let cfg = DataConfig {
        size: 16,
        lookalikes: LookalikesConfig {
            families: 2,
            species_per_family: 2,
            train_images: 6,
            val_images: 4,
            test_images: 5,
            ..LookalikesConfig::default()
        },
        ..DataConfig::default()
    };
    let splits = open("builtin:lookalikes", &cfg).unwrap();
    let test = splits.test.unwrap();
    assert_eq!(
        [splits.train.len(), splits.val.len(), test.len()],
        [6, 4, 5]
    );
    assert_eq!(splits.train.load(0).unwrap().width, 16);
}
