//! SynthPair's mask and perturbation on features of one's own, plain `Vec<f32>` from wherever.
//!
//! Six classes in 32 dimensions: eight dimensions tell the classes apart, eight vary with each image, sixteen hardly vary at
//! all. The mask by variance takes the last; a random mask of the same size, the control, takes from all.
//!
//! `cargo run --example own_features` takes a moment.

use std::error::Error;
use std::io::Write as _;

use fgvr_perturb::slices::{FeatureBank, non_discriminative_mask_with_stats, perturb};
use fgvr_perturb::{Control, MaskConfig, MaskRule, NoiseConfig, RandomKey};

const IMAGES: usize = 240;
const WIDTH: usize = 32;
const CLASSES: usize = 6;

/// Irregular values in [0, 1).
fn value(i: usize) -> f32 {
    ((i as f64 * 12.9898).sin() * 43758.5453).rem_euclid(1.) as f32
}

/// Features (N, C) as a network with a ReLU at its end gives them.
fn features() -> Vec<f32> {
    let of = |image: usize, channel: usize| match channel {
        0..8 => 2. * value(image % CLASSES * 8 + channel) + 0.1 * value(image * WIDTH + channel),
        8..16 => value(image * WIDTH + channel),
        _ => 0.5 + 0.02 * value(image * WIDTH + channel),
    };
    (0..IMAGES * WIDTH)
        .map(|i| of(i / WIDTH, i % WIDTH))
        .collect()
}

/// The share of images whose nearest other image, by Euclidean distance to the plain `features`, is of their class.
fn nearest_of_same_class(moved: &[f32], features: &[f32]) -> f64 {
    let row = |rows: &'_ [f32], image: usize| rows[image * WIDTH..][..WIDTH].to_vec();
    let hit = |image: usize| {
        let own = row(moved, image);
        let distance = |other: &usize| -> f32 {
            let other = row(features, *other);
            own.iter().zip(&other).map(|(a, b)| (a - b).powi(2)).sum()
        };
        let others = (0..IMAGES).filter(|other| *other != image);
        let nearest = others.min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.is_some_and(|other| other % CLASSES == image % CLASSES)
    };
    (0..IMAGES).filter(|image| hit(*image)).count() as f64 / IMAGES as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let features = features();
    let mut bank = FeatureBank::new(4096, WIDTH, false)?;
    bank.push(&features)?;
    let (variance, scale) = (bank.variance()?, bank.std()?);
    let images: Vec<u32> = (0..IMAGES as u32).collect();
    let key = RandomKey { seed: 0, step: 0 };
    let noise = NoiseConfig::default(); // one standard deviation, at least the median channel's

    let mut out = std::io::stdout();
    writeln!(
        out,
        "{:<12} {:>10} {:>22} {:>24}",
        "mask", "masked", "of them telling apart", "nearest of same class"
    )?;
    let plain = nearest_of_same_class(&features, &features);
    writeln!(out, "{:<12} {:>10} {:>22} {plain:>24.3}", "none", "0%", "-")?;
    for (name, control) in [
        ("variance", Control::None),
        ("random", Control::Random),
        ("inverted", Control::Inverted),
    ] {
        let cfg = MaskConfig {
            rule: MaskRule::Variance,
            rho_variance: 0.5,
            control,
            ..MaskConfig::default()
        };
        let found = non_discriminative_mask_with_stats(&variance, None, &cfg, key, &images)?;
        let (mask, stats) = found;
        let masked = mask.iter().filter(|m| **m).count();
        let telling = (0..mask.len()).filter(|i| mask[*i] && i % WIDTH < 8);
        let telling = telling.count() as f64 / masked as f64;
        let moved = perturb(&features, &mask, &scale, &noise, key, &images)?;
        let same = nearest_of_same_class(&moved, &features);
        writeln!(
            out,
            "{name:<12} {:>9.0}% {:>21.0}% {same:>24.3}",
            100. * stats.fraction,
            100. * telling
        )?;
    }
    Ok(())
}
