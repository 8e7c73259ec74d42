//! Every transform against torchvision's result for the same parameters (tests/golden/augment.py).

// A golden file that cannot be read is a failed test, in helpers as in tests.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use fgvr_data::augment::{
    Adjustment, Jitter, Planes, RESIZE_RATIO, Region, View, adjust_brightness, adjust_contrast,
    adjust_hue, adjust_saturation, central_crop, evaluate_transform, gaussian_blur, grayscale,
    horizontal_flip, resize, solarise,
};
use fgvr_data::{Image, Normalisation};

const SIZE: usize = 20;

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/golden/augment.safetensors"
        );
        Self(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn photo(&self) -> Image {
        let (height, width, _) = self.0["photo"].dims3().unwrap();
        Image {
            width,
            height,
            pixels: self.0["photo"].flatten_all().unwrap().to_vec1().unwrap(),
        }
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn small(&self) -> Planes {
        Planes {
            height: SIZE,
            width: SIZE,
            values: self.values("small"),
        }
    }

    fn factors(&self, name: &str) -> Vec<f64> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn boxes(&self, name: &str) -> Vec<Region> {
        let boxes = self.0[name].to_vec2::<i64>().unwrap();
        let region = |b: Vec<i64>| Region {
            top: b[0] as usize,
            left: b[1] as usize,
            height: b[2] as usize,
            width: b[3] as usize,
        };
        boxes.into_iter().map(region).collect()
    }

    fn check(&self, name: &str, found: &[f32], tolerance: f32) {
        let expected = self.values(name);
        assert_eq!(found.len(), expected.len(), "{name}");
        let off = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0., f32::max);
        assert!(off <= tolerance, "{name}: off by {off:e}");
    }

    fn check_small(&self, name: &str, change: impl FnOnce(&mut Planes)) {
        let mut planes = self.small();
        change(&mut planes);
        self.check(name, &planes.values, 2e-6);
    }

    fn jitter(&self, which: usize) -> Jitter {
        const KINDS: [Adjustment; 4] = [
            Adjustment::Brightness,
            Adjustment::Contrast,
            Adjustment::Saturation,
            Adjustment::Hue,
        ];
        let factors = self.factors("jitter.factors");
        let order = self.0["jitter.orders"].to_vec2::<i64>().unwrap()[which].clone();
        let adjustments: Vec<_> = order
            .iter()
            .map(|&i| (KINDS[i as usize], factors[i as usize]))
            .collect();
        Jitter(adjustments.try_into().unwrap())
    }
}

#[test]
fn crops_and_resizes_as_torchvision() {
    let golden = Golden::read();
    let photo = golden.photo();
    for (i, region) in golden.boxes("crop.boxes").into_iter().enumerate() {
        let planes = resize(&photo, region, (SIZE, SIZE));
        golden.check(&format!("crop.{i}"), &planes.values, 2e-6);
    }
}

#[test]
fn flips_as_torchvision() {
    Golden::read().check_small("flip", horizontal_flip);
}

#[test]
fn adjusts_colours_as_torchvision() {
    let golden = Golden::read();
    type Adjust = fn(&mut Planes, f32);
    let adjustments: [(&str, Adjust); 4] = [
        ("brightness", adjust_brightness),
        ("contrast", adjust_contrast),
        ("saturation", adjust_saturation),
        ("hue", adjust_hue),
    ];
    for (name, adjust) in adjustments {
        let factors = golden.factors(&format!("{name}.factors"));
        assert!(factors.len() >= 3);
        for (i, &factor) in factors.iter().enumerate() {
            golden.check_small(&format!("{name}.{i}"), |planes| {
                adjust(planes, factor as f32)
            });
        }
    }
}

#[test]
fn the_hue_of_grey_turns_into_nothing_as_in_torchvision() {
    let golden = Golden::read();
    let mut planes = golden.small();
    planes.values.fill(0.25);
    adjust_hue(&mut planes, 0.3);
    golden.check("hue.greys", &planes.values, 0.);
}

#[test]
fn jitters_in_the_order_given_as_torchvision() {
    let golden = Golden::read();
    golden.check_small("jitter.0", |planes| golden.jitter(0).apply(planes));
    golden.check_small("jitter.1", |planes| golden.jitter(1).apply(planes));
}

#[test]
fn leaves_colour_out_as_torchvision() {
    Golden::read().check_small("gray", grayscale);
}

#[test]
fn blurs_as_torchvision() {
    let golden = Golden::read();
    for (i, setting) in golden.factors("blur.settings").chunks(2).enumerate() {
        golden.check_small(&format!("blur.{i}"), |planes| {
            gaussian_blur(planes, setting[0] as usize, setting[1]);
        });
    }
}

#[test]
fn solarises_as_torchvision() {
    Golden::read().check_small("solarise", |planes| solarise(planes, 0.5));
}

#[test]
fn normalises_as_torchvision() {
    let golden = Golden::read();
    let small = Tensor::from_vec(golden.values("small"), (3, SIZE, SIZE), &Device::Cpu).unwrap();
    let found = Normalisation::imagenet().apply(&small).unwrap();
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    golden.check("normalise", &found, 2e-6);
}

#[test]
fn evaluates_as_torchvision() {
    let golden = Golden::read();
    let found = evaluate_transform(
        &golden.photo(),
        SIZE,
        RESIZE_RATIO,
        &Normalisation::imagenet(),
    );
    golden.check("evaluate", &found, 1e-5);
}

#[test]
fn falls_back_to_the_central_crop_of_torchvision() {
    let golden = Golden::read();
    let boxes = golden.boxes("fallback.boxes");
    for (case, expected) in golden.factors("fallback.cases").chunks(4).zip(boxes) {
        let found = central_crop(case[0] as usize, case[1] as usize, [case[2], case[3]]);
        assert_eq!(found, expected, "{case:?}");
    }
}

#[test]
fn a_whole_view_is_as_torchvision_makes_it() {
    let golden = Golden::read();
    let view = View {
        crop: golden.boxes("crop.boxes")[0],
        jitter: Some(golden.jitter(0)),
        grayscale: false,
        blur: Some((3, 1.1)),
        solarise: Some(0.5),
        flip: true,
    };
    let planes = view.apply(&golden.photo(), SIZE);
    let unit = Tensor::from_vec(planes.values, (3, SIZE, SIZE), &Device::Cpu).unwrap();
    let found = Normalisation::imagenet().apply(&unit).unwrap();
    let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
    golden.check("view", &found, 2e-5);
}
