use super::*;
use image::{Rgb, RgbImage};
use std::fs;

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
    fs::write(empty.path().join("1.heic"), "x").unwrap();
    let empty = open(empty.path(), Labels::Auto).unwrap_err();
    assert!(matches!(empty, Error::NoPhotos { .. }), "{empty}");
    assert!(
        empty.to_string().ends_with("passed over: 1 .heic, 1 .txt"),
        "{empty}"
    );
}

#[cfg(unix)]
#[test]
fn a_folder_is_read_once_however_many_links_lead_to_it() {
    use std::os::unix::fs::symlink;
    let root = folder(&["a/1.png", "b/2.png"]);
    let outside = folder(&["3.png"]);
    symlink(root.path(), root.path().join("a/up")).unwrap();
    symlink("/", root.path().join("a/above")).unwrap();
    symlink(root.path().join("b"), root.path().join("0-sorts-first")).unwrap();
    symlink(outside.path(), root.path().join("c")).unwrap();
    symlink(outside.path(), root.path().join("d")).unwrap();
    symlink("nowhere", root.path().join("a/none")).unwrap();
    symlink("itself", root.path().join("a/itself")).unwrap();
    symlink("nowhere.png", root.path().join("a/none.png")).unwrap();
    let scan = scan(root.path()).unwrap();
    let found: Vec<_> = scan.photos.iter().map(|p| p.id.as_str()).collect();
    // A link to no photo is a photo that cannot be read.
    assert_eq!(found, ["a/1.png", "a/none.png", "b/2.png", "c/3.png"]);
    let passed = &scan.found.passed_over;
    assert_eq!(passed["link to a folder that is read already"], 3);
    assert_eq!(passed["link to a folder above"], 1);
    assert_eq!(passed["link to nothing"], 2);
    let notes = scan.found.notes.join("\n");
    assert!(
        notes.contains("left out: d, a link to a folder that is read already"),
        "{notes}"
    );
}

#[cfg(unix)]
#[test]
fn pipes_sockets_and_devices_are_not_opened() {
    let root = folder(&["a/1.png", "b/2.png"]);
    for name in ["a/pipe.png", "pipe", "b/pipe.heic"] {
        let made = std::process::Command::new("mkfifo")
            .arg(root.path().join(name))
            .status();
        assert!(made.is_ok_and(|status| status.success()));
    }
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("a/socket.jpg")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.path().join("b/zero.png")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", root.path().join("b/zero")).unwrap();
    let scan = scan(root.path()).unwrap();
    assert_eq!(scan.photos.len(), 2);
    assert_eq!(scan.found.passed_over["pipe, socket or device"], 6);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_utf_8_are_classes_apart_with_ids_that_lead_back() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let root = folder(&["wren/1.png"]);
    for name in [b"\xe9t\xe9".as_slice(), b"\xe8t\xe8", b"a\nb, c"] {
        let class = root.path().join(OsStr::from_bytes(name));
        fs::create_dir(&class).unwrap();
        fs::copy(root.path().join("wren/1.png"), class.join("1.png")).unwrap();
    }
    let set = open(root.path(), Labels::Auto).unwrap();
    assert_eq!(
        set.classes(),
        [r"\xE8t\xE8", r"\xE9t\xE9", "a\nb, c", "wren"]
    );
    for (i, id) in ids(&set).iter().enumerate() {
        assert_eq!(set.label(i), Some(i as u32));
        assert!(root.path().join(crate::path_of(id)).is_file(), "{id}");
        set.load(i).unwrap();
    }
    fs::write(
        root.path().join(OsStr::from_bytes(b"\xe9t\xe9/2\n.png")),
        "none",
    )
    .unwrap();
    let set = open(root.path(), Labels::Auto).unwrap();
    let message = set.load(2).unwrap_err().to_string();
    assert!(
        message.contains(r"\xE9t\xE9/2\n.png") && message.lines().count() == 1,
        "{message}"
    );
    fs::write(root.path().join(OsStr::from_bytes(b"\xe9.png")), "none").unwrap();
    let message = open(root.path(), Labels::Folders).unwrap_err().to_string();
    assert!(
        message.contains(r"/\xE9.png: lies in no class folder"),
        "{message}"
    );
}

#[test]
fn photos_are_read_under_any_of_their_usual_names_and_other_formats_are_counted() {
    let root = folder(&[
        "a/1.jfif",
        "a/2.JPE",
        "a/3.jpg_large",
        "a/4.jpg:large",
        "a/5.dib",
        "a/6.heic",
        "a/7.0001",
        "b/8",
    ]);
    for (name, bytes) in [
        ("a/1.heic", "ftypheic"),
        ("a/2.HEIC", ""),
        ("b/3.gif", "GIF89a"),
        ("b/4.cr2", "II*"),
        ("b/5.txt", "x"),
        ("b/README", "x"),
        ("b/6.jpg~", "x"),
    ] {
        fs::write(root.path().join(name), bytes).unwrap();
    }
    fs::copy(
        root.path().join("b/8"),
        root.path().join("b/8.jpg_original"),
    )
    .unwrap();
    fs::copy(root.path().join("b/8"), root.path().join("b/8.thm")).unwrap();
    let scan = scan(root.path()).unwrap();
    let found: Vec<_> = scan.photos.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(
        found,
        [
            "a/1.jfif",
            "a/2.JPE",
            "a/3.jpg_large",
            "a/4.jpg:large",
            "a/5.dib",
            "a/6.heic",
            "a/7.0001",
            "b/8"
        ]
    );
    let passed: Vec<_> = scan
        .found
        .passed_over
        .iter()
        .map(|(kind, n)| (kind.as_str(), *n))
        .collect();
    assert_eq!(
        passed,
        [
            (".cr2", 1),
            (".gif", 1),
            (".heic", 2),
            (".thm", 1),
            (".txt", 1),
            ("copy", 2),
            ("without an ending", 1)
        ]
    );
    let notes = scan.found.notes.join("\n");
    assert!(
        notes.starts_with(".cr2, .gif, .heic: pictures of formats that are not read"),
        "{notes}"
    );
}

#[test]
fn what_systems_and_fgvr_leave_behind_is_passed_over() {
    let root = folder(&[
        "a/1.png",
        "b/2.png",
        "a/@eaDir/1.png/SYNOFILE_THUMB_M.jpg",
        "b/._2.png",
        "__MACOSX/b/2.png",
        ".thumbnails/1.png",
        "#recycle/1.png",
        "$RECYCLE.BIN/1.png",
        "runs/photos/samples/epoch-0000-views.png",
        "export/example.png",
        "System Volume Information/1.png",
        "b/.ipynb_checkpoints/2.png",
        "lost+found/1.png",
    ]);
    fs::create_dir(root.path().join("runs/photos/checkpoints")).unwrap();
    fs::write(root.path().join("runs/photos/config.toml"), "").unwrap();
    fs::write(root.path().join("export/model.safetensors"), "").unwrap();
    fs::write(root.path().join("export/config.json"), "").unwrap();
    fs::write(root.path().join("a/Thumbs.db"), "").unwrap();
    let set = open(root.path(), Labels::Auto).unwrap();
    assert_eq!(ids(&set), ["a/1.png", "b/2.png"]);
    assert_eq!(set.classes(), ["a", "b"]);
    let passed = scan(root.path()).unwrap().found.passed_over;
    for (kind, count) in [
        ("@eaDir", 1),
        ("hidden", 3),
        ("run of fgvr", 1),
        ("export of fgvr", 1),
        ("Thumbs.db", 1),
    ] {
        assert_eq!(passed[kind], count, "{kind}");
    }
    // Asked for by name, it is opened.
    let samples = open(&root.path().join("runs/photos"), Labels::Auto).unwrap();
    assert_eq!(samples.len(), 1);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read_is_set_aside_and_named() {
    use std::os::unix::fs::PermissionsExt;
    let root = folder(&["a/1.png", "b/2.png", "b/locked/3.png", "c/4.png"]);
    let mode = |name: &str, mode| {
        fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("b/locked", 0);
    mode("c", 0o444); // its names can be listed, and nothing more
    let all_powerful = fs::read_dir(root.path().join("b/locked")).is_ok();
    let scan = scan(root.path());
    mode("b/locked", 0o755);
    mode("c", 0o755);
    let scan = scan.unwrap();
    if all_powerful {
        fgvr_testkit::skipped(format_args!(
            "folders without permission: this user may read all of them"
        ));
        return;
    }
    let found: Vec<_> = scan.photos.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(found, ["a/1.png", "b/2.png", "c/4.png"]);
    let aside = &scan.found.unreadable;
    assert_eq!((aside.len(), aside[0].path.as_str()), (1, "b/locked"));
    assert!(aside[0].reason.contains("denied"), "{aside:?}");
}

#[test]
fn folders_deeper_than_anyone_makes_them_are_set_aside() {
    let deep = format!("a/{}1.png", "x/".repeat(70));
    let root = folder(&["a/1.png", "b/2.png", &deep]);
    let scan = scan(root.path()).unwrap();
    assert_eq!(scan.photos.len(), 2);
    assert!(scan.found.unreadable[0].reason.contains("64 folders deep"));
}

#[test]
fn one_picture_elsewhere_takes_no_labels_away_but_many_do() {
    let with = |more: &[&str]| {
        let files = [&["x/1.png", "x/2.png", "y/1.png", "y/2.png"], more].concat();
        open(folder(&files).path(), Labels::Auto).unwrap()
    };
    let set = with(&["cover.png"]);
    assert_eq!((set.len(), set.classes().len()), (4, 2));
    assert!(!ids(&set).contains(&"cover.png".to_owned()));
    // One that lies deeper is of its class.
    let set = with(&["y/more/3.png"]);
    assert_eq!((set.len(), set.label(4)), (5, Some(1)));
    for more in [&["cover.png", "map.png"], &["y/more/3.png", "x/more/3.png"]] {
        let set = with(more);
        assert!(set.classes().is_empty() && set.len() == 6, "{more:?}");
    }
}

#[test]
fn an_accent_written_in_two_ways_is_one_class() {
    let root = folder(&["e\u{301}te\u{301}/1.png", "wren/1.png", "été/2.png"]);
    let set = open(root.path(), Labels::Auto).unwrap();
    if set.len() < 3 {
        fgvr_testkit::skipped(format_args!("a file system that keeps one of two names"));
        return;
    }
    assert_eq!(set.classes(), ["wren", "été"]);
    let labels: Vec<_> = (0..3).map(|i| set.label(i)).collect();
    assert_eq!(labels, [Some(1), Some(0), Some(1)]);
    assert_eq!(
        set.id(0),
        "e\u{301}te\u{301}/1.png",
        "an id is the name as it is"
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
