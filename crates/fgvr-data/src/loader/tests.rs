use super::*;
use crate::augment::{augment, moco_v2};
use crate::{Folder, Labels, Normalisation};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

mod companions;
mod stopped;

/// Images of one colour, their index; some of them unreadable in one way or another.
#[derive(Default)]
struct Colours {
    len: usize,
    missing: Vec<usize>,
    panics: Vec<usize>,
    malformed: Vec<usize>,
    loads: AtomicUsize,
}

impl Colours {
    fn of(len: usize) -> Self {
        Self {
            len,
            ..Self::default()
        }
    }
}

impl Dataset for Colours {
    fn len(&self) -> usize {
        self.len
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.contains(&index), "decoder lost its way");
        if self.missing.contains(&index) {
            return Err(Error::NoFolder {
                path: format!("image-{index}").into(),
            });
        }
        let bytes = if self.malformed.contains(&index) {
            5
        } else {
            3 * 6 * 5
        };
        Ok(Image {
            width: 6,
            height: 5,
            pixels: vec![index as u8; bytes],
        })
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(index as u32 % 3)
    }

    fn id(&self, index: usize) -> String {
        format!("image-{index}")
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

const SIZE: usize = 2;

fn config(batch: usize) -> LoaderConfig {
    LoaderConfig {
        batch,
        size: SIZE,
        seed: 3,
        threads: 2,
        ..LoaderConfig::default()
    }
}

/// A view that tells what it was made from: the image's colour, and its key.
fn telling() -> Transform {
    Arc::new(|image, key| {
        let mut values = vec![0.; 3 * SIZE * SIZE];
        values[0] = f32::from(image.pixels[0]);
        values[1] = key.index as f32;
        values[2] = key.view as f32;
        values[3] = key.epoch as f32;
        values
    })
}

fn loader(dataset: Colours, cfg: LoaderConfig) -> Loader {
    Loader::new(Arc::new(dataset), cfg, telling(), Position::default()).unwrap()
}

type Contents = (Vec<u32>, Vec<Option<u32>>, Vec<Vec<f32>>, u64, u64, bool);

/// Everything of a batch that must not depend on threads or on where the loader started.
fn contents(batch: &Batch) -> Contents {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1().unwrap();
    (
        batch.indices.clone(),
        batch.labels.clone(),
        batch.views.iter().map(values).collect(),
        batch.epoch,
        batch.batch,
        batch.last_of_epoch,
    )
}

#[test]
fn an_epoch_has_every_image_once_and_another_order_follows() {
    let mut loader = loader(Colours::of(12), config(4));
    assert_eq!(loader.batches_per_epoch(), 3);
    let mut epochs = Vec::new();
    for epoch in 0..2 {
        let mut seen = Vec::new();
        for number in 0..3 {
            let batch = loader.next().unwrap();
            assert_eq!(
                (batch.epoch, batch.batch, batch.last_of_epoch),
                (epoch, number, number == 2)
            );
            assert_eq!(batch.views.len(), 2);
            assert_eq!(batch.views[0].dims(), [4, 3, SIZE, SIZE]);
            seen.extend(batch.indices);
        }
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 12);
        epochs.push(seen);
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[test]
fn views_labels_and_indices_belong_together() {
    let batch = loader(Colours::of(12), config(4)).next().unwrap();
    for (v, view) in batch.views.iter().enumerate() {
        let rows = view.flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
        for (row, &index) in rows.iter().zip(&batch.indices) {
            assert_eq!(row[..4], [index as f32, index as f32, v as f32, 0.]);
        }
    }
    let labels: Vec<_> = batch.indices.iter().map(|i| Some(i % 3)).collect();
    assert_eq!(batch.labels, labels);
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads() {
    let batches = |threads| {
        let dataset = Colours {
            missing: vec![4, 5],
            ..Colours::of(300)
        };
        let cfg = LoaderConfig {
            threads,
            ..config(16)
        };
        let mut loader = loader(dataset, cfg);
        let batches: Vec<_> = (0..25).map(|_| contents(&loader.next().unwrap())).collect();
        (batches, loader.quarantined().to_vec())
    };
    let one = batches(1);
    assert_eq!(one, batches(2));
    assert_eq!(one, batches(7));
}

#[test]
fn a_loader_started_anywhere_goes_on_as_the_first_would() {
    let mut first = loader(Colours::of(10), config(3));
    for _ in 0..5 {
        first.next().unwrap();
    }
    let position = first.position();
    assert_eq!(position, Position { epoch: 1, batch: 2 });
    let mut second =
        Loader::new(Arc::new(Colours::of(10)), config(3), telling(), position).unwrap();
    for _ in 0..4 {
        assert_eq!(
            contents(&first.next().unwrap()),
            contents(&second.next().unwrap())
        );
    }
}

#[test]
fn the_end_of_an_epoch_is_the_beginning_of_the_next() {
    let end = Position { epoch: 0, batch: 3 };
    let mut loader = Loader::new(Arc::new(Colours::of(10)), config(3), telling(), end).unwrap();
    assert_eq!(loader.position(), Position { epoch: 1, batch: 0 });
    let batch = loader.next().unwrap();
    assert_eq!((batch.epoch, batch.batch), (1, 0));
}

#[test]
fn the_last_smaller_batch_is_kept_if_asked_for() {
    let cfg = LoaderConfig {
        drop_last: false,
        ..config(4)
    };
    let mut loader = loader(Colours::of(10), cfg);
    let sizes: Vec<usize> = (0..4)
        .map(|_| loader.next().unwrap().indices.len())
        .collect();
    assert_eq!(sizes, [4, 4, 2, 4]);
}

#[test]
fn unreadable_images_are_set_aside_and_replaced_by_the_next_readable_one() {
    let dataset = Colours {
        missing: vec![3],
        panics: vec![4],
        malformed: vec![9],
        ..Colours::of(10)
    };
    let cfg = LoaderConfig {
        bad_image_budget: 0.3,
        ..config(10)
    };
    let mut loader = loader(dataset, cfg);
    let batch = loader.next().unwrap();
    let mut indices = batch.indices.clone();
    indices.sort_unstable();
    assert_eq!(indices, [0, 0, 1, 2, 5, 5, 5, 6, 7, 8]);
    // Views are drawn for the place, so three fives are three different pictures.
    let rows = batch.views[0]
        .flatten_from(1)
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let mut keys: Vec<u32> = rows
        .iter()
        .filter(|r| r[0] == 5.)
        .map(|r| r[1] as u32)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, [3, 4, 5]);

    let mut found = loader.quarantined().to_vec();
    found.sort_by_key(|q| q.index);
    let told: Vec<_> = found.iter().map(|q| (q.index, q.path.as_str())).collect();
    assert_eq!(told, [(3, "image-3"), (4, "image-4"), (9, "image-9")]);
    assert!(found[0].reason.contains("no such folder"), "{found:?}");
    assert!(
        found[1].reason.contains("decoder lost its way"),
        "{found:?}"
    );
    assert!(
        found[2]
            .reason
            .contains("6 x 5 with 5 bytes, expected 3 * 6 * 5"),
        "{found:?}"
    );

    loader.next().unwrap();
    assert_eq!(loader.quarantined().len(), 3, "each is counted once");
}

#[test]
fn past_the_budget_the_loader_says_so_and_gives_no_more() {
    let dataset = Colours {
        missing: vec![1, 2],
        ..Colours::of(10)
    };
    let mut loader = loader(dataset, config(5)); // budget: one image
    let error = (0..2).find_map(|_| loader.next().err()).unwrap();
    assert!(
        matches!(
            error,
            Error::TooManyUnreadable {
                budget: 1,
                images: 10,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("no such folder"), "{error}");
    assert_eq!(loader.quarantined().len(), 2);
    let again = loader.next().unwrap_err().to_string();
    assert!(
        again.contains("no more batches after: 2 unreadable images"),
        "{again}"
    );
}

#[test]
fn a_set_without_a_readable_image_is_an_error() {
    for len in [1, 5] {
        let dataset = Colours {
            missing: (0..len).collect(),
            ..Colours::of(len)
        };
        let cfg = LoaderConfig {
            bad_image_budget: 0.99,
            ..config(1)
        };
        let error = loader(dataset, cfg).next().unwrap_err();
        assert!(matches!(error, Error::TooManyUnreadable { .. }), "{error}");
    }
}

#[test]
fn a_transform_that_panics_or_gives_another_size_is_an_error() {
    let fails = |transform: Transform| {
        let mut loader = Loader::new(
            Arc::new(Colours::of(4)),
            config(2),
            transform,
            Position::default(),
        )
        .unwrap();
        loader.next().unwrap_err().to_string()
    };
    let message = fails(Arc::new(|_, key| panic!("no view {}", key.view)));
    assert!(
        message.contains("the transform panicked on image"),
        "{message}"
    );
    assert!(message.contains("no view 0"), "{message}");
    let message = fails(Arc::new(|_, _| vec![0.; 5]));
    assert!(
        message.contains("has 5 values, expected 3 * 2 * 2"),
        "{message}"
    );
}

#[test]
fn no_more_than_the_byte_bound_is_made_ahead_and_at_least_one_batch() {
    for (prefetch_bytes, depth) in [
        (0, 1),
        (3 * 2 * 2 * 48, 1),
        (3 * 4 * 2 * 48, 3),
        (1000 * 48, 125),
    ] {
        let dataset = Arc::new(Colours::of(400));
        let cfg = LoaderConfig {
            prefetch_bytes,
            ..config(4)
        };
        assert_eq!(
            cfg.depth(),
            depth,
            "{prefetch_bytes} bytes, 4 images of 2 views of 48 bytes"
        );
        let mut loader = Loader::new(dataset.clone(), cfg, telling(), Position::default()).unwrap();
        loader.next().unwrap();
        drop(loader);
        let made = dataset.loads.load(Ordering::Relaxed);
        assert!(
            made <= 4 * (1 + depth),
            "{made} images for a depth of {depth}"
        );
    }
}

#[test]
fn dropping_a_loader_ends_its_thread() {
    let dataset = Arc::new(Colours::of(400));
    let loader = Loader::new(dataset.clone(), config(4), telling(), Position::default()).unwrap();
    drop(loader);
    assert_eq!(
        Arc::strong_count(&dataset),
        1,
        "the thread that held the other is gone"
    );
}

#[test]
fn the_wait_is_measured() {
    let batch = loader(Colours::of(4), config(2)).next().unwrap();
    assert!(batch.wait > Duration::ZERO);
}

#[test]
fn loaders_that_could_give_nothing_are_refused() {
    let fails = |len, cfg, start| {
        let made = Loader::new(Arc::new(Colours::of(len)), cfg, telling(), start);
        made.err().unwrap().to_string()
    };
    let start = Position::default();
    assert!(fails(3, config(4), start).contains("3 images do not fill a batch of 4"));
    assert!(fails(0, config(1), start).contains("0 images"));
    assert!(fails(3, config(0), start).contains("loader.batch is 0"));
    let none = LoaderConfig {
        views: 0,
        ..config(1)
    };
    assert!(fails(3, none, start).contains("loader.views is 0"));
    let all = LoaderConfig {
        bad_image_budget: 1.,
        ..config(1)
    };
    assert!(fails(3, all, start).contains("bad_image_budget is 1"));
    let late = Position { epoch: 0, batch: 4 };
    assert!(fails(3, config(1), late).contains("start.batch is 4"));
}

#[test]
fn the_quarantine_is_written_as_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quarantine.csv");
    let dataset = Colours {
        missing: vec![3],
        ..Colours::of(4)
    };
    let mut loader = loader(dataset, config(4));
    loader.next().unwrap();
    loader.write_quarantine(&path).unwrap();
    let table = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        table,
        "index,path,reason\n3,image-3,image-3: no such folder; name a folder of photos or builtin:lookalikes\n"
    );
    let error = loader
        .write_quarantine(folder.path().join("none/q.csv"))
        .unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
}

#[test]
fn photos_with_a_broken_one_among_them_become_batches() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..8u8 {
        let picture = image::RgbImage::from_fn(40, 30, |x, y| {
            image::Rgb([x as u8 * 6, y as u8 * 8, i * 30])
        });
        picture
            .save(folder.path().join(format!("{i}.jpg")))
            .unwrap();
    }
    let broken = folder.path().join("3.jpg");
    let bytes = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() - 10]).unwrap();
    let photos = Arc::new(Folder::new(folder.path(), Labels::Auto, 10_000).unwrap());
    let (cfg, norm) = (moco_v2(), Normalisation::imagenet());
    let transform: Transform = Arc::new(move |image, key| augment(image, 16, &cfg, &norm, key));
    let loader_config = LoaderConfig {
        batch: 8,
        size: 16,
        ..LoaderConfig::default()
    };
    let mut loader = Loader::new(photos, loader_config, transform, Position::default()).unwrap();
    let batch = loader.next().unwrap();
    assert_eq!(batch.views[1].dims(), [8, 3, 16, 16]);
    assert_eq!(batch.indices.iter().filter(|&&i| i == 4).count(), 2);
    assert_eq!(loader.quarantined()[0].path, "3.jpg");
    assert!(loader.quarantined()[0].reason.contains("truncated"));
    let first = batch.views[0]
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    assert!(first.iter().all(|v| v.is_finite()));
}

#[test]
fn small_crops_come_beside_the_views_and_are_counted_after_them() {
    let cfg = LoaderConfig {
        crops: 3,
        crop_size: 1,
        ..config(4)
    };
    let sides: Transform = Arc::new(|_, key| {
        let side = if key.view < 2 { SIZE } else { 1 };
        vec![key.view as f32; 3 * side * side]
    });
    let dataset = Arc::new(Colours::of(8));
    let mut loader = Loader::new(dataset, cfg, sides, Position::default()).unwrap();
    let batch = loader.next().unwrap();
    assert_eq!((batch.views.len(), batch.crops.len()), (2, 3));
    for (view, made) in batch.views.iter().chain(&batch.crops).enumerate() {
        let side = if view < 2 { SIZE } else { 1 };
        assert_eq!(made.dims(), [4, 3, side, side]);
        let values: Vec<f32> = made.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|v| *v == view as f32), "{view}");
    }
}
