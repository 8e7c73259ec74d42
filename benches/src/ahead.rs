//! The same views again and again, on their way to a device before a step asks: `fgvr_train::Feed` without a
//! loader.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use candle_core::Tensor;
use fgvr_nn::Device;
use fgvr_train::StagedViews;

type Sent = candle_core::Result<StagedViews>;

/// A thread that sends the next views while a step computes, one batch at a time.
pub(crate) struct Ahead {
    /// `None` only while being dropped.
    receiver: Option<Receiver<Sent>>,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    pub(crate) fn new(views: &[Tensor], device: &Device) -> Result<Self> {
        let (views, device) = (views.to_vec(), device.clone());
        // A handover: the thread waits with what it has sent until a step asks.
        let (sender, receiver) = sync_channel(0);
        let thread = thread::Builder::new()
            .name("fgvr-feed".to_owned())
            .spawn(move || send(&views, &device, &sender))
            .context("cannot start a thread")?;
        Ok(Self {
            receiver: Some(receiver),
            thread: Some(thread),
        })
    }

    pub(crate) fn next(&self) -> Result<StagedViews> {
        let receiver = self.receiver.as_ref().context("it is being dropped")?;
        Ok(receiver
            .recv()
            .context("the thread that sends views has ended")??)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic was printed where it happened.
            let _ = thread.join();
        }
    }
}

fn send(views: &[Tensor], device: &Device, sender: &SyncSender<Sent>) {
    loop {
        let staged: candle_core::Result<Vec<_>> =
            views.iter().map(|view| device.stage(view)).collect();
        let failed = staged.is_err();
        let message = staged.map(|views| StagedViews {
            views,
            crops: Vec::new(),
        });
        if sender.send(message).is_err() || failed {
            return;
        }
    }
}
