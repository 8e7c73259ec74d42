//! Features of held-out photos in fresh views, as the gate takes them.

use std::sync::Arc;

use candle_core::Tensor;
use fgvr_data::Dataset;
use fgvr_encoder::FrozenBackbone;

use super::stream::stream;
use super::views::{FRESH, HALVES, Role, Views};
use super::{AdaptSettings, HeldOut};
use crate::embed::pooled;
use crate::view::Sight;
use crate::{Observer, Result};

/// Features of the photos of `set` as the gate takes them, of an encoder that changes no more; at most as many as are held
/// out at most.
///
/// # Errors
/// Features that are not finite.
pub(crate) fn fresh_views(
    encoder: &FrozenBackbone,
    sight: &Sight,
    set: &Arc<dyn Dataset>,
    settings: &AdaptSettings,
    observer: &mut dyn Observer,
) -> Result<HeldOut> {
    let views = Views::new(sight, settings);
    let indices: Vec<usize> = (0..set.len().min(settings.held_out_max)).collect();
    let (mut rows, mut done) = (Vec::new(), 0);
    let encode = |images: &Tensor| pooled(encoder, images);
    let how = (&views, Role::HeldOut);
    stream(set, &indices, how, &encode, &mut |chunk| {
        done += chunk.photos;
        rows.extend(chunk.features);
        observer.on_images(done, indices.len());
        Ok(true)
    })?;
    Ok(held_out(&rows, encoder.width()))
}

/// Features of held-out photos, by what they were made for, from rows with all of a photo side by side.
pub(super) fn held_out(rows: &[f32], width: usize) -> HeldOut {
    let part = |number: usize| -> Vec<f32> {
        let photos = rows.chunks_exact((1 + FRESH + HALVES) * width);
        photos
            .flat_map(|photo| &photo[number * width..(number + 1) * width])
            .copied()
            .collect()
    };
    HeldOut {
        width,
        plain: part(0),
        views: [part(1), part(2)],
        halves: [part(3), part(4)],
    }
}
