//! From photos to features: photos are read and views made ahead of the forward passes, by threads of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use candle_core::{Device, Tensor};
use fgvr_data::{Dataset, load_whole};
use rayon::prelude::*;

use super::views::{Role, Views};
use crate::{Error, Result};

/// Batches that may lie ready, beside the one in the making.
const AHEAD: usize = 1;

/// A photo that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Unreadable {
    /// Its number in its set.
    pub(super) index: usize,
    /// Its name there.
    pub(super) path: String,
    /// Why.
    pub(super) reason: String,
}

/// Features of some photos.
pub(super) struct Chunk {
    /// Photos that were looked at.
    pub(super) photos: usize,
    /// Those that could be read, by their number in the set.
    pub(super) kept: Vec<usize>,
    /// (kept, views, C)
    pub(super) features: Vec<f32>,
    pub(super) unreadable: Vec<Unreadable>,
}

/// Views of some photos, or why there are none.
struct Made {
    photos: usize,
    kept: Vec<usize>,
    /// (kept * views, 3, size, size)
    images: Option<Tensor>,
    unreadable: Vec<Unreadable>,
}

/// Features of the photos `indices` of `set`, given to `sink` in their order and in pieces of about a forward pass, until
/// it says that it has enough (`false`).
///
/// # Errors
/// Whatever `encode` and `sink` say; a thread that cannot be started.
pub(super) fn stream(
    set: &Arc<dyn Dataset>,
    indices: &[usize],
    (views, role): (&Views, Role),
    encode: &dyn Fn(&Tensor) -> Result<Tensor>,
    sink: &mut dyn FnMut(Chunk) -> Result<bool>,
) -> Result<()> {
    let each = (views.sight.batch / views.count(role)).max(1);
    let threads = thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
    let no_thread = |problem: &dyn std::fmt::Display| fgvr_data::Error::Worker {
        problem: format!("cannot start a thread: {problem}"),
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("fgvr-views-{i}"))
        .build()
        .map_err(|error| no_thread(&error))?;
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(AHEAD);
        let (pool, enough, set) = (&pool, &enough, set.as_ref());
        let make = move || {
            for indices in indices.chunks(each) {
                let made = pool.install(|| made(set, indices, views, role));
                let failed = made.is_err();
                if enough.load(Ordering::Relaxed) || sender.send(made).is_err() || failed {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("fgvr-views".to_owned())
            .spawn_scoped(scope, make)
            .map_err(|error| no_thread(&error))?;
        let mut run = || -> Result<()> {
            for made in &receiver {
                let made = made?;
                let features = match &made.images {
                    Some(images) => encode(images)?.flatten_all()?.to_vec1::<f32>()?,
                    None => Vec::new(),
                };
                let more = sink(Chunk {
                    photos: made.photos,
                    kept: made.kept,
                    features,
                    unreadable: made.unreadable,
                })?;
                if !more {
                    return Ok(());
                }
            }
            Ok(())
        };
        let done = run();
        // Without a receiver a waiting send returns, and the thread ends.
        enough.store(true, Ordering::Relaxed);
        drop(receiver);
        done
    })
}

/// The views of some photos of `set`.
fn made(set: &dyn Dataset, indices: &[usize], views: &Views, role: Role) -> Result<Made> {
    let one = |&index: &usize| match load_whole(set, index) {
        Ok(image) => Ok(Ok(views.of(role, &image, index))),
        Err(error @ fgvr_data::Error::IndexOutOfRange { .. }) => Err(Error::Data(error)),
        Err(error) => Ok(Err(Unreadable {
            index,
            path: set.id(index),
            reason: error.to_string(),
        })),
    };
    let photos: Vec<Result<_>> = indices.par_iter().map(one).collect();
    let size = views.sight.view.size;
    let mut values = Vec::with_capacity(indices.len() * views.count(role) * 3 * size * size);
    let (mut kept, mut unreadable) = (Vec::new(), Vec::new());
    for (index, photo) in indices.iter().zip(photos) {
        match photo? {
            Ok(made) => {
                values.extend(made);
                kept.push(*index);
            }
            Err(bad) => unreadable.push(bad),
        }
    }
    let images = match kept.len() * views.count(role) {
        0 => None,
        n => Some(Tensor::from_vec(values, (n, 3, size, size), &Device::Cpu)?),
    };
    Ok(Made {
        photos: indices.len(),
        kept,
        images,
        unreadable,
    })
}
