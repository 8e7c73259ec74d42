//! Lists that are damaged or disagree.

use super::super::{Level, SetKind, read_lists};
use super::fixtures::{lists_of, mat};

#[test]
fn lists_that_are_damaged_or_disagree_are_errors_with_their_line() {
    use SetKind::{Aircraft, Cub, Food, Pets};
    for (set, file, from, to, expected) in [
        (
            Cub,
            "images.txt",
            "001.Auk/b",
            "../b",
            "images.txt: line 2: \"images/../b.jpg\" is no path below",
        ),
        (
            Cub,
            "images.txt",
            "001.Auk/b",
            "/etc/b",
            "images.txt: line 2: \"images//etc/b.jpg\" is no path below",
        ),
        (
            Cub,
            "images.txt",
            "2 001",
            "1 001",
            "images.txt: line 2: 1 stands here a second time",
        ),
        (
            Cub,
            "images.txt",
            "b.jpg",
            "a.jpg",
            "images.txt: line 2: images/001.Auk/a.jpg stands in train and in test",
        ),
        (
            Cub,
            "images.txt",
            "e.jpg",
            "a.jpg",
            "images.txt: line 5: images/001.Auk/a.jpg stands in train a second time (first: line 1)",
        ),
        (
            Cub,
            "images.txt",
            "2 001.Auk/b.jpg",
            "2",
            "images.txt: line 2: expected an image or number and",
        ),
        (
            Cub,
            "image_class_labels.txt",
            "3 2",
            "7 2",
            "image_class_labels.txt: line 3: image 7 is not in images.txt",
        ),
        (
            Cub,
            "image_class_labels.txt",
            "3 2\n",
            "",
            "images.txt: line 3: image 3 is not in image_class_labels.txt",
        ),
        (
            Cub,
            "image_class_labels.txt",
            "3 2",
            "3 0",
            "image_class_labels.txt: line 3: expected a class from 1 to 2, found 0",
        ),
        (
            Cub,
            "image_class_labels.txt",
            "3 2",
            "3 201",
            "image_class_labels.txt: line 3: expected a class from 1 to 2, found 201",
        ),
        (
            Cub,
            "train_test_split.txt",
            "3 1",
            "3 2",
            "train_test_split.txt: line 3: expected 1 (train) or 0 (test), found 2",
        ),
        (
            Cub,
            "classes.txt",
            "2 002.Owl",
            "3 002.Owl",
            "classes.txt: line 2: expected class 2, found 3",
        ),
        (
            Cub,
            "classes.txt",
            "002.Owl",
            "001.Auk",
            "classes 1 and 2 are both called 001.Auk",
        ),
        (
            Cub,
            "bounding_boxes.txt",
            "1 4.0",
            "1 NaN",
            "bounding_boxes.txt: line 1: expected a box with finite edges",
        ),
        (
            Cub,
            "bounding_boxes.txt",
            "20.0",
            "-1",
            "bounding_boxes.txt: line 1: expected a box with finite edges",
        ),
        (
            Cub,
            "bounding_boxes.txt",
            " 10.0",
            "",
            "bounding_boxes.txt: line 1: expected 4 numbers, found \"4.0 2.0 20.0\"",
        ),
        (
            Cub,
            "parts/part_locs.txt",
            "8.0",
            "inf",
            "part_locs.txt: line 1: expected a finite point",
        ),
        (
            Cub,
            "parts/part_locs.txt",
            "1 2 0",
            "1 9 0",
            "part_locs.txt: line 2: part 9 is not in parts.txt",
        ),
        (
            Aircraft,
            "images_family_train.txt",
            "0000001 Boeing 707",
            "0000001 Boeing 737",
            "images_family_test.txt: line 1: image 0000004 of variant 707-320 is of family Boeing 707, others are of Boeing 737",
        ),
        (
            Aircraft,
            "images_family_train.txt",
            "0000002",
            "0000009",
            "images_variant_train.txt: line 2: image 0000002 is not in images_family_train.txt",
        ),
        (
            Aircraft,
            "images_variant_val.txt",
            "737-200",
            "747",
            "images_variant_val.txt: line 1: 747 is not in the list of classes",
        ),
        (
            Aircraft,
            "images_box.txt",
            "0000004",
            "0000005",
            "images_box.txt: line 4: image 0000005 is in no list of a split",
        ),
        (
            Pets,
            "annotations/trainval.txt",
            "beagle_2 2",
            "beagle_2 1",
            "trainval.txt: line 2: image beagle_2 is of class 1 here, of 2 in list.txt",
        ),
        (
            Pets,
            "annotations/trainval.txt",
            "beagle_2 2",
            "beagle_2 0",
            "trainval.txt: line 2: expected a class from 1, found 0",
        ),
        (
            Pets,
            "annotations/list.txt",
            "Abyssinian_3 1",
            "Abyssinian_4 1",
            "test.txt: line 1: image Abyssinian_3 is not in list.txt",
        ),
        (
            Pets,
            "annotations/trainval.txt",
            "beagle_2 2 2 1\n",
            "",
            "list.txt: line 3: image beagle_2 is in neither trainval.txt nor test.txt",
        ),
        (
            Food,
            "meta/train.txt",
            "waffles/2",
            "pizza/2",
            "train.txt: line 2: expected CLASS/IMAGE with a class of classes.txt, found pizza/2",
        ),
        (
            Food,
            "meta/labels.txt",
            "Waffles\n",
            "",
            "labels.txt: line 1: expected 2 labels as in classes.txt, found 1",
        ),
        (
            Food,
            "meta/test.txt",
            "apple_pie/4",
            "apple_pie/1",
            "test.txt: line 1: images/apple_pie/1.jpg stands in train and in test",
        ),
    ] {
        let mut lists = lists_of(set);
        let text = String::from_utf8(lists[file].clone()).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        lists.insert(file.to_owned(), text.replacen(from, to, 1).into_bytes());
        let error = read_lists(set, &lists, Level::Variant).unwrap_err();
        assert!(
            error.is_bad_input() && error.to_string().contains(expected),
            "{error}\n  expected {expected}"
        );
    }
    // Another file's variables.
    let mut lists = lists_of(SetKind::Flowers);
    lists.insert("setid.mat".to_owned(), mat("imagelabels.mat"));
    let error = read_lists(SetKind::Flowers, &lists, Level::Variant)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "setid.mat: variable trnid: expected numbers, found none"
    );
}

#[test]
fn changed_lists_never_panic_and_every_path_stays_below_the_folder() {
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for set in SetKind::ALL {
        let lists = lists_of(set);
        let names: Vec<String> = lists.keys().cloned().collect();
        for _ in 0..3000 {
            let mut lists = lists.clone();
            let bytes = lists.get_mut(&names[next(names.len())]).unwrap();
            for _ in 0..=next(3) {
                let place = next(bytes.len());
                match next(4) {
                    0 => bytes.truncate(place.max(1)),
                    1 => bytes[place] = b" \n0129./-N\xff"[next(11)],
                    2 => bytes[place] ^= 1 << next(8),
                    _ => drop(bytes.remove(place)),
                }
                if bytes.is_empty() {
                    bytes.push(b'\n');
                }
            }
            if let Ok(index) = read_lists(set, &lists, Level::Family) {
                for (path, label) in index.paths() {
                    assert!(
                        !path.split('/').any(|name| name == ".." || name.is_empty()),
                        "{path}"
                    );
                    assert!(label.is_none_or(|label| (label as usize) < index.classes().len()));
                }
            }
        }
    }
}
