//! Small sets, laid out as the archives are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::{Level, SetKind, read_lists};
use crate::encode_png;

pub(super) type Lists = BTreeMap<String, Vec<u8>>;

/// The lists of a small set laid out as the archive's are.
pub(super) fn lists_of(set: SetKind) -> Lists {
    let texts: &[(&str, &str)] = match set {
        SetKind::Cub => &[
            (
                "images.txt",
                "1 001.Auk/a.jpg\n2 001.Auk/b.jpg\n3 002.Owl/c.jpg\n10 002.Owl/d.jpg\n4 001.Auk/e.jpg\n",
            ),
            ("image_class_labels.txt", "1 1\n2 1\n3 2\n10 2\n4 1\n"),
            ("train_test_split.txt", "1 1\n2 0\n3 1\n10 0\n4 1\n"),
            ("classes.txt", "1 001.Auk\n2 002.Owl\n"),
            (
                "bounding_boxes.txt",
                "1 4.0 2.0 20.0 10.0\n2 0 0 9 9\n3 0 0 9 9\n10 0 0 9 9\n4 90.0 0 9 9\n",
            ),
            ("parts/parts.txt", "1 back\n2 left eye\n"),
            (
                "parts/part_locs.txt",
                "1 1 8.0 6.0 1\n1 2 0.0 0.0 0\n2 1 1.5 1.5 1\n",
            ),
        ],
        SetKind::Aircraft => &[
            ("variants.txt", "707-320\n737-200\nA320\n"),
            ("families.txt", "Boeing 707\nBoeing 737\nA320\n"),
            ("manufacturers.txt", "Boeing\nAirbus\n"),
            (
                "images_variant_train.txt",
                "0000001 707-320\n0000002 A320\n",
            ),
            ("images_variant_val.txt", "0000003 737-200\n"),
            ("images_variant_test.txt", "0000004 707-320\n"),
            (
                "images_family_train.txt",
                "0000001 Boeing 707\n0000002 A320\n",
            ),
            ("images_family_val.txt", "0000003 Boeing 737\n"),
            ("images_family_test.txt", "0000004 Boeing 707\n"),
            (
                "images_manufacturer_train.txt",
                "0000001 Boeing\n0000002 Airbus\n",
            ),
            ("images_manufacturer_val.txt", "0000003 Boeing\n"),
            ("images_manufacturer_test.txt", "0000004 Boeing\n"),
            (
                "images_box.txt",
                "0000001 1 1 10 8\n0000002 1 1 10 8\n0000003 1 1 10 8\n0000004 1 1 10 8\n",
            ),
        ],
        SetKind::Pets => &[
            (
                "annotations/list.txt",
                "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\nbeagle_2 2 2 1\nAbyssinian_3 1 1 1\nAbyssinian_5 1 1 1\n",
            ),
            (
                "annotations/trainval.txt",
                "Abyssinian_1 1 1 1\nbeagle_2 2 2 1\nAbyssinian_5 1 1 1\n",
            ),
            ("annotations/test.txt", "Abyssinian_3 1 1 1\n"),
            (
                "annotations/xmls/Abyssinian_1.xml",
                "<annotation><object><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>6</xmax><ymax>5</ymax></bndbox></object></annotation>",
            ),
        ],
        SetKind::Food => &[
            ("meta/classes.txt", "apple_pie\nwaffles\n"),
            ("meta/labels.txt", "Apple pie\nWaffles\n"),
            ("meta/train.txt", "apple_pie/1\nwaffles/2\nwaffles/3\n"),
            ("meta/test.txt", "apple_pie/4\n"),
        ],
        SetKind::Cars => &[],
        SetKind::Flowers => &[],
        SetKind::Dogs => &[],
    };
    let mut lists: Lists = texts
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect();
    let golden: &[&str] = match set {
        SetKind::Cars => &[
            "devkit/cars_meta.mat",
            "devkit/cars_train_annos.mat",
            "cars_test_annos_withlabels.mat",
        ],
        SetKind::Flowers => &["imagelabels.mat", "setid.mat"],
        SetKind::Dogs => &["train_list.mat", "test_list.mat"],
        _ => &[],
    };
    for name in golden {
        lists.insert((*name).to_owned(), mat(name.rsplit('/').next().unwrap()));
    }
    lists
}

pub(super) fn mat(name: &str) -> Vec<u8> {
    fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/mat")).join(name))
        .unwrap()
}

/// A picture of 32 x 30 whose value is the row.
fn picture() -> Vec<u8> {
    let rows = candle_core::Tensor::arange(0u8, 30, &candle_core::Device::Cpu).unwrap();
    let rows = rows
        .to_dtype(candle_core::DType::F32)
        .unwrap()
        .affine(1. / 255., 0.)
        .unwrap();
    let rows = rows
        .reshape((1, 30, 1))
        .unwrap()
        .broadcast_as((3, 30, 32))
        .unwrap();
    encode_png(&rows.contiguous().unwrap()).unwrap()
}

pub(super) fn write(path: std::path::PathBuf, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The set on a disk, below `inside`.
pub(super) fn on_disk(set: SetKind, lists: &Lists, inside: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(inside);
    for (name, bytes) in lists {
        write(folder.join(name), bytes);
    }
    for (path, _) in read_lists(set, lists, Level::Variant).unwrap().paths() {
        write(folder.join(path), &picture());
        let dog = path
            .strip_prefix("Images/")
            .and_then(|path| path.strip_suffix(".jpg"));
        if let Some(dog) = dog {
            let xml = "<annotation>\n<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>8</xmax><ymax>9</ymax></bndbox></annotation>";
            write(folder.join("Annotation").join(dog), xml.as_bytes());
        }
        if set == SetKind::Pets {
            let trimap = image::GrayImage::from_fn(32, 30, |x, _| {
                image::Luma([if x < 4 { 1 } else { 2 + u8::from(x < 6) }])
            });
            let name = path
                .replace("images/", "annotations/trimaps/")
                .replace(".jpg", ".png");
            fs::create_dir_all(folder.join("annotations/trimaps")).unwrap();
            trimap.save(folder.join(name)).unwrap();
        }
    }
    root
}
