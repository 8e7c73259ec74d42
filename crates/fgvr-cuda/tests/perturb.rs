//! The perturbation's kernels against their equations in f64.

mod support;

use fgvr_cuda::ops::perturb::{Config, Noise, Shape, perturb};
use fgvr_cuda::{Array, Machine, Result};
use support::{Random, close, on_each_machine};

const CONFIG: Config = Config {
    scale: 0.7,
    floor_at_median: true,
    non_negative: true,
    min_change: 0.,
};

/// Even and odd numbers of channels, more of them than threads, pooled features and maps.
const SHAPES: [Shape; 5] = [
    shape(3, 1, 5),
    shape(2, 9, 64),
    shape(4, 1, 300),
    shape(2, 6, 33),
    shape(1, 3, 1),
];

const fn shape(images: usize, places: usize, channels: usize) -> Shape {
    Shape {
        images,
        places,
        channels,
    }
}

struct Case {
    shape: Shape,
    features: Vec<f32>,
    mask: Vec<f32>,
    sigma: Vec<f32>,
    normals: Vec<f64>,
    arrays: [Array; 3],
}

impl Case {
    fn new(machine: &dyn Machine, random: &mut Random, shape: Shape) -> Result<Self> {
        let Shape {
            images,
            places,
            channels,
        } = shape;
        // As after a ReLU, with zeros of both signs.
        let relu = |v: f32| if v < 0. { 0. * v } else { v };
        let features = random.normals(images * places * channels, 0.3, 1.);
        let features: Vec<f32> = features.into_iter().map(relu).collect();
        let mask = random.indices(images * channels, 2);
        let mask: Vec<f32> = mask.into_iter().map(|m| m as f32).collect();
        let sigma = random.normals(channels, 0., 0.5);
        let sigma: Vec<f32> = sigma.into_iter().map(f32::abs).collect();
        let normals = random.normals(images * channels, 0., 1.);
        let normals = normals.into_iter().map(|v| f64::from(v) * 1.1).collect();
        let arrays = [
            Array::from_f32(machine, &features)?,
            Array::from_f32(machine, &mask)?,
            Array::from_f32(machine, &sigma)?,
        ];
        Ok(Self {
            shape,
            features,
            mask,
            sigma,
            normals,
            arrays,
        })
    }

    fn made(&self, machine: &dyn Machine, noise: Noise<'_>, config: Config) -> Result<Array> {
        let [features, mask, sigma] = &self.arrays;
        perturb(machine, features, mask, sigma, self.shape, noise, config)
    }

    fn normals(&self, machine: &dyn Machine) -> Result<Array> {
        Array::from_f64(machine, &self.normals)
    }

    fn image(&self, i: usize) -> usize {
        i / (self.shape.places * self.shape.channels)
    }

    /// The (image, channel) of a value.
    fn row(&self, i: usize) -> usize {
        self.image(i) * self.shape.channels + i % self.shape.channels
    }

    fn step(&self, channel: usize, config: Config) -> f64 {
        let mut sorted: Vec<f64> = self.sigma.iter().map(|s| f64::from(*s)).collect();
        let own = sorted[channel];
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        let median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.;
        let floor = if config.floor_at_median { median } else { 0. };
        config.scale * own.max(floor)
    }

    /// The value of each place of one channel of one image.
    fn places(&self, row: usize) -> Vec<f64> {
        let of = |i: &usize| self.row(*i) == row;
        let indices = (0..self.features.len()).filter(of);
        indices.map(|i| f64::from(self.features[i])).collect()
    }

    fn gaussian(&self, config: Config) -> Vec<f64> {
        let lowest = if config.non_negative {
            0.
        } else {
            f64::NEG_INFINITY
        };
        let rows = self.shape.images * self.shape.channels;
        let change = |row: usize| {
            let step = self.step(row % self.shape.channels, config);
            let mut eps = self.normals[row];
            if eps.abs() < config.min_change {
                eps = config.min_change.copysign(eps);
            }
            let places = self.places(row);
            let moved = |v: &f64| ((v + step * eps).max(lowest) - v).abs();
            let mean = places.iter().map(moved).sum::<f64>() / places.len() as f64;
            if mean < config.min_change * step * (1. - 1e-6) {
                eps = eps.abs();
            }
            step * eps
        };
        let changes: Vec<f64> = (0..rows).map(change).collect();
        let one = |i: usize| {
            let value = f64::from(self.features[i]);
            match self.mask[self.row(i)] == 1. {
                true => (value + changes[self.row(i)]).max(lowest),
                false => value,
            }
        };
        (0..self.features.len()).map(one).collect()
    }

    /// That what is not masked has the same bits.
    fn same_where_unmasked(&self, found: &[f32]) {
        for (i, found) in found.iter().enumerate() {
            if self.mask[self.row(i)] == 0. {
                assert_eq!(found.to_bits(), self.features[i].to_bits(), "{i}");
            }
        }
    }
}

#[test]
fn masked_channels_move_by_the_noise_and_others_keep_their_bits() {
    on_each_machine(|machine, random| {
        for shape in SHAPES {
            let case = Case::new(machine, random, shape)?;
            let normals = case.normals(machine)?;
            for (floor_at_median, non_negative, min_change) in [
                (true, true, 0.),
                (false, true, 0.),
                (true, false, 0.),
                (true, true, 0.8),
                (false, false, 0.8),
            ] {
                let config = Config {
                    floor_at_median,
                    non_negative,
                    min_change,
                    ..CONFIG
                };
                let found = case.made(machine, Noise::Gaussian(&normals), config)?;
                let found = found.to_f32(machine)?;
                case.same_where_unmasked(&found);
                close("perturbed", &found, &case.gaussian(config), 1e-7);
            }
        }
        Ok(())
    });
}

#[test]
fn every_masked_channel_moves_by_the_least_change() {
    on_each_machine(|machine, random| {
        let case = Case::new(machine, random, shape(3, 4, 40))?;
        let config = Config {
            min_change: 0.5,
            ..CONFIG
        };
        let normals = case.normals(machine)?;
        let found = case.made(machine, Noise::Gaussian(&normals), config)?;
        let found = found.to_f32(machine)?;
        let mut moved = vec![0.; 3 * 40];
        for (i, found) in found.iter().enumerate() {
            moved[case.row(i)] += f64::from((found - case.features[i]).abs()) / 4.;
        }
        for (row, moved) in moved.into_iter().enumerate() {
            let least = 0.5 * case.step(row % 40, config) * (1. - 1e-4);
            assert!(case.mask[row] == 0. || moved >= least, "{row}: {moved}");
        }
        Ok(())
    });
}

#[test]
fn swap_takes_the_channels_of_one_other_row() {
    on_each_machine(|machine, random| {
        for shape in SHAPES {
            let case = Case::new(machine, random, shape)?;
            let images = shape.images as u32;
            let partners: Vec<u32> = (0..images).map(|i| (i + 1) % images).collect();
            let of_host = Array::from_u32(machine, &partners)?;
            let found = case.made(machine, Noise::Swap(&of_host), CONFIG)?;
            let found = found.to_f32(machine)?;
            case.same_where_unmasked(&found);
            let of_image = shape.places * shape.channels;
            let one = |i: usize| match case.mask[case.row(i)] == 1. {
                true => case.features[partners[case.image(i)] as usize * of_image + i % of_image],
                false => case.features[i],
            };
            let expected: Vec<f32> = (0..found.len()).map(one).collect();
            assert_eq!(found, expected);
        }
        Ok(())
    });
}

#[test]
fn what_the_cpu_refuses_is_no_number() {
    on_each_machine(|machine, _| {
        let of = |values: &[f32]| Array::from_f32(machine, values);
        let (features, sigma) = (of(&[1., 2., 3., 4.])?, of(&[1., -1.])?);
        let mask = of(&[1., 1., f32::NAN, 0.])?;
        let normals = Array::from_f64(machine, &[1.; 4])?;
        let partners = Array::from_u32(machine, &[2, 0])?;
        let config = Config {
            floor_at_median: false,
            ..CONFIG
        };
        let shape = shape(2, 1, 2);
        let nans = |noise| -> Result<Vec<bool>> {
            let made = perturb(machine, &features, &mask, &sigma, shape, noise, config)?;
            Ok(made.to_f32(machine)?.iter().map(|v| v.is_nan()).collect())
        };
        let gaussian = nans(Noise::Gaussian(&normals))?;
        assert_eq!(gaussian, [false, true, true, false], "negative, NaN");
        let swapped = nans(Noise::Swap(&partners))?;
        assert_eq!(swapped, [true, true, true, false], "no such row, NaN");
        let (features, sigma) = (of(&[1.; 3])?, of(&[1., f32::NAN, 2.])?);
        let (mask, normals) = (of(&[1.; 3])?, Array::from_f64(machine, &[1.; 3])?);
        let (shape, noise) = (self::shape(1, 1, 3), Noise::Gaussian(&normals));
        let made = perturb(machine, &features, &mask, &sigma, shape, noise, CONFIG)?;
        let found = made.to_f32(machine)?;
        assert!(found[1].is_nan() && found[0].is_finite(), "{found:?}");
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, random| {
        let case = Case::new(machine, random, shape(2, 1, 3))?;
        let text = |found: Result<Array>| found.err().map(|e| e.to_string()).unwrap_or_default();
        let normals = case.normals(machine)?;
        let few = Array::from_u32(machine, &[1])?;
        assert_eq!(
            text(case.made(machine, Noise::Swap(&few), CONFIG)),
            "perturb: partners: expected 2 of U32, found 1 of U32"
        );
        assert_eq!(
            text(case.made(machine, Noise::Gaussian(&few), CONFIG)),
            "perturb: normals: expected 6 of F64, found 1 of U32"
        );
        let config = Config {
            min_change: 0.5,
            ..CONFIG
        };
        let partners = Array::from_u32(machine, &[1, 0])?;
        assert_eq!(
            text(case.made(machine, Noise::Swap(&partners), config)),
            "perturb: min_change: expected 0 with swap, which takes another image's values, found 0.5"
        );
        let config = Config {
            scale: -1.,
            ..CONFIG
        };
        assert_eq!(
            text(case.made(machine, Noise::Gaussian(&normals), config)),
            "perturb: configured scale: expected a finite value, 0 or more, found -1"
        );
        Ok(())
    });
}
