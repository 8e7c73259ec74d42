//! Photographs, where there are any: the Grocery Store set in `shared/data/grocery` beside the
//! workspace, or in the folder that `FGVR_GROCERY` names. Without it the tests say so and pass.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fgvr_data::augment::{EvaluationView, ViewKey, augment, moco_v2};
use fgvr_data::{
    DataConfig, Dataset, Image, Loader, LoaderConfig, Normalisation, Position, Splits, Transform,
    load_batch, open,
};

const CLASSES: usize = 61;

/// The set, or `None` after saying that it is not here.
fn photos() -> Option<Splits> {
    let folder = match std::env::var_os("FGVR_GROCERY") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/grocery"),
    };
    if !folder.is_dir() {
        fgvr_testkit::skipped(format_args!(
            "no photographs at {}; FGVR_GROCERY names another folder",
            folder.display()
        ));
        return None;
    }
    Some(open(folder.to_str().unwrap(), &DataConfig::default()).unwrap())
}

/// `count` indices, evenly spread.
fn spread(dataset: &dyn Dataset, count: usize) -> Vec<usize> {
    (0..count).map(|i| i * dataset.len() / count).collect()
}

fn labels(dataset: &dyn Dataset) -> BTreeSet<u32> {
    (0..dataset.len())
        .filter_map(|i| dataset.label(i))
        .collect()
}

#[test]
fn the_set_has_61_classes_in_train_and_test() {
    let Some(splits) = photos() else { return };
    let test = splits.test.unwrap();
    let all: BTreeSet<u32> = (0..CLASSES as u32).collect();
    for split in [&splits.train, &test] {
        assert_eq!(split.classes().len(), CLASSES);
        assert_eq!(labels(&**split), all);
    }
    assert_eq!(splits.train.classes(), test.classes());
    assert!(!splits.val.is_empty() && splits.val.len() < splits.train.len());
    // A photo's name begins with its split and its class, and stands in one split only.
    let mut ids = BTreeSet::new();
    for (split, prefix) in [
        (&splits.train, "train"),
        (&splits.val, "train"),
        (&test, "test"),
    ] {
        for index in 0..split.len() {
            let id = split.id(index);
            let class = &split.classes()[split.label(index).unwrap() as usize];
            assert!(id.starts_with(&format!("{prefix}/{class}/")), "{id}");
            assert!(ids.insert(id));
        }
    }
}

#[test]
fn thirty_two_photos_decode_to_finite_images_that_differ() {
    let Some(splits) = photos() else { return };
    let test = splits.test.unwrap();
    for split in [&splits.train, &test] {
        let indices = spread(&**split, 16);
        let view = EvaluationView::of_ratio(64, 256. / 224.);
        for &index in &indices {
            let Image {
                width,
                height,
                pixels,
            } = split.load(index).unwrap();
            assert!(width.min(height) >= 32, "{}", split.id(index));
            assert_eq!(pixels.len(), 3 * width * height);
        }
        let loaded = load_batch(&**split, &indices, &view, &Normalisation::imagenet()).unwrap();
        assert!(loaded.unreadable.is_empty(), "{:?}", loaded.unreadable);
        assert_eq!(loaded.indices, indices);
        let images = loaded.images.unwrap();
        assert_eq!(images.dims(), [16, 3, 64, 64]);
        let rows = images.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        assert!(rows.iter().flatten().all(|v| v.is_finite()));
        for (i, row) in rows.iter().enumerate() {
            assert!(rows[..i].iter().all(|other| other != row), "photo {i}");
        }
    }
}

#[test]
fn the_loader_gives_views_and_labels_of_the_photos_it_lists() {
    const N: usize = 8;
    const SIZE: usize = 48;
    let Some(splits) = photos() else { return };
    let transform: Transform = Arc::new(|image: &Image, key: ViewKey| {
        augment(image, SIZE, &moco_v2(), &Normalisation::imagenet(), key)
    });
    let settings = LoaderConfig {
        batch: N,
        size: SIZE,
        threads: 1,
        ..LoaderConfig::default()
    };
    let train = &splits.train;
    let start = Position::default();
    let mut loader = Loader::new(Arc::clone(train), settings, transform, start).unwrap();
    let mut seen = BTreeSet::new();
    for number in 0..2 {
        let batch = loader.next().unwrap();
        assert_eq!((batch.epoch, batch.batch), (0, number));
        assert_eq!(batch.views.len(), 2);
        for view in &batch.views {
            assert_eq!(view.dims(), [N, 3, SIZE, SIZE]);
            let values = view.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(values.iter().all(|v| v.is_finite()));
        }
        let [first, second] = [0, 1].map(|v| batch.views[v].flatten_from(1).unwrap());
        let pairs = first.to_vec2::<f32>().unwrap().into_iter();
        let differ = |(a, b): (Vec<f32>, Vec<f32>)| a != b;
        assert!(pairs.zip(second.to_vec2().unwrap()).all(differ));
        assert_eq!(batch.indices.len(), N);
        for (index, label) in batch.indices.iter().zip(&batch.labels) {
            assert_eq!(*label, train.label(*index as usize));
            assert!(label.is_some_and(|label| (label as usize) < CLASSES));
            assert!(seen.insert(*index), "photo {index} comes twice in an epoch");
        }
    }
    assert!(loader.quarantined().is_empty());
}
