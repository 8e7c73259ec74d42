//! Augmentation of pairs against torchvision's definitions in f64.

mod support;

use fgvr_cuda::ops::augment::{Adjustment, Draw, Norm, Shape, augment_pairs};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, on_each_machine, pairs, rounded};

const NORM: Norm = Norm {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

type Pixel = [f64; 3];

fn luminance([r, g, b]: Pixel) -> f64 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

/// factor * a + (1 - factor) * b, cut off.
fn blend(a: Pixel, b: f64, factor: f64) -> Pixel {
    a.map(|v| (factor * v + (1. - factor) * b).clamp(0., 1.))
}

/// By way of hue, saturation and value, sector by sector.
fn turned([r, g, b]: Pixel, turn: f64) -> Pixel {
    let (v, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = v - low;
    if range == 0. {
        return [v, v, v];
    }
    let hue = match v {
        v if v == r => (g - b) / range,
        v if v == g => (b - r) / range + 2.,
        _ => (r - g) / range + 4.,
    };
    let sixths = (hue / 6. + turn).rem_euclid(1.) * 6.;
    let (sector, part, s) = (sixths.floor(), sixths.fract(), range / v);
    let (p, q, t) = (
        v * (1. - s),
        v * (1. - s * part),
        v * (1. - s * (1. - part)),
    );
    match sector as u32 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

fn expected(images: &[f32], shape: Shape, draws: &[Draw]) -> Vec<f64> {
    let plane = shape.height * shape.width;
    let mut out = Vec::new();
    for (image, draw) in images.chunks(3 * plane).zip(draws) {
        let channel = |of: fn(&Norm) -> [f32; 3], c: usize| f64::from(of(&NORM)[c]);
        let (mean, std) = (|c| channel(|n| n.mean, c), |c| channel(|n| n.std, c));
        let undo =
            |p: &[f32]| [0, 1, 2].map(|c| (f64::from(p[c]) * std(c) + mean(c)).clamp(0., 1.));
        let mut pixels: Vec<Pixel> = image.chunks(3).map(undo).collect();
        for (what, factor) in draw.jitter.into_iter().flatten() {
            let all = pixels.iter().map(|p| luminance(*p)).sum::<f64>() / plane as f64;
            let factor = f64::from(factor);
            for p in &mut pixels {
                *p = match what {
                    Adjustment::Brightness => blend(*p, 0., factor),
                    Adjustment::Contrast => blend(*p, all, factor),
                    Adjustment::Saturation => blend(*p, luminance(*p), factor),
                    Adjustment::Hue => turned(*p, factor),
                };
            }
        }
        if draw.grayscale {
            pixels.iter_mut().for_each(|p| *p = [luminance(*p); 3]);
        }
        if draw.flip {
            pixels.chunks_mut(shape.width).for_each(<[_]>::reverse);
        }
        let apply = |p: Pixel| [0, 1, 2].map(|c| (p[c] - mean(c)) / std(c));
        out.extend(pixels.into_iter().flat_map(apply));
    }
    out
}

/// Jitter in each of the 24 orders and none, each with and without greys and flip.
fn every_draw(random: &mut Random) -> Vec<Draw> {
    use Adjustment::{Brightness, Contrast, Hue, Saturation};
    let mut orders = vec![None];
    for code in 0..24 {
        let mut left = vec![Brightness, Contrast, Saturation, Hue];
        orders.push(Some(
            [code % 4, code / 4 % 3, code / 12, 0].map(|at| left.remove(at)),
        ));
    }
    let switches = [(false, false), (false, true), (true, false), (true, true)];
    let mut draw = |(order, (grayscale, flip)): (Option<[Adjustment; 4]>, (bool, bool))| Draw {
        jitter: order.map(|order| {
            order.map(|what| {
                let off = random.indices(1, 1001)[0] as f32 / 1000.;
                let factor = match what {
                    Hue => off - 0.5,
                    _ => 2. * off,
                };
                (what, factor)
            })
        }),
        grayscale,
        flip,
    };
    pairs(&orders, &switches)
        .into_iter()
        .map(&mut draw)
        .collect()
}

fn check(
    machine: &dyn Machine,
    random: &mut Random,
    real: Real,
    shape: Shape,
    draws: &[Draw],
) -> Result<()> {
    // Some values beyond [0, 1], and every tenth pixel grey.
    let len = 3 * shape.images * shape.height * shape.width;
    let mut images = random.normals(len, 0.1, 1.2);
    for pixel in images.chunks_mut(3).step_by(10) {
        let grey = (pixel[0] * 0.2 + 0.5).clamp(0., 1.);
        let of = |c: usize| (grey - NORM.mean[c]) / NORM.std[c];
        pixel.copy_from_slice(&[of(0), of(1), of(2)]);
    }
    let array = Array::from_reals(machine, real, &images)?;
    let found = augment_pairs(machine, &array, shape, draws, NORM)?.to_f32(machine)?;
    let expected = expected(&rounded(real, &images), shape, draws);
    let tolerance = match real {
        Real::F32 => 1e-5,
        Real::Bf16 => 4e-3,
    };
    let what = format!("{shape:?}, {}", real.name());
    close(&what, &found, &expected, tolerance);
    Ok(())
}

#[test]
fn every_order_with_and_without_greys_and_flip() {
    on_each_machine(|machine, random| {
        // Groups of one pixel; of as many as fill packs, of every third draw.
        for (real, (height, width, step)) in pairs(Real::ALL, &[(3, 5, 1), (2, 8, 3)]) {
            let draws: Vec<Draw> = every_draw(random).into_iter().step_by(step).collect();
            let shape = Shape {
                images: draws.len(),
                height,
                width,
            };
            check(machine, random, real, shape, &draws)?;
        }
        Ok(())
    });
}

#[test]
fn images_of_several_slabs_have_one_mean() {
    on_each_machine(|machine, random| {
        // More pixels than a slab has, of groups of 1, and of 4 and 8.
        for (real, (height, width)) in pairs(Real::ALL, &[(33, 35), (104, 88)]) {
            let all = every_draw(random);
            let draws = [all[0], all[3], all[6], all[59]];
            let shape = Shape {
                images: 4,
                height,
                width,
            };
            check(machine, random, real, shape, &draws)?;
        }
        Ok(())
    });
}

#[test]
fn what_is_no_number_stays_in_its_image() {
    on_each_machine(|machine, random| {
        let jittered = every_draw(random)[4];
        let plain = Draw {
            jitter: None,
            grayscale: false,
            flip: true,
        };
        let shape = Shape {
            images: 3,
            height: 2,
            width: 4,
        };
        let mut values = random.normals(3 * 24, 0., 1.);
        (values[1], values[24]) = (f32::NAN, f32::NAN);
        let images = Array::from_f32(machine, &values)?;
        let draws = [jittered, plain, jittered];
        let found = augment_pairs(machine, &images, shape, &draws, NORM)?.to_f32(machine)?;
        assert!(found[..24].iter().all(|v| v.is_nan()), "its mean is none");
        let of_second: Vec<usize> = (24..48).filter(|i| found[*i].is_nan()).collect();
        assert_eq!(of_second, [24 + 9], "its place, mirrored");
        assert!(found[48..].iter().all(|v| v.is_finite()));
        Ok(())
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    on_each_machine(|machine, random| {
        let draw = every_draw(random)[4];
        let images = Array::from_f32(machine, &[0.; 24])?;
        let shape = Shape {
            images: 2,
            height: 2,
            width: 2,
        };
        let text = |draws: &[Draw], shape, norm| {
            let made = augment_pairs(machine, &images, shape, draws, norm);
            made.err().map(|e| e.to_string()).unwrap_or_default()
        };
        assert_eq!(
            text(&[draw], shape, NORM),
            "augment pairs: draws: expected 2, one an image, found 1"
        );
        let wide = Shape { width: 3, ..shape };
        assert_eq!(
            text(&[draw; 2], wide, NORM),
            "augment pairs: images: expected 36 of F32, found 24 of F32"
        );
        let flat = Norm {
            std: [1., 0., 1.],
            ..NORM
        };
        assert!(text(&[draw; 2], shape, flat).contains("expected above 0, found [1.0, 0.0, 1.0]"));
        let twice = Draw {
            jitter: Some([(Adjustment::Contrast, 1.); 4]),
            ..draw
        };
        assert!(
            text(&[draw, twice], shape, NORM).contains("jitter: expected each adjustment once")
        );
        let none = Array::from_f32(machine, &[])?;
        let shape = Shape { images: 0, ..shape };
        assert!(augment_pairs(machine, &none, shape, &[], NORM)?.is_empty());
        Ok(())
    });
}
