use super::*;
use image::{Rgb, RgbImage};

/// Writes a small photo to each of `files` below a new folder.
fn folder(files: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (i, file) in files.iter().enumerate() {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let picture = RgbImage::from_pixel(4 + i as u32, 3, Rgb([i as u8; 3]));
        picture
            .save_with_format(path, image::ImageFormat::Png)
            .unwrap();
    }
    root
}

fn ids(folder: &Folder) -> Vec<String> {
    (0..folder.len()).map(|i| folder.id(i)).collect()
}

fn open(root: &Path, labels: Labels) -> Result<Folder, Error> {
    Folder::new(root, labels, 1000)
}

#[test]
fn class_folders_give_sorted_labels() {
    let root = folder(&["wren/b.png", "finch/z.PNG", "wren/a.jpg"]);
    let set = open(root.path(), Labels::Auto).unwrap();
    assert_eq!(ids(&set), ["finch/z.PNG", "wren/a.jpg", "wren/b.png"]);
    assert_eq!(set.classes(), ["finch", "wren"]);
    assert_eq!(
        (0..3).map(|i| set.label(i)).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(1)]
    );
    assert_eq!(set.load(0).unwrap().width, 5);
    assert!(set.part_mask(0).unwrap().is_none());
}

#[test]
fn flat_deep_and_single_folders_have_no_labels() {
    for files in [
        &["a.png", "b.png"][..],
        &["x/a.png", "y/z/b.png"],
        &["x/a.png", "b.png"],
        &["x/a.png", "x/b.png"],
    ] {
        let root = folder(files);
        let set = open(root.path(), Labels::Auto).unwrap();
        assert_eq!(set.len(), 2);
        assert!(
            set.classes().is_empty() && set.label(0).is_none(),
            "{files:?}"
        );
    }
}

#[test]
fn the_caller_may_overrule_what_the_folders_look_like() {
    let root = folder(&["x/a.png", "y/z/b.png"]);
    let set = open(root.path(), Labels::Folders).unwrap();
    assert_eq!(
        (set.classes(), set.label(1)),
        (&["x".to_owned(), "y".to_owned()][..], Some(1))
    );
    let root = folder(&["x/a.png", "y/b.png"]);
    assert!(
        open(root.path(), Labels::None)
            .unwrap()
            .classes()
            .is_empty()
    );
    let root = folder(&["x/a.png", "b.png"]);
    let message = open(root.path(), Labels::Folders).unwrap_err().to_string();
    assert!(
        message.contains("b.png: lies in no class folder"),
        "{message}"
    );
}

#[test]
fn hidden_and_other_files_are_passed_over_and_bare_names_are_looked_into() {
    let root = folder(&["a/1.png", "a/.2.png", ".b/3.png", "b/4", "b/5.webp"]);
    fs::write(root.path().join("a/list.csv"), "x").unwrap();
    fs::write(root.path().join("a/README"), "x").unwrap();
    let set = open(root.path(), Labels::Auto).unwrap();
    assert_eq!(ids(&set), ["a/1.png", "b/4", "b/5.webp"]);
    assert_eq!(set.load(1).unwrap().height, 3);
}

#[test]
fn wrong_folders_are_told_apart() {
    let root = folder(&["a.png"]);
    let missing = open(&root.path().join("none"), Labels::Auto).unwrap_err();
    assert!(matches!(missing, Error::NoFolder { .. }), "{missing}");
    let file = open(&root.path().join("a.png"), Labels::Auto).unwrap_err();
    assert!(matches!(file, Error::NotAFolder { .. }), "{file}");
    let empty = tempfile::tempdir().unwrap();
    fs::write(empty.path().join("notes.txt"), "x").unwrap();
    let empty = open(empty.path(), Labels::Auto).unwrap_err();
    assert!(matches!(empty, Error::NoPhotos { .. }), "{empty}");
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_back_up_is_an_error_and_not_a_hang() {
    let root = folder(&["a/1.png"]);
    std::os::unix::fs::symlink(root.path(), root.path().join("a/up")).unwrap();
    let error = open(root.path(), Labels::Auto).unwrap_err();
    assert!(
        matches!(error, Error::Layout { .. } | Error::Io { .. }),
        "{error}"
    );
}

#[test]
fn an_index_past_the_end_and_an_unreadable_photo_are_errors() {
    let root = folder(&["a.png"]);
    fs::write(root.path().join("b.jpg"), "not a picture").unwrap();
    let set = open(root.path(), Labels::Auto).unwrap();
    assert!(matches!(
        set.load(2),
        Err(Error::IndexOutOfRange {
            index: 2,
            len: 2,
            ..
        })
    ));
    assert!(set.load(1).unwrap_err().to_string().contains("b.jpg"));
    assert_eq!((set.id(2), set.label(2)), (String::new(), None));
}
