use std::collections::BTreeSet;
use std::io::Cursor;

use tar::{Builder, EntryType, Header};

use super::*;
use crate::augment::{augment, moco_v2};
use crate::{
    DataConfig, Labels, Loader, LoaderConfig, Normalisation, Position, Splits, Transform, open,
};

mod attacks;
mod layouts;
mod mutations;

/// A PNG of one colour.
fn png(colour: u8) -> Vec<u8> {
    let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([colour, 255 - colour, 40]));
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

fn header(size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

/// An archive of `members`, names and contents.
fn archive<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = header(content.len() as u64);
        tar.append_data(&mut header, name, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// An archive of `count` samples from `first` on, of `classes` classes, which a text comes with.
fn samples(first: usize, count: usize, classes: usize) -> Vec<u8> {
    let mut members = Vec::new();
    for number in first..first + count {
        members.push((
            format!("{number:06}.cls"),
            format!("{}\n", number % classes).into_bytes(),
        ));
        members.push((format!("{number:06}.PNG"), png(number as u8)));
        members.push((format!("{number:06}.json"), b"{}".to_vec()));
    }
    archive(
        members
            .iter()
            .map(|(name, content)| (name.as_str(), &content[..])),
    )
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    root
}

fn opened(root: &tempfile::TempDir, name: &str, cfg: &DataConfig) -> Result<Splits, Error> {
    open(root.path().join(name).to_str().unwrap(), cfg)
}

fn ids(set: &Arc<dyn Dataset>) -> BTreeSet<String> {
    (0..set.len()).map(|i| set.id(i)).collect()
}

/// Indices and values of some batches.
fn batches(
    set: &Arc<dyn Dataset>,
    threads: usize,
    start: Position,
    count: usize,
) -> Vec<(Vec<u32>, Vec<f32>)> {
    let config = LoaderConfig {
        batch: 4,
        size: 8,
        seed: 3,
        threads,
        ..LoaderConfig::default()
    };
    let views = moco_v2();
    let transform: Transform =
        Arc::new(move |image, key| augment(image, 8, &views, &Normalisation::none(), key));
    let mut loader = Loader::new(Arc::clone(set), config, transform, start).unwrap();
    (0..count)
        .map(|_| {
            let batch = loader.next().unwrap();
            let values = batch.views[1].flatten_all().unwrap().to_vec1().unwrap();
            (batch.indices, values)
        })
        .collect()
}

#[test]
fn batches_are_the_same_on_any_threads_and_after_a_resume_inside_an_epoch() {
    let root = folder(&[
        ("train-000000.tar", samples(0, 11, 3)),
        ("train-000001.tar", samples(11, 9, 3)),
    ]);
    let cfg = DataConfig {
        val_fraction: 0.,
        ..DataConfig::default()
    };
    let set = opened(&root, "", &cfg).unwrap().train;
    assert_eq!(set.len(), 20);
    let all = batches(&set, 1, Position::default(), 10);
    assert_eq!(all, batches(&set, 4, Position::default(), 10));
    let start = Position { epoch: 0, batch: 3 };
    assert_eq!(all[3..], batches(&set, 4, start, 7));
    // A full shuffle: images of both shards in the first batches, and another order in the second epoch.
    let order = |batches: &[(Vec<u32>, _)]| -> Vec<u32> {
        batches
            .iter()
            .flat_map(|(indices, _)| indices.clone())
            .collect()
    };
    let (first, second) = (order(&all[..5]), order(&all[5..]));
    assert_ne!(first, second);
    assert_eq!(BTreeSet::from_iter(first), BTreeSet::from_iter(second));
}

#[test]
fn a_sample_is_its_image_at_its_place_and_no_file_of_its_own() {
    let root = folder(&[
        ("a/0.tar", samples(7, 3, 2)),
        ("a/classes.txt", "wren\nrobin\n".into()),
    ]);
    let cfg = DataConfig {
        val_fraction: 0.,
        test_fraction: 0.,
        ..DataConfig::default()
    };
    let splits = opened(&root, "a", &cfg).unwrap();
    let set = splits.train;
    assert_eq!(
        ids(&set).into_iter().collect::<Vec<_>>().join(" "),
        "0.tar/000007.PNG 0.tar/000008.PNG 0.tar/000009.PNG"
    );
    assert_eq!(set.classes(), ["wren", "robin"]);
    for (index, number) in (0..3).zip(7u8..) {
        assert_eq!(
            set.load(index).unwrap().pixels[..3],
            [number, 255 - number, 40]
        );
        assert_eq!(set.label(index), Some(u32::from(number) % 2));
        assert_eq!(set.encoded(index).unwrap(), Some(png(number)));
        assert_eq!(set.encoded_length(index), Some(png(number).len() as u64));
        assert_eq!(set.path(index), None);
    }
    assert!(matches!(set.load(3), Err(Error::IndexOutOfRange { .. })));
    assert_eq!(splits.found.passed_over[".json"], 3);
    // A shard that is written anew meanwhile is noticed.
    std::fs::write(root.path().join("a/0.tar"), samples(7, 4, 2)).unwrap();
    let error = set.load(0).unwrap_err().to_string();
    assert!(error.contains("changed since it was opened"), "{error}");
}

#[test]
fn an_image_that_cannot_be_decoded_is_named_by_its_id() {
    let members: [(&str, &[u8]); 2] = [("a.jpg", b"no picture"), ("b.png", &png(1))];
    let root = folder(&[("x.tar", archive(members))]);
    let splits = opened(&root, "x.tar", &DataConfig::default()).unwrap();
    let sets = [splits.train, splits.val];
    let set = sets
        .iter()
        .find(|set| ids(set).contains("x.tar/a.jpg"))
        .unwrap();
    let index = (0..set.len())
        .find(|i| set.id(*i) == "x.tar/a.jpg")
        .unwrap();
    let error = set.load(index).unwrap_err();
    assert!(
        matches!(&error, Error::Decode { path, .. } if path == Path::new("x.tar/a.jpg")),
        "{error}"
    );
}
