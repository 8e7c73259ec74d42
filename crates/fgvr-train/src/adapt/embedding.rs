//! The features of all photos that an adaptation needs, in pieces that are kept.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{Device, Tensor};
use fgvr_data::{Dataset, shown};

use super::photos::Photos;
use super::views::{Role, Views};
use super::work::Work;
use super::{AdaptSettings, Eye, stream};
use crate::finite::Finite;
use crate::{Error, Observer, Result};

/// Photos of one role: of which set, which of it, and what they are called.
type Part<'a> = (Role, &'a Arc<dyn Dataset>, &'a [usize], &'a str);

/// Embeds what is not embedded yet.
///
/// # Errors
/// Features that are not finite; [`Error::Stopped`] where the observer asked for it.
pub(super) fn embed(
    eye: &Eye<'_>,
    photos: &Photos,
    settings: &AdaptSettings,
    work: &mut Work,
    observer: &mut dyn Observer,
) -> Result<()> {
    let views = Views::new(eye.sight, settings);
    let judged = match &photos.judged {
        Some(set) => (0..set.len()).collect(),
        None => Vec::new(),
    };
    let none = Arc::clone(&photos.train);
    let parts: [Part<'_>; 3] = [
        (Role::Fit, &photos.train, &photos.fit, "photos"),
        (
            Role::HeldOut,
            &photos.held,
            &photos.held_out,
            "photos that are held out",
        ),
        (
            Role::Judged,
            photos.judged.as_ref().unwrap_or(&none),
            &judged,
            "photos to judge by",
        ),
    ];
    let before: usize = parts.iter().map(|(role, ..)| work.done(*role)).sum();
    if before > 0 {
        let all: usize = parts.iter().map(|(_, _, indices, _)| indices.len()).sum();
        observer.on_message(&format!(
            "going on: {before} of {all} photos were embedded before"
        ));
    }
    for (role, set, indices, name) in parts {
        let (total, done) = (indices.len(), work.done(role));
        if done >= total {
            continue;
        }
        let each = views.count(role);
        let more = match each {
            1 => String::new(),
            each => format!(", {each} images of each"),
        };
        observer.on_phase(&format!("embedding {total} {name}{more}"));
        let mut since = Instant::now();
        let mut stopped = false;
        stream::stream(
            set,
            &indices[done..],
            (&views, role),
            eye.encode,
            &mut |chunk| {
                for bad in &chunk.unreadable {
                    let line = format!("left out: {} ({})", bad.path, bad.reason);
                    observer.on_message(&shown(&line));
                }
                check(eye, set, &chunk)?;
                work.add(role, chunk, each)?;
                work.tick(since.elapsed().as_secs_f64())?;
                since = Instant::now();
                observer.on_images(work.done(role), total);
                stopped = observer.should_stop() && work.done(role) < total;
                Ok(!stopped)
            },
        )?;
        if stopped || observer.should_stop() {
            work.save()?;
            return Err(stop(work, &photos_done(work, photos, judged.len())));
        }
    }
    work.save()
}

/// How far it came, for people.
fn photos_done(work: &Work, photos: &Photos, judged: usize) -> String {
    let roles = [Role::Fit, Role::HeldOut, Role::Judged];
    let done: usize = roles.map(|role| work.done(role)).iter().sum();
    let total = photos.fit.len() + photos.held_out.len() + judged;
    format!("{done} of {total} photos")
}

fn stop(work: &Work, done: &str) -> Error {
    Error::Stopped {
        problem: match work.folder() {
            Some(folder) => format!(
                "stopped after {done}, which are kept in {}; the same command goes on from there",
                crate::path_text(folder)
            ),
            None => format!("stopped after {done}, and nothing is kept"),
        },
    }
}

/// An error where features of a chunk are no numbers.
fn check(eye: &Eye<'_>, set: &Arc<dyn Dataset>, chunk: &stream::Chunk) -> Result<()> {
    let photos = chunk.kept.len();
    if photos == 0 {
        return Ok(());
    }
    let shape = (photos, chunk.features.len() / photos);
    let features = Tensor::from_slice(&chunk.features, shape, &Device::Cpu)?;
    let mut finite = Finite::default();
    finite.look(&features, |row| set.id(chunk.kept[row]))?;
    finite.verdict(eye.not_finite)
}
