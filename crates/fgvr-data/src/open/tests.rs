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
    let mixed = [classes("train/", &[2, 2]), vec!["test/1.jpg".to_owned()]].concat();
    let root = folder(mixed);
    assert!(fails(root.path().to_str().unwrap()).contains("only one of train/ and test/"));
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
