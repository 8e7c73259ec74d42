//! InfoNCE's kernels against the equation written out in f64.

mod support;

use fgvr_cuda::ops::info_nce::{Contrast, Into, Positive, info_nce};
use fgvr_cuda::{Array, Machine, Real, Result};
use support::{Random, close, close_together, on_each_machine, stored};

const T: f64 = 0.2;
const WEIGHT: f32 = 1.5;

/// The equation: of each row the positive and what counts as negative (column, similarity).
struct Expected {
    rows: [Vec<f64>; 5],
    of_positive: Vec<f64>,
    of_similarity: Vec<f64>,
}

fn expected(
    columns: usize,
    similarity: &[f64],
    positive: &[f64],
    is_negative: impl Fn(usize, usize) -> bool,
) -> Expected {
    let n = positive.len();
    let mut out = Expected {
        rows: std::array::from_fn(|_| vec![]),
        of_positive: vec![],
        of_similarity: vec![0.; n * columns],
    };
    for (i, p) in positive.iter().enumerate() {
        let negatives: Vec<(usize, f64)> = (0..columns)
            .filter(|j| is_negative(i, *j))
            .map(|j| (j, similarity[i * columns + j]))
            .collect();
        let rest: f64 = negatives.iter().map(|(_, s)| ((s - p) / T).exp()).sum();
        let hit = negatives.iter().all(|(_, s)| p > s);
        let found = [
            rest.ln_1p(),
            f64::from(u8::from(hit)),
            *p,
            negatives.iter().map(|(_, s)| s).sum(),
            negatives.len() as f64,
        ];
        for (to, v) in out.rows.iter_mut().zip(found) {
            to.push(v);
        }
        let share = f64::from(WEIGHT) / n as f64 / T;
        out.of_positive.push(-rest / (1. + rest) * share);
        for (j, s) in negatives {
            out.of_similarity[i * columns + j] = ((s - p) / T).exp() / (1. + rest) * share;
        }
    }
    out
}

fn similarities(random: &mut Random, count: usize) -> Vec<f32> {
    let values = random.normals(count, 0.1, 0.3);
    values.into_iter().map(|v| v.clamp(-1., 1.)).collect()
}

fn check(
    machine: &dyn Machine,
    contrast: &Contrast<'_>,
    into: Into,
    expected: &Expected,
) -> Result<()> {
    let found = info_nce(machine, contrast, WEIGHT, into)?;
    let rows = found.rows.to_f32(machine)?;
    let n = contrast.rows;
    let names = ["loss", "top1", "positive", "sum of negatives", "negatives"];
    for ((name, rows), expected) in names.iter().zip(rows.chunks(n)).zip(&expected.rows) {
        close(name, rows, expected, 2e-5);
    }
    let sum = |of: usize| expected.rows[of].iter().sum::<f64>();
    let means = found.means.to_f32(machine)?;
    let mean = |of: usize| sum(of) / n as f64;
    close("means", &means[..3], &[mean(0), mean(1), mean(2)], 1e-5);
    if sum(4) > 0. {
        close("mean negative", &means[3..], &[sum(3) / sum(4)], 1e-5);
    } else {
        assert!(means[3].is_nan());
    }
    let share = match into {
        Into::New(Real::Bf16) => 4e-3,
        _ => 5e-6,
    };
    match &found.of_similarity {
        Some(gradient) => {
            let gradient = gradient.to_f32(machine)?;
            close_together("of similarity", &gradient, &expected.of_similarity, share);
        }
        None => assert_eq!(into, Into::Nowhere),
    }
    if let Some(gradient) = &found.of_positive {
        let gradient = gradient.to_f32(machine)?;
        close_together("of positive", &gradient, &expected.of_positive, share);
    }
    Ok(())
}

#[test]
fn loss_and_gradient_against_a_queue_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        let intos = [
            Into::Nowhere,
            Into::New(Real::F32),
            Into::New(Real::Bf16),
            Into::Place,
        ];
        for (n, k) in [(5, 1), (7, 37), (3, 4096), (2, 5001), (1, 65536)] {
            let of_rows: Vec<u32> = (0..n as u32).collect();
            // Some keys are of images in the batch.
            let of_columns = random.indices(k, 3 * n as u32);
            for (round, into) in intos.into_iter().enumerate() {
                let similarity = Array::from_f32(machine, &similarities(random, n * k))?;
                let positive = Array::from_f32(machine, &similarities(random, n))?;
                let images = [
                    Array::from_u32(machine, &of_rows)?,
                    Array::from_u32(machine, &of_columns)?,
                ];
                let images = (round % 2 == 1).then_some(&images);
                let contrast = Contrast {
                    similarity: &similarity,
                    rows: n,
                    columns: k,
                    positive: Positive::Beside(&positive),
                    own: None,
                    images: images.map(|[rows, columns]| [rows, columns]),
                    temperature: T,
                };
                let kept = |i: usize, j: usize| images.is_none() || of_rows[i] != of_columns[j];
                let (s, p) = (stored(machine, &similarity)?, stored(machine, &positive)?);
                check(machine, &contrast, into, &expected(k, &s, &p, kept))?;
            }
        }
        Ok(())
    });
}

#[test]
fn loss_and_gradient_within_a_batch_are_those_of_the_equation() {
    on_each_machine(|machine, random| {
        for n in [1, 5, 32] {
            // Two views of each image, one after the other: 2N rows of 2N columns, as SimCLR.
            let m = 2 * n;
            let other: Vec<u32> = (0..m).map(|i| ((i + n) % m) as u32).collect();
            let own: Vec<u32> = (0..m as u32).collect();
            let image: Vec<u32> = (0..m).map(|i| (i % n / 2) as u32).collect();
            for (round, into) in [Into::New(Real::Bf16), Into::Place].into_iter().enumerate() {
                let similarity = Array::from_f32(machine, &similarities(random, m * m))?;
                let [column, itself, images] =
                    [&other, &own, &image].map(|v| Array::from_u32(machine, v));
                let (column, itself, images) = (column?, itself?, images?);
                let by_image = round == 1;
                let contrast = Contrast {
                    similarity: &similarity,
                    rows: m,
                    columns: m,
                    positive: Positive::Column(&column),
                    own: Some(&itself),
                    images: by_image.then_some([&images, &images]),
                    temperature: T,
                };
                let s = stored(machine, &similarity)?;
                let p: Vec<f64> = (0..m).map(|i| s[i * m + other[i] as usize]).collect();
                let kept = |i: usize, j: usize| {
                    i != j && j != other[i] as usize && !(by_image && image[i] == image[j])
                };
                let mut expected = expected(m, &s, &p, kept);
                for (i, (column, g)) in other.iter().zip(&expected.of_positive).enumerate() {
                    expected.of_similarity[i * m + *column as usize] = *g;
                }
                check(machine, &contrast, into, &expected)?;
            }
        }
        Ok(())
    });
}

#[test]
fn without_negatives_the_loss_is_zero_and_a_tie_is_a_miss() {
    on_each_machine(|machine, _| {
        let none = Array::from_f32(machine, &[])?;
        let positive = Array::from_f32(machine, &[0.25, -0.5])?;
        let contrast = Contrast {
            similarity: &none,
            rows: 2,
            columns: 0,
            positive: Positive::Beside(&positive),
            own: None,
            images: None,
            temperature: T,
        };
        let found = info_nce(machine, &contrast, 1., Into::New(Real::F32))?;
        let rows = found.rows.to_f32(machine)?;
        assert_eq!(rows, [0., 0., 1., 1., 0.25, -0.5, 0., 0., 0., 0.]);
        let gradient = found.of_positive.map(|array| array.to_f32(machine));
        assert_eq!(gradient.transpose()?, Some(vec![0., 0.]));
        let same = Array::from_f32(machine, &[0.25, 0., 0., -0.5])?;
        let contrast = Contrast {
            similarity: &same,
            columns: 2,
            ..contrast
        };
        let found = info_nce(machine, &contrast, 1., Into::Nowhere)?;
        assert_eq!(found.rows.to_f32(machine)?[2..4], [0., 0.]);
        let error = info_nce(
            machine,
            &Contrast {
                temperature: 0.,
                ..contrast
            },
            1.,
            Into::Nowhere,
        );
        let text = error.err().map(|error| error.to_string());
        let expected = "info_nce: temperature: expected a positive number, found 0";
        assert_eq!(text.as_deref(), Some(expected));
        Ok(())
    });
}

#[test]
fn a_similarity_that_is_no_number_shows_in_the_loss() {
    on_each_machine(|machine, _| {
        let mut values = [0.1f32; 12];
        values[5] = f32::NAN;
        let similarity = Array::from_f32(machine, &values)?;
        let positive = Array::from_f32(machine, &[0.3, 0.3, f32::NAN])?;
        let contrast = Contrast {
            similarity: &similarity,
            rows: 3,
            columns: 4,
            positive: Positive::Beside(&positive),
            own: None,
            images: None,
            temperature: T,
        };
        let found = info_nce(machine, &contrast, 1., Into::Nowhere)?;
        let rows = found.rows.to_f32(machine)?;
        assert!(rows[0].is_finite() && rows[1].is_nan() && rows[2].is_nan());
        assert_eq!(rows[5], 0.);
        assert!(found.means.to_f32(machine)?[0].is_nan());
        Ok(())
    });
}
