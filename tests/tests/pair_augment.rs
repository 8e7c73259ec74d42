//! Generated pairs are augmented on a device as they are on the CPU.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::Path;

use candle_core::Tensor;
use fgvr_data::Normalisation;
use fgvr_data::augment::{
    Adjustment, JitterStrength, PairAugmentConfig, PairDraw, pair_augment, pair_draws,
};
use fgvr_nn::cuda::emulator::Emulator;
use fgvr_nn::cuda::ops::augment::{self, Draw, Norm, Shape, augment_pairs};
use fgvr_nn::cuda::{Array, Real};
use fgvr_testkit::{normal, skipped};

const SEED: u64 = 5;
const STEP: u64 = 70;

fn config() -> PairAugmentConfig {
    PairAugmentConfig {
        jitter: 0.8,
        jitter_strength: JitterStrength {
            brightness: 0.8,
            contrast: 0.8,
            saturation: 0.8,
            hue: 0.5,
        },
        grayscale: 0.5,
        flip: 0.5,
    }
}

/// The same for a device.
fn for_device(draw: &PairDraw) -> Draw {
    let on_device = |what| match what {
        Adjustment::Brightness => augment::Adjustment::Brightness,
        Adjustment::Contrast => augment::Adjustment::Contrast,
        Adjustment::Saturation => augment::Adjustment::Saturation,
        Adjustment::Hue => augment::Adjustment::Hue,
    };
    Draw {
        jitter: (draw.jitter).map(|drawn| drawn.map(|(what, factor)| (on_device(what), factor))),
        grayscale: draw.grayscale,
        flip: draw.flip,
    }
}

/// The values of (N, 3, H, W) as (N, H, W, 3).
fn channels_last(images: &Tensor) -> Vec<f32> {
    let images = images.permute((0, 2, 3, 1)).unwrap();
    images.flatten_all().unwrap().to_vec1().unwrap()
}

fn compare(emulator: &Emulator, [n, height, width]: [usize; 3], view: u64) -> Vec<PairDraw> {
    let (cfg, norm) = (config(), Normalisation::imagenet());
    // Many values lie beyond [0, 1] once they are out of their normalisation.
    let images = normal(view, (n, 3, height, width));
    let indices: Vec<u32> = (0..n as u32).map(|i| 3 * i + 1).collect();
    let expected = pair_augment(&images, &cfg, &norm, SEED, STEP, view, &indices).unwrap();
    let draws = pair_draws(&cfg, SEED, STEP, view, &indices);
    let there = Array::from_reals(emulator, Real::F32, &channels_last(&images)).unwrap();
    let shape = Shape {
        images: n,
        height,
        width,
    };
    let on_device: Vec<Draw> = draws.iter().map(for_device).collect();
    let constants = Norm {
        mean: norm.mean,
        std: norm.std,
    };
    let found = augment_pairs(emulator, &there, shape, &on_device, constants).unwrap();
    let found = found.to_f32(emulator).unwrap();
    let expected = channels_last(&expected);
    assert_eq!(found.len(), expected.len());
    let pictures = found.chunks(3 * height * width);
    for ((found, expected), draw) in pictures
        .zip(expected.chunks(3 * height * width))
        .zip(&draws)
    {
        for (found, expected) in found.iter().zip(expected) {
            let off = (found - expected).abs();
            assert!(off <= 1e-5, "{found}, expected {expected}: {draw:?}");
        }
    }
    draws
}

#[test]
fn a_device_augments_pairs_as_the_cpu_does_whatever_is_drawn() {
    let emulator = match Emulator::new(Path::new(env!("CARGO_TARGET_TMPDIR"))) {
        Ok(emulator) => emulator,
        Err(error) => return skipped(error),
    };
    let mut seen = HashSet::new();
    for (view, shape) in [[1000, 3, 5], [1000, 2, 8], [3, 40, 36], [2, 80, 72]]
        .into_iter()
        .enumerate()
    {
        for draw in compare(&emulator, shape, view as u64) {
            let order = (draw.jitter).map(|drawn| drawn.map(|(what, _)| what as u32));
            seen.insert((order, draw.grayscale, draw.flip));
        }
    }
    // 24 orders and none, each with and without greys and flip.
    assert_eq!(seen.len(), 25 * 4);
}
