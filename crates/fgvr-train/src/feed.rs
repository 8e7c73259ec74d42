//! From the loader to the step: batches whose views are on their way to the device before they are asked for.
//!
//! The loader makes batches ahead on threads of its own. On a device their way is longer: into page-locked
//! memory and over the bus. A thread between the two takes the next batch, starts sending its views, and hands
//! it over when the step asks: so one batch is under way while another is computed, and no more, since views
//! take the device's memory. Batches come in the loader's order whatever carries them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use candle_core::Tensor;
use fgvr_data::{Batch, Loader, Quarantined, Stopper};
use fgvr_nn::{Activation, Device, Staged};

use crate::{Error, Result};

/// A batch, and its views where they were sent ahead.
#[derive(Debug)]
pub struct Fed {
    /// The views on the CPU, which images they are, and how long [`Feed::next`] waited for them.
    pub batch: Batch,
    /// The same views, on their way to the device.
    pub staged: Option<StagedViews>,
}

/// The views of a batch on their way to a device; [`Device::receive`] makes maps of them.
#[derive(Debug)]
pub struct StagedViews {
    /// (N, 3, H, W) for each view, in the order of [`Batch::views`].
    pub views: Vec<Staged>,
    /// (N, 3, h, w) for each small crop, in the order of [`Batch::crops`].
    pub crops: Vec<Staged>,
}

impl StagedViews {
    /// The two global views as maps; `None` of a batch that has not two.
    pub(crate) fn receive(self, device: &Device) -> Result<Option<[Activation; 2]>> {
        let views = self.views.into_iter().map(|view| device.receive(view));
        let views = views.collect::<candle_core::Result<Vec<Activation>>>()?;
        Ok(views.try_into().ok())
    }

    fn of(batch: &Batch, device: &Device) -> Result<Self> {
        let stage = |tensors: &[Tensor]| -> candle_core::Result<Vec<Staged>> {
            tensors.iter().map(|tensor| device.stage(tensor)).collect()
        };
        Ok(Self {
            views: stage(&batch.views)?,
            crops: stage(&batch.crops)?,
        })
    }
}

/// A loader's batches in its order. See the module's documentation.
///
/// Dropping it ends the loader, at most the time of decoding one photo a thread later.
pub struct Feed(Source);

enum Source {
    /// The loader's own.
    Loader(Loader),
    /// With views sent ahead.
    Ahead(Ahead),
}

struct Ahead {
    /// `None` only while being dropped.
    receiver: Option<Receiver<Message>>,
    thread: Option<JoinHandle<()>>,
    stopper: Stopper,
    quarantined: Vec<Quarantined>,
    /// Why there are no more batches.
    ended: Option<String>,
}

/// What the thread hands over: a batch or why there is none, and the unreadable images met on the way.
struct Message {
    quarantined: Vec<Quarantined>,
    result: Result<Fed>,
}

impl Feed {
    /// The batches of `loader`, their views sent ahead to `device` if there is one.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(loader: Loader, device: Option<&Device>) -> Result<Self> {
        let Some(device) = device.cloned() else {
            return Ok(Self(Source::Loader(loader)));
        };
        let stopper = loader.stopper();
        // A handover: the thread stages the next batch, and waits with it until the step asks.
        let (sender, receiver) = sync_channel(0);
        let thread = thread::Builder::new()
            .name("fgvr-feed".to_owned())
            .spawn(move || send_ahead(loader, &device, &sender))
            .map_err(|problem| no_more(format!("cannot start a thread: {problem}")))?;
        Ok(Self(Source::Ahead(Ahead {
            receiver: Some(receiver),
            thread: Some(thread),
            stopper,
            quarantined: Vec::new(),
            ended: None,
        })))
    }

    /// The next batch. Its `wait` is how long this took, whoever prepared it.
    ///
    /// # Errors
    /// Those of [`Loader::next`], and what the device says; after one there are no more batches.
    // An iterator over results would go on after an error; this ends there.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Fed> {
        match &mut self.0 {
            Source::Loader(loader) => Ok(Fed {
                batch: loader.next()?,
                staged: None,
            }),
            Source::Ahead(ahead) => ahead.next(),
        }
    }

    /// The unreadable images met in the batches up to now, in the order in which they were met.
    #[must_use]
    pub fn quarantined(&self) -> &[Quarantined] {
        match &self.0 {
            Source::Loader(loader) => loader.quarantined(),
            Source::Ahead(ahead) => &ahead.quarantined,
        }
    }
}

impl Ahead {
    fn next(&mut self) -> Result<Fed> {
        let started = Instant::now();
        if let Some(problem) = &self.ended {
            return Err(no_more(format!("no more batches after: {problem}")));
        }
        let message = self.receiver.as_ref().and_then(|r| r.recv().ok());
        let result = match message {
            Some(message) => {
                self.quarantined.extend(message.quarantined);
                message.result
            }
            // It ends without a word only by a panic, which has been printed.
            None => Err(no_more("the thread that sends batches panicked".to_owned())),
        };
        match result {
            Ok(mut fed) => {
                fed.batch.wait = started.elapsed();
                Ok(fed)
            }
            Err(error) => {
                self.ended = Some(error.to_string());
                Err(error)
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The thread waits for the loader, or for somebody to take a batch: neither will be.
        self.stopper.stop();
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported by `next`, or concerns a batch that nobody will see.
            let _ = thread.join();
        }
    }
}

/// Hands over batches until one fails or nobody listens.
fn send_ahead(mut loader: Loader, device: &Device, sender: &SyncSender<Message>) {
    let stopper = loader.stopper();
    loop {
        let known = loader.quarantined().len();
        let batch = loader.next();
        if stopper.is_stopped() {
            return;
        }
        let result = batch.map_err(Error::from).and_then(|batch| {
            let staged = Some(StagedViews::of(&batch, device)?);
            Ok(Fed { batch, staged })
        });
        let failed = result.is_err();
        let message = Message {
            quarantined: loader.quarantined()[known..].to_vec(),
            result,
        };
        if sender.send(message).is_err() || failed {
            return;
        }
    }
}

fn no_more(problem: String) -> Error {
    Error::Data(fgvr_data::Error::Worker { problem })
}
