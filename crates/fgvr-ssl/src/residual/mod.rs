//! A linear head trained on cached features of views: no network runs while it learns.

mod config;
mod draw;

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use fgvr_nn::ParameterGradients;
use fgvr_nn::optim::{Adam, AdamConfig};
use fgvr_perturb::RandomKey;

use self::draw::{Drawn, neighbours_of};
use crate::addons::{noise_along, noise_basis};
use crate::bases::head::l2_normalise;
use crate::losses::info_nce::scalar;

pub use self::config::ResidualHeadConfig;

/// Added to a logit that takes no part: exp(x - 1e9) is exactly zero.
const EXCLUDED: f64 = -1e9;

/// Features of the views of N images, which a frozen network gave once.
#[derive(Clone, Copy, Debug)]
pub struct CachedViews<'a> {
    /// C.
    pub width: usize,
    /// V, views of each image, at least 2.
    pub views: usize,
    /// (N, V, C), row by row.
    pub values: &'a [f32],
    /// Pairs of images that are each other's neighbours, each once.
    pub pairs: &'a [(u32, u32)],
}

impl CachedViews<'_> {
    /// N.
    #[must_use]
    pub fn images(&self) -> usize {
        self.values.len() / (self.views * self.width).max(1)
    }

    fn check(&self) -> Result<()> {
        let row = self.views * self.width;
        if self.views < 2 || self.width == 0 || !self.values.len().is_multiple_of(row) {
            bail!(
                "head: {} values, expected a multiple of {} views (2 at least) x {} channels",
                self.values.len(),
                self.views,
                self.width
            );
        }
        let images = self.images();
        if images < 4 {
            bail!("head: views of {images} images, expected at least 4");
        }
        let beyond = |(a, b): &&(u32, u32)| *a as usize >= images || *b as usize >= images;
        match self.pairs.iter().find(beyond) {
            Some((a, b)) => bail!("head: a pair of images {a} and {b}, and there are {images}"),
            None => Ok(()),
        }
    }
}

/// W = I + Δ on features of C channels, trained so that two views of an image, or of two neighbours, find each other among the
/// views of a batch, and that one does so after noise too:
///
/// L = ½ [ctr(q1, q2) + ctr(q2, q1)] + ν ctr(q̃1, q2),   q = W f/‖W f‖,   q̃1 from f1 + s noise,
/// ctr(q, k) = CE(q kᵀ/T, diag)
///
/// Noise is along the nuisance Σ_w of the step's views, or along a control of equal energy ([`Along`](crate::Along)). After each
/// step Δ loses a share: W decays toward I, where the head changes nothing.
///
/// # Design choice
/// SynthPair's question (which perturbation may not matter) for a frozen network, without a decoder: pairs are of features. A
/// linear W can be folded into the closed form before it and into a network's last layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualHead {
    /// W (C, C), row-major: y = W f.
    pub weight: Vec<f32>,
    /// The loss of each step.
    pub losses: Vec<f64>,
}

impl ResidualHead {
    /// Trains a head on cached views. The same bits on any number of threads. `is_stopped` is asked after each step, with the
    /// steps done.
    ///
    /// # Errors
    /// Choices out of range; shapes that do not agree; a loss that is not finite; `None` where it was stopped.
    pub fn train(
        cached: &CachedViews<'_>,
        cfg: &ResidualHeadConfig,
        is_stopped: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Option<Self>> {
        cfg.validate()?;
        cached.check()?;
        let (width, images) = (cached.width, cached.images());
        let batch = cfg.batch.min(images / 2);
        let rows = Tensor::from_slice(cached.values, (images * cached.views, width), &Device::Cpu)?;
        let near = neighbours_of(cached.pairs, images);
        let basis = noise_basis(cfg.along, width, cfg.seed)?;
        let delta = Var::zeros((width, width), DType::F32, &Device::Cpu)?;
        let adam = AdamConfig {
            weight_decay: cfg.decay,
            ..AdamConfig::default()
        };
        let mut adam = Adam::new(BTreeMap::from([("delta".to_owned(), delta.clone())]), &adam)?;
        let mut losses = Vec::new();
        for step in 0..cfg.steps {
            let drawn = Drawn::new(cached, &near, (batch, cfg.neighbours), (cfg.seed, step));
            let take = |at: &[u32]| rows.index_select(&Tensor::new(at, &Device::Cpu)?, 0);
            let [first, second, own] =
                [take(&drawn.first)?, take(&drawn.second)?, take(&drawn.own)?];
            let noisy = match cfg.noise_weight > 0. {
                true => {
                    let key = RandomKey {
                        seed: cfg.seed,
                        step,
                    };
                    let how = (cfg.along, cfg.noise);
                    let noise =
                        noise_along(how, [&first, &own], key, &drawn.images, basis.as_ref())?;
                    Some((&first + noise)?)
                }
                false => None,
            };
            let apart = match cfg.neighbours > 0. {
                true => Some(neighbours_apart(&drawn, &near)?),
                false => None,
            };
            let loss = objective(
                &delta,
                [&first, &second],
                noisy.as_ref(),
                apart.as_ref(),
                (cfg.temperature, cfg.noise_weight),
            )?;
            let value = scalar(&loss)?;
            if !value.is_finite() {
                bail!("head: the loss of step {step} is {value}; a smaller lr may help");
            }
            losses.push(value);
            let along = std::f64::consts::PI * step as f64 / cfg.steps as f64;
            let lr = cfg.lr * 0.5 * (1. + along.cos());
            adam.step(&ParameterGradients::from(loss.backward()?), lr)?;
            if is_stopped(step + 1) {
                return Ok(None);
            }
        }
        let weight = (delta.as_tensor() + Tensor::eye(width, DType::F32, &Device::Cpu)?)?;
        let weight = weight.flatten_all()?.to_vec1()?;
        Ok(Some(Self { weight, losses }))
    }
}

/// (n, n): what is added to the logit of image i's first and image j's second view so that neighbours are no negatives.
fn neighbours_apart(drawn: &Drawn, near: &[Vec<u32>]) -> Result<Tensor> {
    let n = drawn.images.len();
    let of = |i: usize, j: usize| {
        let (image, own, other) = (drawn.images[i], drawn.images[j], drawn.others[j]);
        let list = &near[image as usize];
        let is_near = other == image
            || list.binary_search(&own).is_ok()
            || list.binary_search(&other).is_ok();
        match i != j && is_near {
            true => EXCLUDED as f32,
            false => 0.,
        }
    };
    let values: Vec<f32> = (0..n).flat_map(|i| (0..n).map(move |j| of(i, j))).collect();
    Tensor::from_vec(values, (n, n), &Device::Cpu)
}

/// The loss of a step at Δ; `views` and `noisy` are (n, C), `apart` (n, n).
fn objective(
    delta: &Tensor,
    [first, second]: [&Tensor; 2],
    noisy: Option<&Tensor>,
    apart: Option<&Tensor>,
    (temperature, noise_weight): (f64, f64),
) -> Result<Tensor> {
    let turned = delta.t()?;
    let project = |f: &Tensor| l2_normalise(&(f + f.matmul(&turned)?)?);
    let contrast = |q: &Tensor, k: &Tensor, apart: Option<&Tensor>| -> Result<Tensor> {
        let mut logits = (q.matmul(&k.t()?)? / temperature)?;
        if let Some(apart) = apart {
            logits = (logits + apart)?;
        }
        let log = candle_nn::ops::log_softmax(&logits, 1)?;
        let n = log.dim(0)?;
        let diagonal = Tensor::eye(n, log.dtype(), log.device())?;
        (log * diagonal)?.sum_all()? * (-1. / n as f64)
    };
    let (q, k) = (project(first)?, project(second)?);
    let back = apart.map(|apart| apart.t()?.contiguous()).transpose()?;
    let both = (contrast(&q, &k, apart)? + contrast(&k, &q, back.as_ref())?)?;
    let loss = (both * 0.5)?;
    match noisy {
        Some(noisy) => loss + (contrast(&project(noisy)?, &k, apart)? * noise_weight)?,
        None => Ok(loss),
    }
}

#[cfg(test)]
mod tests {
    use fgvr_testkit::{GradCheck, gradcheck_tensors, normal};

    use super::*;
    use crate::Along;

    /// Two images a kind, which differ in the first half of the channels; views differ in the second half.
    fn cached(images: usize) -> (Vec<f32>, Vec<(u32, u32)>) {
        const C: usize = 8;
        let kinds = normal(1, (images / 2, C)).to_vec2::<f32>().unwrap();
        let own = normal(2, (images, C)).to_vec2::<f32>().unwrap();
        let views = normal(3, (images * 3, C)).to_vec2::<f32>().unwrap();
        let mut values = Vec::new();
        for image in 0..images {
            for view in 0..3 {
                for c in 0..C {
                    let kind = if c < 4 { kinds[image / 2][c] } else { 0. };
                    let noise = if c < 4 { 0.1 } else { 1.5 };
                    values.push(kind + 0.2 * own[image][c] + noise * views[3 * image + view][c]);
                }
            }
        }
        let pairs = (0..images as u32).step_by(2).map(|i| (i, i + 1)).collect();
        (values, pairs)
    }

    fn trained(cfg: &ResidualHeadConfig) -> ResidualHead {
        let (values, pairs) = cached(40);
        let cached = CachedViews {
            width: 8,
            views: 3,
            values: &values,
            pairs: &pairs,
        };
        ResidualHead::train(&cached, cfg, &mut |_| false)
            .unwrap()
            .unwrap()
    }

    fn settings() -> ResidualHeadConfig {
        ResidualHeadConfig {
            steps: 60,
            batch: 20,
            lr: 0.02,
            decay: 0.1,
            neighbours: 0.5,
            ..ResidualHeadConfig::default()
        }
    }

    /// Mean square of the columns that read the channels `range`.
    fn gain(head: &ResidualHead, range: std::ops::Range<usize>) -> f32 {
        let of = |c: usize| (0..8).map(|r| head.weight[r * 8 + c].powi(2)).sum::<f32>();
        range.map(of).sum()
    }

    #[test]
    fn what_views_differ_by_is_turned_down_and_the_loss_falls() {
        for along in [
            Along::Nuisance,
            Along::RandomBasis,
            Along::Between,
            Along::RandomChannels,
        ] {
            let head = trained(&ResidualHeadConfig {
                along,
                ..settings()
            });
            assert!(gain(&head, 4..8) < 0.5 * gain(&head, 0..4), "{along:?}");
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
            assert!(
                mean(&head.losses[50..]) < 0.8 * mean(&head.losses[..10]),
                "{along:?}"
            );
        }
    }

    #[test]
    fn without_steps_the_head_is_the_identity_and_a_seed_gives_the_same_bits() {
        let none = trained(&ResidualHeadConfig {
            steps: 0,
            ..settings()
        });
        let eye: Vec<f32> = (0..64).map(|i| f32::from(u8::from(i % 9 == 0))).collect();
        assert_eq!((none.weight, none.losses.len()), (eye, 0));
        let once = trained(&settings());
        assert_eq!(once, trained(&settings()));
        assert_ne!(
            once,
            trained(&ResidualHeadConfig {
                seed: 1,
                ..settings()
            })
        );
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(once, pool.install(|| trained(&settings())));
        // Decay alone draws W to I.
        let decayed = trained(&ResidualHeadConfig {
            decay: 40.,
            ..settings()
        });
        let off = |head: &ResidualHead| (gain(head, 4..8) - 4.).abs();
        assert!(off(&decayed) < off(&once));
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let random =
            |seed, shape: (usize, usize)| normal(seed, shape).to_dtype(DType::F64).unwrap();
        let (first, second, noisy) = (random(1, (5, 3)), random(2, (5, 3)), random(3, (5, 3)));
        let mut apart = vec![0f64; 25];
        apart[7] = EXCLUDED;
        let apart = Tensor::from_vec(apart, (5, 5), &Device::Cpu).unwrap();
        gradcheck_tensors(
            "residual head",
            |x| {
                objective(
                    &x[0],
                    [&first, &second],
                    Some(&noisy),
                    Some(&apart),
                    (0.3, 0.5),
                )
            },
            &[(random(4, (3, 3)) * 0.3).unwrap()],
            &GradCheck::f64(),
        );
    }

    #[test]
    fn neighbours_are_no_negatives_and_positives_stay() {
        let drawn = Drawn {
            images: vec![0, 1, 2],
            first: vec![],
            second: vec![],
            own: vec![],
            others: vec![1, 1, 0],
        };
        let near = neighbours_of(&[(0, 1)], 3);
        let apart = neighbours_apart(&drawn, &near)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        let out = apart
            .iter()
            .map(|row| row.iter().map(|v| *v != 0.).collect::<Vec<_>>());
        // The second view in column 2 is of image 0, whatever the row's image is paired with.
        let expected = [[false, true, true], [true, false, true], [false; 3]];
        assert_eq!(out.collect::<Vec<_>>(), expected.map(Vec::from));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let values = vec![0.; 24];
        let (width, views, pairs) = (2, 3, [(0, 9)]);
        let cached = CachedViews {
            width,
            views,
            values: &values,
            pairs: &[],
        };
        let said = |cached: &CachedViews<'_>, cfg: &ResidualHeadConfig| {
            let error = ResidualHead::train(cached, cfg, &mut |_| false);
            error.unwrap_err().to_string()
        };
        let cfg = settings();
        for (cached, words) in [
            (
                CachedViews { views: 1, ..cached },
                "expected a multiple of 1 views (2 at least)",
            ),
            (
                CachedViews {
                    values: &values[..18],
                    ..cached
                },
                "views of 3 images",
            ),
            (
                CachedViews {
                    pairs: &pairs,
                    ..cached
                },
                "images 0 and 9, and there are 4",
            ),
        ] {
            let text = said(&cached, &cfg);
            assert!(text.contains(words), "{words}: {text}");
        }
        let cfg = ResidualHeadConfig {
            along: Along::Channels,
            ..cfg
        };
        assert!(said(&cached, &cfg).contains("expected nuisance"));
    }
}
