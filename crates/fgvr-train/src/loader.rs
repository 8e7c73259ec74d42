//! The training images of a run, in augmented views, from where the run stands.

use std::sync::Arc;

use fgvr_data::augment::{ViewKey, augment};
use fgvr_data::{Image, Loader, LoaderConfig, Position, Splits};

use crate::config::PretrainConfig;
use crate::positives::Positives;
use crate::{Error, Result};

/// The loader at the position after `steps` optimiser steps.
///
/// # Errors
/// Settings that do not fit the set.
pub(crate) fn loader(
    config: &PretrainConfig,
    splits: &Splits,
    positives: Option<&Positives>,
    steps: u64,
) -> Result<Loader> {
    let (size, crop_size) = (config.data.size, config.crop_size());
    let normalisation = config.normalisation.clone();
    let first = config.augment.clone();
    let second = config.augment_second.clone().unwrap_or(first.clone());
    let small = config.crop_augment();
    let transform = move |image: &Image, key: ViewKey| {
        let (how, size) = match key.view {
            0 => (&first, size),
            1 => (&second, size),
            _ => (&small, crop_size),
        };
        augment(image, size, how, &normalisation, key)
    };
    let start = position(config, splits.train.len(), steps);
    let settings = LoaderConfig {
        batch: config.loader.batch,
        views: 2,
        crops: config.local_crops(),
        crop_size,
        drop_last: true,
        seed: config.seed,
        prefetch_bytes: config.loader.prefetch_mib << 20,
        size,
        bad_image_budget: config.loader.bad_image_budget,
        threads: config.loader.threads,
    };
    let (train, transform) = (Arc::clone(&splits.train), Arc::new(transform));
    Ok(match positives {
        Some(positives) => {
            let companions = positives.companions(config, train.len())?;
            Loader::with_companions(train, settings, transform, companions, start)
        }
        None => Loader::new(train, settings, transform, start),
    }?)
}

/// Where in the data a run of `images` training images stands after `steps` optimiser steps.
pub(crate) fn position(config: &PretrainConfig, images: usize, steps: u64) -> Position {
    let batches = (images / config.loader.batch).max(1) as u64;
    let done = steps * config.optimizer.accumulate as u64;
    Position {
        epoch: done / batches,
        batch: done % batches,
    }
}

/// Whether the training split fills a batch.
pub(crate) fn enough_images(config: &PretrainConfig, images: usize) -> Result<()> {
    if images >= config.loader.batch {
        return Ok(());
    }
    Err(Error::config(
        "loader.batch",
        format!(
            "{} has {images} training images, fewer than a batch of {}; lower loader.batch or give more images",
            config.source, config.loader.batch
        ),
    ))
}
