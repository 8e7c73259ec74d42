//! Batches of random views, made ahead of the training step.
//!
//! A background thread makes batches in order and hands them over through a bounded channel. Within
//! a batch, images are read, decoded and augmented in parallel on a pool of the loader's own:
//! rayon's global pool belongs to the training step, and a worker of it that waits for the other
//! half of a matrix product may pick up whatever lies in the queue; a photo to decode there would
//! hold up the product for milliseconds. With a pool of its own the system's scheduler shares the
//! cores, and neither side can wait for the other.
//!
//! What a batch holds depends on (seed, epoch, index, view) alone: never on the number of threads,
//! nor on how far ahead the loader is, nor on where it was started.

mod companions;
mod order;
mod producer;
mod quarantine;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use candle_core::Tensor;

use crate::augment::ViewKey;
use crate::{Dataset, Error, Image};
use order::batches_per_epoch;
use producer::{Message, Producer, panic_text};
use quarantine::budget;

pub use companions::{companions_of, shuffled_pairs};
pub use quarantine::{Quarantined, write_quarantine};

/// What makes a view (3, size, size) of an image; see [`augment`](crate::augment::augment). Views are
/// counted from 0; after them come the smaller crops, which are (3, crop_size, crop_size).
pub type Transform = Arc<dyn Fn(&Image, ViewKey) -> Vec<f32> + Send + Sync>;

/// Which image the second view shows in an epoch, given the index of the first; see [`Loader::with_companions`] and [`companions_of`].
pub type Companions = Arc<dyn Fn(u64, usize) -> usize + Send + Sync>;

/// How batches are made.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct LoaderConfig {
    /// N, images per batch. By default 64.
    pub batch: usize,
    /// Views per image. By default 2.
    pub views: usize,
    /// Side of a view in pixels; the transform must give 3 x size x size values. By default 64.
    pub size: usize,
    /// Smaller crops per image, beside the views. By default none.
    pub crops: usize,
    /// Side of such a crop in pixels. By default 32.
    pub crop_size: usize,
    /// Whether an epoch ends before a batch that would be smaller than the others. By default true.
    pub drop_last: bool,
    /// Seed of the order of images and of the views. By default 0.
    pub seed: u64,
    /// Bytes of batches that may lie ready or be in the making. At least one batch is made ahead,
    /// however large. Photos being decoded, one a thread, come on top. By default 256 MiB.
    pub prefetch_bytes: usize,
    /// Share of unreadable images that is put up with; one image is, unless this is 0. By default 0.01.
    pub bad_image_budget: f64,
    /// Threads that decode and augment; 0, the default, takes half of the machine's, at least one.
    pub threads: usize,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self {
            batch: 64,
            views: 2,
            size: 64,
            crops: 0,
            crop_size: 32,
            drop_last: true,
            seed: 0,
            prefetch_bytes: 256 << 20,
            bad_image_budget: 0.01,
            threads: 0,
        }
    }
}

impl LoaderConfig {
    /// Checks every range.
    ///
    /// # Errors
    /// The first setting outside its range, [`Error::Setting`].
    pub fn validate(&self) -> Result<(), Error> {
        for (setting, value) in [
            ("loader.batch", self.batch),
            ("loader.views", self.views),
            ("loader.size", self.size),
            ("loader.crop_size", self.crop_size),
        ] {
            if value == 0 {
                return Err(Error::Setting {
                    setting,
                    found: "0".to_owned(),
                    expected: "at least 1".to_owned(),
                });
            }
        }
        if !(0. ..1.).contains(&self.bad_image_budget) {
            return Err(Error::Setting {
                setting: "loader.bad_image_budget",
                found: self.bad_image_budget.to_string(),
                expected: "a number in [0, 1)".to_owned(),
            });
        }
        Ok(())
    }

    /// How many batches may lie ready or be in the making.
    fn depth(&self) -> usize {
        let bytes = |count: usize, side: usize| {
            let values = side.saturating_mul(side).saturating_mul(3);
            values
                .saturating_mul(count)
                .saturating_mul(size_of::<f32>())
        };
        let image = bytes(self.views, self.size).saturating_add(bytes(self.crops, self.crop_size));
        let bytes = self.batch.saturating_mul(image);
        (self.prefetch_bytes / bytes).max(1)
    }

    /// Side of the view that is counted so.
    fn side(&self, view: usize) -> usize {
        match view < self.views {
            true => self.size,
            false => self.crop_size,
        }
    }

    fn thread_count(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2)),
            threads => threads,
        }
    }
}

/// A place in the endless sequence of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
pub struct Position {
    /// Counted from 0.
    pub epoch: u64,
    /// Within the epoch, counted from 0.
    pub batch: u64,
}

/// Views of N images.
#[derive(Clone, Debug)]
pub struct Batch {
    /// One tensor (N, 3, size, size) for each view.
    pub views: Vec<Tensor>,
    /// One tensor (N, 3, crop_size, crop_size) for each of the smaller crops.
    pub crops: Vec<Tensor>,
    /// Which images these are, by their index in the data set. An unreadable one's place is taken
    /// by the next readable one, which is the one listed.
    pub indices: Vec<u32>,
    /// Their labels, where they have any. For reports: self-supervised training does not see them.
    pub labels: Vec<Option<u32>>,
    /// Which epoch this is.
    pub epoch: u64,
    /// Which batch of the epoch this is.
    pub batch: u64,
    /// Whether the next batch is of another epoch.
    pub last_of_epoch: bool,
    /// How long [`Loader::next`] waited for it.
    pub wait: Duration,
}

/// Ends a [`Loader`] from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// No batch is begun any more, and the one in the making is given up: [`Loader::next`] returns what lies
    /// ready, and then an error.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// An endless sequence of batches. See the module's documentation.
///
/// Dropping it stops the background thread and waits for its end, at most the time of decoding one
/// photo a thread.
pub struct Loader {
    /// `None` only while being dropped.
    receiver: Option<Receiver<Message>>,
    producer: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    batches_per_epoch: u64,
    position: Position,
    quarantined: Vec<Quarantined>,
    /// Why there are no more batches.
    ended: Option<String>,
}

impl Loader {
    /// Starts making batches of `dataset` from `start` on.
    ///
    /// `start` may be the end of an epoch, which is the beginning of the next.
    ///
    /// # Errors
    /// - [`Error::Setting`]: a setting outside its range, or a `start` past its epoch's end.
    /// - [`Error::NoBatch`]: too few images for one batch.
    /// - [`Error::Worker`]: the system gives no thread.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        cfg: LoaderConfig,
        transform: Transform,
        start: Position,
    ) -> Result<Self, Error> {
        Self::start(dataset, cfg, transform, None, start)
    }

    /// As [`Loader::new`], but the second view of image i in an epoch is one of image `companions(epoch, i)`. All other views and
    /// the crops are of the image itself, and [`Batch::indices`] and the keys of views are its own. In place of a companion that
    /// cannot be read, which is set aside like any image, the second view shows the image itself.
    ///
    /// # Errors
    /// As [`Loader::new`]; a companion that is no image of the set is found when its batch is made ([`Error::IndexOutOfRange`]).
    pub fn with_companions(
        dataset: Arc<dyn Dataset>,
        cfg: LoaderConfig,
        transform: Transform,
        companions: Companions,
        start: Position,
    ) -> Result<Self, Error> {
        Self::start(dataset, cfg, transform, Some(companions), start)
    }

    fn start(
        dataset: Arc<dyn Dataset>,
        cfg: LoaderConfig,
        transform: Transform,
        companions: Option<Companions>,
        start: Position,
    ) -> Result<Self, Error> {
        cfg.validate()?;
        let images = dataset.len();
        let batches_per_epoch = batches_per_epoch(images, cfg.batch, cfg.drop_last);
        if batches_per_epoch == 0 {
            return Err(Error::NoBatch {
                images,
                batch: cfg.batch,
            });
        }
        if u32::try_from(images).is_err() {
            return Err(Error::Setting {
                setting: "the number of images",
                found: images.to_string(),
                expected: format!("at most {}", u32::MAX),
            });
        }
        if start.batch > batches_per_epoch {
            return Err(Error::Setting {
                setting: "start.batch",
                found: start.batch.to_string(),
                expected: format!("at most {batches_per_epoch}, the batches of an epoch"),
            });
        }
        let position = normalised(start, batches_per_epoch);
        let no_thread = |problem: &dyn std::fmt::Display| Error::Worker {
            problem: format!("cannot start a thread: {problem}"),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(cfg.thread_count())
            .thread_name(|i| format!("fgvr-data-{i}"))
            .build()
            .map_err(|e| no_thread(&e))?;
        let stop = Arc::new(AtomicBool::new(false));
        // The batch in the making counts too, hence one less in the channel; none is a handover.
        let (sender, receiver) = sync_channel(cfg.depth() - 1);
        let producer = Producer {
            budget: budget(images, cfg.bad_image_budget),
            dataset,
            cfg,
            transform,
            companions,
            pool,
            stop: stop.clone(),
            batches_per_epoch,
            unreadable: Vec::new(),
        };
        let producer = thread::Builder::new()
            .name("fgvr-data".to_owned())
            .spawn(move || producer.run(position, &sender))
            .map_err(|e| no_thread(&e))?;
        Ok(Self {
            receiver: Some(receiver),
            producer: Some(producer),
            stop,
            batches_per_epoch,
            position,
            quarantined: Vec::new(),
            ended: None,
        })
    }

    /// The next batch; after the last of an epoch comes the first of the next.
    ///
    /// # Errors
    /// - [`Error::TooManyUnreadable`]: the budget is used up.
    /// - [`Error::View`]: the transform gave a view of another length.
    /// - [`Error::Worker`]: the transform panicked, or an earlier call failed.
    // An iterator over results would go on after an error; this ends there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Batch, Error> {
        let started = Instant::now();
        if let Some(problem) = &self.ended {
            return Err(Error::Worker {
                problem: format!("no more batches after: {problem}"),
            });
        }
        let message = self.receiver.as_ref().and_then(|r| r.recv().ok());
        let result = match message {
            Some(Message {
                quarantined,
                result,
            }) => {
                self.quarantined.extend(quarantined);
                result
            }
            None => Err(Error::Worker {
                problem: self.why_it_ended(),
            }),
        };
        match result {
            Ok(mut batch) => {
                batch.wait = started.elapsed();
                let next = Position {
                    epoch: batch.epoch,
                    batch: batch.batch + 1,
                };
                self.position = normalised(next, self.batches_per_epoch);
                Ok(batch)
            }
            Err(error) => {
                self.ended = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Where the next batch stands: start a loader there, and it goes on as this one would.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many batches an epoch has.
    #[must_use]
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// The unreadable images met in the batches up to now, in the order in which they were met.
    #[must_use]
    pub fn quarantined(&self) -> &[Quarantined] {
        &self.quarantined
    }

    /// Writes [`quarantined`](Self::quarantined) as a table with the columns index, path, reason;
    /// the file is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_quarantine(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_quarantine(&self.quarantined, path)
    }

    /// What ends this from another thread, while this one waits in [`Loader::next`].
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.stop))
    }

    fn why_it_ended(&mut self) -> String {
        match self.producer.take().map(JoinHandle::join) {
            Some(Err(panic)) => format!("the background thread panicked: {}", panic_text(&*panic)),
            _ => "the background thread ended".to_owned(),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Without a receiver a waiting send returns.
        self.receiver = None;
        if let Some(producer) = self.producer.take() {
            // A panic was reported by `next`, or concerns a batch that nobody will see.
            let _ = producer.join();
        }
    }
}

/// The end of an epoch is the beginning of the next.
fn normalised(position: Position, batches_per_epoch: u64) -> Position {
    if position.batch < batches_per_epoch {
        return position;
    }
    Position {
        epoch: position.epoch + 1,
        batch: 0,
    }
}

#[cfg(test)]
mod tests;
