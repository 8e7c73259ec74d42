//! The background thread.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::order::epoch_order;
use super::{Batch, Companions, LoaderConfig, Position, Quarantined, Transform, normalised};
use crate::augment::ViewKey;
use crate::load_batch::load_whole;
use crate::{Dataset, Error, Image, shown};

/// What the background thread hands over: a batch or why there is none, and the unreadable images
/// met on the way.
pub(super) struct Message {
    pub(super) quarantined: Vec<Quarantined>,
    pub(super) result: Result<Batch, Error>,
}

pub(super) struct Producer {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) cfg: LoaderConfig,
    pub(super) transform: Transform,
    pub(super) companions: Option<Companions>,
    pub(super) pool: rayon::ThreadPool,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) batches_per_epoch: u64,
    pub(super) budget: usize,
    /// Indices of the unreadable images met so far, sorted.
    pub(super) unreadable: Vec<usize>,
}

/// What stands in one place of a batch.
struct Slot {
    /// The image and its views; `None` if the search for a readable one went past the budget.
    filled: Option<(usize, Vec<Vec<f32>>)>,
    unreadable: Vec<Quarantined>,
}

impl Producer {
    /// Makes batches from `position` on until one fails or nobody listens.
    pub(super) fn run(mut self, mut position: Position, sender: &SyncSender<Message>) {
        let images = self.dataset.len();
        let mut order = epoch_order(images, self.cfg.seed, position.epoch);
        loop {
            let message = self.make(position, &order);
            let failed = message.result.is_err();
            if sender.send(message).is_err() || failed || self.stopped() {
                return;
            }
            let next = Position {
                batch: position.batch + 1,
                ..position
            };
            let next = normalised(next, self.batches_per_epoch);
            if next.epoch != position.epoch {
                order = epoch_order(images, self.cfg.seed, next.epoch);
            }
            position = next;
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn make(&mut self, position: Position, order: &[usize]) -> Message {
        let chosen: Vec<usize> = order
            .iter()
            .skip(position.batch as usize * self.cfg.batch)
            .take(self.cfg.batch)
            .copied()
            .collect();
        let slots: Result<Vec<Slot>, Error> = self.pool.install(|| {
            chosen
                .par_iter()
                .map(|&index| self.slot(position.epoch, index))
                // The first error in order, not in time.
                .collect::<Vec<_>>()
                .into_iter()
                .collect()
        });
        let mut quarantined = Vec::new();
        let result = slots.and_then(|slots| {
            quarantined = self.set_aside(&slots);
            self.check_budget(&quarantined)?;
            self.batch(position, slots)
        });
        Message {
            quarantined,
            result,
        }
    }

    /// The views of image `index`, or of the next readable one after it. The views are drawn for
    /// the place, by `index`, so that a substitute that also stands elsewhere in the batch differs.
    fn slot(&self, epoch: u64, index: usize) -> Result<Slot, Error> {
        let images = self.dataset.len();
        let mut unreadable = Vec::new();
        for substitute in (index..images).chain(0..index) {
            if self.stopped() {
                return Err(Error::Worker {
                    problem: "stopped".to_owned(),
                });
            }
            if self.unreadable.binary_search(&substitute).is_ok() {
                continue;
            }
            match self.load(substitute) {
                Ok(image) => {
                    let companion = self.companion(epoch, substitute, &mut unreadable)?;
                    let views =
                        self.views([&image, companion.as_ref().unwrap_or(&image)], epoch, index)?;
                    return Ok(Slot {
                        filled: Some((substitute, views)),
                        unreadable,
                    });
                }
                Err(reason) => unreadable.push(Quarantined {
                    index: substitute,
                    path: self.dataset.id(substitute),
                    reason,
                }),
            }
            if self.unreadable.len() + unreadable.len() > self.budget {
                break;
            }
        }
        Ok(Slot {
            filled: None,
            unreadable,
        })
    }

    /// The image that the second view of `index` shows, where it is another one that can be read.
    fn companion(
        &self,
        epoch: u64,
        index: usize,
        unreadable: &mut Vec<Quarantined>,
    ) -> Result<Option<Image>, Error> {
        let Some(companions) = &self.companions else {
            return Ok(None);
        };
        let (other, images) = (companions(epoch, index), self.dataset.len());
        if other >= images {
            return Err(Error::IndexOutOfRange {
                set: format!("the companion of image {index}"),
                index: other,
                len: images,
            });
        }
        if other == index || self.unreadable.binary_search(&other).is_ok() {
            return Ok(None);
        }
        match self.load(other) {
            Ok(image) => Ok(Some(image)),
            Err(reason) => {
                unreadable.push(Quarantined {
                    index: other,
                    path: self.dataset.id(other),
                    reason,
                });
                Ok(None)
            }
        }
    }

    /// The image, or why it cannot be read. A decoder that panics on a damaged file is no reason to
    /// end a run that may have lasted days.
    fn load(&self, index: usize) -> Result<Image, String> {
        catch_unwind(AssertUnwindSafe(|| load_whole(&*self.dataset, index)))
            .map_err(|panic| format!("reading it panicked: {}", panic_text(&*panic)))?
            .map_err(|error| error.to_string())
    }

    /// The views of the first of `images`, but for the second view, which is of the second image.
    fn views(&self, images: [&Image; 2], epoch: u64, index: usize) -> Result<Vec<Vec<f32>>, Error> {
        let view = |view: usize| {
            let image = images[usize::from(view == 1 && view < self.cfg.views)];
            let size = self.cfg.side(view);
            let key = ViewKey {
                seed: self.cfg.seed,
                epoch,
                index: index as u64,
                view: view as u64,
            };
            let values = catch_unwind(AssertUnwindSafe(|| (self.transform)(image, key))).map_err(
                |panic| Error::Worker {
                    problem: format!(
                        "the transform panicked on image {index}: {}",
                        panic_text(&*panic)
                    ),
                },
            )?;
            if values.len() != 3 * size * size {
                return Err(Error::View {
                    index,
                    found: values.len(),
                    size,
                });
            }
            Ok(values)
        };
        (0..self.cfg.views + self.cfg.crops).map(view).collect()
    }

    /// Remembers the unreadable images of `slots`, and returns those not met before, each once.
    fn set_aside(&mut self, slots: &[Slot]) -> Vec<Quarantined> {
        let mut new = Vec::new();
        for q in slots.iter().flat_map(|slot| &slot.unreadable) {
            if let Err(at) = self.unreadable.binary_search(&q.index) {
                self.unreadable.insert(at, q.index);
                new.push(q.clone());
            }
        }
        new
    }

    fn check_budget(&self, new: &[Quarantined]) -> Result<(), Error> {
        let Some(first) = new.first() else {
            return Ok(());
        };
        if self.unreadable.len() <= self.budget {
            return Ok(());
        }
        Err(Error::TooManyUnreadable {
            found: self.unreadable.len(),
            budget: self.budget,
            images: self.dataset.len(),
            first: format!("{}: {}", shown(&first.path), first.reason),
        })
    }

    fn batch(&self, position: Position, slots: Vec<Slot>) -> Result<Batch, Error> {
        let n = slots.len();
        let mut indices = Vec::with_capacity(n);
        let mut labels = Vec::with_capacity(n);
        let all = 0..self.cfg.views + self.cfg.crops;
        let values = |side: usize| Vec::with_capacity(n * 3 * side * side);
        let mut views: Vec<_> = all.map(|view| values(self.cfg.side(view))).collect();
        for slot in slots {
            let (index, made) = slot.filled.ok_or_else(|| Error::Worker {
                problem: "a place of the batch stayed empty".to_owned(),
            })?;
            indices.push(index as u32); // `Loader::new` checked that all fit
            labels.push(self.dataset.label(index));
            for (values, view) in views.iter_mut().zip(made) {
                values.extend(view);
            }
        }
        let tensor = |(view, values)| {
            let side = self.cfg.side(view);
            Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu)
        };
        let views = views.into_iter().enumerate().map(tensor);
        let mut views = views.collect::<candle_core::Result<Vec<_>>>()?;
        let crops = views.split_off(self.cfg.views);
        Ok(Batch {
            views,
            crops,
            indices,
            labels,
            epoch: position.epoch,
            batch: position.batch,
            last_of_epoch: position.batch + 1 == self.batches_per_epoch,
            wait: Duration::ZERO,
        })
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
