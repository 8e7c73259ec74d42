//! A linear head that is trained on adapted features of views, behind the closed form.

use fgvr_perturb::{Adaptation, mutual_neighbours};
use fgvr_ssl::{CachedViews, ResidualHead};

use super::AdaptSettings;
use crate::{Error, Observer, Result};

/// `closed` followed by the head that `adapt.head` asks for; `views` are features of `adapt.views` views of each photo, `plain` one
/// row for each. `None` without steps.
///
/// # Errors
/// Features that are not finite; a loss that is not; [`Error::Stopped`] where the observer asked for it.
pub(super) fn with_head(
    closed: &Adaptation,
    (plain, views): (&[f32], &[f32]),
    settings: &AdaptSettings,
    observer: &mut dyn Observer,
) -> Result<Option<Adaptation>> {
    let cfg = &settings.head;
    if cfg.steps == 0 {
        return Ok(None);
    }
    observer.on_phase(&format!("training a head for {} steps", cfg.steps));
    let width = closed.width();
    let pairs = match cfg.neighbours > 0. {
        true => mutual_neighbours(&closed.apply(plain)?, width, settings.neighbours)?,
        false => Vec::new(),
    };
    let values = closed.apply(views)?;
    let cached = CachedViews {
        width,
        views: settings.views,
        values: &values,
        pairs: &pairs,
    };
    let mut is_stopped = |_| observer.should_stop();
    let Some(head) = ResidualHead::train(&cached, cfg, &mut is_stopped)? else {
        return Err(Error::Stopped {
            problem:
                "stopped while the head was trained; the same command goes on from the features"
                    .to_owned(),
        });
    };
    let last = head.losses.len().saturating_sub(10);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    observer.on_message(&format!(
        "head: loss {:.3} in the first ten steps, {:.3} in the last",
        mean(&head.losses[..head.losses.len().min(10)]),
        mean(&head.losses[last..])
    ));
    let about = format!(
        "{} steps of {} images at {:e}, decay {}, T {}, neighbours {}, noise {} along {:?} with weight {}, seed {}",
        cfg.steps,
        cfg.batch,
        cfg.lr,
        cfg.decay,
        cfg.temperature,
        cfg.neighbours,
        cfg.noise,
        cfg.along,
        cfg.noise_weight,
        cfg.seed
    );
    let whole = closed.followed_by(&head.weight)?;
    Ok(Some(whole.with_source("head", about)))
}
