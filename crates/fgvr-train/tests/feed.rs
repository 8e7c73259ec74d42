//! Batches on their way from the loader to the step, with views sent ahead to a device and without.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fgvr_data::{Dataset, Error, Image, Loader, LoaderConfig, Position};
use fgvr_nn::Device;
use fgvr_nn::cuda::Real;
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_train::{Fed, Feed};

const IMAGES: usize = 30;
const SIZE: usize = 4;

/// Images of one colour, their index; some cannot be read.
#[derive(Default)]
struct Colours {
    unreadable: Vec<usize>,
    /// Where there is one, each image waits for a word, until nobody is left to give it.
    gate: Option<Mutex<Receiver<()>>>,
}

impl Dataset for Colours {
    fn len(&self) -> usize {
        IMAGES
    }

    fn load(&self, index: usize) -> Result<Image, Error> {
        if let Some(gate) = &self.gate {
            // An error: the gate stays open.
            let _ = gate.lock().expect("the gate").recv();
        }
        if self.unreadable.contains(&index) {
            return Err(Error::NoFolder {
                path: format!("image-{index}").into(),
            });
        }
        Ok(Image {
            width: 5,
            height: 5,
            pixels: vec![index as u8; 75],
        })
    }

    fn label(&self, _index: usize) -> Option<u32> {
        None
    }

    fn id(&self, index: usize) -> String {
        format!("image-{index}")
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

/// Batches of 7, with two views and a crop; `budget` of the images may be unreadable.
fn loader(unreadable: &[usize], budget: f64, start: Position) -> Loader {
    let images = Colours {
        unreadable: unreadable.to_vec(),
        gate: None,
    };
    loader_of(images, budget, start)
}

fn loader_of(images: Colours, budget: f64, start: Position) -> Loader {
    let settings = LoaderConfig {
        batch: 7,
        size: SIZE,
        crops: 1,
        crop_size: SIZE / 2,
        seed: 5,
        bad_image_budget: budget,
        threads: 2,
        ..LoaderConfig::default()
    };
    let transform = |image: &Image, key: fgvr_data::augment::ViewKey| {
        let side = if key.view < 2 { SIZE } else { SIZE / 2 };
        let value = |i: usize| f32::from(image.pixels[0]) + 100. * key.view as f32 + i as f32 / 64.;
        (0..3 * side * side).map(value).collect()
    };
    Loader::new(Arc::new(images), settings, Arc::new(transform), start).expect("a loader")
}

/// None to send to, and an emulated GPU of so much memory.
fn places(memory: usize) -> Vec<Option<Device>> {
    let emulator = Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR")));
    match emulator {
        Ok(emulator) => {
            let emulator = Arc::new(emulator.with_memory(memory));
            vec![None, Some(Device::new(emulator, Real::F32, "emulator"))]
        }
        Err(error) => {
            fgvr_testkit::skipped(error);
            vec![None]
        }
    }
}

const PLENTY: usize = 1 << 20;

fn values(tensor: &candle_core::Tensor) -> Vec<f32> {
    let flat = tensor.flatten_all().expect("values");
    flat.to_vec1().expect("f32")
}

/// That the staged views are the batch's, in its order; which batch it is.
fn check(fed: Fed, device: Option<&Device>) -> (u64, u64, Vec<u32>) {
    let batch = fed.batch;
    assert_eq!(fed.staged.is_some(), device.is_some());
    if let (Some(staged), Some(device)) = (fed.staged, device) {
        let staged: Vec<_> = staged.views.into_iter().chain(staged.crops).collect();
        let tensors: Vec<_> = batch.views.iter().chain(&batch.crops).collect();
        assert_eq!(staged.len(), tensors.len());
        for (staged, tensor) in staged.into_iter().zip(tensors) {
            let map = device.receive(staged).expect("a map");
            assert_eq!(values(&map.to_tensor().expect("a tensor")), values(tensor));
        }
    }
    (batch.epoch, batch.batch, batch.indices)
}

#[test]
fn batches_come_in_the_loaders_order_with_their_own_views() {
    let start = Position { epoch: 1, batch: 2 };
    let mut alone = loader(&[], 0., start);
    let expected: Vec<_> = (0..9)
        .map(|_| {
            let batch = alone.next().expect("a batch");
            (batch.epoch, batch.batch, batch.indices)
        })
        .collect();
    for device in places(PLENTY) {
        let mut feed = Feed::new(loader(&[], 0., start), device.as_ref()).expect("a feed");
        let mut next = || check(feed.next().expect("a batch"), device.as_ref());
        let found: Vec<_> = (0..9).map(|_| next()).collect();
        assert_eq!(found, expected, "{device:?}");
    }
}

#[test]
fn unreadable_images_and_the_loaders_errors_pass_through() {
    for device in places(PLENTY) {
        let start = Position::default();
        let expected = {
            let mut alone = loader(&[3, 17], 0.1, start);
            (0..8).for_each(|_| drop(alone.next().expect("a batch")));
            alone.quarantined().to_vec()
        };
        let mut feed = Feed::new(loader(&[3, 17], 0.1, start), device.as_ref()).expect("a feed");
        (0..8).for_each(|_| drop(feed.next().expect("a batch")));
        assert_eq!(feed.quarantined(), expected);
        assert_eq!(expected.len(), 2);

        // More than the budget: the error comes, and then says what it was.
        let unreadable: Vec<usize> = (0..IMAGES).collect();
        let mut feed = Feed::new(loader(&unreadable, 0., start), device.as_ref()).expect("a feed");
        let first = feed.next().expect_err("nothing to read").to_string();
        assert!(first.contains("image-"), "{first}");
        assert!(!feed.quarantined().is_empty());
        let second = feed.next().expect_err("it has ended").to_string();
        assert!(
            second.contains("no more batches after") && second.contains(&first),
            "{second}"
        );
    }
}

#[test]
fn a_device_without_memory_is_an_error_of_the_feed() {
    let Some(Some(device)) = places(2000).pop() else {
        return;
    };
    let mut feed = Feed::new(loader(&[], 0., Position::default()), Some(&device)).expect("a feed");
    let error = feed.next().expect_err("no memory").to_string();
    assert!(error.contains("out of GPU memory"), "{error}");
    assert!(device.take_exhausted().is_some());
    let error = feed.next().expect_err("it has ended").to_string();
    assert!(error.contains("no more batches after"), "{error}");
    drop(feed);
    assert_eq!(device.memory().expect("a count").held, 0);
}

#[test]
fn a_feed_that_is_dropped_early_ends_and_keeps_no_memory() {
    for device in places(PLENTY) {
        for taken in 0..6 {
            let mut feed =
                Feed::new(loader(&[], 0., Position::default()), device.as_ref()).expect("a feed");
            (0..taken).for_each(|_| drop(feed.next().expect("a batch")));
            drop(feed);
            if let Some(device) = &device {
                assert_eq!(device.memory().expect("a count").held, 0, "{taken} taken");
            }
        }
    }
}

#[test]
fn one_batch_is_under_way_while_another_is_held() {
    let Some(Some(device)) = places(PLENTY).pop() else {
        return;
    };
    // f32 of 7 images: two views and a crop.
    let of_batch = 7 * 3 * (2 * SIZE * SIZE + SIZE * SIZE / 4) * 4;
    device.reset_peak();
    let mut feed = Feed::new(loader(&[], 0., Position::default()), Some(&device)).expect("a feed");
    let mut last = None;
    for _ in 0..10 {
        // What was computed on goes when the next is there.
        last.replace(feed.next().expect("a batch"));
    }
    let peak = device.memory().expect("a count").peak;
    assert!(
        (2 * of_batch..=3 * of_batch).contains(&peak),
        "{peak} bytes of {of_batch} a batch"
    );
}

#[test]
fn the_wait_is_that_of_the_step_and_not_of_whoever_prepares_the_batch() {
    for device in places(PLENTY) {
        let (give, leave) = channel();
        let images = Colours {
            gate: Some(Mutex::new(leave)),
            ..Colours::default()
        };
        let loader = loader_of(images, 0., Position::default());
        let mut feed = Feed::new(loader, device.as_ref()).expect("a feed");
        (0..7).for_each(|_| give.send(()).expect("somebody waits"));
        assert!(feed.next().expect("a batch").batch.wait > Duration::ZERO);
        // A step, while the next batch waits for its images.
        let step = Instant::now();
        let mut steps = 0u64;
        while step.elapsed() < Duration::from_millis(20) {
            steps += 1;
        }
        drop(give);
        let asked = Instant::now();
        let wait = feed.next().expect("a batch").batch.wait;
        assert!(wait > Duration::ZERO && steps > 0);
        assert!(wait <= asked.elapsed(), "{wait:?}");
    }
}
