use super::*;

#[test]
fn folders_names_and_ranges_say_splits_and_a_hash_does_otherwise() {
    let one = || samples(0, 10, 2);
    let named = folder(&[
        ("birds-train-0.tar", one()),
        ("birds-train-1.tar", samples(10, 10, 2)),
        ("birds-validation-0.tar", one()),
        ("birds-test-0.tar", one()),
        ("birds.json", b"{}".to_vec()),
    ]);
    let cfg = DataConfig::default();
    let splits = opened(&named, "", &cfg).unwrap();
    assert_eq!(splits.train.len(), 20);
    assert_eq!(splits.val.id(0), "birds-validation-0.tar/000000.PNG");
    assert_eq!(splits.test.unwrap().len(), 10);
    assert_eq!(splits.found.passed_over[".json"], 41);

    let folders = folder(&[("Train/0.tar", one()), ("test/0.tar", one())]);
    let splits = opened(&folders, "", &cfg).unwrap();
    assert_eq!((splits.train.len(), splits.val.len()), (8, 2));
    assert_eq!(splits.train.classes(), ["0", "1"]);
    let test = splits.test.unwrap();
    assert!(ids(&test).iter().all(|id| id.starts_with("test/0.tar/")));

    // What is named is used, and nothing else.
    let range = opened(&named, "birds-train-{0..1}.tar", &cfg).unwrap();
    assert_eq!((range.train.len(), range.val.len()), (18, 2));
    assert!(range.test.is_none());
    let test = opened(&named, "birds-test-0.tar", &cfg).unwrap();
    assert_eq!(test.test.unwrap().len(), 2);

    let whole = folder(&[("0.tar", one()), ("1.tar", samples(10, 10, 2))]);
    let splits = opened(&whole, "", &cfg).unwrap();
    let test = splits.test.unwrap();
    assert_eq!(
        [splits.train.len(), splits.val.len(), test.len()],
        [14, 2, 4]
    );
    let parts = [ids(&splits.train), ids(&splits.val), ids(&test)];
    assert_eq!(parts.iter().flatten().collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn without_classes_there_are_no_labels_and_without_pictures_beside_them_alone_are_they_shards() {
    let unlabelled = archive([
        ("a.png", &png(1)[..]),
        ("b.png", &png(2)),
        ("c.png", &png(3)),
    ]);
    let root = folder(&[
        ("train-0.tar", samples(0, 10, 2)),
        ("test-0.tar", unlabelled),
    ]);
    let cfg = DataConfig::default();
    let splits = opened(&root, "", &cfg).unwrap();
    let test = splits.test.unwrap();
    assert_eq!((test.label(0), test.classes().len()), (None, 0));
    assert_eq!(
        splits.found.notes,
        ["no labels: 3 images have no class in the split of test-0.tar"]
    );
    let none = DataConfig {
        labels: Labels::None,
        ..cfg.clone()
    };
    assert_eq!(opened(&root, "", &none).unwrap().train.classes().len(), 0);
    std::fs::write(root.path().join("photo.png"), png(1)).unwrap();
    let splits = opened(&root, "", &cfg).unwrap();
    assert_eq!(splits.found.passed_over[".tar"], 2);
}

#[test]
fn shards_that_leave_open_what_they_are_for_are_refused() {
    let one = || samples(0, 4, 2);
    let refused = |files: &[&str], expected: &str| {
        let files: Vec<_> = files.iter().map(|name| (*name, one())).collect();
        let root = folder(&files);
        let error = opened(&root, "", &DataConfig::default()).err().unwrap();
        assert!(error.is_bad_input());
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(
        &["train-0.tar", "extra.tar"],
        "the names of some shards say their split (train-0.tar)",
    );
    refused(
        &["0.tar", "train/1.tar"],
        "both in it (0.tar) and in folders of splits (train/1.tar)",
    );
    refused(&["test-0.tar", "val-0.tar"], "none of train");
    refused(&["a.tar.gz", "b.tgz"], "undo that with `gunzip`");
    let root = folder(&[("a-0.tar", one()), ("a-2.tar", one())]);
    let error = opened(&root, "a-{0..3}.tar", &DataConfig::default())
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("a-1.tar: no such shard; 2 of the 4"),
        "{error}"
    );
    let error = opened(&root, "b-{3..0}.tar", &DataConfig::default())
        .err()
        .unwrap();
    assert!(matches!(error, Error::Setting { .. }));
}
