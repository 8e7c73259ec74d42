//! Noise along directions that are learnt from views, in place of noise in masked channels.

use candle_core::{Device, Result, Tensor};
use fgvr_perturb::{
    MaskStats, RandomKey,
    draws::{normals, orders},
    random_orthogonal,
};

use super::bank::PlacedBank;
use super::masked::{Masked, Stats};
use crate::bases::head::relu;
use crate::step::StepInput;
use crate::{SynthPairConfig, Values};

/// What noise is drawn along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Along {
    /// Single channels: those that the mask picks, each by its own standard deviation.
    #[default]
    Channels,
    /// The nuisance: what two views of one image differ by. No mask.
    Nuisance,
    /// The same noise turned by a random rotation, so that its energy is that of the nuisance and its directions say nothing: the
    /// control.
    RandomBasis,
    /// What different images differ by, with the energy of the nuisance: it should harm.
    Between,
    /// Half of the channels, drawn once and for all, evenly and with the energy of the nuisance: the control of single channels.
    RandomChannels,
}

/// Noise (N, C) of covariance s^2 Σ: `views` are features of two views of M images (M, C), and of them come directions d_m whose
/// mean outer product is Σ.
///
/// Σ_w^(1/2) ε needs no covariance: the sum of a_m d_m / √M with normal a_m has the covariance of the directions.
///
/// | along | d_m |
/// |:--|:--|
/// | nuisance | (f_m1 - f_m2)/√2, so that Σ = Σ_w, the covariance of views within images |
/// | random basis | the same times a random orthogonal matrix |
/// | between | the difference of the means of two images over √2, scaled to the trace of Σ_w |
/// | random channels | none: Σ has the trace of Σ_w spread evenly over the channels of `basis` |
///
/// # Errors
/// Shapes that do not agree.
pub(crate) fn noise(
    (along, scale): (Along, f64),
    [first, second]: [&Tensor; 2],
    key: RandomKey,
    images: &[u32],
    basis: Option<&Tensor>,
) -> Result<Tensor> {
    let (m, _) = first.dims2()?;
    let within = ((first - second)? * 0.5f64.sqrt())?;
    let directions = match along {
        Along::RandomChannels => {
            let energy = within.sqr()?.mean_all()?.to_scalar::<f32>()?;
            return in_channels(scale * f64::from(energy).sqrt(), key, images, basis);
        }
        Along::Channels | Along::Nuisance | Along::RandomBasis => within,
        Along::Between => {
            let means = ((first + second)? * 0.5)?;
            let next = Tensor::cat(&[means.narrow(0, 1, m - 1)?, means.narrow(0, 0, 1)?], 0)?;
            let between = ((means - next)? * 0.5f64.sqrt())?;
            let energy = |rows: &Tensor| rows.sqr()?.mean_all()?.to_scalar::<f32>();
            let ratio = energy(&within)? / energy(&between)?.max(f32::MIN_POSITIVE);
            (between * f64::from(ratio).sqrt())?
        }
    };
    let draws: Vec<f32> = normals(key, images, m).iter().map(|v| *v as f32).collect();
    let draws = Tensor::from_vec(draws, (images.len(), m), &Device::Cpu)?;
    // (N, M) x (M, C)
    let noise = (draws.matmul(&directions)? * (scale / (m as f64).sqrt()))?;
    match basis {
        Some(basis) => noise.matmul(basis),
        None => Ok(noise),
    }
}

/// Noise (N, C) in the channels that `chosen` (C) names by 1, of such a strength that all C channels would have the
/// standard deviation `each` on average.
fn in_channels(
    each: f64,
    key: RandomKey,
    images: &[u32],
    chosen: Option<&Tensor>,
) -> Result<Tensor> {
    let Some(chosen) = chosen else {
        candle_core::bail!("noise: no channels were drawn");
    };
    let (width, count) = (chosen.elem_count(), chosen.sum_all()?.to_scalar::<f32>()?);
    let each = each * (width as f64 / f64::from(count).max(1.)).sqrt();
    let draws = normals(key, images, width).into_iter();
    let draws: Vec<f32> = draws.map(|v| (each * v) as f32).collect();
    Tensor::from_vec(draws, (images.len(), width), &Device::Cpu)?.broadcast_mul(chosen)
}

/// What is drawn once, by `seed`: the rotation of a random basis (C, C), which takes about C^3 steps, or for random channels 1 for each
/// that is chosen and 0 for the others (C); `None` along anything else.
///
/// # Errors
/// A width of 0.
pub(crate) fn basis(along: Along, width: usize, seed: u64) -> Result<Option<Tensor>> {
    match along {
        Along::RandomBasis => {}
        Along::RandomChannels => {
            let order = orders(RandomKey { seed, step: 0 }, &[0], width);
            let mut chosen = vec![0f32; width];
            for channel in &order[..width.div_ceil(2)] {
                chosen[*channel as usize] = 1.;
            }
            return Tensor::from_vec(chosen, width, &Device::Cpu).map(Some);
        }
        Along::Channels | Along::Nuisance | Along::Between => return Ok(None),
    }
    let basis = random_orthogonal(width, seed).map_err(candle_core::Error::wrap)?;
    let basis: Vec<f32> = basis.iter().map(|v| *v as f32).collect();
    Tensor::from_vec(basis, (width, width), &Device::Cpu).map(Some)
}

/// h̃ = h + noise of each image; no dimension stays as it is.
pub(super) fn perturbed(
    cfg: &SynthPairConfig,
    bank: &PlacedBank,
    subject: &Values,
    key: RandomKey,
    input: &StepInput<'_>,
    basis: Option<&Tensor>,
) -> Result<Masked> {
    let [first, second] = bank.views()?;
    let views = [&first, &second];
    let how = (cfg.along, cfg.noise.scale);
    let noise = noise(how, views, key, input.images, basis)?;
    let h = subject.rows()?.to_host()?.detach();
    let mut features = (&h + noise)?;
    if cfg.noise.non_negative {
        features = relu(&features)?;
    }
    let mask = h.ones_like()?;
    Ok(Masked {
        mask: Values::Host(mask).placed(subject.device())?.rows()?,
        stats: Stats::Host(MaskStats {
            fraction: 1.,
            overlap: 0.,
            constant: 0.,
        }),
        features: Values::Host(features).placed(subject.device())?,
        is_added: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two views of images (M, 3) that differ by 0.2 in the first channel, while images differ by about 2 in the last.
    fn views(m: usize) -> [Tensor; 2] {
        let rows = |sign: f32| -> Vec<f32> {
            let row = |i: usize| {
                [
                    sign * if i.is_multiple_of(2) { 0.1 } else { -0.1 },
                    5.,
                    (i % 5) as f32,
                ]
            };
            (0..m).flat_map(row).collect()
        };
        [1., -1.].map(|sign| Tensor::from_vec(rows(sign), (m, 3), &Device::Cpu).unwrap())
    }

    /// Mean squares by channel, and their sum.
    fn energies(along: Along, basis: Option<&Tensor>) -> ([f64; 3], f64) {
        let [first, second] = views(200);
        let images: Vec<u32> = (0..4000).collect();
        let key = RandomKey { seed: 1, step: 2 };
        let noise = noise((along, 2.), [&first, &second], key, &images, basis).unwrap();
        let squares = noise
            .sqr()
            .unwrap()
            .mean(0)
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let squares = [0, 1, 2].map(|c| f64::from(squares[c]));
        (squares, squares.iter().sum())
    }

    #[test]
    fn noise_has_the_covariance_of_its_kind_and_the_energy_of_the_nuisance() {
        // d = 0.2/√2 in the first channel, twice as strong: a variance of 0.08.
        let (nuisance, energy) = energies(Along::Nuisance, None);
        assert!((nuisance[0] / 0.08 - 1.).abs() < 0.1, "{nuisance:?}");
        assert!(nuisance[1] + nuisance[2] < 1e-9, "{nuisance:?}");
        let (between, of_between) = energies(Along::Between, None);
        assert!(between[2] > 0.9 * of_between, "{between:?}");
        let basis = basis(Along::RandomBasis, 3, 0).unwrap();
        let (turned, of_turned) = energies(Along::RandomBasis, basis.as_ref());
        assert!(turned.iter().all(|v| *v < 0.99 * of_turned), "{turned:?}");
        let chosen = super::basis(Along::RandomChannels, 3, 0).unwrap();
        let (channels, of_channels) = energies(Along::RandomChannels, chosen.as_ref());
        let silent = channels.iter().filter(|v| **v == 0.).count();
        assert_eq!(silent, 1, "{channels:?}");
        for other in [of_between, of_turned, of_channels] {
            assert!((other / energy - 1.).abs() < 0.1, "{other} {energy}");
        }
    }
}
