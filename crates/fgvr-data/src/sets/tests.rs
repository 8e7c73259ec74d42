use super::*;
use crate::{DataConfig, Dataset, Labels, Splits};
use fixtures::{Lists, lists_of, mat, on_disk, write};
use std::fs;

mod fixtures;
mod lists;

fn open(root: &tempfile::TempDir, cfg: &DataConfig) -> Result<Splits, Error> {
    crate::open(root.path().to_str().unwrap(), cfg)
}

fn ids(set: &dyn Dataset) -> Vec<String> {
    (0..set.len()).map(|i| set.id(i)).collect()
}

#[test]
fn every_set_opens_with_its_official_split_and_classes() {
    // Counts of images are of train and val together where there is no official val.
    for (set, inside, train, val, test, classes, first) in [
        (
            SetKind::Cub,
            "CUB_200_2011",
            3,
            None,
            2,
            ["001.Auk", "002.Owl"],
            "CUB_200_2011/images/001.Auk/a.jpg",
        ),
        (
            SetKind::Cars,
            "",
            6,
            None,
            2,
            ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"],
            "cars_train/00001.jpg",
        ),
        (
            SetKind::Aircraft,
            "fgvc-aircraft-2013b/data",
            2,
            Some(1),
            1,
            ["707-320", "737-200"],
            "fgvc-aircraft-2013b/data/images/0000001.jpg",
        ),
        (
            SetKind::Pets,
            "",
            3,
            None,
            1,
            ["Abyssinian", "beagle"],
            "images/Abyssinian_1.jpg",
        ),
        (
            SetKind::Flowers,
            "",
            3,
            Some(2),
            2,
            ["1", "2"],
            "jpg/image_00006.jpg",
        ),
        (
            SetKind::Dogs,
            "",
            6,
            None,
            2,
            ["Chihuahua", "Japanese_spaniel"],
            "Images/n02085620-Chihuahua/n02085620_0.jpg",
        ),
        (
            SetKind::Food,
            "food-101",
            3,
            None,
            1,
            ["apple_pie", "waffles"],
            "food-101/images/apple_pie/1.jpg",
        ),
    ] {
        let root = on_disk(set, &lists_of(set), inside);
        let splits = open(
            &root,
            &DataConfig {
                val_fraction: 0.,
                ..DataConfig::default()
            },
        )
        .unwrap();
        let found = &splits.found.images;
        assert_eq!(
            (found.train, found.val, found.test),
            (train, val.unwrap_or(0), Some(test)),
            "{set:?}"
        );
        assert_eq!(splits.train.classes()[..2], classes, "{set:?}");
        assert_eq!(splits.train.id(0), first);
        let line = splits.found.to_string();
        assert!(
            line.contains(&format!(": {}, ", set.name())) && line.contains("official split"),
            "{line}"
        );
        assert!(
            splits.train.label(0).is_some() && splits.test.as_ref().unwrap().label(0).is_some()
        );
        let image = splits.train.load(0).unwrap();
        let rows = if set == SetKind::Aircraft { 10 } else { 30 };
        assert_eq!((image.width, image.height), (32, rows), "{set:?}");
        assert!(splits.train.path(0).unwrap().is_file());

        let half = DataConfig {
            val_fraction: 0.5,
            ..DataConfig::default()
        };
        let held_out = open(&root, &half).unwrap();
        assert_eq!(
            held_out.train.len() + held_out.val.len(),
            train + val.unwrap_or(0)
        );
        assert_eq!(
            held_out.val.len() != val.unwrap_or(0),
            val.is_none(),
            "{set:?}"
        );
        assert_eq!(
            ids(held_out.test.unwrap().as_ref()),
            ids(splits.test.unwrap().as_ref())
        );

        let plain = DataConfig {
            layout: DataLayout::Folders,
            ..DataConfig::default()
        };
        assert!(open(&root, &plain).unwrap().found.set.is_none());
        let none = DataConfig {
            labels: Labels::None,
            ..DataConfig::default()
        };
        let none = open(&root, &none).unwrap();
        assert!(none.train.label(0).is_none() && none.train.classes().is_empty());
    }
}

#[test]
fn what_is_missing_is_named() {
    for set in SetKind::ALL {
        let lists = lists_of(set);
        let root = on_disk(set, &lists, "");
        let second = read_lists(set, &lists, Level::Variant).unwrap();
        let second = second.paths().nth(1).unwrap().0.to_owned();
        fs::remove_file(root.path().join(&second)).unwrap();
        let error = open(&root, &DataConfig::default())
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains(&format!("{} that is not all there: 1 of ", set.name())),
            "{error}"
        );
        assert!(
            error.ends_with(&format!("images that its lists name are missing: {second}")),
            "{error}"
        );
        let gone = lists.keys().find(|name| !name.contains("xmls/")).unwrap();
        fs::remove_file(root.path().join(gone)).unwrap();
        let error = open(&root, &DataConfig::default())
            .err()
            .unwrap()
            .to_string();
        let name = gone.rsplit('/').next().unwrap();
        assert!(
            error.contains(name) && error.contains(" missing; unpack"),
            "{error}"
        );
    }
    let empty = tempfile::tempdir().unwrap();
    let cfg = DataConfig {
        layout: DataLayout::Cub,
        ..DataConfig::default()
    };
    let error = open(&empty, &cfg).err().unwrap().to_string();
    assert!(
        error.contains("images, images.txt") && error.contains("3 more missing"),
        "{error}"
    );
    let both = on_disk(SetKind::Food, &lists_of(SetKind::Food), "food-101");
    write(both.path().join("setid.mat"), b"");
    let error = open(&both, &DataConfig::default())
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("more than one set") && error.contains("Flowers-102, Food-101"),
        "{error}"
    );
}

#[test]
fn a_crop_is_the_box_with_its_margin_and_a_box_beside_the_image_has_its_line() {
    let root = on_disk(SetKind::Cub, &lists_of(SetKind::Cub), "");
    let mut cfg = DataConfig {
        val_fraction: 0.,
        crop: Crop::Box,
        ..DataConfig::default()
    };
    let splits = open(&root, &cfg).unwrap();
    let image = splits.train.load(0).unwrap();
    // Of x 4 to 24 and y 2 to 12.
    assert_eq!((image.width, image.height, image.pixels[0]), (20, 10, 2));
    let mask = splits.train.part_mask(0).unwrap().unwrap();
    assert_eq!((mask.width, mask.height), (20, 10));
    // A disc of radius 1 at (8, 6) of the image: the four pixels around, in the crop.
    let on: Vec<usize> = (0..200).filter(|i| mask.values[*i] == 1.).collect();
    assert_eq!(on, [63, 64, 83, 84]);
    let bounds = splits.train.bounding_box(0).unwrap().unwrap();
    assert_eq!(
        (bounds.left, bounds.top, bounds.right, bounds.bottom),
        (0., 0., 20., 10.)
    );
    let error = splits.train.load(2).unwrap_err().to_string();
    assert!(
        error.contains("bounding_boxes.txt: line 5: the box of images/001.Auk/e.jpg, 90 to 99"),
        "{error}"
    );
    assert!(splits.train.part_mask(2).is_err());

    cfg.crop_margin = 0.1;
    let splits = open(&root, &cfg).unwrap();
    let image = splits.train.load(0).unwrap();
    assert_eq!((image.width, image.height, image.pixels[0]), (24, 14, 0));
    assert_eq!(splits.train.bounding_box(0).unwrap().unwrap().left, 2.);
    cfg.crop_margin = f64::NAN;
    assert!(
        open(&root, &cfg)
            .err()
            .unwrap()
            .to_string()
            .starts_with("data.crop_margin is NaN")
    );

    let cfg = DataConfig {
        crop: Crop::Box,
        ..DataConfig::default()
    };
    let dogs = on_disk(SetKind::Dogs, &lists_of(SetKind::Dogs), "");
    let image = open(&dogs, &cfg).unwrap().train.load(0).unwrap();
    assert_eq!((image.width, image.height, image.pixels[0]), (6, 6, 3));
    let pets = on_disk(SetKind::Pets, &lists_of(SetKind::Pets), "");
    let error = open(&pets, &cfg).err().unwrap().to_string();
    assert!(
        error.starts_with("data.crop is box, expected none: 3 of the 4 images"),
        "{error}"
    );
    assert!(crate::open("builtin:lookalikes", &cfg).is_err());
    let plain = DataConfig {
        layout: DataLayout::Folders,
        ..cfg
    };
    assert!(open(&dogs, &plain).is_err());
}

#[test]
fn trimaps_are_masks_of_the_foreground() {
    let root = on_disk(SetKind::Pets, &lists_of(SetKind::Pets), "");
    let splits = open(&root, &DataConfig::default()).unwrap();
    let test = splits.test.unwrap();
    assert!(test.knows_parts().unwrap());
    let mask = test.part_mask(0).unwrap().unwrap();
    assert_eq!(mask.values.iter().sum::<f32>(), 4. * 30.);
    assert_eq!(mask.values[..6], [1., 1., 1., 1., 0., 0.]);
    let trimap = root.path().join("annotations/trimaps/Abyssinian_3.png");
    image::GrayImage::new(31, 30).save(&trimap).unwrap();
    let error = test.part_mask(0).unwrap_err().to_string();
    assert!(
        error.contains("a trimap of 31 x 30, its image has 32 x 30"),
        "{error}"
    );
    let food = on_disk(SetKind::Food, &lists_of(SetKind::Food), "");
    assert!(
        !open(&food, &DataConfig::default())
            .unwrap()
            .train
            .knows_parts()
            .unwrap()
    );
}

#[test]
fn aircraft_have_three_levels_and_cars_may_lack_test_labels_or_be_of_the_older_archive() {
    let lists = lists_of(SetKind::Aircraft);
    for (level, classes, label) in [
        (Level::Variant, 3, 2),
        (Level::Family, 3, 2),
        (Level::Manufacturer, 2, 1),
    ] {
        let index = read_lists(SetKind::Aircraft, &lists, level).unwrap();
        assert_eq!(
            (index.classes().len(), index.paths().nth(1).unwrap().1),
            (classes, Some(label))
        );
        assert_eq!(index.images(), [2, 1, 1]);
    }
    let mut lists = lists_of(SetKind::Cars);
    lists.remove("cars_test_annos_withlabels.mat");
    lists.insert(
        "devkit/cars_test_annos.mat".to_owned(),
        mat("cars_test_annos.mat"),
    );
    let root = on_disk(SetKind::Cars, &lists, "stanford_cars");
    let splits = open(&root, &DataConfig::default()).unwrap();
    assert_eq!(splits.test.unwrap().label(0), None);
    assert!(splits.found.notes[0].starts_with("the test images are without labels"));
    let lists = Lists::from([("cars_annos.mat".to_owned(), mat("cars_annos.mat"))]);
    let root = on_disk(SetKind::Cars, &lists, "");
    let cfg = DataConfig {
        crop: Crop::Box,
        ..DataConfig::default()
    };
    let splits = open(&root, &cfg).unwrap();
    let test = splits.test.unwrap();
    assert_eq!(
        (test.id(1), test.label(1)),
        ("car_ims/000008.jpg".to_owned(), Some(1))
    );
    // Pixels 3 to 17 and 2 to 8, counted from 1.
    let image = test.load(1).unwrap();
    assert_eq!((image.width, image.height, image.pixels[0]), (15, 7, 1));
}
